/* SPDX-License-Identifier: Apache-2.0 */
#include "client/map_show.h"
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "client/results.h"
#include "common/clock.h"

/* Written by the handler, so it is ready beforehand. */
static char cut_text[800];
static volatile sig_atomic_t cut_bytes;

static void on_interrupt (int signo)
{
	(void)signo;
	if (write (2, "\n", 1) == 1 && write (2, cut_text, (size_t)cut_bytes) > 0)
		_exit (130);
	_exit (130);
}

static void make_cut_text (const struct map_show *s, const char *group)
{
	char cancel[120] = "";
	if (group)
		snprintf (cancel, sizeof (cancel), "stop them with: weft cancel --group %s\n", group);
	cut_bytes = 0;
	snprintf (cut_text, sizeof (cut_text), "weft: cut off; tasks that were submitted go on. %s\n%s",
		  s->o->resume ? "The same command goes on from here." : "(with --resume FILE the same command could go on from here.)", cancel);
	cut_bytes = (sig_atomic_t)strlen (cut_text);
}

void map_show_start (struct map_show *s, const struct submit_opts *o)
{
	struct sigaction a = { .sa_handler = on_interrupt };
	*s = (struct map_show){ .o = o, .terminal = isatty (2), .both = isatty (2) && isatty (1), .began_ms = clock_now_ms () };
	make_cut_text (s, NULL);
	sigaction (SIGINT, &a, NULL);
	sigaction (SIGTERM, &a, NULL);
}

void map_show_group (struct map_show *s, const char *group)
{
	if (group && !strstr (cut_text, group))
		make_cut_text (s, group);
}

static void clear (struct map_show *s)
{
	if (s->drawn)
		fputs ("\r\033[K", stderr);
	s->drawn = false;
}

/* ---- lines ---------------------------------------------------------------------------------------------------------------- */

/* What is JSON stands as it is; any other text as a JSON string. */
static json_t *value_of (const json_t *doc)
{
	json_t *r = json_object_get (doc, "result"), *v = NULL;
	if (!*api_str (doc, "result_encoding"))
		v = json_loadb (api_str (doc, "result"), json_string_length (r), JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	return v ? v : json_incref (r);
}

static void print_object (const struct map_line *l)
{
	static const char *const keys[] = { "result_encoding", "exception", "reason", "code", "fault", "exit_detail", "node", "stdout", "stderr" };
	json_t *o = json_pack ("{s:I, s:s, s:s}", "line", (json_int_t)l->line, "task_id", l->id, "status", l->doc ? api_str (l->doc, "status") : "failed"), *v;
	if (l->error)
		json_object_set_new (o, "reason", json_string (l->error));
	if (l->doc && results_good (l->doc))
		json_object_set_new (o, "result", value_of (l->doc));
	for (size_t i = 0; l->doc && i < sizeof (keys) / sizeof (keys[0]); i++)
		if ((v = json_object_get (l->doc, keys[i])) && !(json_is_string (v) && !json_string_length (v)))
			json_object_set (o, keys[i], v);
	json_dumpf (o, stdout, JSON_COMPACT);
	putchar ('\n');
	json_decref (o);
}

/* As it came, when it is JSON on one line already. */
static void print_value (const json_t *doc)
{
	json_t *v = value_of (doc);
	const char *text = api_str (doc, "result");
	if (v == json_object_get (doc, "result") || strchr (text, '\n'))
		json_dumpf (v, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
	else
		fputs (text, stdout);
	putchar ('\n');
	json_decref (v);
}

void map_show_line (struct map_show *s, const struct map_line *l)
{
	bool good = l->doc && results_good (l->doc);
	int n;
	s->lines++;
	if (s->both)
		clear (s);
	if (s->o->api.json)
		print_object (l);
	else if (good)
		print_value (l->doc);
	else
		puts ("null"); /* so that the n-th line out is of the n-th line in */
	if (good)
		return;
	s->failed++;
	if (s->o->api.json)
		return;
	clear (s);
	if (l->doc) {
		const char *why = results_reason (l->doc, &n);
		fprintf (stderr, "weft: line %" PRIu64 ": task %s %s: %.*s\n", l->line, l->id, api_str (l->doc, "status"), n, why);
	} else
		fprintf (stderr, "weft: line %" PRIu64 ": %s\n", l->line, l->error);
}

void map_show_id (struct map_show *s, const struct map_line *l)
{
	s->lines++;
	if (s->both)
		clear (s);
	if (s->o->api.json)
		printf ("{\"line\":%" PRIu64 ",\"task_id\":%s%s%s}\n", l->line, *l->id ? "\"" : "null", l->id, *l->id ? "\"" : "");
	else if (*l->id)
		puts (l->id);
	if (!l->error)
		return;
	s->failed++;
	clear (s);
	fprintf (stderr, "weft: line %" PRIu64 ": %s\n", l->line, l->error);
}

/* ---- progress -------------------------------------------------------------------------------------------------------------- */

void map_show_progress (struct map_show *s, uint64_t done, uint64_t all, double part)
{
	int64_t now = clock_now_ms ();
	double took = (double)(now - s->began_ms) / 1000, rate = took > 0 ? (double)done / took : 0, share = all ? (double)done / (double)all : -1;
	fflush (stdout);
	if (!s->terminal || took < 0.5 || now - s->drawn_ms < 200)
		return;
	s->drawn_ms = now;
	clear (s);
	if (!all && part > 0.02 && done) /* a long input: what was read, less the lines in hand, is a fair measure */
		share = part;
	fprintf (stderr, "%" PRIu64, done);
	if (all)
		fprintf (stderr, " of %" PRIu64, all);
	fprintf (stderr, " done, %" PRIu64 " failed, %.*f/s", s->failed, rate < 10 ? 1 : 0, rate);
	if (share > 0)
		fprintf (stderr, ", %.0f%%, about %.0f s left", share * 100, took / share - took);
	fflush (stderr);
	s->drawn = true;
}

void map_show_trouble (struct map_show *s, const char *text)
{
	int64_t now = clock_now_ms ();
	if (s->trouble_ms && now - s->trouble_ms < 30000)
		return;
	s->trouble_ms = now;
	clear (s);
	fprintf (stderr, "weft: trying again: %s\n", text);
}

void map_show_end (struct map_show *s)
{
	fflush (stdout);
	clear (s);
}

void map_show_cut (struct map_show *s, const char *why)
{
	(void)s;
	if (why)
		fprintf (stderr, "weft: %s\n", why);
	fwrite (cut_text, 1, (size_t)cut_bytes, stderr);
}

int map_show_status (struct map_show *s)
{
	if (ferror (stdout)) {
		fprintf (stderr, "weft: standard output cannot be written: results are missing there\n");
		return 1;
	}
	if (s->failed)
		fprintf (stderr, "weft: %" PRIu64 " of %" PRIu64 " lines failed\n", s->failed, s->lines);
	else if (!s->lines)
		fprintf (stderr, "weft: there were no lines\n");
	return s->failed ? EXIT_TASK_FAILED : 0;
}
