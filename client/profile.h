/* SPDX-License-Identifier: Apache-2.0 */
/* Services that `weft login` has stored, each in a file of KEY=VALUE lines that only its owner can read:
 *
 *     ~/.weft/profiles/NAME      WEFT_URL WEFT_TOKEN, maybe WEFT_CA_FILE WEFT_ENDPOINT WEFT_CLIENT_ID WEFT_CLIENT_SECRET WEFT_TOKEN_EXPIRES
 *     ~/.weft/profile            the name of the one in use
 *
 * The file `env` in the state directory of `weft up` has the same form. */
#ifndef CLIENT_PROFILE_H
#define CLIENT_PROFILE_H
#include <stddef.h>
#include <stdint.h>
#include "common/err.h"

#define PROFILE_NAME_MAX 64

struct profile {
	char *url, *token, *ca_file, *endpoint, *client_id, *client_secret;	/* all owned; NULL = not said */
	int64_t expires_s;		/* of the token, since 1970; 0 = not known */
};

char *profile_home (void);		/* $WEFT_HOME or ~/.weft; owned */
int profile_check_name (const char *name, struct err *err);
/* ERR_NOT_FOUND when there is no such file. */
int profile_read_file (struct profile *out, const char *path, struct err *err);
int profile_read (struct profile *out, const char *name, struct err *err);
int profile_write (const struct profile *p, const char *name, struct err *err);
int profile_remove (const char *name, struct err *err);
char *profile_current (void);		/* owned; NULL when none is in use */
int profile_use (const char *name, struct err *err);	/* NULL: none */
char **profile_list (size_t *n);	/* sorted; array and names owned */
/* Put a copy of a text there, NULL = nothing; what stood there is overwritten and freed. */
void profile_set (char **at, const char *with);
void profile_fini (struct profile *p);

#endif
