/* SPDX-License-Identifier: Apache-2.0 */
/* `weft-worker launch`: see launch.h. The session, the work directory and the descriptors were set by common/spawn.c. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/spawn.h"
#include "common/xmem.h"
#include "worker/launch.h"

const char *launch_self (void)
{
	static char path[4096];
	ssize_t n;

	if (!path[0]) {
		n = readlink ("/proc/self/exe", path, sizeof (path) - 1);
		if (n <= 0)
			return "weft-worker";
		path[n] = 0;
		/* replaced while we run (an upgrade): the link still leads to what we are */
		if (access (path, X_OK) != 0)
			strcpy (path, "/proc/self/exe");
	}
	return path;
}

const char **launch_argv (const char *const *argv)
{
	static char parent[16];
	const char **out;
	size_t n = 0, i;

	while (argv[n])
		n++;
	out = xcalloc (n + 6, sizeof (*out));
	snprintf (parent, sizeof (parent), "%d", (int) getpid ());
	out[0] = launch_self ();
	out[1] = "launch";
	out[2] = "--parent-pid";
	out[3] = parent;
	out[4] = "--";
	for (i = 0; i < n; i++)
		out[5 + i] = argv[i];
	return out;
}

int launch_main (int argc, char **argv)
{
	struct rlimit none = { 0, 0 };

	if (argc < 4 || strcmp (argv[0], "--parent-pid") != 0 || strcmp (argv[2], "--") != 0) {
		fprintf (stderr, "usage: weft-worker launch --parent-pid PID -- PROGRAM [ARGUMENT...]\n");
		return 2;
	}
	spawn_tie_to_parent ((pid_t) atoi (argv[1]));
	setrlimit (RLIMIT_CORE, &none);
	umask (077);
	execvp (argv[3], argv + 3);
	fprintf (stderr, "cannot run '%s': %s\n", argv[3], strerror (errno));
	return LAUNCH_CANNOT_RUN;
}
