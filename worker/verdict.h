/* SPDX-License-Identifier: Apache-2.0 */
/* How a call ended that did not end by itself: what code, whose fault, in which words. */
#ifndef WORKER_VERDICT_H
#define WORKER_VERDICT_H
#include <stdint.h>
#include "common/err.h"

struct verdict {
	uint8_t status;			/* enum msg_status; 0 = no verdict */
	struct err err;			/* code, fault, text */
	int32_t detail;			/* exit status or signal */
};

void verdict_cancelled (struct verdict *v);
void verdict_time_limit (struct verdict *v, int64_t limit_ms, const char *node);
void verdict_memory_limit (struct verdict *v, uint64_t limit, uint64_t used, const char *node);
/* An allocation failed under the limit; most: resident memory of its process at its height, without it. */
void verdict_memory_refused (struct verdict *v, uint64_t limit, uint64_t most, const char *node);
void verdict_error (struct verdict *v, const struct err *err);		/* the call could not be made */
/* Its process ended by itself during the call; status as from waitpid. */
void verdict_ended (struct verdict *v, int status, const char *node);
/* It misbehaved and was killed by us. */
void verdict_misbehaved (struct verdict *v, const char *why, const char *node);
/* Somebody else killed it with SIGKILL, `times` times in all; oom_kills: OOM kills counted meanwhile. */
void verdict_killed (struct verdict *v, unsigned times, uint64_t oom_kills, const char *node);
/* It never became ready. said: the end of what it printed (NUL-terminated). */
void verdict_no_runner (struct verdict *v, const char *runner, const char *why, int status, const char *said, const char *node);

#endif
