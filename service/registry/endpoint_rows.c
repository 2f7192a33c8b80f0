/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "common/xmem.h"
#include "service/registry/sql.h"

void reg_endpoint_fini (struct reg_endpoint *e)
{
	free (e->name);
	free (e->display_name);
	free (e->public_key);
	free (e->metadata);
	free (e->options);
	free (e->allowed);
	memset (e, 0, sizeof (*e));
}

/* An empty list is not NULL: nothing is allowed. */
static const void *allowed_blob (const struct reg_endpoint *e)
{
	return !e->restricted ? NULL : e->nallowed ? (const void *) e->allowed : "";
}

int registry_endpoint_add (struct registry *r, const struct reg_endpoint *e, const struct id *shared, size_t nshared, struct err *err)
{
	int rc = sql_begin (r, err);

	if (rc < 0)
		return -1;
	rc = sql_run (r, false, "adding an endpoint", err,
		      "INSERT INTO endpoints (id, owner, name, display_name, public, public_key, allowed, metadata, options, locked_until_ms, "
		      "created_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		      "ddttitbttii", &e->id, &e->owner, e->name, e->display_name, (int64_t) e->public, e->public_key, allowed_blob (e),
		      e->nallowed * ID_BYTES, e->metadata, e->options, e->locked_until_ms, e->created_ms);
	if (rc == 0)
		rc = sql_share (r, &e->id, shared, nshared, err);
	return sql_finish (r, rc, err);
}

int registry_endpoint_update (struct registry *r, const struct reg_endpoint *e, const struct id *shared, size_t nshared, struct err *err)
{
	int rc = sql_begin (r, err);

	if (rc < 0)
		return -1;
	rc = sql_run (r, true, "endpoint", err,
		      "UPDATE endpoints SET name = ?, display_name = ?, public = ?, public_key = ?, allowed = ?, metadata = ?, options = ?, "
		      "locked_until_ms = ? WHERE id = ?",
		      "ttitbttid", e->name, e->display_name, (int64_t) e->public, e->public_key, allowed_blob (e), e->nallowed * ID_BYTES,
		      e->metadata, e->options, e->locked_until_ms, &e->id);
	if (rc == 0 && shared) {
		rc = sql_run (r, false, "sharing", err, "DELETE FROM shares WHERE object = ?", "d", &e->id);
		if (rc == 0)
			rc = sql_share (r, &e->id, shared, nshared, err);
	}
	return sql_finish (r, rc, err);
}

#define COLS "id, owner, name, display_name, public, public_key, allowed, metadata, options, locked_until_ms, created_ms"

static void read_allowed (sqlite3_stmt *s, int col, struct reg_endpoint *e)
{
	size_t bytes = (size_t) sqlite3_column_bytes (s, col);

	e->restricted = sqlite3_column_type (s, col) != SQLITE_NULL;
	e->nallowed = bytes / ID_BYTES;
	e->allowed = e->nallowed ? xcalloc (e->nallowed, ID_BYTES) : NULL;
	if (e->nallowed)
		memcpy (e->allowed, sqlite3_column_blob (s, col), e->nallowed * ID_BYTES);
}

static void read_endpoint (sqlite3_stmt *s, struct reg_endpoint *e)
{
	memset (e, 0, sizeof (*e));
	sql_id (s, 0, &e->id);
	sql_id (s, 1, &e->owner);
	e->name = sql_text (s, 2);
	e->display_name = sql_text (s, 3);
	e->public = sqlite3_column_int (s, 4);
	e->public_key = sql_text (s, 5);
	read_allowed (s, 6, e);
	e->metadata = sql_text (s, 7);
	e->options = sql_text (s, 8);
	e->locked_until_ms = sqlite3_column_int64 (s, 9);
	e->created_ms = sqlite3_column_int64 (s, 10);
}

int registry_endpoint_get (struct registry *r, const struct id *id, struct reg_endpoint *out, struct err *err)
{
	sqlite3_stmt *s = sql_start (r, "SELECT " COLS " FROM endpoints WHERE id = ?", err, "d", id);
	int rc;

	if (!s)
		return -1;
	rc = sql_step (r, s, err);
	if (rc == SQLITE_ROW)
		read_endpoint (s, out);
	sql_end (s);
	if (rc == SQLITE_DONE)
		return err_set (err, ERR_NOT_FOUND, FAULT_USER, "endpoint not found");
	return rc < 0 ? -1 : 0;
}

