/* SPDX-License-Identifier: Apache-2.0 */
/* See mpi.h. The command lines are those of Parsl's mpi_prefix_composer: scripts of users rely on their form. Open MPI, which Parsl does not
 * know, takes no -ppn: how many ranks a node gets stands behind its name. */
#include "endpoint/mpi.h"
#include "endpoint/config.h"

#include <string.h>

#define ENTRY_MAX (128u << 10)	/* Linux takes no longer string into a new program */

/* NULL: has no such option. more: goes into the environment as it is, each entry with its NUL. */
static const struct launcher { const char *name, *program, *variable, *ranks, *per_node, *nodes, *count, *more; } launchers[] = {
	[MPI_SRUN] = { "srun", "srun", "PARSL_SRUN_PREFIX", "--ntasks", "--ntasks-per-node", "--nodelist", "--nodes", NULL },
	[MPI_MPIEXEC] = { "mpiexec", "mpiexec", "PARSL_MPIEXEC_PREFIX", "-n", "-ppn", "-hosts", NULL, NULL },
	[MPI_APRUN] = { "aprun", "aprun", "PARSL_APRUN_PREFIX", "-n", "-N", "-node-list", NULL, NULL },
	/* In a job of Slurm it would go by the managers' step, which has one task on each node. Versions 3 and 4, and 5. */
	[MPI_OPENMPI] = { "openmpi", "mpiexec", "PARSL_MPIEXEC_PREFIX", "-n", NULL, "--host", NULL,
			  "OMPI_MCA_ras_slurm_use_entire_allocation=1\0PRTE_MCA_ras_slurm_use_entire_allocation=1\0" },
};

static void put_prefix (struct buf *out, const char *variable, const struct launcher *l, const struct msg_resources *r, const char *const *nodes)
{
	buf_printf (out, "%s=%s %s %u ", variable, l->program, l->ranks, r->nodes * r->ranks_per_node);
	if (l->per_node)
		buf_printf (out, "%s %u ", l->per_node, r->ranks_per_node);
	buf_str (out, l->nodes);
	for (unsigned i = 0; i < r->nodes; i++) {
		buf_printf (out, "%c%s", i ? ',' : ' ', nodes[i]);
		if (!l->per_node)
			buf_printf (out, ":%u", r->ranks_per_node);
	}
	if (l->count)
		buf_printf (out, " %s %u", l->count, r->nodes);
	buf_char (out, ' ');
	buf_add (out, r->options.p, r->options.n);
	buf_char (out, 0);
}

int mpi_environ (struct buf *out, enum mpi_launcher launcher, const struct msg_resources *r, const char *const *nodes, struct err *err)
{
	const struct launcher *own = &launchers[launcher];
	struct wire_str all, entry;
	size_t before = out->len;

	buf_printf (out, "PARSL_NUM_NODES=%u%cPARSL_RANKS_PER_NODE=%u%cPARSL_NUM_RANKS=%u%c", r->nodes, 0, r->ranks_per_node, 0,
		    r->nodes * r->ranks_per_node, 0);
	if (r->options.n) {
		buf_str (out, "PARSL_LAUNCHER_OPTIONS=");
		buf_add (out, r->options.p, r->options.n);
		buf_char (out, 0);
	}
	buf_str (out, "PARSL_MPI_NODELIST");
	for (unsigned i = 0; i < r->nodes; i++)
		buf_printf (out, "%c%s", i ? ',' : '=', nodes[i]);
	buf_char (out, 0);
	for (size_t i = MPI_SRUN; i <= MPI_APRUN; i++) {
		bool same = strcmp (launchers[i].program, own->program) == 0;
		put_prefix (out, launchers[i].variable, same ? own : &launchers[i], r, nodes);
	}
	put_prefix (out, "PARSL_MPI_PREFIX", own, r, nodes);
	for (const char *p = own->more; p && *p; p += strlen (p) + 1)
		buf_add (out, p, strlen (p) + 1);
	bool fits = !buf_failed (out) && out->len - before <= RESOURCES_ENVIRON_MAX;
	all = wire_str ((const char *) out->data + before, fits ? out->len - before : 0);
	while (fits && msg_resources_environ_next (&all, &entry))
		fits = entry.n < ENTRY_MAX;
	return fits ? 0 : err_set (err, ERR_TOO_LARGE, FAULT_SITE, "the names of %u nodes are too long together for the environment of a program: "
				   "ask for fewer nodes", r->nodes);
}

const char *mpi_program (enum mpi_launcher launcher)
{
	return launchers[launcher].program;
}

const char *mpi_other (enum mpi_launcher launcher, const char *version)
{
	/* Open MPI 4 and 5; MPICH */
	if (launcher == MPI_MPIEXEC && (strstr (version, "OpenRTE") || strstr (version, "Open MPI")))
		return launchers[MPI_OPENMPI].name;
	return launcher == MPI_OPENMPI && strstr (version, "HYDRA") ? launchers[MPI_MPIEXEC].name : NULL;
}

void mpi_describe (const struct config *c, json_t *o)
{
	if (c->mpi_launcher != MPI_NONE)
		json_object_set_new (o, "mpi", json_pack ("{s:s, s:I}", "launcher", launchers[c->mpi_launcher].name, "nodes_per_block",
							  (json_int_t) c->nodes_per_block));
}
