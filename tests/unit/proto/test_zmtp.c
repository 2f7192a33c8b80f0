/* SPDX-License-Identifier: Apache-2.0 */
/* ZMTP: the golden vectors of proto/vectors/zmtp.json both ways; frames are the same wherever their bytes are cut; damaged bytes are refused
 * or read, never overrun. Run from the root of the sources, or with WEFT_VECTORS naming the folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>
#include "common/buf.h"
#include "proto/zmtp.h"

enum { MAX_FRAME = 1 << 20 };	/* of the vectors */

/* In memory of exactly its size, so that the sanitizers see any overrun. */
static uint8_t *copy_of (const uint8_t *p, size_t n)
{
	uint8_t *q = malloc (n ? n : 1);
	if (n)
		memcpy (q, p, n);
	return q;
}

static bool equal (const void *a, size_t n, const void *b, size_t m)
{
	return n == m && (n == 0 || memcmp (a, b, n) == 0);
}

/* ---- frames as text: one line each, then what came after them ------------------------------------------------- */

struct reading { struct zmtp_reader r; struct buf text; enum err_code end; };

static void note (struct reading *g)
{
	const uint8_t *p = zmq_msg_data (&g->r.frame);
	size_t n = zmq_msg_size (&g->r.frame);
	buf_printf (&g->text, "%d %zu ", g->r.flags & ~ZMTP_LONG, n);
	for (size_t i = 0; i < n; i++)
		buf_printf (&g->text, "%02x", p[i]);
	buf_char (&g->text, '\n');
}

static void begin (struct reading *g)
{
	zmtp_reader_init (&g->r, MAX_FRAME);
	buf_init (&g->text, 0);
	g->end = ERR_NONE;
}

static void feed (struct reading *g, const uint8_t *p, size_t n)
{
	const uint8_t *at = p;
	struct err err = { 0 };
	int rc;
	if (g->end)
		return;
	while ((rc = zmtp_read (&g->r, &at, p + n, &err)) > 0)
		note (g);
	if (rc < 0)
		g->end = err.code;
	else
		assert_ptr_equal (at, p + n);
}

/* Past the reader where that is possible, at most `most` bytes at a time. */
static void feed_directly (struct reading *g, const uint8_t *p, size_t n, size_t most)
{
	while (n > 0 && !g->end) {
		uint8_t *to = NULL;
		size_t room = zmtp_room (&g->r, &to), k = room && room < most ? room : most;
		if (k > n)
			k = n;
		if (room) {
			memcpy (to, p, k);
			if (zmtp_put (&g->r, k))
				note (g);
		} else {
			k = 1;
			feed (g, p, k);
		}
		p += k;
		n -= k;
	}
}

static bool between_frames (const struct reading *g)
{
	return !g->r.in_body && g->r.nhead == 0;
}

static void end (struct reading *g)
{
	zmtp_reader_fini (&g->r);
	buf_fini (&g->text);
}

static void same (struct reading *got, const struct reading *want, const char *name, const char *how, size_t at)
{
	if (got->end != want->end || !equal (got->text.data, got->text.len, want->text.data, want->text.len))
		fail_msg ("%s: other frames %s %zu", name, how, at);
	if (!got->end && between_frames (got) != between_frames (want))
		fail_msg ("%s: ends elsewhere %s %zu", name, how, at);
	end (got);
}

/* Two pieces cut at each place, and pieces of each size: as in one. */
static void check_cuts (const char *name, const uint8_t *p, size_t n)
{
	struct reading whole, g;
	begin (&whole);
	feed (&whole, p, n);
	for (size_t cut = 0; cut <= n; cut++) {
		uint8_t *a = copy_of (p, cut), *b = copy_of (p + cut, n - cut);
		begin (&g);
		feed (&g, a, cut);
		feed (&g, b, n - cut);
		free (a);
		free (b);
		same (&g, &whole, name, "cut at", cut);
	}
	for (size_t size = 1; size < 20; size++) {
		begin (&g);
		for (size_t at = 0; at < n; at += size)
			feed (&g, p + at, size < n - at ? size : n - at);
		same (&g, &whole, name, "in pieces of", size);
		begin (&g);
		feed_directly (&g, p, n, size);
		same (&g, &whole, name, "put in by", size);
	}
	end (&whole);
}

/* ---- vectors -------------------------------------------------------------------------------------------------- */

static int read_greeting (const uint8_t *p, size_t n, struct err *err)
{
	for (size_t k = 0; k < n; k++) {	/* what is good has no bad beginning */
		struct err early = { 0 };
		uint8_t *q = copy_of (p, k);
		int rc = zmtp_greeting_check (q, k, &early);
		free (q);
		if (rc < 0 && zmtp_greeting_check (p, n, NULL) == 0)
			fail_msg ("refused when %zu bytes of it were there: %s", k, early.text);
	}
	if (zmtp_greeting_check (p, n, err) < 0)
		return -1;
	return n == ZMTP_GREETING_BYTES ? 0 : err_set (err, ERR_UNAVAILABLE, FAULT_PEER, "not all here");
}

