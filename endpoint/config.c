/* SPDX-License-Identifier: Apache-2.0 */
/* See config.h. The providers' structs stand behind struct config in one allocation; the rows get their offsets moved. */
#include "endpoint/config.h"
#include "common/xmem.h"
#include "endpoint/containers.h"
#include "endpoint/files.h"
#include "endpoint/interpreters.h"
#include "endpoint/mpi.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT(f) offsetof (struct config, f)
#define MIN_MS 60000LL
#define MIB (1LL << 20)
#define GIB (1LL << 30)

static const struct conf_key own[] = {
	{ "display_name", CONF_STRING, AT (display_name), NULL, 0, 128, NULL, false,
	  "Name that the service shows; the endpoint's name when not set." },
	{ "workers_per_node", CONF_INT, AT (workers_per_node), "0", 0, 4096, NULL, false,
	  "Tasks that one node runs at once; 0 = the number of its cores." },
	{ "routing", CONF_ENUM, AT (routing), "pack", 0, 0, "pack spread random", false,
	  "pack fills one node before the next, so that idle blocks can be released; spread uses all evenly. Either prefers a node that has the "
	  "function's container warm; random draws lots, whatever is warm: to compare with." },
	{ "mpi_launcher", CONF_ENUM, AT (mpi_launcher), "none", 0, 0, MPI_CHOICES, false,
	  "What starts a program on several nodes, where it is installed: then tasks may ask for whole nodes of a block (resource_specification of "
	  "Globus Compute), and find the beginning of its command line in PARSL_MPI_PREFIX. mpiexec is that of MPICH and its kin, openmpi the one of "
	  "Open MPI. none: no task may." },
	{ "retries_on_loss", CONF_INT, AT (retries_on_loss), "5", 0, 100, NULL, false,
	  "How often a task is queued again when the manager that had it was lost." },
	{ "retries_on_kill", CONF_INT, AT (retries_on_kill), "0", 0, 100, NULL, false,
	  "How often a manager runs a task again when its worker was killed while it ran." },
	{ "allowed_functions", CONF_STRING_LIST, AT (allowed_functions), NULL, 0, 0, NULL, false,
	  "Ids of the only functions that may run here; the endpoint checks it itself. Not set: any." },
	{ "python", CONF_STRING_OR_MAP, AT (python), "python3", 0, 1000, NULL, false,
	  "Interpreter that runs Python functions, a path or a name on PATH; 3.6 or newer. Or several by version, as "
	  "{\"3.11\": /usr/bin/python3.11, \"3.9\": /opt/py39/bin/python}: a function runs with the version that it was made with, else with the first." },
	{ "worker_bin", CONF_PATH, AT (worker_bin), NULL, 0, 0, NULL, false,
	  "The weft-worker program; found beside weft-endpoint or on PATH when not set." },
	{ "manager_bin", CONF_PATH, AT (manager_bin), NULL, 0, 0, NULL, false,
	  "The weft-manager program; found beside weft-endpoint or on PATH when not set." },
	{ "manager_transport", CONF_ENUM, AT (manager_transport), "auto", 0, 0, "auto ipc tcp", false,
	  "How managers reach the agent: a socket in a private directory of this host, or TCP with keys made at each start. "
	  "auto: the socket when the provider's nodes are this host, else TCP." },
	{ "manager_address", CONF_STRING, AT (manager_address), NULL, 0, 1000, NULL, false,
	  "With TCP: the address of this host that nodes reach, a number or a name; several with blanks between. "
	  "Not set: all that this host has are offered, and each node takes the first that answers." },
	{ "manager_port", CONF_INT, AT (manager_port), "0", 0, 65535, NULL, false,
	  "With TCP: the port to listen on, where a firewall lets only some through; 0 = any." },
	{ "service.url", CONF_STRING, AT (service_url), NULL, 0, 1024, NULL, false,
	  "Address of weft-service; WEFT_URL, else http://127.0.0.1:5000, when not set." },
	{ "service.token_file", CONF_SECRET_FILE, AT (service_token_file), NULL, 0, 0, NULL, false,
	  "File with the token of the endpoint's owner; WEFT_TOKEN when not set." },
	{ "service.ca_file", CONF_PATH, AT (service_ca_file), NULL, 0, 0, NULL, false,
	  "Certificates that sign the service's own, PEM; the system's when not set." },
	{ "service.forwarder_address", CONF_STRING, AT (forwarder_address), NULL, 0, 255, NULL, false,
	  "tcp://HOST:PORT to dial instead of the address that the service names, for tunnels and NAT." },
	{ "containers.runtimes", CONF_STRING_LIST, AT (container_runtimes), NULL, 0, 0, NULL, false,
	  "Container runtimes that functions may use: docker, podman, apptainer, singularity, charliecloud, shifter. Not set: none; "
	  "on Kubernetes the function's image is then that of a pod." },
	{ "containers.images", CONF_STRING_LIST, AT (container_images), NULL, 0, 0, NULL, false,
	  "Patterns of the only images that may run, as registry.example.org/* or /images/*.sif. Not set: any." },
	{ "containers.pull", CONF_BOOL, AT (container_pull), "true", 0, 0, NULL, false,
	  "Get images that are not on the node; false: only those that are." },
	{ "containers.allow_network", CONF_BOOL, AT (container_allow_network), "false", 0, 0, NULL, false,
	  "Functions that ask for a network in their registration get one; the others never do." },
	{ "containers.network", CONF_STRING, AT (container_network), "bridge", 0, 255, NULL, false,
	  "The network they get, by the runtime's name for it: bridge, host, or one that you made." },
	{ "containers.max_containers", CONF_INT, AT (max_containers), "0", 0, 4096, NULL, false,
	  "Containers on a node at once, warm ones included; 0 = as many as workers_per_node." },
	{ "containers.warm", CONF_DURATION_MS, AT (container_warm_ms), "5m", 1000, 7 * 24 * 60 * MIN_MS, NULL, false,
	  "An idle container is kept for so long, unless the function says otherwise (warm_seconds) or another image needs its place." },
	{ "containers.memory", CONF_SIZE, AT (container_memory_bytes), "1GiB", 0, 1024 * 1024 * GIB, NULL, false,
	  "Memory of a container whose function does not say how much; 0 = no limit." },
	{ "containers.max_memory", CONF_SIZE, AT (container_max_memory_bytes), "0", 0, 1024 * 1024 * GIB, NULL, false,
	  "Most that a function may ask for; 0 = no bound." },
	{ "containers.cpus", CONF_DOUBLE, AT (container_cpus), "1", 0, 4096, NULL, false,
	  "CPUs of a container whose function does not say; 0 = all." },
	{ "containers.pids", CONF_INT, AT (container_pids), "256", 0, 65536, NULL, false,
	  "Processes and threads of a container whose function does not say; 0 = no limit." },
	{ "containers.start_timeout", CONF_DURATION_MS, AT (container_start_ms), "60s", 1000, 60 * MIN_MS, NULL, false,
	  "A container whose worker does not report for so long is given up." },
	{ "containers.pull_timeout", CONF_DURATION_MS, AT (container_pull_ms), "10m", 1000, 24 * 60 * MIN_MS, NULL, false,
	  "Getting an image may take so long." },
	{ "containers.recheck", CONF_DURATION_MS, AT (container_recheck_ms), "1s", 1, 24 * 60 * MIN_MS, NULL, false,
	  "A tag may be moved to another image: it is looked up anew after so long before an earlier result answers a call, and each ten "
	  "times as long while other functions use it. Containers of the image before are then replaced." },
	{ "containers.bundle", CONF_PATH, AT (container_bundle), NULL, 0, 0, NULL, false,
	  "The worker's bundle that is mounted into containers; found as installed when not set." },
	{ "provider.type", CONF_ENUM, AT (provider_type), "local", 0, 0, PROVIDER_CHOICES, false,
	  "Where blocks of nodes come from." },
	{ "scaling.init_blocks", CONF_INT, AT (init_blocks), "1", 0, 10000, NULL, false,
	  "Blocks that are started with the endpoint." },
	{ "scaling.min_blocks", CONF_INT, AT (min_blocks), "0", 0, 10000, NULL, false,
	  "Blocks that are kept when there is nothing to do." },
	{ "scaling.max_blocks", CONF_INT, AT (max_blocks), "1", 1, 10000, NULL, false,
	  "Blocks at most." },
	{ "scaling.nodes_per_block", CONF_INT, AT (nodes_per_block), "1", 1, 10000, NULL, false,
	  "Nodes of one block." },
	{ "scaling.parallelism", CONF_DOUBLE, AT (parallelism), "1.0", 0, 1, NULL, false,
	  "Slots wanted for each task in hand: 1 = one slot a task, 0 = a single block for any number." },
	{ "scaling.idle_timeout", CONF_DURATION_MS, AT (idle_timeout_ms), "2m", 0, 30 * 24 * 60 * MIN_MS, NULL, false,
	  "A block without work for this long is given back." },
	{ "scaling.period", CONF_DURATION_MS, AT (period_ms), "1s", 50, 10 * MIN_MS, NULL, false,
	  "How often scaling is thought about." },
	{ "scaling.max_failures_per_hour", CONF_INT, AT (max_failures_per_hour), "30", 1, 100000, NULL, false,
	  "Blocks that may fail in an hour before no more are started until some of it has passed." },
	{ "scaling.connect_timeout", CONF_DURATION_MS, AT (connect_timeout_ms), "2m", 1000, 60 * MIN_MS, NULL, false,
	  "A running block whose managers have not connected for this long is given up; one that lacks some of them, when tasks wait for more nodes than "
	  "it has." },
	{ "scaling.stop_grace", CONF_DURATION_MS, AT (stop_grace_ms), "5s", 0, 10 * MIN_MS, NULL, false,
	  "Time that managers get to end by themselves before they are killed." },
	{ "queue.max_tasks", CONF_INT, AT (queue_max_tasks), "65536", 1, 10000000, NULL, false,
	  "Tasks taken in hand at most; the others wait at the service." },
	{ "queue.max_bytes", CONF_SIZE, AT (queue_max_bytes), "512MiB", MIB, 1024 * GIB, NULL, false,
	  "Payloads taken in hand at most, in bytes." },
	{ "spool.segment_bytes", CONF_SIZE, AT (spool_segment_bytes), "16MiB", 65536, GIB, NULL, false,
	  "Size of one file of the result spool." },
	{ "spool.memory_bytes", CONF_SIZE, AT (spool_memory_bytes), "64MiB", 0, 64 * GIB, NULL, false,
	  "Results kept in memory until the forwarder has them; beyond it they are read back from disk." },
	{ "spool.max_bytes", CONF_SIZE, AT (spool_max_bytes), "16GiB", MIB, 1024 * GIB, NULL, false,
	  "Disk space of the spool at most." },
	{ "spool.max_unspooled_bytes", CONF_SIZE, AT (spool_max_unspooled_bytes), "256MiB", 0, 64 * GIB, NULL, false,
	  "When this much cannot be written (disk full), no more tasks are taken until it can." },
	{ "spool.fsync", CONF_ENUM, AT (spool_fsync), "never", 0, 0, "never interval", false,
	  "never: results survive a crash of the agent; interval: synced each second, with what they refer to in the bulk store, so that most survive "
	  "one of the host." },
	{ "memo.max_bytes", CONF_SIZE, AT (memo_max_bytes), "128MiB", 0, 1024 * GIB, NULL, false,
	  "Disk space for results that are kept to answer equal calls of functions that ask for it (memoize); the least recently used go "
	  "first. 0: no results are kept." },
	{ "memo.max_age", CONF_DURATION_MS, AT (memo_max_age_ms), "7d", 0, 3650 * 24 * 60 * MIN_MS, NULL, false,
	  "How old such a result may be; 0 = as old as it gets." },
	{ "bulk.dir", CONF_PATH, AT (bulk_dir), NULL, 0, 0, NULL, false,
	  "The bulk store of the service, when it is on this host and runs as the same user: large payloads and results then are not "
	  "copied from process to process, and the session with the forwarder goes over a Unix socket instead of TCP with CURVE. Not set: they travel "
	  "in messages, over TCP." },
	{ "files.cache_bytes", CONF_SIZE, AT (files_cache_bytes), "10GiB", 0, 1024 * 1024 * GIB, NULL, false,
	  "Files that tasks name by URL are kept on each node, at most so much of them; the least recently used leave first. 0: this endpoint "
	  "brings no files." },
	{ "files.cache_dir", CONF_PATH, AT (files_cache_dir), NULL, 0, 0, NULL, false,
	  "Where they are kept, best on a disk of the node's own; managers of one node share it. Not set: with provider local in the endpoint's "
	  "directory, else weft-files-UID under TMPDIR or /tmp." },
	{ "files.max_bytes", CONF_SIZE, AT (files_max_bytes), "4GiB", 1, 1024 * 1024 * GIB, NULL, false,
	  "Largest such file." },
	{ "files.http", CONF_BOOL, AT (files_http), "true", 0, 0, NULL, false,
	  "Take http:// URLs too; false: only https://, whose server proves who it is." },
	{ "files.directories", CONF_STRING_LIST, AT (files_directories), NULL, 0, 0, NULL, false,
	  "Directories of the nodes from which file:// URLs may be taken, all below them included, symbolic links not. Not set: none." },
	{ "files.timeout", CONF_DURATION_MS, AT (files_timeout_ms), "30m", 1000, 7 * 24 * 60 * MIN_MS, NULL, false,
	  "Bringing one file may take so long, tries included." },
	{ "files.parallel", CONF_INT, AT (files_parallel), "4", 1, 32, NULL, false,
	  "Files that a node brings at once." },
	{ "files.ca_file", CONF_PATH, AT (files_ca_file), NULL, 0, 0, NULL, false,
	  "Certificates, PEM, that sign those of the servers; the system's when not set." },
	{ "files.output_dir", CONF_PATH, AT (files_output_dir), NULL, 0, 0, NULL, false,
	  "A directory of the nodes in which tasks may leave files that they make, below it in one per task, instead of sending them back. Nothing is "
	  "ever removed there. Not set: they may not." },
	{ "files.output_max_bytes", CONF_SIZE, AT (files_output_max_bytes), "10GiB", 1, 1024 * 1024 * GIB, NULL, false,
	  "What one task may leave there, all its files together." },
	{ "files.output_total_bytes", CONF_SIZE, AT (files_output_total_bytes), "0", 0, 1024 * 1024 * GIB, NULL, false,
	  "What all tasks may leave there together, those of this user's other endpoints in the same directory included. At it tasks that leave files "
	  "fail, until old ones are removed. 0: no bound but the next." },
	{ "files.output_free_bytes", CONF_SIZE, AT (files_output_free_bytes), "1GiB", 0, 1024 * 1024 * GIB, NULL, false,
	  "So much of its file system is left free: tasks whose files would take more fail. 0: it may be filled." },
	{ "heartbeat.interval", CONF_DURATION_MS, AT (heartbeat_ms), "2s", 50, 5 * MIN_MS, NULL, false,
	  "Between heartbeats of agent and managers; the forwarder sets its own." },
	{ "heartbeat.threshold", CONF_DURATION_MS, AT (threshold_ms), "10s", 200, 60 * MIN_MS, NULL, false,
	  "Silence after which a manager counts as lost." },
	{ "log.level", CONF_ENUM, AT (log_level), "info", 0, 0, "debug info warn error", false,
	  "The least severe lines that are logged." },
	{ "limits.payload_bytes", CONF_SIZE, AT (max_payload_bytes), "10MiB", 1024, 128 * MIB, NULL, false,
	  "Largest payload of a task." },
	{ "limits.result_bytes", CONF_SIZE, AT (max_result_bytes), "10MiB", 1024, 128 * MIB, NULL, false,
	  "Largest result of a task." },
	{ "limits.function_cache_bytes", CONF_SIZE, AT (function_cache_bytes), "512MiB", MIB, 64 * GIB, NULL, false,
	  "Function bodies kept in memory." },
	CONF_END
};

