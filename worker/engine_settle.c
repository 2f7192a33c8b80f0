/* SPDX-License-Identifier: Apache-2.0 */
/* RESULT records out of what runners tell, and out of verdicts. */
#include <string.h>
#include "common/clock.h"
#include "common/log.h"
#include "worker/engine_internal.h"
#include "proto/bulk.h"
#include "worker/taskdir.h"
#include "worker/text.h"

/* What all results have in common. */
static void fill (struct engine *e, const struct call *c, struct msg_result *m)
{
	const struct slot *s = c->fn ? slot_for (e, &c->fn->fn) : NULL;

	memset (m, 0, sizeof (*m));
	m->task = c->t.task;
	m->attempt = c->t.attempt;
	m->image = e->o.image;
	memcpy (m->stamps, c->t.stamps, sizeof (c->t.stamps));
	m->stamps[STAMP_WORKER_RECEIVED] = c->received_ns;
	m->node = wire_str (e->o.node, strlen (e->o.node));
	if (s && c->fn->fn.kind == KIND_GLOBUS && s->runtime)
		m->runtime = wire_str (s->runtime, strlen (s->runtime));
}

static void finish (struct engine *e, struct msg_result *m)
{
	m->stamps[STAMP_WORKER_SENT] = clock_real_ns ();
	/* under load results leave in company: a message for each would wake five processes on its way */
	results_put (e->results, e->peer, m, map_size (e->calls) > 1);
	e->tasks_done++;
}

void settle_verdict (struct engine *e, struct call *c, const struct verdict *v, const struct buf *out, const struct buf *errout,
		     const struct rusage *ru)
{
	char id[ID_TEXT];
	struct msg_result m;

	fill (e, c, &m);
	m.status = v->status;
	m.fault = (uint8_t) v->err.fault;
	m.code = (uint16_t) v->err.code;
	m.detail = v->detail;
	m.error = wire_str (v->err.text, strlen (v->err.text));
	if (out)
		m.out = wire_str ((char *) out->data, out->len);
	if (errout)
		m.errout = wire_str ((char *) errout->data, errout->len);
	if (c->started_ns) {
		m.stamps[STAMP_EXECUTION_START] = c->started_ns;
		m.stamps[STAMP_EXECUTION_END] = clock_real_ns ();
	}
	if (ru)
		m.max_rss_bytes = (uint64_t) ru->ru_maxrss * 1024;
	log_debug ("engine", "call ended", "task=%s code=%s err=%s", id_text (&c->t.task, id), err_name (v->err.code), v->err.text);
	finish (e, &m);
}

/* A MemoryError is the limit's doing when there is one, else it is an exception like any other. */
static void judge_memory (struct engine *e, const struct call *c, struct msg_result *m, struct buf *text)
{
	struct verdict v;

	if (!c->memory_limit) {
		m->code = ERR_TASK_EXCEPTION;
		return;
	}
	verdict_memory_refused (&v, c->memory_limit, m->max_rss_bytes, e->o.node);
	buf_str (text, v.err.text);
	buf_str (text, "\n");
	buf_add (text, m->error.p, m->error.n);
	m->error = wire_str ((char *) text->data, text->len);
}

/* Runners keep to limit and encoding; code of users that runs in them may not. What stands in the store is not read here: whoever
 * shows it makes text of it. */
static void check_result (struct engine *e, struct msg_result *m, const struct call *c, struct buf *text)
{
	struct err err = { 0 };

	if (m->status != STATUS_SUCCESS) {
		m->result.n = 0;
		m->flags = 0;
		return;
	}
	if (m->result_bytes > c->max_result_bytes) {
		buf_printf (text, "MaxResultSizeExceeded: the result has %u bytes, the limit is %u", m->result_bytes, c->max_result_bytes);
		m->code = ERR_TASK_RESULT_TOO_LARGE;
	} else if ((m->flags & RESULT_BULK) && (!e->o.bulk || bulk_check (e->o.bulk, &m->bulk, &err) < 0)) {
		buf_printf (text, "the runner's result on node %s cannot be used: %s", e->o.node, err.code ? err.text : "there is no bulk store");
		m->code = ERR_TASK_RUNNER;
	} else if (!(m->flags & RESULT_BULK) && !text_is_utf8 (m->result.p, m->result.n)) {
		buf_str (text, "the runner sent a result that is not UTF-8 text");
		m->code = ERR_TASK_ENCODE;
	} else {
		m->fault = FAULT_NONE;
		m->code = ERR_NONE;
		return;
	}
	m->status = STATUS_FAILED;
	m->fault = FAULT_USER;
	m->result.n = 0;
	m->flags = 0;
	m->error = wire_str ((char *) text->data, text->len);
}

