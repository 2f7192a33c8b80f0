/* SPDX-License-Identifier: Apache-2.0 */
#include "service/auth.h"
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "common/clock.h"
#include "common/map.h"
#include "common/xmem.h"

#define CACHE_MAX 10000		/* tokens remembered; over it the cache starts over */
#define BUCKETS_MAX 10000
#define TOKEN_MAX 512
#define TOKEN_PREFIX "weft_"

struct seen {
	struct auth_who who;
	int64_t until_ms, expires_ms;	/* until: monotonic; expires: real time, 0 = never */
};

struct bucket { double tokens; int64_t at_ms; };

struct auth {
	struct registry *registry;
	struct map *seen, *buckets;	/* seen: by the first 16 bytes of the hash, all of it is compared */
	int64_t cache_ms;
	double rate, burst;
};

struct auth *auth_create (struct registry *registry, int64_t cache_ms, double requests_per_s, int64_t burst)
{
	struct auth *a = xcalloc (1, sizeof (*a));

	a->registry = registry;
	a->cache_ms = cache_ms;
	a->rate = requests_per_s;
	a->burst = (double) burst;
	a->seen = map_create ();
	a->buckets = map_create ();
	return a;
}

void auth_destroy (struct auth **ap)
{
	struct auth *a = *ap;

	if (!a)
		return;
	map_destroy_owned (&a->seen, free);
	map_destroy_owned (&a->buckets, free);
	free (a);
	*ap = NULL;
}

void auth_forget_all (struct auth *a)
{
	map_empty (&a->seen, free);
}

void auth_hash (const char *token, size_t n, uint8_t hash[REG_HASH_BYTES])
{
	SHA256 ((const unsigned char *) token, n, hash);
}

char *auth_new_token (uint8_t hash[REG_HASH_BYTES])
{
	char *secret = ids_secret (32), *token = xasprintf (TOKEN_PREFIX "%s", secret);

	free (secret);
	auth_hash (token, strlen (token), hash);
	return token;
}

/* ---- tokens ----------------------------------------------------------------------------------------------------- */

static struct seen *remember (struct auth *a, const struct id *key, const uint8_t *hash, const struct reg_token *t)
{
	struct seen *s = map_get (a->seen, key);

	if (!s) {
		if (map_size (a->seen) >= CACHE_MAX)
			map_empty (&a->seen, free);
		s = xcalloc (1, sizeof (*s));
		map_put (a->seen, key, s);
	}
	memcpy (s->who.token, hash, REG_HASH_BYTES);
	s->who.user = t->user.id;
	memcpy (s->who.name, t->user.name, sizeof (s->who.name));
	s->who.scopes = t->scopes;
	s->until_ms = clock_now_ms () + a->cache_ms;
	s->expires_ms = t->expires_ms;
	return s;
}

static bool fresh (const struct seen *s, const uint8_t *hash)
{
	return s && memcmp (s->who.token, hash, REG_HASH_BYTES) == 0 && clock_now_ms () < s->until_ms &&
	       (!s->expires_ms || clock_real_ns () / 1000000 < s->expires_ms);
}

static int fail (enum fail *why, enum fail f, struct err *err, enum err_code code, const char *text)
{
	*why = f;
	return err_set (err, code, FAULT_USER, "%s", text);
}

