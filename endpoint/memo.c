/* SPDX-License-Identifier: Apache-2.0 */
/* See memo.h. A record in a file is HEAD_BYTES: u8 version, 7 bytes 0, i64 time of making (ms, real time, little-endian), 32 bytes key;
 * then the bytes that were put. */
#include "endpoint/memo.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/map.h"
#include "common/xmem.h"
#include "endpoint/segment.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	VERSION = 1,
	MADE_AT = 8, KEY_AT = 16, HEAD_BYTES = KEY_AT + MEMO_KEY_BYTES,
	SEGMENT_MIN = 64 << 10, SEGMENT_MAX = 4 << 20, SEGMENTS = 32,	/* size of a file: a 32nd of the bound, within these */
};

struct entry {
	uint8_t key[MEMO_KEY_BYTES];
	struct segment *seg;		/* NULL: not written yet, then body holds it */
	uint64_t offset;
	size_t bytes;			/* of the record, head included */
	int64_t made_ms;
	zmq_msg_t *body;		/* owned; NULL once it is written */
	TAILQ_ENTRY (entry) used;	/* least recently used first */
	TAILQ_ENTRY (entry) unwritten;
};
TAILQ_HEAD (entries, entry);

struct memo {
	char *dir;
	uint64_t max_bytes;
	size_t segment_bytes;
	int64_t max_age_ms;
	struct map *by_key;		/* the key's first 16 bytes; all are compared */
	struct entries used, unwritten;
	struct segment *first, *last;	/* last: appended to */
	uint64_t next_number;
	bool failing;			/* the last write failed */
	struct memo_stats st;
};

static struct id short_key (const uint8_t *key)
{
	struct id id;

	memcpy (id.b, key, ID_BYTES);
	return id;
}

static uint64_t cost (const struct entry *e)
{
	return e->bytes + SEGMENT_RECORD_HEAD;
}

/* ---- files ---------------------------------------------------------------------------------------------------------- */

static void seg_link (struct memo *m, struct segment *g)
{
	g->prev = m->last;
	if (m->last)
		m->last->next = g;
	else
		m->first = g;
	m->last = g;
	m->st.disk_bytes += g->bytes;
}

static void seg_remove (struct memo *m, struct segment *g)
{
	if (g->prev)
		g->prev->next = g->next;
	else
		m->first = g->next;
	if (g->next)
		g->next->prev = g->prev;
	else
		m->last = g->prev;
	m->st.disk_bytes -= g->bytes;
	segment_close (&g, true);
}

static void seg_gain (struct segment *g, const struct entry *e)
{
	g->live++;
	g->live_bytes += cost (e);
}

/* Its file goes with the last entry in it. */
static void seg_lose (struct memo *m, const struct entry *e)
{
	struct segment *g = e->seg;

	g->live--;
	g->live_bytes -= cost (e);
	if (!g->live)
		seg_remove (m, g);
}

/* ---- entries -------------------------------------------------------------------------------------------------------- */

static struct entry *find (const struct memo *m, const uint8_t *key)
{
	struct id id = short_key (key);
	struct entry *e = map_get (m->by_key, &id);

	return e && memcmp (e->key, key, MEMO_KEY_BYTES) == 0 ? e : NULL;
}

static void drop_body (struct entry *e)
{
	if (e->body)
		zmq_msg_close (e->body);
	free (e->body);
	e->body = NULL;
}

/* Room for its bytes, and a place among those that are to be written. NULL: no memory. */
static void *make_body (struct memo *m, struct entry *e)
{
	TAILQ_INSERT_TAIL (&m->unwritten, e, unwritten);
	e->body = xcalloc (1, sizeof (*e->body));
	if (zmq_msg_init_size (e->body, e->bytes) == 0)
		return zmq_msg_data (e->body);
	zmq_msg_init (e->body);
	return NULL;
}

