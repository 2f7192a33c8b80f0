/* SPDX-License-Identifier: Apache-2.0 */
/* Prometheus metrics, text format 0.0.4. Registered once at start; updates are cheap additions on the loop thread. */
#ifndef COMMON_METRICS_H
#define COMMON_METRICS_H
#include <stdint.h>
#include "common/buf.h"
#include "common/err.h"

struct metric;		/* lives until exit */
/* labels: "route=\"submit\"" ready made, or NULL. The same name may be registered with several label sets. */
struct metric *metrics_counter (const char *name, const char *labels, const char *help);
struct metric *metrics_gauge (const char *name, const char *labels, const char *help);
struct metric *metrics_gauge_least (const char *name, const char *labels, const char *help);	/* of several processes the least counts, not the sum */
/* Seconds, fixed log buckets 50us..60s. */
struct metric *metrics_histogram (const char *name, const char *labels, const char *help);
void metric_add (struct metric *m, int64_t n);
void metric_set (struct metric *m, double v);
void metric_observe_ns (struct metric *m, int64_t ns);
/* Look at process_resident_memory_bytes, process_cpu_seconds_total and process_open_fds again, for others to see. */
void metrics_process (void);
void metrics_render (struct buf *out);	/* with these */

/* Several processes that count together. Whoever starts them makes memory for so many at once: a descriptor to hand down, or -1. */
int metrics_area (unsigned slabs, struct err *err);
/* In each of them, after everything is registered: metrics_render now tells of all. fd is closed. What was counted in a slab by a process
 * that is gone stays counted. */
int metrics_join (int fd, unsigned slab, struct err *err);
/* The process with that slab is gone, its gauges count no more; the next one may have the slab. */
void metrics_left (int fd, unsigned slab);

#endif
