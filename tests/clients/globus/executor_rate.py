# SPDX-License-Identifier: Apache-2.0
"""N no-ops through the SDK's Executor: run inside a virtual environment with the SDK, WEFT_URL, WEFT_TOKEN and WEFT_ENDPOINT name the service. Prints
one JSON line: seconds from the first submit to the last result."""
import json
import os
import sys
import time
import uuid

import sdk
from globus_compute_sdk import Executor


def noop():
    return None


def main(n):
    ex = Executor(endpoint_id=sdk.ENDPOINT or str(uuid.uuid4()), client=sdk.make_client())
    ex.submit(noop).result(300)     # registers the function, connects
    began = time.monotonic()
    futures = [ex.submit(noop) for _ in range(n)]
    for f in futures:
        if f.result(300) is not None:
            raise RuntimeError("not what was returned")
    print(json.dumps({"seconds": time.monotonic() - began}), flush=True)
    os._exit(0)


main(int(sys.argv[1]))
