/* SPDX-License-Identifier: Apache-2.0 */
/* The memo's files as a crash, or a bad disk, may leave them: they never keep it from starting, its bounds hold, what is found can be had, and
 * what is put is there at the next start.
 * fuzz-sources: endpoint/memo.c endpoint/segment.c endpoint/crc.c
 */
#include "endpoint/memo.h"
#include "tests/fuzz/fuzz_segment.h"

enum { KEYS = 64, KEY_AT = 16, MAX_BYTES = 2048 };	/* the key's place: see memo.c */
static uint8_t keys[KEYS][MEMO_KEY_BYTES];
static size_t nkeys;

static void keep_key (uint8_t *p, size_t n)
{
	if (n >= KEY_AT + MEMO_KEY_BYTES && nkeys < KEYS)
		memcpy (keys[nkeys++], p + KEY_AT, MEMO_KEY_BYTES);
}

static struct memo *start (const char *dir, size_t *entries)
{
	struct memo_opts o = { .dir = dir, .max_bytes = MAX_BYTES };
	struct memo_stats st;
	struct err err;
	struct memo *m = memo_open (&o, &err);

	FUZZ_DEMAND (m);
	memo_stats (m, &st);
	FUZZ_DEMAND (st.live_bytes <= MAX_BYTES && st.live_bytes <= st.disk_bytes);
	*entries = st.entries;
	return m;
}

static bool get (struct memo *m, const uint8_t *key, const char *want)
{
	struct wire_str record;
	zmq_msg_t msg;
	const char *data;
	bool found;

	zmq_msg_init (&msg);
	if ((found = memo_get (m, key, &msg, &record))) {
		data = zmq_msg_data (&msg);
		FUZZ_DEMAND (record.p >= data && record.p + record.n <= data + zmq_msg_size (&msg));
		FUZZ_DEMAND (!want || (record.n == strlen (want) && memcmp (record.p, want, record.n) == 0));
	}
	zmq_msg_close (&msg);
	return found;
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	static const uint8_t own[MEMO_KEY_BYTES] = { 0xee, 0xdd };
	const char *dir = fuzz_dir ();
	size_t entries, again;
	struct memo *m;

	nkeys = 0;
	fuzz_segment (dir, data, n, keep_key);
	m = start (dir, &entries);
	memo_close (&m);
	m = start (dir, &again);
	FUZZ_DEMAND (again == entries);
	for (size_t i = 0; i < nkeys; i++)
		get (m, keys[i], NULL);
	memo_put (m, own, "put", 3);
	memo_commit (m);
	FUZZ_DEMAND (get (m, own, "put"));
	memo_close (&m);
	m = start (dir, &entries);
	FUZZ_DEMAND (get (m, own, "put"));
	memo_close (&m);
	return 0;
}
