/* SPDX-License-Identifier: Apache-2.0 */
/* YAML configuration from one table per binary, through libyaml's document API.
 *
 * One row a key: it drives parsing, --check-config, the commented example (--print-config) and the man page.
 * Nested keys are dotted ("limits.payload_bytes"). Every problem is reported with file, line and key:
 *
 *     endpoint.yaml:14: provider.max_blocks: expected 1..10000, got "many"
 *
 * Unknown keys (the nearest is suggested), duplicate keys, aliases, junk after numbers are errors. Durations take
 * "500ms" "30s" "10m" "2h" "7d"; sizes take "64KiB" "10MiB" "1GiB" or plain bytes. ${VAR} is not expanded.
 * Secrets are paths: CONF_SECRET_FILE refuses files that group or others can read. A path may begin with "~/", for HOME. */
#ifndef COMMON_CONF_H
#define COMMON_CONF_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "common/buf.h"
#include "common/err.h"

enum conf_type {
	CONF_STRING, CONF_INT, CONF_BOOL, CONF_DOUBLE,
	CONF_DURATION_MS, CONF_SIZE, CONF_PATH, CONF_SECRET_FILE,
	CONF_WALLTIME_S,	/* seconds of a batch job; see conf_parse_walltime */
	CONF_ENUM,		/* one of `choices`, blank separated */
	CONF_STRING_LIST,	/* YAML sequence of strings -> struct conf_list */
	CONF_STRING_MAP,	/* YAML mapping of strings -> struct conf_list of key, value, key, value */
	CONF_STRING_OR_MAP,	/* the same, or a single string, which then stands under the key "" */
};
struct conf_list { char **v; size_t n; };

struct conf_key {
	const char *key;	/* "limits.payload_bytes" */
	enum conf_type type;
	size_t offset;		/* of the field in the binary's config struct: char * | int64_t | bool | double | struct conf_list;
				 * CONF_ENUM: int64_t index into choices */
	const char *def;	/* default as it would stand in YAML; NULL = none (string: NULL) */
	int64_t min, max;	/* numbers, durations (ms), sizes (bytes); both 0 = unbounded. Strings: max = longest, 0 = 4096 */
	const char *choices;
	bool required;
	const char *help;	/* one sentence, with the unit; goes into example and man page */
};
#define CONF_END { NULL, CONF_STRING, 0, NULL, 0, 0, NULL, false, NULL }

/* The file that a program reads: the one given (--config), else the installed one when it is there, else NULL: defaults. */
const char *conf_path (const char *given, const char *installed);
/* Fill `out` (zeroed by the callee) from the file; path NULL = defaults only. overrides: "key=value" strings (the
 * command line's --set), NULL-terminated or NULL. On failure returns -1, *report (may be NULL) holds one line a problem
 * and *out is empty. */
int conf_load (const struct conf_key *table, const char *path, const char *const *overrides, void *out,
	       struct buf *report, struct err *err);
int conf_load_text (const struct conf_key *table, const char *name, const char *text, size_t n,
		    const char *const *overrides, void *out, struct buf *report, struct err *err);
/* Why it failed, for people: each line of the report, or err when it is empty, behind the program's name. */
void conf_say_problems (const char *prog, const struct buf *report, const struct err *err, FILE *to);
void conf_free (const struct conf_key *table, void *out);
/* The commented example, each key with its help, unit, range and default; the man page shows it too. */
void conf_print_example (const struct conf_key *table, const char *title, FILE *to);

int conf_parse_duration (const char *s, int64_t *ms);
int conf_parse_size (const char *s, int64_t *bytes);
/* A job's time as batch systems write it: "MM:SS" "HH:MM:SS" "D-HH" "D-HH:MM" "D-HH:MM:SS"; or as a duration, "30m" "2h"; or seconds. */
int conf_parse_walltime (const char *s, int64_t *seconds);
/* Read a secret file of at most max bytes (trailing newline removed); refuses one that group or others can read. */
char *conf_read_secret (const char *path, size_t max, struct err *err);

#endif
