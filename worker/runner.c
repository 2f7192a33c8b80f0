/* SPDX-License-Identifier: Apache-2.0 */
/* The table of runners: a row each. */
#include "worker/runner.h"

static const struct runner_ops *const table[] = {
	&runner_python,
	&runner_sharedobject,
	&runner_command,
};
_Static_assert (sizeof (table) / sizeof (table[0]) <= RUNNER_MAX, "RUNNER_MAX");

size_t runner_count (void)
{
	return sizeof (table) / sizeof (table[0]);
}

const struct runner_ops *runner_at (size_t i)
{
	return table[i];
}

int runner_for_kind (int kind)
{
	size_t i;

	if (kind <= KIND_NONE || kind > 31)
		return -1;
	for (i = 0; i < runner_count (); i++)
		if (table[i]->kinds & RUNNER_KIND (kind))
			return (int) i;
	return -1;
}
