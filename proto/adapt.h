/* SPDX-License-Identifier: Apache-2.0 */
/* Records for a peer of an older major version, which lack what SPEC.md marks [2]. */
#ifndef ENDPOINT_ADAPT_H
#define ENDPOINT_ADAPT_H
#include <zmq.h>

/* In place: the message is replaced when the peer's major needs it. */
void adapt_task (zmq_msg_t *record, int major);
void adapt_result (zmq_msg_t *record, int major);

#endif
