/* SPDX-License-Identifier: Apache-2.0 */
/* The lines in hand are a ring: printed | ended or running [head..sent) | not submitted [sent..tail). Nothing here grows with the input,
 * but for the journal's ids, when there is one. */
#include "client/map.h"
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "client/journal.h"
#include "client/lines.h"
#include "client/map_show.h"
#include "client/results.h"
#include "common/clock.h"
#include "common/xmem.h"

#define WINDOW 10000u		/* lines in hand */
#define BATCH 1000u		/* lines of one request */
#define BATCH_BYTES (4u << 20)
#define TEXT_BYTES (32u << 20)	/* of lines in hand: no more are read above it */
#define HELD_BYTES (64u << 20)	/* of results that wait for an earlier one: then only that one is asked for */
#define ANSWER_BYTES (16u << 20)	/* of the results in one answer, by their average so far */
#define ASK 500u		/* tasks asked for at once */
#define PATIENCE_MS 900000	/* with a service that cannot be reached */

enum state { QUEUED, SENT, DONE };
struct entry {
	uint64_t line;
	enum state state;
	bool old;		/* from the journal: submitted by an earlier run */
	json_t *payload;	/* NULL once nothing may need it */
	size_t bytes, held;	/* held: about what doc takes */
	uint32_t sum;
	char id[37];
	json_t *doc;		/* how it ended, or NULL with */
	const char *error;	/* why it was not submitted; static text */
};

struct map {
	const struct submit_opts *o;
	const char *fn;
	bool wait;
	struct lines *in;
	struct journal *j;
	char *group, *path;
	struct entry *ring;
	uint64_t head, sent, tail;	/* items */
	size_t text_bytes, held_bytes;
	bool eof, idle;			/* idle: the last answer brought nothing */
	unsigned ask;
	double avg_bytes;
	int64_t began_ms, full_until_ms;
	struct map_show show;
};

static struct entry *at (const struct map *m, uint64_t item)
{
	return &m->ring[item % WINDOW];
}

static void drop_payload (struct map *m, struct entry *e)
{
	if (e->payload)
		m->text_bytes -= e->bytes;
	json_decref (e->payload);
	e->payload = NULL;
}

static void nap_ms (int64_t ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep (&t, NULL);
}

/* ---- reading ------------------------------------------------------------------------------------------------------------- */

static int take_line (struct map *m, const char *line, size_t n, uint64_t number, struct err *err)
{
	struct entry *e = at (m, m->tail);
	struct id task;
	uint32_t sum;
	*e = (struct entry){ .line = number, .bytes = n, .payload = json_stringn (line, n) };
	if (!e->payload) {
		e->state = DONE;
		e->error = "the line is not UTF-8 text";
	} else
		m->text_bytes += n;
	if (!m->tail && !m->o->command.n)
		submit_check_payload (line, n);
	if (m->j)
		e->sum = journal_sum (line, n);
	if (m->j && journal_task (m->j, m->tail, &task, &sum)) {
		if (sum != e->sum)
			return err_set (err, ERR_CONFLICT, FAULT_USER, "line %" PRIu64 " of %s is not what it was when %s was begun: use another --resume file",
					number, m->o->map, m->o->resume);
		id_text (&task, e->id);
		e->old = true;
		e->state = m->wait ? SENT : DONE;
	}
	m->tail++;
	return 0;
}

