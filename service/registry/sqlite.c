/* SPDX-License-Identifier: Apache-2.0 */
/* The SQLite side: opening, migrations, prepared statements. WAL, so that readers and the one writer do not wait for each other;
 * synchronous=NORMAL: a power cut may lose the last moments' registrations but never damages the file. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "service/registry/sql.h"

#define MOD "registry"
#define STATEMENTS 48

struct registry {
	sqlite3 *db;
	struct { const char *sql; sqlite3_stmt *stmt; } stmts[STATEMENTS];
	int nstmts;
};

static const unsigned char migration_001[] = {
#include "service/registry/migrations/001.sql.inc"
	, 0
};
static const unsigned char migration_002[] = {
#include "service/registry/migrations/002.sql.inc"
	, 0
};
static const unsigned char migration_003[] = {
#include "service/registry/migrations/003.sql.inc"
	, 0
};
static const unsigned char migration_004[] = {
#include "service/registry/migrations/004.sql.inc"
	, 0
};
static const unsigned char migration_005[] = {
#include "service/registry/migrations/005.sql.inc"
	, 0
};
static const char *const migrations[] = { (const char *) migration_001, (const char *) migration_002, (const char *) migration_003,
					  (const char *) migration_004, (const char *) migration_005 };
#define NMIGRATIONS ((int) (sizeof (migrations) / sizeof (migrations[0])))

static int fail (struct registry *r, int rc, const char *what, struct err *err)
{
	int code = rc & 0xff;

	if (code == SQLITE_BUSY || code == SQLITE_LOCKED)
		return err_set (err, ERR_UNAVAILABLE, FAULT_SELF, "registry: %s: another process holds it", what);
	if (code == SQLITE_CONSTRAINT)
		return err_set (err, ERR_CONFLICT, FAULT_USER, "registry: %s: %s", what, sqlite3_errmsg (r->db));
	if (code == SQLITE_CANTOPEN || code == SQLITE_READONLY || code == SQLITE_IOERR || code == SQLITE_FULL || code == SQLITE_PERM ||
	    code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
		return err_set (err, ERR_IO, FAULT_SITE, "registry: %s: %s", what, sqlite3_errmsg (r->db));
	return err_set (err, ERR_INTERNAL, FAULT_SELF, "registry: %s: %s", what, sqlite3_errmsg (r->db));
}

static int exec (struct registry *r, const char *sql, const char *what, struct err *err)
{
	int rc = sqlite3_exec (r->db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : fail (r, rc, what, err);
}

/* ---- statements ------------------------------------------------------------------------------------------------- */

static sqlite3_stmt *prepared (struct registry *r, const char *sql, struct err *err)
{
	sqlite3_stmt *s;
	int i, rc;

	for (i = 0; i < r->nstmts; i++)
		if (r->stmts[i].sql == sql || !strcmp (r->stmts[i].sql, sql))
			return r->stmts[i].stmt;
	rc = sqlite3_prepare_v3 (r->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &s, NULL);
	if (rc != SQLITE_OK) {
		fail (r, rc, "preparing a statement", err);
		return NULL;
	}
	if (r->nstmts == STATEMENTS) { /* cannot happen with the statements there are; stay right if it does */
		sqlite3_finalize (r->stmts[0].stmt);
		r->stmts[0] = r->stmts[--r->nstmts];
	}
	r->stmts[r->nstmts].sql = sql;
	r->stmts[r->nstmts++].stmt = s;
	return s;
}

static void bind (sqlite3_stmt *s, const char *kinds, va_list ap)
{
	for (int i = 1; *kinds; kinds++, i++) {
		switch (*kinds) {
		case 'i':
			sqlite3_bind_int64 (s, i, va_arg (ap, int64_t));
			break;
		case 't': {
			const char *t = va_arg (ap, const char *);
			if (t)
				sqlite3_bind_text (s, i, t, -1, SQLITE_STATIC);
			break;
		}
		case 'b': {
			const void *p = va_arg (ap, const void *);
			size_t n = va_arg (ap, size_t);
			if (p)
				sqlite3_bind_blob64 (s, i, p, n, SQLITE_STATIC);
			break;
		}
		case 'd': {
			const struct id *id = va_arg (ap, const struct id *);
			if (id)
				sqlite3_bind_blob (s, i, id->b, ID_BYTES, SQLITE_STATIC);
			break;
		}
		}
	}
}

static sqlite3_stmt *start_v (struct registry *r, const char *sql, struct err *err, const char *kinds, va_list ap)
{
	sqlite3_stmt *s = prepared (r, sql, err);

	if (s)
		bind (s, kinds, ap);
	return s;
}

sqlite3_stmt *sql_start (struct registry *r, const char *sql, struct err *err, const char *kinds, ...)
{
	sqlite3_stmt *s;
	va_list ap;

	va_start (ap, kinds);
	s = start_v (r, sql, err, kinds, ap);
	va_end (ap);
	return s;
}

int sql_step (struct registry *r, sqlite3_stmt *s, struct err *err)
{
	int rc = sqlite3_step (s);

	return rc == SQLITE_ROW || rc == SQLITE_DONE ? rc : fail (r, rc, "query", err);
}

void sql_end (sqlite3_stmt *s)
{
	if (!s)
		return;
	sqlite3_reset (s);
	sqlite3_clear_bindings (s);
}

int sql_run (struct registry *r, bool must_change, const char *what, struct err *err, const char *sql, const char *kinds, ...)
{
	sqlite3_stmt *s;
	va_list ap;
	int rc;

	va_start (ap, kinds);
	s = start_v (r, sql, err, kinds, ap);
	va_end (ap);
	if (!s)
		return -1;
	rc = sqlite3_step (s);
	if (rc == SQLITE_DONE)
		rc = must_change && !sqlite3_changes (r->db) ? err_set (err, ERR_NOT_FOUND, FAULT_USER, "%s: not found", what) : 0;
	else
		rc = fail (r, rc, what, err);
	sql_end (s);
	return rc;
}

