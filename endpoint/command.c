/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of weft-manager on a node. */
#include "common/xmem.h"
#include "endpoint/agent.h"
#include "endpoint/containers.h"
#include "endpoint/files.h"
#include "endpoint/interpreters.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ARGS_MAX = 112 };
struct args { char **v; size_t n; };

static void add (struct args *a, const char *opt, const char *fmt, ...) __attribute__ ((format (printf, 3, 4)));

static void add (struct args *a, const char *opt, const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start (ap, fmt);
	if (vasprintf (&text, fmt, ap) < 0)	/* whole: a list of permitted images that is cut would permit others */
		abort ();
	va_end (ap);
	a->v[a->n++] = xstrdup (opt);
	a->v[a->n++] = text;
}

static void add_containers (struct args *a, const struct config *cf)
{
	char *runtimes = containers_list (&cf->container_runtimes), *images = containers_list (&cf->container_images);

	add (a, "--containers", "%s", runtimes);
	if (*images)
		add (a, "--container-images", "%s", images);
	if (cf->container_allow_network)
		add (a, "--container-network", "%s", cf->container_network);
	if (!cf->container_pull)
		a->v[a->n++] = xstrdup ("--container-no-pull");
	if (cf->max_containers)
		add (a, "--max-containers", "%" PRId64, cf->max_containers);
	add (a, "--container-cpus", "%" PRId64, (int64_t) (cf->container_cpus * 1000));
	add (a, "--container-pids", "%" PRId64, cf->container_pids);
	add (a, "--container-memory", "%" PRId64, cf->container_memory_bytes);
	add (a, "--container-max-memory", "%" PRId64, cf->container_max_memory_bytes);
	add (a, "--container-warm", "%" PRId64 "ms", cf->container_warm_ms);
	add (a, "--container-start", "%" PRId64 "ms", cf->container_start_ms);
	add (a, "--container-pull", "%" PRId64 "ms", cf->container_pull_ms);
	add (a, "--container-recheck", "%" PRId64 "ms", cf->container_recheck_ms);
	if (cf->container_bundle)
		add (a, "--bundle", "%s", cf->container_bundle);
	free (runtimes);
	free (images);
}

static void add_python (struct args *a, const struct config *cf)
{
	struct pythons p;
	char *text;

	if (interpreters_read (cf, &p, NULL) < 0)
		return;
	text = pythons_text (&p);
	add (a, "--python", "%s", text);
	free (text);
	pythons_fini (&p);
}

static void add_files (struct args *a, const struct agent_command *c)
{
	const struct config *cf = c->config;
	char *dir = files_cache_dir (cf, c->own_dir);

	add (a, "--files-cache", "%" PRId64, cf->files_cache_bytes);
	if (dir)
		add (a, "--files-dir", "%s", dir);
	free (dir);
	add (a, "--files-max", "%" PRId64, cf->files_max_bytes);
	add (a, "--files-timeout", "%" PRId64 "ms", cf->files_timeout_ms);
	add (a, "--files-parallel", "%" PRId64, cf->files_parallel);
	if (!cf->files_http)
		a->v[a->n++] = xstrdup ("--files-https-only");
	if (cf->files_ca_file && *cf->files_ca_file)
		add (a, "--files-ca", "%s", cf->files_ca_file);
	if (cf->files_output_dir && *cf->files_output_dir) {
		add (a, "--files-output", "%s", cf->files_output_dir);
		add (a, "--files-output-max", "%" PRId64, cf->files_output_max_bytes);
		add (a, "--files-output-total", "%" PRId64, cf->files_output_total_bytes);
		add (a, "--files-output-free", "%" PRId64, cf->files_output_free_bytes);
	}
	for (size_t i = 0; i < cf->files_directories.n; i++)
		add (a, "--files-from", "%s", cf->files_directories.v[i]);
}

char **agent_argv (const struct agent_command *c, const char *block, unsigned node, unsigned nodes)
{
	static const char *const levels[] = { "debug", "info", "warn", "error" };
	const struct config *cf = c->config;
	struct args a = { xcalloc (ARGS_MAX + 2 * cf->files_directories.n + 1, sizeof (*a.v)), 0 };
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
	add_python (&a, cf);
	add (&a, "--retries-on-kill", "%" PRId64, cf->retries_on_kill);
	add (&a, "--heartbeat-ms", "%" PRId64, cf->heartbeat_ms);
	add (&a, "--threshold-ms", "%" PRId64, cf->threshold_ms);
	add (&a, "--log-level", "%s", levels[cf->log_level]);
	if (cf->container_runtimes.n)
		add_containers (&a, cf);
	if (c->bulk_dir)
		add (&a, "--bulk-dir", "%s", c->bulk_dir);
	if (cf->files_cache_bytes)
		add_files (&a, c);
	free (worker);
	return a.v;
}
