/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that the manager sent, kept until room is needed. What is dropped is asked for again (FUNCTION_MISSING). */
#ifndef WORKER_FUNCTIONS_H
#define WORKER_FUNCTIONS_H
#include "proto/msg_function.h"

struct functions;

struct function {
	struct msg_function fn;		/* slices into record */
	struct wire_str record;
	unsigned users;			/* calls in hand: it stays */
	int64_t mean_ns;		/* of its recent calls */
	unsigned calls;			/* counted up to FUNCTION_KNOWN */
};
#define FUNCTION_KNOWN 3		/* calls after which mean_ns is believed */

struct functions *functions_create (size_t max_count, size_t max_bytes);
void functions_destroy (struct functions **f);
/* A FUNCTION record: copied. One that is there already stays as it is: functions do not change. */
struct function *functions_add (struct functions *f, const void *record, size_t n, struct err *err);
struct function *functions_get (struct functions *f, const struct id *id);	/* borrowed until users is 0; NULL = unknown */
size_t functions_count (const struct functions *f);
void function_took (struct function *f, int64_t ns);
bool function_is_fast (const struct function *f, int64_t under_ns);

#endif
