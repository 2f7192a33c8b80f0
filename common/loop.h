/* SPDX-License-Identifier: Apache-2.0 */
/* The one reactor of a process: a libevent base, signals, timers, and work deferred to the end of a burst.
 *
 * Everything on one thread. Callbacks never block. */
#ifndef COMMON_LOOP_H
#define COMMON_LOOP_H
#include <stdbool.h>
#include <stdint.h>
#include "common/err.h"

struct event_base;
struct loop;
struct loop_timer;
struct loop_defer;
typedef void loop_f (void *arg);
typedef void loop_signal_f (int signo, void *arg);

struct loop *loop_create (struct err *err);
void loop_destroy (struct loop **l);
struct event_base *loop_base (struct loop *l);			/* borrowed */
int loop_run (struct loop *l);					/* until loop_stop; 0 */
void loop_stop (struct loop *l);
int loop_signal (struct loop *l, int signo, loop_signal_f *cb, void *arg, struct err *err); /* until loop_destroy */

/* Timers: created stopped; start again replaces. One-shot unless `repeat`. Destroy inside its own callback is fine. */
struct loop_timer *loop_timer_create (struct loop *l, loop_f *cb, void *arg);
void loop_timer_start (struct loop_timer *t, int64_t after_ms, bool repeat);
void loop_timer_start_us (struct loop_timer *t, int64_t after_us, bool repeat);
void loop_timer_stop (struct loop_timer *t);
bool loop_timer_pending (const struct loop_timer *t);
void loop_timer_destroy (struct loop_timer **t);

/* A deferred call: scheduled any number of times, called once, before the loop next waits for events but after the
 * callbacks that are ready now. This is where a hop flushes the batch it gathered. */
struct loop_defer *loop_defer_create (struct loop *l, loop_f *cb, void *arg);
void loop_defer_schedule (struct loop_defer *d);
void loop_defer_destroy (struct loop_defer **d);


#endif
