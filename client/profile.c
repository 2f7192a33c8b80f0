/* SPDX-License-Identifier: Apache-2.0 */
#include "client/profile.h"
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "client/files.h"
#include "common/buf.h"
#include "common/conf.h"
#include "common/xmem.h"

#define FILE_MAX 16384

static const struct { const char *key; size_t offset; } fields[] = {
	{ "WEFT_URL", offsetof (struct profile, url) },
	{ "WEFT_TOKEN", offsetof (struct profile, token) },
	{ "WEFT_CA_FILE", offsetof (struct profile, ca_file) },
	{ "WEFT_ENDPOINT", offsetof (struct profile, endpoint) },
	{ "WEFT_CLIENT_ID", offsetof (struct profile, client_id) },
	{ "WEFT_CLIENT_SECRET", offsetof (struct profile, client_secret) },
};
#define NFIELDS (sizeof (fields) / sizeof (fields[0]))

static char **field (const struct profile *p, size_t i)
{
	return (char **)((uintptr_t)p + fields[i].offset);
}

void profile_set (char **at, const char *with)
{
	if (*at)
		explicit_bzero (*at, strlen (*at));
	free (*at);
	*at = xstrdup (with);
}

void profile_fini (struct profile *p)
{
	for (size_t i = 0; i < NFIELDS; i++)
		profile_set (field (p, i), NULL);
	p->expires_s = 0;
}

char *profile_home (void)
{
	const char *home = getenv ("HOME"), *weft = getenv ("WEFT_HOME");
	return weft && *weft ? xstrdup (weft) : xasprintf ("%s/.weft", home && *home ? home : "/tmp");
}

int profile_check_name (const char *name, struct err *err)
{
	size_t n = strlen (name);
	if (n && n <= PROFILE_NAME_MAX && name[0] != '.' &&
	    strspn (name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n)
		return 0;
	return err_set (err, ERR_INVALID, FAULT_USER, "'%.80s' cannot be the name of a profile: 1 to %d letters, digits and . _ - are expected",
			name, PROFILE_NAME_MAX);
}

int profile_read_file (struct profile *out, const char *path, struct err *err)
{
	char *text, *line, *save = NULL;
	*out = (struct profile){ 0 };
	if (access (path, F_OK) < 0 && errno == ENOENT)
		return err_set (err, ERR_NOT_FOUND, FAULT_USER, "there is no file %s", path);
	if (!(text = conf_read_secret (path, FILE_MAX, err)))
		return -1;
	for (line = strtok_r (text, "\n", &save); line; line = strtok_r (NULL, "\n", &save)) {
		char *eq = strchr (line, '=');
		if (!eq)
			continue;
		*eq = '\0';
		for (size_t i = 0; i < NFIELDS; i++)
			if (!strcmp (line, fields[i].key) && eq[1])
				profile_set (field (out, i), eq + 1);
		if (!strcmp (line, "WEFT_TOKEN_EXPIRES"))
			out->expires_s = strtoll (eq + 1, NULL, 10);
	}
	explicit_bzero (text, FILE_MAX);
	free (text);
	return 0;
}

static char *in_home (const char *what, const char *name)
{
	char *home = profile_home (), *path = xasprintf ("%s/%s%s%s", home, what, name ? "/" : "", name ? name : "");
	free (home);
	return path;
}

int profile_read (struct profile *out, const char *name, struct err *err)
{
	char *path;
	struct err cause = { 0 };
	int rc;
	*out = (struct profile){ 0 };
	if (profile_check_name (name, err) < 0)
		return -1;
	path = in_home ("profiles", name);
	rc = profile_read_file (out, path, &cause);
	free (path);
	if (rc < 0 && cause.code == ERR_NOT_FOUND)
		return err_set (err, ERR_NOT_FOUND, FAULT_USER, "there is no profile '%s': make it with `weft login --profile %s URL`; `weft profile list` "
				"shows those that are there", name, name);
	if (rc < 0 && err)
		*err = cause;
	return rc;
}

int profile_write (const struct profile *p, const char *name, struct err *err)
{
	char *dir = in_home ("profiles", NULL);
	struct buf b;
	int rc = -1;
	buf_init (&b, 0);
	for (size_t i = 0; i < NFIELDS; i++)
		if (*field (p, i))
			buf_printf (&b, "%s=%s\n", fields[i].key, *field (p, i));
	if (p->expires_s)
		buf_printf (&b, "WEFT_TOKEN_EXPIRES=%" PRId64 "\n", p->expires_s);
	buf_char (&b, '\0');
	if (profile_check_name (name, err) == 0 && files_make_dirs (dir, err) == 0)
		rc = files_write (dir, name, (const char *)b.data, err);
	explicit_bzero (b.data, b.len);
	buf_fini (&b);
	free (dir);
	return rc;
}

char *profile_current (void)
{
	char *path = in_home ("profile", NULL), text[PROFILE_NAME_MAX + 2] = "";
	FILE *f = fopen (path, "re");
	free (path);
	if (!f)
		return NULL;
	if (!fgets (text, sizeof (text), f))
		text[0] = '\0';
	fclose (f);
	text[strcspn (text, "\n")] = '\0';
	return profile_check_name (text, NULL) == 0 ? xstrdup (text) : NULL;
}

int profile_use (const char *name, struct err *err)
{
	char *home = profile_home (), *line = xasprintf ("%s\n", name ? name : "");
	int rc = files_make_dirs (home, err) < 0 ? -1 : files_write (home, "profile", line, err);
	free (home);
	free (line);
	return rc;
}

int profile_remove (const char *name, struct err *err)
{
	char *path = in_home ("profiles", name), *now = profile_current ();
	int rc = profile_check_name (name, err);
	if (rc == 0 && unlink (path) < 0)
		rc = err_errno (err, "removing %s", path);
	if (rc == 0 && now && !strcmp (now, name))
		rc = profile_use (NULL, err);
	free (path);
	free (now);
	return rc;
}

static int is_profile (const struct dirent *d)
{
	size_t n = strlen (d->d_name);
	return profile_check_name (d->d_name, NULL) == 0 && !(n > 4 && !strcmp (d->d_name + n - 4, ".new"));
}

char **profile_list (size_t *n)
{
	char *dir = in_home ("profiles", NULL), **names;
	struct dirent **all = NULL;
	int found = scandir (dir, &all, is_profile, alphasort);
	free (dir);
	*n = found > 0 ? (size_t)found : 0;
	names = xcalloc (*n + 1, sizeof (*names));
	for (size_t i = 0; i < *n; i++) {
		names[i] = xstrdup (all[i]->d_name);
		free (all[i]);
	}
	free (all);
	return names;
}
