/* SPDX-License-Identifier: Apache-2.0 */
/* See kubedoctor.h. */
#include "endpoint/providers/kubedoctor.h"
#include "common/xmem.h"
#include "endpoint/providers/kubeapi.h"
#include "endpoint/providers/kubeblock.h"
#include "endpoint/providers/kubeconf.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { CALL_MS = 10000 };

const char *kubedoctor_namespace (const struct kubespec_conf *c, const struct kubeconf *access)
{
	if (c->namespace_ && *c->namespace_)
		return c->namespace_;
	return access->namespace_ && *access->namespace_ ? access->namespace_ : "default";
}

static struct kubespec spec_of (const struct kubespec_conf *c, const struct provider_block *b, char endpoint[KUBESPEC_NAME])
{
	kubespec_endpoint (b->endpoint, b->identity, endpoint);
	return (struct kubespec) { .conf = c, .endpoint = endpoint, .run = "render", .block = b->id, .pods = b->nodes, .argv = b->argv[0] };
}

static void print (json_t *j, struct buf *out)
{
	char *text = json_dumps (j, JSON_INDENT (2));

	buf_printf (out, "---\n%s\n", text ? text : "");
	free (text);
	json_decref (j);
}

void kubedoctor_render (const struct kubespec_conf *c, const struct provider_block *b, struct buf *out)
{
	char endpoint[KUBESPEC_NAME];
	struct kubespec s = spec_of (c, b, endpoint);

	buf_printf (out, "# block of %u pod(s); the Deployment is made first, with 0 replicas, then the Secret that it owns, then it is scaled\n", b->nodes);
	print (kubespec_deployment (&s, b->nodes), out);
	print (kubespec_secret (&s, "SECRET-KEY", NULL), out);
}

/* ---- doctor -------------------------------------------------------------------------------------------------- */

struct doctor { const struct kubespec_conf *conf; struct kubeconf access; const char *namespace_; struct buf *out, why; };

static void say (struct doctor *d, const char *level, const char *what, const char *fmt, ...) __attribute__ ((format (printf, 4, 5)));

static void say (struct doctor *d, const char *level, const char *what, const char *fmt, ...)
{
	char text[1000];
	va_list ap;

	va_start (ap, fmt);
	vsnprintf (text, sizeof (text), fmt, ap);
	va_end (ap);
	for (char *p = text; *p; p++)
		if (*p == '\n' || *p == '\r')
			*p = ' ';
	buf_printf (d->out, "%s|%s|%s\n", level, what, text);
}

static int ask (struct doctor *d, const char *method, const char *path, const json_t *body, json_t **out)
{
	struct kubeapi_args a = { .method = method, .path = path, .body = body, .timeout_ms = CALL_MS };

	buf_clear (&d->why);
	return kubeapi_sync (&d->access, &a, out, &d->why);
}

static const char *why (const struct doctor *d)
{
	return d->why.len ? (const char *) d->why.data : "the answer is not of a Kubernetes API server";
}

static bool check_server (struct doctor *d)
{
	json_t *j;
	int status = ask (d, "GET", "/version", NULL, &j);
	const char *version = kubeapi_text (j, "gitVersion");
	bool there = *version;

	if (there)
		say (d, "ok", "kubernetes", "%s answers: %s; as %s; namespace %s", d->access.server, version, d->access.source, d->namespace_);
	else if (!status)
		say (d, "fail", "kubernetes", "%s; is the API server up, and can it be reached from here? (%s)", why (d), d->access.source);
	else
		say (d, "fail", "kubernetes", "%s: %s", d->access.server, why (d));
	json_decref (j);
	return there;
}

static const struct { const char *group, *resource, *subresource, *verbs; bool needed; } rights[] = {
	{ "apps", "deployments", "", "create delete deletecollection get list patch watch", true },
	{ "", "pods", "", "list watch", true },
	{ "", "secrets", "", "create", true },
	{ "", "pods", "log", "get", false },
};

