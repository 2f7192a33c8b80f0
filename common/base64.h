/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 (RFC 4648, the plain alphabet). */
#ifndef COMMON_BASE64_H
#define COMMON_BASE64_H
#include "common/buf.h"

void base64_encode (struct buf *out, const void *p, size_t n);
int base64_decode (struct buf *out, const char *p, size_t n);	/* blanks and newlines allowed; -1 = malformed or over out's bound */

#endif
