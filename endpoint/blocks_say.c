/* SPDX-License-Identifier: Apache-2.0 */
/* What blocks tell people: states, figures, why tasks wait. */
#include "common/clock.h"
#include "endpoint/blocks_internal.h"

#include <string.h>

const char *blocks_state_name (enum block_state s)
{
	static const char *const name[] = { "?", "pending", "starting", "up", "stopping" };

	return name[s <= BLOCK_STOPPING ? s : 0];
}

void blocks_stats (struct blocks *b, struct blocks_stats *out)
{
	memset (out, 0, sizeof (*out));
	for (struct block *k = b->list; k; k = k->next) {
		out->active += k->state != BLOCK_STOPPING;
		out->pending += k->state == BLOCK_PENDING || k->state == BLOCK_STARTING;
		out->up += k->state == BLOCK_UP;
		out->stopping += k->state == BLOCK_STOPPING;
	}
	out->started = b->nstarted;
	out->failed = b->nfailed;
	out->error = "";
	for (const struct fleet *f = b->fleets; f; f = f->next) {
		out->failures_last_hour += fleet_failures (b, f);
		if (!*out->error)
			out->error = f->error;
	}
	out->scheduler = b->o.provider->trouble ? b->o.provider->trouble (b->provider) : "";
}

void blocks_describe (struct blocks *b, const char *block, struct buf *out)
{
	size_t at;

	buf_str (out, *block ? block : "unknown");
	if (!b->o.provider->job)
		return;
	buf_str (out, " (");
	at = out->len;
	b->o.provider->job (b->provider, block, out);
	if (out->len == at)
		buf_str (out, "no job");
	buf_char (out, ')');
}

static void say_lack (struct blocks *b, struct buf *out, const char *after)
{
	const char *before = "block ";

	for (struct block *k = b->list; k; k = k->next)
		if (k->state == BLOCK_UP && !*k->fleet->image) {
			buf_str (out, before);
			blocks_describe (b, k->id, out);
			buf_printf (out, " has %u of its %u managers", block_connected (b, k), b->o.nodes);
			before = ", block ";
		}
	buf_printf (out, ", and a task wants %u nodes of one%s", b->wanted, after);
}

static void why_waiting (struct blocks *b, const struct fleet *f, const char *trouble, struct buf *out)
{
	bool lacking = !*f->image && blocks_lack (b);
	const struct block *pending = NULL;
	size_t at;

	if (fleet_is_up (b, f) && !lacking)
		return;
	for (struct block *k = b->list; k; k = k->next)
		if (k->fleet == f && (k->state == BLOCK_PENDING || k->state == BLOCK_STARTING))
			pending = k;	/* the oldest stands last */
	if (!*f->error && !*trouble && !pending && !lacking)
		return;
	if (out->len)
		buf_str (out, "; ");
	if (*f->image)
		buf_printf (out, "image %.200s: ", f->image);
	at = out->len;
	if (lacking)
		say_lack (b, out, *f->error || *trouble ? "; " : "");
	buf_str (out, *f->error ? f->error : trouble);
	if (!pending || (out->len > at && !*pending->text))
		return;
	buf_str (out, out->len > at ? "; now block " : "block ");
	blocks_describe (b, pending->id, out);
	buf_printf (out, " is %s%s%s", blocks_state_name (pending->state), *pending->text ? ": " : "", pending->text);
}

void blocks_why_waiting (struct blocks *b, struct buf *out)
{
	const char *trouble = b->o.provider->trouble && b->provider ? b->o.provider->trouble (b->provider) : "";

	for (struct fleet *f = b->fleets; f; f = f->next)
		if (f == b->fleets || f->wish.tasks)
			why_waiting (b, f, trouble, out);
}

void blocks_each (struct blocks *b, blocks_f *cb, void *arg)
{
	struct buf job;

	buf_init (&job, 4096);
	for (struct block *k = b->list; k; k = k->next) {
		buf_clear (&job);
		if (b->o.provider->job)
			b->o.provider->job (b->provider, k->id, &job);
		cb (&(struct blocks_view) { k->id, job.len ? (const char *) job.data : "", k->text, k->fleet->image, k->state,
					    clock_now_ms () - k->created_ms }, arg);
	}
	buf_fini (&job);
}
