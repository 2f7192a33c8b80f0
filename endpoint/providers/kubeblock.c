/* SPDX-License-Identifier: Apache-2.0 */
/* See kubeblock.h. */
#include "endpoint/providers/kubeblock.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "endpoint/providers/kubeapi.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BACKOFF_BASE_MS = 500, BACKOFF_CAP_MS = 30000, RETURN_MS = 30000, GIVE_UP_GRACE_MS = 20000, LOG_LINES = 50, LOG_BYTES = 16384, HOUR_MS = 3600 * 1000 };
enum phase { MAKING, KEYING, SCALING, LIVE, TELLING, DELETING, OVER };

struct pod { struct kubepod p; bool seen, counted; struct pod *next; };

struct kubeblock {
	struct loop *loop;
	struct kubeapi *api;
	const struct kubespec_conf *conf;
	kubeblock_f *on;
	void *arg;
	char *namespace_, *log_dir;
	char id[32], name[KUBESPEC_NAME], run[32];
	json_t *deployment, *secret;	/* until they are made */
	unsigned pods_wanted;
	enum phase phase;
	struct kubeapi_call *call;
	struct loop_timer *again;
	struct loop_defer *ended;
	unsigned attempt;
	struct pod *pods;
	bool image;			/* it is for one that functions name */
	bool running, failed, no_image, deleted;	/* running: so it was reported; deleted: the server has accepted that */
	bool stopping;			/* cancelled while the Deployment is being made: what is made is known only with the answer */
	long failures;
	int64_t counted_since_ms, idle_since_ms, delete_by_ms;	/* idle: no pod runs */
	int64_t away_ms;		/* when the server last gave no answer of use; 0 = never */
	char trouble[420];		/* of the request in hand */
	char refused[400];		/* why the Deployment makes no pods */
	char told[420];			/* the text reported last */
	char why[640];
};

static void step (void *arg);
static void look (struct kubeblock *b);

const char *kubeblock_id (const struct kubeblock *b)
{
	return b->id;
}

bool kubeblock_left (const struct kubeblock *b)
{
	return !b->deleted;
}

char *kubeblock_path (const char *namespace_, const char *name, const char *query)
{
	return xasprintf ("/apis/apps/v1/namespaces/%s/deployments%s%s%s", namespace_, *name ? "/" : "", name, query);
}

/* ---- telling ------------------------------------------------------------------------------------------------- */

/* anew: the state is another one, so it is told even with the same text. */
static void report (struct kubeblock *b, const char *text, bool anew)
{
	enum provider_state s = b->running ? PROVIDER_RUNNING : PROVIDER_PENDING;

	if (!anew && strcmp (b->told, text) == 0)
		return;
	snprintf (b->told, sizeof (b->told), "%s", text);
	b->on (b, s, false, b->told, b->arg);
}

static void on_ended (void *arg)
{
	struct kubeblock *b = arg;

	b->on (b, b->no_image ? PROVIDER_NO_IMAGE : PROVIDER_ENDED, b->failed, b->why, b->arg);
}

static void end (struct kubeblock *b)
{
	b->phase = OVER;
	kubeapi_cancel (&b->call);
	loop_timer_stop (b->again);
	loop_defer_schedule (b->ended);
}

static void enter (struct kubeblock *b, enum phase p)
{
	kubeapi_cancel (&b->call);
	loop_timer_stop (b->again);
	b->attempt = 0;
	*b->trouble = 0;
	b->phase = p;
	step (b);
}

static void fail (struct kubeblock *b, const char *why)
{
	if (b->phase >= TELLING || b->stopping)
		return;
	b->failed = true;
	for (const struct pod *p = b->pods; b->image && p; p = p->next)
		b->no_image |= p->p.bad && p->p.no_image;
	snprintf (b->why, sizeof (b->why), "%s", why);
	b->delete_by_ms = clock_now_ms () + GIVE_UP_GRACE_MS;
	log_warn ("kubernetes", "block given up", "block=%s deployment=%s reason=%s", b->id, b->name, b->why);
	enter (b, TELLING);
}

