/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the HTCondor provider, for its tests. */
#ifndef ENDPOINT_PROVIDERS_HTCONDOR_H
#define ENDPOINT_PROVIDERS_HTCONDOR_H
#include "endpoint/providers/batch.h"

extern const struct batch_system htcondor_system;
int htcondor_rows (char *out, batch_row_f *cb, void *arg);	/* `condor_q -json`, `condor_history -json` */

#endif
