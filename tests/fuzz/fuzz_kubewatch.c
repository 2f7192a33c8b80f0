/* SPDX-License-Identifier: Apache-2.0 */
/* A line of a watch, and what is read from its object as a pod and as a Deployment: texts end, and say nothing without a complaint.
 * fuzz-sources: endpoint/providers/kubewatch.c endpoint/providers/kubeapi.c endpoint/providers/kubepod.c endpoint/providers/kubeconf.c
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "endpoint/providers/kubepod.h"
#include "endpoint/providers/kubewatch.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	struct kubepod p;
	char version[64], text[400];
	json_t *o;
	int code;
	enum kubewatch_event ev = kubewatch_parse ((const char *) data, n, &o, version, &code);

	if ((ev == KUBEWATCH_BAD) != !o || strlen (version) >= sizeof (version))
		abort ();
	if (o && kubepod_read (o, "weft/block", &p) == 0
	    && (!*p.name || !*p.uid || strlen (p.text) >= sizeof (p.text) || p.restarts < 0 || (!p.bad && p.hopeless)))
		abort ();
	kubepod_deployment (o, text);
	json_decref (o);
	return 0;
}
