/* SPDX-License-Identifier: Apache-2.0 */
/* The list of providers. */
#include "endpoint/providers/provider.h"

#include <string.h>

const struct provider *const providers[] = {
	&provider_local, &provider_dryrun, &provider_slurm, &provider_pbs, &provider_htcondor, &provider_kubernetes, NULL
};

void provider_quote (const char *word, struct buf *out)
{
	static const char *const plain =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@,+%";

	if (*word && !word[strspn (word, plain)]) {
		buf_str (out, word);
		return;
	}
	buf_char (out, '\'');
	for (const char *p = word; *p; p++) {
		if (*p == '\'')
			buf_str (out, "'\\''");
		else
			buf_char (out, *p);
	}
	buf_char (out, '\'');
}

bool provider_image_is_pinned (const char *image)
{
	static const char mark[] = "@sha256:";
	const char *at = strstr (image, mark);

	return at && at != image && strlen (at += sizeof (mark) - 1) == 64 && strspn (at, "0123456789abcdef") == 64;
}

void provider_render_argv (const char *const *argv, struct buf *out)
{
	for (size_t i = 0; argv[i]; i++) {
		if (i)
			buf_char (out, ' ');
		provider_quote (argv[i], out);
	}
	buf_char (out, '\n');
}
