/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the PBS provider share. */
#ifndef ENDPOINT_PROVIDERS_PBS_H
#define ENDPOINT_PROVIDERS_PBS_H
#include "endpoint/providers/batch.h"

struct pbs_conf {
	struct batch_conf batch;
	char *queue, *account, *select_options, *place;
	int64_t cpus_per_node;
};
extern const struct batch_system pbs_system;
/* What `qstat -f -F json` prints, row by row; see pbs_qstat.c. state is one of the words of pbs_system.states where it is known. */
int pbs_rows (char *out, batch_row_f *cb, void *arg);

#endif
