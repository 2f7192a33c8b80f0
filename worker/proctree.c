/* SPDX-License-Identifier: Apache-2.0 */
/* Scans of /proc. One scan reads a line per process of the host (or of the container): done when something is to be killed and,
 * for calls with a memory limit, each 100 ms. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/xmem.h"
#include "worker/proctree.h"

struct proc { pid_t pid, parent, session; long rss_pages; char state; bool member; };
struct scan { struct proc *v; size_t n, room; };

static int read_text (const char *path, char *out, size_t room)
{
	int fd = open (path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read (fd, out, room - 1);
	close (fd);
	if (n < 0)
		return -1;
	out[n] = 0;
	return 0;
}

static bool read_proc (const char *name, struct proc *p)
{
	char path[64], line[1024];
	const char *after;
	int parent, session;

	snprintf (path, sizeof (path), "/proc/%.20s/stat", name);
	if (read_text (path, line, sizeof (line)) < 0)
		return false;
	/* the name in parentheses may hold anything, parentheses too */
	if (!(after = strrchr (line, ')')))
		return false;
	memset (p, 0, sizeof (*p));
	if (sscanf (after + 1, " %c %d %*d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %*u %*u %ld", &p->state,
		    &parent, &session, &p->rss_pages) != 4)
		return false;
	p->pid = atoi (name);
	p->parent = parent;
	p->session = session;
	return true;
}

static void scan_take (struct scan *s)
{
	DIR *dir = opendir ("/proc");
	struct dirent *e;

	s->n = 0;
	if (!dir)
		return;
	while ((e = readdir (dir))) {
		struct proc p;

		if (!isdigit ((unsigned char) e->d_name[0]) || !read_proc (e->d_name, &p))
			continue;
		if (s->n == s->room) {
			s->room = s->room ? s->room * 2 : 256;
			s->v = xrealloc (s->v, s->room * sizeof (*s->v));
		}
		s->v[s->n++] = p;
	}
	closedir (dir);
}

static struct proc *scan_find (const struct scan *s, pid_t pid)
{
	size_t i;

	for (i = 0; i < s->n; i++)
		if (s->v[i].pid == pid)
			return &s->v[i];
	return NULL;
}

/* Marks who belongs to leader. Parents usually stand before their children; repeat until nothing changes. */
static void scan_mark (struct scan *s, pid_t leader)
{
	bool more = true;
	size_t i;

	for (i = 0; i < s->n; i++)
		s->v[i].member = s->v[i].pid == leader || s->v[i].session == leader;
	while (more) {
		more = false;
		for (i = 0; i < s->n; i++) {
			struct proc *p = &s->v[i], *parent;

			if (p->member || p->parent <= 1 || !(parent = scan_find (s, p->parent)) || !parent->member)
				continue;
			p->member = more = true;
		}
	}
}

int proctree_kill (pid_t leader)
{
	struct scan now = { NULL, 0, 0 };
	int round, killed = 0, fresh = 1;

	if (leader <= 1)
		return 0;
	for (round = 0; round < 8 && fresh; round++) {
		size_t i;

		fresh = 0;
		scan_take (&now);
		scan_mark (&now, leader);
		for (i = 0; i < now.n; i++) {
			const struct proc *p = &now.v[i];

			if (!p->member || p->pid == getpid () || p->state == 'Z' || p->state == 'X')
				continue;
			if (kill (p->pid, SIGKILL) == 0)
				fresh++;
		}
		killed = killed > fresh ? killed : fresh;
	}
	/* When /proc is not there, the group is what we know. */
	if (!killed && kill (-leader, SIGKILL) == 0)
		killed = 1;
	free (now.v);
	return killed;
}

uint64_t proctree_rss (pid_t leader)
{
	struct scan now = { NULL, 0, 0 };
	uint64_t pages = 0;
	size_t i;

	if (leader <= 1)
		return 0;
	scan_take (&now);
	scan_mark (&now, leader);
	for (i = 0; i < now.n; i++)
		if (now.v[i].member && now.v[i].rss_pages > 0)
			pages += (uint64_t) now.v[i].rss_pages;
	free (now.v);
	return pages * (uint64_t) sysconf (_SC_PAGESIZE);
}

static uint64_t counter (const char *path, const char *key)
{
	char text[16384], *p;
	size_t n = strlen (key);

	if (read_text (path, text, sizeof (text)) < 0)
		return 0;
	for (p = text; p; p = strchr (p, '\n')) {
		p += *p == '\n';
		if (strncmp (p, key, n) == 0 && p[n] == ' ')
			return strtoull (p + n, NULL, 10);
		if (!*p)
			break;
	}
	return 0;
}

/* Our cgroup's counter when it has one, else that of the host. */
uint64_t proctree_oom_kills (void)
{
	char text[4096], path[4400], *line;

	if (read_text ("/proc/self/cgroup", text, sizeof (text)) == 0)
		for (line = strtok (text, "\n"); line; line = strtok (NULL, "\n"))
			if (strncmp (line, "0::", 3) == 0) {
				snprintf (path, sizeof (path), "/sys/fs/cgroup%s/memory.events", line + 3);
				if (access (path, R_OK) == 0)
					return counter (path, "oom_kill");
			}
	return counter ("/proc/vmstat", "oom_kill");
}
