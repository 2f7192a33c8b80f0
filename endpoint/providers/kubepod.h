/* SPDX-License-Identifier: Apache-2.0 */
/* What a pod or a Deployment says of itself, read from its JSON, in the cluster's own words. `phase` says little: see the table in
 * kubepod.c. */
#ifndef ENDPOINT_PROVIDERS_KUBEPOD_H
#define ENDPOINT_PROVIDERS_KUBEPOD_H
#include <jansson.h>
#include <stdbool.h>

enum kubepod_state {
	KUBEPOD_WAITING,	/* not placed, pulling, being made */
	KUBEPOD_RUNNING,
	KUBEPOD_DEAD,		/* its container has ended and is not running now */
	KUBEPOD_LEAVING,	/* it has a deletionTimestamp */
};
struct kubepod {
	enum kubepod_state state;
	bool bad;		/* text is a complaint */
	bool hopeless;		/* waiting does not help: no such image name, none of it in the registry, an image that may not be pulled */
	bool no_image;		/* the complaint: its image cannot be had; not an init container's, which has another */
	long restarts;
	char name[254], uid[64], block[64];
	char container[64];	/* whose complaint it is; "" = no container's */
	char text[400];		/* "ErrImagePull: ..."; "" when there is nothing to tell */
};

/* label: the key of the label that names the block. Returns -1: not a pod. */
int kubepod_read (const json_t *pod, const char *label, struct kubepod *out);
/* Why a Deployment makes no pods: "FailedCreate: pods "x" is forbidden: exceeded quota ..."; "" when it does. */
void kubepod_deployment (const json_t *d, char out[400]);

#endif
