/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that a burst of work needed goes back to the system when the burst is over. malloc keeps it by itself: what was freed in the middle
 * of a heap stays with the process for good.
 *
 * Looked at in each interval: one that used more than 1 % of a processor is busy, and the first quiet one after it trims. loop_run has one. */
#ifndef COMMON_TRIM_H
#define COMMON_TRIM_H
#include <stdint.h>

#define TRIM_EVERY_MS 5000

struct loop;
struct trim;

struct trim *trim_create (struct loop *l, int64_t every_ms);
void trim_destroy (struct trim **t);

#endif
