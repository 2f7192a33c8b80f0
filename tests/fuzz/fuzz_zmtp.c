/* SPDX-License-Identifier: Apache-2.0 */
/* The wire of ZeroMQ: no frame is over the limit; the same bytes give the same frames and the same end however they are cut, and whether they
 * go through the reader or past it; a greeting that is refused early is refused; READY is read inside its bounds. */
#include "proto/zmtp.h"
#include "tests/fuzz/fuzz_msg.h"

enum { MAX_FRAME = 250, FRAMES_MAX = 1 << 20 };	/* so small that inputs pass it */

/* What a stream of bytes was: a sum over its frames, and how it ended. */
struct seen { uint64_t sum; size_t frames; int rc; uint8_t nhead; bool in_body; };

static void add (uint64_t *sum, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		*sum = (*sum ^ p[i]) * 0x100000001b3ULL;
}

static void note (struct seen *s, struct zmtp_reader *r)
{
	uint64_t head[2] = { r->flags & ~ZMTP_LONG, zmq_msg_size (&r->frame) };
	FUZZ_DEMAND (head[1] <= MAX_FRAME);
	FUZZ_DEMAND (!(head[0] & ~(uint64_t) (ZMTP_MORE | ZMTP_COMMAND)) && head[0] != (ZMTP_MORE | ZMTP_COMMAND));
	add (&s->sum, (const uint8_t *) head, sizeof (head));
	add (&s->sum, zmq_msg_data (&r->frame), zmq_msg_size (&r->frame));
	FUZZ_DEMAND (++s->frames < FRAMES_MAX);
}

/* cut 0: in one piece; else in pieces of 1 to `cut` bytes. */
static struct seen read_all (const uint8_t *data, size_t n, size_t cut)
{
	struct seen s = { 0 };
	struct zmtp_reader r;
	uint64_t rnd = 88172645463325252ULL + cut;
	zmtp_reader_init (&r, MAX_FRAME);
	for (size_t done = 0; done < n && s.rc == 0;) {
		size_t k = cut ? 1 + rnd % cut : n, room;
		uint8_t *to = NULL, *piece;
		rnd ^= rnd << 13;
		rnd ^= rnd >> 7;
		rnd ^= rnd << 17;
		if (k > n - done)
			k = n - done;
		room = zmtp_room (&r, &to);
		FUZZ_DEMAND (room <= MAX_FRAME);
		if (cut && room && (rnd & 1)) {
			if (k > room)
				k = room;
			memcpy (to, data + done, k);
			if (zmtp_put (&r, k))
				note (&s, &r);
		} else {
			const uint8_t *at = piece = fuzz_copy (data + done, k);
			while ((s.rc = zmtp_read (&r, &at, piece + k, NULL)) > 0)
				note (&s, &r);
			FUZZ_DEMAND (s.rc < 0 || at == piece + k);
			free (piece);
		}
		done += k;
	}
	s.nhead = r.nhead;
	s.in_body = r.in_body;
	zmtp_reader_fini (&r);
	return s;
}

static void frames (const uint8_t *data, size_t n)
{
	static const size_t cuts[] = { 1, 2, 9, 64, 300 };
	struct seen whole = read_all (data, n, 0);
	for (size_t i = 0; i < sizeof (cuts) / sizeof (cuts[0]); i++) {
		struct seen s = read_all (data, n, cuts[i]);
		FUZZ_DEMAND (s.sum == whole.sum && s.frames == whole.frames && s.rc == whole.rc);
		FUZZ_DEMAND (s.rc < 0 || (s.nhead == whole.nhead && s.in_body == whole.in_body));
	}
}

static void greeting (const uint8_t *data, size_t n)
{
	int was = 0;
	for (size_t k = 0; k <= n && k <= ZMTP_GREETING_BYTES; k++) {
		uint8_t *p = fuzz_copy (data, k);
		int rc = zmtp_greeting_check (p, k, NULL);
		FUZZ_DEMAND (rc <= was);
		was = rc;
		free (p);
	}
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	uint8_t *p = fuzz_copy (data, n);
	greeting (data, n);
	for (int own = ZMTP_DEALER; own <= ZMTP_ROUTER; own++)
		zmtp_ready_check (p, n, own, NULL);
	frames (data, n);
	free (p);
	return 0;
}