int auth_check (struct auth *a, struct http_str h, struct auth_who *out, enum fail *why, struct err *err)
{
	uint8_t hash[REG_HASH_BYTES];
	struct id key;
	struct seen *s;
	struct reg_token t;

	if (!h.p)
		return fail (why, FAIL_UNAUTHENTICATED, err, ERR_UNAUTHENTICATED, "an Authorization header with a bearer token is required");
	if (h.n < 8 || strncasecmp (h.p, "Bearer ", 7) != 0 || h.n - 7 > TOKEN_MAX)
		return fail (why, FAIL_INVALID_TOKEN, err, ERR_UNAUTHENTICATED, "the Authorization header is not a bearer token");
	auth_hash (h.p + 7, h.n - 7, hash);
	memcpy (key.b, hash, ID_BYTES);
	s = map_get (a->seen, &key);
	if (!fresh (s, hash)) {
		if (registry_token_find (a->registry, hash, &t, err) < 0) {
			bool unknown = !err || err->code == ERR_NOT_FOUND;
			if (s)
				free (map_del (a->seen, &key));
			if (unknown)
				return fail (why, FAIL_INVALID_TOKEN, err, ERR_UNAUTHENTICATED, "the token is unknown, revoked or expired");
			*why = FAIL_UNAVAILABLE;
			return -1;
		}
		s = remember (a, &key, hash, &t);
	}
	*out = s->who;
	return 0;
}

int auth_basic (struct http_str h, char *name, char *secret, size_t cap)
{
	unsigned char text[1024];
	char *colon;
	int n;

	if (!h.p || h.n < 7 || strncasecmp (h.p, "Basic ", 6) != 0 || h.n - 6 > 1024 || (h.n - 6) % 4)
		return -1;
	n = EVP_DecodeBlock (text, (const unsigned char *) h.p + 6, (int) (h.n - 6)); /* counts padding as bytes */
	if (n < 2)
		return -1;
	for (size_t i = h.n; h.p[i - 1] == '=' && n > 0; i--)
		n--;
	text[n] = 0;
	colon = memchr (text, ':', (size_t) n);
	if (!colon || strlen ((char *) text) != (size_t) n)
		return -1;
	*colon = 0;
	if (strlen ((char *) text) >= cap || strlen (colon + 1) >= cap)
		return -1;
	strcpy (name, (char *) text);
	strcpy (secret, colon + 1);
	return 0;
}

/* ---- scopes ----------------------------------------------------------------------------------------------------- */

static const struct { const char *word; uint32_t bit; } scope_words[] = {
	{ "read", SCOPE_READ }, { "submit", SCOPE_SUBMIT }, { "register", SCOPE_REGISTER }, { "all", SCOPE_ALL },
};

int auth_scopes_parse (const char *s)
{
	int bits = 0;

	while (*s) {
		size_t n = strcspn (s, ", "), i;
		for (i = 0; i < 4; i++)
			if (strlen (scope_words[i].word) == n && !strncmp (scope_words[i].word, s, n))
				break;
		if (i == 4)
			return -1;
		bits |= (int) scope_words[i].bit;
		s += n;
		s += strspn (s, ", ");
	}
	return bits ? bits : -1;
}

char *auth_scopes_text (uint32_t scopes, char out[32])
{
	size_t at = 0;

	if ((scopes & SCOPE_ALL) == SCOPE_ALL)
		return strcpy (out, "all");
	out[0] = 0;
	for (size_t i = 0; i < 3; i++)
		if (scopes & scope_words[i].bit)
			at += (size_t) snprintf (out + at, 32 - at, "%s%s", at ? "," : "", scope_words[i].word);
	return out;
}

/* ---- rate ------------------------------------------------------------------------------------------------------- */

bool auth_rate (struct auth *a, const struct id *user)
{
	int64_t now = clock_now_ms ();
	struct bucket *b;

	if (a->rate <= 0)
		return true;
	if (!(b = map_get (a->buckets, user))) {
		if (map_size (a->buckets) >= BUCKETS_MAX)
			map_empty (&a->buckets, free);
		b = xcalloc (1, sizeof (*b));
		*b = (struct bucket) { a->burst, now };
		map_put (a->buckets, user, b);
	}
	b->tokens += (double) (now - b->at_ms) * a->rate / 1000;
	b->at_ms = now;
	if (b->tokens > a->burst)
		b->tokens = a->burst;
	if (b->tokens < 1)
		return false;
	b->tokens -= 1;
	return true;
}
