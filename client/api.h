/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of the REST API for the command line: where the service is, who we are, errors as one sentence.
 * Where URL and token come from: target.h. */
#ifndef CLIENT_API_H
#define CLIENT_API_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "common/err.h"

/* Options that every command takes; the first member of each command's option struct. */
struct api_opts {
	const char *url, *token_file, *state, *ca_file, *profile;
	bool json;
};
#define API_OPTS(type) \
	{ "url", 0, CLI_STRING, offsetof (type, api.url), "URL", 0, 0, \
	  "the service; default: WEFT_URL, then the last `weft login`, then the running `weft up`" }, \
	{ "profile", 0, CLI_STRING, offsetof (type, api.profile), "PROFILE", 0, 0, "a login to use; default WEFT_PROFILE, then as for --url" }, \
	{ "token-file", 0, CLI_STRING, offsetof (type, api.token_file), "FILE", 0, 0, \
	  "file with the token; default WEFT_TOKEN, then the one stored with the URL" }, \
	{ "ca-file", 0, CLI_STRING, offsetof (type, api.ca_file), "FILE", 0, 0, "certificates to trust, for https with a private CA" }, \
	{ "state", 0, CLI_STRING, offsetof (type, api.state), "DIR", 0, 0, "the fabric of this `weft up`; default ~/.weft/up, when nothing else is said" }, \
	{ "json", 'j', CLI_FLAG, offsetof (type, api.json), NULL, 0, 0, "print JSON, for programs" }

/* Send a request; body: stolen, may be NULL. Returns the answer (new reference) or NULL with *err. Retries while the service cannot
 * serve and when nothing was stored. wait_s is added to the time limit. */
json_t *api_call (const struct api_opts *o, const char *method, const char *path, json_t *body, double wait_s, struct err *err);
struct api_req {
	const char *method, *path, *body;	/* body: JSON text, may be NULL; all borrowed */
	const char *key;	/* Idempotency-Key; NULL = a new one */
	double wait_s;
	int tries;		/* 0 = 5 */
	bool raw;		/* the answer is bytes: a JSON string of them, whatever they are */
};
json_t *api_send (const struct api_opts *o, const struct api_req *r, struct err *err);
/* The endpoint to use: given, else WEFT_ENDPOINT, else the one of the state directory, else the only one of the user. */
int api_endpoint (const struct api_opts *o, const char *given, char out[37], struct err *err);
/* A function by id, or by name (own functions; the newest of that name). */
int api_function (const struct api_opts *o, const char *given, char out[37], struct err *err);
/* Print the error for a person; returns 1. */
int api_fail (const char *what, const struct err *err);
void api_print_json (const json_t *j);
/* s of seconds-since-1970 text or now: "2031-05-02 10:11:12". out has 32 bytes. */
char *api_time (double unix_s, char out[32]);
const char *api_str (const json_t *obj, const char *key);	/* "" when absent */

#endif
