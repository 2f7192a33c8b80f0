/* SPDX-License-Identifier: Apache-2.0 */
#include "common/suggest.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

enum { LONGEST = 96 };

static bool same (char a, char b)
{
	return tolower ((unsigned char) a) == tolower ((unsigned char) b);
}

static int least (int a, int b)
{
	return a < b ? a : b;
}

int suggest_distance (const char *a, const char *b)
{
	size_t na = strlen (a), nb = strlen (b);
	int row[3][LONGEST + 1];	/* a ring: the row before last serves swaps */

	if (na > LONGEST || nb > LONGEST)
		return LONGEST + 1;
	for (size_t j = 0; j <= nb; j++)
		row[0][j] = (int) j;
	for (size_t i = 1; i <= na; i++) {
		int *cur = row[i % 3], *up = row[(i + 2) % 3], *up2 = row[(i + 1) % 3];
		cur[0] = (int) i;
		for (size_t j = 1; j <= nb; j++) {
			int d = up[j - 1] + !same (a[i - 1], b[j - 1]);
			d = least (d, least (up[j], cur[j - 1]) + 1);
			if (i > 1 && j > 1 && same (a[i - 1], b[j - 2]) && same (a[i - 2], b[j - 1]))
				d = least (d, up2[j - 2] + 1);
			cur[j] = d;
		}
	}
	return row[na % 3][nb];
}

void suggest_offer (struct suggest *s, const char *candidate)
{
	int d = suggest_distance (s->word, candidate);
	size_t n = strlen (s->word), m = strlen (candidate);
	int near = 1 + (int) ((n > m ? n : m) / 4);

	if (d > near || (s->best && d >= s->distance))
		return;
	s->best = candidate;
	s->distance = d;
}
