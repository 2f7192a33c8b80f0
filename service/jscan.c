/* SPDX-License-Identifier: Apache-2.0 */
/* The parser goes through the text once, without recursion: `open` is the chain of containers that are not closed yet, each kept
 * in the `end` of its node until its real end is known. */
#include "service/jscan.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/utf8.h"

enum { DEPTH_MAX = 2048, FEW_KEYS = 8, NODES_FIRST = 32, SHORT_NUMBER = 18 };
#define NONE UINT32_MAX

struct parser {
	struct jscan *j;
	const uint8_t *p, *at, *end;
	const char *why;
	jscan_v open;		/* innermost container, or NONE */
	unsigned depth;
};

static int fail (struct parser *s, const char *why)
{
	s->why = why;
	return -1;
}

/* ---- nodes ------------------------------------------------------------------------------------------------------ */

static int add_node (struct parser *s, enum jscan_type type, size_t at, size_t n)
{
	struct jscan *j = s->j;

	if (j->nnodes == j->cap) {
		uint32_t cap = j->cap ? j->cap * 2 : NODES_FIRST;
		struct jscan_node *nodes = realloc (j->nodes, (size_t) cap * sizeof (*nodes));
		if (!nodes)
			return fail (s, "memory is short");
		j->nodes = nodes;
		j->cap = cap;
	}
	j->nodes[j->nnodes] = (struct jscan_node) { .at = (uint32_t) at, .n = (uint32_t) n, .end = j->nnodes + 1, .type = (uint8_t) type };
	j->nnodes++;
	return 0;
}

static bool same (const struct jscan *j, jscan_v a, jscan_v b)
{
	size_t n, m;
	const char *p = jscan_string (j, a, &n), *q = jscan_string (j, b, &m);

	return n == m && memcmp (p, q, n) == 0;
}

static int compare_keys (const void *a, const void *b, void *arg)
{
	size_t n, m;
	const char *p = jscan_string (arg, *(const jscan_v *) a, &n), *q = jscan_string (arg, *(const jscan_v *) b, &m);

	return n != m ? (n < m ? -1 : 1) : memcmp (p, q, n);
}

/* Sorting, not hashing: nobody can choose keys that make it slow. */
static int check_many_keys (struct parser *s, jscan_v object)
{
	struct jscan *j = s->j;
	uint32_t count = jscan_count (j, object), i = 0;
	jscan_v *keys = malloc (count * sizeof (*keys));
	bool twice = false;

	if (!keys)
		return fail (s, "memory is short");
	for (jscan_v k = object + 1; i < count; k = j->nodes[k + 1].end)
		keys[i++] = k;
	qsort_r (keys, count, sizeof (*keys), compare_keys, j);
	for (i = 1; i < count; i++)
		twice = twice || same (j, keys[i - 1], keys[i]);
	free (keys);
	return twice ? fail (s, "duplicate object key") : 0;
}

static int check_keys (struct parser *s, jscan_v object)
{
	const struct jscan *j = s->j;

	if (jscan_count (j, object) > FEW_KEYS)
		return check_many_keys (s, object);
	for (jscan_v a = object + 1; a < j->nnodes; a = j->nodes[a + 1].end)
		for (jscan_v b = object + 1; b < a; b = j->nodes[b + 1].end)
			if (same (j, a, b))
				return fail (s, "duplicate object key");
	return 0;
}

/* ---- strings ---------------------------------------------------------------------------------------------------- */

static int hex4 (const uint8_t *p, const uint8_t *end)
{
	int v = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		int c = p[i], low = c | 0x20;
		if (c >= '0' && c <= '9')
			v = v << 4 | (c - '0');
		else if (low >= 'a' && low <= 'f')
			v = v << 4 | (low - 'a' + 10);
		else
			return -1;
	}
	return v;
}

static uint8_t *put_utf8 (uint8_t *o, unsigned c)
{
	if (c < 0x80) {
		*o++ = (uint8_t) c;
	} else if (c < 0x800) {
		*o++ = (uint8_t) (0xc0 | c >> 6);
		*o++ = (uint8_t) (0x80 | (c & 0x3f));
	} else if (c < 0x10000) {
		*o++ = (uint8_t) (0xe0 | c >> 12);
		*o++ = (uint8_t) (0x80 | (c >> 6 & 0x3f));
		*o++ = (uint8_t) (0x80 | (c & 0x3f));
	} else {
		*o++ = (uint8_t) (0xf0 | c >> 18);
		*o++ = (uint8_t) (0x80 | (c >> 12 & 0x3f));
		*o++ = (uint8_t) (0x80 | (c >> 6 & 0x3f));
		*o++ = (uint8_t) (0x80 | (c & 0x3f));
	}
	return o;
}

