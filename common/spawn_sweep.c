/* SPDX-License-Identifier: Apache-2.0 */
/* Killing strays until there are none. A stray's children become ours when it dies, which may take it a while: one look is not
 * enough, nor is the first that finds nobody. */
#include "common/log.h"
#include "common/spawn.h"
#include "common/xmem.h"

#include <stdlib.h>
#include <time.h>

enum {
	LOOK_MS = 20, QUIET = 3, LOOKS_MAX = 100,	/* not for ever: one that became another user cannot be killed */
	WAIT_LOOK_MS = 5,
};

struct spawn_sweep {
	struct loop_timer *timer;
	unsigned looks, quiet;
};

static void look (void *arg)
{
	struct spawn_sweep *s = arg;
	int killed = spawn_kill_strays ();

	if (killed > 0)
		log_info ("spawn", "killed processes that outlived what started them", "count=%d", killed);
	s->quiet = killed > 0 ? 0 : s->quiet + 1;
	if (s->quiet < QUIET && ++s->looks < LOOKS_MAX)
		loop_timer_start (s->timer, LOOK_MS, false);
}

struct spawn_sweep *spawn_sweep_create (struct loop *l)
{
	struct spawn_sweep *s = xcalloc (1, sizeof (*s));

	s->timer = loop_timer_create (l, look, s);
	return s;
}

void spawn_sweep_start (struct spawn_sweep *s)
{
	s->looks = s->quiet = 0;
	look (s);
}

void spawn_sweep_destroy (struct spawn_sweep **sp)
{
	if (!*sp)
		return;
	loop_timer_destroy (&(*sp)->timer);
	free (*sp);
	*sp = NULL;
}

void spawn_sweep_wait (int64_t ms)
{
	const struct timespec pause = { 0, WAIT_LOOK_MS * 1000000L };
	int64_t left;
	int quiet = 0;

	for (left = ms; left > 0 && quiet < QUIET; left -= WAIT_LOOK_MS) {
		bool dying = spawn_stopping ();		/* before the look: who dies after it is seen by the next one */

		quiet = spawn_kill_strays () > 0 || dying ? 0 : quiet + 1;
		if (quiet < QUIET)
			nanosleep (&pause, NULL);
	}
}
