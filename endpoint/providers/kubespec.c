/* SPDX-License-Identifier: Apache-2.0 */
/* See kubespec.h. */
#include "endpoint/providers/kubespec.h"
#include "common/base64.h"
#include "common/digest.h"
#include "common/xmem.h"

#include <stdlib.h>
#include <string.h>

enum { TAG = 8, NAME_PART = 20, GRACE_S = 15 };
#define KEY_ENV "WEFT_MANAGER_KEY"
#define POD_ENV "WEFT_POD"
#define WORK_DIR "/var/lib/weft"
#define BUNDLE_DIR "/opt/weft"

/* ---- the small languages of the configuration ---------------------------------------------------------------- */

static const char *const lower = "abcdefghijklmnopqrstuvwxyz0123456789-";

/* A name of an object: RFC 1123, dots allowed. */
static bool is_name (const char *s, size_t n)
{
	if (!n || n > 253 || s[0] == '-' || s[n - 1] == '-')
		return false;
	for (size_t i = 0; i < n; i++)
		if (!s[i] || (s[i] != '.' && !strchr (lower, s[i])))
			return false;
	return true;
}

/* "500m" "0.5" "2" "1500Mi" "2Gi" "1e3" */
static bool is_quantity (const char *s)
{
	size_t digits = strspn (s, "0123456789."), suffix;

	if (!digits || s[0] == '.')
		return false;
	s += digits;
	suffix = strlen (s);
	if (*s == 'e' && suffix > 1)
		return !s[1 + strspn (s + 1, "0123456789")];
	return !suffix || (suffix == 1 && strchr ("mkMGTPE", *s)) || (suffix == 2 && strchr ("KMGTPE", *s) && s[1] == 'i');
}

/* KEY, KEY=VALUE, either with :EFFECT; "*" tolerates everything. NULL: it is none of these. */
static json_t *toleration (const char *text)
{
	const char *colon = strrchr (text, ':'), *effect = colon ? colon + 1 : "", *end = colon ? colon : text + strlen (text);
	const char *equals = memchr (text, '=', (size_t) (end - text)), *key_end = equals ? equals : end;
	json_t *t = json_object ();

	if (strcmp (text, "*") == 0) {
		json_object_set_new (t, "operator", json_string ("Exists"));
		return t;
	}
	if (key_end == text || (colon && strcmp (effect, "NoSchedule") != 0 && strcmp (effect, "PreferNoSchedule") != 0
				&& strcmp (effect, "NoExecute") != 0)) {
		json_decref (t);
		return NULL;
	}
	json_object_set_new (t, "key", json_stringn (text, (size_t) (key_end - text)));
	json_object_set_new (t, "operator", json_string (equals ? "Equal" : "Exists"));
	if (equals)
		json_object_set_new (t, "value", json_stringn (equals + 1, (size_t) (end - equals - 1)));
	if (colon)
		json_object_set_new (t, "effect", json_string (effect));
	return t;
}

