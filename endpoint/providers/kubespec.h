/* SPDX-License-Identifier: Apache-2.0 */
/* The objects of a block, made from the configuration: a Deployment of n pods, each with one weft-manager, and a Secret with the key that
 * they use with the agent. The Deployment is made without pods, then the Secret that it owns, then it is scaled to n: wherever the agent
 * dies, deleting the Deployment removes all of it.
 *
 * In a block for an image that functions name, a pod's container has that image, and weft-manager comes into it as a bundle that runs in any
 * image (manager/bundle.c): an init container with the configured image makes it in a volume of the pod.
 *
 *     name                  weft-<endpoint>-<tag>-<block>; tag: from the endpoint's public key
 *     label weft/endpoint   <endpoint>-<tag>, of all objects of an endpoint
 *     label weft/block      <block>
 *     annotation weft/run   of this run of the agent: another one's is what a killed agent left; part of the Secret's name as well */
#ifndef ENDPOINT_PROVIDERS_KUBESPEC_H
#define ENDPOINT_PROVIDERS_KUBESPEC_H
#include "common/conf.h"
#include <jansson.h>

#define KUBESPEC_ENDPOINT "weft/endpoint"
#define KUBESPEC_BLOCK "weft/block"
#define KUBESPEC_RUN "weft/run"
#define KUBESPEC_WORKER "worker"	/* the container that weft-manager runs in */
enum { KUBESPEC_NAME = 64 };

struct kubespec_conf {
	char *kubeconfig, *context, *namespace_;
	char *image, *image_pull_secret;
	int64_t image_pull_policy;
	char *cpu_request, *cpu_limit, *memory_request, *memory_limit;
	struct conf_list extra_resources, node_selector, tolerations, volumes, pod_labels, pod_annotations;
	char *service_account, *priority_class, *manager;
	int64_t run_as_user;		/* -1 = the image's */
	bool host_network;
	int64_t start_deadline_ms, max_pod_failures;
};

/* What a block's objects are made from; all borrowed. */
struct kubespec {
	const struct kubespec_conf *conf;
	const char *endpoint;		/* the label */
	const char *run;
	const char *block;
	const char *image;		/* that functions name; NULL = the configured one */
	unsigned pods;
	const char *const *argv;	/* of weft-manager on a host; what is another in a pod is replaced */
};

int kubespec_check (const struct kubespec_conf *c, struct err *err);	/* what the table cannot say */
/* The label of all objects of an endpoint. */
void kubespec_endpoint (const char *name, const char *public_key, char out[KUBESPEC_NAME]);
void kubespec_name (const char *endpoint, const char *block, char out[KUBESPEC_NAME]);
/* Workers of one pod: as many as it gets whole processors. */
unsigned kubespec_workers (const struct kubespec_conf *c);

/* Both owned by the caller. replicas: 0 while its Secret is not there. */
json_t *kubespec_deployment (const struct kubespec *s, unsigned replicas);
/* key: of the managers, in Z85. owner_uid: of the Deployment; NULL = not known yet (for people to look at). */
json_t *kubespec_secret (const struct kubespec *s, const char *key, const char *owner_uid);

#endif
