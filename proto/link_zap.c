/* SPDX-License-Identifier: Apache-2.0 */
/* Who may connect: the ZAP handler (ZeroMQ RFC 27) of a context, on the loop instead of on a thread of its own: a lookup takes less than a
 * thread switch. libzmq knows one handler per context, so the links of a context share it and are told apart by their ZAP domain.
 * SPEC.md, section 2.2.
 *
 * The handler must be there before a CURVE listener binds and until it is closed: without a handler libzmq lets everybody in. All
 * listeners of a context run on the loop of the first one. */
#include "proto/link_internal.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "common/log.h"
#include "common/xmem.h"

#define ZAP_ADDRESS "inproc://zeromq.zap.01"
enum { ZAP_FRAMES = 16, ZAP_TEXT = 64 };
enum { ZAP_VERSION, ZAP_REQUEST, ZAP_DOMAIN, ZAP_PEER, ZAP_IDENTITY, ZAP_MECHANISM, ZAP_CREDENTIALS, ZAP_COUNT };

struct zap {
	struct zap *next;
	void *zctx, *sock;
	struct zev *zev;
	struct link *links;		/* borrowed */
};

/* Only the list is shared between threads (a process with several contexts); a handler belongs to one loop. */
static struct zap *zaps;
static pthread_mutex_t zaps_lock = PTHREAD_MUTEX_INITIALIZER;

static int key_cmp (const void *a, const void *b)
{
	return memcmp (a, b, LINK_KEY_BYTES);
}

bool link_zap_allows (const struct link *k, const uint8_t key[LINK_KEY_BYTES])
{
	return k->nkeys && bsearch (key, k->keys, k->nkeys, LINK_KEY_BYTES, key_cmp);
}

bool link_zap_allows_text (const struct link *k, const char *z85)
{
	uint8_t key[LINK_KEY_BYTES];
	return strlen (z85) == LINK_KEY_TEXT - 1 && zmq_z85_decode (key, z85) && link_zap_allows (k, key);
}

static bool frame_is (zmq_msg_t *m, const char *s)
{
	return zmq_msg_size (m) == strlen (s) && memcmp (zmq_msg_data (m), s, strlen (s)) == 0;
}

static const struct link *link_of_domain (const struct zap *z, zmq_msg_t *domain)
{
	for (const struct link *k = z->links; k; k = k->zap_next)
		if (frame_is (domain, k->domain))
			return k;
	return NULL;
}

/* 200 with the key as user id, or 400; a 400 makes the server tell the client, which sees HANDSHAKE_FAILED_AUTH. */
static const char *judge (const struct zap *z, zmq_msg_t f[ZAP_FRAMES], size_t n, char user[LINK_KEY_TEXT], const char **text)
{
	const struct link *k;
	user[0] = '\0';
	if (n != ZAP_COUNT || !frame_is (&f[ZAP_VERSION], "1.0") || !frame_is (&f[ZAP_MECHANISM], "CURVE")
	    || zmq_msg_size (&f[ZAP_CREDENTIALS]) != LINK_KEY_BYTES || !(k = link_of_domain (z, &f[ZAP_DOMAIN]))) {
		*text = "not a CURVE request of ours";
		return "400";
	}
	zmq_z85_encode (user, zmq_msg_data (&f[ZAP_CREDENTIALS]), LINK_KEY_BYTES);
	if (!link_zap_allows (k, zmq_msg_data (&f[ZAP_CREDENTIALS]))) {
		char peer[ZAP_TEXT];
		snprintf (peer, sizeof (peer), "%.*s", (int) zmq_msg_size (&f[ZAP_PEER]), (char *) zmq_msg_data (&f[ZAP_PEER]));
		log_warn ("link", "key refused", "link=%s peer=%s key=%s", k->name, peer, user);
		user[0] = '\0';
		*text = "key not allowed";
		return "400";
	}
	*text = "OK";
	return "200";
}

static void reply (struct zap *z, zmq_msg_t *request, const char *status, const char *text, const char *user)
{
	zmq_send (z->sock, "1.0", 3, ZMQ_SNDMORE | ZMQ_DONTWAIT);
	zmq_msg_send (request, z->sock, ZMQ_SNDMORE | ZMQ_DONTWAIT);
	zmq_send (z->sock, status, 3, ZMQ_SNDMORE | ZMQ_DONTWAIT);
	zmq_send (z->sock, text, strlen (text), ZMQ_SNDMORE | ZMQ_DONTWAIT);
	zmq_send (z->sock, user, strlen (user), ZMQ_SNDMORE | ZMQ_DONTWAIT);
	zmq_send (z->sock, "", 0, ZMQ_DONTWAIT);
}

