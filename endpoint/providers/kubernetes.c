/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes from Kubernetes: a block is a Deployment of n pods, of the configured image or of one that functions name (kubeblock.c has its life,
 * kubespec.c its objects). Two watches, of the Deployments and the pods with the endpoint's label, tell what became of them; between requests
 * nothing is asked.
 *
 * Whatever has the label and is of no block in hand was left by a killed agent, and is deleted. While the API server is away, what runs
 * runs on: managers talk to the agent, not to the server. */
#include "common/hex.h"
#include "common/clock.h"
#include "common/ids.h"
#include "common/log.h"
#include "common/xmem.h"
#include "endpoint/keys.h"
#include "endpoint/providers/kubeapi.h"
#include "endpoint/providers/kubeblock.h"
#include "endpoint/providers/kubeconf.h"
#include "endpoint/providers/kubedoctor.h"
#include "endpoint/providers/kubewatch.h"
#include "endpoint/providers/provider.h"

#include <stdlib.h>
#include <string.h>

enum { LAST_CALL_MS = 3000 };

#define AT(f) offsetof (struct kubespec_conf, f)
#define KEY(name, type, field, def, min, max, choices, help) { "provider.kubernetes." name, type, AT (field), def, min, max, choices, false, help }
#define MIN_MS 60000LL

static const struct conf_key keys[] = {
	KEY ("kubeconfig", CONF_PATH, kubeconfig, NULL, 0, 0, NULL,
	     "File that says where the API server is, and who we are there; only its owner may be able to read it. Not set: the service account "
	     "when the agent runs in a pod, else $KUBECONFIG, else ~/.kube/config."),
	KEY ("context", CONF_STRING, context, NULL, 0, 253, NULL, "Context of the kubeconfig; its current one when not set."),
	KEY ("namespace", CONF_STRING, namespace_, NULL, 0, 63, NULL, "Namespace of all objects; the context's, else default, when not set."),
	KEY ("image", CONF_STRING, image, NULL, 0, 1000, NULL,
	     "Image of the pods, with weft-manager and weft-worker in it; needed. Functions that name an image get pods of that one, into which this one "
	     "brings both. Results of memoised functions are kept only when their image is named by its digest: NAME@sha256:HEX."),
	KEY ("image_pull_policy", CONF_ENUM, image_pull_policy, "IfNotPresent", 0, 0, "IfNotPresent Always Never", "When nodes fetch the image."),
	KEY ("image_pull_secret", CONF_STRING, image_pull_secret, NULL, 0, 253, NULL, "Secret with the registry's credentials."),
	KEY ("manager", CONF_STRING, manager, "weft-manager", 0, 4000, NULL, "The program in the image, a path or a name on its PATH."),
	KEY ("cpu_request", CONF_STRING, cpu_request, "1", 0, 32, NULL, "Processors that a pod asks for: 2, 500m."),
	KEY ("cpu_limit", CONF_STRING, cpu_limit, NULL, 0, 32, NULL, "Processors that a pod gets at most; no limit when not set."),
	KEY ("memory_request", CONF_STRING, memory_request, "1Gi", 0, 32, NULL, "Memory that a pod asks for: 512Mi, 4Gi."),
	KEY ("memory_limit", CONF_STRING, memory_limit, NULL, 0, 32, NULL, "Memory over which a pod is killed; no limit when not set."),
	KEY ("extra_resources", CONF_STRING_MAP, extra_resources, NULL, 0, 0, NULL, "Further limits, such as {nvidia.com/gpu: \"1\"}."),
	KEY ("node_selector", CONF_STRING_MAP, node_selector, NULL, 0, 0, NULL, "Labels of the nodes that pods may run on."),
	KEY ("tolerations", CONF_STRING_LIST, tolerations, NULL, 0, 0, NULL,
	     "Taints that do not matter: KEY[=VALUE][:EFFECT], as kubectl taint writes them; * for all."),
	KEY ("volumes", CONF_STRING_LIST, volumes, NULL, 0, 0, NULL,
	     "claim=NAME:/MOUNT, configMap=NAME:/MOUNT, secret=NAME:/MOUNT, hostPath=/DIR:/MOUNT or emptyDir=SIZE:/MOUNT, each with :ro where wanted."),
	KEY ("service_account", CONF_STRING, service_account, NULL, 0, 253, NULL,
	     "Service account of the pods, with its token; not set: the default one, without a token."),
	KEY ("priority_class", CONF_STRING, priority_class, NULL, 0, 253, NULL, "Priority class of the pods."),
	KEY ("run_as_user", CONF_INT, run_as_user, "-1", -1, 2147483647, NULL, "User number in the pods; -1 = the image's."),
	KEY ("host_network", CONF_BOOL, host_network, "false", 0, 0, NULL, "Pods use their node's network."),
	KEY ("pod_labels", CONF_STRING_MAP, pod_labels, NULL, 0, 0, NULL, "Further labels of the pods."),
	KEY ("pod_annotations", CONF_STRING_MAP, pod_annotations, NULL, 0, 0, NULL, "Annotations of the pods."),
	KEY ("start_deadline", CONF_DURATION_MS, start_deadline_ms, "10m", 1000, 7 * 24 * 60 * MIN_MS, NULL,
	     "A block without a running pod for this long is given up: images that cannot be pulled, nodes that are full, quotas."),
	KEY ("max_pod_failures", CONF_INT, max_pod_failures, "5", 0, 10000, NULL,
	     "How often pods of a block may fail within an hour before it is given up."),
	CONF_END
};

