/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/zmtp.h"
#include <stdlib.h>
#include <string.h>

#define MECHANISM_AT 12
#define MECHANISM_BYTES 20

static const char READY[] = "\5READY", TYPE[] = "\13Socket-Type";
enum { READY_BYTES = sizeof (READY) - 1, TYPE_BYTES = sizeof (TYPE) - 1 };

static const char *const names[] = { [ZMTP_DEALER] = "DEALER", [ZMTP_ROUTER] = "ROUTER" };

void zmtp_greeting (uint8_t out[ZMTP_GREETING_BYTES])
{
	memset (out, 0, ZMTP_GREETING_BYTES);
	out[0] = 0xff;		/* signature: with the next eight bytes the long frame of an older version */
	out[8] = 1;
	out[9] = 0x7f;
	out[10] = 3;		/* version 3.0 */
	memcpy (out + MECHANISM_AT, "NULL", 4);
}

int zmtp_greeting_check (const uint8_t *g, size_t n, struct err *err)
{
	static const uint8_t mechanism[MECHANISM_BYTES] = "NULL";
	size_t have;

	if ((n > 0 && g[0] != 0xff) || (n > 9 && g[9] != 0x7f))
		return err_set (err, ERR_INVALID, FAULT_PEER, "not a ZeroMQ socket");
	if (n > 10 && g[10] < 3)
		return err_set (err, ERR_VERSION, FAULT_PEER, "speaks ZMTP %d, older than 3", g[10]);
	have = n <= MECHANISM_AT ? 0 : n - MECHANISM_AT < MECHANISM_BYTES ? n - MECHANISM_AT : MECHANISM_BYTES;
	if (memcmp (g + MECHANISM_AT, mechanism, have) != 0)
		return err_set (err, ERR_INVALID, FAULT_PEER, "a security mechanism other than NULL on an ipc socket");
	return 0;
}

size_t zmtp_ready (uint8_t out[ZMTP_READY_MAX], enum zmtp_type own)
{
	size_t n = strlen (names[own]), body = READY_BYTES + TYPE_BYTES + 4 + n;
	uint8_t *p = out;

	*p++ = ZMTP_COMMAND;
	*p++ = (uint8_t) body;
	memcpy (p, READY, READY_BYTES);
	p += READY_BYTES;
	memcpy (p, TYPE, TYPE_BYTES);
	p += TYPE_BYTES;
	memcpy (p, (uint8_t[]) { 0, 0, 0, (uint8_t) n }, 4);
	memcpy (p + 4, names[own], n);
	return 2 + body;
}

static bool is (const uint8_t *p, size_t n, const char *text)
{
	return n == strlen (text) && memcmp (p, text, n) == 0;
}

static bool talks_to (enum zmtp_type own, const uint8_t *p, size_t n)
{
	return is (p, n, "DEALER") || is (p, n, "ROUTER") || is (p, n, own == ZMTP_ROUTER ? "REQ" : "REP");
}

int zmtp_ready_check (const uint8_t *body, size_t n, enum zmtp_type own, struct err *err)
{
	const uint8_t *p = body, *end = body + n;
	bool typed = false;

	if (n < READY_BYTES || memcmp (p, READY, READY_BYTES) != 0)
		return err_set (err, ERR_INVALID, FAULT_PEER, "a handshake without READY");
	/* Properties: length of the name (1), name, length of the value (4, big-endian), value. */
	for (p += READY_BYTES; p < end;) {
		size_t name = *p++, value;
		const uint8_t *at = p;
		if ((size_t) (end - p) < name + 4)
			return err_set (err, ERR_INVALID, FAULT_PEER, "READY with a property that is cut");
		p += name;
		value = (size_t) p[0] << 24 | (size_t) p[1] << 16 | (size_t) p[2] << 8 | p[3];
		p += 4;
		if ((size_t) (end - p) < value)
			return err_set (err, ERR_INVALID, FAULT_PEER, "READY with a property that is cut");
		if (name == TYPE_BYTES - 1 && strncasecmp ((const char *) at, TYPE + 1, name) == 0) {
			if (!talks_to (own, p, value))
				return err_set (err, ERR_INVALID, FAULT_PEER, "a socket of a type that a %s does not talk to", names[own]);
			typed = true;
		}
		p += value;
	}
	return typed ? 0 : err_set (err, ERR_INVALID, FAULT_PEER, "READY without a socket type");
}

