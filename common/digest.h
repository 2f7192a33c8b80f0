/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL's headers define an ERR_STATE of their own and so cannot be read beside err.h: digests have a file apart. */
#ifndef COMMON_DIGEST_H
#define COMMON_DIGEST_H
#include <stddef.h>
#include <stdint.h>

/* Lower-case hex of the SHA-1 of n bytes; "" when this OpenSSL refuses SHA-1. */
void digest_sha1_hex (const void *p, size_t n, char out[41]);

#define DIGEST_SHA256_BYTES 32
struct digest_part { const void *p; size_t n; };
/* SHA-256 of the parts, one after the other. 0, or -1 when there is no memory for it. For one thread. */
int digest_sha256 (const struct digest_part *parts, size_t n, uint8_t out[DIGEST_SHA256_BYTES]);

/* The same of what comes piece by piece; any number of them, on any threads. */
struct digest_stream;
struct digest_stream *digest_stream_create (void);	/* NULL: no memory */
int digest_stream_add (struct digest_stream *d, const void *p, size_t n);
int digest_stream_end (struct digest_stream *d, uint8_t out[DIGEST_SHA256_BYTES]);	/* it can begin anew then */
int digest_stream_reset (struct digest_stream *d);
void digest_stream_destroy (struct digest_stream **d);

#endif
