/* SPDX-License-Identifier: Apache-2.0 */
/* http_parse_head: stays inside its input, its slices too, and no prefix of an accepted head is refused. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "common/http.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n);

static void inside (struct http_str s, const char *p, long used)
{
	if (s.n && (s.p < p || s.p + s.n > p + used))
		abort ();
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	static struct http_head h;
	char *p = malloc (n ? n : 1);	/* exact, so that the sanitizer sees one byte too many */
	int status = 0, kept;
	long used;

	if (n)
		memcpy (p, data, n);
	used = http_parse_head (p, n, &h, &status);
	if (used > (long) n || (used < 0 && (status < 400 || status > 599)))
		abort ();
	if (used > 0) {
		inside (h.path, p, used);
		inside (h.query, p, used);
		if (h.nheaders < 0 || h.nheaders > 100 || h.content_length < -1 || (h.chunked && h.content_length >= 0))
			abort ();
		for (int i = 0; i < h.nheaders; i++) {
			inside (h.headers[i].name, p, used);
			inside (h.headers[i].value, p, used);
		}
		kept = h.nheaders;
		for (long k = 0; k < used; k += 1 + used / 32)
			if (http_parse_head (p, (size_t) k, &h, &status) != 0)
				abort ();
		if (http_parse_head (p, (size_t) used, &h, &status) != used || h.nheaders != kept)
			abort ();
	}
	free (p);
	return 0;
}
