/* SPDX-License-Identifier: Apache-2.0 */
/* The table of runners. */
#ifndef WORKER_RUNNER_H
#define WORKER_RUNNER_H
#include "worker/runners/runner.h"

#define RUNNER_MAX 8
size_t runner_count (void);
const struct runner_ops *runner_at (size_t i);
int runner_for_kind (int kind);		/* index, -1 = none */

#endif
