/* SPDX-License-Identifier: Apache-2.0 */
/* Ids: 128-bit UUIDs, held as 16 bytes in network order, shown as 36 lower-case characters. */
#ifndef COMMON_IDS_H
#define COMMON_IDS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ID_BYTES 16
#define ID_TEXT 37 /* 36 characters and the NUL */

struct id { uint8_t b[ID_BYTES]; };

void id_new (struct id *out);				/* version 7, increasing within this process */
int id_parse (struct id *out, const char *s, size_t n);	/* any case, dashes required; -1: not a UUID (out untouched) */
char *id_text (const struct id *id, char out[ID_TEXT]);	/* returns out */
int64_t id_time_ms (const struct id *id);		/* of a version 7 id */
static inline bool id_eq (const struct id *a, const struct id *b) { return memcmp (a, b, ID_BYTES) == 0; }
static inline bool id_is_zero (const struct id *a) { struct id z = {{0}}; return id_eq (a, &z); }

/* n random bytes from the kernel. Aborts when there are none. */
void ids_random (void *out, size_t n);
/* A URL-safe secret of `bytes` random bytes, base64url without padding; owned by the caller. */
char *ids_secret (size_t bytes);

#endif
