/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WORKER_RUNNERS_PLAIN_TEXT_H
#define WORKER_RUNNERS_PLAIN_TEXT_H
#include <stddef.h>

/* The first place from `at` on, before n, of a byte that JSON does not have in a string as it is (control characters, '"', '\\'); n: there is
 * none. at <= n. */
__attribute__ ((visibility ("default"))) size_t weft_plain_end (const unsigned char *p, size_t at, size_t n);

#endif
