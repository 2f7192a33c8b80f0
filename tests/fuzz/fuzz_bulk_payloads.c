/* SPDX-License-Identifier: Apache-2.0 */
/* Slots of payloads as others, or a crash, may leave them: what is given is the task's, of the size that it is said to have; what is put is given
 * back whatever stood there, and is gone after it was dropped. The input is what stands in one of the eight slots of a task, the first byte says in
 * which. */
#include "proto/bulk_payloads.h"
#include "tests/fuzz/fuzz_disk.h"

enum { WAYS = 8, STRIDE = (256 << 10) + 4096, AT = 64, MOST = 4096 };

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	static const char put[] = "the payload";
	const struct id task = { { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 } };	/* the first eight slots */
	const char *path = fuzz_dir ();
	uint8_t out[MOST];
	struct payloads *s;
	struct payloads_place at = { 0 };
	struct id found;
	uint32_t bytes = 0;
	int dir, fd, drops = 0;

	if (n < 1 || n > MOST)
		return -1;
	fuzz_file (path, "slots-0", data, 0);
	dir = open (path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = openat (dir, "slots-0", O_WRONLY | O_CLOEXEC);
	FUZZ_DEMAND (pwrite (fd, data + 1, n - 1, data[0] % WAYS * (off_t) STRIDE) == (ssize_t) (n - 1) && close (fd) == 0);
	s = payloads_create (dir);
	if (n > 8)
		memcpy (&bytes, data + 5, sizeof (bytes));
	bytes %= MOST;
	if (payloads_get (s, &task, bytes, out) == 0)
		FUZZ_DEMAND (!memcmp (data + 1, "WPS1", 4) && !memcmp (data + 9, task.b, ID_BYTES) && memcmp (data + 25, task.b, ID_BYTES) &&
			     (!bytes || (n > AT + bytes && !memcmp (out, data + 1 + AT, bytes))));
	while (payloads_old (dir, &at, -1000, &found))
		FUZZ_DEMAND (!memcmp (data + 9, found.b, ID_BYTES));
	FUZZ_DEMAND (payloads_put (s, &task, put, sizeof (put)) == 0);
	FUZZ_DEMAND (payloads_get (s, &task, sizeof (put), out) == 0 && !memcmp (out, put, sizeof (put)));
	while (payloads_drop (s, &task))
		FUZZ_DEMAND (++drops <= 2);		/* it, and one that an earlier try left behind it */
	FUZZ_DEMAND (drops && payloads_get (s, &task, sizeof (put), out) < 0);
	payloads_destroy (&s);
	close (dir);
	return 0;
}