/* Was it cancelled meanwhile? Then the next request deletes. */
static bool stopped (struct kubeblock *b)
{
	b->call = NULL;
	if (!b->stopping)
		return false;
	b->stopping = false;
	enter (b, DELETING);
	return true;
}

/* ---- requests ------------------------------------------------------------------------------------------------ */

static void again (struct kubeblock *b, const char *why)
{
	int64_t wait = clock_backoff_ms (b->attempt, BACKOFF_BASE_MS, BACKOFF_CAP_MS);

	if (b->attempt < 20)
		b->attempt++;
	snprintf (b->trouble, sizeof (b->trouble), "%s", why);
	loop_timer_start (b->again, wait, false);
	if (b->phase < TELLING)
		report (b, b->trouble, false);
}

/* Is it worth to ask again? A server that has just come back forbids for a moment what it allows: it has not read all its rules yet. */
static bool passing (struct kubeblock *b, int status)
{
	int64_t now = clock_now_ms ();

	if (status == 0 || status >= 500)
		b->away_ms = now;
	return status == 0 || status == 429 || status >= 500 || (status == 403 && b->away_ms && now - b->away_ms < RETURN_MS);
}

static void call (struct kubeblock *b, const char *method, char *path, const char *type, const json_t *body, kubeapi_f *cb)
{
	struct kubeapi_args a = { .method = method, .path = path, .content_type = type, .body = body };

	b->call = kubeapi_start (b->api, &a, cb, b);
	free (path);
}

static bool is_ours (const struct kubeblock *b, const json_t *d)
{
	return strcmp (kubeapi_text (kubeapi_get (d, "metadata", "annotations", NULL), KUBESPEC_RUN), b->run) == 0;
}

static void made (struct kubeblock *b, const json_t *d)
{
	const char *uid = kubeapi_text (kubeapi_get (d, "metadata", NULL), "uid");
	json_t *owners = json_object_get (json_object_get (b->secret, "metadata"), "ownerReferences");

	json_object_set_new (json_array_get (owners, 0), "uid", json_string (uid));
	enter (b, KEYING);
}

static void on_old_deleted (int status, const char *body, size_t n, const char *why, void *arg)
{
	struct kubeblock *b = arg;
	char text[400];

	(void) body;
	(void) n;
	if (stopped (b))
		return;
	snprintf (text, sizeof (text), "%.390s", why);
	again (b, status / 100 == 2 || status == 404 ? "the Deployment of an earlier run is being deleted" : text);
}

/* The name is taken: by a request of ours whose answer was lost, or by what a killed agent left. */
static void on_taken (int status, const char *body, size_t n, const char *why, void *arg)
{
	struct kubeblock *b = arg;
	json_t *d = status / 100 == 2 ? kubeapi_json (body, n) : NULL;

	if (stopped (b))
		;
	else if (d && is_ours (b, d))
		made (b, d);
	else if (d)
		call (b, "DELETE", kubeblock_path (b->namespace_, b->name, "?propagationPolicy=Background"), NULL, NULL, on_old_deleted);
	else
		again (b, status == 404 ? "" : why);
	json_decref (d);
}

static void on_made (int status, const char *body, size_t n, const char *why, void *arg)
{
	struct kubeblock *b = arg;
	json_t *d = status / 100 == 2 ? kubeapi_json (body, n) : NULL;

	if (stopped (b))
		;
	else if (d && *kubeapi_text (kubeapi_get (d, "metadata", NULL), "uid")) {
		log_info ("kubernetes", "deployment made", "block=%s deployment=%s", b->id, b->name);
		made (b, d);
	} else if (status == 409)
		call (b, "GET", kubeblock_path (b->namespace_, b->name, ""), NULL, NULL, on_taken);
	else if (passing (b, status) || status / 100 == 2)
		again (b, *why ? why : "the answer is not a Deployment");
	else
		fail (b, why);
	json_decref (d);
}

static void on_keyed (int status, const char *body, size_t n, const char *why, void *arg)
{
	struct kubeblock *b = arg;

	(void) body;
	(void) n;
	b->call = NULL;
	if (status / 100 == 2 || status == 409)
		enter (b, SCALING);
	else if (passing (b, status))
		again (b, why);
	else
		fail (b, why);
}