struct block { struct kubeblock *k; struct block *next; bool seen; };
struct kube {
	struct provider_env env;
	const struct kubespec_conf *conf;
	struct kubeconf access;
	struct kubeapi *api;
	struct kubewatch *pods, *deployments;
	struct block *blocks;
	char endpoint[KUBESPEC_NAME], run[16];
	const char *namespace_;
	char trouble[2][500];		/* of the watches: deployments, pods */
	char said[800];
	bool left;			/* a Deployment could not be deleted */
};

/* ---- blocks -------------------------------------------------------------------------------------------------- */

static struct block **find (struct kube *k, const char *id)
{
	struct block **b = &k->blocks;

	while (*b && strcmp (kubeblock_id ((*b)->k), id) != 0)
		b = &(*b)->next;
	return b;
}

static void on_block (struct kubeblock *kb, enum provider_state state, bool failed, const char *text, void *arg)
{
	struct kube *k = arg;
	struct block **at = find (k, kubeblock_id (kb)), *b = *at;
	char id[32], why[700];

	if (state < PROVIDER_ENDED) {
		k->env.on_block (kubeblock_id (kb), state, failed, text, k->env.arg);
		return;
	}
	snprintf (id, sizeof (id), "%s", kubeblock_id (kb));
	snprintf (why, sizeof (why), "%s", text);
	k->left |= kubeblock_left (kb);
	*at = b->next;
	kubeblock_destroy (&b->k);
	free (b);
	k->env.on_block (id, state, failed, why, k->env.arg);
}

/* The managers' key is in a file of the agent's, which their command line names. */
static int read_key (const char *const *argv, struct keys *keys_out, struct err *err)
{
	for (size_t i = 1; argv[i] && argv[i + 1]; i++)
		if (strcmp (argv[i], "--key-file") == 0)
			return keys_read (keys_out, argv[i + 1], err);
	return err_set (err, ERR_INVALID, FAULT_USER, "provider kubernetes needs manager_transport: tcp");
}

static int kube_submit (void *self, const struct provider_block *pb, struct err *err)
{
	struct kube *k = self;
	struct kubespec s = { .conf = k->conf, .endpoint = k->endpoint, .run = k->run, .block = pb->id, .image = pb->image, .pods = pb->nodes,
			      .argv = pb->argv[0] };
	struct kubeblock_opts o = { .loop = k->env.loop, .api = k->api, .spec = &s, .namespace_ = k->namespace_, .log_dir = pb->log_dir,
				    .on = on_block, .arg = k };
	struct keys key;
	struct block *b;

	if (read_key (pb->argv[0], &key, err) < 0)
		return -1;
	o.key = key.secret_key;
	b = xcalloc (1, sizeof (*b));
	b->k = kubeblock_create (&o);
	explicit_bzero (&key, sizeof (key));
	b->next = k->blocks;
	k->blocks = b;
	return 0;
}

static void kube_cancel (void *self, const char *block_id, int64_t grace_ms)
{
	struct block *b = *find (self, block_id);

	if (b)
		kubeblock_cancel (b->k, grace_ms);
}

static void kube_poll (void *self)
{
	struct kube *k = self;

	for (struct block *b = k->blocks; b; b = b->next)
		kubeblock_tick (b->k);
}

static void kube_job (void *self, const char *block_id, struct buf *out)
{
	struct block *b = *find (self, block_id);

	if (b)
		kubeblock_job (b->k, out);
}

