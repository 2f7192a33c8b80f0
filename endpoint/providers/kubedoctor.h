/* SPDX-License-Identifier: Apache-2.0 */
/* For people: what would be made (render), and whether it may be (doctor). Blocking, for commands. */
#ifndef ENDPOINT_PROVIDERS_KUBEDOCTOR_H
#define ENDPOINT_PROVIDERS_KUBEDOCTOR_H
#include "common/buf.h"

struct kubeconf;
struct kubespec_conf;
struct provider_block;

const char *kubedoctor_namespace (const struct kubespec_conf *c, const struct kubeconf *access);	/* borrowed from either */
/* The manifests, as a YAML stream; access is not needed. */
void kubedoctor_render (const struct kubespec_conf *c, const struct provider_block *b, struct buf *out);
/* Lines "level|check|text". */
void kubedoctor_run (const struct kubespec_conf *c, const struct provider_block *b, struct buf *out);

#endif
