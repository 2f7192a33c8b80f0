/* SPDX-License-Identifier: Apache-2.0 */
/* Requests: one allocation holds the fields, the head's text and, when it came with it, the body. */
#include "common/http_internal.h"
#include "common/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct http_req *req_create (struct http_conn *c, const struct http_head *h, const char *head, size_t head_len, size_t room)
{
	size_t fields = (size_t) h->nheaders * sizeof (struct http_field);
	struct http_req *r = malloc (sizeof (*r) + fields + head_len + room + 1);
	char *text;

	if (!r)
		return NULL;
	memset (r, 0, sizeof (*r));
	text = (char *) r->fields + fields;
	memcpy (text, head, head_len);
	r->server = c->server;
	r->conn = c;
	r->started_ns = c->first_ns;
	r->method = h->method;
	r->http10 = h->http10;
	r->path = (struct http_str) { text + (h->path.p - head), h->path.n };
	r->query = (struct http_str) { text + (h->query.p - head), h->query.n };
	r->nfields = (uint16_t) h->nheaders;
	for (int i = 0; i < h->nheaders; i++) {
		r->fields[i].name = (struct http_str) { text + (h->headers[i].name.p - head), h->headers[i].name.n };
		r->fields[i].value = (struct http_str) { text + (h->headers[i].value.p - head), h->headers[i].value.n };
	}
	r->inline_body = true;
	r->body = (uint8_t *) text + head_len;
	r->body[0] = 0;
	return r;
}

void req_free (struct http_req *r)
{
	if (!r)
		return;
	r->server->buffered -= r->charged;
	if (!r->inline_body)
		free (r->body);
	free (r);
}

/* Room for `want` body bytes in all. Memory grows as bytes arrive, whatever was announced; `exact`: want
 * is known to be the end. */
int req_body_room (struct http_req *r, size_t want, bool exact)
{
	size_t cap = r->body_cap ? r->body_cap : HTTP_STEP;
	uint8_t *p;

	if (want <= r->body_cap)
		return 0;
	while (cap < want)
		cap *= 2;
	if (exact && cap > want)
		cap = want;
	if (r->server->buffered + (cap - r->charged) > r->server->o.max_buffered_bytes)
		return 503;
	if (!(p = realloc (r->inline_body ? NULL : r->body, cap + 1)))
		return 503;
	r->server->buffered += cap - r->charged;
	r->charged = cap;
	r->body = p;
	r->body_cap = cap;
	r->inline_body = false;
	return 0;
}

enum http_method http_method (const struct http_req *r)
{
	return r->method;
}

struct http_str http_path (const struct http_req *r)
{
	return r->path;
}

struct http_str http_query (const struct http_req *r)
{
	return r->query;
}

struct http_str http_header (const struct http_req *r, const char *name)
{
	size_t n = strlen (name);

	for (unsigned i = 0; i < r->nfields; i++)
		if (r->fields[i].name.n == n && strncasecmp (r->fields[i].name.p, name, n) == 0)
			return r->fields[i].value;
	return (struct http_str) { NULL, 0 };
}

struct http_str http_body (const struct http_req *r)
{
	return (struct http_str) { (const char *) r->body, r->body_len };
}

/* Made into the request, so that it outlives the connection. */
struct http_str http_peer (const struct http_req *cr)
{
	struct http_req *r = (struct http_req *) cr;	/* a cache, not a change */

	if (!r->peer_text_n && r->conn) {
		const uint8_t *a = r->conn->peer;
		static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
		int family = r->conn->peer_family;
		if (family == AF_INET6 && memcmp (a, mapped, 12) == 0) {
			a += 12;
			family = AF_INET;
		}
		if (inet_ntop (family, a, r->peer_text, sizeof (r->peer_text)))
			r->peer_text_n = (uint8_t) strlen (r->peer_text);
	}
	return (struct http_str) { r->peer_text, r->peer_text_n };
}

int64_t http_started_real_ns (const struct http_req *r)
{
	return r->started_ns;
}

void *http_user (const struct http_req *r)
{
	return r->user;
}

void http_set_user (struct http_req *r, void *user)
{
	r->user = user;
}

void http_on_abort (struct http_req *r, void (*cb) (struct http_req *r, void *arg), void *arg)
{
	r->abort_cb = cb;
	r->abort_arg = arg;
	if (cb && r->conn && r->conn->eof)
		server_resume (r->conn);	/* it has gone already: say so from the loop */
}

bool http_gone (const struct http_req *r)
{
	return !r->conn;
}

/* ---- query -------------------------------------------------------------------------------------------------- */

static int hex (char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The next decoded character: 0..255, -1 at the end, -2 bad encoding. */
static int decode_one (const char **p, const char *end)
{
	const char *s = *p;

	if (s == end)
		return -1;
	if (*s == '+') {
		*p = s + 1;
		return ' ';
	}
	if (*s != '%') {
		*p = s + 1;
		return (unsigned char) *s;
	}
	if (end - s < 3 || hex (s[1]) < 0 || hex (s[2]) < 0)
		return -2;
	*p = s + 3;
	return hex (s[1]) * 16 + hex (s[2]);
}

static bool name_is (const char *p, const char *end, const char *name)
{
	int c;

	while ((c = decode_one (&p, end)) >= 0)
		if (!*name || c != (unsigned char) *name++)
			return false;
	return c == -1 && !*name;
}

static int decode_value (const char *p, const char *end, char *out, size_t cap)
{
	size_t n = 0;
	int c;

	while ((c = decode_one (&p, end)) >= 0) {
		if (c == 0) {
			errno = EINVAL;
			return -1;
		}
		if (n + 1 >= cap) {
			errno = E2BIG;
			return -1;
		}
		out[n++] = (char) c;
	}
	if (c == -2 || !cap) {
		errno = c == -2 ? EINVAL : E2BIG;
		return -1;
	}
	out[n] = 0;
	return 0;
}

int http_query_param (const struct http_req *r, const char *name, char *out, size_t cap)
{
	const char *p = r->query.p, *end = p + r->query.n;

	while (p < end) {
		const char *amp = memchr (p, '&', (size_t) (end - p)), *stop = amp ? amp : end;
		const char *eq = memchr (p, '=', (size_t) (stop - p));
		if (name_is (p, eq ? eq : stop, name))
			return decode_value (eq ? eq + 1 : stop, stop, out, cap);
		p = amp ? amp + 1 : end;
	}
	errno = ENOENT;
	return -1;
}

void http_reply (struct http_req *r, int status, const char *content_type, const char *extra_headers, struct buf *body)
{
	struct http_server *s = r->server;

	if (r->conn) {
		conn_reply (r->conn, r, status, content_type, extra_headers, body);
		return;
	}
	if (body)
		buf_fini (body);
	req_free (r);
	s->orphans--;
	server_release (s);
}
