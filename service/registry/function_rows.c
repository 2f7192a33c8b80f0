/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "service/registry/sql.h"

void reg_function_fini (struct reg_function *f)
{
	free (f->name);
	free (f->description);
	free (f->entry);
	free (f->container);
	free (f->meta);
	free (f->code);
	free (f->options);
	memset (f, 0, sizeof (*f));
}

int registry_function_add (struct registry *r, const struct reg_function *f, const struct id *shared, size_t nshared, struct err *err)
{
	int rc = sql_begin (r, err);

	if (rc < 0)
		return -1;
	rc = sql_run (r, false, "adding a function", err,
		      "INSERT INTO functions (id, owner, name, description, kind, public, entry, container, time_limit_ms, memory_limit_bytes, "
		      "meta, created_ms, options, code, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		      "ddttiittiititbb", &f->id, &f->owner, f->name, f->description, (int64_t) f->kind, (int64_t) f->public, f->entry,
		      f->container, (int64_t) f->time_limit_ms, (int64_t) f->memory_limit_bytes, f->meta, f->created_ms, f->options, f->code,
		      f->code_bytes, f->once ? f->digest : NULL, sizeof (f->digest));
	if (rc == 0)
		rc = sql_share (r, &f->id, shared, nshared, err);
	return sql_finish (r, rc, err);
}

#define COLS "id, owner, name, description, kind, public, entry, container, time_limit_ms, memory_limit_bytes, meta, created_ms, options"

static void read_function (sqlite3_stmt *s, struct reg_function *f)
{
	memset (f, 0, sizeof (*f));
	sql_id (s, 0, &f->id);
	sql_id (s, 1, &f->owner);
	f->name = sql_text (s, 2);
	f->description = sql_text (s, 3);
	f->kind = (uint8_t) sqlite3_column_int (s, 4);
	f->public = sqlite3_column_int (s, 5);
	f->entry = sql_text (s, 6);
	f->container = sql_text (s, 7);
	f->time_limit_ms = (uint32_t) sqlite3_column_int64 (s, 8);
	f->memory_limit_bytes = (uint64_t) sqlite3_column_int64 (s, 9);
	f->meta = sql_text (s, 10);
	f->created_ms = sqlite3_column_int64 (s, 11);
	f->options = sql_text (s, 12);
}

/* The code may be large and hold NULs. */
static int read_code (sqlite3_stmt *s, struct reg_function *f, struct err *err)
{
	size_t n = (size_t) sqlite3_column_bytes (s, 13);

	if (!(f->code = malloc (n + 1)))
		return err_set (err, ERR_INTERNAL, FAULT_SELF, "out of memory for %zu bytes of code", n);
	if (n)
		memcpy (f->code, sqlite3_column_blob (s, 13), n);
	f->code[n] = 0;
	f->code_bytes = n;
	return 0;
}

int registry_function_get (struct registry *r, const struct id *id, bool with_code, struct reg_function *out, struct err *err)
{
	sqlite3_stmt *s = sql_start (r, with_code ? "SELECT " COLS ", code FROM functions WHERE id = ?" : "SELECT " COLS " FROM functions WHERE id = ?",
				     err, "d", id);
	int rc;

	if (!s)
		return -1;
	rc = sql_step (r, s, err);
	if (rc == SQLITE_ROW) {
		read_function (s, out);
		if (with_code && read_code (s, out, err) < 0) {
			reg_function_fini (out);
			rc = -1;
		}
	}
	sql_end (s);
	if (rc == SQLITE_DONE)
		return err_set (err, ERR_NOT_FOUND, FAULT_USER, "function not found");
	return rc < 0 ? -1 : 0;
}

int registry_functions (struct registry *r, const struct id *owner, const struct id *before, size_t limit, struct reg_function **out, size_t *n,
			struct err *err)
{
	sqlite3_stmt *s = sql_start (r, "SELECT " COLS " FROM functions WHERE owner = ?1 AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT ?3", err,
				     "ddi", owner, before, (int64_t) limit);
	int rc;

	*out = NULL;
	*n = 0;
	if (!s)
		return -1;
	while ((rc = sql_step (r, s, err)) == SQLITE_ROW) {
		*out = sql_grow (*out, *n, sizeof (**out));
		read_function (s, &(*out)[(*n)++]);
	}
	sql_end (s);
	return rc < 0 ? -1 : 0;
}

int registry_function_once (struct registry *r, const struct id *owner, const uint8_t digest[REG_HASH_BYTES], struct id *out, struct err *err)
{
	sqlite3_stmt *s = sql_start (r, "SELECT id FROM functions WHERE owner = ? AND digest = ?", err, "db", owner, digest, (size_t) REG_HASH_BYTES);
	int rc;

	if (!s)
		return -1;
	if ((rc = sql_step (r, s, err)) == SQLITE_ROW)
		sql_id (s, 0, out);
	sql_end (s);
	if (rc == SQLITE_DONE)
		return err_set (err, ERR_NOT_FOUND, FAULT_USER, "function not found");
	return rc < 0 ? -1 : 0;
}

int registry_function_container (struct registry *r, const struct id *id, const char *image, const char *options, struct err *err)
{
	return sql_run (r, true, "function", err, "UPDATE functions SET container = ?, options = ?, digest = NULL WHERE id = ?", "ttd", image, options, id);
}

int registry_function_remove (struct registry *r, const struct id *id, struct err *err)
{
	int rc = sql_begin (r, err);

	if (rc < 0)
		return -1;
	rc = sql_run (r, true, "function", err, "DELETE FROM functions WHERE id = ?", "d", id);
	if (rc == 0)
		rc = sql_run (r, false, "function", err, "DELETE FROM shares WHERE object = ?", "d", id);
	return sql_finish (r, rc, err);
}
