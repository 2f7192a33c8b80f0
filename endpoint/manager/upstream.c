/* SPDX-License-Identifier: Apache-2.0 */
/* See upstream.h. */
#include "endpoint/manager/upstream.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "common/log.h"
#include "common/xmem.h"
#include "proto/adapt.h"
#include "proto/link.h"

struct upstream {
	struct link *link;
	const struct upstream_ops *ops;
	void *arg;
};

/* ---- from the agent ---- */

static int take_functions (struct upstream *u, zmq_msg_t *records, size_t n, struct err *err)
{
	struct msg_function m;
	size_t i;

	for (i = 0; i < n; i++)
		if (msg_function_decode (&m, zmq_msg_data (&records[i]), zmq_msg_size (&records[i]), err) < 0)
			return -1;
	for (i = 0; i < n; i++) {
		msg_function_decode (&m, zmq_msg_data (&records[i]), zmq_msg_size (&records[i]), NULL);
		u->ops->function (&records[i], &m, u->arg);
	}
	return 0;
}

static int take_tasks (struct upstream *u, zmq_msg_t *records, size_t n, struct err *err)
{
	struct msg_task m;
	size_t i;

	for (i = 0; i < n; i++)
		if (msg_task_decode (&m, zmq_msg_data (&records[i]), zmq_msg_size (&records[i]), err) < 0)
			return -1;
	for (i = 0; i < n; i++) {
		msg_task_decode (&m, zmq_msg_data (&records[i]), zmq_msg_size (&records[i]), NULL);
		u->ops->task (&records[i], &m, u->arg);
	}
	return 0;
}

static int take_images (struct upstream *u, zmq_msg_t *records, size_t n, struct err *err)
{
	struct msg_image m;

	for (size_t i = 0; i < n; i++)
		if (msg_image_decode (&m, zmq_msg_data (&records[i]), zmq_msg_size (&records[i]), err) < 0)
			return -1;
	for (size_t i = 0; i < n; i++) {
		msg_image_decode (&m, zmq_msg_data (&records[i]), zmq_msg_size (&records[i]), NULL);
		u->ops->image (&m.function, u->arg);
	}
	return 0;
}

static int take_drain (struct upstream *u, zmq_msg_t *records, size_t n, struct err *err)
{
	struct msg_drain m;

	if (n != 1)
		return err_set (err, ERR_INVALID, FAULT_PEER, "DRAIN with %zu records", n);
	if (msg_drain_decode (&m, zmq_msg_data (records), zmq_msg_size (records), err) < 0)
		return -1;
	u->ops->drain (&m, u->arg);
	return 0;
}

static int on_message (struct link_peer *peer, const struct wire_header *h, zmq_msg_t *records, size_t n, void *arg, struct err *err)
{
	struct upstream *u = arg;

	(void) peer;
	switch (h->type) {
	case WIRE_FUNCTION:
		return take_functions (u, records, n, err);
	case WIRE_TASK:
		return take_tasks (u, records, n, err);
	case WIRE_RESULT_ACK:
		return msg_ids_each (records, n, u->ops->acked, u->arg, err);
	case WIRE_CANCEL:
		return msg_ids_each (records, n, u->ops->cancel, u->arg, err);
	case WIRE_IMAGE:
		return take_images (u, records, n, err);
	case WIRE_FOLLOW:
		return msg_ids_each (records, n, u->ops->follow, u->arg, err);
	case WIRE_DRAIN:
		return take_drain (u, records, n, err);
	default:
		return err_set (err, ERR_INVALID, FAULT_PEER, "the agent sent a message of type %s", wire_type_name (h->type));
	}
}

static void on_up (struct link_peer *peer, const struct msg_hello *hello, const struct msg_welcome *welcome, void *arg)
{
	struct upstream *u = arg;

	(void) hello;
	log_info ("upstream", "session with the agent", "major=%d epoch=%llu", link_peer_major (peer),
		  (unsigned long long) welcome->epoch);
	u->ops->up (welcome, u->arg);
}

