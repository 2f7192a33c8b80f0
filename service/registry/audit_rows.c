/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "service/registry/sql.h"

int registry_audit (struct registry *r, const struct reg_audit *rows, size_t n, struct err *err)
{
	int rc = sql_begin (r, err);

	if (rc < 0)
		return -1;
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = sql_run (r, false, "writing the audit log", err,
			      "INSERT INTO audit (at_ms, actor, action, object, peer, requests, items) VALUES (?, ?, ?, ?, ?, ?, ?)", "idtttii",
			      rows[i].at_ms, &rows[i].actor, rows[i].action, rows[i].object, rows[i].peer, rows[i].requests, rows[i].items);
	return sql_finish (r, rc, err);
}

int registry_audit_total (struct registry *r, const char *action, int64_t *out, struct err *err)
{
	sqlite3_stmt *s = sql_start (r, "SELECT items FROM audit_totals WHERE action = ?", err, "t", action);
	int rc;

	if (!s)
		return -1;
	rc = sql_step (r, s, err);
	*out = rc == SQLITE_ROW ? sqlite3_column_int64 (s, 0) : 0;
	sql_end (s);
	return rc < 0 ? -1 : 0;
}

int registry_audit_read (struct registry *r, size_t limit, struct reg_audit **out, size_t *n, struct err *err)
{
	sqlite3_stmt *s = sql_start (r, "SELECT at_ms, actor, action, object, peer, requests, items FROM audit ORDER BY seq DESC LIMIT ?", err, "i",
				     (int64_t) limit);
	int rc;

	*out = NULL;
	*n = 0;
	if (!s)
		return -1;
	while ((rc = sql_step (r, s, err)) == SQLITE_ROW) {
		struct reg_audit *a;
		*out = sql_grow (*out, *n, sizeof (**out));
		a = &(*out)[(*n)++];
		a->at_ms = sqlite3_column_int64 (s, 0);
		sql_id (s, 1, &a->actor);
		a->action = sql_text (s, 2);
		sql_copy (s, 3, a->object, sizeof (a->object));
		sql_copy (s, 4, a->peer, sizeof (a->peer));
		a->requests = sqlite3_column_int64 (s, 5);
		a->items = sqlite3_column_int64 (s, 6);
	}
	sql_end (s);
	return rc < 0 ? -1 : 0;
}
