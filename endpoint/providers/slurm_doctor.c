/* SPDX-License-Identifier: Apache-2.0 */
/* What Slurm needs on this host. Filled in below. */
#include "endpoint/providers/slurm.h"

void slurm_doctor (const void *conf, const struct provider_block *b, struct buf *out)
{
	(void) conf;
	(void) b;
	(void) out;
}