size_t zmtp_head (uint8_t out[ZMTP_HEAD_MAX], uint64_t n, int flags)
{
	if (n <= 255) {
		out[0] = (uint8_t) flags;
		out[1] = (uint8_t) n;
		return 2;
	}
	out[0] = (uint8_t) (flags | ZMTP_LONG);
	for (int i = 0; i < 8; i++)
		out[1 + i] = (uint8_t) (n >> (56 - 8 * i));
	return ZMTP_HEAD_MAX;
}

void zmtp_reader_init (struct zmtp_reader *r, size_t max_frame)
{
	memset (r, 0, sizeof (*r));
	r->max_frame = max_frame;
	zmq_msg_init (&r->frame);
}

void zmtp_reader_fini (struct zmtp_reader *r)
{
	zmq_msg_close (&r->frame);
}

/* The head is whole. */
static int begin_body (struct zmtp_reader *r, struct err *err)
{
	uint64_t n = r->head[1], max = r->max_frame;

	if (r->flags & ZMTP_LONG)
		for (int i = 2; i < ZMTP_HEAD_MAX; i++)
			n = n << 8 | r->head[i];
	if ((r->flags & ZMTP_COMMAND) && max > ZMTP_COMMAND_MAX)
		max = ZMTP_COMMAND_MAX;
	if (n > max)
		return err_set (err, ERR_TOO_LARGE, FAULT_PEER, "a frame of %llu bytes, at most %llu are allowed", (unsigned long long) n,
				(unsigned long long) max);
	zmq_msg_close (&r->frame);
	if (zmq_msg_init_size (&r->frame, (size_t) n) < 0) {
		zmq_msg_init (&r->frame);
		return err_set (err, ERR_LIMIT, FAULT_SITE, "no memory for a frame of %llu bytes", (unsigned long long) n);
	}
	r->in_body = true;
	r->got = 0;
	return 0;
}

static int take_head (struct zmtp_reader *r, const uint8_t **at, const uint8_t *end, struct err *err)
{
	if (r->nhead == 0) {
		r->flags = *(*at)++;
		r->head[r->nhead++] = r->flags;
		if (r->flags & ~(ZMTP_MORE | ZMTP_LONG | ZMTP_COMMAND) || (r->flags & (ZMTP_MORE | ZMTP_COMMAND)) == (ZMTP_MORE | ZMTP_COMMAND))
			return err_set (err, ERR_INVALID, FAULT_PEER, "a frame with flags 0x%02x", r->flags);
	}
	size_t want = r->flags & ZMTP_LONG ? ZMTP_HEAD_MAX : 2;
	while (r->nhead < want && *at < end)
		r->head[r->nhead++] = *(*at)++;
	return r->nhead == want ? begin_body (r, err) : 0;
}

bool zmtp_put (struct zmtp_reader *r, size_t n)
{
	r->got += n;
	if (r->got < zmq_msg_size (&r->frame))
		return false;
	r->in_body = false;
	r->nhead = 0;
	return true;
}

size_t zmtp_room (struct zmtp_reader *r, uint8_t **to)
{
	if (!r->in_body)
		return 0;
	*to = (uint8_t *) zmq_msg_data (&r->frame) + r->got;
	return zmq_msg_size (&r->frame) - r->got;
}

int zmtp_read (struct zmtp_reader *r, const uint8_t **at, const uint8_t *end, struct err *err)
{
	uint8_t *to = NULL;
	size_t n;

	while (*at < end || r->in_body) {
		if (!r->in_body) {
			if (take_head (r, at, end, err) < 0)
				return -1;
			continue;
		}
		n = zmtp_room (r, &to);
		if (n > (size_t) (end - *at))
			n = (size_t) (end - *at);
		if (n)
			memcpy (to, *at, n);
		*at += n;
		if (zmtp_put (r, n))
			return 1;
		if (*at == end)
			break;
	}
	return 0;
}
