/* SPDX-License-Identifier: Apache-2.0 */
/* See kubewatch.h. */
#include "endpoint/providers/kubewatch.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "endpoint/providers/kubeapi.h"

#include <stdlib.h>
#include <string.h>

enum {
	PAGE = 500,
	WATCH_S = 240,				/* the server ends a watch then; */
	WATCH_MS = (WATCH_S + 30) * 1000,	/* one that is still there has lost its server */
	BACKOFF_BASE_MS = 500,
	BACKOFF_CAP_MS = 30000,
	BRIEF_MS = 1000,			/* a watch that ends sooner has not worked */
	LINE_MAX_BYTES = 8 << 20,
};

struct kubewatch {
	struct kubeapi *api;
	char *path, *selector;
	const struct kubewatch_ops *ops;
	void *arg;
	struct kubeapi_call *call;
	struct loop_timer *again;
	char version[64];		/* "" = a list is due */
	char *next_page;
	struct buf line;
	int64_t since_ms;
	unsigned attempt;
	bool troubled, spoilt;		/* spoilt: of this watch nothing more is read */
};

static void go (void *arg);

enum kubewatch_event kubewatch_parse (const char *line, size_t n, json_t **object, char version[64], int *code)
{
	json_t *j = kubeapi_json (line, n), *o = json_object_get (j, "object");
	const char *type = kubeapi_text (j, "type"), *v = kubeapi_text (kubeapi_get (o, "metadata", NULL), "resourceVersion");
	enum kubewatch_event ev = KUBEWATCH_BAD;

	*object = NULL;
	*version = 0;
	*code = 0;
	if (json_is_object (o)) {
		if (strcmp (type, "ADDED") == 0 || strcmp (type, "MODIFIED") == 0)
			ev = KUBEWATCH_CHANGED;
		else if (strcmp (type, "DELETED") == 0)
			ev = KUBEWATCH_DELETED;
		else if (strcmp (type, "BOOKMARK") == 0)
			ev = KUBEWATCH_BOOKMARK;
		else if (strcmp (type, "ERROR") == 0)
			ev = KUBEWATCH_ERROR;
	}
	if (ev != KUBEWATCH_BAD) {
		json_int_t c = json_integer_value (json_object_get (o, "code"));
		*object = json_incref (o);
		*code = c > 0 && c < 1000 ? (int) c : 0;
		if (strlen (v) < 64)
			memcpy (version, v, strlen (v) + 1);
	}
	json_decref (j);
	return ev;
}

static void trouble (struct kubewatch *w, const char *why)
{
	if (!*why && !w->troubled)
		return;
	w->troubled = *why;
	w->ops->trouble (why, w->arg);
}

static void retry (struct kubewatch *w)
{
	int64_t wait = clock_backoff_ms (w->attempt, BACKOFF_BASE_MS, BACKOFF_CAP_MS);

	if (w->attempt < 20)
		w->attempt++;
	loop_timer_start (w->again, wait, false);
}

static void relist (struct kubewatch *w)
{
	*w->version = 0;
	free (w->next_page);
	w->next_page = NULL;
}

/* ---- the list ------------------------------------------------------------------------------------------------ */

static void use_page (struct kubewatch *w, json_t *page)
{
	const json_t *meta = kubeapi_get (page, "metadata", NULL);
	const char *version = kubeapi_text (meta, "resourceVersion"), *next = kubeapi_text (meta, "continue");
	json_t *o;
	size_t i;

	if (!w->next_page)
		w->ops->begin (w->arg);
	json_array_foreach (json_object_get (page, "items"), i, o)
		w->ops->object (o, false, w->arg);
	free (w->next_page);
	w->next_page = *next ? xstrdup (next) : NULL;
	if (w->next_page)
		return;
	w->ops->end (w->arg);
	snprintf (w->version, sizeof (w->version), "%s", version);
}

static void on_list (int status, const char *body, size_t n, const char *why, void *arg)
{
	struct kubewatch *w = arg;
	json_t *page = status / 100 == 2 ? kubeapi_json (body, n) : NULL;
	bool good = page && *kubeapi_text (kubeapi_get (page, "metadata", NULL), "resourceVersion");

	w->call = NULL;
	if (good) {
		trouble (w, "");
		use_page (w, page);
		go (w);
	} else {
		relist (w);	/* also when a page came too late: 410 */
		if (status != 410)
			trouble (w, *why ? why : "what answers is not a Kubernetes API server");
		retry (w);
	}
	json_decref (page);
}

