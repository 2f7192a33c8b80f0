/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "service/registry/sql.h"

bool registry_name_ok (const char *name)
{
	size_t n = strlen (name);

	return n >= 1 && n <= REG_NAME_MAX &&
	       strspn (name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@+-") == n;
}

int registry_user_add (struct registry *r, const char *name, struct reg_user *out, struct err *err)
{
	struct id id;

	if (!registry_name_ok (name))
		return err_set (err, ERR_INVALID, FAULT_USER, "user name '%.80s': 1 to %d letters, digits and . _ @ + - are expected", name,
				REG_NAME_MAX);
	if (id_parse (&id, name, strlen (name)) == 0)
		return err_set (err, ERR_INVALID, FAULT_USER, "user name '%s' looks like an id", name);
	id_new (&id);
	if (sql_run (r, false, "adding a user", err, "INSERT INTO users (id, name, created_ms) VALUES (?, ?, ?)", "dti", &id, name,
		     sql_now_ms ()) < 0)
		return -1;
	out->id = id;
	strcpy (out->name, name); /* its length was checked above */
	return 0;
}

static void read_user (sqlite3_stmt *s, int col, struct reg_user *u)
{
	sql_id (s, col, &u->id);
	sql_copy (s, col + 1, u->name, sizeof (u->name));
}

int registry_user_find (struct registry *r, const char *name_or_id, struct reg_user *out, struct err *err)
{
	struct id id = { { 0 } };
	sqlite3_stmt *s;
	int rc;

	id_parse (&id, name_or_id, strlen (name_or_id));
	s = sql_start (r, "SELECT id, name FROM users WHERE name = ? OR id = ?", err, "td", name_or_id, &id);
	if (!s)
		return -1;
	rc = sql_step (r, s, err);
	if (rc == SQLITE_ROW)
		read_user (s, 0, out);
	sql_end (s);
	if (rc == SQLITE_DONE)
		return err_set (err, ERR_NOT_FOUND, FAULT_USER, "user '%.80s' not found", name_or_id);
	return rc < 0 ? -1 : 0;
}

int registry_users (struct registry *r, struct reg_user **out, size_t *n, struct err *err)
{
	sqlite3_stmt *s = sql_start (r, "SELECT id, name FROM users ORDER BY name", err, "");
	int rc;

	*out = NULL;
	*n = 0;
	if (!s)
		return -1;
	while ((rc = sql_step (r, s, err)) == SQLITE_ROW) {
		*out = sql_grow (*out, *n, sizeof (**out));
		read_user (s, 0, &(*out)[(*n)++]);
	}
	sql_end (s);
	return rc < 0 ? -1 : 0;
}

int registry_token_add (struct registry *r, const struct id *user, const uint8_t hash[REG_HASH_BYTES], uint32_t scopes, const char *label,
			int64_t expires_ms, const struct id *id, struct err *err)
{
	return sql_run (r, false, "adding a token", err,
			"INSERT INTO tokens (hash, id, user, scopes, label, created_ms, expires_ms) VALUES (?, ?, ?, ?, ?, ?, ?)", "bdditii", hash,
			(size_t) REG_HASH_BYTES, id, user, (int64_t) scopes, label ? label : "", sql_now_ms (), expires_ms);
}

#define TOKEN_COLS "t.id, u.id, u.name, t.scopes, t.label, t.created_ms, t.expires_ms FROM tokens t JOIN users u ON u.id = t.user"

static void read_token (sqlite3_stmt *s, struct reg_token *t)
{
	memset (t, 0, sizeof (*t));
	sql_id (s, 0, &t->id);
	read_user (s, 1, &t->user);
	t->scopes = (uint32_t) sqlite3_column_int64 (s, 3);
	sql_copy (s, 4, t->label, sizeof (t->label));
	t->created_ms = sqlite3_column_int64 (s, 5);
	t->expires_ms = sqlite3_column_int64 (s, 6);
}

int registry_token_find (struct registry *r, const uint8_t hash[REG_HASH_BYTES], struct reg_token *out, struct err *err)
{
	sqlite3_stmt *s = sql_start (r, "SELECT " TOKEN_COLS " WHERE t.hash = ? AND (t.expires_ms = 0 OR t.expires_ms > ?)", err, "bi", hash,
				     (size_t) REG_HASH_BYTES, sql_now_ms ());
	int rc;

	if (!s)
		return -1;
	rc = sql_step (r, s, err);
	if (rc == SQLITE_ROW)
		read_token (s, out);
	sql_end (s);
	if (rc == SQLITE_DONE)
		return err_set (err, ERR_NOT_FOUND, FAULT_USER, "unknown, revoked or expired token");
	return rc < 0 ? -1 : 0;
}

int registry_tokens (struct registry *r, const struct id *user, struct reg_token **out, size_t *n, struct err *err)
{
	sqlite3_stmt *s = sql_start (r, "SELECT " TOKEN_COLS " WHERE ?1 IS NULL OR t.user = ?1 ORDER BY t.created_ms, t.id", err, "d", user);
	int rc;

	*out = NULL;
	*n = 0;
	if (!s)
		return -1;
	while ((rc = sql_step (r, s, err)) == SQLITE_ROW) {
		*out = sql_grow (*out, *n, sizeof (**out));
		read_token (s, &(*out)[(*n)++]);
	}
	sql_end (s);
	return rc < 0 ? -1 : 0;
}

int registry_token_revoke (struct registry *r, const struct id *id, struct err *err)
{
	return sql_run (r, true, "token", err, "DELETE FROM tokens WHERE id = ?", "d", id);
}

int registry_tokens_purge (struct registry *r, struct err *err)
{
	return sql_run (r, false, "removing expired tokens", err, "DELETE FROM tokens WHERE expires_ms > 0 AND expires_ms <= ?", "i",
			sql_now_ms ());
}
