/* SPDX-License-Identifier: Apache-2.0 */
/* What an agent leaves to the next one of the same endpoint, so that jobs which run are not lost with it: under which port its managers look
 * for it, and which job is which block. run/takeover.json, mode 0600, written while it runs; beside it the keys. It is used only when the job
 * scripts would be the same today (`usable`): else the jobs are of another configuration, and go. */
#ifndef ENDPOINT_TAKEOVER_H
#define ENDPOINT_TAKEOVER_H
#include <stddef.h>
#include <stdint.h>
#include "common/err.h"

enum { TAKEOVER_BLOCKS_MAX = 10000 };
struct takeover_block { char id[16], job[96], name[128]; unsigned nodes; };
struct takeover {
	char usable[65];		/* hex SHA-256 of what a job of it is made from */
	int port;
	uint64_t number;		/* of the last block */
	struct takeover_block *v;	/* owned */
	size_t n;
};

/* 0, or -1 with *err: there is none (ERR_NOT_FOUND), or it is not to be used. *t is empty then. */
int takeover_read (const char *path, struct takeover *t, struct err *err);
int takeover_parse (const char *text, struct takeover *t);	/* 0; -1, *t is empty then: it is damaged */
char *takeover_text (const struct takeover *t);	/* to be written; owned by the caller; NULL: no memory */
void takeover_fini (struct takeover *t);

#endif
