/* SPDX-License-Identifier: Apache-2.0 */
/* See spool.h. Entries stand in one list, oldest first; those at its end may be unwritten. */
#include "endpoint/spool.h"
#include "common/log.h"
#include "common/map.h"
#include "common/syncer.h"
#include "common/xmem.h"
#include "endpoint/segment.h"
#include "proto/msg_result.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TRIM_BYTES = 256 << 10 };	/* an empty last segment under this waits for the tick */

struct entry {
	struct id task;
	struct segment *seg;		/* NULL: not written */
	uint64_t offset;
	size_t bytes;
	zmq_msg_t body;
	bool in_memory;
	struct entry *prev, *next;
};

struct spool {
	char *dir;
	size_t segment_bytes, memory_max;
	uint64_t max_bytes;
	void (*lost) (const struct id *task, void *arg);
	void *lost_arg;
	struct map *by_task;
	struct entry *head, *tail;
	struct entry *unwritten;	/* first one without a segment; all after it have none either */
	struct entry *cursor;		/* next to send */
	struct entry *resident;		/* where to look for bodies to forget: all before it are not in memory */
	struct segment *first, *last;	/* last: appended to */
	uint64_t next_number;
	struct syncer *syncer;
	struct spool_stats st;
};

/* ---- segments ----------------------------------------------------------------------------------------------- */

static void seg_link (struct spool *s, struct segment *g)
{
	g->prev = s->last;
	if (s->last)
		s->last->next = g;
	else
		s->first = g;
	s->last = g;
	s->st.segments++;
	s->st.disk_bytes += g->bytes;
}

static void seg_remove (struct spool *s, struct segment *g)
{
	if (g->prev)
		g->prev->next = g->next;
	else
		s->first = g->next;
	if (g->next)
		g->next->prev = g->prev;
	else
		s->last = g->prev;
	s->st.segments--;
	s->st.disk_bytes -= g->bytes;
	segment_close (&g, true);
}

static void seg_truncate (struct spool *s, struct segment *g)
{
	struct err err;
	uint64_t was = g->bytes;

	if (segment_truncate (g, &err) < 0)
		log_err (LOG_WARN, "spool", "cannot truncate", &err);
	s->st.disk_bytes -= was - g->bytes;
}

static void seg_release (struct spool *s, struct segment *g)
{
	if (--g->live)
		return;
	if (g != s->last)
		seg_remove (s, g);
	else if (g->bytes >= TRIM_BYTES)
		seg_truncate (s, g);
}

/* ---- entries ------------------------------------------------------------------------------------------------ */

static struct entry *entry_append (struct spool *s, const struct id *task, size_t bytes)
{
	struct entry *e = xcalloc (1, sizeof (*e));

	e->task = *task;
	e->bytes = bytes;
	zmq_msg_init (&e->body);
	e->prev = s->tail;
	if (s->tail)
		s->tail->next = e;
	else
		s->head = e;
	s->tail = e;
	if (!s->cursor)
		s->cursor = e;
	if (!s->resident)
		s->resident = e;
	map_put (s->by_task, task, e);
	s->st.results++;
	return e;
}

static void forget_body (struct spool *s, struct entry *e)
{
	if (!e->in_memory)
		return;
	zmq_msg_close (&e->body);
	zmq_msg_init (&e->body);
	e->in_memory = false;
	s->st.memory_bytes -= e->bytes;
}

static void entry_drop (struct spool *s, struct entry *e)
{
	if (s->cursor == e)
		s->cursor = e->next;
	if (s->resident == e)
		s->resident = e->next;
	if (s->unwritten == e)
		s->unwritten = e->next;
	if (e->prev)
		e->prev->next = e->next;
	else
		s->head = e->next;
	if (e->next)
		e->next->prev = e->prev;
	else
		s->tail = e->prev;
	map_del (s->by_task, &e->task);
	forget_body (s, e);
	zmq_msg_close (&e->body);
	s->st.results--;
	if (e->seg) {
		seg_release (s, e->seg);
	} else {
		s->st.unspooled--;
		s->st.unspooled_bytes -= e->bytes;
	}
	free (e);
}

/* Oldest bodies leave memory first: they were sent first, and are sent again only in a new session. */
static void bound_memory (struct spool *s)
{
	while (s->st.memory_bytes > s->memory_max && s->resident && s->resident->seg) {
		forget_body (s, s->resident);
		s->resident = s->resident->next;
	}
}

/* ---- loading ------------------------------------------------------------------------------------------------ */

