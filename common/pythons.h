/* SPDX-License-Identifier: Apache-2.0 */
/* The Python interpreters of an endpoint: which versions there are, and where. As text, on command lines:
 *
 *     PATH                                    one, of a version that nobody said
 *     VERSION=PATH,VERSION=PATH,...           several; the first one is for functions that want none of these versions
 *
 * A version is major and minor as one number, 256 * major + minor: 3.11 is 0x30b. 0 = not known. */
#ifndef COMMON_PYTHONS_H
#define COMMON_PYTHONS_H
#include <stddef.h>
#include <stdint.h>
#include "common/err.h"

#define PYTHONS_MAX 16
#define PYTHONS_TEXT_MAX 65536

struct python { uint16_t version; char *path; };
struct pythons { struct python v[PYTHONS_MAX]; size_t n; };

/* "3.11", or with more behind it: "3.11.2", "3.13.0rc1". 0: it is no version of Python 3 or later. */
uint16_t python_version (const char *text);
char *python_version_text (uint16_t version, char out[8]);	/* "3.11"; returns out */
/* The major and minor part alone, and nothing behind it, as in a configuration: "3.11". 0: something else. */
uint16_t python_version_exact (const char *text);

/* Nothing is owned by *out on failure. */
int pythons_parse (struct pythons *out, const char *text, struct err *err);
/* -1 with *err: too many, a version twice or unreadable, a path that cannot stand in the text. version 0 only for a lone one. */
int pythons_add (struct pythons *p, uint16_t version, const char *path, struct err *err);
char *pythons_text (const struct pythons *p);			/* owned by the caller */
int pythons_find (const struct pythons *p, uint16_t version);	/* index, -1 = none */
void pythons_fini (struct pythons *p);

#endif