static void on_scaled (int status, const char *body, size_t n, const char *why, void *arg)
{
	struct kubeblock *b = arg;

	(void) body;
	(void) n;
	b->call = NULL;
	if (status / 100 == 2)
		enter (b, LIVE);
	else if (passing (b, status) || status == 409)
		again (b, why);
	else
		fail (b, why);
}

static void on_deleted (int status, const char *body, size_t n, const char *why, void *arg)
{
	struct kubeblock *b = arg;

	(void) body;
	(void) n;
	b->call = NULL;
	if (status / 100 != 2 && status != 404) {
		again (b, why);
		return;
	}
	b->deleted = true;
	log_info ("kubernetes", "deployment deleted", "block=%s deployment=%s", b->id, b->name);
	look (b);
}

static void on_looked (int status, const char *body, size_t n, const char *why, void *arg)
{
	struct kubeblock *b = arg;

	(void) body;
	(void) n;
	(void) why;
	b->call = NULL;
	if (status == 404 && b->phase == LIVE) {
		b->deleted = true;
		fail (b, "its Deployment was deleted by somebody else");
	}
}

/* ---- the log of a pod that died ------------------------------------------------------------------------------ */

static const struct pod *dead_pod (const struct kubeblock *b)
{
	for (const struct pod *p = b->pods; p; p = p->next)
		if (p->p.state == KUBEPOD_DEAD)
			return p;
	return NULL;
}