static void forget (struct memo *m, struct entry *e)
{
	struct id id = short_key (e->key);

	map_del (m->by_key, &id);
	TAILQ_REMOVE (&m->used, e, used);
	m->st.live_bytes -= cost (e);
	m->st.entries--;
	if (e->seg)
		seg_lose (m, e);
	else
		TAILQ_REMOVE (&m->unwritten, e, unwritten);
	drop_body (e);
	free (e);
}

static struct entry *add (struct memo *m, const uint8_t *key, size_t bytes, int64_t made_ms)
{
	struct id id = short_key (key);
	struct entry *e = map_get (m->by_key, &id);

	if (e)
		forget (m, e);	/* the same key, or one in 2^128 */
	e = xcalloc (1, sizeof (*e));
	memcpy (e->key, key, MEMO_KEY_BYTES);
	e->bytes = bytes;
	e->made_ms = made_ms;
	map_put (m->by_key, &id, e);
	TAILQ_INSERT_TAIL (&m->used, e, used);
	m->st.live_bytes += cost (e);
	m->st.entries++;
	return e;
}

static bool too_old (const struct memo *m, const struct entry *e)
{
	return m->max_age_ms && clock_real_ns () / 1000000 - e->made_ms > m->max_age_ms;
}

/* ---- start ---------------------------------------------------------------------------------------------------------- */

static void load_record (struct segment *g, uint64_t offset, const void *p, size_t n, void *arg)
{
	struct memo *m = arg;
	const uint8_t *b = p;
	struct entry *e;
	int64_t made;

	if (n < HEAD_BYTES || b[0] != VERSION) {
		m->st.corrupt++;
		return;
	}
	memcpy (&made, b + MADE_AT, sizeof (made));
	e = add (m, b + KEY_AT, n, (int64_t) le64toh ((uint64_t) made));
	e->seg = g;
	e->offset = offset;
	seg_gain (g, e);
}

/* A file that cannot be used is removed: it is a cache. */
static void load_segment (struct memo *m, uint64_t number)
{
	struct err err;
	size_t bad = 0;
	struct segment *g = segment_open (m->dir, number, &err);

	if (!g) {
		char *path = segment_path (m->dir, number);
		log_err (LOG_WARN, "memo", "a file of remembered results is removed", &err);
		m->st.corrupt++;
		unlink (path);
		free (path);
		return;
	}
	seg_link (m, g);	/* before its records, which may take the place of others and let files go */
	m->st.disk_bytes -= g->bytes;
	g->live++;		/* held while it is read */
	if (segment_scan (g, load_record, m, &bad, &err) < 0)
		log_err (LOG_WARN, "memo", "a file of remembered results is not read to its end", &err);
	m->st.disk_bytes += g->bytes;
	m->st.corrupt += bad;
	if (bad)
		log_warn ("memo", "remembered results lost in a damaged or torn file", "file=%s records=%zu", g->path, bad);
	if (!--g->live)
		seg_remove (m, g);
}