static void on_request (struct zev *ev, int events, void *arg)
{
	struct zap *z = arg;
	zmq_msg_t f[ZAP_FRAMES], extra;
	size_t n = 0;
	char user[LINK_KEY_TEXT];
	const char *status, *text;
	bool more;
	(void) ev;
	if (events & ZMQ_POLLERR) {
		log_error ("link", "ZAP handler lost its socket", NULL);
		return;
	}
	for (int i = 0; i < ZAP_FRAMES; i++)
		zmq_msg_init (&f[i]);
	zmq_msg_init (&extra);
	do {
		zmq_msg_t *m = n < ZAP_FRAMES ? &f[n] : &extra;
		if (zmq_msg_recv (m, z->sock, ZMQ_DONTWAIT) < 0)
			break;
		n++;
		more = zmq_msg_more (m);
	} while (more);
	if (n > 0) {
		status = judge (z, f, n, user, &text);
		reply (z, &f[ZAP_REQUEST], status, text, user);
	}
	for (int i = 0; i < ZAP_FRAMES; i++)
		zmq_msg_close (&f[i]);
	zmq_msg_close (&extra);
}

static void zap_free (struct zap *z)
{
	zev_destroy (&z->zev);
	if (z->sock) {
		zmq_unbind (z->sock, ZAP_ADDRESS);	/* at once: close alone frees the name some time later */
		zmq_close (z->sock);
	}
	free (z);
}

static struct zap *zap_open (struct loop *l, void *zctx, struct err *err)
{
	struct zap *z = xcalloc (1, sizeof (*z));
	int zero = 0;
	z->zctx = zctx;
	if (!(z->sock = zmq_socket (zctx, ZMQ_REP))
	    || zmq_setsockopt (z->sock, ZMQ_LINGER, &zero, sizeof (zero)) < 0
	    || zmq_setsockopt (z->sock, ZMQ_SNDHWM, &zero, sizeof (zero)) < 0	/* an answer is never dropped */
	    || zmq_bind (z->sock, ZAP_ADDRESS) < 0) {
		err_set (err, ERR_INTERNAL, FAULT_SELF, "binding the ZAP handler: %s", zmq_strerror (zmq_errno ()));
		goto fail;
	}
	if (!(z->zev = zev_create (l, z->sock, ZMQ_POLLIN, on_request, z, err)))
		goto fail;
	return z;
fail:
	zap_free (z);
	return NULL;
}

int link_zap_join (struct link *k, struct err *err)
{
	static unsigned serial;
	struct zap *z;
	pthread_mutex_lock (&zaps_lock);
	for (z = zaps; z && z->zctx != k->zctx; z = z->next)
		;
	if (!z && (z = zap_open (k->loop, k->zctx, err))) {
		z->next = zaps;
		zaps = z;
	}
	if (z)
		snprintf (k->domain, sizeof (k->domain), "weft-link-%u", ++serial);
	pthread_mutex_unlock (&zaps_lock);
	if (!z)
		return -1;
	k->zap = z;
	k->zap_next = z->links;
	z->links = k;
	return 0;
}

void link_zap_leave (struct link *k)
{
	struct zap *z = k->zap;
	struct link **at;
	if (!z)
		return;
	for (at = &z->links; *at != k; at = &(*at)->zap_next)
		;
	*at = k->zap_next;
	k->zap = NULL;
	if (z->links)
		return;
	pthread_mutex_lock (&zaps_lock);
	struct zap **zat;
	for (zat = &zaps; *zat != z; zat = &(*zat)->next)
		;
	*zat = z->next;
	zap_free (z);
	pthread_mutex_unlock (&zaps_lock);
}

int link_allow_keys (struct link *k, const char *const *z85, size_t n, struct err *err)
{
	uint8_t (*keys)[LINK_KEY_BYTES] = NULL;
	struct link_peer *p;
	if (n && !(keys = calloc (n, LINK_KEY_BYTES)))
		return err_set (err, ERR_LIMIT, FAULT_SELF, "no memory for %zu keys", n);
	for (size_t i = 0; i < n; i++)
		if (strlen (z85[i]) != LINK_KEY_TEXT - 1 || !zmq_z85_decode (keys[i], z85[i])) {
			free (keys);
			return err_set (err, ERR_INVALID, FAULT_USER, "key %zu is not a CURVE public key in Z85 (40 characters)", i + 1);
		}
	if (n)
		qsort (keys, n, LINK_KEY_BYTES, key_cmp);
	free (k->keys);
	k->keys = keys;
	k->nkeys = n;
	/* The connection of a removed key stays, but has no session and gets none: HELLO looks here too. */
	if (k->curve)
		TAILQ_FOREACH (p, &k->all, all_entry)
			if (p->state == PEER_UP && !link_zap_allows_text (k, p->key))
				link_session_doom (p, WIRE_BYE, ERR_FORBIDDEN, "key is no longer allowed");
	return 0;
}
