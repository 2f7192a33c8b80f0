/* SPDX-License-Identifier: Apache-2.0 */
/* Request heads, in place and strictly (RFC 9112). What two parsers could read differently is refused, because a proxy
 * before us may be the other one: bare LF, folded lines, blanks before colons, length given twice or with chunked.
 *
 * Lines are judged as soon as they are complete, so that garbage is answered at once and not when the time is up. */
#include "common/http_internal.h"

#include <string.h>
#include <strings.h>

enum { C_TOKEN = 1, C_TARGET = 2, C_VALUE = 4 };

#define T C_TOKEN | C_TARGET | C_VALUE
#define U C_TARGET | C_VALUE
#define V C_VALUE
static const unsigned char class[256] = {
	['\t'] = V, [' '] = V,
	['!'] = T, ['"'] = V, ['#'] = C_TOKEN | C_VALUE, ['$'] = T, ['%'] = T, ['&'] = T, ['\''] = T, ['('] = U, [')'] = U, ['*'] = T,
	['+'] = T, [','] = U, ['-'] = T, ['.'] = T, ['/'] = U, ['0' ... '9'] = T, [':'] = U, [';'] = U, ['<'] = V,
	['='] = U, ['>'] = V, ['?'] = U, ['@'] = U, ['A' ... 'Z'] = T, ['['] = U, ['\\'] = V, [']'] = U, ['^'] = T, ['_'] = T,
	['`'] = T, ['a' ... 'z'] = T, ['{'] = U, ['|'] = T, ['}'] = U, ['~'] = T, [0x80 ... 0xff] = V,
};
#undef T
#undef U
#undef V

static const struct { const char *name; size_t n; enum http_method m; } methods[] = {
	{ "GET", 3, HTTP_GET }, { "POST", 4, HTTP_POST }, { "HEAD", 4, HTTP_HEAD }, { "PUT", 3, HTTP_PUT },
	{ "DELETE", 6, HTTP_DELETE }, { "PATCH", 5, HTTP_PATCH }, { "OPTIONS", 7, HTTP_OPTIONS },
};

static long fail (int *status, int code)
{
	*status = code;
	return -1;
}

static const char *span (const char *p, const char *end, int want)
{
	while (p < end && (class[(unsigned char) *p] & want))
		p++;
	return p;
}

static bool str_is (struct http_str s, const char *lit)
{
	return s.n == strlen (lit) && strncasecmp (s.p, lit, s.n) == 0;
}

/* At p: CRLF -> 2, not all there -> 0, anything else -> -1. */
static int line_end (const char *p, const char *end)
{
	if (p == end)
		return 0;
	if (*p != '\r')
		return -1;
	if (p + 1 == end)
		return 0;
	return p[1] == '\n' ? 2 : -1;
}

/* "/path?query", "http://host/path?query" or "*". */
static int split_target (struct http_head *h)
{
	struct http_str t = h->target;
	const char *q;

	if (t.n > 7 && strncasecmp (t.p, "http://", 7) == 0) {
		const char *slash = memchr (t.p + 7, '/', t.n - 7);
		if (!slash)
			return -1;
		t.n -= (size_t) (slash - t.p);
		t.p = slash;
	} else if (*t.p != '/' && !(t.n == 1 && *t.p == '*' && h->method == HTTP_OPTIONS))
		return -1;
	q = memchr (t.p, '?', t.n);
	h->path.p = t.p;
	h->path.n = q ? (size_t) (q - t.p) : t.n;
	h->query.p = q ? q + 1 : t.p + t.n;
	h->query.n = q ? t.n - h->path.n - 1 : 0;
	return 0;
}

/* Returns bytes, 0 = incomplete, -1. */
static long request_line (const char *p, const char *end, struct http_head *h, int *status)
{
	const char *start = p, *s = p;
	int rc;

	p = span (p, end, C_TOKEN);
	if (p == end)
		return end - start > 32 ? fail (status, 400) : 0;
	if (p == s || *p != ' ')
		return fail (status, 400);
	h->method = 0;
	for (size_t i = 0; i < sizeof (methods) / sizeof (methods[0]); i++)
		if (methods[i].n == (size_t) (p - s) && memcmp (methods[i].name, s, methods[i].n) == 0)
			h->method = methods[i].m;
	s = ++p;
	p = span (p, end, C_TARGET);
	if (p - start > HTTP_LINE_MAX)
		return fail (status, 414);
	if (p == end)
		return 0;
	if (p == s || *p != ' ')
		return fail (status, 400);
	h->target.p = s;
	h->target.n = (size_t) (p - s);
	s = ++p;
	if (memcmp (s, "HTTP/1.1", end - s < 8 ? (size_t) (end - s) : 8) != 0) {
		if (memcmp (s, "HTTP/1.0", end - s < 8 ? (size_t) (end - s) : 8) != 0)
			return fail (status, end - s > 7 && memcmp (s, "HTTP/", 5) == 0 && s[5] >= '2' && s[5] <= '9' &&
						     s[6] == '.' ? 505 : 400);
		h->http10 = true;
	}
	if (end - s < 8)
		return 0;
	p = s + 8;
	if ((rc = line_end (p, end)) <= 0)
		return rc < 0 ? fail (status, 400) : 0;
	if (!h->method)
		return fail (status, 501);
	if (split_target (h) < 0)
		return fail (status, 400);
	return p + 2 - start;
}

