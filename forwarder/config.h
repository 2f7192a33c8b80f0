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
	int64_t lease_ms;		/* see config_lease_ttl_ms */
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

/* `lease` is the time within which another host serves. The key in Redis expires after two thirds of it; what is left is for the other
 * supervisor, which looks each sixth, to see that, and for the start of its forwarder. The key is renewed four times in its life. */
static inline int64_t config_lease_ttl_ms (const struct config *c)
{
	return c->lease_ms * 2 / 3;
}

#endif