static struct conf_key *merged;
static size_t total_bytes;

static size_t align16 (size_t n)
{
	return (n + 15) & ~(size_t) 15;
}

static size_t count (const struct conf_key *k)
{
	size_t n = 0;

	while (k && k[n].key)
		n++;
	return n;
}

const struct conf_key *config_table (void)
{
	size_t n = count (own), at = align16 (sizeof (struct config));

	if (merged)
		return merged;
	merged = xcalloc (n + 1, sizeof (*merged));
	memcpy (merged, own, n * sizeof (*merged));
	for (size_t i = 0; providers[i]; i++) {
		size_t more = count (providers[i]->keys);
		merged = xrealloc (merged, (n + more + 1) * sizeof (*merged));
		for (size_t k = 0; k < more; k++) {
			merged[n] = providers[i]->keys[k];
			merged[n++].offset += at;
		}
		at += align16 (providers[i]->conf_bytes);
	}
	memset (&merged[n], 0, sizeof (*merged));
	total_bytes = at;
	return merged;
}

static int check_url (const char *url, struct err *err)
{
	CURLU *u = curl_url ();
	char *scheme = NULL;
	bool good = u && !curl_url_set (u, CURLUPART_URL, url, 0) && !curl_url_get (u, CURLUPART_SCHEME, &scheme, 0) &&
		    (strcmp (scheme, "http") == 0 || strcmp (scheme, "https") == 0);

	curl_free (scheme);
	curl_url_cleanup (u);
	return good ? 0 : err_set (err, ERR_INVALID, FAULT_USER, "service.url (or WEFT_URL): '%.200s' is not http://HOST or https://HOST", url);
}