static int load (struct memo *m, struct err *err)
{
	uint64_t *numbers;
	size_t n;

	if (segment_list (m->dir, &numbers, &n, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		load_segment (m, numbers[i]);
		m->next_number = numbers[i] + 1;
	}
	free (numbers);
	return 0;
}

struct memo *memo_open (const struct memo_opts *o, struct err *err)
{
	struct memo *m = xcalloc (1, sizeof (*m));
	uint64_t size = o->max_bytes / SEGMENTS;

	m->dir = xstrdup (o->dir);
	m->max_bytes = o->max_bytes;
	m->max_age_ms = o->max_age_ms;
	m->segment_bytes = size < SEGMENT_MIN ? SEGMENT_MIN : size > SEGMENT_MAX ? SEGMENT_MAX : (size_t) size;
	m->by_key = map_create ();
	m->next_number = 1;
	TAILQ_INIT (&m->used);
	TAILQ_INIT (&m->unwritten);
	if (mkdir (m->dir, 0700) < 0 && errno != EEXIST)
		err_errno (err, "making %s", m->dir);
	else if (load (m, err) == 0) {
		memo_commit (m);	/* the bound may be smaller than it was */
		return m;
	}
	memo_close (&m);
	return NULL;
}

void memo_close (struct memo **mp)
{
	struct memo *m = *mp;
	struct entry *e;

	if (!m)
		return;
	while ((e = TAILQ_FIRST (&m->used))) {
		TAILQ_REMOVE (&m->used, e, used);
		drop_body (e);
		free (e);
	}
	for (struct segment *g = m->first, *next; g; g = next) {
		next = g->next;
		segment_close (&g, false);
	}
	map_destroy (&m->by_key);
	free (m->dir);
	free (m);
	*mp = NULL;
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

void memo_put (struct memo *m, const uint8_t key[MEMO_KEY_BYTES], const void *record, size_t n)
{
	struct entry *e;
	int64_t made = clock_real_ns () / 1000000;
	uint64_t le = htole64 ((uint64_t) made);
	uint8_t *b;

	if (n > m->max_bytes / 8)
		return;
	e = add (m, key, HEAD_BYTES + n, made);
	if (!(b = make_body (m, e))) {
		forget (m, e);
		return;
	}
	memset (b, 0, HEAD_BYTES);
	b[0] = VERSION;
	memcpy (b + MADE_AT, &le, sizeof (le));
	memcpy (b + KEY_AT, key, MEMO_KEY_BYTES);
	memcpy (b + HEAD_BYTES, record, n);
	m->st.puts++;
}

static void write_failed (struct memo *m, const struct err *err)
{
	struct entry *e;

	if (!m->failing)
		log_err (LOG_WARN, "memo", "results cannot be remembered on disk", err);
	m->failing = true;
	while ((e = TAILQ_FIRST (&m->unwritten))) {
		m->st.failed++;
		forget (m, e);
	}
}

static struct segment *writable (struct memo *m, struct err *err)
{
	struct segment *g = m->last;

	if (g && g->bytes < m->segment_bytes)
		return g;
	if (!(g = segment_create (m->dir, m->next_number, err)))
		return NULL;
	m->next_number++;
	seg_link (m, g);
	return g;
}

static void write_some (struct memo *m)
{
	zmq_msg_t *records[SEGMENT_BATCH];
	uint64_t offsets[SEGMENT_BATCH];
	size_t n = 0, bytes = 0, done;
	struct entry *e;
	struct err err;
	struct segment *g = writable (m, &err);

	if (!g) {
		write_failed (m, &err);
		return;
	}
	TAILQ_FOREACH (e, &m->unwritten, unwritten) {
		if (n == SEGMENT_BATCH || (n && g->bytes + bytes >= m->segment_bytes))
			break;
		records[n++] = e->body;
		bytes += cost (e);
	}
	m->st.disk_bytes -= g->bytes;
	done = segment_append (g, records, n, offsets, &err);
	m->st.disk_bytes += g->bytes;
	for (size_t i = 0; i < done; i++) {
		e = TAILQ_FIRST (&m->unwritten);
		TAILQ_REMOVE (&m->unwritten, e, unwritten);
		e->seg = g;
		e->offset = offsets[i];
		seg_gain (g, e);
		drop_body (e);
	}
	if (done < n)
		write_failed (m, &err);
	else
		m->failing = false;
	if (!g->live)
		seg_remove (m, g);
}

static void write_all (struct memo *m)
{
	while (!TAILQ_EMPTY (&m->unwritten))
		write_some (m);
}

static uint64_t dead_bytes (const struct segment *g)
{
	return g->bytes - SEGMENT_HEAD - g->live_bytes;
}

/* The file that gives back most when it is rewritten, other than the one that is appended to. */
static struct segment *deadest (const struct memo *m)
{
	struct segment *best = NULL;

	for (struct segment *g = m->first; g; g = g->next)
		if (g != m->last && dead_bytes (g) && (!best || dead_bytes (g) > dead_bytes (best)))
			best = g;
	return best;
}

static void rewrite_record (struct segment *g, uint64_t offset, const void *p, size_t n, void *arg)
{
	struct memo *m = arg;
	void *to;
	struct entry *e = n > HEAD_BYTES ? find (m, (const uint8_t *) p + KEY_AT) : NULL;

	if (!e || e->seg != g || e->offset != offset)
		return;		/* it has left, or stands elsewhere by now */
	seg_lose (m, e);
	e->seg = NULL;
	if ((to = make_body (m, e)))
		memcpy (to, p, n);
	else
		forget (m, e);
}

/* What the scan did not come to is damaged. */
static void drop_unread (struct memo *m, const struct segment *g)
{
	for (struct entry *e = TAILQ_FIRST (&m->used), *next; e && g->live > 1; e = next) {
		next = TAILQ_NEXT (e, used);
		if (e->seg == g)
			forget (m, e);
	}
}

/* What is wanted of a file goes to the end of the last one; then it leaves. Entries keep their place in the order of use. */
static void rewrite (struct memo *m, struct segment *g)
{
	struct err err;
	size_t bad = 0;

	g->live++;		/* held */
	m->st.disk_bytes -= g->bytes;
	if (segment_scan (g, rewrite_record, m, &bad, &err) < 0)
		log_err (LOG_WARN, "memo", "a file of remembered results is not read to its end", &err);
	m->st.disk_bytes += g->bytes;
	m->st.corrupt += bad;
	drop_unread (m, g);
	if (!--g->live)
		seg_remove (m, g);
	write_all (m);
}

/* Entries leave until they take three quarters of the bound: then a rewritten file always wins room. */
static void bound (struct memo *m)
{
	uint64_t most = m->max_bytes / 4 * 3;
	struct entry *e;
	struct segment *g;

	while (m->st.live_bytes > most && (e = TAILQ_FIRST (&m->used))) {
		m->st.evicted++;
		forget (m, e);
	}
	while (m->st.disk_bytes > m->max_bytes && (g = deadest (m)))
		rewrite (m, g);
}

void memo_commit (struct memo *m)
{
	if (m->st.live_bytes > m->max_bytes / 4 * 3)
		bound (m);
	write_all (m);
	if (m->st.disk_bytes > m->max_bytes)
		bound (m);
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

static bool read_back (struct memo *m, struct entry *e, zmq_msg_t *out)
{
	struct err err;

	if (segment_read (e->seg, e->offset, e->bytes, out, &err) == 0)
		return true;
	log_err (LOG_WARN, "memo", "a remembered result cannot be read back", &err);
	m->st.corrupt++;
	return false;
}

/* In the older half of the files, when they are half full. After a start the order of use is that of writing: what is used there is written again. */
static bool stands_far_back (const struct memo *m, const struct segment *g)
{
	return m->st.disk_bytes > m->max_bytes / 2 && g->number < m->first->number + (m->last->number - m->first->number) / 2;
}

static void write_again (struct memo *m, struct entry *e, zmq_msg_t *bytes)
{
	seg_lose (m, e);
	e->seg = NULL;
	TAILQ_INSERT_TAIL (&m->unwritten, e, unwritten);
	e->body = xcalloc (1, sizeof (*e->body));
	zmq_msg_init (e->body);
	zmq_msg_copy (e->body, bytes);
}

bool memo_get (struct memo *m, const uint8_t key[MEMO_KEY_BYTES], zmq_msg_t *out, struct wire_str *record)
{
	struct entry *e = find (m, key);

	if (e && too_old (m, e)) {
		m->st.expired++;
		forget (m, e);
		e = NULL;
	}
	if (e && e->seg && !read_back (m, e, out)) {
		forget (m, e);
		e = NULL;
	}
	if (!e) {
		m->st.misses++;
		return false;
	}
	if (!e->seg)
		zmq_msg_copy (out, e->body);
	else if (stands_far_back (m, e->seg))
		write_again (m, e, out);
	TAILQ_REMOVE (&m->used, e, used);
	TAILQ_INSERT_TAIL (&m->used, e, used);
	m->st.hits++;
	*record = wire_str ((const char *) zmq_msg_data (out) + HEAD_BYTES, e->bytes - HEAD_BYTES);
	return true;
}

void memo_stats (const struct memo *m, struct memo_stats *out)
{
	*out = m->st;
}
