/* SPDX-License-Identifier: Apache-2.0 */
/* A program over several nodes, for mpi.py. Each rank prints: its number, how many there are, the sum of the numbers of all, the host.
 * With an argument it notes its pid in the file ARGUMENT.RANK then, and stays until it is killed. */
#include <mpi.h>
#include <stdio.h>
#include <unistd.h>

int main (int argc, char **argv)
{
	char host[MPI_MAX_PROCESSOR_NAME], path[4096];
	int rank, size, sum, n;
	FILE *f;

	MPI_Init (&argc, &argv);
	MPI_Comm_rank (MPI_COMM_WORLD, &rank);
	MPI_Comm_size (MPI_COMM_WORLD, &size);
	MPI_Allreduce (&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
	MPI_Get_processor_name (host, &n);
	printf ("%d %d %d %s\n", rank, size, sum, host);
	fflush (stdout);
	if (argc > 1) {
		snprintf (path, sizeof (path), "%s.%d", argv[1], rank);
		if (!(f = fopen (path, "w")) || fprintf (f, "%d\n", (int) getpid ()) < 0 || fclose (f) != 0)
			MPI_Abort (MPI_COMM_WORLD, 1);
		for (;;)
			pause ();
	}
	MPI_Finalize ();
	return 0;
}
