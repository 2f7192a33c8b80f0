/* SPDX-License-Identifier: Apache-2.0 */
#include "client/journal.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include "client/api.h"
#include "common/digest.h"
#include "common/xmem.h"

#define ITEMS_MAX ((uint64_t)1 << 32)

struct item { struct id task; uint32_t sum; bool known; };

struct journal {
	char *path, *run, *group;
	FILE *f;
	struct item *items;
	uint64_t nitems, cap, ntasks;
	bool intent;
	uint64_t first;
	size_t n;
};

uint32_t journal_sum (const char *line, size_t n)
{
	struct digest_part part = { line, n };
	uint8_t d[DIGEST_SHA256_BYTES] = { 0 };
	if (digest_sha256 (&part, 1, d) < 0)
		return 0;
	return (uint32_t)d[0] << 24 | (uint32_t)d[1] << 16 | (uint32_t)d[2] << 8 | d[3];
}

void journal_close (struct journal **jp)
{
	struct journal *j = *jp;
	if (!j)
		return;
	*jp = NULL;
	if (j->f)
		fclose (j->f);
	free (j->path);
	free (j->run);
	free (j->group);
	free (j->items);
	free (j);
}

static int keep (struct journal *j, uint64_t item, const struct id *task, uint32_t sum, struct err *err)
{
	if (item >= ITEMS_MAX)
		return err_set (err, ERR_INVALID, FAULT_USER, "%s names line %" PRIu64, j->path, item);
	if (item >= j->cap) {
		uint64_t cap = item < 512 ? 1024 : item * 2;
		struct item *more = realloc (j->items, cap * sizeof (*more));
		if (!more)
			return err_set (err, ERR_INTERNAL, FAULT_SITE, "%s: no memory for %" PRIu64 " lines", j->path, item);
		memset (more + j->cap, 0, (cap - j->cap) * sizeof (*more));
		j->items = more;
		j->cap = cap;
	}
	j->ntasks += !j->items[item].known;
	j->items[item] = (struct item){ *task, sum, true };
	if (item >= j->nitems)
		j->nitems = item + 1;
	return 0;
}

/* Tasks are texts "ID:sum", the sum of the line in hex. */
static int take_tasks (struct journal *j, uint64_t first, const json_t *list, struct err *err)
{
	size_t i;
	json_t *v;
	json_array_foreach (list, i, v) {
		const char *s = json_string_value (v);
		struct id task;
		if (!s || strlen (s) < 38 || id_parse (&task, s, 36) < 0)
			return err_set (err, ERR_INVALID, FAULT_USER, "%s: damaged", j->path);
		if (keep (j, first + i, &task, (uint32_t)strtoul (s + 37, NULL, 16), err) < 0)
			return -1;
	}
	return 0;
}

static int take (struct journal *j, const json_t *o, const char *function, const char *endpoint, struct err *err)
{
	json_int_t first = json_integer_value (json_object_get (o, "first")), n = json_integer_value (json_object_get (o, "n"));
	json_t *tasks = json_object_get (o, "tasks");
	if (json_object_get (o, "weft_map")) {
		if (strcmp (api_str (o, "function"), function) || strcmp (api_str (o, "endpoint"), endpoint))
			return err_set (err, ERR_INVALID, FAULT_USER, "%s was begun with function %.36s on endpoint %.36s, not with these (has the code "
					"changed?): use another file", j->path, api_str (o, "function"), api_str (o, "endpoint"));
		free (j->run);
		j->run = xstrdup (api_str (o, "run"));
		return 0;
	}
	if (first < 0 || n < 0 || !j->run)
		return err_set (err, ERR_INVALID, FAULT_USER, "%s is not a record of weft run --map, or damaged: use another file", j->path);
	if (!tasks) {
		j->intent = true;
		j->first = (uint64_t)first;
		j->n = (size_t)n;
		return 0;
	}
	j->intent = j->intent && j->first != (uint64_t)first;	/* a line that is tried again settles nothing else */
	if (*api_str (o, "group") && !j->group)
		j->group = xstrdup (api_str (o, "group"));
	return take_tasks (j, (uint64_t)first, tasks, err);
}

