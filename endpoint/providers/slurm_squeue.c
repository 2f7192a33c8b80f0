/* SPDX-License-Identifier: Apache-2.0 */
/* What Slurm's commands print: rows of squeue and sacct, the answer of sbatch. */
#include "endpoint/providers/slurm.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* "123" or "123;cluster", maybe after lines of a site's own plugin. */
int slurm_submitted (const char *out, char id[BATCH_ID_MAX])
{
	for (const char *p = out; *p; p += strcspn (p, "\n"), p += *p == '\n') {
		size_t n = strspn (p, "0123456789");
		if (n && n < 20 && (p[n] == '\n' || p[n] == ';' || !p[n])) {
			memcpy (id, p, n);
			id[n] = 0;
			return 0;
		}
	}
	return -1;
}

/* n-1 separators; the last field may hold more of them. */
static bool split (char *line, char **field, int n)
{
	for (int i = 0; i < n; i++) {
		field[i] = line;
		if (i == n - 1)
			return true;
		if (!(line = strchr (line, '|')))
			return false;
		*line++ = 0;
	}
	return false;
}

static int each_line (char *out, int fields, void (*each) (char **field, batch_row_f *cb, void *arg), batch_row_f *cb, void *arg)
{
	char *field[8], *save = NULL;
	int bad = 0, good = 0;

	for (char *line = strtok_r (out, "\n", &save); line; line = strtok_r (NULL, "\n", &save)) {
		if (strncmp (line, "CLUSTER:", 8) == 0)
			continue;
		if (!isdigit ((unsigned char) *line) || !split (line, field, fields)) {
			bad++;
			continue;
		}
		good++;
		each (field, cb, arg);
	}
	return bad && !good ? -1 : 0;
}

static void queue_line (char **f, batch_row_f *cb, void *arg)
{
	cb (&(struct batch_row) { .id = f[0], .name = f[1], .state = f[2], .nodes = f[3], .reason = f[4] }, arg);
}

int slurm_rows (char *out, batch_row_f *cb, void *arg)
{
	return each_line (out, 5, queue_line, cb, arg);
}

static void history_line (char **f, batch_row_f *cb, void *arg)
{
	char reason[64] = "";

	if (strcmp (f[4], "0:0") != 0)
		snprintf (reason, sizeof (reason), "exit code %.40s", f[4]);
	cb (&(struct batch_row) { .id = f[0], .name = f[1], .state = f[2], .nodes = strcmp (f[3], "None assigned") ? f[3] : "", .reason = reason }, arg);
}

int slurm_history_rows (char *out, batch_row_f *cb, void *arg)
{
	return each_line (out, 5, history_line, cb, arg);
}
