/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "service/registry/sql.h"

void reg_container_fini (struct reg_container *c)
{
	free (c->name);
	free (c->description);
	free (c->type);
	free (c->location);
	memset (c, 0, sizeof (*c));
}

int registry_container_add (struct registry *r, const struct reg_container *c, struct err *err)
{
	return sql_run (r, false, "adding a container", err,
			"INSERT INTO containers (id, owner, name, description, type, location, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?)", "ddtttti",
			&c->id, &c->owner, c->name, c->description, c->type, c->location, c->created_ms);
}

int registry_container_get (struct registry *r, const struct id *id, struct reg_container *out, struct err *err)
{
	sqlite3_stmt *s = sql_start (r, "SELECT id, owner, name, description, type, location, created_ms FROM containers WHERE id = ?", err, "d", id);
	int rc;

	if (!s)
		return -1;
	memset (out, 0, sizeof (*out));
	if ((rc = sql_step (r, s, err)) == SQLITE_ROW) {
		sql_id (s, 0, &out->id);
		sql_id (s, 1, &out->owner);
		out->name = sql_text (s, 2);
		out->description = sql_text (s, 3);
		out->type = sql_text (s, 4);
		out->location = sql_text (s, 5);
		out->created_ms = sqlite3_column_int64 (s, 6);
	}
	sql_end (s);
	if (rc == SQLITE_DONE)
		return err_set (err, ERR_NOT_FOUND, FAULT_USER, "container not found");
	return rc < 0 ? -1 : 0;
}
