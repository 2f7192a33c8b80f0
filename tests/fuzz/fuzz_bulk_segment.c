/* SPDX-License-Identifier: Apache-2.0 */
/* Segments of the bulk store as others, or a crash, may leave them: what the walk finds can be read, and is gone after it is dropped, and only that;
 * with the last one the file goes. The input is the beginnings of pages, all of which but the last are whole in the file. */
#include "proto/bulk_segment.h"
#include "tests/fuzz/fuzz_disk.h"

enum { PAGE = 4096, PIECE = 48, RECORDS = 64, SEGMENT = 7 };

struct record { struct id task; uint32_t bytes, page; };

static size_t walk (int dir, struct record *out, int remove)
{
	char name[SEGMENT_NAME];
	uint32_t segment;
	size_t n = 0;
	struct segment_walk *w;

	segment_name (name, SEGMENT);
	FUZZ_DEMAND ((w = segment_walk_open (dir, name)));
	for (struct record r; segment_walk_next (w, &r.task, &r.bytes, &segment, &r.page) == 1; n++) {
		FUZZ_DEMAND (segment == SEGMENT && n < RECORDS);
		out[n] = r;
	}
	segment_walk_close (&w, dir, remove);
	return n;
}

static int read_one (struct segment_reader *from, const struct record *r)
{
	uint8_t *data = malloc (r->bytes ? r->bytes : 1);
	int rc = segment_get (from, SEGMENT, r->page, &r->task, r->bytes, data);

	FUZZ_DEMAND (rc == segment_get (from, SEGMENT, r->page, &r->task, r->bytes, NULL));
	free (data);
	return rc;
}

static void write_pages (const char *dir, const uint8_t *data, size_t n)
{
	size_t pages = n / PIECE, bytes = pages * PAGE + n % PIECE;
	uint8_t *file = calloc (1, bytes ? bytes : 1);
	char name[SEGMENT_NAME];

	for (size_t i = 0; i * PIECE < n; i++)
		memcpy (file + i * PAGE, data + i * PIECE, n - i * PIECE < PIECE ? n - i * PIECE : PIECE);
	segment_name (name, SEGMENT);
	fuzz_file (dir, name, file, bytes);
	free (file);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	struct record all[RECORDS], left[RECORDS];
	const char *path = fuzz_dir ();
	struct segment_reader *reader;
	struct id other;
	size_t found;
	int dir;

	if (n > PIECE * (RECORDS - 1))
		return -1;
	write_pages (path, data, n);
	dir = open (path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	reader = segment_reader_create (dir);
	found = walk (dir, all, 0);
	for (size_t i = 0; i < found; i++) {
		FUZZ_DEMAND (read_one (reader, &all[i]) == 0);
		other = all[i].task;
		other.b[0] ^= 1;
		segment_drop (dir, SEGMENT, all[i].page, &other);	/* another's: nothing happens */
		FUZZ_DEMAND (segment_get (reader, SEGMENT, all[i].page, &other, all[i].bytes, NULL) < 0);
		FUZZ_DEMAND (read_one (reader, &all[i]) == 0);
	}
	for (size_t i = 0; i < found; i++) {
		segment_drop (dir, SEGMENT, all[i].page, &all[i].task);
		FUZZ_DEMAND (read_one (reader, &all[i]) < 0);
		FUZZ_DEMAND (walk (dir, left, 0) == found - i - 1 && memcmp (left, all + i + 1, (found - i - 1) * sizeof (*left)) == 0);
	}
	FUZZ_DEMAND (walk (dir, left, 1) == 0);
	FUZZ_DEMAND (faccessat (dir, "seg-00000007", F_OK, 0) < 0);
	segment_reader_destroy (&reader);
	close (dir);
	return 0;
}