/* at: behind "\u" */
static uint8_t *unicode (struct parser *s, uint8_t *o)
{
	int c = hex4 (s->at, s->end), low;

	if (c < 0)
		return NULL;
	s->at += 4;
	if (c >= 0xdc00 && c <= 0xdfff)
		return NULL;
	if (c >= 0xd800 && c <= 0xdbff) {
		if (s->end - s->at < 2 || s->at[0] != '\\' || s->at[1] != 'u' || (low = hex4 (s->at + 2, s->end)) < 0xdc00 || low > 0xdfff)
			return NULL;
		s->at += 6;
		c = 0x10000 + ((c & 0x3ff) << 10) + (low & 0x3ff);
	}
	return put_utf8 (o, (unsigned) c);
}

/* at: behind the backslash. An escape is never shorter than what it stands for. */
static uint8_t *escape (struct parser *s, uint8_t *o)
{
	if (s->at == s->end)
		return NULL;
	switch (*s->at++) {
	case '"': *o++ = '"'; break;
	case '\\': *o++ = '\\'; break;
	case '/': *o++ = '/'; break;
	case 'b': *o++ = '\b'; break;
	case 'f': *o++ = '\f'; break;
	case 'n': *o++ = '\n'; break;
	case 'r': *o++ = '\r'; break;
	case 't': *o++ = '\t'; break;
	case 'u': return unicode (s, o);
	default: return NULL;
	}
	return o;
}

/* Up to a quote or backslash; -1 at what may not stand in a string. */
static int string_run (struct parser *s)
{
	while ((s->at += utf8_plain (s->at, (size_t) (s->end - s->at))) < s->end) {
		size_t seq;
		if (*s->at == '"' || *s->at == '\\')
			return 0;
		if (*s->at < 0x20)
			return fail (s, "control character in a string");
		if (!(seq = utf8_seq (s->at, (size_t) (s->end - s->at))))
			return fail (s, "not UTF-8");
		s->at += seq;
	}
	return fail (s, "a string without end");
}

/* The rest of a string that has escapes; at: the first of them. */
static int string_decoded (struct parser *s, const uint8_t *start)
{
	struct jscan *j = s->j;
	const uint8_t *run = start;
	uint8_t *first, *o;

	/* all strings together are no longer than the text */
	if (!j->decoded && !(j->decoded = malloc (j->ntext)))
		return fail (s, "memory is short");
	first = o = (uint8_t *) j->decoded + j->ndecoded;
	for (;;) {
		memcpy (o, run, (size_t) (s->at - run));
		o += s->at - run;
		if (*s->at++ == '"')
			break;
		if (!(o = escape (s, o)))
			return fail (s, "invalid escape in a string");
		run = s->at;
		if (string_run (s) < 0)
			return -1;
	}
	if (add_node (s, JSCAN_STRING, j->ndecoded, (size_t) (o - first)) < 0)
		return -1;
	j->nodes[j->nnodes - 1].escaped = true;
	j->ndecoded += (uint32_t) (o - first);
	return 0;
}

/* at: the opening quote */
static int string (struct parser *s)
{
	const uint8_t *start = ++s->at;

	if (string_run (s) < 0)
		return -1;
	if (*s->at == '\\')
		return string_decoded (s, start);
	return add_node (s, JSCAN_STRING, (size_t) (start - s->p), (size_t) (s->at++ - start));
}

/* ---- numbers and words ------------------------------------------------------------------------------------------ */

static const uint8_t *digits (const uint8_t *p, const uint8_t *end)
{
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p;
}

/* The text behind a number is not part of it for strtoll and strtod either: the root is a container, so something follows. */
static bool fits (const uint8_t *start, bool real)
{
	double d;

	errno = 0;
	if (!real) {
		strtoll ((const char *) start, NULL, 10);
		return errno == 0;
	}
	d = strtod ((const char *) start, NULL);
	return errno != ERANGE || (d != HUGE_VAL && d != -HUGE_VAL);
}

static int number (struct parser *s)
{
	const uint8_t *start = s->at, *q = start, *from, *end = s->end;
	bool real = false;

	q += *q == '-';
	from = q;
	q = digits (q, end);
	if (q == from || (*from == '0' && q - from > 1))
		return fail (s, "invalid number");
	if (q < end && *q == '.') {
		real = true;
		from = q + 1;
		if ((q = digits (from, end)) == from)
			return fail (s, "invalid number");
	}
	if (q < end && (*q == 'e' || *q == 'E')) {
		real = true;
		q++;
		q += q < end && (*q == '+' || *q == '-');
		from = q;
		if ((q = digits (from, end)) == from)
			return fail (s, "invalid number");
	}
	if (q == end)
		return fail (s, "the text ends too early");
	if ((q - start > SHORT_NUMBER || real) && !fits (start, real))
		return fail (s, "number out of range");
	s->at = q;
	return add_node (s, real ? JSCAN_REAL : JSCAN_INTEGER, (size_t) (start - s->p), (size_t) (q - start));
}

static int word (struct parser *s, const char *text, enum jscan_type type)
{
	size_t n = strlen (text), at = (size_t) (s->at - s->p);

	if ((size_t) (s->end - s->at) < n || memcmp (s->at, text, n) != 0)
		return fail (s, "invalid token");
	s->at += n;
	return add_node (s, type, at, n);
}

/* ---- structure -------------------------------------------------------------------------------------------------- */

