/* SPDX-License-Identifier: Apache-2.0 */
/* See identity.h. */
#include "endpoint/manager/containers/identity.h"
#include <ctype.h>
#include <errno.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "common/buf.h"
#include "common/digest.h"
#include "common/hex.h"

enum { LIST_MAX = 256 << 20, SHA256_HEX = 64 };

static int by_name (const FTSENT **a, const FTSENT **b)
{
	return strcmp ((*a)->fts_name, (*b)->fts_name);
}

/* What a change of content, of rights or an exchange of the file itself alters. */
static void add_stat (struct buf *b, const struct stat *st)
{
	buf_printf (b, "%llx-%llx-%llx.%lx-%llx.%lx", (unsigned long long) st->st_ino, (unsigned long long) st->st_size,
		    (unsigned long long) st->st_mtim.tv_sec, (unsigned long) st->st_mtim.tv_nsec, (unsigned long long) st->st_ctim.tv_sec,
		    (unsigned long) st->st_ctim.tv_nsec);
}

static int list_tree (const char *path, struct buf *b, struct err *err)
{
	char *roots[] = { strdup (path), NULL };
	FTS *f = roots[0] ? fts_open (roots, FTS_PHYSICAL | FTS_XDEV | FTS_NOCHDIR, by_name) : NULL;
	size_t root = strlen (path);
	int rc = f ? 0 : err_errno (err, "reading the directory %s", path);

	for (FTSENT *e; rc == 0 && (e = fts_read (f));) {
		if (e->fts_info == FTS_DP)
			continue;
		/* what we may not read (FTS_DNR, FTS_NS) a container of ours cannot read either */
		if (e->fts_info == FTS_ERR) {
			errno = e->fts_errno;
			rc = err_errno (err, "reading %s", e->fts_path);
			break;
		}
		buf_str (b, e->fts_path + (e->fts_pathlen > root ? root : e->fts_pathlen));
		buf_char (b, '\0');
		if (e->fts_info != FTS_NS)
			add_stat (b, e->fts_statp);
		buf_char (b, '\n');
		if (b->len > LIST_MAX || buf_failed (b))
			rc = err_set (err, ERR_LIMIT, FAULT_SITE, "the directory %s holds too much to tell whether it changed", path);
	}
	if (f)
		fts_close (f);
	free (roots[0]);
	return rc;
}

static int of_tree (const char *path, char out[IDENTITY_MAX], struct err *err)
{
	uint8_t sum[DIGEST_SHA256_BYTES];
	struct digest_part all;
	struct buf b;
	int rc;

	buf_init (&b, 0);
	rc = list_tree (path, &b, err);
	all = (struct digest_part) { b.data, b.len };
	if (rc == 0 && digest_sha256 (&all, 1, sum) < 0)
		rc = err_set (err, ERR_UNAVAILABLE, FAULT_SITE, "no memory for a digest of %s", path);
	strcpy (out, "tree:");
	if (rc == 0)
		hex_text (out + strlen (out), sum, sizeof (sum));
	buf_fini (&b);
	return rc;
}

int identity_of_path (const char *path, char out[IDENTITY_MAX], struct err *err)
{
	struct stat st;
	struct buf b;

	if (stat (path, &st) < 0)
		return err_errno (err, "looking at the image %s", path);
	if (S_ISDIR (st.st_mode))
		return of_tree (path, out, err);
	buf_init (&b, 0);
	add_stat (&b, &st);
	snprintf (out, IDENTITY_MAX, "file:%.*s", (int) b.len, (char *) b.data);
	buf_fini (&b);
	return 0;
}

bool identity_command (const struct runtime *rt, const char *image, const char *program, struct args *a)
{
	if (rt->exists) {
		rt->exists (a, image);
		return true;
	}
	if (strstr (image, "://"))
		return false;	/* it is fetched anew at each start */
	args_add (a, program);
	args_add (a, "--identify");
	args_add (a, image);
	return true;
}

void identity_read (const char *text, size_t n, char out[IDENTITY_MAX])
{
	size_t k = 0, hex = 0;

	while (k < n && (unsigned char) text[k] > ' ' && (unsigned char) text[k] < 0x7f)
		k++;
	while (hex < k && isxdigit ((unsigned char) text[hex]))
		hex++;
	/* podman prints the bare digits of what docker prints with its algorithm */
	snprintf (out, IDENTITY_MAX, "%s%.*s", hex == SHA256_HEX && k == hex ? "sha256:" : "", (int) (k < IDENTITY_MAX - 8 ? k : 0), text);
}

struct id identity_id (const char *digest)
{
	const struct digest_part all = { digest, strlen (digest) };
	uint8_t sum[DIGEST_SHA256_BYTES];
	struct id id = { { 0 } };

	if (*digest && digest_sha256 (&all, 1, sum) == 0)
		memcpy (id.b, sum, ID_BYTES);
	return id;
}
