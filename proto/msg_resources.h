/* SPDX-License-Identifier: Apache-2.0 */
/* The nodes that a task asks for, as they stand in TASK and the queue record, and how its call reaches those that it got: SPEC.md, section 3.8. */
#ifndef PROTO_MSG_RESOURCES_H
#define PROTO_MSG_RESOURCES_H
#include "proto/wire.h"

#define RESOURCES_MINOR 3			/* peers of an older minor version would run the task without its nodes */
#define RESOURCES_NODES_MAX 1024
#define RESOURCES_RANKS_MAX 65536		/* on a node */
#define RESOURCES_OPTIONS_MAX 1024
#define RESOURCES_ENVIRON_MAX (512u << 10)
#define RESOURCES_MAX_BYTES (RESOURCES_ENVIRON_MAX + 4096)	/* a record */

struct msg_resources {
	uint16_t nodes;			/* 1 or more */
	uint32_t ranks_per_node;	/* 1 or more */
	struct wire_str options;	/* of the launcher; words of a command line */
	struct wire_str environ;	/* "NAME=VALUE", a NUL behind each; empty: it has no nodes yet */
};
void msg_resources_encode (struct buf *b, const struct msg_resources *m);
int msg_resources_decode (struct msg_resources *m, const void *p, size_t n, struct err *err);
/* The next of the environment, without its NUL, which is there all the same; the list gets shorter. False at its end. */
bool msg_resources_environ_next (struct wire_str *environ, struct wire_str *entry);
/* Is it such a list? */
bool msg_resources_environ_ok (struct wire_str environ);

#endif
