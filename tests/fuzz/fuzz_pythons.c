/* SPDX-License-Identifier: Apache-2.0 */
/* pythons_parse: what is accepted can be written and read again, and says the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "common/pythons.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	struct pythons p, again;
	char *text = malloc (n + 1), *written;
	struct err err;

	memcpy (text, data, n);
	text[n] = 0;
	if (pythons_parse (&p, text, &err) == 0) {
		written = pythons_text (&p);
		if (!p.n || p.n > PYTHONS_MAX || pythons_parse (&again, written, &err) < 0 || again.n != p.n)
			abort ();
		for (size_t i = 0; i < p.n; i++)
			if (p.v[i].version != again.v[i].version || strcmp (p.v[i].path, again.v[i].path) ||
			    (p.v[i].version && pythons_find (&p, p.v[i].version) != (int) i))
				abort ();
		free (written);
		pythons_fini (&again);
	} else if (!err.text[0] || p.n)
		abort ();
	pythons_fini (&p);
	python_version (text);
	free (text);
	return 0;
}