static int load (struct journal *j, const char *function, const char *endpoint, struct err *err)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	off_t good = 0;
	int rc = 0;
	while (rc == 0 && (n = getline (&line, &cap, j->f)) > 0) {
		json_t *o = line[n - 1] == '\n' ? json_loadb (line, (size_t)n, JSON_REJECT_DUPLICATES, NULL) : NULL;
		if (!json_is_object (o) && (line[n - 1] != '\n' || feof (j->f))) {
			json_decref (o);
			break; /* torn: the writer was cut off here */
		}
		rc = json_is_object (o) ? take (j, o, function, endpoint, err)
					: err_set (err, ERR_INVALID, FAULT_USER, "%s is not a record of weft run --map, or damaged: use another file", j->path);
		json_decref (o);
		good += n;
	}
	free (line);
	if (rc == 0 && (fflush (j->f) != 0 || ftruncate (fileno (j->f), good) < 0 || fseeko (j->f, good, SEEK_SET) < 0))
		rc = err_errno (err, "%s", j->path);
	return rc;
}

static int put (struct journal *j, json_t *o, struct err *err)
{
	int rc = json_dumpf (o, j->f, JSON_COMPACT);
	json_decref (o);
	if (rc < 0 || fputc ('\n', j->f) == EOF || fflush (j->f) != 0)
		return err_errno (err, "writing %s", j->path);
	return 0;
}

struct journal *journal_open (const char *path, const char *function, const char *endpoint, struct err *err)
{
	struct journal *j = xcalloc (1, sizeof (*j));
	int fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct id id;
	char text[ID_TEXT];
	j->path = xstrdup (path);
	if (fd < 0 || !(j->f = fdopen (fd, "r+"))) {
		err_errno (err, "%s", path);
		if (fd >= 0)
			close (fd);
		goto fail;
	}
	if (flock (fd, LOCK_EX | LOCK_NB) < 0) {
		err_set (err, ERR_CONFLICT, FAULT_USER, "%s is in use by another weft run", path);
		goto fail;
	}
	if (load (j, function, endpoint, err) < 0)
		goto fail;
	if (!j->run) {
		id_new (&id);
		j->run = xstrdup (id_text (&id, text));
		if (put (j, json_pack ("{s:i, s:s, s:s, s:s}", "weft_map", 1, "function", function, "endpoint", endpoint, "run", j->run), err) < 0)
			goto fail;
	}
	return j;
fail:
	journal_close (&j);
	return NULL;
}

bool journal_task (const struct journal *j, uint64_t item, struct id *task, uint32_t *sum)
{
	if (item >= j->nitems || !j->items[item].known)
		return false;
	*task = j->items[item].task;
	*sum = j->items[item].sum;
	return true;
}

uint64_t journal_tasks (const struct journal *j)
{
	return j->ntasks;
}

bool journal_open_intent (const struct journal *j, uint64_t *first, size_t *n)
{
	if (j->intent) {
		*first = j->first;
		*n = j->n;
	}
	return j->intent;
}

const char *journal_group (const struct journal *j)
{
	return j->group;
}

void journal_key (const struct journal *j, uint64_t first, size_t n, char out[80])
{
	snprintf (out, 80, "%.36s:%" PRIu64 ":%zu", j->run, first, n);
}

int journal_intend (struct journal *j, uint64_t first, size_t n, struct err *err)
{
	if (j->intent && j->first == first && j->n == n)
		return 0;
	j->intent = true;
	j->first = first;
	j->n = n;
	return put (j, json_pack ("{s:I, s:I}", "first", (json_int_t)first, "n", (json_int_t)n), err);
}

int journal_settle (struct journal *j, uint64_t first, const json_t *ids, const uint32_t *sums, const char *group, struct err *err)
{
	json_t *list = json_array (), *v;
	size_t i;
	char text[64];
	json_array_foreach (ids, i, v) {
		snprintf (text, sizeof (text), "%.36s:%08" PRIx32, json_string_value (v), sums[i]);
		json_array_append_new (list, json_string (text));
	}
	j->intent = j->intent && j->first != first;
	if (group && !j->group)
		j->group = xstrdup (group);
	return put (j, json_pack ("{s:I, s:s, s:o}", "first", (json_int_t)first, "group", group ? group : "", "tasks", list), err);
}
