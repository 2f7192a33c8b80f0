/* SPDX-License-Identifier: Apache-2.0 */
/* See kubeconf.h. The YAML becomes a jansson tree first: what reads it is then the same for YAML and JSON, which kubectl writes too. */
#include "endpoint/providers/kubeconf.h"
#include "common/base64.h"
#include "common/conf.h"
#include "common/xmem.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

enum { DEPTH_MAX = 32, NODES_MAX = 100000, FILE_MAX_BYTES = 4 << 20 };
#define POD_DIR "/var/run/secrets/kubernetes.io/serviceaccount"

/* ---- YAML ---------------------------------------------------------------------------------------------------- */

/* left: nodes that may still come, so that aliases of aliases end. NULL = too deep, too many, or no text as a key. */
static json_t *tree (yaml_document_t *doc, int index, int depth, int *left)
{
	yaml_node_t *node = yaml_document_get_node (doc, index);
	json_t *out = NULL, *v;

	if (!node || depth > DEPTH_MAX || --*left < 0)
		return NULL;
	if (node->type == YAML_SCALAR_NODE)
		return json_stringn ((const char *) node->data.scalar.value, node->data.scalar.length);
	if (node->type == YAML_SEQUENCE_NODE) {
		out = json_array ();
		for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++)
			if (!(v = tree (doc, *i, depth + 1, left)) || json_array_append_new (out, v) < 0)
				goto fail;
	} else if (node->type == YAML_MAPPING_NODE) {
		out = json_object ();
		for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
			yaml_node_t *key = yaml_document_get_node (doc, p->key);
			const char *name = key && key->type == YAML_SCALAR_NODE ? (const char *) key->data.scalar.value : NULL;
			if (!name || strlen (name) != key->data.scalar.length || json_object_get (out, name)
			    || !(v = tree (doc, p->value, depth + 1, left)) || json_object_set_new (out, name, v) < 0)
				goto fail;
		}
	}
	return out;
fail:
	json_decref (out);
	return NULL;
}

static json_t *read_yaml (const char *name, const char *text, size_t n, struct err *err)
{
	yaml_parser_t p;
	yaml_document_t doc;
	json_t *out = NULL;
	int left = NODES_MAX;

	if (!yaml_parser_initialize (&p)) {
		err_set (err, ERR_INTERNAL, FAULT_SELF, "reading %s: out of memory", name);
		return NULL;
	}
	yaml_parser_set_input_string (&p, (const unsigned char *) text, n);
	if (!yaml_parser_load (&p, &doc)) {
		err_set (err, ERR_INVALID, FAULT_USER, "%s:%zu: %s", name, p.problem_mark.line + 1, p.problem ? p.problem : "not YAML");
	} else {
		if (yaml_document_get_root_node (&doc) && !(out = tree (&doc, 1, 0, &left)))
			err_set (err, ERR_INVALID, FAULT_USER, "%s: not a kubeconfig: nested too deeply, a key twice, or a value that is not text", name);
		else if (!json_is_object (out)) {
			err_set (err, ERR_INVALID, FAULT_USER, "%s: not a kubeconfig: there is nothing in it", name);
			json_decref (out);
			out = NULL;
		}
		yaml_document_delete (&doc);
	}
	yaml_parser_delete (&p);
	return out;
}

/* ---- files --------------------------------------------------------------------------------------------------- */

static char *read_file (const char *path, struct err *err)
{
	char *text = NULL;
	size_t len = 0;
	ssize_t r = 1;
	int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0 || !(text = malloc (FILE_MAX_BYTES + 1))) {
		err_errno (err, "reading %s", path);
		goto fail;
	}
	while (len < FILE_MAX_BYTES && (r = read (fd, text + len, FILE_MAX_BYTES - len)) != 0) {
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0) {
			err_errno (err, "reading %s", path);
			goto fail;
		}
		len += (size_t) r;
	}
	text[len] = 0;
	if (r || strlen (text) != len) {
		err_set (err, ERR_INVALID, FAULT_SITE, "%s is %s", path, r ? "too large" : "not text");
		goto fail;
	}
	close (fd);
	return text;
fail:
	if (fd >= 0)
		close (fd);
	free (text);
	return NULL;
}

static char *file_path (const char *dir, const char *path)
{
	return *path == '/' || !dir ? xstrdup (path) : xasprintf ("%s/%s", dir, path);
}

/* ---- the parts of a kubeconfig ------------------------------------------------------------------------------- */

struct source { const char *name, *dir; json_t *root; };

static const char *word (const json_t *o, const char *key)
{
	const char *s = json_string_value (json_object_get (o, key));

	return s && *s ? s : NULL;
}

/* The item of a list by its name: {name: N, KIND: {...}}. */
static const json_t *named (const struct source *s, const char *list, const char *kind, const char *name, struct err *err)
{
	json_t *items = json_object_get (s->root, list), *i;
	size_t k;

	json_array_foreach (items, k, i) {
		const char *n = word (i, "name");
		if (n && strcmp (n, name) == 0 && json_is_object (json_object_get (i, kind)))
			return json_object_get (i, kind);
	}
	err_set (err, ERR_INVALID, FAULT_USER, "%s: there is no %s '%.100s' in it", s->name, kind, name);
	return NULL;
}

