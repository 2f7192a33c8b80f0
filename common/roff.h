/* SPDX-License-Identifier: Apache-2.0 */
/* Plain text for man pages: what roff would take for its own is escaped. */
#ifndef COMMON_ROFF_H
#define COMMON_ROFF_H
#include <stdio.h>

/* Backslashes, dashes and leading dots or quotes escaped; newlines kept; indented lines become literal ones. */
void roff_text (const char *text, FILE *to);

#endif
