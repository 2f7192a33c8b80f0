/* SPDX-License-Identifier: Apache-2.0 */
/* See dispatch_internal.h. Functions that memoise: a task that equals one that has succeeded gets that one's result; tasks that equal one
 * in hand wait for it (a flight). Only a success is remembered and handed on.
 *
 *     a task comes   | result remembered: ends with it, marked | equal one in hand: joins its flight | else leads a flight, runs
 *     leader succeeds| remembered; all that joined end with it
 *     leader fails, is cancelled, lost or given back | the first that joined leads a new flight, the others run for themselves
 *     fresh task     | (the caller refuses earlier results) never answered nor joining; leads when nobody does
 *
 * Equal: the same FUNCTION record, that is code, entry, image and limits under one id; the same payload, meant in the same way; the same files,
 * by checksum: a task with a file that has none is always run. In a container also: the image that a call would run from now, as managers
 * say, is the one that the result says it came from. A tag may be moved; a result is kept under what it did run from, and looked for under
 * what it would run from. Where all of a node is in an image, as on Kubernetes, that one is named by its digest, or nothing is remembered. */
#include "endpoint/dispatch_internal.h"
#include "common/clock.h"
#include "common/digest.h"
#include "common/xmem.h"
#include "endpoint/memo.h"
#include "endpoint/outcome.h"
#include "endpoint/providers/provider.h"
#include "proto/bulk_record.h"
#include "proto/functions.h"
#include "proto/msg_result.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

struct flight {
	uint8_t key[MEMO_KEY_BYTES];	/* of those that may join */
	uint8_t base[MEMO_KEY_BYTES];	/* without the image */
	struct id image;		/* in a container; zero = not known: nobody joins */
	bool container;
	struct queue_task *leader;
	TAILQ_HEAD (followers, queue_task) followers;
};

static struct id flight_id (const uint8_t *key)
{
	struct id id;

	memcpy (id.b, key, ID_BYTES);
	return id;
}

/* The payload's data, whether it came with the task or by reference: equal data is equal. NULL: it cannot be read, which the task's
 * run will say. *mem: to be freed. */
static const void *data_of (const struct dispatch *d, const struct msg_task *m, char **mem)
{
	*mem = NULL;
	if (!(m->flags & TASK_BULK))
		return m->payload.n ? m->payload.p : "";
	if (!d->o.bulk || !(*mem = malloc (m->bulk.bytes + 1u)) || bulk_get (d->o.bulk, &m->bulk, *mem, NULL) < 0)
		return NULL;
	return *mem;
}

/* That all of the node is in where t would run; NULL = none. */
static const char *node_image (const struct dispatch *d, const struct queue_task *t)
{
	return t->lane ? t->lane->image : d->o.memo_image;
}

static bool make_base (const struct dispatch *d, struct function *f, const struct msg_task *m, const char *image, uint8_t base[MEMO_KEY_BYTES])
{
	char *mem;
	const void *data = data_of (d, m, &mem);
	const uint8_t *function = function_digest (f);
	uint8_t meant = m->flags & TASK_MEANT;
	uint16_t files = htole16 ((uint16_t) m->files.n);
	struct digest_part parts[] = { { "weft memo 3", 11 }, { function, sizeof (f->digest) }, { &meant, 1 }, { &files, sizeof (files) },
				       { m->files.p, m->files.n }, { data, m->payload_bytes }, { image, image ? strlen (image) : 0 } };
	size_t n = sizeof (parts) / sizeof (parts[0]) - (image ? 0 : 1);
	bool made = data && function && digest_sha256 (parts, n, base) == 0;

	free (mem);
	return made;
}

/* image NULL: it is in no container. */
static bool make_key (const uint8_t base[MEMO_KEY_BYTES], const struct id *image, uint8_t key[MEMO_KEY_BYTES])
{
	struct digest_part parts[] = { { base, MEMO_KEY_BYTES }, { image ? image->b : NULL, ID_BYTES } };

	memcpy (key, base, MEMO_KEY_BYTES);
	return !image || digest_sha256 (parts, 2, key) == 0;
}

/* ---- flights -------------------------------------------------------------------------------------------------------- */

static struct flight *find_flight (const struct dispatch *d, const uint8_t *key)
{
	struct id id = flight_id (key);
	struct flight *f = map_get (d->flights, &id);

	return f && memcmp (f->key, key, MEMO_KEY_BYTES) == 0 ? f : NULL;
}

static void lead (struct dispatch *d, struct queue_task *t, const struct flight *like)
{
	struct id id = flight_id (like->key);
	struct flight *f;

	if (map_get (d->flights, &id))
		return;
	f = xcalloc (1, sizeof (*f));
	memcpy (f->key, like->key, MEMO_KEY_BYTES);
	memcpy (f->base, like->base, MEMO_KEY_BYTES);
	f->image = like->image;
	f->container = like->container;
	f->leader = t;
	TAILQ_INIT (&f->followers);
	map_put (d->flights, &id, f);
	t->flight = f;
}

static void join (struct dispatch *d, struct queue_task *t, struct flight *f)
{
	t->flight = f;
	TAILQ_INSERT_TAIL (&f->followers, t, follow);
	queue_join (d->queue, t, clock_now_ms ());
	d->st.joined++;
}

static void leave (struct queue_task *t)
{
	TAILQ_REMOVE (&t->flight->followers, t, follow);
	t->flight = NULL;
}

static void end_flight (struct dispatch *d, struct flight *f)
{
	struct id id = flight_id (f->key);
	struct queue_task *t, *heir = TAILQ_FIRST (&f->followers);

	f->leader->flight = NULL;
	map_del (d->flights, &id);
	while ((t = TAILQ_LAST (&f->followers, followers))) {	/* from the end: to the front, in their order; they have waited as long as it has */
		leave (t);
		queue_put_back (d->queue, t, NULL, true, clock_now_ms ());
	}
	if (heir)
		lead (d, heir, f);
	free (f);
	dispatch_work_later (d);
}

