/* SPDX-License-Identifier: Apache-2.0 */
/* libcurl's multi interface drives the sockets; we lend it the loop's events and one timer.
 *
 * Callbacks run from finish_all () only, never inside a libcurl call: they may start and cancel requests, and destroy
 * the client. */
#include "common/fetch.h"
#include "common/buf.h"
#include "common/xmem.h"

#include <curl/curl.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_TIMEOUT_MS = 60000, DEFAULT_CONNECTIONS = 8, CONNECT_MS = 10000 };
#define DEFAULT_REPLY ((size_t) 64 << 20)

struct fetch_req {
	struct fetch *client;		/* NULL in fetch_sync */
	struct fetch_req *prev, *next;
	CURL *easy;
	struct curl_slist *headers;
	char *body;			/* owned copy */
	struct buf reply;
	size_t most;
	bool too_large, begun;		/* begun: on_part knows that it goes */
	char text[CURL_ERROR_SIZE];
	fetch_f *cb;
	fetch_part_f *on_part;
	void *arg;
};

struct fetch {
	struct loop *loop;
	CURLM *multi;
	struct event *timer;
	char *ca_file, *ca_pem, *cert_pem, *key_pem;
	bool http1;
	struct fetch_req *first;
	int depth;			/* inside finish_all */
	bool destroyed;
};

/* ---- one request -------------------------------------------------------------------------------------------- */

static size_t on_data (char *p, size_t size, size_t n, void *arg)
{
	struct fetch_req *q = arg;

	n *= size;
	if (q->reply.len + n > q->most) {
		q->too_large = true;
		return CURL_WRITEFUNC_ERROR;
	}
	buf_add (&q->reply, p, n);
	return buf_failed (&q->reply) ? CURL_WRITEFUNC_ERROR : n;
}

static int add_header (struct fetch_req *q, const char *line)
{
	struct curl_slist *l = strpbrk (line, "\r\n") ? NULL : curl_slist_append (q->headers, line);

	if (!l)
		return -1;
	q->headers = l;
	return 0;
}

static int add_pair (struct fetch_req *q, const char *name, const char *value)
{
	char *line = xasprintf ("%s: %s", name, value);
	int rc = add_header (q, line);

	explicit_bzero (line, strlen (line));	/* it may be a token */
	free (line);
	return rc;
}

static int set_headers (struct fetch_req *q, const struct fetch_args *a)
{
	char *bearer = a->bearer ? xasprintf ("Bearer %s", a->bearer) : NULL;
	int rc = bearer ? add_pair (q, "Authorization", bearer) : 0;

	if (bearer)
		explicit_bzero (bearer, strlen (bearer));
	free (bearer);
	if (a->body || a->content_type)
		rc |= add_pair (q, "Content-Type", a->content_type ? a->content_type : "application/json");
	rc |= add_header (q, "Expect:");	/* no round trip before a body */
	for (const char *const *h = a->headers; h && *h; h++)
		rc |= add_header (q, *h);
	return rc;
}

static void set_blob (CURL *e, CURLoption o, const char *text)
{
	struct curl_blob blob = { (void *) (uintptr_t) text, text ? strlen (text) : 0, CURL_BLOB_NOCOPY };

	if (text)
		curl_easy_setopt (e, o, &blob);
}

