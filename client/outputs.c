/* SPDX-License-Identifier: Apache-2.0 */
#include "client/outputs.h"
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/xmem.h"

static bool wanted (const char *name, char *const *names)
{
	bool any = names && *names, found = !any;

	for (; any && *names && !found; names++)
		found = strcmp (*names, name) == 0;
	return found;
}

static int write_file (const char *path, const char *data, size_t n, struct err *err)
{
	int fd = open (path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
	size_t at = 0;

	if (fd < 0)
		return err_errno (err, "%s", path);
	while (at < n) {
		ssize_t w = write (fd, data + at, n - at);
		if (w < 0 && errno != EINTR) {
			err_errno (err, "writing %s", path);
			unlink (path);
			close (fd);
			return -1;
		}
		at += w > 0 ? (size_t) w : 0;
	}
	close (fd);
	return 0;
}

static int save_one (const struct api_opts *o, const char *task, const char *name, const char *dir, struct err *err)
{
	char *escaped = curl_easy_escape (NULL, name, 0), *path = xasprintf ("/v3/tasks/%s/files/%s", task, escaped ? escaped : "");
	char *to = xasprintf ("%s/%s", dir, name);
	struct api_req r = { .method = "GET", .path = path, .raw = true };
	json_t *data = NULL;
	int rc = -1;

	/* the service says so too; here it is our disk */
	if (!*name || strchr (name, '/') || !strcmp (name, ".") || !strcmp (name, ".."))
		err_set (err, ERR_INVALID, FAULT_PEER, "the service names a file '%.100s'", name);
	else if ((data = api_send (o, &r, err)))
		rc = write_file (to, json_string_value (data), json_string_length (data), err);
	if (rc == 0)
		fprintf (stderr, "weft: saved %s, %zu bytes\n", to, json_string_length (data));
	json_decref (data);
	curl_free (escaped);
	free (path);
	free (to);
	return rc;
}

int outputs_save (const struct api_opts *o, const json_t *doc, const char *dir, char *const *names, struct err *err)
{
	json_t *f;
	size_t i;
	int n = 0;

	json_array_foreach (json_object_get (doc, "files"), i, f)
		if (wanted (api_str (f, "name"), names) && json_object_get (f, "path")) {
			fprintf (stderr, "weft: left %s, %lld bytes, on node %s: %s\n", api_str (f, "name"),
				 (long long) json_integer_value (json_object_get (f, "bytes")), api_str (doc, "node"), api_str (f, "path"));
			n++;
		} else if (wanted (api_str (f, "name"), names)) {
			if (save_one (o, api_str (doc, "task_id"), api_str (f, "name"), dir ? dir : ".", err) < 0)
				return -1;
			n++;
		}
	return n;
}