int sql_begin (struct registry *r, struct err *err)
{
	return exec (r, "BEGIN IMMEDIATE", "starting a change", err);
}

int sql_finish (struct registry *r, int rc, struct err *err)
{
	if (rc == 0 && exec (r, "COMMIT", "committing a change", err) == 0)
		return 0;
	sqlite3_exec (r->db, "ROLLBACK", NULL, NULL, NULL);
	return -1;
}

void sql_id (sqlite3_stmt *s, int col, struct id *out)
{
	memset (out, 0, sizeof (*out));
	if (sqlite3_column_bytes (s, col) == ID_BYTES)
		memcpy (out->b, sqlite3_column_blob (s, col), ID_BYTES);
}

char *sql_text (sqlite3_stmt *s, int col)
{
	return xstrdup ((const char *) sqlite3_column_text (s, col));
}

void sql_copy (sqlite3_stmt *s, int col, char *out, size_t cap)
{
	const char *t = (const char *) sqlite3_column_text (s, col);
	size_t n = t ? strlen (t) : 0;

	if (n >= cap)
		n = cap - 1;
	memcpy (out, t ? t : "", n);
	out[n] = 0;
}

int sql_share (struct registry *r, const struct id *object, const struct id *users, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++)
		if (sql_run (r, false, "sharing", err, "INSERT OR IGNORE INTO shares (object, grantee) VALUES (?, ?)", "dd", object,
			     &users[i]) < 0)
			return -1;
	return 0;
}

int64_t sql_now_ms (void)
{
	return clock_real_ns () / 1000000;
}

void *sql_grow (void *array, size_t n, size_t size)
{
	return (n & (n - 1)) ? array : xrealloc (array, (n ? n * 2 : 1) * size); /* full at powers of two */
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

int registry_version (struct registry *r)
{
	sqlite3_stmt *s;
	int v = -1;

	if (sqlite3_prepare_v2 (r->db, "SELECT max(version) FROM schema_version", -1, &s, NULL) != SQLITE_OK)
		return -1;
	if (sqlite3_step (s) == SQLITE_ROW)
		v = sqlite3_column_int (s, 0);
	sqlite3_finalize (s);
	return v;
}

int registry_check (struct registry *r, struct err *err)
{
	if (registry_version (r) == NMIGRATIONS)
		return 0;
	return err_set (err, ERR_UNAVAILABLE, FAULT_SITE, "registry: %s", sqlite3_errmsg (r->db));
}

static int apply (struct registry *r, int version, struct err *err)
{
	/* The version is read again inside the transaction: another process may have been first. */
	int rc = sql_begin (r, err), now;

	if (rc < 0)
		return -1;
	now = registry_version (r);
	if (now >= version)
		return sql_finish (r, 0, err);
	rc = exec (r, migrations[version - 1], "migration", err);
	if (rc == 0) {
		char sql[80];
		snprintf (sql, sizeof (sql), "INSERT INTO schema_version (version) VALUES (%d)", version);
		rc = exec (r, sql, "migration", err);
	}
	rc = sql_finish (r, rc, err);
	if (rc == 0)
		log_info (MOD, "registry migrated", "version=%d", version);
	return rc;
}

static int migrate (struct registry *r, struct err *err)
{
	int now;

	if (exec (r, "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY)", "making the version table", err) < 0)
		return -1;
	now = registry_version (r);
	if (now > NMIGRATIONS)
		return err_set (err, ERR_VERSION, FAULT_SITE, "registry: its tables have version %d, this program knows %d: it was "
				"used by a newer one", now, NMIGRATIONS);
	for (int v = now < 0 ? 1 : now + 1; v <= NMIGRATIONS; v++)
		if (apply (r, v, err) < 0)
			return -1;
	return 0;
}

/* Tokens' hashes and function code are inside: nobody else may read it. SQLite gives -wal and -shm the same mode. */
/* A file that is there is not even opened: closing a descriptor of it would drop the locks that this process's other connections
 * hold, and the next program to close the database would take itself for the last and remove the WAL under them. */
static int make_file (const char *path, struct err *err)
{
	int fd = open (path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 && errno == EEXIST)
		return 0;
	if (fd < 0)
		return err_errno (err, "registry: opening %s", path);
	close (fd);
	return 0;
}

int registry_open (struct registry **out, const char *path, int64_t busy_timeout_ms, struct err *err)
{
	struct registry *r = xcalloc (1, sizeof (*r));
	int rc;

	if (make_file (path, err) < 0)
		goto fail;
	rc = sqlite3_open_v2 (path, &r->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc != SQLITE_OK) {
		fail (r, rc, path, err);
		goto fail;
	}
	sqlite3_busy_timeout (r->db, (int) busy_timeout_ms);
	if (exec (r, "PRAGMA journal_mode=WAL", "switching to WAL", err) < 0 ||
	    exec (r, "PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON; PRAGMA cache_size=-8192", "settings", err) < 0 || migrate (r, err) < 0)
		goto fail;
	*out = r;
	return 0;
fail:
	registry_close (&r);
	return -1;
}

void registry_close (struct registry **rp)
{
	struct registry *r = *rp;

	if (!r)
		return;
	for (int i = 0; i < r->nstmts; i++)
		sqlite3_finalize (r->stmts[i].stmt);
	sqlite3_close (r->db);
	free (r);
	*rp = NULL;
}