/* A PEM text: from KEY-data in base64, or from the file that KEY names. 0 with *out NULL: neither. */
static int pem (const struct source *s, const json_t *o, const char *key, const char *data_key, char **out, struct err *err)
{
	const char *data = word (o, data_key), *path = word (o, key);
	struct buf b;
	char *file;

	if (data) {
		buf_init (&b, FILE_MAX_BYTES);
		if (base64_decode (&b, data, strlen (data)) < 0 || !b.len || memchr (b.data, 0, b.len)) {
			buf_fini (&b);
			return err_set (err, ERR_INVALID, FAULT_USER, "%s: %s is not base64 of a PEM text", s->name, data_key);
		}
		buf_char (&b, 0);
		*out = (char *) b.data;
	} else if (path) {
		file = file_path (s->dir, path);
		*out = read_file (file, err);
		free (file);
		if (!*out)
			return err_prefix (err, "%s: %s", s->name, key);
	}
	if (*out && !strstr (*out, "-----BEGIN "))
		return err_set (err, ERR_INVALID, FAULT_USER, "%s: %s is not PEM", s->name, data ? data_key : key);
	return 0;
}

static int set_cluster (const struct source *s, const json_t *c, struct kubeconf *out, struct err *err)
{
	const char *server = word (c, "server"), *insecure = word (c, "insecure-skip-tls-verify");
	size_t n;

	if (!server || strncmp (server, "https://", 8) != 0 || strchr ("/", server[8]) || strpbrk (server, " \t\r\n"))
		return err_set (err, ERR_INVALID, FAULT_USER, "%s: the cluster's server must be an https:// address, got '%.100s'", s->name,
				server ? server : "");
	if (insecure && strcmp (insecure, "true") == 0)
		return err_set (err, ERR_INVALID, FAULT_USER,
				"%s: insecure-skip-tls-verify is refused: give the cluster's authority in certificate-authority", s->name);
	if (word (c, "tls-server-name"))
		return err_set (err, ERR_INVALID, FAULT_USER, "%s: tls-server-name is not supported: use the name in the server's certificate", s->name);
	if (word (c, "proxy-url"))
		return err_set (err, ERR_INVALID, FAULT_USER, "%s: proxy-url is not supported: set HTTPS_PROXY in the agent's environment", s->name);
	out->server = xstrdup (server);
	for (n = strlen (server); n && out->server[n - 1] == '/'; n--)
		out->server[n - 1] = 0;
	return pem (s, c, "certificate-authority", "certificate-authority-data", &out->ca_pem, err);
}

static int set_user (const struct source *s, const char *name, const json_t *u, struct kubeconf *out, struct err *err)
{
	const char *path = word (u, "tokenFile"), *token = word (u, "token");

	if (json_object_get (u, "exec") || json_object_get (u, "auth-provider"))
		return err_set (err, ERR_INVALID, FAULT_USER,
				"%s: user '%.100s' gets its credentials from a program (exec or auth-provider), which is not supported: make a service "
				"account with a token, or a client certificate (docs/providers/kubernetes.md)", s->name, name);
	if (word (u, "username") || word (u, "password"))
		return err_set (err, ERR_INVALID, FAULT_USER, "%s: user '%.100s' has a password, which no API server takes any more: use a token", s->name,
				name);
	if (word (u, "as"))
		return err_set (err, ERR_INVALID, FAULT_USER, "%s: user '%.100s' acts as another (as:), which is not supported", s->name, name);
	if (pem (s, u, "client-certificate", "client-certificate-data", &out->cert_pem, err) < 0
	    || pem (s, u, "client-key", "client-key-data", &out->key_pem, err) < 0)
		return -1;
	if (!out->cert_pem != !out->key_pem)
		return err_set (err, ERR_INVALID, FAULT_USER, "%s: user '%.100s' has a client certificate without its key, or a key without certificate",
				s->name, name);
	if (path)	/* it wins, as with kubectl */
		out->token_file = file_path (s->dir, path);
	else
		out->token = xstrdup (token);
	if (!out->token && !out->token_file && !out->cert_pem)
		return err_set (err, ERR_INVALID, FAULT_USER, "%s: user '%.100s' has neither token nor client certificate", s->name, name);
	if (out->token && strpbrk (out->token, " \t\r\n"))
		return err_set (err, ERR_INVALID, FAULT_USER, "%s: the token of user '%.100s' has blanks in it", s->name, name);
	return 0;
}

