# SPDX-License-Identifier: Apache-2.0
"""What is refused, and how the SDK shows it."""
import uuid

from sdk import ENDPOINT, VERSION, check, detail, end, make_client, raised

UNKNOWN = str(uuid.uuid4())


def refused(name, status, code, words, function, *args, **kwargs):
    got = detail(raised(function, *args, **kwargs))
    check(name, got[:2] == (status, code) and words in got[2], got)


def main():
    c = make_client()

    def one():
        return 1

    fid = c.register_function(one)
    bad = make_client("wrong-token")
    refused("wrong token: list", 401, "INVALID_AUTH_TOKEN", "token", bad.get_endpoints)
    refused("wrong token: register", 401, "INVALID_AUTH_TOKEN", "token", bad.register_function, one)
    refused("wrong token: run", 401, "INVALID_AUTH_TOKEN", "token", bad.run, endpoint_id=ENDPOINT, function_id=fid)
    refused("unknown endpoint: run", 404, "ENDPOINT_NOT_FOUND", UNKNOWN, c.run, endpoint_id=UNKNOWN, function_id=fid)
    refused("unknown endpoint: status", 404, "ENDPOINT_NOT_FOUND", UNKNOWN, c.get_endpoint_status, UNKNOWN)
    refused("unknown endpoint: metadata", 404, "ENDPOINT_NOT_FOUND", UNKNOWN, c.get_endpoint_metadata, UNKNOWN)
    refused("unknown endpoint: delete", 404, "ENDPOINT_NOT_FOUND", UNKNOWN, c.delete_endpoint, UNKNOWN)
    refused("unknown function: run", 404, "FUNCTION_NOT_FOUND", UNKNOWN, c.run, endpoint_id=ENDPOINT, function_id=UNKNOWN)
    refused("unknown function: get", 404, "FUNCTION_NOT_FOUND", UNKNOWN, c.get_function, UNKNOWN)
    refused("unknown function: delete", 404, "FUNCTION_NOT_FOUND", UNKNOWN, c.delete_function, UNKNOWN)
    refused("an id that is none", 400, "INVALID_UUID", "not-an-id", c.get_endpoint_status, "not-an-id")
    refused("sharing with a Globus group", 422, "SEMANTICALLY_INVALID", "group", c.register_function, one, group=UNKNOWN)
    if VERSION >= (3, 4):
        refused("a high assurance endpoint", 422, "SEMANTICALLY_INVALID", "ha_endpoint_id", c.register_function, one, ha_endpoint_id=UNKNOWN)
    big = make_client()
    refused("a function over the limit", 413, "FUNCTION_TOO_LARGE", "bytes", big.register_function, big_function("x" * (11 << 20)))
    end()


def big_function(text):
    def big():
        return text
    return big


main()
