/* SPDX-License-Identifier: Apache-2.0 */
/* References to bulk data: SPEC.md, section 3.6. */
#include "proto/msg_bulk.h"
#include <string.h>
#include "proto/wire_record.h"

#define TASK_DIGITS (2 * ID_BYTES)
#define RANDOM_BYTES 8
#define REF_HEAD 4
#define PAYLOAD_NAME (TASK_DIGITS + 2)

static const char hex[] = "0123456789abcdef";

static char *put_hex (char *out, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		*out++ = hex[p[i] >> 4];
		*out++ = hex[p[i] & 15];
	}
	return out;
}

static int digit (char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int get_hex (const char *s, uint8_t *out, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int high = digit (s[2 * i]), low = digit (s[2 * i + 1]);
		if (high < 0 || low < 0)
			return -1;
		out[i] = (uint8_t) (high << 4 | low);
	}
	return 0;
}

void bulk_ref_payload (struct bulk_ref *r, const struct id *task, uint32_t bytes)
{
	r->bytes = bytes;
	memcpy (put_hex (r->name, task->b, ID_BYTES), ".p", 3);
}

void bulk_ref_result (struct bulk_ref *r, const struct id *task, uint32_t bytes)
{
	uint8_t random[RANDOM_BYTES];
	char *at = put_hex (r->name, task->b, ID_BYTES);
	ids_random (random, sizeof (random));
	*at++ = '.';
	*put_hex (at, random, sizeof (random)) = '\0';
	r->bytes = bytes;
}

int bulk_name_parse (const char *name, size_t n, struct id *task, enum bulk_kind *kind)
{
	uint8_t random[RANDOM_BYTES];
	if (n < PAYLOAD_NAME || get_hex (name, task->b, ID_BYTES) < 0 || name[TASK_DIGITS] != '.')
		return -1;
	*kind = n == PAYLOAD_NAME ? BULK_PAYLOAD : BULK_RESULT;
	if (*kind == BULK_PAYLOAD)
		return name[TASK_DIGITS + 1] == 'p' ? 0 : -1;
	return n == BULK_NAME_MAX ? get_hex (name + TASK_DIGITS + 1, random, sizeof (random)) : -1;
}

size_t bulk_ref_encode (const struct bulk_ref *r, uint8_t out[BULK_REF_MAX])
{
	struct wire_writer w = { out };
	size_t n = strlen (r->name);
	wire_w32 (&w, r->bytes);
	memcpy (w.p, r->name, n);
	return REF_HEAD + n;
}

int bulk_ref_decode (struct bulk_ref *r, const void *p, size_t n, const struct id *task, enum bulk_kind kind, struct err *err)
{
	struct wire_reader in = { p, n, false };
	enum bulk_kind is;
	struct id of;
	r->bytes = wire_get_u32 (&in);
	if (in.bad || in.left > BULK_NAME_MAX || bulk_name_parse ((const char *) in.p, in.left, &of, &is) < 0 || is != kind)
		return err_set (err, ERR_INVALID, FAULT_PEER, "bulk reference of %zu bytes is none", n);
	if (!id_eq (&of, task))
		return err_set (err, ERR_INVALID, FAULT_PEER, "bulk reference names data of another task");
	if (r->bytes > WIRE_MAX_PAYLOAD)
		return err_set (err, ERR_TOO_LARGE, FAULT_PEER, "bulk reference to %u bytes, at most %u", r->bytes, WIRE_MAX_PAYLOAD);
	memcpy (r->name, in.p, in.left);
	r->name[in.left] = '\0';
	return 0;
}
