/* SPDX-License-Identifier: Apache-2.0 */
/* For modules of common/ that keep something per loop. */
#ifndef COMMON_LOOP_INTERNAL_H
#define COMMON_LOOP_INTERNAL_H
#include "common/loop.h"

/* Call cb in loop_destroy, latest first, while the base still exists. */
void loop_on_destroy (struct loop *l, loop_f *cb, void *arg);

#endif
