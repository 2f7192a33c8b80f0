/* SPDX-License-Identifier: Apache-2.0 */
/* CURVE key pairs in files of two lines, "public = " and "secret = ", Z85, mode 0600. */
#ifndef ENDPOINT_KEYS_H
#define ENDPOINT_KEYS_H
#include "common/err.h"

struct keys { char public_key[41], secret_key[41]; };
int keys_new (struct keys *k, struct err *err);
int keys_write (const struct keys *k, const char *path, struct err *err);
int keys_read (struct keys *k, const char *path, struct err *err);	/* refuses a file that others can read */

#endif
