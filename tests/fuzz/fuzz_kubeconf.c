/* SPDX-License-Identifier: Apache-2.0 */
/* A kubeconfig: what is taken is whole, a failure leaves nothing and says why.
 * fuzz-sources: endpoint/providers/kubeconf.c
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "endpoint/providers/kubeconf.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t n)
{
	struct kubeconf c;
	struct err err = { 0 };

	if (kubeconf_parse ("f", "/nonexistent", (const char *) data, n, NULL, &c, &err) == 0) {
		if (!c.server || strncmp (c.server, "https://", 8) != 0 || !c.source || (!c.token && !c.token_file && !c.cert_pem)
		    || !c.cert_pem != !c.key_pem)
			abort ();
	} else if (!err.text[0] || c.server || c.token || c.key_pem)
		abort ();
	kubeconf_fini (&c);
	return 0;
}
