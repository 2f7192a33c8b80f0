/* SPDX-License-Identifier: Apache-2.0 */
/* See runtime.h. */
#include "endpoint/manager/containers/runtime.h"
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "common/xmem.h"

extern const struct runtime runtime_docker, runtime_podman, runtime_apptainer, runtime_singularity, runtime_charliecloud, runtime_shifter;

const struct runtime *const runtimes[] = {
	&runtime_docker, &runtime_podman, &runtime_apptainer, &runtime_singularity, &runtime_charliecloud, &runtime_shifter, NULL,
};

const struct runtime *runtime_find (const char *name)
{
	for (size_t i = 0; name && runtimes[i]; i++)
		if (strcmp (runtimes[i]->name, name) == 0)
			return runtimes[i];
	return NULL;
}

/* ---- command lines ---- */

void args_add (struct args *a, const char *word)
{
	if (a->n < RUNTIME_ARGS)	/* the longest of ours has less than half of it */
		a->v[a->n++] = xstrdup (word);
	a->v[a->n] = NULL;
}

void args_addf (struct args *a, const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start (ap, fmt);
	if (vasprintf (&text, fmt, ap) < 0)
		abort ();
	va_end (ap);
	args_add (a, text);
	free (text);
}

void args_fini (struct args *a)
{
	while (a->n)
		free (a->v[--a->n]);
	a->v[0] = NULL;
}

struct container_spec runtime_held (const struct container_spec *s, const struct container_place *p)
{
	struct container_spec held = *s;

	if (!(p->limits & LIMIT_MEMORY))
		held.memory_bytes = 0;
	if (!(p->limits & LIMIT_PIDS))
		held.pids = 0;
	if (!(p->limits & LIMIT_CPU))
		held.cpu_millis = 0;
	return held;
}

/* ---- images ---- */

bool runtime_image_ok (const char *image, size_t n)
{
	if (!n || n > RUNTIME_IMAGE_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		if (image[i] <= ' ' || image[i] > '~' || strchr ("'\"`\\$;|&<>*?{}!,", image[i]))
			return false;
	return strchr ("/.", image[0]) || (image[0] >= '0' && image[0] <= '9') || ((image[0] | 32) >= 'a' && (image[0] | 32) <= 'z');
}

/* ---- what tools say ---- */

static const char *after_prefix (const char *s, size_t *n)
{
	static const char *const prefixes[] = { "docker:", "Error response from daemon:", "Error:", "ERROR:", "FATAL:", "error:", " ", "\t" };

	for (size_t i = 0; i < sizeof (prefixes) / sizeof (prefixes[0]); i++) {
		size_t k = strlen (prefixes[i]);
		if (*n < k || strncmp (s, prefixes[i], k) != 0)
			continue;
		s += k;
		*n -= k;
		i = (size_t) -1;	/* from the start again */
	}
	return s;
}

char *runtime_words (const char *text, size_t n, char *out, size_t room)
{
	const char *end = text + n, *line;

	snprintf (out, room, "it said nothing");
	while (end > text) {
		size_t k;
		for (line = end; line > text && line[-1] != '\n'; line--)
			;
		k = (size_t) (end - line);
		end = line > text ? line - 1 : text;
		if (!k || strncmp (line, "See '", 5) == 0 || strncmp (line, "Run '", 5) == 0 || strncmp (line, "ts=", 3) == 0)
			continue;	/* hints about its own help; lines of the worker's log */
		line = after_prefix (line, &k);
		snprintf (out, room, "%.*s", (int) (k < room ? k : room - 1), line);
		for (char *p = out; *p; p++)
			if ((unsigned char) *p < ' ')
				*p = '?';
		if (*out)
			break;
	}
	return out;
}

/* ---- owners ---- */

/* Field 22 of /proc/PID/stat: a pid that was given out again has another one. */
static unsigned long long start_time (long pid)
{
	char path[64], line[1024];
	unsigned long long t = 0;
	const char *p;
	size_t n;
	FILE *f;

	snprintf (path, sizeof (path), "/proc/%ld/stat", pid);
	if (!(f = fopen (path, "re")))
		return 0;
	n = fread (line, 1, sizeof (line) - 1, f);
	fclose (f);
	line[n] = 0;
	p = strrchr (line, ')');
	if (p && (p[1] != ' ' || p[2] == 'Z'))
		return 0;
	for (int i = 0; p && i < 20; i++)
		p = strchr (p + 1, ' ');
	if (p)
		sscanf (p, " %llu", &t);
	return t;
}

void runtime_owner (char out[64])
{
	snprintf (out, 64, "%ld.%llu", (long) getpid (), start_time (getpid ()));
}

bool runtime_alive (const char *owner)
{
	unsigned long long since = 0;
	long pid = 0;

	return sscanf (owner, "%ld.%llu", &pid, &since) == 2 && pid > 0 && since && start_time (pid) == since;
}