static void load_record (struct segment *g, uint64_t offset, const void *p, size_t n, void *arg)
{
	struct spool *s = arg;
	struct msg_result m;
	struct entry *e;

	if (msg_result_decode (&m, p, n, NULL) < 0) {
		s->st.corrupt++;
		return;
	}
	if (map_get (s->by_task, &m.task))
		return;	/* the first one stays */
	e = entry_append (s, &m.task, n);
	e->seg = g;
	e->offset = offset;
	g->live++;
}

/* What a power failure or another program made of a file must not keep the endpoint away: its tasks run again. It is kept for whoever wants to
 * look, under a name that is not read again. */
static int set_aside (struct spool *s, uint64_t number, struct err *err)
{
	char *path = segment_path (s->dir, number), *aside = xasprintf ("%s.damaged", path);
	int rc = rename (path, aside);

	if (rc < 0) {
		err_errno (err, "renaming %s, which is damaged, to %s", path, aside);
	} else {
		log_err (LOG_WARN, "spool", "a file is set aside as NAME.damaged; tasks whose results were in it run again", err);
		s->st.corrupt++;
	}
	free (aside);
	free (path);
	return rc;
}

static int load_segment (struct spool *s, uint64_t number, struct err *err)
{
	size_t bad = 0;
	struct segment *g = segment_open (s->dir, number, err);

	if (!g)
		return err->code == ERR_INVALID ? set_aside (s, number, err) : -1;
	if (segment_scan (g, load_record, s, &bad, err) < 0) {
		segment_close (&g, false);
		return -1;
	}
	if (bad)
		log_warn ("spool", "records lost in a damaged or torn file", "file=%s records=%zu", g->path, bad);
	s->st.corrupt += bad;
	seg_link (s, g);
	if (!g->live)
		seg_remove (s, g);
	return 0;
}

static int load (struct spool *s, struct err *err)
{
	uint64_t *numbers;
	size_t n;
	int rc = segment_list (s->dir, &numbers, &n, err);

	for (size_t i = 0; i < n && !rc; i++) {
		rc = load_segment (s, numbers[i], err);
		s->next_number = numbers[i] + 1;
	}
	free (numbers);
	return rc;
}

static struct syncer *start_syncer (const struct spool *s)
{
	int fd = open (s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct syncer *made = syncer_create (fd, 0, "spool", NULL, NULL);

	if (fd >= 0)
		close (fd);
	return made;
}

struct spool *spool_open (const struct spool_opts *o, struct err *err)
{
	struct spool *s = xcalloc (1, sizeof (*s));

	s->dir = xstrdup (o->dir);
	s->segment_bytes = o->segment_bytes ? o->segment_bytes : 16u << 20;
	s->memory_max = o->memory_bytes ? o->memory_bytes : 64u << 20;
	s->max_bytes = o->max_bytes;
	s->lost = o->lost;
	s->lost_arg = o->arg;
	s->by_task = map_create ();
	s->next_number = 1;
	if (mkdir (s->dir, 0700) < 0 && errno != EEXIST) {
		err_errno (err, "making %s", s->dir);
		goto fail;
	}
	if (load (s, err) < 0)
		goto fail;
	if (o->fsync == SPOOL_FSYNC_INTERVAL)
		s->syncer = start_syncer (s);
	return s;
fail:
	spool_close (&s);
	return NULL;
}

void spool_close (struct spool **sp)
{
	struct spool *s = *sp;

	if (!s)
		return;
	syncer_destroy (&s->syncer);
	for (struct entry *e = s->head, *next; e; e = next) {
		next = e->next;
		zmq_msg_close (&e->body);
		free (e);
	}
	for (struct segment *g = s->first, *next; g; g = next) {
		next = g->next;
		segment_close (&g, !g->live);
	}
	map_destroy (&s->by_task);
	free (s->dir);
	free (s);
	*sp = NULL;
}

/* ---- writing ------------------------------------------------------------------------------------------------ */

bool spool_add (struct spool *s, const struct id *task, zmq_msg_t *record)
{
	struct entry *e;

	if (map_get (s->by_task, task))
		return false;
	e = entry_append (s, task, zmq_msg_size (record));
	zmq_msg_move (&e->body, record);
	e->in_memory = true;
	s->st.memory_bytes += e->bytes;
	s->st.unspooled++;
	s->st.unspooled_bytes += e->bytes;
	if (!s->unwritten)
		s->unwritten = e;
	return true;
}

static struct segment *writable (struct spool *s, struct err *err)
{
	struct segment *g = s->last;

