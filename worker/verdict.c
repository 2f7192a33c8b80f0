/* SPDX-License-Identifier: Apache-2.0 */
/* Words for calls that were ended. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include "common/spawn.h"
#include "proto/msg_result.h"
#include "worker/text.h"
#include "worker/verdict.h"

static void fail (struct verdict *v, int32_t detail)
{
	v->status = STATUS_FAILED;
	v->detail = detail;
}

void verdict_cancelled (struct verdict *v)
{
	v->status = STATUS_CANCELLED;
	v->detail = 0;
	err_set (&v->err, ERR_CANCELLED, FAULT_USER, "cancelled");
}

void verdict_time_limit (struct verdict *v, int64_t limit_ms, const char *node)
{
	char limit[32];

	fail (v, 0);
	err_set (&v->err, ERR_TASK_TIME_LIMIT, FAULT_USER, "exceeded its time limit of %s on node %s", text_duration (limit_ms, limit),
		 node);
}

void verdict_memory_limit (struct verdict *v, uint64_t limit, uint64_t used, const char *node)
{
	char l[32], u[32];

	fail (v, 0);
	err_set (&v->err, ERR_TASK_MEMORY_LIMIT, FAULT_USER, "exceeded its memory limit of %s on node %s: it used %s", text_size (limit, l), node,
		 text_size (used, u));
}

void verdict_memory_refused (struct verdict *v, uint64_t limit, uint64_t most, const char *node)
{
	char l[32], u[32];

	fail (v, 0);
	err_set (&v->err, ERR_TASK_MEMORY_LIMIT, FAULT_USER,
		 "would have exceeded its memory limit of %s on node %s: it asked for more at once than was left, and was refused; it had used %s at most",
		 text_size (limit, l), node, text_size (most, u));
}

void verdict_error (struct verdict *v, const struct err *err)
{
	fail (v, 0);
	v->err = *err;
	if (v->err.code < ERR_TASK_EXCEPTION)
		v->err.code = ERR_TASK_RUNNER;
}

void verdict_ended (struct verdict *v, int status, const char *node)
{
	char text[64];

	spawn_status_text (status, text);
	if (WIFSIGNALED (status)) {
		fail (v, WTERMSIG (status));
		err_set (&v->err, ERR_TASK_SIGNAL, FAULT_USER, "%s on node %s", text, node);
	} else {
		fail (v, WEXITSTATUS (status));
		err_set (&v->err, ERR_TASK_EXIT, FAULT_USER, "the function ended its process on node %s: %s", node, text);
	}
}

void verdict_misbehaved (struct verdict *v, const char *why, const char *node)
{
	fail (v, 0);
	err_set (&v->err, ERR_TASK_RUNNER, FAULT_USER, "the function disturbed its runner on node %s: %s", node, why);
}

void verdict_killed (struct verdict *v, unsigned times, uint64_t oom_kills, const char *node)
{
	char tries[64] = "", oom[120];

	if (times > 1)
		snprintf (tries, sizeof (tries), " %u times (it was tried again %u time%s)", times, times - 1, times == 2 ? "" : "s");
	if (oom_kills)
		snprintf (oom, sizeof (oom), "the system ran out of memory meanwhile and killed %" PRIu64 " process%s", oom_kills,
			  oom_kills == 1 ? "" : "es");
	else
		snprintf (oom, sizeof (oom), "possibly out of memory, though the kernel counted no such event here");
	fail (v, SIGKILL);
	err_set (&v->err, ERR_TASK_SIGNAL, FAULT_SITE, "killed by signal 9 (Killed) on node %s%s, not by Weft: %s", node, tries, oom);
}

void verdict_no_runner (struct verdict *v, const char *runner, const char *why, int status, const char *said, const char *node)
{
	char text[64];
	size_t n = strlen (said);

	fail (v, WIFEXITED (status) ? WEXITSTATUS (status) : WTERMSIG (status));
	if (n > 200)
		said += n - 200;
	err_set (&v->err, ERR_TASK_RUNNER, FAULT_SITE, "the %s runner does not start on node %s: %s%s%s", runner, node,
		 why ? why : spawn_status_text (status, text), *said ? ": " : "", said);
}