static void outputs_failed (struct msg_result *m, const struct err *err)
{
	m->status = STATUS_FAILED;
	m->code = (uint16_t) err->code;
	m->fault = (uint8_t) err->fault;
	m->error = wire_str (err->text, strlen (err->text));
	m->result.n = m->files.n = m->kept.n = 0;
	m->flags = 0;
}

/* What the call was asked to make. Without it the task has failed. */
static void take_outputs (struct engine *e, struct msg_result *m, const struct call *c, struct buf *files, struct buf *kept, struct err *err)
{
	size_t max = c->max_result_bytes < FILES_DATA_MAX ? c->max_result_bytes : FILES_DATA_MAX;

	if (m->status != STATUS_SUCCESS || !msg_files_has_outputs (c->t.files))
		return;
	if (taskdir_take (e->task_dir, c->t.files, max, files, kept, err) < 0) {
		outputs_failed (m, err);
		return;
	}
	m->files = wire_str ((char *) files->data, files->len);
	m->kept = wire_str ((char *) kept->data, kept->len);
}

/* The result is good: what is kept goes aside before the directory is emptied. */
static void keep_outputs (struct engine *e, struct msg_result *m, const struct call *c, struct err *err)
{
	if (!m->kept.n)
		return;
	if (taskdir_keep (e->task_dir, e->o.dir, &c->t.task, err) < 0)
		outputs_failed (m, err);
	else
		e->nkept++;
}

/* A large result of a runner that does not write it to the store itself. When that fails it travels in the message. */
static void put_bulk (struct engine *e, struct msg_result *m, uint8_t ref[BULK_REF_MAX])
{
	struct err err;

	if (!e->o.bulk || !e->peer || !link_peer_bulk (e->peer))
		return;
	if (bulk_put_result (e->o.bulk, &m->task, m->result.p, (uint32_t) m->result.n, &m->bulk, &err) < 0) {
		log_err (LOG_WARN, "engine", "a result travels in its message", &err);
		return;
	}
	m->flags |= RESULT_BULK;
	m->result = wire_str ((char *) ref, bulk_ref_encode (&m->bulk, ref));
}

static void clean (struct wire_str *s)
{
	/* the slice stands in the runner's input buffer, which is ours to change */
	if (!text_is_utf8 (s->p, s->n))
		text_make_utf8 ((char *) s->p, s->n);
}

void settle_result (struct engine *e, struct call *c, const struct msg_runner_result *r, int32_t detail)
{
	struct msg_result m;
	struct buf text, files, kept;
	struct err err;
	uint8_t ref[BULK_REF_MAX];

	fill (e, c, &m);
	buf_init (&text, 1 << 20);
	buf_init (&files, FILES_DATA_MAX);
	buf_init (&kept, FILES_KEPT_MAX);
	m.status = r->status;
	m.fault = r->fault;
	m.code = r->code;
	m.detail = detail;
	m.flags = r->flags & (RESULT_BASE64 | RESULT_BULK);
	m.cpu_ns = r->cpu_ns;
	m.max_rss_bytes = r->max_rss_bytes;
	m.stamps[STAMP_EXECUTION_START] = r->start_ns;
	m.stamps[STAMP_EXECUTION_END] = r->end_ns;
	m.result = r->result;
	m.error = r->error;
	m.out = r->out;
	m.errout = r->errout;
	m.result_bytes = r->result_bytes;
	m.bulk = r->bulk;
	if (e->ngroup > 1)
		batch_share_output (e, r, &m.out, &m.errout);
	clean (&m.error);
	clean (&m.out);
	clean (&m.errout);
	if (m.code == ERR_TASK_MEMORY_LIMIT)
		judge_memory (e, c, &m, &text);
	take_outputs (e, &m, c, &files, &kept, &err);
	check_result (e, &m, c, &text);
	if (m.status != STATUS_SUCCESS)
		m.files.n = m.kept.n = 0;
	keep_outputs (e, &m, c, &err);
	if (r->flags & RESULT_BULK && !(m.flags & RESULT_BULK))
		settle_drop (e, r);
	if (m.result.n > BULK_MIN)
		put_bulk (e, &m, ref);
	finish (e, &m);
	buf_fini (&files);
	buf_fini (&kept);
	buf_fini (&text);
}

void settle_drop (struct engine *e, const struct msg_runner_result *r)
{
	if (e->o.bulk && (r->flags & RESULT_BULK))
		bulk_delete (e->o.bulk, r->bulk.name);
}