/* The next character that is not white space, or -1 at the end. */
static int peek (struct parser *s)
{
	while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t' || *s->at == '\r'))
		s->at++;
	return s->at < s->end ? *s->at : -1;
}

static int key (struct parser *s)
{
	size_t n;
	const char *p;

	if (peek (s) != '"')
		return fail (s, "a key in quotes is expected");
	if (string (s) < 0)
		return -1;
	p = jscan_string (s->j, s->j->nnodes - 1, &n);
	if (memchr (p, 0, n))
		return fail (s, "NUL character in a key");
	if (peek (s) != ':')
		return fail (s, "':' is expected");
	s->at++;
	return 0;
}

static void close_container (struct parser *s)
{
	struct jscan_node *n = &s->j->nodes[s->open];

	s->open = n->end;
	s->depth--;
	n->end = s->j->nnodes;
	s->at++;
	n->n = (uint32_t) (s->at - s->p) - n->at;
}

/* A container is opened: its end keeps the one around it. Closed at once when empty. 1 = a value comes next, 0 = it is complete. */
static int open_container (struct parser *s, enum jscan_type type)
{
	if (add_node (s, type, (size_t) (s->at - s->p), 0) < 0)
		return -1;
	s->j->nodes[s->j->nnodes - 1].end = s->open;
	s->open = s->j->nnodes - 1;
	s->depth++;
	s->at++;
	if (peek (s) == (type == JSCAN_OBJECT ? '}' : ']')) {
		close_container (s);
		return 0;
	}
	if (type == JSCAN_OBJECT && key (s) < 0)
		return -1;
	return 1;
}

/* 1 = a container was opened, its first value comes next; 0 = the value is complete. */
static int value (struct parser *s)
{
	if (s->depth >= DEPTH_MAX)
		return fail (s, "nested too deeply");
	switch (peek (s)) {
	case '{': return open_container (s, JSCAN_OBJECT);
	case '[': return open_container (s, JSCAN_ARRAY);
	case '"': return string (s);
	case 't': return word (s, "true", JSCAN_TRUE);
	case 'f': return word (s, "false", JSCAN_FALSE);
	case 'n': return word (s, "null", JSCAN_NULL);
	case -1: return fail (s, "the text ends too early");
	case '-': case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9':
		return number (s);
	default: return fail (s, "invalid token");
	}
}

/* A value of the open container is complete: 1 = another one comes, 0 = that was the last of all. */
static int after_value (struct parser *s)
{
	while (s->open != NONE) {
		struct jscan_node *n = &s->j->nodes[s->open];
		bool object = n->type == JSCAN_OBJECT;
		int c = peek (s);
		n->count++;
		if (c == ',') {
			s->at++;
			return object && key (s) < 0 ? -1 : 1;
		}
		if (c != (object ? '}' : ']'))
			return fail (s, c < 0 ? "the text ends too early" : object ? "',' or '}' is expected" : "',' or ']' is expected");
		if (object && check_keys (s, s->open) < 0)
			return -1;
		close_container (s);
	}
	return 0;
}

static int document (struct parser *s)
{
	int c = peek (s), rc;

	if (c != '{' && c != '[')
		return fail (s, "an object or array is expected");
	do {
		while ((rc = value (s)) > 0)
			;
	} while (rc == 0 && (rc = after_value (s)) > 0);
	if (rc == 0 && peek (s) != -1)
		return fail (s, "something follows the end");
	return rc;
}

int jscan_parse (struct jscan *j, const char *p, size_t n, char *why, size_t cap)
{
	struct parser s = { .j = j, .p = (const uint8_t *) p, .open = NONE };
	unsigned line = 1;
	const uint8_t *start;

	memset (j, 0, sizeof (*j));
	if (!n || n >= INT32_MAX) {
		snprintf (why, cap, n ? "the body is too large" : "a JSON body is required");
		return -1;
	}
	j->text = p;
	j->ntext = (uint32_t) n;
	s.at = start = s.p;
	s.end = s.p + n;
	if (document (&s) == 0)
		return 0;
	for (const uint8_t *q = s.p; q < s.at; q++)
		if (*q == '\n') {
			line++;
			start = q + 1;
		}
	snprintf (why, cap, "the body is not valid JSON: %s at line %u column %zu", s.why, line, (size_t) (s.at - start) + 1);
	jscan_fini (j);
	return -1;
}

void jscan_fini (struct jscan *j)
{
	free (j->decoded);
	free (j->nodes);
	memset (j, 0, sizeof (*j));
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

jscan_v jscan_get (const struct jscan *j, jscan_v object, const char *key_text)
{
	size_t len = strlen (key_text), n;

	if (jscan_type (j, object) != JSCAN_OBJECT)
		return 0;
	for (jscan_v k = jscan_first (j, object); k; k = jscan_next (j, object, k)) {
		const char *p = jscan_string (j, k, &n);
		if (n == len && memcmp (p, key_text, n) == 0)
			return k + 1;
	}
	return 0;
}

json_t *jscan_tree (const struct jscan *j, jscan_v v)
{
	return json_loadb (j->text + j->nodes[v].at, j->nodes[v].n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
}