static int check_containers (const struct config *c, struct err *err)
{
	for (size_t i = 0; i < c->container_runtimes.n; i++) {
		const char *name = c->container_runtimes.v[i];

		if (!containers_known (name))
			return err_set (err, ERR_INVALID, FAULT_USER, "containers.runtimes: '%.40s' is none of " CONTAINERS_NAMES, name);
		if (strcmp (name, "shifter") == 0 && !c->container_allow_network)
			return err_set (err, ERR_INVALID, FAULT_USER, "containers.runtimes: shifter cannot take the network away from functions: "
					"set containers.allow_network, or do without it");
	}
	char *images = containers_list (&c->container_images);
	size_t n = strlen (images);

	free (images);
	if (n > 4000)
		return err_set (err, ERR_INVALID, FAULT_USER, "containers.images: %zu characters in all, at most 4000 are allowed", n);
	for (size_t i = 0; i < c->container_images.n; i++)
		if (!*c->container_images.v[i] || strpbrk (c->container_images.v[i], ", \t"))
			return err_set (err, ERR_INVALID, FAULT_USER, "containers.images: '%.80s': a pattern has no comma and no space",
					c->container_images.v[i]);
	return 0;
}

static int check_python (const struct config *c, struct err *err)
{
	struct pythons p;
	char *text;
	size_t n;

	if (interpreters_read (c, &p, err) < 0) {
		err_prefix (err, "python");
		return -1;
	}
	text = pythons_text (&p);
	n = strlen (text);
	free (text);
	pythons_fini (&p);
	return n > 4000 ? err_set (err, ERR_INVALID, FAULT_USER, "python: %zu characters in all, at most 4000 are allowed", n) : 0;
}