/* ---- the watch of pods --------------------------------------------------------------------------------------- */

static void pods_begin (void *arg)
{
	struct kube *k = arg;

	for (struct block *b = k->blocks; b; b = b->next)
		kubeblock_pods_mark (b->k);
}

static void pods_object (const json_t *o, bool deleted, void *arg)
{
	struct kube *k = arg;
	struct kubepod p;
	struct block *b;

	if (kubepod_read (o, KUBESPEC_BLOCK, &p) < 0 || !(b = *find (k, p.block)))
		return;
	/* another run's block of the same name: its pods go with it */
	if (strcmp (kubeapi_text (kubeapi_get (o, "metadata", "annotations", NULL), KUBESPEC_RUN), k->run) != 0)
		return;
	if (deleted)
		kubeblock_pod_gone (b->k, p.uid);
	else
		kubeblock_pod (b->k, &p);
}

static void pods_end (void *arg)
{
	struct kube *k = arg;

	for (struct block *b = k->blocks; b; b = b->next)
		kubeblock_pods_sweep (b->k);
}

static void set_trouble (struct kube *k, int which, const char *what, const char *why)
{
	bool known = *k->trouble[which];

	if (*why)
		snprintf (k->trouble[which], sizeof (k->trouble[0]), "%s cannot be watched: %.420s", what, why);
	else
		*k->trouble[which] = 0;
	if (*why && !known)
		log_warn ("kubernetes", "no view of the cluster", "server=%s namespace=%s reason=%s", k->access.server, k->namespace_, k->trouble[which]);
	else if (!*why)
		log_info ("kubernetes", "the cluster is seen again", "server=%s what=%s", k->access.server, what);
}

static void pods_trouble (const char *why, void *arg)
{
	set_trouble (arg, 1, "pods", why);
}

/* ---- the watch of Deployments -------------------------------------------------------------------------------- */

static void on_left_deleted (int status, const char *body, size_t n, const char *why, void *arg)
{
	(void) body;
	(void) n;
	(void) arg;
	if (status / 100 != 2 && status != 404)
		log_warn ("kubernetes", "cannot delete what an earlier run left", "reason=%s", why);
}

static void delete_left (struct kube *k, const json_t *d)
{
	const json_t *meta = kubeapi_get (d, "metadata", NULL);
	char *path = kubeblock_path (k->namespace_, kubeapi_text (meta, "name"), "?propagationPolicy=Background");
	struct kubeapi_args a = { .method = "DELETE", .path = path };

	if (!json_object_get (meta, "deletionTimestamp")) {
		log_info ("kubernetes", "deleting what an earlier run left", "deployment=%s", kubeapi_text (meta, "name"));
		kubeapi_start (k->api, &a, on_left_deleted, NULL);
	}
	free (path);
}

static void deployments_begin (void *arg)
{
	struct kube *k = arg;

	for (struct block *b = k->blocks; b; b = b->next)
		b->seen = false;
}

static void deployments_object (const json_t *d, bool deleted, void *arg)
{
	struct kube *k = arg;
	const json_t *meta = kubeapi_get (d, "metadata", NULL);
	struct block *b = *find (k, kubeapi_text (json_object_get (meta, "labels"), KUBESPEC_BLOCK));
	bool ours = strcmp (kubeapi_text (json_object_get (meta, "annotations"), KUBESPEC_RUN), k->run) == 0;

	if (b && ours) {
		b->seen = true;
		kubeblock_deployment (b->k, d, deleted);
	} else if (!deleted && *kubeapi_text (meta, "name")) {
		delete_left (k, d);
	}
}

static void deployments_end (void *arg)
{
	struct kube *k = arg;

	for (struct block *b = k->blocks; b; b = b->next)
		if (!b->seen)
			kubeblock_missing (b->k);
}

static void deployments_trouble (const char *why, void *arg)
{
	set_trouble (arg, 0, "Deployments", why);
}

static const struct kubewatch_ops pods_ops = { pods_begin, pods_object, pods_end, pods_trouble };
static const struct kubewatch_ops deployments_ops = { deployments_begin, deployments_object, deployments_end, deployments_trouble };

static const char *kube_trouble (void *self)
{
	struct kube *k = self;
	const char *t = *k->trouble[0] ? k->trouble[0] : k->trouble[1];

	if (!*t)
		return "";
	snprintf (k->said, sizeof (k->said), "Kubernetes (%.200s, namespace %.63s): %.480s; pods that run are used", k->access.server, k->namespace_, t);
	return k->said;
}

