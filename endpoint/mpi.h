/* SPDX-License-Identifier: Apache-2.0 */
/* What a call over several nodes finds in its environment: Parsl's names, SPEC.md, section 3.8. And what of it the configuration says. */
#ifndef ENDPOINT_MPI_H
#define ENDPOINT_MPI_H
#include <jansson.h>
#include "common/buf.h"
#include "common/err.h"
#include "proto/msg_resources.h"

struct config;
enum mpi_launcher { MPI_NONE, MPI_SRUN, MPI_MPIEXEC, MPI_APRUN, MPI_OPENMPI };
#define MPI_CHOICES "none srun mpiexec aprun openmpi"

/* Appended to out. nodes: names of r->nodes nodes. -1: no such command line can be started, with the reason. */
int mpi_environ (struct buf *out, enum mpi_launcher launcher, const struct msg_resources *r, const char *const *nodes, struct err *err);
const char *mpi_program (enum mpi_launcher launcher);	/* its name; NULL: none */
/* The launcher that should have been configured, as what the program says to --version is another's; NULL: nothing speaks against it. */
const char *mpi_other (enum mpi_launcher launcher, const char *version);
/* {"mpi": {"launcher": name, "nodes_per_block": n}} put into o, unless there is none. */
void mpi_describe (const struct config *c, json_t *o);

#endif
