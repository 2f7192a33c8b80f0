/* SPDX-License-Identifier: Apache-2.0 */
/* jscan accepts what jansson accepts, reads the same from it, and stays inside its input.
 *
 * fuzz-sources: service/jscan.c
 */
#include <stdint.h>
#include <stdlib.h>
#include "tests/unit/service/jscan_compare.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	char *p = malloc (n ? n : 1);	/* exact, so that the sanitizer sees one byte too many */

	if (n)
		memcpy (p, data, n);
	if (!jscan_agrees (p, n))
		abort ();
	free (p);
	return 0;
}