/* What all requests of a client share; its texts live as long as the requests. */
static void set_client_options (CURL *e, const struct fetch *f)
{
	if (f->http1)
		curl_easy_setopt (e, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	set_blob (e, CURLOPT_CAINFO_BLOB, f->ca_pem);
	set_blob (e, CURLOPT_SSLCERT_BLOB, f->cert_pem);
	set_blob (e, CURLOPT_SSLKEY_BLOB, f->key_pem);
	curl_easy_setopt (e, CURLOPT_TCP_KEEPALIVE, 1L);
}

static void set_options (struct fetch_req *q, const struct fetch_args *a, const char *ca_file)
{
	CURL *e = q->easy;

	curl_easy_setopt (e, CURLOPT_PRIVATE, q);
	curl_easy_setopt (e, CURLOPT_URL, a->url);
	curl_easy_setopt (e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt (e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt (e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt (e, CURLOPT_ERRORBUFFER, q->text);
	curl_easy_setopt (e, CURLOPT_USERAGENT, "weft/" WEFT_VERSION);
	curl_easy_setopt (e, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt (e, CURLOPT_WRITEDATA, q);
	curl_easy_setopt (e, CURLOPT_TIMEOUT_MS, (long) (a->timeout_ms > 0 ? a->timeout_ms : DEFAULT_TIMEOUT_MS));
	curl_easy_setopt (e, CURLOPT_CONNECTTIMEOUT_MS, (long) CONNECT_MS);
	curl_easy_setopt (e, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt (e, CURLOPT_SSL_VERIFYHOST, 2L);
	if (ca_file)
		curl_easy_setopt (e, CURLOPT_CAINFO, ca_file);
	curl_easy_setopt (e, CURLOPT_HTTPHEADER, q->headers);
	if (a->body) {
		curl_easy_setopt (e, CURLOPT_POST, 1L);
		curl_easy_setopt (e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) a->body_bytes);
		curl_easy_setopt (e, CURLOPT_POSTFIELDS, q->body);
	}
	if (a->method && strcmp (a->method, "HEAD") == 0)
		curl_easy_setopt (e, CURLOPT_NOBODY, 1L);
	else if (a->method && strcmp (a->method, "POST") == 0 && !a->body) {
		curl_easy_setopt (e, CURLOPT_POST, 1L);
		curl_easy_setopt (e, CURLOPT_POSTFIELDSIZE, 0L);
	} else if (a->method)
		curl_easy_setopt (e, CURLOPT_CUSTOMREQUEST, a->method);
}

static void req_free (struct fetch_req *q)
{
	if (!q)
		return;
	if (q->easy)
		curl_easy_cleanup (q->easy);
	curl_slist_free_all (q->headers);
	free (q->body);
	buf_fini (&q->reply);
	free (q);
}

static struct fetch_req *req_create (const struct fetch_args *a, const char *ca_file, struct err *err)
{
	struct fetch_req *q = xcalloc (1, sizeof (*q));

	q->most = a->max_reply_bytes ? a->max_reply_bytes : DEFAULT_REPLY;
	buf_init (&q->reply, q->most + 1);
	if (!a->url || set_headers (q, a) < 0) {
		err_set (err, ERR_INVALID, FAULT_USER, "request to %s: bad url or header", a->url ? a->url : "(none)");
		goto fail;
	}
	if (a->body) {
		if (!(q->body = malloc (a->body_bytes + 1)))
			goto memory;
		memcpy (q->body, a->body, a->body_bytes);
	}
	if (!(q->easy = curl_easy_init ()))
		goto memory;
	set_options (q, a, ca_file);
	return q;
memory:
	err_set (err, ERR_INTERNAL, FAULT_SELF, "request to %s: out of memory", a->url);
fail:
	req_free (q);
	return NULL;
}

/* The HTTP status, or 0 and *err. */
static int outcome (struct fetch_req *q, CURLcode rc, struct err *err)
{
	long status = 0;
	char *url = NULL;
	const char *why = *q->text ? q->text : curl_easy_strerror (rc);

	curl_easy_getinfo (q->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo (q->easy, CURLINFO_EFFECTIVE_URL, &url);
	if (!url)
		url = "(no url)";
	if (rc == CURLE_OK && status > 0) {
		buf_char (&q->reply, 0);	/* body is NUL-terminated, also when empty */
		q->reply.len--;
		return (int) status;
	}
	if (q->too_large)
		err_set (err, ERR_TOO_LARGE, FAULT_PEER, "%s: the reply is larger than %zu bytes", url, q->most);
	else if (rc == CURLE_OPERATION_TIMEDOUT)
		err_set (err, ERR_TIMEOUT, FAULT_PEER, "%s: %s", url, why);
	else if (rc == CURLE_URL_MALFORMAT || rc == CURLE_UNSUPPORTED_PROTOCOL)
		err_set (err, ERR_INVALID, FAULT_USER, "%s: %s", url, why);
	else
		err_set (err, ERR_UNAVAILABLE, FAULT_PEER, "%s: %s", url, rc == CURLE_OK ? "no HTTP status" : why);
	return 0;
}

/* ---- the loop ----------------------------------------------------------------------------------------------- */

static void unlink_req (struct fetch_req *q)
{
	*(q->prev ? &q->prev->next : &q->client->first) = q->next;
	if (q->next)
		q->next->prev = q->prev;
	curl_multi_remove_handle (q->client->multi, q->easy);
}

static void client_free (struct fetch *f)
{
	struct fetch_req *q;

	while ((q = f->first)) {
		unlink_req (q);
		req_free (q);
	}
	if (f->multi)
		curl_multi_cleanup (f->multi);
	if (f->timer)
		event_free (f->timer);
	if (f->key_pem)
		explicit_bzero (f->key_pem, strlen (f->key_pem));
	free (f->ca_file);
	free (f->ca_pem);
	free (f->cert_pem);
	free (f->key_pem);
	free (f);
}

/* Hand on what streams have so far. A callback may change the list, so it is walked anew after each. */
static void hand_on (struct fetch *f)
{
	struct fetch_req *q = f->first;

	while (q && !f->destroyed) {
		long status = 0;
		struct buf part = q->reply;
		if (!q->on_part || (q->begun && !part.len) || curl_easy_getinfo (q->easy, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK || status / 100 != 2) {
			q = q->next;
			continue;
		}
		buf_init (&q->reply, q->most + 1);
		q->begun = true;
		q->on_part (part.len ? (const char *) part.data : "", part.len, q->arg);
		buf_fini (&part);
		q = f->first;
	}
}

static void finish_all (struct fetch *f)
{
	struct fetch_req *q;
	CURLMsg *m;
	int left;

	f->depth++;
	hand_on (f);
	while (!f->destroyed && (m = curl_multi_info_read (f->multi, &left))) {
		CURLcode rc = m->data.result;
		struct err err = { 0 };
		int status;

		if (m->msg != CURLMSG_DONE || curl_easy_getinfo (m->easy_handle, CURLINFO_PRIVATE, (char **) &q) != CURLE_OK)
			continue;
		status = outcome (q, rc, &err);
		unlink_req (q);
		q->cb (status, status && q->reply.data ? (const char *) q->reply.data : "", status ? q->reply.len : 0,
		       status ? NULL : &err, q->arg);
		req_free (q);
	}
	if (--f->depth == 0 && f->destroyed)
		client_free (f);
}

static void on_socket (evutil_socket_t fd, short what, void *arg)
{
	struct fetch *f = arg;
	int running, mask = (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0);

	curl_multi_socket_action (f->multi, fd, mask, &running);
	finish_all (f);
}

static void on_timer (evutil_socket_t fd, short what, void *arg)
{
	struct fetch *f = arg;
	int running;

	(void) fd;
	(void) what;
	curl_multi_socket_action (f->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	finish_all (f);
}

static int want_socket (CURL *easy, curl_socket_t fd, int what, void *arg, void *sockp)
{
	struct fetch *f = arg;
	struct event *ev = sockp;
	short want = (short) ((what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0) | EV_PERSIST);

	(void) easy;
	if (ev)
		event_free (ev);
	ev = what == CURL_POLL_REMOVE ? NULL : event_new (loop_base (f->loop), fd, want, on_socket, f);
	if (ev)
		event_add (ev, NULL);
	curl_multi_assign (f->multi, fd, ev);
	return 0;
}

static int want_timer (CURLM *multi, long ms, void *arg)
{
	struct fetch *f = arg;
	struct timeval tv = { ms / 1000, (ms % 1000) * 1000 };

	(void) multi;
	if (ms < 0)
		event_del (f->timer);
	else
		event_add (f->timer, &tv);
	return 0;
}

static int global_init (struct err *err)
{
	static bool done;

	if (!done && curl_global_init (CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return err_set (err, ERR_INTERNAL, FAULT_SELF, "starting libcurl: it refused");
	done = true;
	return 0;
}

struct fetch *fetch_create (struct loop *l, const struct fetch_opts *o, struct err *err)
{
	struct fetch *f = xcalloc (1, sizeof (*f));
	long most = (long) (o && o->max_connections ? o->max_connections : DEFAULT_CONNECTIONS);

	f->loop = l;
	f->ca_file = o ? xstrdup (o->ca_file) : NULL;
	f->http1 = o && o->http1;
	if (o && o->tls) {
		f->ca_pem = xstrdup (o->tls->ca_pem);
		f->cert_pem = xstrdup (o->tls->cert_pem);
		f->key_pem = xstrdup (o->tls->key_pem);
	}
	if (global_init (err) < 0)
		goto fail;
	if (!(f->timer = evtimer_new (loop_base (l), on_timer, f)) || !(f->multi = curl_multi_init ())) {
		err_set (err, ERR_INTERNAL, FAULT_SELF, "making the HTTP client: out of memory");
		goto fail;
	}
	curl_multi_setopt (f->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
	curl_multi_setopt (f->multi, CURLMOPT_SOCKETDATA, f);
	curl_multi_setopt (f->multi, CURLMOPT_TIMERFUNCTION, want_timer);
	curl_multi_setopt (f->multi, CURLMOPT_TIMERDATA, f);
	curl_multi_setopt (f->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, most);
	curl_multi_setopt (f->multi, CURLMOPT_MAXCONNECTS, most);
	return f;
fail:
	client_free (f);
	return NULL;
}

void fetch_destroy (struct fetch **fp)
{
	struct fetch *f = *fp;
	int saved = errno;

	if (!f)
		return;
	*fp = NULL;
	if (f->depth)
		f->destroyed = true;	/* by a callback: finish_all frees it */
	else
		client_free (f);
	errno = saved;
}

struct fetch_req *fetch_start (struct fetch *f, const struct fetch_args *a, fetch_f *cb, void *arg, struct err *err)
{
	struct fetch_req *q = req_create (a, f->ca_file, err);

	if (!q)
		return NULL;
	set_client_options (q->easy, f);
	q->client = f;
	q->cb = cb;
	q->on_part = a->on_part;
	q->arg = arg;
	q->next = f->first;
	if (f->first)
		f->first->prev = q;
	f->first = q;
	if (curl_multi_add_handle (f->multi, q->easy) != CURLM_OK) {
		err_set (err, ERR_INTERNAL, FAULT_SELF, "request to %s: libcurl refused it", a->url);
		unlink_req (q);
		req_free (q);
		return NULL;
	}
	return q;
}

void fetch_cancel (struct fetch_req **qp)
{
	struct fetch_req *q = *qp;

	if (!q)
		return;
	*qp = NULL;
	unlink_req (q);
	req_free (q);
}

/* What a thread's calls share, so that the next one finds the connection open; lives as long as the thread. */
static CURLSH *kept_connections (void)
{
	static _Thread_local CURLSH *kept;

	if (!kept && (kept = curl_share_init ())) {
		curl_share_setopt (kept, CURLSHOPT_SHARE, CURL_LOCK_DATA_CONNECT);
		curl_share_setopt (kept, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
	}
	return kept;
}

int fetch_sync (const struct fetch_args *a, const char *ca_file, char **out, size_t *n, struct err *err)
{
	struct fetch_req *q;
	int status;

	if (out)
		*out = NULL;
	if (n)
		*n = 0;
	if (global_init (err) < 0 || !(q = req_create (a, ca_file, err)))
		return 0;
	curl_easy_setopt (q->easy, CURLOPT_SHARE, kept_connections ());
	status = outcome (q, curl_easy_perform (q->easy), err);
	if (status && n)
		*n = q->reply.len;
	if (status && out) {
		*out = (char *) q->reply.data;
		buf_init (&q->reply, 0);	/* moved */
	}
	req_free (q);
	return status;
}
