/* SPDX-License-Identifier: Apache-2.0 */
#include "service/resources.h"
#include <string.h>

#define KEY "resource_specification"
#define PRIORITY_MAX 1e15

/* Two of the three say the third: nodes * per_node = ranks. False: they do not. */
static bool complete (struct check *k, int64_t *nodes, int64_t *per_node, int64_t ranks)
{
	if (!*nodes && *per_node && ranks)
		*nodes = ranks / *per_node;
	else if (!*nodes)
		check_problem (k, KEY, -1, "value_error.missing", "'num_nodes' is needed, or 'num_ranks' with 'ranks_per_node'");
	if (*nodes && !*per_node)
		*per_node = ranks ? ranks / *nodes : 1;
	if (check_ok (k) && (!*nodes || !*per_node || (ranks && ranks != *nodes * *per_node)))
		check_problem (k, KEY, -1, "value_error.number", "'num_ranks' must be 'num_nodes' times 'ranks_per_node'");
	if (check_ok (k) && (*nodes > RESOURCES_NODES_MAX || *per_node > RESOURCES_RANKS_MAX))
		check_problem (k, KEY, -1, "value_error.number", "at most %d nodes with %d ranks each can be had", RESOURCES_NODES_MAX, RESOURCES_RANKS_MAX);
	return check_ok (k);
}

unsigned resources_read (struct check *k, const json_t *body, struct buf *record)
{
	static const char *const keys[] = { "num_nodes", "ranks_per_node", "num_ranks", "launcher_options", "priority", NULL };
	json_t *o = check_object (k, body, KEY, false);
	int64_t nodes, per_node, ranks;
	struct msg_resources m;
	const char *options;
	size_t n = 0;

	if (!json_object_size (o))
		return 0;
	check_known (k, o, KEY, keys);
	/* Globus Compute's engine for single-node tasks takes this member, and no other. Tasks here run in the order in which they come. */
	check_number (k, o, "priority", -PRIORITY_MAX, PRIORITY_MAX, 0);
	if (json_object_size (o) == 1 && json_object_get (o, "priority"))
		return 0;
	nodes = check_int (k, o, "num_nodes", 1, RESOURCES_NODES_MAX, 0);
	per_node = check_int (k, o, "ranks_per_node", 1, RESOURCES_RANKS_MAX, 0);
	ranks = check_int (k, o, "num_ranks", 1, (int64_t) RESOURCES_NODES_MAX * RESOURCES_RANKS_MAX, 0);
	options = check_string (k, o, "launcher_options", false, RESOURCES_OPTIONS_MAX, NULL);
	if (!check_ok (k) || !complete (k, &nodes, &per_node, ranks))
		return 0;
	n = options ? strlen (options) : 0;
	m = (struct msg_resources) { .nodes = (uint16_t) nodes, .ranks_per_node = (uint32_t) per_node, .options = wire_str (options, n) };
	msg_resources_encode (record, &m);
	return m.nodes;
}
