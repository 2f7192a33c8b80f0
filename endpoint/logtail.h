/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a log file. */
#ifndef ENDPOINT_LOGTAIL_H
#define ENDPOINT_LOGTAIL_H
#include <stddef.h>
#include <stdio.h>

/* The last bytes as one line for an error message: line ends become " | ", control characters blanks. "" when there are none. */
void logtail_read (const char *path, char *out, size_t cap);
/* The last `lines` lines to `to`. Returns the offset after the last byte shown, -1 when it cannot be read. */
long logtail_print (const char *path, int lines, FILE *to);
/* What came after `offset`; returns the new offset. A file that became shorter is shown from its start. */
long logtail_more (const char *path, long offset, FILE *to);

#endif