int registry_endpoints (struct registry *r, const struct id *user, enum reg_role role, const struct id *before, size_t limit,
			struct reg_endpoint **out, size_t *n, struct err *err)
{
	static const char *const sql[] = {
		[REG_OWNER] = "SELECT " COLS " FROM endpoints WHERE (?1 IS NULL OR owner = ?1) AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT ?3",
		[REG_ANY] = "SELECT " COLS " FROM endpoints WHERE (owner = ?1 OR public OR id IN (SELECT object FROM shares WHERE grantee = ?1)) "
			    "AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT ?3",
	};
	sqlite3_stmt *s = sql_start (r, sql[role], err, "ddi", user, before, (int64_t) limit);
	int rc;

	*out = NULL;
	*n = 0;
	if (!s)
		return -1;
	while ((rc = sql_step (r, s, err)) == SQLITE_ROW) {
		*out = sql_grow (*out, *n, sizeof (**out));
		read_endpoint (s, &(*out)[(*n)++]);
	}
	sql_end (s);
	return rc < 0 ? -1 : 0;
}

int registry_endpoint_remove (struct registry *r, const struct id *id, struct err *err)
{
	int rc = sql_begin (r, err);

	if (rc < 0)
		return -1;
	rc = sql_run (r, true, "endpoint", err, "DELETE FROM endpoints WHERE id = ?", "d", id);
	if (rc == 0)
		rc = sql_run (r, false, "endpoint", err, "DELETE FROM shares WHERE object = ?", "d", id);
	return sql_finish (r, rc, err);
}

int registry_endpoint_lock (struct registry *r, const struct id *id, int64_t until_ms, struct err *err)
{
	return sql_run (r, true, "endpoint", err, "UPDATE endpoints SET locked_until_ms = ? WHERE id = ?", "id", until_ms, id);
}

static bool has (const struct reg_endpoint *e, const struct id *f)
{
	for (size_t i = 0; i < e->nallowed; i++)
		if (id_eq (&e->allowed[i], f))
			return true;
	return false;
}

static int change_allowed (struct registry *r, const struct id *endpoint, const struct id *add, size_t nadd, const struct id *remove,
			   struct err *err)
{
	struct reg_endpoint e = { 0 };
	size_t kept = 0;
	int rc;

	if (registry_endpoint_get (r, endpoint, &e, err) < 0)
		return -1;
	e.allowed = xrealloc (e.allowed, (e.nallowed + nadd + 1) * ID_BYTES);
	for (size_t i = 0; i < nadd; i++)
		if (!has (&e, &add[i]))
			e.allowed[e.nallowed++] = add[i];
	for (size_t i = 0; i < e.nallowed; i++)
		if (!remove || !id_eq (&e.allowed[i], remove))
			e.allowed[kept++] = e.allowed[i];
	e.nallowed = kept;
	e.restricted = e.restricted || nadd;
	rc = sql_run (r, true, "endpoint", err, "UPDATE endpoints SET allowed = ? WHERE id = ?", "bd", allowed_blob (&e), e.nallowed * ID_BYTES,
		      endpoint);
	reg_endpoint_fini (&e);
	return rc;
}

int registry_allowed_add (struct registry *r, const struct id *endpoint, const struct id *functions, size_t n, struct err *err)
{
	if (sql_begin (r, err) < 0)
		return -1;
	return sql_finish (r, change_allowed (r, endpoint, functions, n, NULL, err), err);
}

int registry_allowed_remove (struct registry *r, const struct id *endpoint, const struct id *function, struct err *err)
{
	if (sql_begin (r, err) < 0)
		return -1;
	return sql_finish (r, change_allowed (r, endpoint, NULL, 0, function, err), err);
}

bool registry_shared (struct registry *r, const struct id *object, const struct id *user)
{
	sqlite3_stmt *s = sql_start (r, "SELECT 1 FROM shares WHERE object = ? AND grantee = ?", NULL, "dd", object, user);
	bool yes = s && sql_step (r, s, NULL) == SQLITE_ROW;

	sql_end (s);
	return yes;
}
