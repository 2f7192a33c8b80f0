/* SPDX-License-Identifier: Apache-2.0 */
/* The spool's files as a crash, or a bad disk, may leave them: what is found is the same at the next start, each result can be had and
 * acknowledged, and one that is added is there as well.
 * fuzz-sources: endpoint/spool.c endpoint/segment.c endpoint/crc.c
 */
#include "endpoint/spool.h"
#include "proto/link.h"
#include "proto/msg_result.h"
#include "tests/fuzz/fuzz_segment.h"

static struct spool *start (const char *dir)
{
	struct spool_opts o = { .dir = dir, .segment_bytes = 512, .memory_bytes = 256 };
	struct err err;

	return spool_open (&o, &err);
}

static size_t results (const struct spool *s)
{
	struct spool_stats st;

	spool_stats (s, &st);
	FUZZ_DEMAND (!st.unspooled && !st.full);
	return st.results;
}

static void add (struct spool *s, const struct id *task)
{
	struct msg_result r = { .status = STATUS_SUCCESS, .task = *task, .result = WIRE_STR ("added") };
	struct buf b;
	zmq_msg_t m;

	buf_init (&b, 0);
	msg_result_encode (&b, &r, WIRE_MAJOR);
	link_msg_from_buf (&m, &b);
	spool_add (s, task, &m);
	zmq_msg_close (&m);
	spool_commit (s);
}

static void take_all (struct spool *s, size_t n)
{
	struct id task;
	struct msg_result r;
	zmq_msg_t m;

	zmq_msg_init (&m);
	for (spool_rewind (s); spool_next (s, &task, &m); n--) {
		FUZZ_DEMAND (n && msg_result_decode (&r, zmq_msg_data (&m), zmq_msg_size (&m), NULL) == 0 && id_eq (&r.task, &task));
		FUZZ_DEMAND (spool_has (s, &task) && spool_ack (s, &task) && !spool_has (s, &task));
	}
	zmq_msg_close (&m);
	FUZZ_DEMAND (!n && !results (s));
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	const struct id task = { { 0xee } };
	const char *dir = fuzz_dir ();
	struct spool *s;
	size_t found;

	fuzz_segment (dir, data, n, NULL);
	s = start (dir);
	FUZZ_DEMAND (s);		/* whatever stands there */
	found = results (s);
	spool_close (&s);
	s = start (dir);
	FUZZ_DEMAND (s && results (s) == found);
	found += !spool_has (s, &task);
	add (s, &task);
	spool_close (&s);
	s = start (dir);
	FUZZ_DEMAND (s && results (s) == found && spool_has (s, &task));
	take_all (s, found);
	spool_close (&s);
	s = start (dir);
	FUZZ_DEMAND (s && !results (s));
	spool_close (&s);
	return 0;
}
