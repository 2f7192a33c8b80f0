/* SPDX-License-Identifier: Apache-2.0 */
/* Values with units, and secrets in files. */
#include "common/conf.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct unit { const char *name; int64_t factor; };

static const struct unit time_units[] = {
	{ "ms", 1 }, { "s", 1000 }, { "m", 60 * 1000 }, { "h", 3600 * 1000 }, { "d", INT64_C (86400) * 1000 }, { NULL, 0 },
};
static const struct unit size_units[] = {
	{ "", 1 }, { "B", 1 }, { "KiB", INT64_C (1) << 10 }, { "MiB", INT64_C (1) << 20 }, { "GiB", INT64_C (1) << 30 },
	{ "TiB", INT64_C (1) << 40 }, { NULL, 0 },
};

static int parse_units (const char *s, const struct unit *u, int64_t *out)
{
	int64_t v = 0;
	const char *p = s;

	if (!isdigit ((unsigned char) *p))
		return -1;
	for (; isdigit ((unsigned char) *p); p++)
		if (__builtin_mul_overflow (v, 10, &v) || __builtin_add_overflow (v, *p - '0', &v))
			return -1;
	if (v == 0 && !*p) {
		*out = 0;
		return 0;
	}
	while (*p == ' ')
		p++;
	for (; u->name; u++) {
		if (strcmp (p, u->name) != 0)
			continue;
		if (__builtin_mul_overflow (v, u->factor, &v))
			return -1;
		*out = v;
		return 0;
	}
	return -1;
}

int conf_parse_duration (const char *s, int64_t *ms)
{
	return parse_units (s, time_units, ms);
}

int conf_parse_size (const char *s, int64_t *bytes)
{
	return parse_units (s, size_units, bytes);
}

/* One number of a time; *s is moved behind it. At most 7 digits, so that no sum can overflow. */
static int time_part (const char **s, int64_t *v)
{
	int n = 0;

	for (*v = 0; isdigit ((unsigned char) **s); (*s)++) {
		if (++n > 7)
			return -1;
		*v = *v * 10 + (**s - '0');
	}
	return n ? 0 : -1;
}

int conf_parse_walltime (const char *s, int64_t *seconds)
{
	int64_t part[3], days = 0, ms;
	const char *p = s, *dash = strchr (s, '-');
	int n = 0;

	if (!strpbrk (s, ":-") && s[strspn (s, "0123456789")]) {
		if (conf_parse_duration (s, &ms) < 0)
			return -1;
		*seconds = (ms + 999) / 1000;
		return 0;
	}
	if (dash && (time_part (&p, &days) < 0 || p++ != dash))
		return -1;
	for (;;) {
		if (n == 3 || time_part (&p, &part[n++]) < 0)
			return -1;
		if (*p != ':')
			break;
		p++;
	}
	if (*p)
		return -1;
	if (dash)	/* D-HH[:MM[:SS]] */
		*seconds = days * 86400 + part[0] * 3600 + (n > 1 ? part[1] * 60 : 0) + (n > 2 ? part[2] : 0);
	else if (n == 3)
		*seconds = part[0] * 3600 + part[1] * 60 + part[2];
	else
		*seconds = n == 2 ? part[0] * 60 + part[1] : part[0];
	return 0;
}

/* On the open file, so that what was checked is what is read. */
static int check_private (int fd, const char *path, struct err *err)
{
	struct stat st;

	if (fstat (fd, &st) < 0)
		return err_errno (err, "reading %s", path);
	if (!S_ISREG (st.st_mode))
		return err_set (err, ERR_INVALID, FAULT_SITE, "secret file %s is not a regular file", path);
	if (st.st_mode & (S_IRWXG | S_IRWXO))
		return err_set (err, ERR_FORBIDDEN, FAULT_SITE,
				"secret file %s has mode %04o: others than its owner may use it; run: chmod 600 %s", path,
				(unsigned) (st.st_mode & 07777), path);
	return 0;
}

char *conf_read_secret (const char *path, size_t max, struct err *err)
{
	char *text = NULL;
	size_t len = 0;
	int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0) {
		err_errno (err, "opening secret file %s", path);
		return NULL;
	}
	if (check_private (fd, path, err) < 0)
		goto fail;
	if (!(text = malloc (max + 2))) {
		err_errno (err, "reading secret file %s", path);
		goto fail;
	}
	while (len <= max) {
		ssize_t n = read (fd, text + len, max + 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			err_errno (err, "reading secret file %s", path);
			goto fail;
		}
		if (n == 0)
			break;
		len += (size_t) n;
	}
	if (len > max) {
		err_set (err, ERR_TOO_LARGE, FAULT_SITE, "secret file %s is larger than %zu bytes", path, max);
		goto fail;
	}
	if (len && text[len - 1] == '\n')
		len--;
	if (len && text[len - 1] == '\r')
		len--;
	text[len] = 0;
	if (!len || strlen (text) != len) {
		err_set (err, ERR_INVALID, FAULT_SITE, "secret file %s is %s", path, len ? "not text" : "empty");
		goto fail;
	}
	close (fd);
	return text;
fail:
	if (text)
		explicit_bzero (text, max + 2);
	free (text);
	close (fd);
	return NULL;
}
