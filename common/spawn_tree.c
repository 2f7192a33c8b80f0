/* SPDX-License-Identifier: Apache-2.0 */
/* A process with others beneath it, which must end with its parent as it does.
 *
 * The kernel's tie reaches one process: were it SIGKILL, those beneath would go to init and run on. So the tie is a signal whose
 * handler kills them all and then ends us. It runs whatever our loop does, never returns to it, and makes system calls only. As we are
 * a subreaper whoever dies leaves its children to us, so it is done when wait() knows of no child.
 *
 * The signal is SIGHUP since that, with SIGCONT, is also what the kernel sends to a stopped process whose group has lost its last
 * connection with its session: one that is stopped while its parent dies wakes up for this. */
#include "common/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAUSE_NS = 2000000, LOOKS_MAX = 5000 };	/* about 10 s: not for ever, as one that became another user cannot be killed */

static int list = -1;	/* our children, as /proc tells them; open from the start, since later no descriptor may be left */

/* Those with a group of their own go with it. */
static void kill_children (void)
{
	char text[4096];
	pid_t pid = 0;
	ssize_t n;

	lseek (list, 0, SEEK_SET);
	while ((n = read (list, text, sizeof (text))) > 0)
		for (ssize_t i = 0; i < n; i++) {
			if (text[i] >= '0' && text[i] <= '9') {
				pid = pid * 10 + (text[i] - '0');
				continue;
			}
			if (pid > 1) {
				kill (-pid, SIGKILL);
				kill (pid, SIGKILL);
			}
			pid = 0;
		}
}

static void parent_gone (int signo)
{
	const struct timespec pause = { 0, PAUSE_NS };
	pid_t pid = 0;

	(void) signo;
	for (int i = 0; i < LOOKS_MAX && pid >= 0; i++) {
		kill_children ();
		while ((pid = waitpid (-1, NULL, WNOHANG)) > 0)
			;
		if (pid == 0)
			nanosleep (&pause, NULL);
	}
	_exit (1);
}

void spawn_tie_tree_to_parent (pid_t parent_pid)
{
	struct sigaction sa;
	char path[64];

	spawn_tie_to_parent (parent_pid);	/* nothing is beneath us yet */
	snprintf (path, sizeof (path), "/proc/self/task/%d/children", (int) getpid ());
	if ((list = open (path, O_RDONLY | O_CLOEXEC)) < 0)
		return;				/* a kernel that does not list them */
	memset (&sa, 0, sizeof (sa));
	sa.sa_handler = parent_gone;
	sigfillset (&sa.sa_mask);
	sigaction (SIGHUP, &sa, NULL);
	prctl (PR_SET_PDEATHSIG, (long) SIGHUP, 0L, 0L, 0L);
}
