/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands share. */
#include "common/clock.h"
#include "endpoint/cmd.h"
#include "endpoint/control.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <time.h>
#include <unistd.h>

enum { POLL_MS = 50, KILL_AFTER_MS = 5000 };

int cmd_fail (const struct err *err)
{
	fprintf (stderr, "weft-endpoint: %s\n", err->text);
	return 1;
}

int cmd_open (struct paths *p, int argc, char **argv)
{
	struct err err;

	if (paths_init (p, argc > 0 ? argv[0] : NULL, &err) < 0)
		return cmd_fail (&err);
	if (paths_exist (p))
		return 0;
	fprintf (stderr, "weft-endpoint: there is no endpoint '%s' in %s; make it with: weft-endpoint configure %s\n", p->name, p->root,
		 p->name);
	paths_fini (p);
	return 1;
}

struct config *cmd_config (const struct paths *p, const char *const *overrides)
{
	struct buf report;
	struct err err;
	struct config *c;

	buf_init (&report, 1 << 20);
	c = config_load (p->config, overrides, &report, &err);
	if (!c)
		conf_say_problems ("weft-endpoint", &report, &err, stderr);
	buf_fini (&report);
	return c;
}

const char *cmd_text (const json_t *j, const char *key)
{
	const char *s = json_string_value (json_object_get (j, key));

	return s ? s : "";
}

int64_t cmd_int (const json_t *j, const char *key, const char *sub)
{
	const json_t *v = json_object_get (j, key);

	if (sub)
		v = json_object_get (v, sub);
	return json_is_integer (v) ? json_integer_value (v) : 0;
}

void cmd_sleep_ms (int64_t ms)
{
	struct timespec ts = { ms / 1000, (ms % 1000) * 1000000 };

	nanosleep (&ts, NULL);
}

/* pidfd: -1 where the kernel has none. The lock goes with the files of the process, a moment before the process itself. */
static bool wait_gone (const struct paths *p, int pidfd, int64_t timeout_ms)
{
	int64_t until = clock_now_ms () + timeout_ms;
	struct pollfd ended = { .fd = pidfd, .events = POLLIN };

	while (paths_running (p)) {
		if (clock_now_ms () >= until)
			return false;
		cmd_sleep_ms (POLL_MS);
	}
	return pidfd < 0 || poll (&ended, 1, KILL_AFTER_MS) != 0;
}

int cmd_stop_agent (const struct paths *p, int64_t grace_ms, int64_t timeout_ms, bool quiet, bool leave)
{
	pid_t pid = paths_running (p);
	int pidfd = pid > 1 ? pidfd_open (pid, 0) : -1, rc = 0;
	struct err err;
	json_t *reply;

	if (!pid) {
		if (!quiet)
			printf ("Endpoint %s is not running.\n", p->name);
		return 0;
	}
	reply = control_call (p->control, "stop", json_pack ("{s:I, s:b}", "drain_ms", (json_int_t) grace_ms, "leave", leave), 5000, &err);
	json_decref (reply);
	if (!reply && err.code == ERR_UNAVAILABLE && pid > 1)
		kill (pid, SIGTERM);
	if (wait_gone (p, pidfd, grace_ms + timeout_ms)) {
		if (!quiet)
			printf ("Endpoint %s is stopped.\n", p->name);
	} else {
		if (pid > 1)
			kill (pid, SIGKILL);
		if (!wait_gone (p, pidfd, KILL_AFTER_MS)) {
			fprintf (stderr, "weft-endpoint: endpoint %s (pid %ld) does not end, not even with SIGKILL\n", p->name, (long) pid);
			rc = 1;
		} else if (!quiet)
			printf ("Endpoint %s was killed: it did not stop in time. Results it had are in its spool.\n", p->name);
	}
	if (pidfd >= 0)
		close (pidfd);
	return rc;
}
