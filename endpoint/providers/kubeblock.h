/* SPDX-License-Identifier: Apache-2.0 */
/* One block in the cluster: a Deployment, its Secret and its pods, from the first request to the last.
 *
 *     phase     | what is asked                  | answered                                             | then
 *     MAKING    | POST the Deployment, no pods   | 201                                                  | KEYING
 *               |                                | 409: an earlier run's, it is deleted first           | MAKING, after a pause
 *     KEYING    | POST the Secret, owned by it   | 201, 409                                             | SCALING
 *     SCALING   | PATCH its replicas             | 200                                                  | LIVE
 *     LIVE      | nothing; pods are watched      | a budget is spent, it is deleted by others           | TELLING
 *     TELLING   | GET the log of a pod that died | anything                                             | DELETING
 *     DELETING  | DELETE the Deployment          | 200, 404, and its pods are gone or their grace is up | ended
 *
 * No answer, 429 or 5xx, or 403 soon after one of these: the same again after a pause that doubles. Any other refusal ends the block as
 * failed, with the server's words. */
#ifndef ENDPOINT_PROVIDERS_KUBEBLOCK_H
#define ENDPOINT_PROVIDERS_KUBEBLOCK_H
#include "endpoint/providers/kubepod.h"
#include "endpoint/providers/kubespec.h"
#include "endpoint/providers/provider.h"

struct kubeapi;
struct kubeblock;
/* That it ended comes once, never from inside a call of this module; the block may be destroyed by it. */
typedef void kubeblock_f (struct kubeblock *b, enum provider_state state, bool failed, const char *text, void *arg);
struct kubeblock_opts {
	struct loop *loop;
	struct kubeapi *api;
	const struct kubespec *spec;	/* its texts are copied, but conf: borrowed for life */
	const char *namespace_, *log_dir, *key;		/* copied; key: of the managers, in Z85 */
	kubeblock_f *on;
	void *arg;
};

struct kubeblock *kubeblock_create (const struct kubeblock_opts *o);
void kubeblock_destroy (struct kubeblock **b);		/* asks the server for nothing */
const char *kubeblock_id (const struct kubeblock *b);
void kubeblock_cancel (struct kubeblock *b, int64_t grace_ms);
void kubeblock_tick (struct kubeblock *b);		/* now and then: deadlines */
/* What the watches saw. */
void kubeblock_pod (struct kubeblock *b, const struct kubepod *p);
void kubeblock_pod_gone (struct kubeblock *b, const char *uid);
void kubeblock_pods_mark (struct kubeblock *b);		/* a new list begins; at its end those that were not in it are gone */
void kubeblock_pods_sweep (struct kubeblock *b);
void kubeblock_deployment (struct kubeblock *b, const json_t *d, bool deleted);
void kubeblock_missing (struct kubeblock *b);		/* a list lacks it: is it gone? */
bool kubeblock_left (const struct kubeblock *b);	/* there may be something of it in the cluster */
void kubeblock_job (const struct kubeblock *b, struct buf *out);
/* Of a Deployment: "/apis/apps/v1/namespaces/N/deployments/NAME?..." */
char *kubeblock_path (const char *namespace_, const char *name, const char *query);

#endif