static int read_frames (const uint8_t *p, size_t n, struct err *err)
{
	struct reading g;
	int rc = 0;
	begin (&g);
	feed (&g, p, n);
	if (g.end)
		rc = err_set (err, g.end, FAULT_PEER, "no frames");
	else if (!between_frames (&g))
		rc = err_set (err, ERR_UNAVAILABLE, FAULT_PEER, "not all here");
	end (&g);
	return rc;
}

static int read_any (const char *type, const uint8_t *p, size_t n, struct err *err)
{
	if (strcmp (type, "ZMTP_GREETING") == 0)
		return read_greeting (p, n, err);
	if (strcmp (type, "ZMTP_READY_TO_DEALER") == 0)
		return zmtp_ready_check (p, n, ZMTP_DEALER, err);
	if (strcmp (type, "ZMTP_READY_TO_ROUTER") == 0)
		return zmtp_ready_check (p, n, ZMTP_ROUTER, err);
	assert_string_equal (type, "ZMTP_FRAMES");
	return read_frames (p, n, err);
}

static size_t body_of (json_t *frame, uint8_t *out)
{
	json_t *body = json_object_get (frame, "body");
	const char *hex = json_string_value (json_object_get (body, "hex"));
	size_t n = json_string_length (body);
	if (!hex) {
		memcpy (out, json_string_value (body), n);
		return n;
	}
	for (n = 0; hex[2 * n]; n++)
		assert_int_equal (sscanf (hex + 2 * n, "%2hhx", &out[n]), 1);
	return n;
}

static int flags_of (json_t *frame)
{
	return (json_is_true (json_object_get (frame, "more")) ? ZMTP_MORE : 0) | (json_is_true (json_object_get (frame, "command")) ? ZMTP_COMMAND : 0);
}

/* The bytes that we send for the fields, and for frames what is read as text. */
static void write_any (const char *type, json_t *fields, struct buf *out, struct buf *text)
{
	uint8_t bytes[8192];
	json_t *f;
	size_t i, n;
	if (strcmp (type, "ZMTP_GREETING") == 0) {
		zmtp_greeting (bytes);
		buf_add (out, bytes, ZMTP_GREETING_BYTES);
	} else if (strncmp (type, "ZMTP_READY", 10) == 0) {
		n = zmtp_ready (bytes, strcmp (type, "ZMTP_READY_TO_DEALER") == 0 ? ZMTP_ROUTER : ZMTP_DEALER);
		assert_in_range (n, 2, ZMTP_READY_MAX);
		assert_int_equal (bytes[0], ZMTP_COMMAND);
		assert_int_equal (bytes[1], n - 2);
		buf_add (out, bytes + 2, n - 2);
	}
	json_array_foreach (json_object_get (fields, "frames"), i, f) {
		uint8_t head[ZMTP_HEAD_MAX];
		n = body_of (f, bytes);
		buf_add (out, head, zmtp_head (head, n, flags_of (f)));
		buf_add (out, bytes, n);
		buf_printf (text, "%d %zu ", flags_of (f), n);
		for (size_t k = 0; k < n; k++)
			buf_printf (text, "%02x", bytes[k]);
		buf_char (text, '\n');
	}
}

static void check_good (const char *name, const char *type, json_t *fields, bool canonical, const uint8_t *p, size_t n)
{
	struct buf out, text;
	buf_init (&out, 0);
	buf_init (&text, 0);
	write_any (type, fields, &out, &text);
	if (canonical && !equal (out.data, out.len, p, n))
		fail_msg ("%s, %s: encoded to other bytes", type, name);
	if (strcmp (type, "ZMTP_FRAMES") == 0) {
		struct reading g;
		begin (&g);
		feed (&g, p, n);
		if (!equal (g.text.data, g.text.len, text.data, text.len))
			fail_msg ("%s, %s: other frames:\n%.*s", type, name, (int) g.text.len, (char *) g.text.data);
		end (&g);
	}
	buf_fini (&out);
	buf_fini (&text);
}

struct vector { const char *name, *type, *error; uint8_t *p; size_t n; int ok, canonical; json_t *fields; };

static void each_vector (void (*look) (const struct vector *))
{
	char path[512];
	const char *dir = getenv ("WEFT_VECTORS"), *hex;
	json_error_t je;
	json_t *list, *v;
	size_t i;
	snprintf (path, sizeof (path), "%s/zmtp.json", dir ? dir : "proto/vectors");
	if (!(list = json_load_file (path, JSON_REJECT_DUPLICATES, &je)))
		fail_msg ("%s: %s", path, je.text);
	assert_true (json_array_size (list) > 0);
	json_array_foreach (list, i, v) {
		struct vector w = { .error = "", .canonical = 1 };
		if (json_unpack (v, "{s:s s:s s:s s:b s?s s?o s?b}", "name", &w.name, "type", &w.type, "hex", &hex, "ok", &w.ok, "error", &w.error,
				 "fields", &w.fields, "canonical", &w.canonical) < 0)
			fail_msg ("a vector lacks a key");
		w.n = strlen (hex) / 2;
		w.p = malloc (w.n ? w.n : 1);
		for (size_t k = 0; k < w.n; k++)
			assert_int_equal (sscanf (hex + 2 * k, "%2hhx", &w.p[k]), 1);
		look (&w);
		free (w.p);
	}
	json_decref (list);
}