static int check (const struct config *c, struct err *err)
{
	if (c->min_blocks > c->max_blocks)
		return err_set (err, ERR_INVALID, FAULT_USER, "scaling.min_blocks is larger than scaling.max_blocks");
	if (c->memo_max_bytes && c->memo_max_bytes < MIB)
		return err_set (err, ERR_INVALID, FAULT_USER, "memo.max_bytes must be 0 or at least 1MiB");
	if (c->threshold_ms < 2 * c->heartbeat_ms)
		return err_set (err, ERR_INVALID, FAULT_USER, "heartbeat.threshold must be at least twice heartbeat.interval");
	/* dryrun has no nodes: whoever tries something out on this host may start managers by hand */
	if (c->manager_transport == CONFIG_IPC && !config_provider (c)->local && config_provider (c) != &provider_dryrun)
		return err_set (err, ERR_INVALID, FAULT_USER, "manager_transport: ipc does not reach the nodes of provider %s; set auto or tcp",
				config_provider (c)->name);
	if (check_url (config_service_url (c), err) < 0)
		return -1;
	if (check_python (c, err) < 0 || check_containers (c, err) < 0 || files_check_config (c, err) < 0)
		return -1;
	if (config_provider (c)->check)
		return config_provider (c)->check (config_of_provider (c, config_provider (c)), (unsigned) c->nodes_per_block, err);
	return 0;
}