static void on_log (int status, const char *body, size_t n, const char *why, void *arg)
{
	struct kubeblock *b = arg;
	char *path = xasprintf ("%s/block-%s-0.log", b->log_dir, b->id);
	int fd = status / 100 == 2 && n ? open (path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;

	b->call = NULL;
	if (fd >= 0 && write (fd, body, n) != (ssize_t) n)
		log_warn ("kubernetes", "cannot write the log of a pod", "path=%s reason=%s", path, strerror (errno));
	if (fd >= 0)
		close (fd);
	else if (status / 100 != 2)
		log_info ("kubernetes", "no log of a pod that died", "block=%s reason=%s", b->id, why);
	free (path);
	enter (b, DELETING);
}

/* Of a container that waits for its next start, the log of the last time. */
static void ask_log (struct kubeblock *b, const struct pod *p)
{
	bool previous = strncmp (p->p.text, "CrashLoopBackOff", 16) == 0;

	call (b, "GET", xasprintf ("/api/v1/namespaces/%s/pods/%s/log?container=%s&tailLines=%d&limitBytes=%d%s", b->namespace_, p->p.name,
				   *p->p.container ? p->p.container : KUBESPEC_WORKER, LOG_LINES, LOG_BYTES, previous ? "&previous=true" : ""),
	      NULL, NULL, on_log);
}

/* ---- phases -------------------------------------------------------------------------------------------------- */

static void step (void *arg)
{
	struct kubeblock *b = arg;
	const struct pod *p;
	json_t *patch;

	switch (b->phase) {
	case MAKING:
		call (b, "POST", kubeblock_path (b->namespace_, "", ""), NULL, b->deployment, on_made);
		break;
	case KEYING:
		call (b, "POST", xasprintf ("/api/v1/namespaces/%s/secrets", b->namespace_), NULL, b->secret, on_keyed);
		break;
	case SCALING:
		patch = json_pack ("{s:{s:i}}", "spec", "replicas", (int) b->pods_wanted);
		call (b, "PATCH", kubeblock_path (b->namespace_, b->name, ""), "application/merge-patch+json", patch, on_scaled);
		json_decref (patch);
		break;
	case TELLING:
		if ((p = dead_pod (b)))
			ask_log (b, p);
		else
			enter (b, DELETING);
		break;
	case DELETING:
		if (b->deleted)
			look (b);
		else
			call (b, "DELETE", kubeblock_path (b->namespace_, b->name, "?propagationPolicy=Background"), NULL, NULL, on_deleted);
		break;
	case LIVE:
		look (b);
		break;
	case OVER:
		break;
	}
}

/* ---- what the pods say --------------------------------------------------------------------------------------- */

static void look_live (struct kubeblock *b)
{
	const struct pod *bad = NULL;
	unsigned running = 0;
	char text[420] = "", why[640];

	for (const struct pod *p = b->pods; p; p = p->next) {
		running += p->p.state == KUBEPOD_RUNNING;
		if (p->p.bad && (!bad || p->p.hopeless))
			bad = p;
	}
	if (bad)
		snprintf (text, sizeof (text), "%s", bad->p.text);
	else if (*b->refused && running < b->pods_wanted)
		snprintf (text, sizeof (text), "%s", b->refused);
	if (running)
		b->idle_since_ms = 0;
	else if (!b->idle_since_ms)
		b->idle_since_ms = clock_now_ms ();
	if (bad && bad->p.hopeless && !running) {
		snprintf (why, sizeof (why), "pod %.100s: %.400s", bad->p.name, bad->p.text);
		fail (b, why);
	} else if (b->failures > b->conf->max_pod_failures) {
		snprintf (why, sizeof (why), "its pods failed %ld times (provider.kubernetes.max_pod_failures: %ld): %.400s", b->failures,
			  (long) b->conf->max_pod_failures, *text ? text : "the last one is gone");
		fail (b, why);
	} else {
		bool anew = (running > 0) != b->running;
		b->running = running > 0;
		report (b, text, anew);
	}
}

static void look (struct kubeblock *b)
{
	if (b->phase == LIVE)
		look_live (b);
	else if (b->phase == DELETING && b->deleted && (!b->pods || clock_now_ms () >= b->delete_by_ms))
		end (b);
}

static void count_failures (struct kubeblock *b, const struct pod *old, const struct kubepod *now)
{
	long restarts = old ? old->p.restarts : 0;
	bool died = now->state == KUBEPOD_DEAD && !now->restarts && !(old && old->p.state == KUBEPOD_DEAD);
	int64_t t = clock_now_ms ();

	if (t - b->counted_since_ms >= HOUR_MS) {
		b->failures = 0;
		b->counted_since_ms = t;
	}
	/* the first end of a container counts when it is seen dead, and is counted then as restart 1 */
	if (now->restarts > restarts)
		b->failures += now->restarts - restarts - (restarts == 0 && old && old->counted ? 1 : 0);
	b->failures += died;
}

static struct pod **find (struct kubeblock *b, const char *uid)
{
	struct pod **p = &b->pods;

	while (*p && strcmp ((*p)->p.uid, uid) != 0)
		p = &(*p)->next;
	return p;
}

void kubeblock_pod (struct kubeblock *b, const struct kubepod *now)
{
	struct pod **at = find (b, now->uid), *p = *at;

	count_failures (b, p, now);
	if (!p) {
		p = xcalloc (1, sizeof (*p));
		*at = p;
	}
	p->counted = p->counted || (now->state == KUBEPOD_DEAD && !now->restarts);
	p->p = *now;
	p->seen = true;
	look (b);
}

static void remove_pod (struct pod **at)
{
	struct pod *p = *at;

	*at = p->next;
	free (p);
}

void kubeblock_pod_gone (struct kubeblock *b, const char *uid)
{
	struct pod **at = find (b, uid);

	if (!*at)
		return;
	remove_pod (at);
	look (b);
}

void kubeblock_pods_mark (struct kubeblock *b)
{
	for (struct pod *p = b->pods; p; p = p->next)
		p->seen = false;
}

void kubeblock_pods_sweep (struct kubeblock *b)
{
	for (struct pod **p = &b->pods; *p;) {
		if ((*p)->seen)
			p = &(*p)->next;
		else
			remove_pod (p);
	}
	look (b);
}

/* Generation 1 is without pods, 2 is scaled by us. */
static void note_scale (struct kubeblock *b, const json_t *d)
{
	json_int_t now = json_integer_value (kubeapi_get (d, "spec", "replicas", NULL));

	if (json_integer_value (kubeapi_get (d, "metadata", "generation", NULL)) > 2 && now != (json_int_t) b->pods_wanted)
		snprintf (b->refused, sizeof (b->refused), "somebody else has scaled its Deployment to %lld pods, %u were asked for", (long long) now,
			  b->pods_wanted);
}

void kubeblock_deployment (struct kubeblock *b, const json_t *d, bool deleted)
{
	if (!is_ours (b, d))
		return;
	if (deleted && b->phase < TELLING) {
		b->deleted = true;
		fail (b, "its Deployment was deleted by somebody else");
	} else if (deleted) {
		b->deleted = true;
		look (b);
	} else {
		kubepod_deployment (d, b->refused);
		if (!*b->refused)
			note_scale (b, d);
		look (b);
	}
}

void kubeblock_missing (struct kubeblock *b)
{
	/* the list may be older than the Deployment */
	if (b->phase == LIVE && !b->call)
		call (b, "GET", kubeblock_path (b->namespace_, b->name, ""), NULL, NULL, on_looked);
}

void kubeblock_tick (struct kubeblock *b)
{
	int64_t now = clock_now_ms ();
	char why[640];

	if (b->phase == DELETING || b->phase == TELLING || b->stopping) {
		if (now >= b->delete_by_ms) {
			if (!b->deleted)
				log_error ("kubernetes", "a deployment could not be deleted", "namespace=%s deployment=%s reason=%s", b->namespace_, b->name,
					   b->trouble);
			end (b);
		}
	} else if (b->phase != OVER && b->idle_since_ms && now - b->idle_since_ms >= b->conf->start_deadline_ms) {
		snprintf (why, sizeof (why), "no pod ran for %lld s (provider.kubernetes.start_deadline): %.400s",
			  (long long) (b->conf->start_deadline_ms / 1000), *b->told ? b->told : "the cluster says nothing");
		fail (b, why);
	}
}

void kubeblock_cancel (struct kubeblock *b, int64_t grace_ms)
{
	int64_t by = clock_now_ms () + grace_ms + 2000;

	if (b->phase == OVER)
		return;
	if (b->phase == DELETING || b->phase == TELLING) {
		if (by < b->delete_by_ms)
			b->delete_by_ms = by;
		return;
	}
	b->delete_by_ms = by;
	if (b->phase == MAKING && b->call)
		b->stopping = true;
	else
		enter (b, DELETING);
}

void kubeblock_job (const struct kubeblock *b, struct buf *out)
{
	unsigned running = 0;

	for (const struct pod *p = b->pods; p; p = p->next)
		running += p->p.state == KUBEPOD_RUNNING;
	buf_printf (out, "Deployment %s, %u of %u pods run", b->name, running, b->pods_wanted);
	for (const struct pod *p = b->pods; p; p = p->next)
		if (p->p.restarts) {
			buf_printf (out, ", %s restarted %ld times", p->p.name, p->p.restarts);
			break;
		}
}

/* ---- making -------------------------------------------------------------------------------------------------- */

struct kubeblock *kubeblock_create (const struct kubeblock_opts *o)
{
	struct kubeblock *b = xcalloc (1, sizeof (*b));
	const struct kubespec *s = o->spec;

	b->loop = o->loop;
	b->api = o->api;
	b->conf = s->conf;
	b->on = o->on;
	b->arg = o->arg;
	b->namespace_ = xstrdup (o->namespace_);
	b->log_dir = xstrdup (o->log_dir);
	snprintf (b->id, sizeof (b->id), "%s", s->block);
	snprintf (b->run, sizeof (b->run), "%s", s->run);
	kubespec_name (s->endpoint, s->block, b->name);
	b->pods_wanted = s->pods;
	b->image = s->image;
	b->deployment = kubespec_deployment (s, 0);
	b->secret = kubespec_secret (s, o->key, "");
	b->again = loop_timer_create (o->loop, step, b);
	b->ended = loop_defer_create (o->loop, on_ended, b);
	b->idle_since_ms = b->counted_since_ms = clock_now_ms ();
	step (b);
	return b;
}

void kubeblock_destroy (struct kubeblock **bp)
{
	struct kubeblock *b = *bp;

	if (!b)
		return;
	*bp = NULL;
	kubeapi_cancel (&b->call);
	loop_timer_destroy (&b->again);
	loop_defer_destroy (&b->ended);
	while (b->pods)
		remove_pod (&b->pods);
	json_decref (b->deployment);
	json_decref (b->secret);
	free (b->namespace_);
	free (b->log_dir);
	free (b);
}