static int fill (struct map *m, struct err *err)
{
	while (!m->eof && m->tail - m->head < WINDOW && m->text_bytes < TEXT_BYTES) {
		const char *line;
		size_t n;
		uint64_t number;
		enum lines_got got = lines_next (m->in, m->head == m->tail, &line, &n, &number, err);
		if (got == LINES_ERROR)
			return -1;
		if (got == LINES_END)
			m->eof = true;
		if (got != LINES_ONE)
			break;
		if (take_line (m, line, n, number, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- submitting ------------------------------------------------------------------------------------------------------------ */

static char *request_body (struct map *m, uint64_t first, size_t n)
{
	json_t *body = submit_body (m->o), *list = json_array (), *tasks = json_object ();
	char *text;
	for (size_t i = 0; i < n; i++)
		json_array_append (list, at (m, first + i)->payload);
	json_object_set_new (tasks, m->fn, list);
	json_object_set_new (body, "tasks", tasks);
	if (m->group)
		json_object_set_new (body, "task_group_id", json_string (m->group));
	text = json_dumps (body, JSON_COMPACT);
	json_decref (body);
	return text;
}

static int settle (struct map *m, uint64_t first, size_t n, const json_t *answer, struct err *err)
{
	json_t *ids = json_object_get (json_object_get (answer, "tasks"), m->fn);
	const char *group = api_str (answer, "task_group_id");
	uint32_t *sums = xcalloc (n, sizeof (*sums));
	int rc = 0;
	if (json_array_size (ids) != n) {
		free (sums);
		return err_set (err, ERR_INVALID, FAULT_PEER, "the service answered with %zu tasks for %zu lines", json_array_size (ids), n);
	}
	if (!m->group && n > 1) /* a lone task names no group that others could join */
		m->group = xstrdup (group);
	for (size_t i = 0; i < n; i++) {
		struct entry *e = at (m, first + i);
		snprintf (e->id, sizeof (e->id), "%s", json_string_value (json_array_get (ids, i)));
		e->state = m->wait ? SENT : DONE;
		e->old = false;
		sums[i] = e->sum;
		drop_payload (m, e);
	}
	if (m->j)
		rc = journal_settle (m->j, first, ids, sums, m->group, err);
	free (sums);
	map_show_group (&m->show, m->group);
	return rc;
}

static bool may_pass (const struct err *err)
{
	return err->code == ERR_LIMIT || err->code == ERR_CONFLICT || err->code == ERR_UNAVAILABLE || err->code == ERR_TIMEOUT || err->code == ERR_IO;
}

/* Send until it is answered, or PATIENCE_MS is over. */
static json_t *patiently (struct map *m, const struct api_req *r, bool limits_too, struct err *err)
{
	int64_t began = clock_now_ms ();
	json_t *answer;
	for (unsigned attempt = 0; !(answer = api_send (&m->o->api, r, err)); attempt++) {
		if (!may_pass (err) || (err->code == ERR_LIMIT && !limits_too) || clock_now_ms () - began > PATIENCE_MS)
			return NULL;
		map_show_trouble (&m->show, err->text);
		nap_ms (clock_backoff_ms (attempt < 6 ? attempt : 6, 200, 5000));
	}
	return answer;
}

/* 1: the queue is full, and there are tasks to wait for meanwhile. */
static int post (struct map *m, const char *body, const char *key, json_t **answer, struct err *err)
{
	struct api_req r = { .method = "POST", .path = m->path, .body = body, .key = key, .tries = 1 };
	bool others = m->wait && m->sent > m->head;
	char own[ID_TEXT];
	struct id id;
	if (!key) {
		id_new (&id);
		r.key = id_text (&id, own);
	}
	if ((*answer = patiently (m, &r, !others, err)))
		return 0;
	return err->code == ERR_LIMIT && others ? 1 : -1;
}

/* Those lines, halved where they are too many or too large for one request. */
static int submit (struct map *m, uint64_t first, size_t n, bool journaled, struct err *err)
{
	char *body = request_body (m, first, n), key[80];
	json_t *answer = NULL;
	int rc = journaled ? journal_intend (m->j, first, n, err) : 0;
	if (journaled)
		journal_key (m->j, first, n, key);
	if (rc == 0)
		rc = post (m, body, journaled ? key : NULL, &answer, err);
	free (body);
	if (rc == 0) {
		rc = settle (m, first, n, answer, err);
		json_decref (answer);
		return rc;
	}
	if (rc > 0 || err->code != ERR_TOO_LARGE)
		return rc;
	if (n > 1) {
		if ((rc = submit (m, first, n / 2, journaled, err)))
			return rc;
		return submit (m, first + n / 2, n - n / 2, journaled, err);
	}
	at (m, first)->state = DONE;
	at (m, first)->error = "the line is larger than the service takes";
	drop_payload (m, at (m, first));
	return 0;
}

static size_t batch_from (const struct map *m, uint64_t first)
{
	size_t n = 0, bytes = 0;
	while (first + n < m->tail && n < BATCH && at (m, first + n)->state == QUEUED && (!n || bytes < BATCH_BYTES))
		bytes += at (m, first + n++)->bytes;
	return n;
}

static int send_queued (struct map *m, struct err *err)
{
	uint64_t first;
	size_t n, want;
	int rc;
	while (clock_now_ms () >= m->full_until_ms) {
		while (m->sent < m->tail && at (m, m->sent)->state != QUEUED)
			m->sent++;
		if (!(n = batch_from (m, m->sent)))
			return 0;
		if (m->j && journal_open_intent (m->j, &first, &want) && first == m->sent) {
			if (n < want && !m->eof && m->tail - m->sent < want)
				return 0;	/* the rest of what was to be submitted then is still to be read */
			if (n > want)
				n = want;
		}
		rc = submit (m, m->sent, n, m->j != NULL, err);
		if (rc > 0)
			m->full_until_ms = clock_now_ms () + 1000;
		if (rc)
			return rc < 0 ? -1 : 0;
	}
	return 0;
}

/* ---- waiting --------------------------------------------------------------------------------------------------------------- */

static bool again (const struct map *m, const struct entry *e, const json_t *doc)
{
	return e->old && e->payload && (results_unknown (doc) || (m->o->retry_failed && !results_good (doc)));
}

static int take_doc (struct map *m, uint64_t item, json_t *doc, struct err *err)
{
	struct entry *e = at (m, item);
	if (again (m, e, doc)) {
		int rc = submit (m, item, 1, false, err);
		if (rc > 0)
			nap_ms (500);	/* a full queue: it is asked for again, and comes here again */
		return rc > 0 ? 0 : rc;
	}
	e->state = DONE;
	if (results_unknown (doc))
		e->error = "its task is not known any more";
	else
		e->doc = json_incref (doc);
	drop_payload (m, e);
	e->held = json_string_length (json_object_get (doc, "result")) + 1024;
	m->held_bytes += e->held;
	m->avg_bytes += ((double)e->held - m->avg_bytes) / 50;
	m->idle = false;
	return 0;
}

static double wait_of (const struct map *m)
{
	int64_t left = m->o->timeout_ms ? m->o->timeout_ms - (clock_now_ms () - m->began_ms) : 20000;
	double most = !m->idle || (!m->eof && !lines_is_file (m->in)) ? 0.5 : m->show.terminal || m->full_until_ms ? 1 : 20;
	if (left < 10)
		left = 10;
	return (double)left / 1000 < most ? (double)left / 1000 : most;
}

static json_t *running_ids (const struct map *m, uint64_t *items, unsigned most)
{
	json_t *ids = json_array ();
	unsigned n = 0;
	for (uint64_t i = m->head; i < m->sent && n < most; i++)
		if (at (m, i)->state == SENT) {
			items[n++] = i;
			json_array_append_new (ids, json_string (at (m, i)->id));
		}
	return ids;
}

/* Ask for the oldest: many at once while results come, then for whichever ends first. */
static int wait_some (struct map *m, struct err *err)
{
	uint64_t items[ASK];
	double wait = wait_of (m), fit = ANSWER_BYTES / (m->avg_bytes > 64 ? m->avg_bytes : 64);
	unsigned most = m->held_bytes > HELD_BYTES ? 1 : fit < 1 ? 1 : fit < m->ask ? (unsigned)fit : m->ask;
	json_t *ids = running_ids (m, items, most), *body, *answer, *docs, *doc;
	size_t n = json_array_size (ids);
	char *path, *text;
	struct api_req r = { .method = "POST", .wait_s = wait, .tries = 1 };
	int rc = 0;
	if (!n) {
		json_decref (ids);
		return 0;
	}
	path = xasprintf ("/v3/batch_status?wait=%g&until=%s", wait, m->idle ? "any" : "all");
	body = json_pack ("{s:o}", "task_ids", ids);
	text = json_dumps (body, JSON_COMPACT);
	r.path = path;
	r.body = text;
	m->idle = true;
	answer = patiently (m, &r, true, err);
	docs = json_object_get (answer, "results");
	for (size_t i = 0; answer && rc == 0 && i < n; i++)
		if ((doc = json_object_get (docs, at (m, items[i])->id)) && results_ended (doc))
			rc = take_doc (m, items[i], doc, err);
	if (answer && m->ask < ASK)
		m->ask++;
	if (!answer && err->code == ERR_TOO_LARGE && m->ask > 1)
		m->ask = m->ask / 4 + 1;	/* the results are larger than they were */
	else if (!answer)
		rc = -1;
	json_decref (answer);
	json_decref (body);
	free (text);
	free (path);
	return rc;
}

static void print_ended (struct map *m)
{
	struct map_line l;
	for (; m->head < m->tail && at (m, m->head)->state == DONE; m->head++) {
		struct entry *e = at (m, m->head);
		l = (struct map_line){ e->line, e->id, e->doc, e->error };
		if (m->wait)
			map_show_line (&m->show, &l);
		else
			map_show_id (&m->show, &l);
		m->held_bytes -= e->held;
		drop_payload (m, e);
		json_decref (e->doc);
		e->doc = NULL;
	}
	if (m->sent < m->head)
		m->sent = m->head;
	map_show_progress (&m->show, m->head, m->eof ? m->tail : 0, lines_part (m->in));
}

/* 0 all lines are through, 1 the time is over, -1 error. */
static int work (struct map *m, struct err *err)
{
	for (;;) {
		if (fill (m, err) < 0 || send_queued (m, err) < 0)
			return -1;
		print_ended (m);
		if (m->eof && m->head == m->tail)
			return 0;
		if (m->o->timeout_ms && clock_now_ms () - m->began_ms > m->o->timeout_ms)
			return 1;
		if (m->wait && wait_some (m, err) < 0)
			return -1;
		print_ended (m);
	}
}

int map_run (const struct submit_opts *o, const char *fn, const char *ep, bool wait)
{
	struct map m = { .o = o, .fn = fn, .wait = wait, .ask = ASK, .avg_bytes = 4096, .began_ms = clock_now_ms () };
	struct err err = { 0 };
	int rc = -1;
	map_show_start (&m.show, o);
	m.path = xasprintf ("/v3/endpoints/%s/submit", ep);
	if (!(m.in = lines_open (o->map, INPUT_MAX, &err)) || (o->resume && !(m.j = journal_open (o->resume, fn, ep, &err))))
		goto out;
	if (m.j && journal_tasks (m.j))
		fprintf (stderr, "weft: going on with %s: %" PRIu64 " lines are submitted already\n", o->resume, journal_tasks (m.j));
	if (m.j && journal_group (m.j))
		m.group = xstrdup (journal_group (m.j));
	m.ring = xcalloc (WINDOW, sizeof (*m.ring));
	rc = work (&m, &err);
out:
	map_show_end (&m.show);
	if (rc > 0)
		map_show_cut (&m.show, "the time to wait is over");
	rc = rc < 0 ? api_fail (wait ? "run" : "submit", &err) : rc > 0 ? EXIT_TIME_OVER : map_show_status (&m.show);
	if (rc == 1 && may_pass (&err) && m.head < m.tail)
		map_show_cut (&m.show, NULL);
	for (uint64_t i = m.head; m.ring && i < m.tail; i++) {
		json_decref (at (&m, i)->payload);
		json_decref (at (&m, i)->doc);
	}
	free (m.ring);
	free (m.path);
	free (m.group);
	lines_close (&m.in);
	journal_close (&m.j);
	return rc;
}
