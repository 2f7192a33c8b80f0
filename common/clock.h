/* SPDX-License-Identifier: Apache-2.0 */
/* Time. Deadlines use the monotonic clock, stamps use real time; tests may set both. */
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H
#include <stddef.h>
#include <stdint.h>

int64_t clock_now_ms (void);		/* monotonic, for deadlines */
int64_t clock_now_ns (void);		/* monotonic */
int64_t clock_real_ns (void);		/* since 1970, UTC: the stamps of tasks */
/* "2031-05-02T10:11:12.345Z"; out has room for 32 bytes. Returns out. */
char *clock_iso (int64_t real_ns, char out[32]);
/* Tests: from now on the clocks return these; -1 gives back the real ones. */
void clock_set_for_test (int64_t mono_ns, int64_t real_ns);
/* A pause in [base/2, base*3/2) ms that doubles with `attempt` from base up to cap: for reconnects and restarts. */
int64_t clock_backoff_ms (unsigned attempt, int64_t base_ms, int64_t cap_ms);

#endif
