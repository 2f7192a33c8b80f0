/* SPDX-License-Identifier: Apache-2.0 */
#include "common/digest.h"
#include "common/hex.h"

#include <openssl/evp.h>
#include <stdbool.h>

void digest_sha1_hex (const void *p, size_t n, char out[41])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	out[0] = '\0';
	if (!EVP_Digest (p, n, md, &len, EVP_sha1 (), NULL) || len != 20)
		return;
	hex_text (out, md, len);
}

int digest_sha256 (const struct digest_part *parts, size_t n, uint8_t out[DIGEST_SHA256_BYTES])
{
	static EVP_MD_CTX *c; /* kept: making one costs more than a small digest */
	bool ok = c || (c = EVP_MD_CTX_new ());

	ok = ok && EVP_DigestInit_ex (c, EVP_sha256 (), NULL);
	for (size_t i = 0; i < n && ok; i++)
		ok = EVP_DigestUpdate (c, parts[i].p, parts[i].n);
	return ok && EVP_DigestFinal_ex (c, out, NULL) ? 0 : -1;
}

/* OpenSSL's context under a name of ours. */
static EVP_MD_CTX *md_of (struct digest_stream *d) { return (EVP_MD_CTX *) (void *) d; }

struct digest_stream *digest_stream_create (void)
{
	struct digest_stream *d = (void *) EVP_MD_CTX_new ();

	if (d && digest_stream_reset (d) < 0)
		digest_stream_destroy (&d);
	return d;
}

int digest_stream_reset (struct digest_stream *d) { return EVP_DigestInit_ex (md_of (d), EVP_sha256 (), NULL) ? 0 : -1; }

int digest_stream_add (struct digest_stream *d, const void *p, size_t n) { return EVP_DigestUpdate (md_of (d), p, n) ? 0 : -1; }

int digest_stream_end (struct digest_stream *d, uint8_t out[DIGEST_SHA256_BYTES])
{
	return EVP_DigestFinal_ex (md_of (d), out, NULL) && digest_stream_reset (d) == 0 ? 0 : -1;
}

void digest_stream_destroy (struct digest_stream **d)
{
	if (*d)
		EVP_MD_CTX_free (md_of (*d));
	*d = NULL;
}
