/* SPDX-License-Identifier: Apache-2.0 */
/* Bringing one file to the cache: from it, from a web server, or from a directory of the node. Blocks; for a thread of its own. */
#ifndef MANAGER_DOWNLOAD_H
#define MANAGER_DOWNLOAD_H
#include "endpoint/manager/filecache.h"

#define DOWNLOAD_TRIES 4	/* of what may be better a moment later */

struct download_opts {
	struct filecache *cache;	/* borrowed for life, as what follows */
	int64_t max_bytes, timeout_ms;
	bool http;			/* http:// too */
	const char *ca_file;		/* NULL = the system's */
	const char *const *from;	/* directories that file: URLs may name; NULL-terminated */
};

struct download {
	const char *url;
	uint8_t digest[FILES_DIGEST];
	bool has_digest;		/* what it must be; else filled in */
	uint64_t max_bytes;		/* 0 = the node's limit */
	bool (*pause) (int64_t ms, void *arg);	/* wait so long, or until it shall stop; true: stop */
	void *arg;
	/* out */
	uint64_t bytes;
	bool fetched;			/* it was not here */
};

/* May this URL be taken here? Of file: ones only what can be said without looking. */
int download_allowed (const struct download_opts *o, struct wire_str url, struct err *err);
/* A descriptor of filecache_open. -1 with *err: ERR_TASK_FILE, or ERR_CANCELLED when it was to stop. */
int download_run (const struct download_opts *o, struct download *d, struct err *err);
uint64_t download_limit (const struct download_opts *o, uint64_t max_bytes);
/* bytes 0: it is not known how many. -1. */
int download_too_large (const struct download_opts *o, uint64_t max_bytes, const char *url, uint64_t bytes, struct err *err);

#endif
