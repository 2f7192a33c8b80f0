/* SPDX-License-Identifier: Apache-2.0 */
/* What `qstat -f -F json` prints. It is often no JSON: up to 23.06 numbers stand there as they were given ("Job_Name":1.), backslashes of a
 * user's variables swallow the quote after them, control characters and bytes that are not UTF-8 go out raw. All versions print one member a
 * line, so lines are read: an object begins with a line that ends with a brace, a value stands between the first and the last quote of
 * its line, and what is no such line is passed over. A job's members:
 *
 *     depth 1 {        2 "Jobs":{        3 "12.server":{        "Job_Name":"x", "job_state":"R", ... and objects, which are skipped
 *
 * An answer whose braces do not close was cut: its rows are good, but it does not tell which jobs are missing. */
#include "endpoint/providers/pbs.h"

#include <stdlib.h>
#include <string.h>

enum { NODES_MAX = 200, WHY_MAX = 400, TERMINATED = 91 };	/* TERMINATED: the substate after qdel */

struct reader {
	char *id, *name, *state, *comment, *holds, *hosts, *exit, *substate;	/* of the present job, into the text; NULL: not said */
	int depth;
	bool jobs;			/* inside "Jobs" */
	batch_row_f *cb;
	void *arg;
};

/* What the text between two quotes means, as one line. */
static char *unescape (char *s)
{
	char *to = s;

	for (char *p = s; *p; p++) {
		unsigned char c = (unsigned char) *p;
		if (c == '\\' && p[1]) {
			c = (unsigned char) *++p;
			c = strchr ("nrtbf", c) ? ' ' : c;
		}
		*to++ = c < ' ' || c == 0x7f ? ' ' : (char) c;
	}
	*to = 0;
	return s;
}

/* Splits `"key":value`; the value without its quotes. NULL: it is no member. */
static char *member (char *line, char **key)
{
	char *end = strstr (line, "\":"), *v;
	size_t n;

	if (*line != '"' || !end || end == line)
		return NULL;
	*key = line + 1;
	*end = 0;
	v = end + 2;
	v += strspn (v, " \t");
	if (*v != '"')
		return v;
	n = strlen (++v);
	if (n && v[n - 1] == '"')
		v[n - 1] = 0;
	return unescape (v);
}

static void take_member (struct reader *r, char *line)
{
	const struct { const char *name; char **at; } wanted[] = {
		{ "Job_Name", &r->name }, { "job_state", &r->state }, { "comment", &r->comment }, { "Hold_Types", &r->holds },
		{ "exec_host", &r->hosts }, { "Exit_status", &r->exit }, { "substate", &r->substate },
	};
	char *key, *value = member (line, &key);

	for (size_t i = 0; value && i < sizeof (wanted) / sizeof (wanted[0]); i++)
		if (strcmp (key, wanted[i].name) == 0)
			*wanted[i].at = value;
}

/* "node1/0*2+node2/0*2" as "node1,node2". */
static void node_names (char out[NODES_MAX], const char *hosts)
{
	size_t at = 0;

	out[0] = 0;
	for (const char *p = hosts; *p; p += strcspn (p, "+"), p += *p == '+') {
		size_t n = strcspn (p, "/+");
		const char *last = strrchr (out, ',');
		last = last ? last + 1 : out;
		if (!n || (strlen (last) == n && strncmp (last, p, n) == 0))
			continue;
		if (at + n + 2 > NODES_MAX)
			break;
		at += (size_t) snprintf (out + at, NODES_MAX - at, "%s%.*s", at ? "," : "", (int) n, p);
	}
}

/* Exit_status: the command's own up to 255, 256 + n for signal n, below 0 PBS's (JOB_EXEC_* of its job.h). */
static const char *how_it_ended (const struct reader *r, char why[64])
{
	int code = r->exit ? atoi (r->exit) : 0;

	why[0] = 0;
	if (!r->exit || (r->substate && atoi (r->substate) == TERMINATED))
		return "F deleted";
	switch (code) {
	case 0:
		return "F ended";
	case -20:
		return "F node";
	case -24: case -25: case -28:
		return "F cpu";
	case -26: case -27:
		return "F memory";
	case -29:
		return "F walltime";
	}
	if (code < 0)
		snprintf (why, 64, "code %d", code);
	else if (code > 256)
		snprintf (why, 64, "signal %d", code - 256);
	else
		snprintf (why, 64, "exit status %d", code);
	return code < 0 ? "F start" : code > 256 ? "F signal" : "F exit";
}

static const char *state_word (const struct reader *r, char why[64])
{
	static const char never[] = "Can Never Run";	/* the scheduler's comment on a job that it has accepted all the same */

	why[0] = 0;
	if (!r->state)
		return "";
	if (strcmp (r->state, "F") == 0 || (strcmp (r->state, "E") == 0 && r->exit))
		return how_it_ended (r, why);
	if (strcmp (r->state, "Q") == 0 && r->comment && strncmp (r->comment, never, sizeof (never) - 1) == 0)
		return "Q never";
	if (strcmp (r->state, "H") == 0 && r->holds && strpbrk (r->holds, "sp")) {
		snprintf (why, 64, "hold type %.20s", r->holds);
		return "H system";
	}
	if (strcmp (r->state, "H") == 0)
		snprintf (why, 64, "%s", r->holds && strchr (r->holds, 'o') ? "by an operator" : "by its owner");
	return r->state;
}

static void emit (struct reader *r)
{
	char why[64], reason[WHY_MAX], nodes[NODES_MAX];
	const char *state = state_word (r, why);
	const char *comment = r->comment ? r->comment : "";

	node_names (nodes, r->hosts ? r->hosts : "");
	snprintf (reason, sizeof (reason), "%s%s%s", why, *why && *comment ? "; " : "", comment);
	r->cb (&(struct batch_row) { .id = r->id, .name = r->name ? r->name : "", .state = state, .nodes = nodes, .reason = reason }, r->arg);
}

static void open_object (struct reader *r, char *line)
{
	char *key;

	r->depth++;
	if (!member (line, &key))
		key = NULL;
	if (r->depth == 2)
		r->jobs = key && strcmp (key, "Jobs") == 0;
	if (r->depth == 3 && r->jobs) {
		r->id = key;
		r->name = r->state = r->comment = r->holds = r->hosts = r->exit = r->substate = NULL;
	}
}

static void take_line (struct reader *r, char *line)
{
	size_t n;

	line += strspn (line, " \t\r");
	for (n = strlen (line); n && strchr (" \t\r,", line[n - 1]); n--)
		line[n - 1] = 0;
	if (!n)
		return;
	if (strchr ("{[", line[n - 1]) && (n == 1 || (*line == '"' && r->depth))) {
		open_object (r, line);
	} else if (strchr ("}]", *line) && r->depth) {
		if (r->depth == 3 && r->jobs && r->id)
			emit (r);
		r->depth--;
	} else if (r->depth == 3 && r->jobs && r->id) {
		take_member (r, line);
	}
}

int pbs_rows (char *out, batch_row_f *cb, void *arg)
{
	struct reader r = { .cb = cb, .arg = arg };
	bool any = false, blank = true;

	for (char *p = out, *next; p && *p; p = next) {
		if ((next = strchr (p, '\n')))
			*next++ = 0;
		blank = blank && !p[strspn (p, " \t\r")];
		take_line (&r, p);
		any = any || r.depth;
	}
	return blank || (any && r.depth == 0) ? 0 : -1;
}
