# SPDX-License-Identifier: Apache-2.0
"""For the benchmark: no-ops in one batch of Client, as many as the first argument says; prints times in seconds as JSON.

service_s is from the first byte of the request at the service to the last result stored there; the rest is the SDK's own.
"""
import json
import sys
import time

from sdk import ENDPOINT, make_client, rest


def main():
    n, c = int(sys.argv[1]), make_client()

    def noop(x):
        return x

    fid = c.register_function(noop)
    t0 = time.time()
    b = c.create_batch()
    for i in range(n):
        b.add(fid, args=(i,))
    t1 = time.time()
    ids = c.batch_run(ENDPOINT, b)["tasks"][fid]
    t2 = time.time()
    docs = {}
    while len(docs) < n:
        docs.update({t: d for t, d in c.get_batch_result([t for t in ids if t not in docs]).items() if not d.get("pending", True)})
    t3 = time.time()
    if [docs[t].get("result") for t in ids] != list(range(n)):
        raise SystemExit("a result is not what it should be")
    service = max(float(d["completion_t"]) for d in docs.values()) - rest("GET", "/v3/tasks/%s/trace" % ids[0])["stamps"]["received"] / 1e9
    print(json.dumps({"service_s": service, "serialise_s": t1 - t0, "submit_s": t2 - t1, "gather_s": t3 - t2, "whole_s": t3 - t0}))


main()
