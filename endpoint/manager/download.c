/* SPDX-License-Identifier: Apache-2.0 */
/* See download.h. What comes is written to a part of the cache, counted and hashed on the way; it becomes a file of the cache when
 * all of it is here and is what it must be.
 *
 *     tried again: no connection, a broken or stalled one, HTTP 408, 429 and 5xx; within the time limit of the whole
 *     the caller's fault: other HTTP statuses, another checksum, too large, a URL that is not permitted */
#include "endpoint/manager/download.h"
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/digest.h"
#include "endpoint/manager/beneath.h"

#define URL_SHOWN 120
#define CONNECT_MS 20000L
#define STALL_S 60L		/* so long without a byte: broken */
#define REDIRECTS 5L
#define RESERVE (64u << 20)	/* room for what does not say how much it is */
#define PAUSE_MS 500
#define PAUSE_CAP_MS 5000
#define COPY_BYTES (1u << 20)

struct transfer {
	const struct download_opts *o;
	struct download *d;
	struct filecache_part part;
	struct digest_stream *digest;
	CURL *easy;			/* NULL: a file */
	char url[URL_SHOWN];		/* for people */
	uint64_t got, limit;
	int64_t until_ms;
	bool again;			/* it may work a moment later */
	struct err *err;
};

uint64_t download_limit (const struct download_opts *o, uint64_t max_bytes)
{
	return max_bytes && max_bytes < (uint64_t) o->max_bytes ? max_bytes : (uint64_t) o->max_bytes;
}

int download_too_large (const struct download_opts *o, uint64_t max_bytes, const char *url, uint64_t bytes, struct err *err)
{
	uint64_t limit = download_limit (o, max_bytes);

	const char *whose = max_bytes && max_bytes == limit ? "its max_bytes" : "files.max_bytes of the endpoint";

	if (!bytes)
		return err_set (err, ERR_TASK_FILE, FAULT_USER, "%s: it has more than the %" PRIu64 " bytes that are allowed (%s)", url, limit, whose);
	return err_set (err, ERR_TASK_FILE, FAULT_USER, "%s: it has %" PRIu64 " bytes, at most %" PRIu64 " are allowed (%s)", url, bytes, limit, whose);
}

static bool is_file (const char *url) { return strncasecmp (url, "file:", 5) == 0; }

/* ---- what comes ---- */

/* As the server says; -1: it does not. */
static curl_off_t length_of (struct transfer *t)
{
	curl_off_t length = -1;

	if (!t->easy || curl_easy_getinfo (t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length) != CURLE_OK)
		return -1;
	return length;
}

/* The length is known, or guessed ahead. */
static int make_room (struct transfer *t, uint64_t need)
{
	curl_off_t length = length_of (t);
	uint64_t want = need + RESERVE < t->limit ? need + RESERVE : t->limit;

	if (need <= t->part.room)
		return 0;
	if (length >= 0)
		want = (uint64_t) length > need ? (uint64_t) length : need;
	if (filecache_part_room (t->o->cache, &t->part, want, t->err) == 0)
		return 0;
	/* the guess may have been too much */
	return want > need && length < 0 ? filecache_part_room (t->o->cache, &t->part, need, t->err) : -1;
}

static int take (struct transfer *t, const char *p, size_t n)
{
	size_t done = 0;

	if (!t->got && length_of (t) > (curl_off_t) t->limit)
		return download_too_large (t->o, t->d->max_bytes, t->url, (uint64_t) length_of (t), t->err);
	if (t->got + n > t->limit)
		return download_too_large (t->o, t->d->max_bytes, t->url, 0, t->err);
	if (make_room (t, t->got + n) < 0)
		return -1;
	while (done < n) {
		ssize_t w = pwrite (t->part.fd, p + done, n - done, (off_t) (t->got + done));
		if (w < 0 && errno != EINTR)
			return err_errno (t->err, "writing what comes from %s", t->url);
		done += w > 0 ? (size_t) w : 0;
	}
	if (digest_stream_add (t->digest, p, n) < 0)
		return err_set (t->err, ERR_INTERNAL, FAULT_SITE, "no memory for a checksum");
	t->got += n;
	return 0;
}

