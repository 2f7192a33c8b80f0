# SPDX-License-Identifier: Apache-2.0
"""Login by the environment alone: a bare Client(), as in the documentation of client identities. Nothing in this file names the service.

Its arguments are GLOBUS_COMPUTE_CLIENT_ID and a wrong secret, for a client that must fail."""
import os
import sqlite3
import sys

from globus_compute_sdk import Client
from sdk import await_result, check, detail, end, raised


def main():
    store = os.path.join(os.environ["GLOBUS_COMPUTE_USER_DIR"], "storage.db")
    c = Client()
    check("Client() logs in by itself", True)
    check("and keeps its token in a file of its own user", os.path.exists(store) and os.stat(store).st_mode & 0o77 == 0, oct(os.stat(store).st_mode))
    c.version_check()
    endpoint = c.get_endpoints()[0]["uuid"]
    fid = c.register_function(lambda x: x + 1)
    check("run", await_result(c, c.run(1, endpoint_id=endpoint, function_id=fid)) == 2)
    check("a second Client() takes the token that is kept", len(Client().get_endpoints()) >= 1 and rows(store) == 1, rows(store))
    os.environ["GLOBUS_COMPUTE_USER_DIR"] = os.path.join(os.environ["GLOBUS_COMPUTE_USER_DIR"], "second")
    os.environ["GLOBUS_COMPUTE_CLIENT_SECRET"] = sys.argv[1]
    e = raised(lambda: Client().get_endpoints())
    check("a wrong secret", detail(e)[0] == 401, repr(e))
    del os.environ["GLOBUS_COMPUTE_CLIENT_ID"]
    e = raised(Client)
    check("a secret without an id is refused by the SDK", isinstance(e, ValueError) and "GLOBUS_COMPUTE_CLIENT_ID" in str(e), repr(e))
    end()


def rows(path):
    db = sqlite3.connect(path)
    try:
        return sum(db.execute("SELECT COUNT(*) FROM " + t).fetchone()[0] for t, in
                   db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%token%'").fetchall())
    finally:
        db.close()


main()