/* KIND=SOURCE:/MOUNT[:ro] as a volume and its mount. -1: it is none. */
static int volume (const char *text, size_t number, json_t **out_volume, json_t **out_mount)
{
	const char *equals = strchr (text, '='), *colon = equals ? strstr (equals, ":/") : NULL, *end = text + strlen (text);
	bool ro = end - text > 3 && strcmp (end - 3, ":ro") == 0;
	char name[32], *source, *mount;
	json_t *v = NULL;

	if (!equals || !colon || colon == equals + 1)
		return -1;
	source = xasprintf ("%.*s", (int) (colon - equals - 1), equals + 1);
	mount = xasprintf ("%.*s", (int) (end - colon - 1 - (ro ? 3 : 0)), colon + 1);
	snprintf (name, sizeof (name), "volume-%zu", number);
	if (strncmp (text, "claim=", 6) == 0 && is_name (source, strlen (source)))
		v = json_pack ("{s:s, s:{s:s}}", "name", name, "persistentVolumeClaim", "claimName", source);
	else if (strncmp (text, "configMap=", 10) == 0 && is_name (source, strlen (source)))
		v = json_pack ("{s:s, s:{s:s}}", "name", name, "configMap", "name", source);
	else if (strncmp (text, "secret=", 7) == 0 && is_name (source, strlen (source)))
		v = json_pack ("{s:s, s:{s:s}}", "name", name, "secret", "secretName", source);
	else if (strncmp (text, "hostPath=", 9) == 0 && *source == '/')
		v = json_pack ("{s:s, s:{s:s}}", "name", name, "hostPath", "path", source);
	else if (strncmp (text, "emptyDir=", 9) == 0 && is_quantity (source))
		v = json_pack ("{s:s, s:{s:s}}", "name", name, "emptyDir", "sizeLimit", source);
	if (v && strchr (mount, ':')) {
		json_decref (v);
		v = NULL;
	}
	if (v) {
		*out_volume = v;
		*out_mount = json_pack ("{s:s, s:s}", "name", name, "mountPath", mount);
		if (ro)
			json_object_set_new (*out_mount, "readOnly", json_true ());
	}
	free (source);
	free (mount);
	return v ? 0 : -1;
}

static int bad (struct err *err, const char *key, const char *value, const char *expected)
{
	return err_set (err, ERR_INVALID, FAULT_USER, "provider.kubernetes.%s: expected %s, got \"%.100s\"", key, expected, value);
}

static int check_lists (const struct kubespec_conf *c, struct err *err)
{
	json_t *v, *m;

	for (size_t i = 0; i < c->tolerations.n; i++) {
		if (!(v = toleration (c->tolerations.v[i])))
			return bad (err, "tolerations", c->tolerations.v[i], "KEY[=VALUE][:NoSchedule|PreferNoSchedule|NoExecute], or *");
		json_decref (v);
	}
	for (size_t i = 0; i < c->volumes.n; i++) {
		if (volume (c->volumes.v[i], i, &v, &m) < 0)
			return bad (err, "volumes", c->volumes.v[i],
				    "claim=NAME, configMap=NAME, secret=NAME, hostPath=/DIR or emptyDir=SIZE, then :/MOUNT and perhaps :ro");
		json_decref (v);
		json_decref (m);
	}
	for (size_t i = 1; i < c->extra_resources.n; i += 2)
		if (!is_quantity (c->extra_resources.v[i]))
			return bad (err, "extra_resources", c->extra_resources.v[i], "an amount such as 1 or 2Gi");
	return 0;
}

int kubespec_check (const struct kubespec_conf *c, struct err *err)
{
	const struct { const char *key, *value; } amounts[] = {
		{ "cpu_request", c->cpu_request }, { "cpu_limit", c->cpu_limit }, { "memory_request", c->memory_request },
		{ "memory_limit", c->memory_limit },
	}, names[] = {
		{ "namespace", c->namespace_ }, { "image_pull_secret", c->image_pull_secret }, { "service_account", c->service_account },
		{ "priority_class", c->priority_class },
	};

	if (!c->image || !*c->image)
		return err_set (err, ERR_INVALID, FAULT_USER, "provider.kubernetes.image is needed: the image that weft-manager and weft-worker are in");
	for (size_t i = 0; i < sizeof (amounts) / sizeof (amounts[0]); i++)
		if (amounts[i].value && *amounts[i].value && !is_quantity (amounts[i].value))
			return bad (err, amounts[i].key, amounts[i].value, "an amount such as 500m, 2 or 1500Mi");
	for (size_t i = 0; i < sizeof (names) / sizeof (names[0]); i++)
		if (names[i].value && *names[i].value && !is_name (names[i].value, strlen (names[i].value)))
			return bad (err, names[i].key, names[i].value, "lower case letters, digits and '-'");
	return check_lists (c, err);
}

unsigned kubespec_workers (const struct kubespec_conf *c)
{
	const char *text = c->cpu_limit && *c->cpu_limit ? c->cpu_limit : c->cpu_request && *c->cpu_request ? c->cpu_request : "1";
	double n = strtod (text, NULL);

	if (strchr (text, 'm'))
		n /= 1000;
	return n < 1 ? 1 : n > 4096 ? 4096 : (unsigned) n;
}

