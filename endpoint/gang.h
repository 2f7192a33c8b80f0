/* SPDX-License-Identifier: Apache-2.0 */
/* A gang: whole nodes of one block for one task (SPEC.md, 3.8). Its managers are first kept for it (nothing new is sent to them, what they have
 * ends), and when all are idle the task takes them. A manager may be kept for one gang while another has it. */
#ifndef ENDPOINT_GANG_H
#define ENDPOINT_GANG_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct manager;
struct queue_task;
struct gang {
	struct queue_task *task;	/* borrowed */
	struct manager **m;		/* in the order of their names; NULL: it is gone. The first one runs the task */
	size_t n;
	bool taken;			/* else kept */
	bool recalled;			/* a node was lost: what its task now ends as does not count, but for a success */
	bool cancelled;			/* by its user: whatever it ends as counts */
	char why[700];			/* recalled: of the loss */
};

enum gang_answer { GANG_MADE, GANG_NONE, GANG_TIME_SHORT };
/* n managers of one block that know of such tasks and have more than expected_ms left, those with the least to do. Not marked yet. */
enum gang_answer gang_choose (struct manager *first, unsigned n, uint32_t expected_ms, int64_t now_ms, struct gang **out);
void gang_keep (struct gang *g);		/* for it, from now */
void gang_take (struct gang *g);		/* those that were kept are its own */
void gang_leave (struct gang *g);		/* its managers are others' again */
void gang_free (struct gang **g);		/* after it has left them */
bool gang_idle (const struct gang *g);		/* none of its managers has a task */
void gang_without (struct gang *g, struct manager *m);	/* m is gone */

#endif
