/* SPDX-License-Identifier: Apache-2.0 */
#include "forwarder/config.h"
#include <stddef.h>

#define AT(field) offsetof (struct config, field)

const struct conf_key config_table[] = {
	{ "redis.url", CONF_STRING, AT (redis_url), "redis://127.0.0.1:6379", 0, 0, NULL, false,
	  "Redis that the service uses: redis://[user:password@]host:port[/db] or unix:///path[?db=N]" },
	{ "redis.password_file", CONF_SECRET_FILE, AT (redis_password_file), NULL, 0, 0, NULL, false,
	  "file with the Redis password, readable by its owner only" },
	{ "listen.host", CONF_STRING, AT (listen_host), "127.0.0.1", 0, 255, NULL, false,
	  "address that forwarders listen on for their endpoints (CURVE is always on); 127.0.0.1 lets in those of this computer only, "
	  "0.0.0.0 those of others, with listen.advertise" },
	{ "listen.advertise", CONF_STRING, AT (advertise_host), NULL, 0, 255, NULL, false,
	  "host name or address that endpoints are told to dial, one that they reach this computer by; default: listen.host" },
	{ "listen.port_min", CONF_INT, AT (port_min), "0", 0, 65535, NULL, false,
	  "first port of the range for forwarders, one port an endpoint: what a firewall must let in; 0 = any free port" },
	{ "listen.port_max", CONF_INT, AT (port_max), "0", 0, 65535, NULL, false, "last port of that range" },
	{ "heartbeat.period", CONF_DURATION_MS, AT (heartbeat_ms), "2s", 50, 600000, NULL, false,
	  "longest silence towards a connected endpoint" },
	{ "heartbeat.threshold", CONF_DURATION_MS, AT (threshold_ms), "10s", 200, 3600000, NULL, false,
	  "silence after which an endpoint counts as gone" },
	{ "lease", CONF_DURATION_MS, AT (lease_ms), "5s", 300, 600000, NULL, false,
	  "when a supervisor is not heard of any more, another one serves its endpoints within this time" },
	{ "retention", CONF_DURATION_MS, AT (retention_ms), "14d", 60000, 31536000000, NULL, false,
	  "how long results are kept, and how long a task may wait for its endpoint" },
	{ "limits.payload_bytes", CONF_SIZE, AT (max_payload_bytes), "10MiB", 1024, 134217728, NULL, false,
	  "largest payload sent to an endpoint" },
	{ "limits.result_bytes", CONF_SIZE, AT (max_result_bytes), "10MiB", 1024, 134217728, NULL, false,
	  "largest result taken from an endpoint" },
	{ "limits.read_count", CONF_INT, AT (read_count), "256", 1, 4096, NULL, false,
	  "most tasks taken from the queue in one read" },
	{ "limits.unstored_bytes", CONF_SIZE, AT (max_unstored_bytes), "64MiB", 1048576, 17179869184, NULL, false,
	  "results held while Redis is away or full; over it no more are read from the endpoint, whose spool keeps them" },
	{ "limits.function_cache_bytes", CONF_SIZE, AT (function_cache_bytes), "256MiB", 1048576, 17179869184, NULL, false,
	  "function bodies kept in memory by one forwarder" },
	{ "bulk.dir", CONF_PATH, AT (bulk_dir), NULL, 0, 0, NULL, false,
	  "directory in which large payloads and results stand, and sockets for endpoints of this host and user: the same as the service's; default: none" },
	{ "bulk.fsync", CONF_ENUM, AT (bulk_fsync), "interval", 0, 0, "never interval", false,
	  "interval: results there are on disk within two seconds; never: when the system does it" },
	{ "log.level", CONF_ENUM, AT (log_level), "info", 0, 0, "debug info warn error", false, "least level that is logged" },
	{ "log.file", CONF_PATH, AT (log_file), NULL, 0, 0, NULL, false, "log file; default: standard error" },
	CONF_END,
};
