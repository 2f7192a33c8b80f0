/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs that outlive an agent. While one runs on a batch system, run/ holds what the next one needs to be found by their managers, which wait
 * for it (--orphan-timeout): port, keys, blocks. `stop` cancels the jobs and removes it; a crash and `restart` leave it. */
#include "endpoint/agent_internal.h"
#include "common/digest.h"
#include "common/hex.h"
#include "common/log.h"
#include "common/xmem.h"
#include "endpoint/managers.h"
#include "endpoint/paths.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool can_leave (const struct agent *a)
{
	const struct provider *p = config_provider (a->config);

	return p->adopt && p->leave && config_over_tcp (a->config);
}

/* What a job is made from, its address and key apart: these are taken over. */
static void usable (struct agent *a, char out[65])
{
	const struct provider *p = config_provider (a->config);
	struct agent_command c = { .config = a->config, .address = "tcp://0.0.0.0:0", .endpoint_id = a->id, .dir = a->rundir.dir,
				   .server_key = "key", .key_file = a->manager_key_file, .bulk_dir = a->bulk ? bulk_dir (a->bulk) : NULL };
	char **argv = agent_argv (&c, "b0", 0, (unsigned) a->config->nodes_per_block);
	const char *const *vector = (const char *const *) argv;
	struct provider_block pb = { .id = "b0", .nodes = (unsigned) a->config->nodes_per_block, .argv = &vector, .log_dir = a->paths->logs,
				     .endpoint = a->paths->name, .identity = a->keys.public_key };
	uint8_t sum[DIGEST_SHA256_BYTES];
	struct digest_part parts[2] = { { WEFT_VERSION, strlen (WEFT_VERSION) } };
	struct buf b;

	buf_init (&b, 0);
	p->describe (config_of_provider (a->config, p), &pb, &b);
	parts[1] = (struct digest_part) { b.data, b.len };
	out[0] = 0;
	if (!buf_failed (&b) && digest_sha256 (parts, 2, sum) == 0)
		hex_text (out, sum, sizeof (sum));
	buf_fini (&b);
	for (size_t i = 0; argv[i]; i++)
		free (argv[i]);
	free (argv);
}

bool agent_takeover_begin (struct agent *a)
{
	struct err err;

	if (!can_leave (a))
		return false;
	usable (a, a->left.usable);
	if (takeover_read (a->takeover_file, &a->takeover, &err) < 0) {
		if (err.code != ERR_NOT_FOUND)
			log_err (LOG_WARN, "agent", "jobs of an earlier run cannot be taken over", &err);
		return false;
	}
	if (strcmp (a->left.usable, a->takeover.usable) != 0)
		log_info ("agent", "jobs of an earlier run are of another configuration, and not taken over", "jobs=%zu", a->takeover.n);
	else if (keys_read (&a->listen_keys, a->listen_key_file, &err) < 0 || keys_read (&a->manager_keys, a->manager_key_file, &err) < 0)
		log_err (LOG_WARN, "agent", "jobs of an earlier run cannot be taken over", &err);
	else if (a->takeover.n)
		return true;
	takeover_fini (&a->takeover);
	return false;
}

void agent_takeover_ready (struct agent *a)
{
	const char *colon = strrchr (managers_address (a->managers), ':');

	a->leaves = can_leave (a) && colon;
	if (a->leaves)
		a->left.port = atoi (colon + 1);
}

static void add (const struct takeover_block *b, void *arg)
{
	struct takeover *t = arg;

	if (t->n < TAKEOVER_BLOCKS_MAX)
		t->v[t->n++] = *b;
}

void agent_takeover_save (struct agent *a)
{
	char *text;
	struct err err;

	if (!a->leaves || !a->blocks || !a->left_stale)
		return;
	a->left_stale = false;
	a->left.number = blocks_number (a->blocks);
	free (a->left.v);
	a->left.n = 0;
	a->left.v = xcalloc (blocks_count (a->blocks) + 1, sizeof (*a->left.v));
	blocks_records (a->blocks, add, &a->left);
	if ((text = takeover_text (&a->left)) && paths_write (a->takeover_file, text, strlen (text), 0600, &err) < 0)
		log_err (LOG_WARN, "agent", "what the next run could take over cannot be written", &err);
	free (text);
}

void agent_takeover_end (struct agent *a)
{
	if (!a->leaving) {
		if (a->takeover_file)
			unlink (a->takeover_file);
		if (a->manager_key_file)
			unlink (a->manager_key_file);
		if (a->listen_key_file)
			unlink (a->listen_key_file);
	}
	free (a->takeover_file);
	free (a->manager_key_file);
	free (a->listen_key_file);
	takeover_fini (&a->takeover);
	takeover_fini (&a->left);
}
