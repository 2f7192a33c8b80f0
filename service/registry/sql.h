/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the registry share: statements, kept prepared by the text of their SQL. */
#ifndef SERVICE_REGISTRY_SQL_H
#define SERVICE_REGISTRY_SQL_H
#include <sqlite3.h>
#include "service/registry/registry.h"

/* Kinds of bound values: i int64, t text or NULL, b blob (pointer, size_t), d id (const struct id *). */
sqlite3_stmt *sql_start (struct registry *r, const char *sql, struct err *err, const char *kinds, ...);
/* SQLITE_ROW or SQLITE_DONE, or -1 with *err. */
int sql_step (struct registry *r, sqlite3_stmt *s, struct err *err);
void sql_end (sqlite3_stmt *s);		/* NULL is fine */
/* Run a statement without rows; ERR_NOT_FOUND when must_change and no row changed. */
int sql_run (struct registry *r, bool must_change, const char *what, struct err *err, const char *sql, const char *kinds, ...);
int sql_begin (struct registry *r, struct err *err);
/* Commit when rc is 0, else roll back; returns the outcome. */
int sql_finish (struct registry *r, int rc, struct err *err);

void sql_id (sqlite3_stmt *s, int col, struct id *out);
char *sql_text (sqlite3_stmt *s, int col);	/* owned; NULL for NULL */
void sql_copy (sqlite3_stmt *s, int col, char *out, size_t cap);
int sql_share (struct registry *r, const struct id *object, const struct id *users, size_t n, struct err *err);	/* adds */
int64_t sql_now_ms (void);
/* Room for one more element in a growing array. */
void *sql_grow (void *array, size_t n, size_t size);

#endif
