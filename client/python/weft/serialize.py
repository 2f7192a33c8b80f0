# SPDX-License-Identifier: Apache-2.0
"""How functions, arguments and results become strings: the Globus Compute formats, and plain JSON.

A function is sent as a dill pickle where dill is installed, otherwise as source text, and then arguments and results are JSON.
"""
import base64
import importlib
import inspect
import json
import pickle
import textwrap

from .errors import WeftError


def _dill():
    try:
        return importlib.import_module("dill")
    except ImportError:
        return None


def pack(*parts):
    """Concatenate ``<length in characters>\\n<part>``."""
    return "".join("%d\n%s" % (len(p), p) for p in parts)


def encode_function(function):
    """Return ``(kind, code, entry)`` for registration."""
    dill = _dill()
    name = getattr(function, "__name__", "function")
    if dill is not None:
        body = "01\n" + base64.encodebytes(dill.dumps(function)).decode()
        return "globus", pack(body), name
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError) as e:
        raise WeftError("%r has no source text that could be sent; install dill to send functions by value" % (function,)) from e
    if name == "<lambda>":
        raise WeftError("a lambda cannot be sent as source text: give it a name with def, or install dill")
    return "python", source, name


def encode_arguments(kind, args, kwargs):
    """Return the payload string of one call."""
    if kind == "globus":
        dill = _dill()
        one = lambda v: "00\n" + base64.encodebytes(dill.dumps(v)).decode()  # noqa: E731
        return pack(one(tuple(args)), one(dict(kwargs)))
    try:
        return json.dumps({"args": list(args), "kwargs": dict(kwargs)})
    except (TypeError, ValueError) as e:
        raise WeftError("the arguments are not JSON (%s); install dill to send any object" % e) from e


def decode_result(text, kind=None):
    """Turn a result string into an object. ``kind`` "python" and "shared_object": JSON; "command": the text itself."""
    if kind == "command":
        return text
    if kind == "globus" or (kind is None and text[:3] in ("00\n", "01\n", "11\n")):
        head, body = text[:2], text[3:]
        if head == "11":
            return json.loads(body)
        loader = _dill() or pickle
        return loader.loads(base64.b64decode(body))
    try:
        return json.loads(text)
    except ValueError:
        return text
