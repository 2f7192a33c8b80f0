/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of weft-manager on a node. */
#include "common/xmem.h"
#include "endpoint/agent.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ARGS_MAX = 48 };
struct args { char **v; size_t n; };

static void add (struct args *a, const char *opt, const char *fmt, ...) __attribute__ ((format (printf, 3, 4)));

static void add (struct args *a, const char *opt, const char *fmt, ...)
{
	char text[4200];
	va_list ap;

	va_start (ap, fmt);
	vsnprintf (text, sizeof (text), fmt, ap);
	va_end (ap);
	a->v[a->n++] = xstrdup (opt);
	a->v[a->n++] = xstrdup (text);
}

char **agent_argv (const struct agent_command *c, const char *block, unsigned node, unsigned nodes)
{
	static const char *const levels[] = { "debug", "info", "warn", "error" };
	struct args a = { xcalloc (ARGS_MAX + 1, sizeof (*a.v)), 0 };
	const struct config *cf = c->config;
	char host[256] = "localhost";
	bool local = config_provider (cf)->local;
	char *worker = paths_program (cf->worker_bin, "weft-worker");

	gethostname (host, sizeof (host) - 1);
	a.v[a.n++] = paths_program (cf->manager_bin, "weft-manager");
	add (&a, "--connect", "%s", c->address);
	add (&a, "--endpoint-id", "%s", c->endpoint_id);
	add (&a, "--block", "%s", block);
	if (local && nodes > 1)
		add (&a, "--node", "%s-%u", host, node);
	else if (local)
		add (&a, "--node", "%s", host);
	/* elsewhere the node knows its name, its processors and its own disk, and the script how much time is left */
	if (config_workers_known (cf))
		add (&a, "--workers", "%u", config_workers (cf));
	if (local)
		add (&a, "--dir", "%s/%s-%u", c->dir, block, node);
	if (c->parent_pid)
		add (&a, "--parent-pid", "%ld", c->parent_pid);
	if (c->server_key) {
		add (&a, "--server-key", "%s", c->server_key);
		add (&a, "--key-file", "%s", c->key_file);
	}
	add (&a, "--worker-bin", "%s", worker);
	add (&a, "--python", "%s", cf->python);
	add (&a, "--retries-on-kill", "%" PRId64, cf->retries_on_kill);
	add (&a, "--heartbeat-ms", "%" PRId64, cf->heartbeat_ms);
	add (&a, "--threshold-ms", "%" PRId64, cf->threshold_ms);
	add (&a, "--log-level", "%s", levels[cf->log_level]);
	free (worker);
	return a.v;
}
