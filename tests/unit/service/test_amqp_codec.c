/* SPDX-License-Identifier: Apache-2.0 */
/* service/amqp/vectors.json: what clients send, as pika's own encoder writes it, and malformed; what we send, as pika would. The other
 * decoder of the same bytes is tests/lib/amqp.py. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>
#include "service/amqp/codec.h"

#define IN_MAX 16384

static json_t *vectors;
static const char *name;

#define CHECK(c)                                                                                                                                     \
	do {                                                                                                                                         \
		if (!(c))                                                                                                                            \
			fail_msg ("%s: %s", name, #c);                                                                                               \
	} while (0)

/* Owned; exactly as long as it says, so that the sanitizer sees a byte too many. */
static uint8_t *unhex (const char *hex, size_t *n)
{
	uint8_t *p;

	*n = strlen (hex) / 2;
	p = malloc (*n ? *n : 1);
	for (size_t i = 0; i < *n; i++) {
		unsigned byte;
		sscanf (hex + 2 * i, "%2x", &byte);
		p[i] = (uint8_t) byte;
	}
	return p;
}

static const char *text (const json_t *o, const char *key)
{
	return json_string_value (json_object_get (o, key));
}

static json_int_t integer (const json_t *o, const char *key)
{
	return json_integer_value (json_object_get (o, key));
}

static bool flag (const json_t *o, const char *key)
{
	return json_is_true (json_object_get (o, key));
}

static bool same (struct amqp_str s, const char *want)
{
	return s.n == strlen (want) && (!s.n || !memcmp (s.p, want, s.n));
}

static uint32_t method_id (const char *s)
{
	unsigned c, m;

	assert_int_equal (sscanf (s, "%u.%u", &c, &m), 2);
	return AMQP_ID (c, m);
}

static void check_fields (const struct amqp_method *m, const json_t *f)
{
	size_t n;
	uint8_t *response;

	CHECK (m->id == method_id (text (f, "id")));
	switch (m->id) {
	case AMQP_CONNECTION_START_OK:
		response = unhex (text (f, "response"), &n);
		CHECK (m->start_ok.response.n == n && (!n || !memcmp (m->start_ok.response.p, response, n)));
		free (response);
		CHECK (same (m->start_ok.mechanism, text (f, "mechanism")) && same (m->start_ok.locale, text (f, "locale")));
		CHECK (same (m->start_ok.product, text (f, "product")) && same (m->start_ok.version, text (f, "version")));
		CHECK (m->start_ok.wants_close == flag (f, "wants_close"));
		break;
	case AMQP_CONNECTION_TUNE_OK:
		CHECK (m->tune_ok.channel_max == integer (f, "channel_max") && m->tune_ok.frame_max == integer (f, "frame_max") &&
		       m->tune_ok.heartbeat_s == integer (f, "heartbeat"));
		break;
	case AMQP_CONNECTION_OPEN: CHECK (same (m->open.vhost, text (f, "vhost"))); break;
	case AMQP_CONNECTION_CLOSE:
	case AMQP_CHANNEL_CLOSE: CHECK (m->close.code == integer (f, "code") && same (m->close.text, text (f, "text"))); break;
	case AMQP_CHANNEL_FLOW: CHECK (m->flow.active == flag (f, "active")); break;
	case AMQP_BASIC_QOS:
		CHECK (m->qos.bytes == integer (f, "bytes") && m->qos.count == integer (f, "count") && m->qos.global == flag (f, "global"));
		break;
	case AMQP_BASIC_CONSUME:
		CHECK (same (m->consume.queue, text (f, "queue")) && same (m->consume.tag, text (f, "tag")));
		CHECK (m->consume.no_ack == flag (f, "no_ack") && m->consume.exclusive == flag (f, "exclusive") && m->consume.nowait == flag (f, "nowait"));
		break;
	case AMQP_BASIC_CANCEL: CHECK (same (m->cancel.tag, text (f, "tag")) && m->cancel.nowait == flag (f, "nowait")); break;
	case AMQP_BASIC_ACK:
	case AMQP_BASIC_NACK:
	case AMQP_BASIC_REJECT:
		CHECK (m->ack.tag == (uint64_t) integer (f, "tag") && m->ack.multiple == flag (f, "multiple") && m->ack.requeue == flag (f, "requeue"));
		break;
	default: break;
	}
}

static bool is_kind (const json_t *v, const char *kind)
{
	name = text (v, "name");
	return !strcmp (text (v, "kind"), kind);
}

static void test_methods_of_clients (void **state)
{
	json_t *v;
	size_t i, n, seen = 0;

	(void) state;
	json_array_foreach (vectors, i, v) {
		struct amqp_method m;
		struct err err = { 0 };
		uint8_t *p;
		if (!is_kind (v, "method"))
			continue;
		seen++;
		p = unhex (text (v, "hex"), &n);
		if (flag (v, "ok")) {
			CHECK (amqp_method_decode (&m, p, n, &err) == 0);
			check_fields (&m, json_object_get (v, "fields"));
		} else {
			CHECK (amqp_method_decode (&m, p, n, &err) < 0);
			CHECK (err.code == (!strcmp (text (v, "error"), "NOT_FOUND") ? ERR_NOT_FOUND : ERR_INVALID));
		}
		free (p);
	}
	assert_true (seen > 30);
}