/* ---- names --------------------------------------------------------------------------------------------------- */

void kubespec_endpoint (const char *name, const char *public_key, char out[KUBESPEC_NAME])
{
	char hex[41], part[NAME_PART + 1];
	size_t n = 0;

	for (const char *p = name; *p && n < NAME_PART; p++) {
		char c = *p >= 'A' && *p <= 'Z' ? (char) (*p - 'A' + 'a') : *p;
		if (!strchr (lower, c))
			c = '-';
		if (c != '-' || n)
			part[n++] = c;
	}
	while (n && part[n - 1] == '-')
		n--;
	part[n] = 0;
	digest_sha1_hex (public_key, strlen (public_key), hex);
	snprintf (out, KUBESPEC_NAME, "%s%s%.*s", part, n ? "-" : "", TAG, hex);
}

void kubespec_name (const char *endpoint, const char *block, char out[KUBESPEC_NAME])
{
	snprintf (out, KUBESPEC_NAME, "weft-%.40s-%.16s", endpoint, block);
}

/* Another one for each run: one that is there already is then the right one. */
static void secret_name (const struct kubespec *s, char out[2 * KUBESPEC_NAME])
{
	char name[KUBESPEC_NAME];

	kubespec_name (s->endpoint, s->block, name);
	snprintf (out, 2 * KUBESPEC_NAME, "%s-%.16s", name, s->run);
}

static json_t *metadata (const struct kubespec *s)
{
	char name[KUBESPEC_NAME];

	kubespec_name (s->endpoint, s->block, name);
	return json_pack ("{s:s, s:{s:s, s:s, s:s}, s:{s:s}}", "name", name, "labels", "app.kubernetes.io/managed-by", "weft-endpoint",
			  KUBESPEC_ENDPOINT, s->endpoint, KUBESPEC_BLOCK, s->block, "annotations", KUBESPEC_RUN, s->run);
}

/* ---- the pod ------------------------------------------------------------------------------------------------- */

/* A dollar sign would begin the name of a variable for the kubelet; keys have them. */
static json_t *literal (const char *s)
{
	struct buf b;
	json_t *j;

	buf_init (&b, 0);
	for (; *s; s++)
		buf_str (&b, *s == '$' ? "$$" : (char[]) { *s, 0 });
	j = json_stringn (b.data ? (const char *) b.data : "", b.len);
	buf_fini (&b);
	return j;
}

static void add (json_t *list, const char *option, const char *value)
{
	json_array_append_new (list, json_string (option));
	json_array_append_new (list, json_string (value));
}

/* The command of a host becomes that of a pod: its own program, directory and name; the key comes from the environment. Which interpreters
 * an image of functions has, nobody knows: its python3 is taken. */
static json_t *command (const struct kubespec *s)
{
	static const char *const not_here[] = { "--node", "--dir", "--key-file", "--worker-bin", "--parent-pid", "--python" };
	size_t left_out = sizeof (not_here) / sizeof (not_here[0]) - (s->image ? 0 : 1);
	bool has_workers = false, has_key = false;
	json_t *list = json_array ();

	if (s->image) {
		json_array_append_new (list, json_string (BUNDLE_DIR "/ld.so"));
		add (list, "--library-path", BUNDLE_DIR "/lib");
	}
	json_array_append_new (list, s->image ? json_string (BUNDLE_DIR "/weft-manager") : literal (s->conf->manager));
	for (size_t i = 1; s->argv[i] && s->argv[i + 1]; i += 2) {
		bool skip = false;
		has_workers |= strcmp (s->argv[i], "--workers") == 0;
		has_key |= strcmp (s->argv[i], "--key-file") == 0;
		for (size_t k = 0; k < left_out; k++)
			skip |= strcmp (s->argv[i], not_here[k]) == 0;
		for (size_t k = 0; k < 2 && !skip; k++)
			json_array_append_new (list, literal (s->argv[i + k]));
	}
	add (list, "--node", "$(" POD_ENV ")");
	add (list, "--dir", WORK_DIR "/run");
	if (has_key)
		add (list, "--key-env", KEY_ENV);
	if (!has_workers) {
		char n[16];
		snprintf (n, sizeof (n), "%u", kubespec_workers (s->conf));
		add (list, "--workers", n);
	}
	return list;
}

