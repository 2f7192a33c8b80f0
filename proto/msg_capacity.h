/* SPDX-License-Identifier: Apache-2.0 */
/* CAPACITY, DRAIN, CONTAINER_STATE, IMAGE, METRICS: SPEC.md, section 3.3. */
#ifndef PROTO_MSG_CAPACITY_H
#define PROTO_MSG_CAPACITY_H
#include "proto/wire.h"

#define MSG_TIME_UNLIMITED 0xffffffffu
struct msg_capacity {
	uint32_t window_tasks;
	uint64_t window_bytes;
	uint32_t slots, free_slots, queued, running, managers, blocks, pending_blocks, time_left_s;
	uint64_t tasks_done;
	struct wire_str text;	/* why tasks wait for nodes; borrowed */
};
struct msg_drain { bool start; uint32_t grace_ms; };
struct msg_container_state { uint8_t state; struct id id; uint16_t code; struct wire_str image, text, digest; };
/* A question has only the function. `image` is what RESULT names; zero with an empty digest: it cannot be told. */
struct msg_image { struct id function, image; uint32_t valid_ms; struct wire_str digest; };
struct msg_metrics { struct wire_str json; };

void msg_capacity_encode (struct buf *b, const struct msg_capacity *m);
int msg_capacity_decode (struct msg_capacity *m, const void *p, size_t n, struct err *err);
void msg_drain_encode (struct buf *b, const struct msg_drain *m);
int msg_drain_decode (struct msg_drain *m, const void *p, size_t n, struct err *err);
void msg_container_state_encode (struct buf *b, const struct msg_container_state *m);
int msg_container_state_decode (struct msg_container_state *m, const void *p, size_t n, struct err *err);
void msg_image_encode (struct buf *b, const struct msg_image *m);
int msg_image_decode (struct msg_image *m, const void *p, size_t n, struct err *err);
void msg_metrics_encode (struct buf *b, const struct msg_metrics *m);
int msg_metrics_decode (struct msg_metrics *m, const void *p, size_t n, struct err *err);

#endif
