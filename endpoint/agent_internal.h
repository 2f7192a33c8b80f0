/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of agent.c share; nobody else includes it. */
#ifndef ENDPOINT_AGENT_INTERNAL_H
#define ENDPOINT_AGENT_INTERNAL_H
#include "common/loop.h"
#include "endpoint/agent.h"
#include "endpoint/blocks.h"
#include "endpoint/control.h"
#include "endpoint/dispatch.h"
#include "endpoint/interpreters.h"
#include "endpoint/keys.h"
#include "endpoint/rundir.h"
#include "endpoint/service.h"
#include "endpoint/takeover.h"
#include "proto/bulk.h"

enum agent_phase { AGENT_RUN, AGENT_DRAIN, AGENT_STOP, AGENT_GIVE_UP };

struct agent {
	const struct paths *paths;
	const struct config *config;
	struct loop *loop;
	void *zctx;
	struct rundir rundir;
	struct keys keys, listen_keys, manager_keys;
	char *manager_key_file, *listen_key_file, *takeover_file, *connect;
	struct takeover takeover, left;	/* of the run before; for the next one */
	bool leaves, left_stale;	/* the next one may take jobs over; what is on disk of them is old */
	bool leaving;			/* we end, and leave them */
	struct bulk *bulk;		/* NULL: none */
	struct spool *spool;
	struct memo *memo;		/* NULL: none */
	struct dispatch *dispatch;
	struct managers *managers;
	struct blocks *blocks;
	struct upstream *upstream;
	struct service *service;
	struct pythons pythons;
	struct learning learning;
	json_t *metadata;		/* of our registration, shared with service */
	struct control *control;
	struct loop_timer *lost, *ending, *status;
	char id[ID_TEXT];
	char host[256];
	char *last_status;
	char metrics[1024];		/* the last that this session's forwarder was told; empty: none */
	int64_t metrics_due_ms;
	uint32_t node_slots;		/* of a node, as managers say; 0 = the configuration knows */
	enum agent_phase phase;
	int64_t phase_ms, drain_ms;
	bool connected, registered, refused, address_known;
	int64_t started_ns, connected_ns;
	char error[700];
	int rc;
};

/* agent.c */
void agent_set_error (struct agent *a, bool refused, const char *text);

/* agent_takeover.c */
bool agent_takeover_begin (struct agent *a);	/* the run before left something: a->takeover, and the keys */
void agent_takeover_ready (struct agent *a);	/* it is known where managers connect to */
void agent_takeover_save (struct agent *a);
void agent_takeover_end (struct agent *a);

/* agent_session.c: what service and timers call */
void agent_registered (const struct id *id, void *agent);
void agent_forwarder (const char *address, const char *key, int64_t heartbeat_ms, void *agent);
void agent_failed (const struct err *err, bool refused, void *agent);
void agent_on_lost (void *agent);

/* agent_blocks.c: what blocks and dispatch call */
extern const struct blocks_ops agent_block_ops;
void agent_tasks_waiting (void *agent);
void agent_manager_up (const char *block, void *agent);
void agent_block_words (const char *block, struct buf *out, void *agent);
const char *agent_block_image (const char *block, void *agent);

#endif
