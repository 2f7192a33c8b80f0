/* SPDX-License-Identifier: Apache-2.0 */
/* A live view on the terminal: the other screen, one frame after another, keys, resizing; the terminal is as it was when it ends,
 * also by a signal. Standard input and output must be terminals. */
#ifndef CLIENT_TERM_H
#define CLIENT_TERM_H
#include <stdbool.h>
#include <stdint.h>
#include "common/buf.h"

#define TERM_TITLE "\002"	/* at the beginning of a line: shown inverse */

bool term_possible (void);
void term_open (void);
void term_close (void);
void term_size (int *rows, int *cols);
/* The lines of text, cut to what the window shows; control characters are shown as '?'. */
void term_draw (const struct buf *text);
/* Wait for ms. A key; 0 the time is over or the size has changed; -1 it is to end (q, Ctrl-C, a signal, end of input). */
int term_wait (int64_t ms);

#endif
