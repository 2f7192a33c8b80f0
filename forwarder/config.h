/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration of weft-forwarder: one table (config.c) for supervise and run. */
#ifndef FORWARDER_CONFIG_H
#define FORWARDER_CONFIG_H
#include <stdint.h>
#include "common/conf.h"

struct config {
	char *redis_url, *redis_password_file;
	char *listen_host, *advertise_host;
	int64_t port_min, port_max;
	int64_t heartbeat_ms, threshold_ms;
	int64_t lease_ms;
	int64_t retention_ms;
	int64_t max_payload_bytes, max_result_bytes;
	int64_t read_count;
	int64_t max_unstored_bytes;
	int64_t function_cache_bytes;
	char *bulk_dir;
	int64_t bulk_fsync;
	int64_t log_level;
	char *log_file;
};
extern const struct conf_key config_table[];

#endif