struct config *config_load (const char *path, const char *const *overrides, struct buf *report, struct err *err)
{
	const struct conf_key *table = config_table ();
	struct config *c = xcalloc (1, total_bytes);

	if (conf_load (table, path, overrides, c, report, err) < 0) {
		free (c);
		return NULL;
	}
	if (check (c, err) < 0) {
		if (report)
			buf_printf (report, "%s: %s\n", path ? path : "defaults", err->text);
		config_free (&c);
	}
	return c;
}

void config_free (struct config **c)
{
	if (!*c)
		return;
	conf_free (config_table (), *c);
	free (*c);
	*c = NULL;
}

const struct provider *config_provider (const struct config *c)
{
	return providers[c->provider_type];
}

const void *config_of_provider (const struct config *c, const struct provider *p)
{
	size_t at = align16 (sizeof (struct config));

	for (size_t i = 0; providers[i] && providers[i] != p; i++)
		at += align16 (providers[i]->conf_bytes);
	return (const char *) c + at;
}

bool config_block_images (const struct config *c)
{
	return config_provider (c)->images && !c->container_runtimes.n;
}

bool config_over_tcp (const struct config *c)
{
	return c->manager_transport == CONFIG_TCP || (c->manager_transport == CONFIG_AUTO && !config_provider (c)->local);
}