static size_t on_data (char *p, size_t one, size_t n, void *arg)
{
	struct transfer *t = arg;

	return take (t, p, one * n) == 0 ? one * n : 0;
}

static int on_progress (void *arg, curl_off_t all, curl_off_t now, curl_off_t up, curl_off_t done)
{
	struct transfer *t = arg;

	(void) all;
	(void) now;
	(void) up;
	(void) done;
	return t->d->pause (0, t->d->arg);
}

/* ---- web servers ---- */

static int http_failed (struct transfer *t, CURLcode rc, const char *why)
{
	long status = 0;

	curl_easy_getinfo (t->easy, CURLINFO_RESPONSE_CODE, &status);
	if (t->err->code)	/* ours, from take */
		return -1;
	if (rc == CURLE_HTTP_RETURNED_ERROR) {
		t->again = status >= 500 || status == 408 || status == 429;
		return err_set (t->err, ERR_TASK_FILE, t->again ? FAULT_SITE : FAULT_USER, "%s: the server answers %ld%s", t->url, status,
				status == 404 ? " (not found)" : status == 401 || status == 403 ? " (not allowed)" : "");
	}
	if (rc == CURLE_ABORTED_BY_CALLBACK)
		return err_set (t->err, ERR_CANCELLED, FAULT_USER, "nobody wants it any more");
	if (rc == CURLE_OPERATION_TIMEDOUT && clock_now_ms () + PAUSE_MS >= t->until_ms)
		return err_set (t->err, ERR_TASK_FILE, FAULT_SITE, "%s: not complete after %" PRId64 " s (files.timeout); %" PRIu64 " bytes came", t->url,
				t->o->timeout_ms / 1000, t->got);
	t->again = rc != CURLE_PEER_FAILED_VERIFICATION && rc != CURLE_UNSUPPORTED_PROTOCOL && rc != CURLE_TOO_MANY_REDIRECTS
		   && rc != CURLE_URL_MALFORMAT && rc != CURLE_SSL_CACERT_BADFILE;
	return err_set (t->err, ERR_TASK_FILE, FAULT_SITE, "%s: %s; %" PRIu64 " bytes came", t->url, *why ? why : curl_easy_strerror (rc), t->got);
}

