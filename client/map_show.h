/* SPDX-License-Identifier: Apache-2.0 */
/* What `weft run --map` shows: a line of JSON for each line, failures and progress on standard error, and what to do when it is cut off. */
#ifndef CLIENT_MAP_SHOW_H
#define CLIENT_MAP_SHOW_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "client/submit.h"

struct map_show {
	const struct submit_opts *o;
	bool terminal, drawn, both;	/* progress is shown; stands there now; results go to the same terminal */
	uint64_t failed, lines;
	int64_t began_ms, drawn_ms, trouble_ms;
};
struct map_line { uint64_t line; const char *id; const json_t *doc; const char *error; };

void map_show_start (struct map_show *s, const struct submit_opts *o);	/* from now on, Ctrl-C tells how to go on */
void map_show_group (struct map_show *s, const char *group);		/* copied; NULL is fine */
void map_show_line (struct map_show *s, const struct map_line *l);
void map_show_id (struct map_show *s, const struct map_line *l);
/* all 0 = not known; part: of the input, that was read, -1 = not known. */
void map_show_progress (struct map_show *s, uint64_t done, uint64_t all, double part);
void map_show_trouble (struct map_show *s, const char *text);		/* now and then */
void map_show_cut (struct map_show *s, const char *why);		/* why may be NULL */
void map_show_end (struct map_show *s);
int map_show_status (struct map_show *s);				/* the exit status, and how many failed */

#endif
