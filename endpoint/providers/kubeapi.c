/* SPDX-License-Identifier: Apache-2.0 */
/* See kubeapi.h. HTTP/1.1: a watch has a connection of its own, so one that hangs holds nothing else up. */
#include "endpoint/providers/kubeapi.h"
#include "common/xmem.h"
#include "endpoint/providers/kubeconf.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { TIMEOUT_MS = 15000, WORDS_MAX = 600 };

struct kubeapi_call {
	struct kubeapi *api;
	struct fetch_req *req;		/* NULL: it could not be made, `later` tells */
	struct loop_defer *later;
	struct err err;
	kubeapi_f *cb;
	fetch_part_f *on_part;
	void *arg;
	struct kubeapi_call *prev, *next;
};

struct kubeapi {
	struct loop *loop;
	const struct kubeconf *conf;
	struct fetch *fetch;
	struct kubeapi_call *calls;
};

const json_t *kubeapi_get (const json_t *o, ...)
{
	const char *key;
	va_list ap;

	va_start (ap, o);
	while (o && (key = va_arg (ap, const char *)))
		o = json_object_get (o, key);
	va_end (ap);
	return o;
}

const char *kubeapi_text (const json_t *o, const char *key)
{
	const char *s = json_string_value (json_object_get (o, key));

	return s ? s : "";
}

json_t *kubeapi_json (const char *body, size_t n)
{
	json_t *j = json_loadb (body, n, 0, NULL);

	if (json_is_object (j))
		return j;
	json_decref (j);
	return NULL;
}

void kubeapi_escape (struct buf *out, const char *s)
{
	for (; *s; s++) {
		if (strchr ("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~", *s))
			buf_char (out, *s);
		else
			buf_printf (out, "%%%02X", (unsigned char) *s);
	}
}

void kubeapi_words (int status, const char *body, size_t n, struct buf *out)
{
	json_t *j = kubeapi_json (body, n);
	const char *message = kubeapi_text (j, "message");

	if (*message)
		buf_printf (out, "%.*s", WORDS_MAX, message);
	else
		buf_printf (out, "HTTP status %d", status);
	if (status == 401)
		buf_str (out, " (the token or certificate is not accepted; it may have expired)");
	json_decref (j);
}

static void call_free (struct kubeapi_call *c)
{
	*(c->prev ? &c->prev->next : &c->api->calls) = c->next;
	if (c->next)
		c->next->prev = c->prev;
	loop_defer_destroy (&c->later);
	free (c);
}

/* fetch begins with the whole address, which says nothing to people here. */
static const char *after_url (const char *server, const char *text)
{
	const char *end = strncmp (text, server, strlen (server)) == 0 ? strstr (text + strlen (server), ": ") : NULL;

	return end ? end + 2 : text;
}

/* The callback may cancel other calls and destroy the client: this one is out of the list by then. */
static void answer (struct kubeapi_call *c, int status, const char *body, size_t n, const struct err *err)
{
	kubeapi_f *cb = c->cb;
	const char *server = c->api->conf->server;
	void *arg = c->arg;
	struct buf why;

	buf_init (&why, 4096);
	if (!status)
		buf_str (&why, after_url (server, err->text));
	else if (status / 100 != 2)
		kubeapi_words (status, body, n, &why);
	call_free (c);
	cb (status, body, n, why.data ? (char *) why.data : "", arg);
	buf_fini (&why);
}

static void on_done (int status, const char *body, size_t n, const struct err *err, void *arg)
{
	answer (arg, status, body, n, err);
}

static void on_part (const char *p, size_t n, void *arg)
{
	struct kubeapi_call *c = arg;

	c->on_part (p, n, c->arg);
}

static void on_later (void *arg)
{
	struct kubeapi_call *c = arg;

	answer (c, 0, "", 0, &c->err);
}

static int start (struct kubeapi_call *c, const struct kubeapi_args *a)
{
	struct kubeapi *k = c->api;
	char *token = kubeconf_token (k->conf, &c->err), *url = xasprintf ("%s%s", k->conf->server, a->path);
	char *body = a->body ? json_dumps (a->body, JSON_COMPACT) : NULL;
	struct fetch_args f = {
		.method = a->method, .url = url, .bearer = token, .body = body, .body_bytes = body ? strlen (body) : 0,
		.content_type = a->content_type, .timeout_ms = a->timeout_ms ? a->timeout_ms : TIMEOUT_MS, .on_part = a->on_part ? on_part : NULL,
	};

	if (token || c->err.code == ERR_NONE)
		c->req = fetch_start (k->fetch, &f, on_done, c, &c->err);
	if (token)
		explicit_bzero (token, strlen (token));
	if (body)
		explicit_bzero (body, strlen (body));	/* it may be a Secret */
	free (token);
	free (body);
	free (url);
	return c->req ? 0 : -1;
}

struct kubeapi_call *kubeapi_start (struct kubeapi *k, const struct kubeapi_args *a, kubeapi_f *cb, void *arg)
{
	struct kubeapi_call *c = xcalloc (1, sizeof (*c));

	c->api = k;
	c->cb = cb;
	c->on_part = a->on_part;
	c->arg = arg;
	c->next = k->calls;
	if (k->calls)
		k->calls->prev = c;
	k->calls = c;
	if (start (c, a) < 0) {
		c->later = loop_defer_create (k->loop, on_later, c);
		loop_defer_schedule (c->later);
	}
	return c;
}

void kubeapi_cancel (struct kubeapi_call **cp)
{
	struct kubeapi_call *c = *cp;

	if (!c)
		return;
	*cp = NULL;
	fetch_cancel (&c->req);
	call_free (c);
}

struct kubeapi *kubeapi_create (struct loop *l, const struct kubeconf *c, struct err *err)
{
	struct kubeapi *k = xcalloc (1, sizeof (*k));
	struct fetch_tls tls = { c->ca_pem, c->cert_pem, c->key_pem };
	struct fetch_opts o = { .tls = &tls, .http1 = true };

	k->loop = l;
	k->conf = c;
	if (!(k->fetch = fetch_create (l, &o, err)))
		kubeapi_destroy (&k);
	return k;
}

void kubeapi_destroy (struct kubeapi **kp)
{
	struct kubeapi *k = *kp;

	if (!k)
		return;
	*kp = NULL;
	while (k->calls) {
		struct kubeapi_call *c = k->calls;
		kubeapi_cancel (&c);
	}
	fetch_destroy (&k->fetch);
	free (k);
}

/* ---- blocking ------------------------------------------------------------------------------------------------ */

struct sync { struct loop *loop; int status; json_t **out; struct buf *why; };

static void on_sync (int status, const char *body, size_t n, const char *why, void *arg)
{
	struct sync *s = arg;

	s->status = status;
	buf_str (s->why, why);
	if (s->out)
		*s->out = kubeapi_json (body, n);
	loop_stop (s->loop);
}

int kubeapi_sync (const struct kubeconf *c, const struct kubeapi_args *a, json_t **out, struct buf *why)
{
	struct err err = { 0 };
	struct sync s = { .loop = loop_create (&err), .out = out, .why = why };
	struct kubeapi *k = s.loop ? kubeapi_create (s.loop, c, &err) : NULL;

	if (out)
		*out = NULL;
	if (k) {
		kubeapi_start (k, a, on_sync, &s);
		loop_run (s.loop);
	} else {
		buf_str (why, err.text);
	}
	kubeapi_destroy (&k);
	loop_destroy (&s.loop);
	return s.status;
}