static void put (json_t *o, const char *key, const char *value)
{
	if (value && *value)
		json_object_set_new (o, key, json_string (value));
}

static void put_map (json_t *o, const struct conf_list *l)
{
	for (size_t i = 0; i + 1 < l->n; i += 2)
		json_object_set_new (o, l->v[i], json_string (l->v[i + 1]));
}

static json_t *resources (const struct kubespec_conf *c)
{
	json_t *requests = json_object (), *limits = json_object ();

	put (requests, "cpu", c->cpu_request);
	put (requests, "memory", c->memory_request);
	put (limits, "cpu", c->cpu_limit);
	put (limits, "memory", c->memory_limit);
	put_map (limits, &c->extra_resources);
	return json_pack ("{s:o, s:o}", "requests", requests, "limits", limits);
}

static json_t *some_container (const struct kubespec_conf *c, const char *name, const char *image, json_t *words, json_t *mounts)
{
	static const char *const pull[] = { "IfNotPresent", "Always", "Never" };
	json_t *o = json_pack ("{s:s, s:s, s:s, s:o, s:o, s:o}", "name", name, "image", image, "imagePullPolicy", pull[c->image_pull_policy],
			       "command", words, "resources", resources (c), "volumeMounts", mounts);

	json_object_set_new (o, "securityContext", json_pack ("{s:b, s:b, s:{s:[s]}}", "allowPrivilegeEscalation", 0, "readOnlyRootFilesystem", 1,
							      "capabilities", "drop", "ALL"));
	return o;
}

static json_t *container (const struct kubespec *s, json_t *mounts)
{
	const struct kubespec_conf *c = s->conf;
	char secret[2 * KUBESPEC_NAME];
	json_t *env, *o;

	secret_name (s, secret);
	env = json_pack ("[{s:s, s:{s:{s:s}}}, {s:s, s:{s:{s:s, s:s}}}]", "name", POD_ENV, "valueFrom", "fieldRef", "fieldPath", "metadata.name",
			 "name", KEY_ENV, "valueFrom", "secretKeyRef", "name", secret, "key", "manager-key");
	o = some_container (c, KUBESPEC_WORKER, s->image ? s->image : c->image, command (s), mounts);
	json_object_set_new (o, "env", env);
	return o;
}

/* What is put into the pod for an image that knows nothing of us. */
static void add_bundle (const struct kubespec *s, json_t *pod, json_t *volumes, json_t *mounts)
{
	json_t *words = json_pack ("[o, s, s]", literal (s->conf->manager), "--make-bundle", BUNDLE_DIR);
	json_t *own = json_pack ("[{s:s, s:s}]", "name", "weft", "mountPath", BUNDLE_DIR);

	json_array_append_new (volumes, json_pack ("{s:s, s:{}}", "name", "weft", "emptyDir"));
	json_array_append_new (mounts, json_pack ("{s:s, s:s, s:b}", "name", "weft", "mountPath", BUNDLE_DIR, "readOnly", 1));
	json_object_set_new (pod, "initContainers", json_pack ("[o]", some_container (s->conf, "weft", s->conf->image, words, own)));
}