static void check_vector (const struct vector *v)
{
	struct err err = { 0 };
	int rc = read_any (v->type, v->p, v->n, &err);
	const char *error = err.code == ERR_UNAVAILABLE ? "INCOMPLETE" : err_name (err.code);
	if (v->ok != (rc == 0))
		fail_msg ("%s, %s: %s", v->type, v->name, rc == 0 ? "accepted" : err.text);
	if (!v->ok && strcmp (error, v->error) != 0)
		fail_msg ("%s, %s: %s (%s) instead of %s", v->type, v->name, error, err.text, v->error);
	if (v->ok)
		check_good (v->name, v->type, v->fields, v->canonical, v->p, v->n);
}

static void test_vectors (void **state)
{
	(void) state;
	each_vector (check_vector);
}

static void cut_vector (const struct vector *v)
{
	if (strcmp (v->type, "ZMTP_FRAMES") == 0)
		check_cuts (v->name, v->p, v->n);
}

static void test_frames_wherever_bytes_are_cut (void **state)
{
	(void) state;
	each_vector (cut_vector);
}

/* Each good one: every shorter form, and each of its bytes replaced; the same whether as a whole or in pieces. */
static void damage_vector (const struct vector *v)
{
	static const uint8_t values[] = { 0, 1, 2, 0x7f, 0x80, 0xff };
	if (!v->ok || v->n > 1024)
		return;
	for (size_t cut = 0; cut < v->n; cut++) {
		uint8_t *q = copy_of (v->p, cut);
		read_any (v->type, q, cut, NULL);
		free (q);
	}
	for (size_t at = 0; at < v->n; at++)
		for (size_t k = 0; k < sizeof (values); k++) {
			uint8_t old = v->p[at];
			v->p[at] = values[k];
			read_any (v->type, v->p, v->n, NULL);
			if (strcmp (v->type, "ZMTP_FRAMES") == 0) {
				struct reading whole, g;
				begin (&whole);
				feed (&whole, v->p, v->n);
				begin (&g);
				feed_directly (&g, v->p, v->n, 3);
				same (&g, &whole, v->name, "damaged at", at);
				end (&whole);
			}
			v->p[at] = old;
		}
}

static void test_damage (void **state)
{
	(void) state;
	each_vector (damage_vector);
}

/* A frame that is too large is refused before there is memory for it, and with its head alone. */
static void test_size_is_judged_by_the_head (void **state)
{
	static const struct { size_t max; uint64_t n; int flags, rc; } rows[] = {
		{ 100, 100, 0, 0 }, { 100, 101, 0, -1 }, { 100, 101, ZMTP_COMMAND, -1 }, { 0, 0, 0, 1 }, { 0, 1, 0, -1 },
		{ SIZE_MAX, ZMTP_COMMAND_MAX, ZMTP_COMMAND, 0 }, { SIZE_MAX, ZMTP_COMMAND_MAX + 1, ZMTP_COMMAND, -1 },
		{ 192 << 20, (192 << 20) + 1, 0, -1 }, { 192 << 20, UINT64_MAX, 0, -1 },
	};
	(void) state;
	for (size_t i = 0; i < sizeof (rows) / sizeof (rows[0]); i++) {
		struct zmtp_reader r;
		struct err err = { 0 };
		uint8_t head[ZMTP_HEAD_MAX];
		size_t n = zmtp_head (head, rows[i].n, rows[i].flags);
		const uint8_t *at = head;
		zmtp_reader_init (&r, rows[i].max);
		if (zmtp_read (&r, &at, head + n, &err) != rows[i].rc)
			fail_msg ("row %zu: %s", i, err.text);
		if (rows[i].rc < 0)
			assert_true (zmq_msg_size (&r.frame) == 0);
		zmtp_reader_fini (&r);
	}
}

static void test_heads (void **state)
{
	uint8_t head[ZMTP_HEAD_MAX];
	(void) state;
	assert_int_equal (zmtp_head (head, 0, 0), 2);
	assert_int_equal (zmtp_head (head, 255, ZMTP_MORE), 2);
	assert_memory_equal (head, "\x01\xff", 2);
	assert_int_equal (zmtp_head (head, 256, ZMTP_MORE), 9);
	assert_memory_equal (head, "\x03\0\0\0\0\0\0\x01\0", 9);
	assert_int_equal (zmtp_head (head, 0x0102030405060708, ZMTP_COMMAND), 9);
	assert_memory_equal (head, "\x06\x01\x02\x03\x04\x05\x06\x07\x08", 9);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_vectors),
		cmocka_unit_test (test_frames_wherever_bytes_are_cut),
		cmocka_unit_test (test_damage),
		cmocka_unit_test (test_size_is_judged_by_the_head),
		cmocka_unit_test (test_heads),
	};
	return cmocka_run_group_tests_name ("zmtp", tests, NULL, NULL);
}