	if (s->max_bytes && s->st.disk_bytes + s->unwritten->bytes > s->max_bytes) {
		err_set (err, ERR_LIMIT, FAULT_SITE, "the spool has reached its limit of %" PRIu64 " bytes", s->max_bytes);
		return NULL;
	}
	if (g && g->bytes < s->segment_bytes)
		return g;
	if (!(g = segment_create (s->dir, s->next_number, err)))
		return NULL;
	s->next_number++;
	seg_link (s, g);
	return g;
}

static void set_full (struct spool *s, const struct err *err)
{
	if (!s->st.full)
		log_err (LOG_ERROR, "spool", "results cannot be written to disk, kept in memory", err);
	s->st.full = true;
	snprintf (s->st.error, sizeof (s->st.error), "%.255s", err->text);
}

static void clear_full (struct spool *s)
{
	if (s->st.full)
		log_info ("spool", "results are written to disk again", NULL);
	s->st.full = false;
	s->st.error[0] = 0;
}

/* One write of what fits; false when it failed. */
static bool write_some (struct spool *s)
{
	zmq_msg_t *records[SEGMENT_BATCH];
	uint64_t offsets[SEGMENT_BATCH];
	size_t n = 0, bytes = 0, done;
	struct err err;
	struct segment *g = writable (s, &err);

	if (!g) {
		set_full (s, &err);
		return false;
	}
	for (struct entry *e = s->unwritten; e && n < SEGMENT_BATCH && (!n || g->bytes + bytes < s->segment_bytes); e = e->next) {
		records[n++] = &e->body;
		bytes += e->bytes + SEGMENT_RECORD_HEAD;
	}
	s->st.disk_bytes -= g->bytes;
	done = segment_append (g, records, n, offsets, &err);
	s->st.disk_bytes += g->bytes;
	for (size_t i = 0; i < done; i++) {
		struct entry *e = s->unwritten;
		e->seg = g;
		e->offset = offsets[i];
		g->live++;
		s->st.unspooled--;
		s->st.unspooled_bytes -= e->bytes;
		s->unwritten = e->next;
	}
	if (done < n) {
		set_full (s, &err);
		return false;
	}
	clear_full (s);
	return true;
}

static void write_all (struct spool *s)
{
	while (s->unwritten && write_some (s))
		;
	bound_memory (s);
}

void spool_commit (struct spool *s)
{
	/* a full disk is tried again by the tick only: a failing write for each burst would help nobody */
	if (!s->st.full)
		write_all (s);
}

void spool_tick (struct spool *s)
{
	struct segment *g = s->last;

	if (s->unwritten)
		write_all (s);
	else
		clear_full (s);
	if (g && g == s->last && !g->live && g->bytes > SEGMENT_HEAD)
		seg_truncate (s, g);
	if (s->syncer)
		for (g = s->first; g; g = g->next)
			if (g->dirty) {
				syncer_add (s->syncer, strrchr (g->path, '/') + 1);
				g->dirty = false;
			}
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

void spool_prefetch (const struct spool *s, const struct id *task)
{
	map_prefetch (s->by_task, task);
}

bool spool_has (const struct spool *s, const struct id *task)
{
	return map_get (s->by_task, task) != NULL;
}

static bool body_of (struct spool *s, struct entry *e, zmq_msg_t *out)
{
	struct id task = e->task;
	struct err err;

	if (e->in_memory) {
		zmq_msg_copy (out, &e->body);
		return true;
	}
	if (segment_read (e->seg, e->offset, e->bytes, out, &err) == 0)
		return true;
	log_err (LOG_ERROR, "spool", "a result cannot be read back, dropped", &err);
	s->st.corrupt++;
	entry_drop (s, e);
	if (s->lost)
		s->lost (&task, s->lost_arg);
	return false;
}

bool spool_get (struct spool *s, const struct id *task, zmq_msg_t *out)
{
	struct entry *e = map_get (s->by_task, task);

	return e && body_of (s, e, out);
}

bool spool_ack (struct spool *s, const struct id *task)
{
	struct entry *e = map_get (s->by_task, task);

	if (e)
		entry_drop (s, e);
	return e != NULL;
}

void spool_rewind (struct spool *s)
{
	s->cursor = s->head;
}

bool spool_next (struct spool *s, struct id *task, zmq_msg_t *out)
{
	while (s->cursor) {
		struct entry *e = s->cursor;
		s->cursor = e->next;
		*task = e->task;
		if (body_of (s, e, out))
			return true;
	}
	return false;
}

void spool_stats (const struct spool *s, struct spool_stats *out)
{
	*out = s->st;
}
