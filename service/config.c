/* SPDX-License-Identifier: Apache-2.0 */
#include "service/config.h"
#include <arpa/inet.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define AT(field) offsetof (struct config, field)
#define MIB 1048576

const struct conf_key config_table[] = {
	{ "listen", CONF_STRING, AT (listen), "127.0.0.1:5000", 0, 255, NULL, true,
	  "address and port to serve on; the Globus Compute SDK looks for a local service on port 5000" },
	{ "allow_plain_http", CONF_BOOL, AT (allow_plain_http), "false", 0, 0, NULL, false,
	  "serve plain HTTP beyond this machine; only behind a proxy that ends TLS, tokens travel in the clear" },
	{ "workers", CONF_INT, AT (workers), "1", 1, 256, NULL, false, "processes that share the port" },
	{ "drain_grace", CONF_DURATION_MS, AT (drain_grace_ms), "30s", 100, 3600000, NULL, false,
	  "how long a stopping or replaced worker may take to finish its requests" },
	{ "redis.url", CONF_STRING, AT (redis_url), "redis://127.0.0.1:6379", 0, 0, NULL, false,
	  "Redis that holds the tasks: redis://[user:password@]host:port[/db] or unix:///path[?db=N]" },
	{ "redis.password_file", CONF_SECRET_FILE, AT (redis_password_file), NULL, 0, 0, NULL, false,
	  "file with the Redis password, readable by its owner only" },
	{ "registry.path", CONF_PATH, AT (registry_path), "/var/lib/weft/service/registry.db", 0, 0, NULL, false,
	  "SQLite database of users, tokens, functions and endpoints; made at the first start" },
	{ "registry.busy_timeout", CONF_DURATION_MS, AT (registry_busy_ms), "5s", 10, 60000, NULL, false,
	  "how long a change waits for another process to finish its own" },
	{ "auth.user", CONF_STRING, AT (user), "local", 0, 64, NULL, false, "name of the user made at the first start" },
	{ "auth.token_file", CONF_PATH, AT (token_file), "/var/lib/weft/service/token", 0, 0, NULL, false,
	  "where the first user's token is written at the first start, readable by its owner only" },
	{ "auth.token_cache", CONF_DURATION_MS, AT (token_cache_ms), "5s", 0, 300000, NULL, false,
	  "how long a checked token is trusted; a revoked one works at most that long" },
	{ "registry.cache", CONF_DURATION_MS, AT (catalog_cache_ms), "2s", 0, 60000, NULL, false,
	  "how long functions and endpoints are remembered; a change made in another worker is seen at the latest then" },
	{ "retention", CONF_DURATION_MS, AT (retention_ms), "14d", 1000, 31536000000, NULL, false,
	  "how long ids of tasks, payloads of waiting tasks in Redis, and results that the service stores itself are kept; not below the forwarder's" },
	{ "limits.payload_bytes", CONF_SIZE, AT (payload_bytes), "10MiB", 1, 128 * MIB, NULL, false, "largest payload of one task" },
	{ "limits.result_bytes", CONF_SIZE, AT (result_bytes), "10MiB", 1, 128 * MIB, NULL, false,
	  "largest result that a submission may ask for" },
	{ "limits.function_bytes", CONF_SIZE, AT (function_bytes), "10MiB", 1, 16 * MIB, NULL, false, "largest code of a function" },
	{ "limits.body_bytes", CONF_SIZE, AT (body_bytes), "128MiB", 1024, 1024LL * MIB, NULL, false, "largest request body" },
	{ "limits.buffered_bytes", CONF_SIZE, AT (buffered_bytes), "512MiB", 1024, 65536LL * MIB, NULL, false,
	  "request bodies in memory at once, for each worker; over it requests are answered 503" },
	{ "limits.batch_tasks", CONF_INT, AT (batch_tasks), "100000", 1, 1000000, NULL, false, "most tasks in one request" },
	{ "limits.queue_tasks", CONF_INT, AT (queue_tasks), "2000000", 0, 1000000000, NULL, false,
	  "most tasks that wait for one endpoint; over it submissions are answered 429; 0 = no limit" },
	{ "limits.wait", CONF_DURATION_MS, AT (wait_ms), "300s", 1000, 3600000, NULL, false, "longest ?wait= of a request" },
	{ "limits.connections", CONF_INT, AT (connections), "12000", 1, 1000000, NULL, false, "open connections, for each worker" },
	{ "limits.streams", CONF_INT, AT (streams), "10000", 0, 1000000, NULL, false,
	  "open event streams, for each worker; over it they are answered 503; a stream is a connection too" },
	{ "limits.requests_per_s", CONF_DOUBLE, AT (requests_per_s), "0", 0, 1000000, NULL, false,
	  "requests of one user in a second; over it they are answered 429; 0 = no limit" },
	{ "limits.request_burst", CONF_INT, AT (request_burst), "20", 1, 1000000, NULL, false,
	  "requests that a user may make at once before that rate applies" },
	{ "stream.heartbeat", CONF_DURATION_MS, AT (stream_heartbeat_ms), "15s", 100, 600000, NULL, false,
	  "an event stream with nothing to tell sends a comment so often, for proxies that close silent connections" },
	{ "stream.max_age", CONF_DURATION_MS, AT (stream_age_ms), "1h", 1000, 604800000, NULL, false,
	  "an event stream is ended after that long, and resumed by its client with its token checked anew" },
	{ "endpoint.stale", CONF_DURATION_MS, AT (endpoint_stale_ms), "30s", 100, 3600000, NULL, false,
	  "an endpoint that its forwarder has not reported for that long is shown as offline" },
	{ "endpoint.heartbeat", CONF_DURATION_MS, AT (endpoint_heartbeat_ms), "2s", 50, 600000, NULL, false,
	  "heartbeat that endpoints are told when they ask for their forwarder" },
	{ "endpoint.lock", CONF_DURATION_MS, AT (endpoint_lock_ms), "10s", 0, 3600000, NULL, false,
	  "how long a stopped endpoint may not register or connect again" },
	{ "idempotency", CONF_DURATION_MS, AT (idempotency_ms), "24h", 1000, 2592000000, NULL, false,
	  "how long the answer to a submission with an Idempotency-Key is remembered" },
	{ "amqp.listen", CONF_STRING, AT (amqp_listen), NULL, 0, 255, NULL, false,
	  "address and port to serve results on over AMQP 0-9-1, which the Executor of globus-compute-sdk needs: 127.0.0.1:5672; port 0: any "
	  "free one; default: not served" },
	{ "amqp.public_url", CONF_STRING, AT (amqp_public_url), NULL, 0, 255, NULL, false,
	  "where clients reach it, amqp://host:port or amqps://host:port; default: made from the listen address, and when that is all "
	  "addresses, from the host that a client called" },
	{ "amqp.tls_certificate", CONF_PATH, AT (amqp_tls_certificate), NULL, 0, 0, NULL, false,
	  "PEM file with the certificate, and those that vouch for it, to serve AMQP over TLS; read again at SIGHUP" },
	{ "amqp.tls_key", CONF_SECRET_FILE, AT (amqp_tls_key), NULL, 0, 0, NULL, false,
	  "PEM file with its private key, readable by its owner only" },
	{ "amqp.allow_plain", CONF_BOOL, AT (amqp_allow_plain), "false", 0, 0, NULL, false,
	  "serve AMQP without TLS beyond this machine; only behind a proxy that ends TLS, results travel in the clear" },
	{ "amqp.heartbeat", CONF_DURATION_MS, AT (amqp_heartbeat_ms), "60s", 1000, 3600000, NULL, false,
	  "heartbeat that clients are told; one that is silent for two of them is dropped" },
	{ "amqp.credentials", CONF_DURATION_MS, AT (amqp_credentials_ms), "10m", 1000, 86400000, NULL, false,
	  "how long the password may be used to connect that a client was given with the address" },
	{ "amqp.connections", CONF_INT, AT (amqp_connections), "1000", 4, 100000, NULL, false,
	  "open AMQP connections, for each worker; one user may have a fourth of them" },
	{ "amqp.buffered_bytes", CONF_SIZE, AT (amqp_buffered_bytes), "256MiB", MIB, 65536LL * MIB, NULL, false,
	  "results in memory at once that AMQP clients have not read yet, for each worker; over it they wait in Redis" },
	{ "bulk.dir", CONF_PATH, AT (bulk_dir), NULL, 0, 0, NULL, false,
	  "directory in which large payloads and results stand, instead of in Redis; made when missing, shared with the forwarders and "
	  "endpoints of this host that run as the same user: set it there too; default: none, all go through Redis" },
	{ "bulk.fsync", CONF_ENUM, AT (bulk_fsync), "interval", 0, 0, "never interval", false,
	  "interval: payloads there are on disk within two seconds, to be compared with Redis' appendfsync everysec; never: when the system does it" },
	{ "bulk.grace", CONF_DURATION_MS, AT (bulk_grace_ms), "10m", 1000, 2592000000, NULL, false,
	  "age from which files in it are removed that no task names" },
	{ "log.level", CONF_ENUM, AT (log_level), "info", 0, 0, "debug info warn error", false, "least level that is logged" },
	{ "log.file", CONF_PATH, AT (log_file), NULL, 0, 0, NULL, false, "log file; default: standard error" },
	CONF_END,
};

