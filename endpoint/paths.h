/* SPDX-License-Identifier: Apache-2.0 */
/* Where an endpoint lives: ~/.weft/endpoints/NAME, or $WEFT_HOME/endpoints/NAME, mode 0700.
 *
 *     config.yaml  endpoint.key  endpoint.json (what the service said)  spool/  memo/  logs/
 *     run/: pid (locked while the agent lives)  control.sock  status.json  managers.sock  manager.key */
#ifndef ENDPOINT_PATHS_H
#define ENDPOINT_PATHS_H
#include <stdbool.h>
#include <sys/types.h>
#include "common/err.h"

struct paths {
	char *name, *root;		/* root: .../endpoints */
	char *dir, *config, *key, *identity, *spool, *memo, *logs, *log, *run, *pid, *status, *control;
};
/* name NULL = "default". ERR_INVALID for a name that is not [A-Za-z0-9][A-Za-z0-9._-]{0,63}. */
int paths_init (struct paths *p, const char *name, struct err *err);
void paths_fini (struct paths *p);
char *paths_root (struct err *err);			/* owned by the caller */
bool paths_exist (const struct paths *p);		/* it has been configured */
int paths_make_private (const char *dir, struct err *err);	/* mkdir -p of the last part, mode 0700; refuses others' directories */
/* The agent's pid, 0 when none is running: whoever holds the lock of the pid file is. */
pid_t paths_running (const struct paths *p);
/* Take the lock and write our pid. Returns the descriptor to keep, -1 with *err (ERR_CONFLICT: somebody runs). */
int paths_lock (const struct paths *p, struct err *err);

/* A whole small file at once: written aside, then renamed. */
int paths_write (const char *path, const void *data, size_t n, mode_t mode, struct err *err);
/* And on disk before it returns: a power failure leaves what was there, or this. */
int paths_write_durable (const char *path, const void *data, size_t n, mode_t mode, struct err *err);
char *paths_read (const char *path, size_t max, size_t *n, struct err *err);	/* NUL-terminated, owned by the caller */
/* A program of ours: `set` when not NULL, else beside this executable, else by name on PATH. Owned by the caller. */
char *paths_program (const char *set, const char *name);
bool paths_program_exists (const char *program);	/* a path, or a name on PATH */
char *paths_on_path (const char *program);		/* where that is, owned by the caller; NULL: not there */

#endif
