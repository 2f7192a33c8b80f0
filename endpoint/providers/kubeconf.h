/* SPDX-License-Identifier: Apache-2.0 */
/* How to reach a Kubernetes API server, and as whom: from a kubeconfig, or from the service account of the pod that we run in.
 *
 * Of a kubeconfig: clusters (server, authority), users (certificate and key, token, inline or in files), contexts, namespace. What is
 * not done is refused with a clear text, never ignored: exec and auth-provider plugins, user and password, unverified TLS. */
#ifndef ENDPOINT_PROVIDERS_KUBECONF_H
#define ENDPOINT_PROVIDERS_KUBECONF_H
#include "common/err.h"
#include <stddef.h>

struct kubeconf {
	char *server;		/* "https://10.0.0.1:6443", no slash at its end */
	char *ca_pem;		/* NULL = the system's authorities */
	char *cert_pem, *key_pem;	/* both or none */
	char *token;		/* or none */
	char *token_file;	/* read anew for each request, for it is rotated; or none */
	char *namespace_;	/* of the context; NULL = not said */
	char *source;		/* for people: "/home/ada/.kube/config, context site" */
};

/* path NULL or "": inside a pod its service account, else $KUBECONFIG, else ~/.kube/config. context NULL or "": the current one.
 * A kubeconfig that others than its owner can read is refused. On failure *out is empty. */
int kubeconf_load (const char *path, const char *context, struct kubeconf *out, struct err *err);
/* The text of a kubeconfig; name for messages, dir for its relative paths. */
int kubeconf_parse (const char *name, const char *dir, const char *text, size_t n, const char *context, struct kubeconf *out, struct err *err);
/* The token to send with a request: owned by the caller, NULL = none, or with *err a file that cannot be read. */
char *kubeconf_token (const struct kubeconf *c, struct err *err);
void kubeconf_fini (struct kubeconf *c);

#endif
