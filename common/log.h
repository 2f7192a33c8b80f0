/* SPDX-License-Identifier: Apache-2.0 */
/* Structured log, one logfmt line an event:
 *
 *     ts=2031-05-02T10:11:12.345Z lvl=warn mod=pool pid=123 msg="block lost" ep=7f3c age_s=31
 *
 * `msg` is constant; what varies is a key. Values are quoted and escaped by the writer. No secrets, no payloads.
 *
 *     log_warn ("pool", "block lost", "ep=%s age_s=%d reason=%s", ep, age, reason);
 *
 * The format is a list of key=%conversion words separated by single blanks; each conversion is formatted on its own
 * and quoted when it needs to be. Supported: %s %d %u %ld %lu %lld %llu %zu %zd %x %.1f-like, PRId64/PRIu64, %% not.
 * NULL for %s prints "". Pass NULL as format when there are no keys.
 *
 * Repeats: more than LOG_BURST lines with the same msg in LOG_BURST_MS are dropped and counted, and the count is
 * shown as suppressed=N on the next one that gets through. */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H
#include "common/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
#define LOG_BURST 20
#define LOG_BURST_MS 1000

/* prog goes into each line as prog=. path NULL = stderr; else the file is opened for append. Returns 0/-1. */
int log_open (const char *prog, const char *path, enum log_level level, struct err *err);
int log_reopen (struct err *err);			/* after rotation (SIGHUP) */
int log_level_parse (const char *s, enum log_level *out);	/* "debug" ... "error" */
void log_line (enum log_level level, const char *mod, const char *msg, const char *fmt, ...)
	__attribute__ ((format (printf, 4, 5)));
int log_enabled (enum log_level level);
/* The same line, from a struct err: keys code, fault and err are appended. */
void log_err (enum log_level level, const char *mod, const char *msg, const struct err *err);

#define log_debug(mod, msg, ...) do { if (log_enabled (LOG_DEBUG)) log_line (LOG_DEBUG, mod, msg, __VA_ARGS__); } while (0)
#define log_info(mod, msg, ...) log_line (LOG_INFO, mod, msg, __VA_ARGS__)
#define log_warn(mod, msg, ...) log_line (LOG_WARN, mod, msg, __VA_ARGS__)
#define log_error(mod, msg, ...) log_line (LOG_ERROR, mod, msg, __VA_ARGS__)

#endif