/* May we? -1: nobody can tell, *why has it. */
static int may (struct doctor *d, size_t i, const char *verb)
{
	json_t *review = json_pack ("{s:s, s:s, s:{s:{s:s, s:s, s:s, s:s, s:s}}}", "apiVersion", "authorization.k8s.io/v1", "kind",
				    "SelfSubjectAccessReview", "spec", "resourceAttributes", "namespace", d->namespace_, "group", rights[i].group,
				    "resource", rights[i].resource, "subresource", rights[i].subresource, "verb", verb), *j;
	int status = ask (d, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, &j);
	int rc = status / 100 != 2 ? -1 : json_is_true (kubeapi_get (j, "status", "allowed", NULL));

	json_decref (review);
	json_decref (j);
	return rc;
}

static bool check_rights (struct doctor *d)
{
	struct buf missing, wished;
	bool ok = true;

	buf_init (&missing, 4096);
	buf_init (&wished, 4096);
	for (size_t i = 0; i < sizeof (rights) / sizeof (rights[0]); i++) {
		char *verbs = xstrdup (rights[i].verbs), *save = NULL;
		for (char *v = strtok_r (verbs, " ", &save); v && ok; v = strtok_r (NULL, " ", &save)) {
			struct buf *list = rights[i].needed ? &missing : &wished;
			int rc = may (d, i, v);
			if (rc < 0) {
				say (d, "fail", "access", "asking what we may do: %s", why (d));
				ok = false;
			} else if (!rc) {
				buf_printf (list, "%s%s %s%s%s%s%s", list->len ? ", " : "", v, rights[i].resource, *rights[i].subresource ? "/" : "",
					    rights[i].subresource, *rights[i].group ? "." : "", rights[i].group);
			}
		}
		free (verbs);
	}
	if (ok && missing.len) {
		say (d, "fail", "access", "%s may not, in namespace %s: %.*s; an administrator has to apply the Role and RoleBinding of "
		     "docs/providers/kubernetes.md", d->access.source, d->namespace_, (int) missing.len, (char *) missing.data);
		ok = false;
	} else if (ok) {
		say (d, "ok", "access", "all that is needed in namespace %s", d->namespace_);
	}
	if (wished.len)
		say (d, "warn", "access", "not allowed: %.*s; the ends of logs of pods that die will not be shown", (int) wished.len, (char *) wished.data);
	buf_fini (&missing);
	buf_fini (&wished);
	return ok;
}

/* The server checks the whole Deployment, and makes nothing. */
static void check_deployment (struct doctor *d, const struct provider_block *b)
{
	char endpoint[KUBESPEC_NAME], *path = kubeblock_path (d->namespace_, "", "?dryRun=All");
	struct kubespec s = spec_of (d->conf, b, endpoint);
	json_t *body;
	int status;

	s.block = "doctor";
	body = kubespec_deployment (&s, b->nodes);
	status = ask (d, "POST", path, body, NULL);
	if (status / 100 == 2)
		say (d, "ok", "deployment", "the API server takes it (tried without making it); image %s%s", d->conf->image,
		     provider_image_is_pinned (d->conf->image) ? "" : ", which has no digest in its name: memoised functions are called each time");
	else
		say (d, "fail", "deployment", "the API server refuses it: %s", why (d));
	json_decref (body);
	free (path);
}

void kubedoctor_run (const struct kubespec_conf *c, const struct provider_block *b, struct buf *out)
{
	struct doctor d = { .conf = c, .out = out };
	struct err err;

	if (kubeconf_load (c->kubeconfig, c->context, &d.access, &err) < 0) {
		say (&d, "fail", "kubernetes", "%s", err.text);
		return;
	}
	buf_init (&d.why, 8192);
	d.namespace_ = kubedoctor_namespace (c, &d.access);
	if (check_server (&d) && check_rights (&d))
		check_deployment (&d, b);
	buf_fini (&d.why);
	kubeconf_fini (&d.access);
}
