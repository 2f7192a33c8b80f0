/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of files: SPEC.md, section 3.7. What is accepted keeps its entries, and what people are shown stays within its room. */
#include "proto/msg_files.h"
#include "tests/fuzz/fuzz_msg.h"

static int decode (struct wire_str *m, const void *p, size_t n)
{
	*m = wire_str (p, n);
	return msg_files_check (*m, NULL);
}

static void encode (struct buf *b, const struct wire_str *m)
{
	struct wire_str list = *m;
	struct msg_file f;
	char text[40], digest[FILES_DIGEST_TEXT];
	uint8_t back[FILES_DIGEST];

	while (msg_files_next (&list, &f, NULL) > 0) {
		msg_files_add (b, &f);
		msg_files_url_text (f.url, text, sizeof (text));
		FUZZ_DEMAND (strlen (text) < sizeof (text));
		msg_files_digest_text (f.digest, digest);
		FUZZ_DEMAND (msg_files_digest_parse (back, digest, strlen (digest)) && !memcmp (back, f.digest, sizeof (back)));
	}
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	struct err err;

	FUZZ_ROUND_TRIP (struct wire_str, decode, encode, data, n);
	for (struct wire_str files = wire_str ((const char *) data, n), name, bytes; msg_files_data_next (&files, &name, &bytes, &err) > 0;)
		FUZZ_DEMAND (name.n && name.n <= FILES_NAME_MAX);
	for (struct wire_str list = wire_str ((const char *) data, n); msg_files_kept_next (&list, &(struct msg_kept) { .bytes = 0 }, &err) > 0;)
		;
	msg_files_has_outputs (wire_str ((const char *) data, n));
	msg_files_fixed (wire_str ((const char *) data, n));
	msg_files_url_ok (wire_str ((const char *) data, n), &err);
	msg_files_name_ok (wire_str ((const char *) data, n), &err);
	return 0;
}