/* ---- making and unmaking ------------------------------------------------------------------------------------- */

static void *kube_create (const struct provider_env *env, struct err *err)
{
	struct kube *k = xcalloc (1, sizeof (*k));
	uint8_t random[6];
	char *pods, *deployments, *selector;

	k->env = *env;
	k->conf = env->conf;
	if (kubeconf_load (k->conf->kubeconfig, k->conf->context, &k->access, err) < 0 || !(k->api = kubeapi_create (env->loop, &k->access, err))) {
		kubeconf_fini (&k->access);
		free (k);
		return NULL;
	}
	k->namespace_ = kubedoctor_namespace (k->conf, &k->access);
	kubespec_endpoint (env->endpoint, env->identity, k->endpoint);
	ids_random (random, sizeof (random));
	hex_text (k->run, random, sizeof (random));
	log_info ("kubernetes", "using", "server=%s as=%s namespace=%s label=%s/%s run=%s", k->access.server, k->access.source, k->namespace_,
		  KUBESPEC_ENDPOINT, k->endpoint, k->run);
	pods = xasprintf ("/api/v1/namespaces/%s/pods", k->namespace_);
	deployments = kubeblock_path (k->namespace_, "", "");
	selector = xasprintf ("%s=%s", KUBESPEC_ENDPOINT, k->endpoint);
	k->deployments = kubewatch_create (env->loop, k->api, deployments, selector, &deployments_ops, k);
	k->pods = kubewatch_create (env->loop, k->api, pods, selector, &pods_ops, k);
	free (pods);
	free (deployments);
	free (selector);
	return k;
}

/* The loop is at its end: one request for all that is left, with the little time there is. */
static void delete_all (struct kube *k)
{
	char *selector = xasprintf ("%s=%s", KUBESPEC_ENDPOINT, k->endpoint), *path;
	struct kubeapi_args a = { .method = "DELETE", .timeout_ms = LAST_CALL_MS };
	struct buf query, why;
	int status;

	buf_init (&query, 4096);
	buf_init (&why, 4096);
	buf_str (&query, "?propagationPolicy=Background&labelSelector=");
	kubeapi_escape (&query, selector);
	buf_char (&query, 0);
	path = kubeblock_path (k->namespace_, "", (const char *) query.data);
	a.path = path;
	status = kubeapi_sync (&k->access, &a, NULL, &why);
	if (status / 100 != 2) {
		char *command = xasprintf ("kubectl delete deployments -n %s -l %s", k->namespace_, selector);
		log_error ("kubernetes", "deployments are left behind", "reason=%s remove_with=%s", why.data ? (char *) why.data : "", command);
		free (command);
	}
	buf_fini (&query);
	buf_fini (&why);
	free (path);
	free (selector);
}

static void kube_destroy (void *self)
{
	struct kube *k = self;
	bool left = k->left;

	kubewatch_destroy (&k->pods);
	kubewatch_destroy (&k->deployments);
	while (k->blocks) {
		struct block *b = k->blocks;
		k->blocks = b->next;
		left |= kubeblock_left (b->k);
		kubeblock_destroy (&b->k);
		free (b);
	}
	kubeapi_destroy (&k->api);
	if (left)
		delete_all (k);
	kubeconf_fini (&k->access);
	free (k);
}

static int kube_check (const void *conf, unsigned nodes, struct err *err)
{
	(void) nodes;
	return kubespec_check (conf, err);
}

static unsigned kube_workers (const void *conf)
{
	return kubespec_workers (conf);
}

static void kube_describe (const void *conf, const struct provider_block *pb, struct buf *out)
{
	kubedoctor_render (conf, pb, out);
}

static void kube_doctor (const void *conf, const struct provider_block *pb, struct buf *out)
{
	kubedoctor_run (conf, pb, out);
}

static const char *kube_image (const void *conf)
{
	return ((const struct kubespec_conf *) conf)->image;
}

const struct provider provider_kubernetes = {
	.name = "kubernetes", .help = "pods of a Kubernetes cluster", .keys = keys, .conf_bytes = sizeof (struct kubespec_conf), .images = true,
	.create = kube_create, .destroy = kube_destroy, .submit = kube_submit, .poll = kube_poll, .cancel = kube_cancel, .job = kube_job,
	.trouble = kube_trouble, .check = kube_check, .image = kube_image, .workers = kube_workers, .doctor = kube_doctor, .describe = kube_describe,
};
