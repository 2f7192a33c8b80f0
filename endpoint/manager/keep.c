/* SPDX-License-Identifier: Apache-2.0 */
/* See keep.h. */
#include "endpoint/manager/keep.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "common/log.h"
#include "common/xmem.h"
#include "endpoint/manager/crew.h"
#include "endpoint/manager/shelf.h"
#include "proto/link.h"

#define PARALLEL 4

struct keep {
	const char *dir;		/* borrowed */
	struct shelf_limits limits;
	struct crew *crew;
	keep_f *done;
	void *arg;
};

struct save {
	struct crew_job crew;
	struct keep *k;
	void *owner;			/* NULL: nobody waits any more */
	char *from;
	const char *inner;		/* borrowed */
	zmq_msg_t record;
	struct msg_result m;		/* points into it */
	struct buf kept;
	struct err err;
	int rc;
};

static struct save *save_of (struct crew_job *c) { return (struct save *) ((char *) c - offsetof (struct save, crew)); }

static bool stop_asked (void *arg)
{
	struct save *s = arg;

	return crew_pause (&s->crew, 0);
}

static void run_save (struct crew_job *c)
{
	struct save *s = save_of (c);
	const struct shelf_put p = { .dir = s->k->dir, .from = s->from, .inner = s->inner, .limits = s->k->limits, .task = s->m.task, .kept = s->m.kept,
				     .stop = stop_asked, .arg = s };

	s->rc = shelf_put (&p, &s->kept, &s->err);
}

static void free_save (struct crew_job *c)
{
	struct save *s = save_of (c);

	zmq_msg_close (&s->record);
	buf_fini (&s->kept);
	free (s->from);
	free (s);
}

/* The call's own result is void without its files. What it printed stays. */
static void fail (struct msg_result *m, const struct err *err)
{
	m->status = STATUS_FAILED;
	m->code = (uint16_t) err->code;
	m->fault = (uint8_t) err->fault;
	m->flags = 0;
	m->error = wire_str (err->text, strlen (err->text));
	m->result.n = m->files.n = m->kept.n = 0;
}

static void end_save (struct crew_job *c)
{
	struct save *s = save_of (c);
	char id[ID_TEXT];
	zmq_msg_t record;
	struct buf b;

	if (c->trouble)
		s->rc = err_set (&s->err, ERR_TASK_FILE, FAULT_SITE, "no thread can be started to keep its files: %s", strerror (c->trouble));
	if (!s->owner) {
		free_save (c);
		return;
	}
	if (s->rc == 0 && buf_failed (&s->kept))
		s->rc = err_set (&s->err, ERR_TASK_FILE, FAULT_SITE, "the paths of the kept files take more than %d bytes", FILES_KEPT_MAX);
	if (s->rc < 0) {
		log_warn ("keep", "files of a task cannot be kept", "task=%s why=%s", id_text (&s->m.task, id), s->err.text);
		fail (&s->m, &s->err);
	} else {
		s->m.kept = wire_str ((char *) s->kept.data, s->kept.len);
	}
	buf_init (&b, WIRE_MAX_RECORD);
	msg_result_encode (&b, &s->m, WIRE_MAJOR);
	link_msg_from_buf (&record, &b);
	s->k->done (s->owner, &record, s->k->arg);
	zmq_msg_close (&record);
	free_save (c);
}

struct save *save_start (struct keep *k, zmq_msg_t *record, const char *from, const char *inner, void *owner)
{
	struct save *s = xcalloc (1, sizeof (*s));

	s->k = k;
	s->owner = owner;
	s->from = xstrdup (from);
	s->inner = inner;
	s->rc = -1;
	buf_init (&s->kept, FILES_KEPT_MAX);
	zmq_msg_init (&s->record);
	zmq_msg_move (&s->record, record);
	msg_result_decode (&s->m, zmq_msg_data (&s->record), zmq_msg_size (&s->record), NULL);	/* it came as a good one */
	s->crew.run = run_save;
	s->crew.done = end_save;
	s->crew.drop = free_save;
	crew_do (k->crew, &s->crew);
	return s;
}

void save_drop (struct save **s)
{
	if (!*s)
		return;
	(*s)->owner = NULL;
	crew_stop (&(*s)->crew);
	*s = NULL;
}

struct keep *keep_create (struct loop *l, const char *dir, const struct shelf_limits *limits, struct err *err)
{
	struct keep *k = xcalloc (1, sizeof (*k));

	k->dir = dir;
	k->limits = *limits;
	if (!(k->crew = crew_create (l, PARALLEL, err)))
		keep_destroy (&k);
	return k;
}

void keep_destroy (struct keep **k)
{
	if (!*k)
		return;
	crew_destroy (&(*k)->crew);
	free (*k);
	*k = NULL;
}

void keep_connect (struct keep *k, keep_f *done, void *arg)
{
	k->done = done;
	k->arg = arg;
}
