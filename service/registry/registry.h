/* SPDX-License-Identifier: Apache-2.0 */
/* What outlives Redis: users, tokens, functions, endpoints, shares, the audit log. A connection belongs to one thread. Reads are
 * short and never wait for writers (WAL), so the loop may make them; changes go through db.c's thread.
 *
 * Results are owned by the caller and freed with the matching _fini; texts that may be absent are NULL.
 * Errors: ERR_NOT_FOUND, ERR_CONFLICT (already there), ERR_UNAVAILABLE (busy), ERR_IO, ERR_INTERNAL. */
#ifndef SERVICE_REGISTRY_REGISTRY_H
#define SERVICE_REGISTRY_REGISTRY_H
#include <stdbool.h>
#include <stdint.h>
#include "common/err.h"
#include "common/ids.h"

#define REG_NAME_MAX 64
#define REG_HASH_BYTES 32

struct registry;
/* Makes the file (0600) and brings its tables up to date, each migration in one transaction. */
int registry_open (struct registry **out, const char *path, int64_t busy_timeout_ms, struct err *err);
void registry_close (struct registry **r);
int registry_version (struct registry *r);		/* of the tables; -1 when unreadable */
int registry_check (struct registry *r, struct err *err);	/* usable for reading? */

/* ---- people.c */
struct reg_user { struct id id; char name[REG_NAME_MAX + 1]; };
struct reg_token {
	struct id id;
	struct reg_user user;
	uint32_t scopes;
	int64_t created_ms, expires_ms;
	char label[REG_NAME_MAX + 1];
};
int registry_user_add (struct registry *r, const char *name, struct reg_user *out, struct err *err);	/* ERR_CONFLICT */
int registry_user_find (struct registry *r, const char *name_or_id, struct reg_user *out, struct err *err);
int registry_users (struct registry *r, struct reg_user **out, size_t *n, struct err *err);
/* name: NUL-terminated text of 1..64 characters: letters, digits and . _ @ + - */
bool registry_name_ok (const char *name);
/* id: of the token, made by the caller (ids are made on one thread). expires_ms 0 = never. */
int registry_token_add (struct registry *r, const struct id *user, const uint8_t hash[REG_HASH_BYTES], uint32_t scopes, const char *label,
			int64_t expires_ms, const struct id *id, struct err *err);
/* Expired tokens are not found. */
int registry_token_find (struct registry *r, const uint8_t hash[REG_HASH_BYTES], struct reg_token *out, struct err *err);
int registry_tokens (struct registry *r, const struct id *user, struct reg_token **out, size_t *n, struct err *err); /* user NULL: all */
int registry_token_revoke (struct registry *r, const struct id *id, struct err *err);
int registry_tokens_purge (struct registry *r, struct err *err);	/* the expired ones */

/* ---- function_rows.c */
struct reg_function {
	struct id id, owner;
	uint8_t kind;
	bool public;
	uint32_t time_limit_ms;
	uint64_t memory_limit_bytes;
	int64_t created_ms;
	char *name, *description, *entry, *container, *meta, *code;
	char *options;			/* JSON object, see service/options.h; NULL = none */
	size_t code_bytes;
	bool once;			/* registered once by its content: an owner has one of a digest */
	uint8_t digest[REG_HASH_BYTES];	/* with once */
};
void reg_function_fini (struct reg_function *f);
/* shared: users who may use it too. ERR_CONFLICT: its owner has one of that digest. */
int registry_function_add (struct registry *r, const struct reg_function *f, const struct id *shared, size_t nshared, struct err *err);
int registry_function_get (struct registry *r, const struct id *id, bool with_code, struct reg_function *out, struct err *err);
/* Newest first, without code, those before `before` (NULL = from the newest). */
int registry_functions (struct registry *r, const struct id *owner, const struct id *before, size_t limit, struct reg_function **out, size_t *n,
			struct err *err);
/* The owner's function of that digest; ERR_NOT_FOUND. */
int registry_function_once (struct registry *r, const struct id *owner, const uint8_t digest[REG_HASH_BYTES], struct id *out, struct err *err);
int registry_function_remove (struct registry *r, const struct id *id, struct err *err);

/* Its container: image (NULL = none) and options (NULL = none). It is not what was registered any more: its digest is forgotten. */
int registry_function_container (struct registry *r, const struct id *id, const char *image, const char *options, struct err *err);

/* ---- container_rows.c */
struct reg_container {
	struct id id, owner;
	char *name, *description, *type, *location;
	int64_t created_ms;
};
void reg_container_fini (struct reg_container *c);
int registry_container_add (struct registry *r, const struct reg_container *c, struct err *err);
int registry_container_get (struct registry *r, const struct id *id, struct reg_container *out, struct err *err);

/* ---- endpoint_rows.c */
struct reg_endpoint {
	struct id id, owner;
	bool public, restricted;	/* restricted: only `allowed` functions */
	char *name, *display_name, *public_key, *metadata, *options;
	struct id *allowed;
	size_t nallowed;
	int64_t locked_until_ms, created_ms;
};
void reg_endpoint_fini (struct reg_endpoint *e);
int registry_endpoint_add (struct registry *r, const struct reg_endpoint *e, const struct id *shared, size_t nshared, struct err *err);
/* All but id, owner and created_ms; shared replaces the list unless NULL. */
int registry_endpoint_update (struct registry *r, const struct reg_endpoint *e, const struct id *shared, size_t nshared, struct err *err);
int registry_endpoint_get (struct registry *r, const struct id *id, struct reg_endpoint *out, struct err *err);
enum reg_role { REG_OWNER, REG_ANY };	/* ANY: own, public and shared ones */
int registry_endpoints (struct registry *r, const struct id *user, enum reg_role role, const struct id *before, size_t limit,
			struct reg_endpoint **out, size_t *n, struct err *err);	/* user NULL: of everyone */
int registry_endpoint_remove (struct registry *r, const struct id *id, struct err *err);
int registry_endpoint_lock (struct registry *r, const struct id *id, int64_t until_ms, struct err *err);
/* In one transaction: add to, or take from, the allowed functions. Adding makes the endpoint restricted. */
int registry_allowed_add (struct registry *r, const struct id *endpoint, const struct id *functions, size_t n, struct err *err);
int registry_allowed_remove (struct registry *r, const struct id *endpoint, const struct id *function, struct err *err);
/* Is the object shared with the user? */
bool registry_shared (struct registry *r, const struct id *object, const struct id *user);

/* ---- audit_rows.c */
struct reg_audit {
	int64_t at_ms;
	struct id actor;
	const char *action;		/* static text */
	char object[40], peer[46];
	int64_t requests, items;
};
int registry_audit (struct registry *r, const struct reg_audit *rows, size_t n, struct err *err);
/* The items of an action in all of the log. */
int registry_audit_total (struct registry *r, const char *action, int64_t *out, struct err *err);
/* Newest first, for tests and tools. Rows' action is owned: free each. */
int registry_audit_read (struct registry *r, size_t limit, struct reg_audit **out, size_t *n, struct err *err);

#endif
