/* SPDX-License-Identifier: Apache-2.0 */
/* Changes to the registry, off the loop: one thread with a connection of its own does them in order. The audit log is gathered
 * and written a few times a second, equal submissions of one moment in one row. */
#ifndef SERVICE_DB_H
#define SERVICE_DB_H
#include "common/loop.h"
#include "service/registry/registry.h"

struct db;
/* work runs on the thread and touches nothing but the registry and *arg; done runs afterwards on the loop. */
typedef void db_work_f (struct registry *r, void *arg);

struct db *db_create (struct loop *l, const char *path, int64_t busy_timeout_ms, struct err *err);
void db_run (struct db *d, db_work_f *work, loop_f *done, void *arg);
/* action: static text. object: an id's text or other short text; copied. items: tasks of a submission, else 1. */
void db_audit (struct db *d, const struct id *actor, const char *action, const char *object, const char *peer, size_t peer_n, int64_t items);
size_t db_waiting (struct db *d);
/* Finishes what was given to it, the audit log too; the done calls are made. */
void db_destroy (struct db **d);

#endif
