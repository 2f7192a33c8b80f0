/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the Slurm provider, for its tests. */
#ifndef ENDPOINT_PROVIDERS_SLURM_H
#define ENDPOINT_PROVIDERS_SLURM_H
#include "endpoint/providers/batch.h"

struct slurm_conf {
	struct batch_conf batch;
	char *partition, *account, *qos, *constraint, *clusters, *reservation, *gres;
	int64_t gpus_per_node, cpus_per_node, mem_per_node;
	bool exclusive;
};
extern const struct batch_system slurm_system;
/* slurm_squeue.c */
int slurm_submitted (const char *out, char id[BATCH_ID_MAX]);
int slurm_rows (char *out, batch_row_f *cb, void *arg);
int slurm_history_rows (char *out, batch_row_f *cb, void *arg);

#endif
