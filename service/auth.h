/* SPDX-License-Identifier: Apache-2.0 */
/* Who is calling: bearer tokens, held as SHA-256 only, remembered for a short while; and the rate that a user may call at. */
#ifndef SERVICE_AUTH_H
#define SERVICE_AUTH_H
#include "common/http.h"
#include "service/fail.h"
#include "service/registry/registry.h"
#include "service/route.h"

struct auth;
struct auth_who {
	struct id user;
	char name[REG_NAME_MAX + 1];
	uint32_t scopes;
	uint8_t token[REG_HASH_BYTES];	/* hash of the one that was shown */
};

/* registry: the loop's own connection, borrowed. rate 0 = no limit. */
struct auth *auth_create (struct registry *registry, int64_t cache_ms, double requests_per_s, int64_t burst);
void auth_destroy (struct auth **a);
/* header: the value of Authorization, p NULL when absent. Returns 0, or -1 with *why and *err. */
int auth_check (struct auth *a, struct http_str header, struct auth_who *out, enum fail *why, struct err *err);
/* One request of the user: false when it is over the rate. */
bool auth_rate (struct auth *a, const struct id *user);
void auth_forget_all (struct auth *a);

/* A new token's text (owned) and its hash. */
char *auth_new_token (uint8_t hash[REG_HASH_BYTES]);
void auth_hash (const char *token, size_t n, uint8_t hash[REG_HASH_BYTES]);
/* "read,submit" or "all" -> bits; -1 for unknown words. And back; out has 32 bytes. */
int auth_scopes_parse (const char *s);
char *auth_scopes_text (uint32_t scopes, char out[32]);
/* "Basic ..." -> name and secret, each at most cap - 1 bytes. */
int auth_basic (struct http_str header, char *name, char *secret, size_t cap);

#endif
