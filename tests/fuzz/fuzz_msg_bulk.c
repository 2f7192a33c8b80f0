/* SPDX-License-Identifier: Apache-2.0 */
/* Bulk references and the names in them: SPEC.md, section 3.6. The input is a reference, to whatever task it names. */
#include "proto/msg_bulk.h"
#include "tests/fuzz/fuzz_msg.h"

static void check (const uint8_t *data, size_t n, const struct id *task, enum bulk_kind kind)
{
	struct bulk_ref r, again;
	uint8_t *copy = fuzz_copy (data, n), out[BULK_REF_MAX];
	struct id other = *task;
	uint32_t segment, page;
	struct err err;

	other.b[0] ^= 1;
	FUZZ_DEMAND (bulk_ref_decode (&r, copy, n, &other, kind, &err) < 0);
	if (bulk_ref_decode (&r, copy, n, task, kind, &err) == 0) {
		FUZZ_DEMAND (r.bytes <= WIRE_MAX_PAYLOAD && strspn (r.name, "0123456789abcdef@.p") == strlen (r.name));
		FUZZ_DEMAND (bulk_ref_encode (&r, out) == n && memcmp (out, data, n) == 0);
		if (kind == BULK_RESULT) {
			bulk_name_place (r.name, &segment, &page);
			bulk_ref_result (&again, task, r.bytes, segment, page);
		} else {
			bulk_ref_payload (&again, task, r.bytes);
		}
		FUZZ_DEMAND (again.bytes == r.bytes && strcmp (again.name, r.name) == 0);
	}
	free (copy);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	struct id task = { { 0 } };
	enum bulk_kind kind;

	if (n > 4) {
		uint8_t *name = fuzz_copy (data + 4, n - 4);
		bulk_name_parse ((const char *) name, n - 4, &task, &kind);
		free (name);
	}
	check (data, n, &task, BULK_PAYLOAD);
	check (data, n, &task, BULK_RESULT);
	return 0;
}
