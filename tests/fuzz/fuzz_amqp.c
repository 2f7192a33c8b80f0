/* SPDX-License-Identifier: Apache-2.0 */
/* What an AMQP client sends, frame after frame: each part that is borrowed lies inside of the input, a method is read the same twice, and
 * what is asked for when bytes are missing is more than there is and no more than the limit.
 *
 * fuzz-sources: service/amqp/codec.c
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "service/amqp/codec.h"

#define IN_MAX 16384

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n);

static void need (bool ok)
{
	if (!ok)
		abort ();
}

static void inside (struct amqp_str s, const struct amqp_frame *f)
{
	need (!s.n || ((const uint8_t *) s.p >= f->p && (const uint8_t *) s.p + s.n <= f->p + f->n));
}

static void method (const struct amqp_frame *f)
{
	struct amqp_method m, again;
	struct amqp_str user, password;
	struct err err;

	if (amqp_method_decode (&m, f->p, f->n, &err) < 0) {
		need (err.code == ERR_INVALID || err.code == ERR_NOT_FOUND);
		return;
	}
	need (amqp_method_decode (&again, f->p, f->n, &err) == 0 && !memcmp (&m, &again, sizeof (m)));
	switch (m.id) {
	case AMQP_CONNECTION_START_OK:
		inside (m.start_ok.mechanism, f);
		inside (m.start_ok.response, f);
		inside (m.start_ok.locale, f);
		inside (m.start_ok.product, f);
		inside (m.start_ok.version, f);
		if (amqp_plain (m.start_ok.response, &user, &password)) {
			inside (user, f);
			inside (password, f);
			need (user.n + password.n + 2 <= m.start_ok.response.n);
		}
		break;
	case AMQP_CONNECTION_OPEN: inside (m.open.vhost, f); break;
	case AMQP_CONNECTION_CLOSE:
	case AMQP_CHANNEL_CLOSE: inside (m.close.text, f); break;
	case AMQP_BASIC_CONSUME:
		inside (m.consume.queue, f);
		inside (m.consume.tag, f);
		break;
	case AMQP_BASIC_CANCEL: inside (m.cancel.tag, f); break;
	default: break;
	}
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	uint8_t *p = malloc (n ? n : 1), *at = p;	/* exact, so that the sanitizer sees one byte too many */
	size_t left = n, more;
	struct amqp_frame f;
	struct err err;
	long taken;

	memcpy (p, data, n);
	if (!amqp_table_valid (p, n))
		amqp_table_valid (p, n / 2);
	while ((taken = amqp_frame_parse (at, left, IN_MAX, &f, &more, &err)) > 0) {
		need ((size_t) taken <= left && f.p >= at && f.p + f.n < at + taken);
		if (f.type == AMQP_METHOD)
			method (&f);
		at += taken;
		left -= (size_t) taken;
	}
	need (taken < 0 || (more > left && more <= IN_MAX + AMQP_FRAME_HEAD + 1));
	free (p);
	return 0;
}
