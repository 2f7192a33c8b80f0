/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of the REST API for the command line: where the service is, who we are, errors as one sentence.
 *
 * URL and token come from --url/--token-file, then WEFT_URL/WEFT_TOKEN, then the default state directory of `weft up`. */
#ifndef CLIENT_API_H
#define CLIENT_API_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "common/err.h"

/* Options that every command takes; the first member of each command's option struct. */
struct api_opts {
	const char *url, *token_file, *state, *ca_file;
	bool json;
};
#define API_OPTS(type) \
	{ "url", 0, CLI_STRING, offsetof (type, api.url), "URL", 0, 0, "the service; default WEFT_URL, then the running `weft up`" }, \
	{ "token-file", 0, CLI_STRING, offsetof (type, api.token_file), "FILE", 0, 0, "file with the token; default WEFT_TOKEN" }, \
	{ "ca-file", 0, CLI_STRING, offsetof (type, api.ca_file), "FILE", 0, 0, "certificates to trust, for https with a private CA" }, \
	{ "state", 0, CLI_STRING, offsetof (type, api.state), "DIR", 0, 0, "state directory of `weft up`; default ~/.weft/up" }, \
	{ "json", 'j', CLI_FLAG, offsetof (type, api.json), NULL, 0, 0, "print JSON, for programs" }

/* Send a request; body: stolen, may be NULL. Returns the answer (new reference) or NULL with *err. Retries while the service cannot
 * serve and when nothing was stored. wait_s is added to the time limit. */
json_t *api_call (const struct api_opts *o, const char *method, const char *path, json_t *body, double wait_s, struct err *err);
/* The endpoint to use: given, else WEFT_ENDPOINT, else the one of the state directory, else the only one of the user. */
int api_endpoint (const struct api_opts *o, const char *given, char out[37], struct err *err);
/* A function by id, or by name (own functions; the newest of that name). */
int api_function (const struct api_opts *o, const char *given, char out[37], struct err *err);
/* Print the error for a person; returns 1. */
int api_fail (const char *what, const struct err *err);
void api_print_json (const json_t *j);
/* Value of a key in the env file of the state directory ("WEFT_URL"); owned, or NULL. */
char *api_state_value (const struct api_opts *o, const char *key);
char *api_url (const struct api_opts *o);		/* of the service; owned */
char *api_state_dir (const char *given);		/* owned */
/* s of seconds-since-1970 text or now: "2031-05-02 10:11:12". out has 32 bytes. */
char *api_time (double unix_s, char out[32]);
const char *api_str (const json_t *obj, const char *key);	/* "" when absent */

#endif