static int get (struct transfer *t)
{
	const char *schemes = t->o->http ? "http,https" : "https";
	char why[CURL_ERROR_SIZE] = "";
	int64_t left = t->until_ms - clock_now_ms ();
	CURLcode rc;

	curl_easy_reset (t->easy);	/* its connections stay */
	curl_easy_setopt (t->easy, CURLOPT_URL, t->d->url);
	curl_easy_setopt (t->easy, CURLOPT_PROTOCOLS_STR, schemes);
	curl_easy_setopt (t->easy, CURLOPT_REDIR_PROTOCOLS_STR, schemes);
	curl_easy_setopt (t->easy, CURLOPT_FOLLOWLOCATION, 1L);
	curl_easy_setopt (t->easy, CURLOPT_MAXREDIRS, REDIRECTS);
	curl_easy_setopt (t->easy, CURLOPT_FAILONERROR, 1L);
	curl_easy_setopt (t->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt (t->easy, CURLOPT_QUICK_EXIT, 1L);	/* of a name server that does not answer */
	curl_easy_setopt (t->easy, CURLOPT_ERRORBUFFER, why);
	curl_easy_setopt (t->easy, CURLOPT_USERAGENT, "weft/" WEFT_VERSION);
	curl_easy_setopt (t->easy, CURLOPT_TIMEOUT_MS, (long) (left > 1 ? left : 1));
	curl_easy_setopt (t->easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt (t->easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt (t->easy, CURLOPT_LOW_SPEED_TIME, STALL_S);
	curl_easy_setopt (t->easy, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt (t->easy, CURLOPT_WRITEDATA, t);
	curl_easy_setopt (t->easy, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt (t->easy, CURLOPT_XFERINFODATA, t);
	curl_easy_setopt (t->easy, CURLOPT_NOPROGRESS, 0L);
	if (t->o->ca_file)
		curl_easy_setopt (t->easy, CURLOPT_CAINFO, t->o->ca_file);
	rc = curl_easy_perform (t->easy);
	return rc == CURLE_OK ? 0 : http_failed (t, rc, why);
}

/* ---- directories of the node ---- */

/* The path of a file: URL, decoded; owned by the caller (curl_free). */
static char *path_of (const char *url, const char *shown, struct err *err)
{
	int n = 0;
	char *path = curl_easy_unescape (NULL, url + strlen ("file://"), 0, &n);

	if (path && strlen (path) == (size_t) n)
		return path;
	curl_free (path);
	err_set (err, ERR_TASK_FILE, FAULT_USER, "%s: it has no usable path", shown);
	return NULL;
}

static const char *below (const char *dir, const char *path)
{
	size_t n = strlen (dir);

	while (n && dir[n - 1] == '/')
		n--;
	return strncmp (dir, path, n) == 0 && path[n] == '/' ? path + n + 1 : NULL;
}

static bool plain_path (const char *p)
{
	for (; *p; p += strcspn (p, "/")) {
		p += *p == '/';
		size_t n = strcspn (p, "/");
		if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return false;
	}
	return true;
}

/* The directory that permits it, with the rest of the path. */
static const char *permitted (const struct download_opts *o, const char *path, const char **rest)
{
	for (const char *const *d = o->from; d && *d; d++)
		if (plain_path (path) && (*rest = below (*d, path)))
			return *d;
	return NULL;
}

int download_allowed (const struct download_opts *o, struct wire_str url, struct err *err)
{
	char shown[URL_SHOWN], text[FILES_URL_MAX + 1], *path;
	const char *rest;
	int rc = 0;

	msg_files_url_text (url, shown, sizeof (shown));
	snprintf (text, sizeof (text), "%.*s", (int) url.n, url.p);
	if (strncasecmp (text, "http:", 5) == 0 && !o->http)
		return err_set (err, ERR_TASK_FILE, FAULT_USER, "%s: this endpoint takes https:// only (files.http)", shown);
	if (!is_file (text))
		return 0;
	if (!(path = path_of (text, shown, err)))
		return -1;
	if (!permitted (o, path, &rest))
		rc = err_set (err, ERR_TASK_FILE, FAULT_USER, "%s: it is not below a directory that the endpoint permits (files.directories)", shown);
	curl_free (path);
	return rc;
}

/* Step by step, so that no symbolic link leads out. */
static int open_below (const char *dir, const char *rest, struct err *err, const char *shown)
{
	int at = beneath_open (dir, rest, 0);

	if (at >= 0)
		return at;
	if (errno == ELOOP)
		return err_set (err, ERR_TASK_FILE, FAULT_USER, "%s: a symbolic link stands in its path, and none is followed", shown);
	err_errno (err, "%s", shown);
	err->code = ERR_TASK_FILE;
	err->fault = FAULT_USER;
	return -1;
}

static int copy (struct transfer *t, int fd)
{
	char *mem = malloc (COPY_BYTES);
	ssize_t n = 0;
	int rc = 0;

	if (!mem)
		return err_set (t->err, ERR_INTERNAL, FAULT_SITE, "no memory to copy a file");
	while (rc == 0 && ((n = read (fd, mem, COPY_BYTES)) > 0 || (n < 0 && errno == EINTR))) {
		if (t->d->pause (0, t->d->arg))
			rc = err_set (t->err, ERR_CANCELLED, FAULT_USER, "nobody wants it any more");
		else if (clock_now_ms () > t->until_ms)
			rc = err_set (t->err, ERR_TASK_FILE, FAULT_SITE, "%s: not complete after %" PRId64 " s (files.timeout)", t->url,
				      t->o->timeout_ms / 1000);
		else if (n > 0)
			rc = take (t, mem, (size_t) n);
	}
	if (rc == 0 && n < 0)
		rc = err_errno (t->err, "reading %s", t->url);
	free (mem);
	return rc;
}

static int copy_file (struct transfer *t)
{
	char *path = path_of (t->d->url, t->url, t->err);
	const char *rest, *dir = path ? permitted (t->o, path, &rest) : NULL;
	struct stat st;
	int fd, rc = -1;

	if (!dir) {
		if (path)
			err_set (t->err, ERR_TASK_FILE, FAULT_USER, "%s: it is not permitted", t->url);
	} else if ((fd = open_below (dir, rest, t->err, t->url)) >= 0) {
		if (fstat (fd, &st) < 0 || !S_ISREG (st.st_mode))
			err_set (t->err, ERR_TASK_FILE, FAULT_USER, "%s: it is no regular file", t->url);
		else if ((uint64_t) st.st_size > t->limit)
			download_too_large (t->o, t->d->max_bytes, t->url, (uint64_t) st.st_size, t->err);
		else
			rc = copy (t, fd);
		close (fd);
	}
	curl_free (path);
	return rc;
}

/* ---- one try, all tries ---- */

static int judge (struct transfer *t)
{
	char is[FILES_DIGEST_TEXT], should[FILES_DIGEST_TEXT];
	uint8_t digest[FILES_DIGEST];
	int fd;

	if (digest_stream_end (t->digest, digest) < 0)
		return err_set (t->err, ERR_INTERNAL, FAULT_SITE, "no memory for a checksum");
	if (t->d->has_digest && memcmp (digest, t->d->digest, sizeof (digest)))
		return err_set (t->err, ERR_TASK_FILE, FAULT_USER, "%s: its SHA-256 is %s, expected %s; %" PRIu64 " bytes came", t->url,
				msg_files_digest_text (digest, is), msg_files_digest_text (t->d->digest, should), t->got);
	memcpy (t->d->digest, digest, sizeof (digest));
	fd = filecache_part_keep (t->o->cache, &t->part, t->got, digest, t->err);
	t->again = fd < 0 && t->err->code == ERR_NOT_FOUND;	/* others removed it at once */
	t->d->bytes = t->got;
	t->d->fetched = true;
	return fd;
}

static int try_once (struct transfer *t)
{
	int fd = -1;

	t->got = 0;
	t->again = false;
	memset (t->err, 0, sizeof (*t->err));
	if (digest_stream_reset (t->digest) < 0 || filecache_part_open (t->o->cache, &t->part, t->err) < 0)
		return -1;
	if ((t->easy ? get (t) : copy_file (t)) == 0)
		fd = judge (t);
	filecache_part_drop (t->o->cache, &t->part);
	return fd;
}

static int bring (struct transfer *t)
{
	int fd, tries = 1;

	while ((fd = try_once (t)) < 0 && t->again && tries < DOWNLOAD_TRIES) {
		int64_t pause = clock_backoff_ms (tries - 1, PAUSE_MS, PAUSE_CAP_MS);
		if (clock_now_ms () + pause >= t->until_ms)
			break;
		if (t->d->pause (pause, t->d->arg))
			return err_set (t->err, ERR_CANCELLED, FAULT_USER, "nobody wants it any more");
		tries++;
	}
	if (fd < 0 && tries > 1) {
		size_t n = strlen (t->err->text);
		snprintf (t->err->text + n, sizeof (t->err->text) - n, " (tried %d times)", tries);
	}
	if (fd < 0 && t->err->code != ERR_CANCELLED)
		t->err->code = ERR_TASK_FILE;
	return fd;
}

int download_run (const struct download_opts *o, struct download *d, struct err *err)
{
	struct transfer t = { .o = o, .d = d, .part = { .fd = -1 }, .limit = download_limit (o, d->max_bytes),
			      .until_ms = clock_now_ms () + o->timeout_ms, .err = err };
	int fd = d->has_digest ? filecache_open (o->cache, d->digest, &d->bytes, err) : -1;

	msg_files_url_text (wire_str (d->url, strlen (d->url)), t.url, sizeof (t.url));
	if (fd >= 0 && d->bytes > t.limit) {
		close (fd);
		return download_too_large (o, d->max_bytes, t.url, d->bytes, err);
	}
	if (fd >= 0)
		return fd;
	t.digest = digest_stream_create ();
	if (!is_file (d->url))
		t.easy = curl_easy_init ();
	if (!t.digest || (!is_file (d->url) && !t.easy))
		err_set (err, ERR_TASK_FILE, FAULT_SITE, "no memory to bring %s", t.url);
	else
		fd = bring (&t);
	curl_easy_cleanup (t.easy);
	digest_stream_destroy (&t.digest);
	return fd;
}
