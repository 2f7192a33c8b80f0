/* SPDX-License-Identifier: Apache-2.0 */
/* Settings of weft-service; each row of config_table is a key of service.yaml. */
#ifndef SERVICE_CONFIG_H
#define SERVICE_CONFIG_H
#include <stdbool.h>
#include <stdint.h>
#include "common/conf.h"

struct config {
	char *listen;
	bool allow_plain_http;
	int64_t workers;
	int64_t drain_grace_ms;
	char *redis_url, *redis_password_file;
	char *registry_path;
	int64_t registry_busy_ms;
	char *user, *token_file;
	int64_t token_cache_ms, catalog_cache_ms;
	int64_t retention_ms;
	int64_t payload_bytes, result_bytes, function_bytes, body_bytes, buffered_bytes;
	int64_t batch_tasks, queue_tasks, wait_ms, connections, streams;
	int64_t stream_heartbeat_ms, stream_age_ms;
	double requests_per_s;
	int64_t request_burst;
	int64_t endpoint_stale_ms, endpoint_heartbeat_ms, endpoint_lock_ms;
	int64_t idempotency_ms;
	char *amqp_listen, *amqp_public_url, *amqp_tls_certificate, *amqp_tls_key;	/* listen NULL: not served */
	bool amqp_allow_plain;
	int64_t amqp_heartbeat_ms, amqp_credentials_ms, amqp_connections, amqp_buffered_bytes;
	char *bulk_dir;
	int64_t bulk_grace_ms, bulk_fsync;
	int64_t log_level;
	char *log_file;
};
extern const struct conf_key config_table[];

/* conf_load, then what one row cannot say: the listen address may be reached from outside only when that was allowed. */
int config_load (const char *path, const char *const *overrides, struct config *out, struct buf *report, struct err *err);
void config_free (struct config *c);
/* Is "host:port" on this machine only? */
bool config_is_loopback (const char *address);

#endif
