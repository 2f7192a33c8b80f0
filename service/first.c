/* SPDX-License-Identifier: Apache-2.0 */
#include "service/first.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/log.h"
#include "common/xmem.h"
#include "service/auth.h"
#include "service/registry/registry.h"

#define MOD "first"

/* Whole or not at all: a new file, then renamed over the old one. */
static int write_secret (const char *path, const char *text, struct err *err)
{
	char *tmp = xasprintf ("%s.new", path);
	int fd, rc = -1;

	unlink (tmp);
	fd = open (tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		err_errno (err, "writing %s", tmp);
	else if (dprintf (fd, "%s\n", text) < 0 || fsync (fd) < 0)
		err_errno (err, "writing %s", tmp);
	else if (rename (tmp, path) < 0)
		err_errno (err, "writing %s", path);
	else
		rc = 0;
	if (fd >= 0)
		close (fd);
	free (tmp);
	return rc;
}

int first_start (const struct config *c, struct err *err)
{
	struct registry *r = NULL;
	struct reg_user *users = NULL, u;
	struct id id;
	uint8_t hash[REG_HASH_BYTES];
	char *token = NULL;
	size_t n;
	int rc = -1;

	if (registry_open (&r, c->registry_path, c->registry_busy_ms, err) < 0 || registry_users (r, &users, &n, err) < 0)
		goto out;
	if (n) {
		rc = 0;
		goto out;
	}
	/* The file first: a user without a token that anyone knows would be of no use. */
	token = auth_new_token (hash);
	id_new (&id);
	if (write_secret (c->token_file, token, err) < 0 || registry_user_add (r, c->user, &u, err) < 0 ||
	    registry_token_add (r, &u.id, hash, SCOPE_ALL, "first start", 0, &id, err) < 0)
		goto out;
	log_info (MOD, "user made", "user=%s token_file=%s", u.name, c->token_file);
	rc = 0;
out:
	if (token)
		explicit_bzero (token, strlen (token));
	free (token);
	free (users);
	registry_close (&r);
	return rc;
}