static void test_frames (void **state)
{
	json_t *v, *f;
	size_t i, n, need, seen = 0;

	(void) state;
	json_array_foreach (vectors, i, v) {
		struct amqp_frame got;
		struct err err = { 0 };
		uint8_t *p;
		long taken;
		if (!is_kind (v, "frame"))
			continue;
		seen++;
		p = unhex (text (v, "hex"), &n);
		taken = amqp_frame_parse (p, n, IN_MAX, &got, &need, &err);
		if (!flag (v, "ok"))
			CHECK (taken < 0 && err.code == (!strcmp (text (v, "error"), "LIMIT") ? ERR_LIMIT : ERR_INVALID));
		else if (!(f = json_object_get (v, "fields")))
			CHECK (taken == 0 && (json_int_t) need == integer (v, "need"));
		else
			CHECK (taken == integer (f, "taken") && got.type == integer (f, "type") && got.channel == integer (f, "channel") &&
			       (json_int_t) got.n == integer (f, "size"));
		free (p);
	}
	assert_true (seen > 8);
}

static struct amqp_str str_of (const char *s)
{
	return (struct amqp_str) { s, strlen (s) };
}

static bool encode (struct buf *b, const json_t *v)
{
	const char *kind = text (v, "kind");
	const json_t *a = json_object_get (v, "args");
	uint16_t channel = (uint16_t) integer (a, "channel");
	uint32_t id = text (a, "id") ? method_id (text (a, "id")) : 0;

	if (!strcmp (kind, "start"))
		amqp_put_start (b, text (a, "version"));
	else if (!strcmp (kind, "tune"))
		amqp_put_tune (b, (uint16_t) integer (a, "channel_max"), (uint32_t) integer (a, "frame_max"), (uint16_t) integer (a, "heartbeat"));
	else if (!strcmp (kind, "open_ok"))
		amqp_put_open_ok (b);
	else if (!strcmp (kind, "close"))
		amqp_put_close (b, channel, (enum amqp_code) integer (a, "code"), text (a, "text"), id);
	else if (!strcmp (kind, "plain"))
		amqp_put_plain (b, channel, id);
	else if (!strcmp (kind, "flow_ok"))
		amqp_put_flow_ok (b, channel, flag (a, "active"));
	else if (!strcmp (kind, "tag"))
		amqp_put_tag (b, channel, id, str_of (text (a, "tag")));
	else if (!strcmp (kind, "heartbeat"))
		amqp_put_heartbeat (b);
	else if (!strcmp (kind, "delivery")) {
		struct amqp_delivery d = { str_of (text (a, "consumer")), str_of (text (a, "queue")), (uint64_t) integer (a, "tag"),
					   (uint64_t) integer (a, "timestamp"), flag (a, "redelivered") };
		amqp_put_delivery (b, channel, &d, text (a, "body"), strlen (text (a, "body")), (size_t) integer (a, "frame_max"));
	} else
		return false;
	return true;
}

static void test_what_we_send (void **state)
{
	json_t *v;
	size_t i, n, seen = 0;

	(void) state;
	json_array_foreach (vectors, i, v) {
		struct buf b;
		uint8_t *p;
		name = text (v, "name");
		buf_init (&b, 0);
		if (encode (&b, v)) {
			seen++;
			p = unhex (text (v, "hex"), &n);
			CHECK (b.len == n && !memcmp (b.data, p, n));
			free (p);
		}
		buf_fini (&b);
	}
	assert_true (seen > 15);
}

static void test_plain (void **state)
{
	static const struct { const char *raw; size_t n; const char *user, *password; } cases[] = {
		{ "\0u\0p", 4, "u", "p" },   { "admin\0u\0p", 9, "u", "p" }, { "\0\0", 2, "", "" }, { "\0u\0p\0x", 6, NULL, NULL },
		{ "u\0p", 3, NULL, NULL }, { "", 0, NULL, NULL },	   { "up", 2, NULL, NULL },
	};
	struct amqp_str user, password;

	(void) state;
	for (size_t i = 0; i < sizeof (cases) / sizeof (cases[0]); i++) {
		bool ok = amqp_plain ((struct amqp_str) { cases[i].raw, cases[i].n }, &user, &password);
		assert_int_equal (ok, cases[i].user != NULL);
		if (ok)
			assert_true (same (user, cases[i].user) && same (password, cases[i].password));
	}
}

static void test_long_texts_are_cut (void **state)
{
	char why[400];
	struct buf b;
	struct amqp_frame f;
	struct amqp_method m;
	size_t need;

	(void) state;
	memset (why, 'x', sizeof (why) - 1);
	why[sizeof (why) - 1] = 0;
	buf_init (&b, 0);
	amqp_put_close (&b, 1, AMQP_NOT_FOUND, why, 0);
	assert_int_equal (amqp_frame_parse (b.data, b.len, IN_MAX, &f, &need, NULL), b.len);
	assert_int_equal (amqp_method_decode (&m, f.p, f.n, NULL), 0);
	assert_int_equal (m.close.text.n, 255);
	buf_fini (&b);
}

int main (void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_methods_of_clients), cmocka_unit_test (test_frames), cmocka_unit_test (test_what_we_send),
		cmocka_unit_test (test_plain), cmocka_unit_test (test_long_texts_are_cut),
	};
	int rc;

	vectors = json_load_file ("service/amqp/vectors.json", 0, NULL);
	assert_non_null (vectors);
	rc = cmocka_run_group_tests (tests, NULL, NULL);
	json_decref (vectors);
	return rc;
}
