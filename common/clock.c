/* SPDX-License-Identifier: Apache-2.0 */
#include "common/clock.h"
#include "common/ids.h"

#include <stdio.h>
#include <time.h>

static int64_t test_mono_ns = -1, test_real_ns = -1;

static int64_t read_clock (clockid_t id)
{
	struct timespec ts;

	clock_gettime (id, &ts);
	return (int64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t clock_now_ns (void)
{
	return test_mono_ns >= 0 ? test_mono_ns : read_clock (CLOCK_MONOTONIC);
}

int64_t clock_now_ms (void)
{
	return clock_now_ns () / 1000000;
}

int64_t clock_real_ns (void)
{
	return test_real_ns >= 0 ? test_real_ns : read_clock (CLOCK_REALTIME);
}

void clock_set_for_test (int64_t mono_ns, int64_t real_ns)
{
	test_mono_ns = mono_ns;
	test_real_ns = real_ns;
}

char *clock_iso (int64_t real_ns, char out[32])
{
	int64_t sec = real_ns / 1000000000, ns = real_ns % 1000000000;
	struct tm tm;
	time_t t;

	if (ns < 0) {
		ns += 1000000000;
		sec--;
	}
	t = (time_t) sec;
	gmtime_r (&t, &tm);
	/* an int64 of nanoseconds lies within the years 1677 to 2262 */
	strftime (out, 32, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf (out + 19, 13, ".%03uZ", (unsigned) (ns / 1000000) % 1000);
	return out;
}

int64_t clock_backoff_ms (unsigned attempt, int64_t base_ms, int64_t cap_ms)
{
	int64_t ms = base_ms > 0 ? base_ms : 1;
	uint64_t r;

	while (attempt-- > 0 && ms < cap_ms)
		ms = ms > cap_ms / 2 ? cap_ms : ms * 2;
	if (ms > cap_ms)
		ms = cap_ms > 0 ? cap_ms : 1;
	ids_random (&r, sizeof (r));
	return ms / 2 + (int64_t) (r % (uint64_t) ms);
}
