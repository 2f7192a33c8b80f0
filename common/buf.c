/* SPDX-License-Identifier: Apache-2.0 */
/* Invariant: data is NULL and cap 0, or data has cap + 1 bytes, len <= cap <= limit, and data[len] is NUL. */
#include "common/buf.h"
#include "common/decimal.h"
#include "common/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUF_DEFAULT_MAX = 1 << 30, BUF_FIRST = 64 };

static size_t limit (const struct buf *b)
{
	return b->max ? b->max : BUF_DEFAULT_MAX;
}

void buf_init (struct buf *b, size_t max_bytes)
{
	memset (b, 0, sizeof (*b));
	b->max = max_bytes;
}

void buf_fini (struct buf *b)
{
	size_t max = b->max;

	free (b->data);
	buf_init (b, max);
}

void buf_clear (struct buf *b)
{
	b->len = 0;
	b->failed = false;
	if (b->data)
		b->data[0] = '\0';
}

int buf_reserve (struct buf *b, size_t more)
{
	size_t cap;
	uint8_t *p;

	if (b->failed)
		return -1;
	if (more > limit (b) - b->len) /* len <= limit always */
		goto fail;
	if (b->data && more <= b->cap - b->len)
		return 0;
	cap = b->cap ? b->cap : BUF_FIRST;
	while (cap < b->len + more)
		cap = cap > limit (b) / 2 ? limit (b) : cap * 2;
	if (cap > limit (b))
		cap = limit (b);
	if (!(p = realloc (b->data, cap + 1)))
		goto fail;
	p[b->len] = '\0';
	b->data = p;
	b->cap = cap;
	return 0;
fail:
	b->failed = true;
	return -1;
}

void buf_add (struct buf *b, const void *p, size_t n)
{
	if (n == 0 || buf_reserve (b, n) < 0)
		return;
	memcpy (b->data + b->len, p, n);
	b->len += n;
	b->data[b->len] = '\0';
}

void buf_str (struct buf *b, const char *s)
{
	if (s)
		buf_add (b, s, strlen (s));
}

void buf_char (struct buf *b, char c)
{
	buf_add (b, &c, 1);
}

void buf_printf (struct buf *b, const char *fmt, ...)
{
	va_list ap;
	size_t room;
	int n;

	if (b->failed)
		return;
	room = b->data ? b->cap - b->len + 1 : 0;
	va_start (ap, fmt);
	n = vsnprintf (room ? (char *) b->data + b->len : NULL, room, fmt, ap);
	va_end (ap);
	if (n >= 0 && (size_t) n < room) {
		b->len += (size_t) n;
		return;
	}
	if (room)
		b->data[b->len] = '\0';
	if (n < 0) {
		b->failed = true;
		return;
	}
	if (buf_reserve (b, (size_t) n) < 0)
		return;
	va_start (ap, fmt);
	vsnprintf ((char *) b->data + b->len, (size_t) n + 1, fmt, ap);
	va_end (ap);
	b->len += (size_t) n;
}

void buf_int (struct buf *b, int64_t v)
{
	char text[DECIMAL_MAX];
	size_t n = decimal_put (text, v);

	buf_add (b, text, n);
}

void buf_consume (struct buf *b, size_t n)
{
	if (!b->data)
		return;
	if (n > b->len)
		n = b->len;
	memmove (b->data, b->data + n, b->len - n + 1);
	b->len -= n;
}

static void json_escape (struct buf *b, uint8_t c)
{
	static const char hex[] = "0123456789abcdef";
	char u[6] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] };

	switch (c) {
	case '"': buf_add (b, "\\\"", 2); break;
	case '\\': buf_add (b, "\\\\", 2); break;
	case '\n': buf_add (b, "\\n", 2); break;
	case '\r': buf_add (b, "\\r", 2); break;
	case '\t': buf_add (b, "\\t", 2); break;
	default: buf_add (b, u, sizeof (u)); break;
	}
}

void buf_json_string (struct buf *b, const char *str, size_t n)
{
	const uint8_t *s = (const uint8_t *) str;
	size_t start = b->len, i = 0, run = 0;

	if (n > limit (b) || buf_reserve (b, n + 2) < 0) { /* it will be no shorter */
		b->failed = true;
		return;
	}
	buf_char (b, '"');
	while ((i += utf8_plain (s + i, n - i)) < n) {
		size_t seq = s[i] < 0x80 ? 0 : utf8_seq (s + i, n - i);
		if (seq) {
			i += seq;
			continue;
		}
		buf_add (b, s + run, i - run);
		if (s[i] < 0x80)
			json_escape (b, s[i]);
		else
			buf_add (b, "\xef\xbf\xbd", 3);
		run = ++i;
	}
	buf_add (b, s + run, n - run);
	buf_char (b, '"');
	if (b->failed && b->data) {
		b->len = start; /* all or nothing, as every append */
		b->data[start] = '\0';
	}
}
