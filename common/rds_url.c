/* SPDX-License-Identifier: Apache-2.0 */
/* "redis://[user:password@]host:port[/db]" and "unix:///path[?db=N]". */
#include "common/rds_internal.h"
#include "common/xmem.h"

#include <stdlib.h>
#include <string.h>

enum { RDS_URL_MAX = 2048, RDS_DB_MAX = 65535 };

void rds_url_fini (struct rds_url *u)
{
	free (u->host);
	free (u->path);
	free (u->address);
	free (u->user);
	free (u->password);
	memset (u, 0, sizeof (*u));
}

static char *part (const char *s, size_t n)
{
	char *p = xcalloc (1, n + 1);

	memcpy (p, s, n);
	return p;
}

static int hex (char c)
{
	const char *digits = "0123456789abcdef", *p;

	if (c >= 'A' && c <= 'F')
		c = (char) (c - 'A' + 'a');
	return c && (p = strchr (digits, c)) ? (int) (p - digits) : -1;
}

/* %XX in place; NULL when malformed or when a NUL results. */
static char *unescape (char *s)
{
	char *w = s;

	for (char *r = s; *r; r++) {
		if (*r != '%') {
			*w++ = *r;
			continue;
		}
		int hi = hex (r[1]), lo = hi < 0 ? -1 : hex (r[2]);
		if (lo < 0 || (hi == 0 && lo == 0))
			return NULL;
		*w++ = (char) (hi << 4 | lo);
		r += 2;
	}
	*w = '\0';
	return s;
}

static int number (const char *s, const char *end, int max, int *out)
{
	int n = 0;

	if (s == end)
		return -1;
	for (; s < end; s++) {
		if (*s < '0' || *s > '9' || (n = n * 10 + (*s - '0')) > max)
			return -1;
	}
	*out = n;
	return 0;
}

static int parse_unix (struct rds_url *u, const char *s, struct err *err)
{
	const char *q = strchr (s, '?'), *end = q ? q : s + strlen (s);

	u->path = part (s, (size_t) (end - s));
	if (s[0] != '/' || !unescape (u->path))
		return err_set (err, ERR_INVALID, FAULT_SITE, "unix redis URL needs an absolute path");
	if (strlen (u->path) > 107)
		return err_set (err, ERR_INVALID, FAULT_SITE, "path of the redis socket is longer than 107 bytes");
	if (q && (strncmp (q, "?db=", 4) != 0 || number (q + 4, q + strlen (q), RDS_DB_MAX, &u->db) < 0))
		return err_set (err, ERR_INVALID, FAULT_SITE, "unix redis URL: expected ?db=N after the path");
	u->address = xstrdup (u->path);
	return 0;
}

static int parse_user (struct rds_url *u, const char *s, const char *at, struct err *err)
{
	const char *colon = memchr (s, ':', (size_t) (at - s));

	if (!colon)
		return err_set (err, ERR_INVALID, FAULT_SITE, "redis URL: expected user:password before the @");
	if (colon > s)
		u->user = part (s, (size_t) (colon - s));
	u->password = part (colon + 1, (size_t) (at - colon - 1));
	if ((u->user && !unescape (u->user)) || !unescape (u->password))
		return err_set (err, ERR_INVALID, FAULT_SITE, "redis URL: bad %% escape in user or password");
	return 0;
}

static int parse_tcp (struct rds_url *u, const char *s, struct err *err)
{
	const char *slash = strchr (s, '/'), *end = slash ? slash : s + strlen (s), *at, *host, *host_end;

	if ((at = memrchr (s, '@', (size_t) (end - s)))) {
		if (parse_user (u, s, at, err) < 0)
			return -1;
		s = at + 1;
	}
	host = s;
	if (*s == '[') {
		host++;
		if (!(host_end = memchr (host, ']', (size_t) (end - host))))
			return err_set (err, ERR_INVALID, FAULT_SITE, "redis URL: [ without ]");
		s = host_end + 1;
	} else {
		if (!(host_end = memchr (s, ':', (size_t) (end - s))))
			host_end = end;
		s = host_end;
	}
	u->host = part (host, (size_t) (host_end - host));
	u->port = 6379;
	if (!u->host[0])
		return err_set (err, ERR_INVALID, FAULT_SITE, "redis URL without a host");
	if (s < end && (*s != ':' || number (s + 1, end, 65535, &u->port) < 0 || u->port == 0))
		return err_set (err, ERR_INVALID, FAULT_SITE, "redis URL: expected a port of 1 to 65535");
	if (slash && slash[1] && number (slash + 1, slash + strlen (slash), RDS_DB_MAX, &u->db) < 0)
		return err_set (err, ERR_INVALID, FAULT_SITE, "redis URL: expected a database number after the /");
	u->address = xasprintf (strchr (u->host, ':') ? "[%s]:%d" : "%s:%d", u->host, u->port);
	return 0;
}

int rds_url_parse (struct rds_url *u, const char *url, struct err *err)
{
	int rc;

	memset (u, 0, sizeof (*u));
	if (!url || strnlen (url, RDS_URL_MAX) == RDS_URL_MAX)
		return err_set (err, ERR_INVALID, FAULT_SITE, "redis URL is missing or too long");
	if (strncmp (url, "unix://", 7) == 0)
		rc = parse_unix (u, url + 7, err);
	else if (strncmp (url, "redis://", 8) == 0)
		rc = parse_tcp (u, url + 8, err);
	else
		rc = err_set (err, ERR_INVALID, FAULT_SITE, "redis URL must begin with redis:// or unix://");
	if (rc < 0)
		rds_url_fini (u); /* the text never shows the URL: it may hold a password */
	return rc;
}
