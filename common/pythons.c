/* SPDX-License-Identifier: Apache-2.0 */
#include "common/pythons.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/buf.h"
#include "common/xmem.h"

/* Digits at *s, at most three of them; -1 = none. */
static int number (const char **s)
{
	int n = 0, digits = 0;

	for (; **s >= '0' && **s <= '9' && digits < 3; (*s)++, digits++)
		n = 10 * n + (**s - '0');
	return digits && (**s < '0' || **s > '9') ? n : -1;
}

static uint16_t read_version (const char *s, const char **rest)
{
	int major = number (&s), minor = major >= 3 && *s == '.' ? (s++, number (&s)) : -1;

	*rest = s;
	return minor < 0 || minor > 255 || major > 255 ? 0 : (uint16_t) (major << 8 | minor);
}

uint16_t python_version (const char *text)
{
	const char *rest;

	return text ? read_version (text, &rest) : 0;
}

uint16_t python_version_exact (const char *text)
{
	const char *rest;
	uint16_t v = read_version (text, &rest);

	return *rest ? 0 : v;
}

char *python_version_text (uint16_t version, char out[8])
{
	snprintf (out, 8, "%d.%d", version >> 8, version & 0xff);
	return out;
}

int pythons_find (const struct pythons *p, uint16_t version)
{
	for (size_t i = 0; version && i < p->n; i++)
		if (p->v[i].version == version)
			return (int) i;
	return -1;
}

int pythons_add (struct pythons *p, uint16_t version, const char *path, struct err *err)
{
	char v[8];

	if (!*path || strlen (path) > 4000 || strpbrk (path, ",="))
		return err_set (err, ERR_INVALID, FAULT_USER, "'%.100s' cannot be the path of an interpreter: it is empty, too long, or has a comma or '='",
				path);
	if (p->n == PYTHONS_MAX)
		return err_set (err, ERR_LIMIT, FAULT_USER, "more than %d interpreters", PYTHONS_MAX);
	if (pythons_find (p, version) >= 0)
		return err_set (err, ERR_INVALID, FAULT_USER, "version %s is named twice", python_version_text (version, v));
	p->v[p->n++] = (struct python){ version, xstrdup (path) };
	return 0;
}

static int add_item (struct pythons *p, char *item, struct err *err)
{
	char *path = strchr (item, '=');
	uint16_t version;

	if (!path)
		return pythons_add (p, 0, item, err);
	*path++ = 0;
	version = python_version_exact (item);
	if (!version)
		return err_set (err, ERR_INVALID, FAULT_USER, "'%.40s' is no version of Python such as 3.11", item);
	return pythons_add (p, version, path, err);
}

int pythons_parse (struct pythons *out, const char *text, struct err *err)
{
	char *copy, *item, *save = NULL;
	int rc = 0;

	memset (out, 0, sizeof (*out));
	if (strlen (text) > PYTHONS_TEXT_MAX)
		return err_set (err, ERR_TOO_LARGE, FAULT_USER, "the list of interpreters has %zu characters", strlen (text));
	copy = xstrdup (text);
	for (item = strtok_r (copy, ",", &save); item && rc == 0; item = strtok_r (NULL, ",", &save))
		rc = add_item (out, item, err);
	free (copy);
	if (rc == 0 && !out->n)
		rc = err_set (err, ERR_INVALID, FAULT_USER, "no interpreter is named");
	for (size_t i = 0; rc == 0 && out->n > 1 && i < out->n; i++)
		if (!out->v[i].version)
			rc = err_set (err, ERR_INVALID, FAULT_USER, "%.100s: of several interpreters each needs its version: 3.11=PATH", out->v[i].path);
	if (rc < 0)
		pythons_fini (out);
	return rc;
}

char *pythons_text (const struct pythons *p)
{
	struct buf b;
	char v[8], *text;

	buf_init (&b, 0);
	for (size_t i = 0; i < p->n; i++)
		buf_printf (&b, "%s%s%s%s", i ? "," : "", p->v[i].version ? python_version_text (p->v[i].version, v) : "",
			    p->v[i].version ? "=" : "", p->v[i].path);
	text = xstrdup (b.len ? (const char *) b.data : "");
	buf_fini (&b);
	return text;
}

void pythons_fini (struct pythons *p)
{
	for (size_t i = 0; i < p->n; i++)
		free (p->v[i].path);
	memset (p, 0, sizeof (*p));
}
