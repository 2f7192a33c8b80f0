/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent asks of weft-service: to be registered, and where its forwarder is. It asks for ever, with back-off.
 *
 *     REGISTER  POST /v3/endpoints, or PUT with the id it got   200 -> ASK; 404 -> POST anew
 *     ASK       GET .../forwarder?wait=30                        200 -> IDLE; 404 -> REGISTER; not yet -> ASK
 *     IDLE      service_ask -> ASK; service_register -> REGISTER */
#ifndef ENDPOINT_SERVICE_H
#define ENDPOINT_SERVICE_H
#include "common/conf.h"
#include "common/ids.h"
#include "common/loop.h"
#include <jansson.h>

struct identity {		/* endpoint.json: what the service said last */
	bool known;
	struct id id;
	char service_url[1024], address[256], server_key[48];
};
int identity_load (struct identity *i, const char *path, struct err *err);	/* a missing file is fine: not known */
int identity_save (const struct identity *i, const char *path, struct err *err);

struct service_ops {
	void (*registered) (const struct id *id, void *arg);
	void (*forwarder) (const char *address, const char *server_key, int64_t heartbeat_ms, void *arg);
	/* refused: asking again will not help until somebody changes something */
	void (*failed) (const struct err *err, bool refused, void *arg);
	void *arg;
};
struct service_opts {
	const char *url, *token, *ca_file;	/* copied */
	const char *identity_path;		/* copied */
	const char *name, *public_key;		/* copied */
	const struct conf_list *allowed_functions;	/* borrowed */
	json_t *more;				/* of the metadata; NULL = nothing; a reference is kept */
	struct service_ops ops;
};
struct service;
struct service *service_create (struct loop *l, const struct service_opts *o, struct err *err);
void service_destroy (struct service **s);
const struct identity *service_identity (const struct service *s);
void service_register (struct service *s);	/* start, or again: the forwarder does not know our key */
void service_changed (struct service *s);	/* the metadata: tell it again */
void service_ask (struct service *s);		/* where is the forwarder now? */

/* For commands: the body of a registration, owned by the caller; what a failed call says, as an error. */
char *service_registration (const char *name, const char *public_key, const struct conf_list *allowed_functions, json_t *more);
int service_error (int status, const char *body, size_t n, const char *url, const struct err *cause, struct err *err);

#endif
