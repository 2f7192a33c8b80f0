/* SPDX-License-Identifier: Apache-2.0 */
/* Which service a command talks to, and as whom. Where it is said, the first that says it:
 *
 *     --profile NAME or --state DIR    that login, or the fabric of that `weft up`
 *     WEFT_PROFILE
 *     WEFT_URL, WEFT_TOKEN             what one of them leaves open comes from what follows
 *     the profile of the last `weft login`
 *     the fabric of `weft up` in the default state directory
 *
 * --url and --token-file stand above all of it. A stored token is sent to the URL that it was stored with, and nowhere else. */
#ifndef CLIENT_TARGET_H
#define CLIENT_TARGET_H
#include "client/profile.h"

struct api_opts;
struct target {
	struct profile p;		/* what was found; token NULL: err of target_find says what to do */
	char *from;			/* for people: "profile lab", "the environment"; owned */
	char *state;			/* directory of the `weft up` that it is; owned, else NULL */
	char *stored;			/* name of the profile file, when its token can be made anew; owned, else NULL */
};

/* Remembered for the process after the first call. NULL with *err. */
struct target *target_find (const struct api_opts *o, struct err *err);
/* A new token for a target with client id and secret, stored when it came from a profile. */
int target_renew (struct target *t, struct err *err);
/* Ask the token route of p->url; sets token and expires_s. */
int target_grant (struct profile *p, struct err *err);
void target_trim_url (char *url);	/* takes slashes off its end; NULL: nothing */
char *target_state_dir (const char *given);	/* of `weft up`: given, else the default; owned */

#endif
