# SPDX-License-Identifier: Apache-2.0
"""MPIFunction and ShellFunction of the SDK with a real MPI, for tests/clusters/mpi.py: mpi_checks.py PROGRAM, which prints a line for each rank."""
import sys

from globus_compute_sdk import Executor, MPIFunction, ShellFunction
import sdk
from sdk import ENDPOINT, check, make_client

LIMIT = 120     # seconds for anything: a deadline, not a measure


def main(program):
    with Executor(endpoint_id=ENDPOINT, client=make_client()) as ex:
        for spec, each in (({"num_nodes": 2, "ranks_per_node": 2}, 2), ({"num_nodes": 2, "num_ranks": 2}, 1)):
            ex.resource_specification = spec
            r = ex.submit(MPIFunction("{program}"), program=program).result(LIMIT)
            ranks = sorted(line.split() for line in r.stdout.splitlines())
            hosts = [x[3] for x in ranks]
            check("MPIFunction, %s" % spec, r.returncode == 0 and [x[:2] for x in ranks] == [[str(i), str(2 * each)] for i in range(2 * each)]
                  and len(set(hosts)) == 2 and all(hosts.count(h) == each for h in hosts), (r.stdout, r.stderr))
        r = ex.submit(ShellFunction("$PARSL_MPI_PREFIX {program} | wc -l"), program=program).result(LIMIT)
        check("ShellFunction", r.stdout.split() == ["2"], (r.stdout, r.stderr))
        r = ex.submit(MPIFunction("sh -c 'exit 3'")).result(LIMIT)
        check("a status that is not 0 comes back", r.returncode == 3, repr(r))


main(sys.argv[1])
sdk.end()
