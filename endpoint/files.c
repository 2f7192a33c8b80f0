/* SPDX-License-Identifier: Apache-2.0 */
/* See files.h. */
#include "endpoint/files.h"
#include "common/xmem.h"
#include "endpoint/providers/provider.h"

char *files_cache_dir (const struct config *c, const char *own_dir)
{
	if (c->files_cache_dir && *c->files_cache_dir)
		return xstrdup (c->files_cache_dir);
	return config_provider (c)->local ? xasprintf ("%s/files", own_dir) : NULL;
}

int files_check_config (const struct config *c, struct err *err)
{
	if (c->files_cache_bytes && c->files_max_bytes > c->files_cache_bytes)
		return err_set (err, ERR_INVALID, FAULT_USER, "files.max_bytes is larger than files.cache_bytes, in which a file must find room");
	for (size_t i = 0; i < c->files_directories.n; i++)
		if (c->files_directories.v[i][0] != '/')
			return err_set (err, ERR_INVALID, FAULT_USER, "files.directories: '%.200s': an absolute path is expected",
					c->files_directories.v[i]);
	return 0;
}

void files_describe (const struct config *c, json_t *o)
{
	if (c->files_cache_bytes)
		json_object_set_new (o, "files", json_pack ("{s:I, s:b, s:b}", "max_bytes", (json_int_t) c->files_max_bytes, "http", c->files_http,
							    "directories", c->files_directories.n > 0));
}