static json_t *pod_spec (const struct kubespec *s)
{
	const struct kubespec_conf *c = s->conf;
	json_t *volumes = json_pack ("[{s:s, s:{}}, {s:s, s:{}}]", "name", "work", "emptyDir", "name", "tmp", "emptyDir");
	json_t *mounts = json_pack ("[{s:s, s:s}, {s:s, s:s}]", "name", "work", "mountPath", WORK_DIR, "name", "tmp", "mountPath", "/tmp");
	json_t *o, *list, *v, *m;

	for (size_t i = 0; i < c->volumes.n; i++)
		if (volume (c->volumes.v[i], i, &v, &m) == 0) {
			json_array_append_new (volumes, v);
			json_array_append_new (mounts, m);
		}
	o = json_pack ("{s:[o], s:o, s:i, s:b, s:b}", "containers", container (s, mounts), "volumes", volumes, "terminationGracePeriodSeconds", GRACE_S,
		       "enableServiceLinks", 0, "automountServiceAccountToken", c->service_account && *c->service_account ? 1 : 0);
	if (s->image)
		add_bundle (s, o, volumes, mounts);
	put (o, "serviceAccountName", c->service_account);
	put (o, "priorityClassName", c->priority_class);
	if (c->host_network) {
		json_object_set_new (o, "hostNetwork", json_true ());
		json_object_set_new (o, "dnsPolicy", json_string ("ClusterFirstWithHostNet"));
	}
	if (c->image_pull_secret && *c->image_pull_secret)
		json_object_set_new (o, "imagePullSecrets", json_pack ("[{s:s}]", "name", c->image_pull_secret));
	if (c->run_as_user >= 0)
		json_object_set_new (o, "securityContext", json_pack ("{s:I, s:I}", "runAsUser", (json_int_t) c->run_as_user, "fsGroup",
								      (json_int_t) c->run_as_user));
	if (c->node_selector.n) {
		json_object_set_new (o, "nodeSelector", json_object ());
		put_map (json_object_get (o, "nodeSelector"), &c->node_selector);
	}
	list = json_array ();
	for (size_t i = 0; i < c->tolerations.n; i++)
		json_array_append_new (list, toleration (c->tolerations.v[i]));
	json_object_set_new (o, "tolerations", list);
	return o;
}

/* The pods' own labels are the configuration's too, but those that select them are ours. */
static json_t *pod_metadata (const struct kubespec *s)
{
	json_t *meta = metadata (s), *labels = json_object (), *ours = json_object_get (meta, "labels");

	json_object_del (meta, "name");
	put_map (labels, &s->conf->pod_labels);
	json_object_update (labels, ours);
	json_object_set_new (meta, "labels", labels);
	put_map (json_object_get (meta, "annotations"), &s->conf->pod_annotations);
	return meta;
}

json_t *kubespec_deployment (const struct kubespec *s, unsigned replicas)
{
	json_t *selector = json_pack ("{s:{s:s, s:s}}", "matchLabels", KUBESPEC_ENDPOINT, s->endpoint, KUBESPEC_BLOCK, s->block);

	return json_pack ("{s:s, s:s, s:o, s:{s:i, s:o, s:{s:s}, s:i, s:{s:o, s:o}}}", "apiVersion", "apps/v1", "kind", "Deployment", "metadata",
			  metadata (s), "spec", "replicas", (int) replicas, "selector", selector, "strategy", "type", "Recreate",
			  "revisionHistoryLimit", 0, "template", "metadata", pod_metadata (s), "spec", pod_spec (s));
}

json_t *kubespec_secret (const struct kubespec *s, const char *key, const char *owner_uid)
{
	json_t *meta = metadata (s), *o;
	char name[2 * KUBESPEC_NAME];
	struct buf data;

	if (owner_uid)
		json_object_set_new (meta, "ownerReferences",
				     json_pack ("[{s:s, s:s, s:O, s:s}]", "apiVersion", "apps/v1", "kind", "Deployment", "name",
						json_object_get (meta, "name"), "uid", owner_uid));
	secret_name (s, name);
	json_object_set_new (meta, "name", json_string (name));
	buf_init (&data, 4096);
	base64_encode (&data, key, strlen (key));
	buf_char (&data, 0);
	o = json_pack ("{s:s, s:s, s:o, s:s, s:{s:s}}", "apiVersion", "v1", "kind", "Secret", "metadata", meta, "type", "Opaque", "data",
		       "manager-key", (char *) data.data);
	explicit_bzero (data.data, data.len);
	buf_fini (&data);
	return o;
}