int64_t config_longest_ms (const struct config *c)
{
	const struct provider *p = config_provider (c);
	int64_t whole = p->walltime_s ? p->walltime_s (config_of_provider (c, p)) * 1000 : 0;

	/* a manager drains a minute, or a tenth of its time, before the end */
	return whole - (whole / 10 < MIN_MS ? whole / 10 : MIN_MS);
}

bool config_workers_known (const struct config *c)
{
	const struct provider *p = config_provider (c);

	return c->workers_per_node || p->local || (p->workers && p->workers (config_of_provider (c, p)) > 0);
}

unsigned config_workers (const struct config *c)
{
	long cores;

	if (c->workers_per_node)
		return (unsigned) c->workers_per_node;
	if (config_provider (c)->workers && config_workers_known (c))
		return config_provider (c)->workers (config_of_provider (c, config_provider (c)));
	cores = sysconf (_SC_NPROCESSORS_ONLN);
	return cores > 0 ? (unsigned) cores : 1;
}

const char *config_service_url (const struct config *c)
{
	const char *env = getenv ("WEFT_URL");

	if (c->service_url && *c->service_url)
		return c->service_url;
	return env && *env ? env : "http://127.0.0.1:5000";
}

char *config_token (const struct config *c, struct err *err)
{
	const char *env = getenv ("WEFT_TOKEN");

	err->code = ERR_NONE;
	if (c->service_token_file && *c->service_token_file)
		return conf_read_secret (c->service_token_file, 65536, err);
	return env && *env ? xstrdup (env) : NULL;
}
