/* SPDX-License-Identifier: Apache-2.0 */
/* What a call finds around it: the payload NAME gives that variable's value, NAME=VALUE sets it, NAME= takes it away, a path with a slash in front
 * changes the directory. The result is the value, and the directory. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "weft_function.h"

static void __attribute__ ((constructor)) loaded (void)
{
	setenv ("WEFT_EXAMPLE", "set while it was loaded", 1);
}

int weft_function (const struct weft_in *in, struct weft_out *out);
int weft_function (const struct weft_in *in, struct weft_out *out)
{
	char name[256], directory[4096], *value;
	const char *found;

	snprintf (name, sizeof (name), "%s", (const char *) in->data);
	if (name[0] == '/' && chdir (name) < 0)
		return weft_fail (out, "no such directory");
	if ((value = strchr (name, '='))) {
		*value++ = 0;
		if (*value ? setenv (name, value, 1) : unsetenv (name))
			return weft_fail (out, "it cannot be set");
	}
	found = getenv (name);
	weft_puts (out, found ? found : "-");
	weft_puts (out, " ");
	return weft_puts (out, getcwd (directory, sizeof (directory)) ? directory : "?");
}