bool config_is_loopback (const char *address)
{
	char host[256];
	const char *colon = strrchr (address, ':');
	size_t n = colon ? (size_t) (colon - address) : strlen (address);
	struct in_addr a4;
	struct in6_addr a6;

	if (!n || n >= sizeof (host))
		return false;
	memcpy (host, address, n);
	host[n] = 0;
	if (host[0] == '[' && host[n - 1] == ']') {
		host[n - 1] = 0;
		memmove (host, host + 1, n - 1);
	}
	if (!strcmp (host, "localhost"))
		return true;
	if (inet_pton (AF_INET, host, &a4) == 1)
		return (ntohl (a4.s_addr) >> 24) == 127;
	return inet_pton (AF_INET6, host, &a6) == 1 && IN6_IS_ADDR_LOOPBACK (&a6);
}

static int refuse (struct config *out, const char *path, struct buf *report, struct err *err, const char *key, const char *text)
{
	if (report)
		buf_printf (report, "%s: %s: %s\n", path ? path : "(defaults)", key, text);
	err_set (err, ERR_INVALID, FAULT_USER, "%s: %s", key, text);
	config_free (out);
	return -1;
}

static int check_amqp (struct config *c, const char *path, struct buf *report, struct err *err)
{
	if (!c->amqp_listen)
		return 0;
	if (!c->amqp_tls_certificate != !c->amqp_tls_key)
		return refuse (c, path, report, err, c->amqp_tls_key ? "amqp.tls_certificate" : "amqp.tls_key",
			       "certificate and key go together, one is missing");
	if (!c->amqp_tls_certificate && !c->amqp_allow_plain && !config_is_loopback (c->amqp_listen))
		return refuse (c, path, report, err, "amqp.listen",
			       "it can be reached from other machines, and results would travel unprotected. Set amqp.tls_certificate and "
			       "amqp.tls_key, or put a proxy that ends TLS in front and set 'amqp.allow_plain: true'");
	if (c->amqp_public_url && strncmp (c->amqp_public_url, "amqp://", 7) != 0 && strncmp (c->amqp_public_url, "amqps://", 8) != 0)
		return refuse (c, path, report, err, "amqp.public_url", "amqp://host:port or amqps://host:port is expected");
	return 0;
}

int config_load (const char *path, const char *const *overrides, struct config *out, struct buf *report, struct err *err)
{
	if (conf_load (config_table, path, overrides, out, report, err) < 0)
		return -1;
	if (config_is_loopback (out->listen) || out->allow_plain_http)
		return check_amqp (out, path, report, err);
	if (report)
		buf_printf (report,
			    "%s: listen: '%s' can be reached from other machines, and this service speaks plain HTTP: tokens and payloads "
			    "would travel unprotected. Listen on 127.0.0.1 or [::1], or put a proxy that ends TLS in front and set "
			    "'allow_plain_http: true'\n",
			    path ? path : "(defaults)", out->listen);
	err_set (err, ERR_INVALID, FAULT_USER, "listen: %s is not a loopback address; see allow_plain_http", out->listen);
	config_free (out);
	return -1;
}

void config_free (struct config *c)
{
	conf_free (config_table, c);
}
