/* SPDX-License-Identifier: Apache-2.0 */
#include "common/roff.h"

#include <stdbool.h>

void roff_text (const char *text, FILE *to)
{
	bool bol = true, literal = false;

	for (const char *p = text; *p; p++) {
		if (bol && (*p == ' ' || *p == '\t') != literal && *p != '\n') {
			literal = !literal;
			fputs (literal ? ".nf\n" : ".fi\n", to);
		}
		if (bol && *p == '\n') {
			fputs (".PP\n", to);
			continue;
		}
		if (bol && (*p == '.' || *p == '\''))
			fputs ("\\&", to);
		if (*p == '\\')
			fputs ("\\e", to);
		else if (*p == '-')
			fputs ("\\-", to);
		else
			fputc (*p, to);
		bol = *p == '\n';
	}
	if (!bol)
		fputc ('\n', to);
	if (literal)
		fputs (".fi\n", to);
}