/* ---- the watch ----------------------------------------------------------------------------------------------- */

static void use_line (struct kubewatch *w, const char *line, size_t n)
{
	json_t *o;
	char version[64];
	int code;
	enum kubewatch_event ev = kubewatch_parse (line, n, &o, version, &code);

	if (ev == KUBEWATCH_BAD || ev == KUBEWATCH_ERROR) {
		log_info ("kubernetes", "watch is begun anew", "path=%s code=%d", w->path, code);
		w->spoilt = true;
	} else {
		w->attempt = 0;
		if (*version)
			memcpy (w->version, version, sizeof (version));
		if (ev != KUBEWATCH_BOOKMARK)
			w->ops->object (o, ev == KUBEWATCH_DELETED, w->arg);
	}
	json_decref (o);
}

static void on_part (const char *p, size_t n, void *arg)
{
	struct kubewatch *w = arg;
	uint8_t *nl;
	size_t at = 0;

	trouble (w, "");
	buf_add (&w->line, p, n);
	while (!w->spoilt && (nl = w->line.len > at ? memchr (w->line.data + at, '\n', w->line.len - at) : NULL)) {
		size_t len = (size_t) (nl - w->line.data) - at;
		if (len)
			use_line (w, (char *) w->line.data + at, len);
		at += len + 1;
	}
	buf_consume (&w->line, at);
	if (buf_failed (&w->line)) {
		log_warn ("kubernetes", "an event of a watch is too large", "path=%s bytes_max=%d", w->path, LINE_MAX_BYTES);
		w->spoilt = true;
	}
	if (w->spoilt) {
		kubeapi_cancel (&w->call);
		relist (w);
		retry (w);
	}
}

static void on_watch (int status, const char *body, size_t n, const char *why, void *arg)
{
	struct kubewatch *w = arg;

	(void) body;
	(void) n;
	w->call = NULL;
	if (status == 410 || status == 400)
		relist (w);
	if (status / 100 == 2 || status == 410) {
		bool worked = clock_now_ms () - w->since_ms >= BRIEF_MS;
		if (worked)
			w->attempt = 0;
		if (worked && *w->version)
			go (w);
		else
			retry (w);
		return;
	}
	/* cut after a while: that is how a server ends; one that cannot be reached is told by the next attempt */
	if (status || clock_now_ms () - w->since_ms < BRIEF_MS)
		trouble (w, why);
	retry (w);
}

/* ---- both ---------------------------------------------------------------------------------------------------- */

static void go (void *arg)
{
	struct kubewatch *w = arg;
	bool watch = *w->version;
	struct kubeapi_args a = { .method = "GET", .timeout_ms = watch ? WATCH_MS : 0, .on_part = watch ? on_part : NULL };
	struct buf path;

	buf_init (&path, 1 << 16);
	buf_printf (&path, "%s?labelSelector=", w->path);
	kubeapi_escape (&path, w->selector);
	if (watch) {
		buf_printf (&path, "&watch=1&allowWatchBookmarks=true&timeoutSeconds=%d&resourceVersion=", WATCH_S);
		kubeapi_escape (&path, w->version);
	} else {
		buf_printf (&path, "&limit=%d", PAGE);
		if (w->next_page) {
			buf_str (&path, "&continue=");
			kubeapi_escape (&path, w->next_page);
		}
	}
	buf_char (&path, 0);
	a.path = (const char *) path.data;
	w->since_ms = clock_now_ms ();
	w->spoilt = false;
	buf_clear (&w->line);
	w->call = kubeapi_start (w->api, &a, watch ? on_watch : on_list, w);
	buf_fini (&path);
}

struct kubewatch *kubewatch_create (struct loop *l, struct kubeapi *api, const char *path, const char *selector, const struct kubewatch_ops *ops,
				    void *arg)
{
	struct kubewatch *w = xcalloc (1, sizeof (*w));

	w->api = api;
	w->path = xstrdup (path);
	w->selector = xstrdup (selector);
	w->ops = ops;
	w->arg = arg;
	w->again = loop_timer_create (l, go, w);
	buf_init (&w->line, LINE_MAX_BYTES);
	go (w);
	return w;
}

void kubewatch_destroy (struct kubewatch **wp)
{
	struct kubewatch *w = *wp;

	if (!w)
		return;
	*wp = NULL;
	kubeapi_cancel (&w->call);
	loop_timer_destroy (&w->again);
	buf_fini (&w->line);
	free (w->next_page);
	free (w->path);
	free (w->selector);
	free (w);
}
