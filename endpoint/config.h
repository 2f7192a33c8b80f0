/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's configuration: its own table, and after it the rows of every provider. */
#ifndef ENDPOINT_CONFIG_H
#define ENDPOINT_CONFIG_H
#include "common/conf.h"
#include "endpoint/providers/provider.h"

enum { CONFIG_AUTO, CONFIG_IPC, CONFIG_TCP };	/* manager_transport */

struct config {
	char *display_name, *worker_bin, *manager_bin;
	struct conf_list python;	/* "" or version, and interpreter, in turn; see interpreters.h */
	struct conf_list allowed_functions;
	int64_t workers_per_node;	/* 0 = number of cores */
	int64_t routing;		/* enum route_mode */
	int64_t mpi_launcher;		/* enum mpi_launcher */
	int64_t retries_on_loss, retries_on_kill;
	int64_t manager_transport;
	char *manager_address;
	int64_t manager_port;
	char *service_url, *service_token_file, *service_ca_file;
	char *forwarder_address;
	int64_t provider_type;
	int64_t init_blocks, min_blocks, max_blocks, nodes_per_block, idle_timeout_ms, period_ms;
	double parallelism;
	int64_t max_failures_per_hour, stop_grace_ms, connect_timeout_ms;
	int64_t queue_max_tasks, queue_max_bytes;
	int64_t spool_segment_bytes, spool_memory_bytes, spool_max_bytes, spool_max_unspooled_bytes, spool_fsync;
	int64_t memo_max_bytes, memo_max_age_ms;
	char *bulk_dir;
	int64_t files_cache_bytes, files_max_bytes, files_timeout_ms, files_parallel, files_output_max_bytes, files_output_total_bytes, files_output_free_bytes;
	char *files_cache_dir, *files_ca_file, *files_output_dir;
	bool files_http;
	struct conf_list files_directories;
	int64_t heartbeat_ms, threshold_ms;
	int64_t log_level;		/* enum log_level */
	struct conf_list container_runtimes, container_images;
	bool container_allow_network, container_pull;
	char *container_network, *container_bundle;
	int64_t max_containers, container_pids, container_memory_bytes, container_max_memory_bytes;
	double container_cpus;
	int64_t container_warm_ms, container_start_ms, container_pull_ms, container_recheck_ms;
	int64_t max_payload_bytes, max_result_bytes, function_cache_bytes;
};

const struct conf_key *config_table (void);
/* path NULL = defaults. Owned by the caller. */
struct config *config_load (const char *path, const char *const *overrides, struct buf *report, struct err *err);
void config_free (struct config **c);
const struct provider *config_provider (const struct config *c);
const void *config_of_provider (const struct config *c, const struct provider *p);	/* borrowed */
unsigned config_workers (const struct config *c);
int64_t config_longest_ms (const struct config *c);	/* the longest that a task can run on a block's node; 0 = any time */
bool config_workers_known (const struct config *c);	/* false: a guess; each node counts its own processors */
bool config_block_images (const struct config *c);	/* a block may be made for an image that functions name */
bool config_over_tcp (const struct config *c);	/* how managers reach the agent */
const char *config_service_url (const struct config *c);	/* from the file, WEFT_URL, or the default */
/* From the file named, or WEFT_TOKEN; NULL with *err none: no token. Owned by the caller. */
char *config_token (const struct config *c, struct err *err);

#endif
