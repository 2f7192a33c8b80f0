/* SPDX-License-Identifier: Apache-2.0 */
/* Which of the agent's addresses answers from this node. Blocks: before the loop runs. */
#ifndef MANAGER_REACH_H
#define MANAGER_REACH_H
#include <stddef.h>
#include <stdint.h>
#include "common/err.h"

enum { REACH_MAX = 32, REACH_TEXT = 300 };

/* list: addresses with commas between. One alone, or one that is not TCP, is taken as it is; else all are tried at once, until one answers or
 * timeout_ms is over. 0 and the address; -1 with *err: what each of them said. */
int reach_first (const char *list, int64_t timeout_ms, char out[REACH_TEXT], struct err *err);

#endif
