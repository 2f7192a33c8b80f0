/* SPDX-License-Identifier: Apache-2.0 */
#include "common/trim.h"
#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include "common/loop.h"
#include "common/xmem.h"

struct trim {
	struct loop_timer *timer;
	int64_t quiet_ns, used_ns;	/* of processor time: what an interval may use; what was used when it began */
	bool busy;
};

/* Of all threads: those of ZeroMQ have heaps of their own. */
static int64_t processor_ns (void)
{
	struct timespec t = { 0 };

	clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &t);
	return (int64_t) t.tv_sec * 1000000000 + t.tv_nsec;
}

static void on_interval (void *arg)
{
	struct trim *t = arg;
	int64_t now = processor_ns ();

	if (now - t->used_ns > t->quiet_ns) {
		t->busy = true;
	} else if (t->busy) {
		malloc_trim (0);
		t->busy = false;
		now = processor_ns ();
	}
	t->used_ns = now;
}

struct trim *trim_create (struct loop *l, int64_t every_ms)
{
	struct trim *t = xcalloc (1, sizeof (*t));

	t->timer = loop_timer_create (l, on_interval, t);
	t->quiet_ns = every_ms * 1000000 / 100;
	t->used_ns = processor_ns ();
	loop_timer_start (t->timer, every_ms, true);
	return t;
}

void trim_destroy (struct trim **tp)
{
	struct trim *t = *tp;

	if (!t)
		return;
	*tp = NULL;
	loop_timer_destroy (&t->timer);
	free (t);
}
