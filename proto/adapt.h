/* SPDX-License-Identifier: Apache-2.0 */
/* Records for a peer of an older major version, which lack what SPEC.md marks [2]. For who hands frames on as they came. */
#ifndef PROTO_ADAPT_H
#define PROTO_ADAPT_H
#include <zmq.h>

/* In place: the message is replaced when the peer's major needs it. */
void adapt_task (zmq_msg_t *record, int major);
void adapt_result (zmq_msg_t *record, int major);

#endif
