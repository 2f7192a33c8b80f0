/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/log.h"
#include "common/xmem.h"
#include "service/amqp/internal.h"

#define MOD "amqp"

static void drop_consumers (struct amqp_channel *ch)
{
	while (ch->consumers)
		amqp_consumer_destroy (ch->consumers);
}

void amqp_channel_destroy (struct amqp_channel **slot)
{
	struct amqp_channel *ch = *slot;

	if (!ch)
		return;
	drop_consumers (ch);
	free (ch);
	*slot = NULL;
}

void amqp_channel_fail (struct amqp_conn *c, struct amqp_channel *ch, enum amqp_code code, uint32_t method, const char *fmt, ...)
{
	char text[250];
	struct buf b;
	va_list ap;

	va_start (ap, fmt);
	vsnprintf (text, sizeof (text), fmt, ap);
	va_end (ap);
	log_info (MOD, "channel closed", "peer=%s channel=%u code=%d why=%s", c->peer, ch->number, (int) code, text);
	drop_consumers (ch);
	ch->closing = true;
	buf_init (&b, 0);
	amqp_put_close (&b, ch->number, code, text, method);
	amqp_conn_send (c, &b);
}

static void reply_plain (struct amqp_conn *c, uint16_t channel, enum amqp_method_id id)
{
	struct buf b;

	buf_init (&b, 0);
	amqp_put_plain (&b, channel, id);
	amqp_conn_send (c, &b);
}

static struct amqp_channel **find (struct amqp_conn *c, uint16_t number)
{
	for (int i = 0; i < AMQP_CHANNELS_MAX; i++)
		if (c->channels[i] && c->channels[i]->number == number)
			return &c->channels[i];
	return NULL;
}

static void open_channel (struct amqp_conn *c, uint16_t number)
{
	int i;

	for (i = 0; i < AMQP_CHANNELS_MAX && c->channels[i]; i++)
		;
	if (i == AMQP_CHANNELS_MAX || number > AMQP_CHANNELS_MAX) {
		amqp_conn_fail (c, AMQP_NOT_ALLOWED, AMQP_CHANNEL_OPEN, "channel %u: a connection has channels 1 to %d, as was agreed",
				number, AMQP_CHANNELS_MAX);
		return;
	}
	c->channels[i] = xcalloc (1, sizeof (*c->channels[i]));
	c->channels[i]->number = number;
	reply_plain (c, number, AMQP_CHANNEL_OPEN_OK);
}

/* ---- consumers -------------------------------------------------------------------------------------------------- */

/* "<user>.<group>" */
static bool queue_group (const struct amqp_conn *c, struct amqp_str queue, struct id *group, bool *own)
{
	char prefix[AMQP_PREFIX_MAX];
	size_t n = AMQP_PREFIX_MAX - 1;

	amqp_queue_prefix (&c->user->id, prefix);
	if (queue.n != n + ID_TEXT - 1 || id_parse (group, queue.p + n, queue.n - n) < 0)
		return false;
	*own = !memcmp (queue.p, prefix, n);
	return true;
}

static void consume (struct amqp_conn *c, struct amqp_channel *ch, const struct amqp_method *m)
{
	bool own = false;
	struct id group;

	if (!queue_group (c, m->consume.queue, &group, &own)) {
		amqp_channel_fail (c, ch, AMQP_NOT_FOUND, m->id, "no such queue; the queue of a task group is named by queue_prefix and the group's id");
		return;
	}
	if (!own) {
		amqp_channel_fail (c, ch, AMQP_ACCESS_REFUSED, m->id, "the queue is of another user than these credentials");
		return;
	}
	if (m->consume.tag.n > AMQP_TAG_MAX || (m->consume.tag.n && memchr (m->consume.tag.p, 0, m->consume.tag.n))) {
		amqp_channel_fail (c, ch, AMQP_PRECONDITION_FAILED, m->id, "a consumer tag has at most %d bytes", AMQP_TAG_MAX);
		return;
	}
	for (struct amqp_consumer *u = ch->consumers; u; u = amqp_consumer_next (u))
		if (m->consume.tag.n && amqp_consumer_named (u, m->consume.tag)) {
			amqp_conn_fail (c, AMQP_NOT_ALLOWED, m->id, "consumer tag '%.*s' is in use on this channel", (int) m->consume.tag.n, m->consume.tag.p);
			return;
		}
	if (c->nconsumers >= AMQP_CONSUMERS_MAX) {
		amqp_channel_fail (c, ch, AMQP_RESOURCE_ERROR, m->id, "a connection has at most %d consumers", AMQP_CONSUMERS_MAX);
		return;
	}
	amqp_consumer_create (c, ch, &group, m);
}

