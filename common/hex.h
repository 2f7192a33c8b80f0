/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes as hexadecimal digits. */
#ifndef COMMON_HEX_H
#define COMMON_HEX_H
#include <stddef.h>

/* 2 * n lower-case digits and a NUL; returns where the NUL is. */
char *hex_text (char *out, const void *p, size_t n);
int hex_digit (char c);		/* its value, of either case; -1: it is none */

#endif