static int use_context (const struct source *s, const char *context, struct kubeconf *out, struct err *err)
{
	const json_t *c, *part;
	const char *cluster, *user;

	if (!context && !(context = word (s->root, "current-context")))
		return err_set (err, ERR_INVALID, FAULT_USER, "%s: it has no current-context: name one in provider.kubernetes.context", s->name);
	if (!(c = named (s, "contexts", "context", context, err)))
		return -1;
	cluster = word (c, "cluster");
	user = word (c, "user");
	if (!cluster || !user)
		return err_set (err, ERR_INVALID, FAULT_USER, "%s: context '%.100s' names no %s", s->name, context, cluster ? "user" : "cluster");
	if (!(part = named (s, "clusters", "cluster", cluster, err)) || set_cluster (s, part, out, err) < 0)
		return -1;
	if (!(part = named (s, "users", "user", user, err)) || set_user (s, user, part, out, err) < 0)
		return -1;
	out->namespace_ = xstrdup (word (c, "namespace"));
	out->source = xasprintf ("%s, context %.100s", s->name, context);
	return 0;
}

int kubeconf_parse (const char *name, const char *dir, const char *text, size_t n, const char *context, struct kubeconf *out, struct err *err)
{
	struct source s = { name, dir, NULL };
	int rc;

	memset (out, 0, sizeof (*out));
	if (!(s.root = read_yaml (name, text, n, err)))
		return -1;
	rc = use_context (&s, context && *context ? context : NULL, out, err);
	json_decref (s.root);
	if (rc < 0)
		kubeconf_fini (out);
	return rc;
}

/* ---- where it is --------------------------------------------------------------------------------------------- */

/* WEFT_KUBE_POD_DIR is for tests: where the service account's files are. */
static const char *pod_dir (void)
{
	const char *dir = getenv ("WEFT_KUBE_POD_DIR");

	return dir && *dir ? dir : POD_DIR;
}

static int from_pod (const char *host, const char *port, struct kubeconf *out, struct err *err)
{
	char *ca = xasprintf ("%s/ca.crt", pod_dir ()), *ns = xasprintf ("%s/namespace", pod_dir ());
	int rc = -1;

	memset (out, 0, sizeof (*out));
	out->server = xasprintf (strchr (host, ':') ? "https://[%s]:%s" : "https://%s:%s", host, port);
	out->token_file = xasprintf ("%s/token", pod_dir ());
	out->source = xstrdup ("the service account of this pod");
	if ((out->ca_pem = read_file (ca, err)) && (out->namespace_ = read_file (ns, err))) {
		out->namespace_[strcspn (out->namespace_, "\r\n")] = 0;
		rc = 0;
	}
	free (ca);
	free (ns);
	if (rc < 0) {
		kubeconf_fini (out);
		err_prefix (err, "this pod's service account (is automountServiceAccountToken off?)");
	}
	return rc;
}

static int from_file (const char *path, const char *context, struct kubeconf *out, struct err *err)
{
	char *text = conf_read_secret (path, FILE_MAX_BYTES, err), *dir, *slash;
	int rc;

	memset (out, 0, sizeof (*out));
	if (!text)
		return -1;
	dir = xstrdup (path);
	if ((slash = strrchr (dir, '/')))
		*slash = 0;
	rc = kubeconf_parse (path, slash ? dir : NULL, text, strlen (text), context, out, err);
	explicit_bzero (text, strlen (text));
	free (text);
	free (dir);
	return rc;
}

int kubeconf_load (const char *path, const char *context, struct kubeconf *out, struct err *err)
{
	const char *host = getenv ("KUBERNETES_SERVICE_HOST"), *port = getenv ("KUBERNETES_SERVICE_PORT");
	const char *env = getenv ("KUBECONFIG"), *home = getenv ("HOME");
	char *file;
	int rc;

	if (path && *path)
		return from_file (path, context, out, err);
	if (host && *host && port && *port)
		return from_pod (host, port, out, err);
	if (env && strchr (env, ':')) {
		memset (out, 0, sizeof (*out));
		return err_set (err, ERR_INVALID, FAULT_USER, "KUBECONFIG names several files: name one in provider.kubernetes.kubeconfig");
	}
	file = env && *env ? xstrdup (env) : xasprintf ("%s/.kube/config", home ? home : "");
	rc = from_file (file, context, out, err);
	free (file);
	return rc;
}

char *kubeconf_token (const struct kubeconf *c, struct err *err)
{
	char *t;

	err->code = ERR_NONE;
	if (!c->token_file)
		return xstrdup (c->token);
	if (!(t = read_file (c->token_file, err)))
		return NULL;
	t[strcspn (t, " \t\r\n")] = 0;
	if (*t)
		return t;
	free (t);
	err_set (err, ERR_INVALID, FAULT_SITE, "%s is empty", c->token_file);
	return NULL;
}

static void wipe (char **s)
{
	if (*s)
		explicit_bzero (*s, strlen (*s));
	free (*s);
	*s = NULL;
}

void kubeconf_fini (struct kubeconf *c)
{
	wipe (&c->key_pem);
	wipe (&c->token);
	free (c->server);
	free (c->ca_pem);
	free (c->cert_pem);
	free (c->token_file);
	free (c->namespace_);
	free (c->source);
	memset (c, 0, sizeof (*c));
}
