/* SPDX-License-Identifier: Apache-2.0 */
/* The list of providers. */
#include "endpoint/providers/provider.h"

#include <string.h>

const struct provider *const providers[] = { &provider_local, &provider_dryrun, NULL };

void provider_render_argv (const char *const *argv, struct buf *out)
{
	static const char *const plain =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@,+%";

	for (size_t i = 0; argv[i]; i++) {
		if (i)
			buf_char (out, ' ');
		if (*argv[i] && !argv[i][strspn (argv[i], plain)]) {
			buf_str (out, argv[i]);
			continue;
		}
		buf_char (out, '\'');
		for (const char *p = argv[i]; *p; p++) {
			if (*p == '\'')
				buf_str (out, "'\\''");
			else
				buf_char (out, *p);
		}
		buf_char (out, '\'');
	}
	buf_char (out, '\n');
}
