/* SPDX-License-Identifier: Apache-2.0 */
/* Commands of the batch system. One of a kind runs at a time, each with a time limit; nothing here waits. */
#include "endpoint/providers/batch_internal.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/spawn.h"
#include "common/utf8.h"
#include "common/xmem.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void batch_arg (struct batch_args *a, const char *fmt, ...)
{
	va_list ap;
	char *s = NULL;

	if (a->n == BATCH_ARGS_MAX)
		return;
	va_start (ap, fmt);
	if (vasprintf (&s, fmt, ap) < 0)
		abort ();
	va_end (ap);
	a->v[a->n++] = s;
}

void batch_args_free (struct batch_args *a)
{
	for (size_t i = 0; i < a->n; i++)
		free (a->v[i]);
	free (a);
}

bool batch_says (const char *text, const char *const *parts)
{
	for (size_t i = 0; parts && parts[i]; i++)
		if (strcasestr (text, parts[i]))
			return true;
	return false;
}

const char *batch_advice (const struct batch_system *s, const char *said)
{
	for (const struct batch_hint *h = s->hints; h && h->said; h++)
		if (strcasestr (said, h->said))
			return h->advice;
	return NULL;
}

/* What a command said, as one line for people. */
static void one_line (char *out, size_t cap, const char *text, size_t n)
{
	size_t at = 0;

	while (n && isspace ((unsigned char) text[n - 1]))
		n--;
	for (; n && isspace ((unsigned char) *text); n--)
		text++;
	for (size_t i = 0; i < n && at + 4 < cap; i++) {
		if (text[i] == '\n') {
			memcpy (out + at, " | ", 3);
			at += 3;
		} else {
			out[at++] = (unsigned char) text[i] < ' ' || text[i] == 0x7f ? ' ' : text[i];
		}
	}
	out[at] = 0;
}

/* What a command printed, as text: no zero bytes, and UTF-8, since it goes into JSON. */
static char *as_text (const char *out, size_t n)
{
	char *text = xcalloc (1, n + 1);

	memcpy (text, out, n);
	for (char *p = text; (p = memchr (p, 0, n - (size_t) (p - text)));)
		*p = '?';
	utf8_mend (text, n);
	return text;
}

static void call_done (int status, const char *out, size_t nout, const char *errout, size_t nerr, const struct err *err, void *arg)
{
	struct call *c = arg;
	struct batch *b = c->b;
	char said[400] = "";
	char *text, *words;

	if (!b) {
		free (c);
		return;
	}
	*c->slot = NULL;
	text = as_text (out, nout);
	words = as_text (errout, nerr);
	if (nerr)
		one_line (said, sizeof (said), words, nerr);
	else if (status != 0)
		one_line (said, sizeof (said), text, nout);
	free (words);
	if (err && !*said)
		snprintf (said, sizeof (said), "%s", err->text);
	else if (status != 0 && !*said)
		spawn_status_text (status, said);
	c->done (b, c->job, status, text, said, err);
	free (text);
	free (c);
	batch_look (b);
}

int batch_run (struct batch *b, struct call **slot, struct job *j, struct batch_args *a, const char *input, call_f *done, struct err *err)
{
	struct call *c = xcalloc (1, sizeof (*c));
	int rc;

	*c = (struct call) { b, j, done, slot };
	rc = spawn_capture (b->env.loop, (const char *const *) a->v, input, b->conf->cmd_timeout_ms, BATCH_OUTPUT_MAX, call_done, c, err);
	batch_args_free (a);
	if (rc < 0)
		free (c);
	else
		*slot = c;
	return rc;
}

void batch_in_trouble (struct batch *b, const char *command, const char *said)
{
	char text[sizeof (b->trouble)];

	snprintf (text, sizeof (text), "%s does not answer: %s: %.300s", b->s->title, command, said);
	if (strcmp (text, b->trouble) != 0)
		log_warn ("batch", "the scheduler does not answer", "scheduler=%s command=%s said=%s", b->s->title, command, said);
	snprintf (b->trouble, sizeof (b->trouble), "%s", text);
}

void batch_list_in (struct batch *b, int64_t ms)
{
	int64_t at = clock_now_ms () + ms;

	if (at < b->list_at_ms)
		b->list_at_ms = at;
}
