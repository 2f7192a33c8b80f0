/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "endpoint/mpi.h"

static const char *value (const struct buf *environ_list, const char *name)
{
	struct wire_str list = wire_str ((const char *) environ_list->data, environ_list->len), entry;

	while (msg_resources_environ_next (&list, &entry))
		if (strncmp (entry.p, name, strlen (name)) == 0 && entry.p[strlen (name)] == '=')
			return entry.p + strlen (name) + 1;
	return "";
}

static void test_the_command_lines_are_parsls (void **state)
{
	static const char *const nodes[] = { "n1", "n2" };
	struct msg_resources r = { .nodes = 2, .ranks_per_node = 4, .options = WIRE_STR ("--exact -v") };
	struct buf b;
	struct err err;

	(void) state;
	buf_init (&b, 0);
	assert_int_equal (mpi_environ (&b, MPI_SRUN, &r, nodes, &err), 0);
	assert_true (msg_resources_environ_ok (wire_str ((const char *) b.data, b.len)));
	assert_string_equal (value (&b, "PARSL_SRUN_PREFIX"), "srun --ntasks 8 --ntasks-per-node 4 --nodelist n1,n2 --nodes 2 --exact -v");
	assert_string_equal (value (&b, "PARSL_MPIEXEC_PREFIX"), "mpiexec -n 8 -ppn 4 -hosts n1,n2 --exact -v");
	assert_string_equal (value (&b, "PARSL_APRUN_PREFIX"), "aprun -n 8 -N 4 -node-list n1,n2 --exact -v");
	assert_string_equal (value (&b, "PARSL_MPI_PREFIX"), value (&b, "PARSL_SRUN_PREFIX"));
	assert_string_equal (value (&b, "PARSL_MPI_NODELIST"), "n1,n2");
	assert_string_equal (value (&b, "PARSL_NUM_NODES"), "2");
	assert_string_equal (value (&b, "PARSL_RANKS_PER_NODE"), "4");
	assert_string_equal (value (&b, "PARSL_NUM_RANKS"), "8");
	assert_string_equal (value (&b, "PARSL_LAUNCHER_OPTIONS"), "--exact -v");
	buf_clear (&b);
	r.options = WIRE_STR ("");
	assert_int_equal (mpi_environ (&b, MPI_APRUN, &r, nodes, &err), 0);
	assert_string_equal (value (&b, "PARSL_MPI_PREFIX"), "aprun -n 8 -N 4 -node-list n1,n2 ");
	assert_string_equal (value (&b, "PARSL_LAUNCHER_OPTIONS"), "");
	buf_fini (&b);
}

static void test_open_mpi_takes_ranks_behind_names (void **state)
{
	static const char *const nodes[] = { "n1", "n2" };
	struct msg_resources r = { .nodes = 2, .ranks_per_node = 4, .options = WIRE_STR ("--oversubscribe") };
	struct buf b;

	(void) state;
	buf_init (&b, 0);
	assert_int_equal (mpi_environ (&b, MPI_OPENMPI, &r, nodes, NULL), 0);
	assert_true (msg_resources_environ_ok (wire_str ((const char *) b.data, b.len)));
	assert_string_equal (value (&b, "PARSL_MPI_PREFIX"), "mpiexec -n 8 --host n1:4,n2:4 --oversubscribe");
	assert_string_equal (value (&b, "PARSL_MPIEXEC_PREFIX"), value (&b, "PARSL_MPI_PREFIX"));
	assert_string_equal (value (&b, "PARSL_MPI_NODELIST"), "n1,n2");
	assert_string_equal (value (&b, "OMPI_MCA_ras_slurm_use_entire_allocation"), "1");
	assert_string_equal (value (&b, "PRTE_MCA_ras_slurm_use_entire_allocation"), "1");
	buf_clear (&b);
	assert_int_equal (mpi_environ (&b, MPI_MPIEXEC, &r, nodes, NULL), 0);
	assert_string_equal (value (&b, "OMPI_MCA_ras_slurm_use_entire_allocation"), "");
	buf_fini (&b);
}

static void test_whose_mpiexec_it_is (void **state)
{
	static const char *const open[] = { "mpiexec (OpenRTE) 4.1.4\n", "mpiexec (Open MPI) 5.0.11\n" };
	static const char mpich[] = "HYDRA build details:\n    Version: 4.0.2\n";

	(void) state;
	for (size_t i = 0; i < 2; i++) {
		assert_string_equal (mpi_other (MPI_MPIEXEC, open[i]), "openmpi");
		assert_null (mpi_other (MPI_OPENMPI, open[i]));
	}
	assert_string_equal (mpi_other (MPI_OPENMPI, mpich), "mpiexec");
	assert_null (mpi_other (MPI_MPIEXEC, mpich));
	assert_null (mpi_other (MPI_OPENMPI, "a wrapper of this site"));
	assert_null (mpi_other (MPI_SRUN, open[0]));
}

/* The most nodes that there may be, with names as long as hosts have them, fit; longer ones are refused, not cut. */
static void test_long_names (void **state)
{
	static const char *nodes[RESOURCES_NODES_MAX];
	struct msg_resources r = { .nodes = RESOURCES_NODES_MAX, .ranks_per_node = RESOURCES_RANKS_MAX, .options = WIRE_STR ("") };
	char usual[64], longest[128];
	struct err err;
	struct buf b;

	(void) state;
	memset (usual, 'n', 63);
	memset (longest, 'n', 127);
	usual[63] = longest[127] = 0;
	buf_init (&b, RESOURCES_ENVIRON_MAX + 1);
	for (size_t i = 0; i < RESOURCES_NODES_MAX; i++)
		nodes[i] = usual;
	assert_int_equal (mpi_environ (&b, MPI_MPIEXEC, &r, nodes, &err), 0);
	assert_string_equal (value (&b, "PARSL_NUM_RANKS"), "67108864");
	buf_clear (&b);
	assert_int_equal (mpi_environ (&b, MPI_OPENMPI, &r, nodes, &err), 0);
	buf_clear (&b);
	for (size_t i = 0; i < RESOURCES_NODES_MAX; i++)
		nodes[i] = longest;
	assert_int_equal (mpi_environ (&b, MPI_MPIEXEC, &r, nodes, &err), -1);
	assert_non_null (strstr (err.text, "fewer nodes"));
	buf_fini (&b);
}

int main (void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_the_command_lines_are_parsls),
		cmocka_unit_test (test_open_mpi_takes_ranks_behind_names),
		cmocka_unit_test (test_whose_mpiexec_it_is),
		cmocka_unit_test (test_long_names),
	};

	return cmocka_run_group_tests (tests, NULL, NULL);
}
