/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL's headers define an ERR_STATE of their own and so cannot be read beside err.h: digests have a file apart. */
#ifndef COMMON_DIGEST_H
#define COMMON_DIGEST_H
#include <stddef.h>

/* Lower-case hex of the SHA-1 of n bytes; "" when this OpenSSL refuses SHA-1. */
void digest_sha1_hex (const void *p, size_t n, char out[41]);

#endif
