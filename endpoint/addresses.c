/* SPDX-License-Identifier: Apache-2.0 */
/* See addresses.h. */
#include "endpoint/addresses.h"
#include "common/xmem.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum { OFFERED_MAX = 16 };
static const char BLANKS[] = " \t\r\n,";

/* The nodes of the local provider are this host: nobody else needs to get in. */
static const char *set_by_config (const struct config *c)
{
	if (c->manager_address && c->manager_address[strspn (c->manager_address, BLANKS)])
		return c->manager_address;
	return config_provider (c)->local ? "127.0.0.1" : NULL;
}

static bool is_number (const char *s)
{
	struct in_addr a;

	return inet_pton (AF_INET, s, &a) == 1;
}

char *addresses_listen (const struct config *c)
{
	const char *set = set_by_config (c);
	char port[16] = "*";

	if (c->manager_port)
		snprintf (port, sizeof (port), "%d", (int) c->manager_port);
	return xasprintf ("tcp://%s:%s", set && is_number (set) ? set : "*", port);
}

static void add (struct buf *out, const char *address, size_t n, const char *port)
{
	buf_printf (out, "%stcp://%.*s:%s", out->len ? "," : "", (int) n, address, port);
}

static void discover (struct buf *out, const char *port, bool loopback)
{
	struct ifaddrs *list = NULL;
	char text[INET_ADDRSTRLEN];
	int n = 0;

	if (getifaddrs (&list) < 0)
		return;
	for (struct ifaddrs *i = list; i && n < OFFERED_MAX; i = i->ifa_next) {
		if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || !(i->ifa_flags & IFF_UP) || !(i->ifa_flags & IFF_LOOPBACK) == loopback)
			continue;
		inet_ntop (AF_INET, &((struct sockaddr_in *) (void *) i->ifa_addr)->sin_addr, text, sizeof (text));
		add (out, text, strlen (text), port);
		n++;
	}
	freeifaddrs (list);
}

void addresses_offer (const struct config *c, const char *port, struct buf *out)
{
	const char *set = set_by_config (c);

	for (const char *p = set ? set : ""; *(p += strspn (p, BLANKS)); p += strcspn (p, BLANKS))
		add (out, p, strcspn (p, BLANKS), port);
	if (!out->len)
		discover (out, port, false);
	if (!out->len)
		discover (out, port, true);
}

/* Of the host that dials it. */
static bool is_own (const char *url)
{
	static const char *const own[] = { "localhost", "0.0.0.0", "[::1]", "[::]" };
	CURLU *u = curl_url ();
	char *host = NULL;
	bool is = false;

	if (u && !curl_url_set (u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) && !curl_url_get (u, CURLUPART_HOST, &host, 0)) {
		is = strncmp (host, "127.", 4) == 0 && is_number (host);
		for (size_t i = 0; i < sizeof (own) / sizeof (own[0]); i++)
			is = is || strcmp (host, own[i]) == 0;
	}
	curl_free (host);
	curl_url_cleanup (u);
	return is;
}

const char *addresses_unanswered (const char *forwarder, const char *service_url)
{
	return is_own (forwarder) && !is_own (service_url)
		? "that is this computer's own address, which the forwarder advertises unless listen.advertise (and listen.host) are set where it runs"
		: "is weft-forwarder running there, is its port open from here?";
}
