/* SPDX-License-Identifier: Apache-2.0 */
/* See so_environ.h. A call has a vector of its own in `environ`: setenv and unsetenv change that, or a copy of it. */
#include "worker/runners/so_environ.h"
#include "common/xmem.h"
#include "proto/msg_resources.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct { char **v; size_t n; } kept;
static char **call;
static char task_id[2][16 + ID_TEXT];

void so_environ_keep (void)
{
	size_t n = 0;

	while (environ[n])
		n++;
	if (environ != kept.v) {
		kept.v = xrealloc (kept.v, (n + 1) * sizeof (*kept.v));
		memcpy (kept.v, environ, (n + 1) * sizeof (*kept.v));
	}
	kept.n = n;
	environ = kept.v;
}

static bool in_call (const char *entry, size_t n)
{
	size_t name = strcspn (entry, "=") + 1;

	for (size_t i = 0; i < n; i++)
		if (strncmp (call[i], entry, name) == 0)
			return true;
	return false;
}

void so_environ_begin (const struct id *task, struct wire_str own)
{
	struct wire_str list = own, entry;
	size_t n = 2, first;
	char id[ID_TEXT];

	while (msg_resources_environ_next (&list, &entry))
		n++;
	call = xrealloc (call, (n + kept.n + 1) * sizeof (*call));
	snprintf (task_id[0], sizeof (task_id[0]), "WEFT_TASK_ID=%s", id_text (task, id));
	snprintf (task_id[1], sizeof (task_id[1]), "GC_TASK_UUID=%s", id);
	call[0] = task_id[0];
	call[1] = task_id[1];
	for (n = 2, list = own; msg_resources_environ_next (&list, &entry);)
		call[n++] = (char *) entry.p;
	first = n;
	for (size_t i = 0; i < kept.n; i++)
		if (!in_call (kept.v[i], first))
			call[n++] = kept.v[i];
	call[n] = NULL;
	environ = call;
}

void so_environ_end (void)
{
	environ = kept.v;
}
