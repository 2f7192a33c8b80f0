/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps up with a collection of objects: a list, then a watch from its version on, for as long as it takes.
 *
 *     what happens                          | what follows
 *     the watch ends by itself, or is cut   | a watch from the last version seen
 *     410 Gone, a line that is not an event | a list
 *     no answer, 401, 403, 429, 5xx         | the same again after a pause that doubles, with jitter; `trouble` tells
 *
 * A list replaces everything: `begin`, then `object` for each, then `end`. What was not in it is gone. */
#ifndef ENDPOINT_PROVIDERS_KUBEWATCH_H
#define ENDPOINT_PROVIDERS_KUBEWATCH_H
#include "common/buf.h"
#include "common/loop.h"
#include <jansson.h>
#include <stdbool.h>

struct kubeapi;
struct kubewatch;
struct kubewatch_ops {
	void (*begin) (void *arg);
	void (*object) (const json_t *o, bool deleted, void *arg);	/* o borrowed during the call */
	void (*end) (void *arg);
	void (*trouble) (const char *why, void *arg);			/* "" = it is over */
};

/* path: of the collection; selector: of labels. Both copied. It begins at once. No callback may destroy it. */
struct kubewatch *kubewatch_create (struct loop *l, struct kubeapi *api, const char *path, const char *selector, const struct kubewatch_ops *ops,
				    void *arg);
void kubewatch_destroy (struct kubewatch **w);

/* The parser alone: one line of a watch. */
enum kubewatch_event { KUBEWATCH_BAD, KUBEWATCH_CHANGED, KUBEWATCH_DELETED, KUBEWATCH_BOOKMARK, KUBEWATCH_ERROR };
/* *object: owned by the caller (for KUBEWATCH_BAD NULL); version: of the object, "" when it has none; code: of KUBEWATCH_ERROR. */
enum kubewatch_event kubewatch_parse (const char *line, size_t n, json_t **object, char version[64], int *code);

#endif
