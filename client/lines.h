/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of a file or pipe as they come, without waiting for the rest. Blank lines are left out. */
#ifndef CLIENT_LINES_H
#define CLIENT_LINES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/err.h"

enum lines_got { LINES_ERROR = -1, LINES_LATER = 0, LINES_ONE = 1, LINES_END = 2 };

struct lines;
struct lines *lines_open (const char *path, size_t max_bytes, struct err *err);	/* "-": standard input */
void lines_close (struct lines **l);
/* block: wait for one. line: borrowed until the next call, not NUL-terminated; number counts all lines, from 1. */
enum lines_got lines_next (struct lines *l, bool block, const char **line, size_t *n, uint64_t *number, struct err *err);
/* How much of the file has been read, 0 to 1; -1 when its size is not known. */
double lines_part (const struct lines *l);
bool lines_is_file (const struct lines *l);

#endif