static void on_down (struct link_peer *peer, const char *why, void *arg)
{
	struct upstream *u = arg;

	(void) peer;
	log_warn ("upstream", "session with the agent ended", "why=%s", why);
	u->ops->down (why, u->arg);
}

static void on_reject (struct link *l, int code, const char *text, void *arg)
{
	(void) l;
	(void) arg;
	log_warn ("upstream", "the agent refused the session", "code=%s text=%s", err_name ((enum err_code) code), text);
}

static void on_heartbeat (struct link_peer *peer, void *arg)
{
	struct upstream *u = arg;

	(void) peer;
	u->ops->capacity_due (u->arg);
}

static const struct link_ops link_ops = {
	.on_up = on_up, .on_down = on_down, .on_reject = on_reject, .on_message = on_message, .on_heartbeat = on_heartbeat,
};

/* ---- life ---- */

struct upstream *upstream_create (struct loop *l, void *zctx, const struct upstream_opts *o, struct err *err)
{
	struct upstream *u = xcalloc (1, sizeof (*u));
	struct link_opts lo = { .name = "agent", .ops = &link_ops, .arg = u, .heartbeat_ms = o->heartbeat_ms,
				.threshold_ms = o->threshold_ms, .bulk = o->bulk };
	struct msg_hello *h = &lo.hello;
	struct utsname un;
	char runtime[512] = "{}";

	u->ops = o->ops;
	u->arg = o->arg;
	if (uname (&un) == 0)
		snprintf (runtime, sizeof (runtime), "{\"os\":\"%.64s\",\"os_release\":\"%.64s\",\"machine\":\"%.64s\"}", un.sysname,
			  un.release, un.machine);
	h->role = ROLE_MANAGER;
	h->min_major = WIRE_MAJOR_MIN;
	h->max_major = WIRE_MAJOR;
	h->minor = WIRE_MINOR;
	id_new (&h->id);
	ids_random (&h->instance, sizeof (h->instance));
	h->slots = o->slots;
	h->pid = (uint32_t) getpid ();
	h->name = wire_str (o->node, strlen (o->node));
	h->version = WIRE_STR (WEFT_VERSION);
	h->block = wire_str (o->block, strlen (o->block));
	h->runtime = wire_str (runtime, strlen (runtime));
	if (o->server_key) {
		lo.server_key = o->server_key;
		lo.public_key = o->public_key;
		lo.secret_key = o->secret_key;
	}
	u->link = link_dial (l, zctx, o->address, &lo, err);
	if (!u->link) {
		free (u);
		return NULL;
	}
	return u;
}

void upstream_destroy (struct upstream **u, int64_t linger_ms)
{
	if (!*u)
		return;
	link_destroy (&(*u)->link, linger_ms);
	free (*u);
	*u = NULL;
}

bool upstream_up (const struct upstream *u)
{
	return link_peer (u->link) != NULL;
}

int upstream_major (const struct upstream *u)
{
	struct link_peer *p = link_peer (u->link);

	return p ? link_peer_major (p) : WIRE_MAJOR;
}

bool upstream_bulk (const struct upstream *u)
{
	struct link_peer *p = link_peer (u->link);

	return p && link_peer_bulk (p);
}

bool upstream_congested (const struct upstream *u)
{
	struct link_peer *p = link_peer (u->link);

	return p && link_congested (p);
}

/* ---- to the agent ---- */

void upstream_result (struct upstream *u, zmq_msg_t *frame)
{
	struct link_peer *p = link_peer (u->link);
	zmq_msg_t copy;

	if (!p)
		return;
	zmq_msg_init (&copy);
	if (zmq_msg_copy (&copy, frame) == 0) {
		adapt_result (&copy, link_peer_major (p));
		link_send (p, WIRE_RESULT, &copy);
	}
	zmq_msg_close (&copy);
}

void upstream_record (struct upstream *u, enum wire_type type, zmq_msg_t *record)
{
	struct link_peer *p = link_peer (u->link);

	if (p)
		link_send (p, type, record);
}

