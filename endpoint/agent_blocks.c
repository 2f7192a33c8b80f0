/* SPDX-License-Identifier: Apache-2.0 */
/* What the blocks ask of the agent, and what the agent tells its other modules of them. */
#include "endpoint/agent_internal.h"
#include "common/log.h"
#include "common/spawn.h"
#include "common/xmem.h"
#include "endpoint/managers.h"

#include <stdlib.h>
#include <unistd.h>

static char **block_argv (const char *block, unsigned node, unsigned nodes, void *arg)
{
	struct agent *a = arg;
	struct agent_command c = {
		.config = a->config, .address = a->connect, .endpoint_id = a->id, .dir = a->rundir.dir,
		.server_key = a->manager_key_file ? a->listen_keys.public_key : NULL, .key_file = a->manager_key_file,
		.parent_pid = config_provider (a->config)->local ? (long) getpid () : 0,
		.bulk_dir = a->bulk ? bulk_dir (a->bulk) : NULL, .own_dir = a->paths->dir,
	};

	return agent_argv (&c, block, node, nodes);
}

static int64_t tasks_in_hand (void *arg)
{
	struct agent *a = arg;
	struct dispatch_stats st;

	dispatch_stats (a->dispatch, &st);
	/* a task that asks for whole nodes needs as many slots as these have */
	return (int64_t) (st.waiting + st.held + st.out - dispatch_lane_tasks (a->dispatch) - st.gang_tasks
			  + st.gang_nodes * (a->node_slots ? a->node_slots : config_workers (a->config)));
}

static void images_wanted (blocks_wish_f *cb, void *cb_arg, void *arg)
{
	dispatch_images_wanted (((struct agent *) arg)->dispatch, cb, cb_arg);
}

static void image_failed (const char *image, const char *why, void *arg)
{
	dispatch_image_failed (((struct agent *) arg)->dispatch, image, why);
}

static int64_t block_idle_ms (const char *block, void *arg)
{
	return dispatch_block_idle_ms (((struct agent *) arg)->dispatch, block);
}

static void block_releasing (const char *block, void *arg)
{
	dispatch_block_releasing (((struct agent *) arg)->dispatch, block);
}

/* What a killed manager left. */
static void remove_dirs (struct agent *a, const char *block)
{
	for (unsigned i = 0; i < a->config->nodes_per_block; i++) {
		char *dir = xasprintf ("%s/%s-%u", a->rundir.dir, block, i);
		if (access (dir, F_OK) == 0)
			spawn_remove_tree (a->loop, dir);
		free (dir);
	}
}

static void block_lost (const char *block, const char *why, void *arg)
{
	struct agent *a = arg;

	dispatch_block_lost (a->dispatch, block, why);
	if (config_provider (a->config)->local && a->phase == AGENT_RUN)
		remove_dirs (a, block);
}

static unsigned block_connected (const char *block, void *arg)
{
	return dispatch_block_connected (((struct agent *) arg)->dispatch, block);
}

static unsigned nodes_wanted (void *arg)
{
	return dispatch_nodes_wanted (((struct agent *) arg)->dispatch);
}

static bool block_ending (const char *block, void *arg)
{
	return dispatch_block_ending (((struct agent *) arg)->dispatch, block);
}

static void blocks_changed (void *arg)
{
	struct agent *a = arg;
	struct blocks_stats st;
	struct buf why;

	if (!a->blocks)
		return;
	a->left_stale = true;
	blocks_stats (a->blocks, &st);
	buf_init (&why, 65536);
	blocks_why_waiting (a->blocks, &why);
	dispatch_figures (a->dispatch, st.active, st.pending, why.len ? (const char *) why.data : "");
	buf_fini (&why);
}

const struct blocks_ops agent_block_ops = {
	.argv = block_argv, .tasks = tasks_in_hand, .idle_ms = block_idle_ms, .releasing = block_releasing, .lost = block_lost,
	.connected = block_connected, .nodes_wanted = nodes_wanted, .ending = block_ending, .changed = blocks_changed, .images = images_wanted,
	.image_failed = image_failed,
};

const char *agent_block_image (const char *block, void *arg)
{
	struct agent *a = arg;

	return a->blocks ? blocks_image (a->blocks, block) : NULL;
}

void agent_tasks_waiting (void *arg)
{
	struct agent *a = arg;

	if (a->blocks)
		blocks_poke (a->blocks);
}

void agent_block_words (const char *block, struct buf *out, void *arg)
{
	struct agent *a = arg;

	if (a->blocks)
		blocks_describe (a->blocks, block, out);
	else
		buf_str (out, *block ? block : "unknown");
}

void agent_manager_up (const char *block, void *arg)
{
	struct agent *a = arg;

	uint32_t slots = 0;

	if (!a->blocks)
		return;
	blocks_manager_up (a->blocks, block);
	if (config_workers_known (a->config))
		return;
	for (struct manager *m = managers_first (a->managers); m; m = m->next)
		slots = m->node.slots > slots ? m->node.slots : slots;
	a->node_slots = slots;
	blocks_slots (a->blocks, slots);
}
