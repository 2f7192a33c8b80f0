/* SPDX-License-Identifier: Apache-2.0 */
/* See files.h. */
#include "endpoint/files.h"
#include <string.h>
#include "common/utf8.h"
#include "common/xmem.h"
#include "endpoint/providers/provider.h"

#define OUTPUT_DIR_MAX 512		/* with what stands below it a path has to be within FILES_PATH_MAX */

char *files_cache_dir (const struct config *c, const char *own_dir)
{
	if (c->files_cache_dir && *c->files_cache_dir)
		return xstrdup (c->files_cache_dir);
	return config_provider (c)->local ? xasprintf ("%s/files", own_dir) : NULL;
}

static bool keeps (const struct config *c) { return c->files_output_dir && *c->files_output_dir; }

/* Paths below it stand in results, which are text. */
static int check_output_dir (const struct config *c, struct err *err)
{
	const char *dir = c->files_output_dir;

	if (!keeps (c))
		return 0;
	if (!c->files_cache_bytes)
		return err_set (err, ERR_INVALID, FAULT_USER, "files.output_dir is set, and with files.cache_bytes 0 no task may have files");
	if (dir[0] != '/' || strlen (dir) > OUTPUT_DIR_MAX)
		return err_set (err, ERR_INVALID, FAULT_USER, "files.output_dir: '%.100s': an absolute path of at most %d bytes is expected", dir,
				OUTPUT_DIR_MAX);
	if (utf8_span (dir, strlen (dir)) < strlen (dir))
		return err_set (err, ERR_INVALID, FAULT_USER, "files.output_dir: a path that is UTF-8 text is expected");
	for (const char *p = dir; *p; p++)
		if ((unsigned char) *p < 0x20 || *p == 0x7f)
			return err_set (err, ERR_INVALID, FAULT_USER, "files.output_dir: it has a control character");
	return 0;
}

int files_check_config (const struct config *c, struct err *err)
{
	if (c->files_cache_bytes && c->files_max_bytes > c->files_cache_bytes)
		return err_set (err, ERR_INVALID, FAULT_USER, "files.max_bytes is larger than files.cache_bytes, in which a file must find room");
	for (size_t i = 0; i < c->files_directories.n; i++)
		if (c->files_directories.v[i][0] != '/')
			return err_set (err, ERR_INVALID, FAULT_USER, "files.directories: '%.200s': an absolute path is expected",
					c->files_directories.v[i]);
	return check_output_dir (c, err);
}

void files_describe (const struct config *c, json_t *o)
{
	json_t *files;

	if (!c->files_cache_bytes)
		return;
	files = json_pack ("{s:I, s:b, s:b}", "max_bytes", (json_int_t) c->files_max_bytes, "http", c->files_http, "directories",
			   c->files_directories.n > 0);
	if (keeps (c))
		json_object_set_new (files, "keep_max_bytes", json_integer (c->files_output_max_bytes));
	json_object_set_new (o, "files", files);
}
