/* SPDX-License-Identifier: Apache-2.0 */
/* Prometheus metrics, text format 0.0.4. Registered once at start; updates are plain additions on the loop thread. */
#ifndef COMMON_METRICS_H
#define COMMON_METRICS_H
#include <stdint.h>
#include "common/buf.h"

struct metric;		/* lives until exit */
/* labels: "route=\"submit\"" ready made, or NULL. The same name may be registered with several label sets. */
struct metric *metrics_counter (const char *name, const char *labels, const char *help);
struct metric *metrics_gauge (const char *name, const char *labels, const char *help);
/* Seconds, fixed log buckets 50us..60s. */
struct metric *metrics_histogram (const char *name, const char *labels, const char *help);
void metric_add (struct metric *m, int64_t n);
void metric_set (struct metric *m, double v);
void metric_observe_ns (struct metric *m, int64_t ns);
void metrics_render (struct buf *out);	/* adds process_resident_memory_bytes, process_cpu_seconds_total, process_open_fds */

#endif