void dispatch_memo_left (struct dispatch *d, struct queue_task *t)
{
	if (!t->flight)
		return;
	if (t->flight->leader == t)
		end_flight (d, t->flight);
	else
		leave (t);
}

void dispatch_memo_release (struct dispatch *d)
{
	struct queue_task *t;

	while ((t = queue_joined (d->queue)->head)) {
		leave (t);
		queue_put_back (d->queue, t, NULL, false, clock_now_ms ());
	}
}

/* ---- answers -------------------------------------------------------------------------------------------------------- */

/* t ends with an earlier result; false when that cannot be given to it. */
static bool answer (struct dispatch *d, struct queue_task *t, const struct msg_task *m, struct wire_str record)
{
	struct id id = t->id;
	zmq_msg_t out;

	if (outcome_again (&out, t, m, record) < 0)
		return false;
	if (d->up && upstream_bulk (d->up))
		bulk_record_store (d->o.bulk, &out);
	d->st.memoised++;
	dispatch_drop_task (d, t);
	dispatch_keep_result (d, &id, &out);
	zmq_msg_close (&out);
	return true;
}

static int decode (struct queue_task *t, struct msg_task *m)
{
	return msg_task_decode (m, zmq_msg_data (&t->frame), zmq_msg_size (&t->frame), NULL);
}

/* An earlier result from one of the images; without container there is one key. */
static bool remembered (struct dispatch *d, struct queue_task *t, const struct msg_task *m, const struct flight *like, const struct id *images,
			size_t n)
{
	uint8_t key[MEMO_KEY_BYTES];
	struct wire_str record;
	bool known = false;
	zmq_msg_t held;

	for (size_t i = 0; i < (like->container ? n : 1) && !known; i++) {
		zmq_msg_init (&held);
		known = make_key (like->base, like->container ? &images[i] : NULL, key) && memo_get (d->o.memo, key, &held, &record)
			&& answer (d, t, m, record);
		zmq_msg_close (&held);
	}
	return known;
}

bool dispatch_memo_ask (struct dispatch *d, struct queue_task *t)
{
	struct function *fn = t->asked_memo || t->nodes || !d->o.memo ? NULL : functions_get (d->functions, &t->function);
	struct flight like = { .container = false }, *f;
	struct id images[DISPATCH_IMAGES_MAX];
	enum images_state s = IMAGES_NONE;
	const char *image = node_image (d, t);
	struct msg_task m;
	size_t n = 0;
	bool fresh;

	if (!fn)
		return false;	/* when its function has not come yet: asked again then */
	if (image && !provider_image_is_pinned (image)) {
		t->asked_memo = true;
		return false;
	}
	if (fn->fn.flags & FUNCTION_MEMOISE && fn->fn.container.n && !d->o.block_image) {
		like.container = true;
		if (!d->managers || (s = dispatch_images (d, t, images, &n)) == IMAGES_UNKNOWN)
			return false;	/* when there is a manager: asked again then */
		if (s == IMAGES_ASKED) {
			queue_hold (d->queue, t, 0, clock_now_ms ());
			return true;
		}
	}
	t->asked_memo = true;
	if (!(fn->fn.flags & FUNCTION_MEMOISE) || decode (t, &m) < 0 || !msg_files_fixed (fn->fn.files) || !msg_files_fixed (m.files)
	    || !make_base (d, fn, &m, image, like.base))
		return false;
	fresh = m.flags & TASK_FRESH;
	if (!fresh && (!like.container || n) && remembered (d, t, &m, &like, images, n))
		return true;
	if (n)
		like.image = images[0];
	if (!make_key (like.base, like.container ? &like.image : NULL, like.key))
		return false;
	if ((f = find_flight (d, like.key)) && !fresh && !(f->container && id_is_zero (&f->image))) {
		join (d, t, f);
		return true;
	}
	if (!f)
		lead (d, t, &like);
	return false;
}

void dispatch_memo_result (struct dispatch *d, struct queue_task *t, zmq_msg_t *record)
{
	struct flight *f = t->flight;
	uint8_t key[MEMO_KEY_BYTES];
	struct wire_str bytes;
	struct queue_task *next;
	struct msg_result r;
	struct msg_task m;
	zmq_msg_t whole;

	if (!f || f->leader != t)
		return;
	zmq_msg_init (&whole);
	zmq_msg_copy (&whole, record);
	bulk_record_result (d->o.bulk, &whole);	/* what is remembered outlives the leader's file, and is others' too */
	bytes = wire_str (zmq_msg_data (&whole), zmq_msg_size (&whole));
	if (msg_result_decode (&r, bytes.p, bytes.n, NULL) < 0 || r.status != STATUS_SUCCESS) {
		zmq_msg_close (&whole);
		return;
	}
	if (!(f->container && id_is_zero (&r.image)) && make_key (f->base, f->container ? &r.image : NULL, key))
		memo_put (d->o.memo, key, bytes.p, bytes.n);
	/* those that wait were told of another image: they run */
	if (f->container && !id_eq (&f->image, &r.image)) {
		zmq_msg_close (&whole);
		return;
	}
	for (struct queue_task *q = TAILQ_FIRST (&f->followers); q; q = next) {
		next = TAILQ_NEXT (q, follow);
		if (decode (q, &m) == 0)
			answer (d, q, &m, bytes);
	}
	zmq_msg_close (&whole);
	/* those that it cannot be given to run when t is dropped */
}
