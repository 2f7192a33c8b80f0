/* SPDX-License-Identifier: Apache-2.0 */
/* Small text helpers of the worker: UTF-8, amounts for people. */
#ifndef WORKER_TEXT_H
#define WORKER_TEXT_H
#include "common/buf.h"

bool text_is_utf8 (const void *p, size_t n);
void text_make_utf8 (char *p, size_t n);		/* in place: bytes that are not UTF-8 become '?' */
char *text_duration (int64_t ms, char out[32]);		/* "2 s", "1.5 s", "250 ms"; returns out */
char *text_size (uint64_t bytes, char out[32]);		/* "200 MiB", "1.5 GiB", "12 bytes"; returns out */

#endif
