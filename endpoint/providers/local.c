/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks on this host: one process a node, started and reaped here. A block ends when the first of its nodes has ended: the others
 * are stopped, as a batch system does with a job. */
#include "common/log.h"
#include "common/spawn.h"
#include "common/xmem.h"
#include "endpoint/providers/provider.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct local_conf { int64_t nice; };

static const struct conf_key local_keys[] = {
	{ "provider.local.nice", CONF_INT, offsetof (struct local_conf, nice), "0", 0, 19, NULL, false,
	  "Niceness of managers and workers, so that they leave the machine usable for others." },
	CONF_END
};

struct block;
struct node { struct block *block; struct spawn *child; };
struct block {
	struct local *owner;
	char *id;
	struct node *nodes;
	unsigned n, alive;
	bool cancelled;
	char why[160];		/* of the first node that ended by itself */
	struct block *next;
};

struct local {
	struct provider_env env;
	struct block *blocks;
};

static void *local_create (const struct provider_env *env, struct err *err)
{
	struct local *l = xcalloc (1, sizeof (*l));

	(void) err;
	l->env = *env;
	return l;
}

static void block_free (struct block *b)
{
	free (b->id);
	free (b->nodes);
	free (b);
}

static void local_destroy (void *self)
{
	struct local *l = self;

	for (struct block *b = l->blocks, *next; b; b = next) {
		next = b->next;
		for (unsigned i = 0; i < b->n; i++)
			if (b->nodes[i].child) {
				spawn_kill (b->nodes[i].child, SIGKILL);
				spawn_forget (&b->nodes[i].child);
			}
		block_free (b);
	}
	free (l);
}

static void block_ended (struct block *b)
{
	struct local *l = b->owner;

	for (struct block **p = &l->blocks; *p; p = &(*p)->next)
		if (*p == b) {
			*p = b->next;
			break;
		}
	l->env.on_block (b->id, PROVIDER_ENDED, !b->cancelled, b->why, l->env.arg);
	block_free (b);
}

static void stop_nodes (struct block *b, int64_t grace_ms)
{
	for (unsigned i = 0; i < b->n; i++)
		if (b->nodes[i].child)
			spawn_stop (b->nodes[i].child, grace_ms);
}

static void on_exit_of_node (struct spawn *s, pid_t pid, int status, const struct rusage *ru, void *arg)
{
	struct node *n = arg;
	struct block *b = n->block;
	char text[64];

	(void) s;
	(void) ru;
	n->child = NULL;
	b->alive--;
	if (!b->cancelled && !*b->why) {
		snprintf (b->why, sizeof (b->why), "weft-manager %ld of node %u ended: %s", (long) pid, (unsigned) (n - b->nodes),
			  spawn_status_text (status, text));
		stop_nodes (b, 2000);
	}
	if (!b->alive)
		block_ended (b);
}

static int start_node (struct local *l, struct block *b, unsigned i, const struct provider_block *pb, struct err *err)
{
	const struct local_conf *conf = l->env.conf;
	char *log = xasprintf ("%s/block-%s-%u.log", pb->log_dir, pb->id, i);
	int fd = open (log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	struct spawn_fd fds[2] = { { fd, 1 }, { fd, 2 } };
	struct spawn_opts o = { .argv = pb->argv[i], .fds = fds, .nfds = 2 };
	char nice_text[16];
	const char **niced = NULL;
	size_t argc = 0;

	if (fd < 0) {
		err_errno (err, "opening %s", log);
		free (log);
		return -1;
	}
	if (conf && conf->nice) {
		/* through nice(1): a child cannot change its own before exec with posix_spawn */
		while (pb->argv[i][argc])
			argc++;
		niced = xcalloc (argc + 4, sizeof (*niced));
		snprintf (nice_text, sizeof (nice_text), "%d", (int) conf->nice);
		niced[0] = "nice";
		niced[1] = "-n";
		niced[2] = nice_text;
		memcpy (niced + 3, pb->argv[i], argc * sizeof (*niced));
		o.argv = niced;
	}
	b->nodes[i].block = b;
	b->nodes[i].child = spawn_start (l->env.loop, &o, on_exit_of_node, &b->nodes[i], err);
	free (niced);
	free (log);
	close (fd);
	return b->nodes[i].child ? 0 : -1;
}

static int local_submit (void *self, const struct provider_block *pb, struct err *err)
{
	struct local *l = self;
	struct block *b = xcalloc (1, sizeof (*b));

	b->owner = l;
	b->id = xstrdup (pb->id);
	b->n = pb->nodes;
	b->nodes = xcalloc (pb->nodes, sizeof (*b->nodes));
	for (unsigned i = 0; i < pb->nodes; i++) {
		if (start_node (l, b, i, pb, err) < 0) {
			for (unsigned k = 0; k < i; k++) {
				spawn_kill (b->nodes[k].child, SIGKILL);
				spawn_forget (&b->nodes[k].child);
			}
			block_free (b);
			return -1;
		}
		b->alive++;
	}
	b->next = l->blocks;
	l->blocks = b;
	l->env.on_block (b->id, PROVIDER_RUNNING, false, "", l->env.arg);
	return 0;
}

static void local_cancel (void *self, const char *block_id, int64_t grace_ms)
{
	struct local *l = self;

	for (struct block *b = l->blocks; b; b = b->next)
		if (strcmp (b->id, block_id) == 0) {
			b->cancelled = true;
			stop_nodes (b, grace_ms);
			return;
		}
}

static void local_describe (const void *conf, const struct provider_block *b, struct buf *out)
{
	const struct local_conf *c = conf;

	buf_printf (out, "# block of %u node(s) on this host", b->nodes);
	if (c && c->nice)
		buf_printf (out, ", niceness %d", (int) c->nice);
	buf_char (out, '\n');
	for (unsigned i = 0; i < b->nodes; i++)
		provider_render_argv (b->argv[i], out);
}

const struct provider provider_local = {
	.name = "local", .help = "processes on this host", .keys = local_keys, .conf_bytes = sizeof (struct local_conf), .local = true,
	.create = local_create, .destroy = local_destroy, .submit = local_submit, .cancel = local_cancel, .describe = local_describe,
};
