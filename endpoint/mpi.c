/* SPDX-License-Identifier: Apache-2.0 */
/* See mpi.h. The command lines are those of Parsl's mpi_prefix_composer: scripts of users rely on their form. */
#include "endpoint/mpi.h"
#include "endpoint/config.h"

#define ENTRY_MAX (128u << 10)	/* Linux takes no longer string into a new program */

static const struct launcher { const char *name, *variable, *ranks, *per_node, *nodes, *count; } launchers[] = {
	[MPI_SRUN] = { "srun", "PARSL_SRUN_PREFIX", "--ntasks", "--ntasks-per-node", "--nodelist", "--nodes" },
	[MPI_MPIEXEC] = { "mpiexec", "PARSL_MPIEXEC_PREFIX", "-n", "-ppn", "-hosts", NULL },
	[MPI_APRUN] = { "aprun", "PARSL_APRUN_PREFIX", "-n", "-N", "-node-list", NULL },
};

static void put_prefix (struct buf *out, const char *variable, const struct launcher *l, const struct msg_resources *r, const char *list)
{
	buf_printf (out, "%s=%s %s %u %s %u %s ", variable, l->name, l->ranks, r->nodes * r->ranks_per_node, l->per_node, r->ranks_per_node, l->nodes);
	buf_str (out, list);
	if (l->count)
		buf_printf (out, " %s %u", l->count, r->nodes);
	buf_char (out, ' ');
	buf_add (out, r->options.p, r->options.n);
	buf_char (out, 0);
}

int mpi_environ (struct buf *out, enum mpi_launcher launcher, const struct msg_resources *r, const char *const *nodes, struct err *err)
{
	struct wire_str all, entry;
	size_t before = out->len;
	struct buf list;

	buf_init (&list, RESOURCES_ENVIRON_MAX);
	for (unsigned i = 0; i < r->nodes; i++)
		buf_printf (&list, "%s%s", i ? "," : "", nodes[i]);
	buf_char (&list, 0);
	buf_printf (out, "PARSL_NUM_NODES=%u%cPARSL_RANKS_PER_NODE=%u%cPARSL_NUM_RANKS=%u%c", r->nodes, 0, r->ranks_per_node, 0,
		    r->nodes * r->ranks_per_node, 0);
	if (r->options.n) {
		buf_str (out, "PARSL_LAUNCHER_OPTIONS=");
		buf_add (out, r->options.p, r->options.n);
		buf_char (out, 0);
	}
	if (!buf_failed (&list)) {
		buf_str (out, "PARSL_MPI_NODELIST=");
		buf_add (out, list.data, list.len);
		for (size_t i = MPI_SRUN; i <= MPI_APRUN; i++)
			put_prefix (out, launchers[i].variable, &launchers[i], r, (const char *) list.data);
		put_prefix (out, "PARSL_MPI_PREFIX", &launchers[launcher], r, (const char *) list.data);
	}
	bool fits = !buf_failed (&list) && !buf_failed (out) && out->len - before <= RESOURCES_ENVIRON_MAX;
	buf_fini (&list);
	all = wire_str ((const char *) out->data + before, fits ? out->len - before : 0);
	while (fits && msg_resources_environ_next (&all, &entry))
		fits = entry.n < ENTRY_MAX;
	return fits ? 0 : err_set (err, ERR_TOO_LARGE, FAULT_SITE, "the names of %u nodes are too long together for the environment of a program: "
				   "ask for fewer nodes", r->nodes);
}

const char *mpi_program (enum mpi_launcher launcher)
{
	return launchers[launcher].name;
}

void mpi_describe (const struct config *c, json_t *o)
{
	if (c->mpi_launcher != MPI_NONE)
		json_object_set_new (o, "mpi", json_pack ("{s:s, s:I}", "launcher", mpi_program (c->mpi_launcher), "nodes_per_block",
							  (json_int_t) c->nodes_per_block));
}
