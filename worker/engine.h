/* SPDX-License-Identifier: Apache-2.0 */
/* The engine: takes tasks from the manager, has runners call the functions, hands results back. One call runs at a time. */
#ifndef WORKER_ENGINE_H
#define WORKER_ENGINE_H
#include "common/loop.h"
#include "common/ids.h"

struct bulk;
struct pythons;
struct engine;

struct engine_opts {			/* strings are borrowed for life */
	const char *connect;		/* the manager's address; NULL = none (tests) */
	struct id id;
	const char *node, *dir;
	const struct pythons *pythons;	/* borrowed for life; one at least, the first is for what wants none of them */
	unsigned retries_on_kill;
	struct id image;		/* of the container that we are in, for results; zero = none, or not known */
	int64_t orphan_ms;		/* end after so long without a session; 0 = never */
	const struct bulk *bulk;	/* borrowed for life; NULL = none */
	const char *files_dir;		/* files of tasks by SHA-256; NULL = none */
};

/* zctx: borrowed. Starts the runner that is kept warm, and dials when it is ready. */
struct engine *engine_create (struct loop *l, void *zctx, const struct engine_opts *o, struct err *err);
/* Give back what has not begun, say BYE, and stop the loop. */
void engine_stop (struct engine *e);
void engine_destroy (struct engine **e);	/* all runners are killed, with all they started */

#endif
