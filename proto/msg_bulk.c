/* SPDX-License-Identifier: Apache-2.0 */
/* References to bulk data: SPEC.md, section 3.6. */
#include "proto/msg_bulk.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/hex.h"
#include "proto/wire_record.h"

#define TASK_DIGITS (2 * ID_BYTES)
#define PLACE_BYTES 8
#define REF_HEAD 4
#define PAYLOAD_NAME (TASK_DIGITS + 2)

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
	memcpy (hex_text (r->name, task->b, ID_BYTES), ".p", 3);
}

void bulk_ref_result (struct bulk_ref *r, const struct id *task, uint32_t bytes, uint32_t segment, uint32_t page)
{
	char *at = hex_text (r->name, task->b, ID_BYTES);
	snprintf (at, BULK_NAME_MAX + 1 - TASK_DIGITS, "@%08x%08x", segment, page);
	r->bytes = bytes;
}

void bulk_name_place (const char *name, uint32_t *segment, uint32_t *page)
{
	uint64_t place = strtoull (name + TASK_DIGITS + 1, NULL, 16);
	*segment = (uint32_t) (place >> 32);
	*page = (uint32_t) place;
}

int bulk_name_parse (const char *name, size_t n, struct id *task, enum bulk_kind *kind)
{
	uint8_t place[PLACE_BYTES];
	if (n < PAYLOAD_NAME || get_hex (name, task->b, ID_BYTES) < 0)
		return -1;
	*kind = n == PAYLOAD_NAME ? BULK_PAYLOAD : BULK_RESULT;
	name += TASK_DIGITS;
	if (*kind == BULK_PAYLOAD)
		return name[0] == '.' && name[1] == 'p' ? 0 : -1;
	return n == BULK_NAME_MAX && name[0] == '@' ? get_hex (name + 1, place, sizeof (place)) : -1;
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