void upstream_id (struct upstream *u, enum wire_type type, const struct id *id)
{
	struct link_peer *p = link_peer (u->link);

	if (p)
		link_send_id (p, type, id);
}

static void send_encoded (struct upstream *u, enum wire_type type, struct buf *b)
{
	struct link_peer *p = link_peer (u->link);

	if (p && !buf_failed (b))
		link_send_bytes (p, type, b->data, b->len);
	buf_fini (b);
}

void upstream_capacity (struct upstream *u, const struct msg_capacity *m)
{
	struct buf b;

	buf_init (&b, 256);
	msg_capacity_encode (&b, m);
	send_encoded (u, WIRE_CAPACITY, &b);
}

void upstream_state (struct upstream *u, const struct msg_task_state *m)
{
	struct buf b;

	buf_init (&b, 64);
	msg_task_state_encode (&b, m);
	send_encoded (u, WIRE_TASK_STATE, &b);
}

void upstream_container (struct upstream *u, const struct msg_container_state *m)
{
	struct buf b;

	buf_init (&b, 512);
	msg_container_state_encode (&b, m);
	send_encoded (u, WIRE_CONTAINER_STATE, &b);
}

void upstream_image (struct upstream *u, const struct msg_image *m)
{
	struct buf b;

	buf_init (&b, 256);
	msg_image_encode (&b, m);
	send_encoded (u, WIRE_IMAGE, &b);
}

void upstream_drain (struct upstream *u, bool begin, uint32_t grace_ms)
{
	const struct msg_drain m = { .start = begin, .grace_ms = grace_ms };
	struct buf b;

	buf_init (&b, 64);
	msg_drain_encode (&b, &m);
	send_encoded (u, WIRE_DRAIN, &b);
}

/* ---- keys ---- */

/* 0: the line holds a secret key. */
static int key_of_line (char *line, char secret_key[41])
{
	char *p = line + strspn (line, " \t");
	uint8_t raw[32];

	/* "secret = KEY" or the bare key: one equals sign and no more, since Z85 has that sign too */
	if (strncmp (p, "secret", 6) == 0 && p[6 + strspn (p + 6, " \t")] == '=') {
		p += 6 + strspn (p + 6, " \t") + 1;
		p += strspn (p, " \t");
	}
	p[strcspn (p, " \t\r\n")] = '\0';
	if (strlen (p) != 40 || !zmq_z85_decode (raw, p))
		return -1;
	memcpy (secret_key, p, 41);
	return 0;
}

int upstream_read_key (const char *path, char public_key[41], char secret_key[41], struct err *err)
{
	FILE *f = fopen (path, "re");
	char line[256];
	struct stat st;
	int rc = -1;

	if (!f)
		return err_errno (err, "opening the key file %s", path);
	if (fstat (fileno (f), &st) < 0) {
		err_errno (err, "looking at the key file %s", path);
	} else if (st.st_mode & 077) {
		err_set (err, ERR_FORBIDDEN, FAULT_SITE, "the key file %s can be read by others: chmod 600 it", path);
	} else {
		while (rc < 0 && fgets (line, sizeof (line), f))
			rc = key_of_line (line, secret_key);
		if (rc < 0)
			err_set (err, ERR_INVALID, FAULT_SITE, "the key file %s holds no secret key of 40 characters of Z85", path);
	}
	fclose (f);
	if (rc == 0 && zmq_curve_public (public_key, secret_key) < 0)
		rc = err_set (err, ERR_INVALID, FAULT_SITE, "the key in %s is not a CURVE key", path);
	return rc;
}

int upstream_take_key (const char *variable, char public_key[41], char secret_key[41], struct err *err)
{
	char *text = getenv (variable);
	int rc = text ? key_of_line (text, secret_key) : -1;

	if (text) {
		explicit_bzero (text, strlen (text));
		unsetenv (variable);
	}
	if (rc < 0 || zmq_curve_public (public_key, secret_key) < 0)
		return err_set (err, ERR_INVALID, FAULT_SITE, "the environment variable %s holds no secret key of 40 characters of Z85", variable);
	return 0;
}
