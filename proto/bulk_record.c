/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/bulk_record.h"
#include <stdlib.h>
#include <string.h>
#include "common/log.h"
#include "proto/link.h"

#define MOD "bulk"

/* Owned by the caller. */
static char *read_all (const struct bulk *b, const struct bulk_ref *r, struct err *err)
{
	char *p;
	if (!b) {
		err_set (err, ERR_NOT_FOUND, FAULT_SITE, "its data is in a bulk store that is not configured here (bulk.dir)");
		return NULL;
	}
	if (!(p = malloc (r->bytes + 1u))) {
		err_set (err, ERR_INTERNAL, FAULT_SITE, "no memory for its data of %u bytes", r->bytes);
		return NULL;
	}
	if (bulk_get (b, r, p, err) == 0)
		return p;
	free (p);
	return NULL;
}

static int replace (zmq_msg_t *record, struct buf *b, struct err *err)
{
	if (buf_failed (b)) {
		buf_fini (b);
		return err_set (err, ERR_INTERNAL, FAULT_SITE, "no memory for its data");
	}
	zmq_msg_close (record);
	link_msg_from_buf (record, b);
	return 0;
}

int bulk_record_task (const struct bulk *b, zmq_msg_t *record, struct err *err)
{
	struct msg_task m;
	struct buf out;
	char *data;
	int rc;
	if (msg_task_decode (&m, zmq_msg_data (record), zmq_msg_size (record), err) < 0)
		return -1;
	if (!(m.flags & TASK_BULK))
		return 0;
	if (!(data = read_all (b, &m.bulk, err)))
		return -1;
	m.flags &= (uint8_t) ~TASK_BULK;
	m.payload = wire_str (data, m.bulk.bytes);
	buf_init (&out, WIRE_MAX_RECORD);
	msg_task_encode (&out, &m, WIRE_MAJOR);
	rc = replace (record, &out, err);
	free (data);
	return rc;
}

void bulk_record_store (const struct bulk *b, zmq_msg_t *record)
{
	struct msg_result m;
	struct bulk_ref ref;
	uint8_t text[BULK_REF_MAX];
	struct err err;
	struct buf out;
	if (!b || msg_result_decode (&m, zmq_msg_data (record), zmq_msg_size (record), NULL) < 0 || (m.flags & RESULT_BULK) ||
	    m.result.n <= BULK_MIN)
		return;
	if (bulk_put_result (b, &m.task, m.result.p, (uint32_t) m.result.n, &ref, &err) < 0) {
		log_err (LOG_WARN, MOD, "a result travels in its message", &err);
		return;
	}
	m.flags |= RESULT_BULK;
	m.result = wire_str ((char *) text, bulk_ref_encode (&ref, text));
	buf_init (&out, 0);
	msg_result_encode (&out, &m, WIRE_MAJOR);
	if (replace (record, &out, &err) < 0)
		bulk_delete (b, ref.name);
}

void bulk_result_lost (struct msg_result *m, const struct err *err)
{
	m->status = STATUS_FAILED;
	m->fault = (uint8_t) err->fault;
	m->code = (uint16_t) err->code;
	m->flags &= (uint8_t) ~(RESULT_BULK | RESULT_BASE64);
	m->result = WIRE_STR ("");
	m->result_bytes = 0;
	m->error = wire_str (err->text, strlen (err->text));
}

void bulk_record_result (const struct bulk *b, zmq_msg_t *record)
{
	struct msg_result m;
	struct err err = { 0 };
	struct buf out;
	char *data;
	if (msg_result_decode (&m, zmq_msg_data (record), zmq_msg_size (record), NULL) < 0 || !(m.flags & RESULT_BULK))
		return;
	if ((data = read_all (b, &m.bulk, &err))) {
		m.flags &= (uint8_t) ~RESULT_BULK;
		m.result = wire_str (data, m.bulk.bytes);
	} else {
		err_prefix (&err, "the task succeeded, but its result is lost");
		log_err (LOG_ERROR, MOD, "result lost", &err);
		bulk_result_lost (&m, &err);
	}
	buf_init (&out, WIRE_MAX_RECORD);
	msg_result_encode (&out, &m, WIRE_MAJOR);
	if (replace (record, &out, &err) < 0) {
		log_err (LOG_ERROR, MOD, "result lost", &err);
		bulk_result_lost (&m, &err);
		msg_result_encode (&out, &m, WIRE_MAJOR);
		zmq_msg_close (record);
		link_msg_from_buf (record, &out);
	}
	free (data);
}
