/* SPDX-License-Identifier: Apache-2.0 */
/* Version 7 ids: 48 bits of milliseconds, a 12-bit counter that starts below its half in each millisecond, 62 random
 * bits. (milliseconds, counter) only grows, also when the clock steps back, so ids of one process are ordered.
 * Random bytes come from the kernel a page at a time: an id must not cost a system call. Threads may call this. */
#include "common/hex.h"
#include "common/ids.h"
#include "common/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

enum { POOL_BYTES = 4096, POOL_LARGEST = 256 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t pool[POOL_BYTES];
static size_t pool_used = POOL_BYTES;
static int64_t last_ms;
static unsigned counter;

static void from_kernel (uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t got = getrandom (p, n < 256 ? n : 256, 0); /* up to 256 bytes are never interrupted */
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			fputs ("no random bytes from the kernel\n", stderr);
			abort ();
		}
		p += got;
		n -= (size_t) got;
	}
}

/* A forked child must not hand out its parent's bytes. */
static void forked (void)
{
	pool_used = POOL_BYTES;
}

static void take (void *out, size_t n)
{
	static bool watched;

	if (n > POOL_LARGEST) {
		from_kernel (out, n);
		return;
	}
	if (!watched) {
		pthread_atfork (NULL, NULL, forked);
		watched = true;
	}
	if (POOL_BYTES - pool_used < n) {
		from_kernel (pool, POOL_BYTES);
		pool_used = 0;
	}
	memcpy (out, pool + pool_used, n);
	memset (pool + pool_used, 0, n); /* it may become a secret */
	pool_used += n;
}

void ids_random (void *out, size_t n)
{
	pthread_mutex_lock (&lock);
	take (out, n);
	pthread_mutex_unlock (&lock);
}

void id_new (struct id *out)
{
	int64_t ms = clock_real_ns () / 1000000;
	uint8_t r[10];

	pthread_mutex_lock (&lock);
	take (r, sizeof (r));
	if (ms > last_ms) {
		last_ms = ms;
		counter = (r[8] << 8 | r[9]) & 0x7ff;
	} else if (++counter > 0xfff) {
		last_ms++;
		counter = 0;
	}
	ms = last_ms;
	for (int i = 0; i < 6; i++)
		out->b[i] = (uint8_t) (ms >> (40 - 8 * i));
	out->b[6] = (uint8_t) (0x70 | counter >> 8);
	out->b[7] = (uint8_t) counter;
	pthread_mutex_unlock (&lock);
	memcpy (out->b + 8, r, 8);
	out->b[8] = (uint8_t) ((out->b[8] & 0x3f) | 0x80);
}

static bool is_dash (size_t i)
{
	return i == 8 || i == 13 || i == 18 || i == 23;
}

int id_parse (struct id *out, const char *s, size_t n)
{
	struct id id;
	size_t at = 0;

	if (!s || n != ID_TEXT - 1)
		return -1;
	for (size_t i = 0; i < n;) {
		if (is_dash (i)) {
			if (s[i++] != '-')
				return -1;
			continue;
		}
		int hi = hex_digit (s[i]), lo = hex_digit (s[i + 1]);
		if (hi < 0 || lo < 0)
			return -1;
		id.b[at++] = (uint8_t) (hi << 4 | lo);
		i += 2;
	}
	*out = id;
	return 0;
}

char *id_text (const struct id *id, char out[ID_TEXT])
{
	static const char hex[] = "0123456789abcdef";
	char *p = out;

	for (int i = 0; i < ID_BYTES; i++) {
		if (is_dash ((size_t) (p - out)))
			*p++ = '-';
		*p++ = hex[id->b[i] >> 4];
		*p++ = hex[id->b[i] & 15];
	}
	*p = '\0';
	return out;
}

int64_t id_time_ms (const struct id *id)
{
	int64_t ms = 0;

	for (int i = 0; i < 6; i++)
		ms = ms << 8 | id->b[i];
	return ms;
}

char *ids_secret (size_t bytes)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	char *text = malloc (bytes * 4 / 3 + 3), *p = text;
	uint32_t acc = 0;
	int bits = 0;

	if (!text)
		abort ();
	for (size_t i = 0; i < bytes; i++) {
		uint8_t c;
		ids_random (&c, 1);
		acc = acc << 8 | c;
		for (bits += 8; bits >= 6; bits -= 6)
			*p++ = digits[acc >> (bits - 6) & 63];
	}
	if (bits)
		*p++ = digits[acc << (6 - bits) & 63];
	*p = '\0';
	return text;
}