/* One "Name: value" line; bytes, 0 = incomplete, -1. */
static long header_line (const char *p, const char *end, struct http_str *name, struct http_str *value)
{
	const char *start = p, *v;
	int rc;

	p = span (p, end, C_TOKEN);
	if (p == end)
		return 0;
	if (p == start || *p != ':')
		return -1;
	name->p = start;
	name->n = (size_t) (p - start);
	for (p++; p < end && (*p == ' ' || *p == '\t'); p++)
		;
	v = p;
	p = span (p, end, C_VALUE);
	if ((rc = line_end (p, end)) <= 0)
		return rc;
	value->p = v;
	value->n = (size_t) (p - v);
	while (value->n && (v[value->n - 1] == ' ' || v[value->n - 1] == '\t'))
		value->n--;
	return p + 2 - start;
}

static int parse_length (struct http_str v, int64_t *out)
{
	int64_t n = 0;

	if (!v.n || v.n > 18)
		return -1;
	for (size_t i = 0; i < v.n; i++) {
		if (v.p[i] < '0' || v.p[i] > '9')
			return -1;
		n = n * 10 + (v.p[i] - '0');
	}
	*out = n;
	return 0;
}

static void parse_connection (struct http_str v, struct http_head *h, bool *close)
{
	while (v.n) {
		struct http_str t = { v.p, 0 };
		const char *comma = memchr (v.p, ',', v.n);
		size_t used = comma ? (size_t) (comma - v.p) + 1 : v.n;
		t.n = comma ? used - 1 : used;
		while (t.n && (*t.p == ' ' || *t.p == '\t')) {
			t.p++;
			t.n--;
		}
		while (t.n && (t.p[t.n - 1] == ' ' || t.p[t.n - 1] == '\t'))
			t.n--;
		if (str_is (t, "close"))
			*close = true;
		else if (str_is (t, "keep-alive") && h->http10)
			h->keep_alive = true;
		v.p += used;
		v.n -= used;
	}
}

struct seen { int host; bool te, close; };

/* The headers that decide where the message ends. 0, or the status to answer. */
static int framing_header (struct http_head *h, struct http_str name, struct http_str value, struct seen *seen)
{
	switch (name.n) {
	case 4:
		if (str_is (name, "host"))
			seen->host++;
		break;
	case 6:
		if (str_is (name, "expect")) {
			if (!str_is (value, "100-continue"))
				return 417;
			h->expect_continue = true;
		}
		break;
	case 10:
		if (str_is (name, "connection"))
			parse_connection (value, h, &seen->close);
		break;
	case 14:
		if (str_is (name, "content-length") && (h->content_length >= 0 || parse_length (value, &h->content_length) < 0))
			return 400;
		break;
	case 17:
		if (str_is (name, "transfer-encoding")) {
			if (seen->te)
				return 400;
			seen->te = true;
			if (!str_is (value, "chunked"))
				return 501;
			h->chunked = true;
		}
		break;
	}
	return 0;
}

static int check_head (struct http_head *h, const struct seen *seen)
{
	if (seen->te && (h->content_length >= 0 || h->http10))
		return 400;
	if (seen->host > 1 || (!h->http10 && seen->host != 1))
		return 400;
	if (seen->close)
		h->keep_alive = false;
	if (h->http10)
		h->expect_continue = false;
	return 0;
}

long http_parse_head (const char *buf, size_t n, struct http_head *h, int *status)
{
	struct seen seen = { 0, false, false };
	const char *p = buf, *end = buf + (n < HTTP_HEAD_MAX ? n : HTTP_HEAD_MAX);
	bool more = n >= HTTP_HEAD_MAX;
	int rc = 0, later = 0;
	long used;

	/* the array of headers is filled as far as nheaders says; clearing it would cost more than parsing */
	memset (h, 0, offsetof (struct http_head, headers));
	h->nheaders = 0;
	h->content_length = -1;
	h->chunked = h->expect_continue = h->http10 = false;
	h->keep_alive = true;
	if (p < end && *p == '\r') {		/* one empty line before a request is allowed (RFC 9112, 2.2) */
		if ((rc = line_end (p, end)) <= 0)
			return rc < 0 ? fail (status, 400) : 0;
		p += 2;
	}
	if ((used = request_line (p, end, h, status)) <= 0)
		return used < 0 ? -1 : more ? fail (status, 414) : 0;
	p += used;
	h->keep_alive = !h->http10;
	for (;;) {
		struct http_str name, value;
		if (p < end && *p == '\r') {
			if ((rc = line_end (p, end)) < 0)
				return fail (status, 400);
			if (rc > 0)
				break;
		}
		if (p == end || (used = header_line (p, end, &name, &value)) == 0 || *p == '\r')
			return more ? fail (status, 431) : 0;
		if (used < 0)
			return fail (status, 400);
		if (h->nheaders == HTTP_HEADERS_MAX)
			return fail (status, 431);
		h->headers[h->nheaders].name = name;
		h->headers[h->nheaders++].value = value;
		if ((rc = framing_header (h, name, value, &seen)) == 400)
			return fail (status, 400);
		if (rc && !later)
			later = rc;
		p += used;
	}
	p += 2;
	if ((rc = check_head (h, &seen)) || (rc = later))
		return fail (status, rc);
	return p - buf;
}