static void cancel (struct amqp_conn *c, struct amqp_channel *ch, const struct amqp_method *m)
{
	struct buf b;

	for (struct amqp_consumer *u = ch->consumers; u; u = amqp_consumer_next (u))
		if (amqp_consumer_named (u, m->cancel.tag)) {
			amqp_consumer_destroy (u);
			ch->forgotten_tag = ch->last_tag;
			break;
		}
	if (m->cancel.nowait)
		return;
	buf_init (&b, 0);
	amqp_put_tag (&b, ch->number, AMQP_BASIC_CANCEL_OK, m->cancel.tag);
	amqp_conn_send (c, &b);
}

static void settle (struct amqp_conn *c, struct amqp_channel *ch, const struct amqp_method *m)
{
	enum consumer_verdict v = m->id != AMQP_BASIC_ACK && m->ack.requeue ? CONSUMER_REQUEUE : CONSUMER_ACK;
	bool known = m->ack.multiple || m->ack.tag <= ch->forgotten_tag;

	if (m->ack.tag > ch->last_tag || (!m->ack.tag && !m->ack.multiple)) {
		amqp_channel_fail (c, ch, AMQP_PRECONDITION_FAILED, m->id, "unknown delivery tag %llu", (unsigned long long) m->ack.tag);
		return;
	}
	for (struct amqp_consumer *u = ch->consumers; u; u = amqp_consumer_next (u))
		known |= amqp_consumer_settle (u, m->ack.tag, m->ack.multiple, v);
	if (!known)
		amqp_channel_fail (c, ch, AMQP_PRECONDITION_FAILED, m->id, "delivery tag %llu was dealt with before", (unsigned long long) m->ack.tag);
	else if (c->server->draining)
		amqp_conn_leave (c);
	else
		amqp_conn_pump (c);
}

static void qos (struct amqp_conn *c, struct amqp_channel *ch, const struct amqp_method *m)
{
	if (m->qos.bytes) {
		amqp_conn_fail (c, AMQP_NOT_IMPLEMENTED, m->id, "a prefetch in bytes is not served");
		return;
	}
	*(m->qos.global ? &ch->prefetch : &ch->next_prefetch) = m->qos.count;
	reply_plain (c, ch->number, AMQP_BASIC_QOS_OK);
	amqp_conn_pump (c);
}

static void flow (struct amqp_conn *c, struct amqp_channel *ch, const struct amqp_method *m)
{
	struct buf b;

	ch->paused = !m->flow.active;
	buf_init (&b, 0);
	amqp_put_flow_ok (&b, ch->number, m->flow.active);
	amqp_conn_send (c, &b);
	amqp_conn_pump (c);
}

/* ---- frames ----------------------------------------------------------------------------------------------------- */

static void on_method (struct amqp_conn *c, struct amqp_channel **slot, const struct amqp_method *m)
{
	struct amqp_channel *ch = *slot;

	if (m->id == AMQP_CHANNEL_CLOSE) {
		uint16_t number = ch->number;
		amqp_channel_destroy (slot);
		reply_plain (c, number, AMQP_CHANNEL_CLOSE_OK);
		return;
	}
	if (m->id == AMQP_CHANNEL_CLOSE_OK && ch->closing) {
		amqp_channel_destroy (slot);
		return;
	}
	if (ch->closing)
		return; /* it was sent before our Close arrived */
	switch (m->id) {
	case AMQP_BASIC_CONSUME: consume (c, ch, m); return;
	case AMQP_BASIC_CANCEL: cancel (c, ch, m); return;
	case AMQP_BASIC_ACK: case AMQP_BASIC_NACK: case AMQP_BASIC_REJECT: settle (c, ch, m); return;
	case AMQP_BASIC_QOS: qos (c, ch, m); return;
	case AMQP_CHANNEL_FLOW: flow (c, ch, m); return;
	default:
		amqp_conn_fail (c, AMQP_COMMAND_INVALID, m->id, "method %u.%u was not expected on channel %u", m->id >> 16, m->id & 0xffff, ch->number);
	}
}

void amqp_channel_frame (struct amqp_conn *c, const struct amqp_frame *f)
{
	struct amqp_channel **slot = find (c, f->channel);
	struct amqp_method m;
	struct err err;

	if (f->type != AMQP_METHOD) {
		amqp_conn_fail (c, AMQP_UNEXPECTED_FRAME, 0, "content was not expected: nothing can be published here");
		return;
	}
	if (amqp_method_decode (&m, f->p, f->n, &err) < 0) {
		amqp_conn_fail (c, err.code == ERR_NOT_FOUND ? AMQP_NOT_IMPLEMENTED : AMQP_SYNTAX_ERROR, m.id, "%s", err.text);
		return;
	}
	if (m.id == AMQP_CHANNEL_OPEN && !slot)
		open_channel (c, f->channel);
	else if (!slot || m.id == AMQP_CHANNEL_OPEN)
		amqp_conn_fail (c, AMQP_CHANNEL_ERROR, m.id, "channel %u is %s", f->channel, slot ? "open already" : "not open");
	else
		on_method (c, slot, &m);
}
