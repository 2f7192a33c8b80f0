# SPDX-License-Identifier: Apache-2.0
"""How functions, arguments and results become strings: the Globus Compute formats, and plain JSON.

A function is sent as a dill pickle where dill is installed, otherwise as source text, and then arguments and results are JSON.
"""
from __future__ import annotations

import base64
import importlib
import inspect
import json
import pickle
import textwrap
from typing import Any, Callable, Mapping, Optional, Sequence, Tuple

from .errors import WeftError


def _dill() -> Any:
    try:
        return importlib.import_module("dill")
    except ImportError:
        return None


def pack(*parts: str) -> str:
    """Concatenate ``<length in characters>\\n<part>``."""
    return "".join("%d\n%s" % (len(p), p) for p in parts)


def encode_function(function: Callable[..., Any]) -> Tuple[str, str, str]:
    """Return ``(kind, code, entry)`` for registration."""
    dill = _dill()
    name = getattr(function, "__name__", "function")
    if dill is not None:
        try:
            pickled = dill.dumps(function, recurse=True)    # with the globals that it uses, and no others
        except Exception:       # what one of them is made of cannot be looked through
            pickled = dill.dumps(function)
        body = "01\n" + base64.encodebytes(pickled).decode()
        return "globus", pack(body), name
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError) as e:
        raise WeftError("%r has no source text that could be sent; install dill to send functions by value" % (function,)) from e
    if name == "<lambda>":
        raise WeftError("a lambda cannot be sent as source text: give it a name with def, or install dill")
    return "python", source, name


PLAIN = frozenset((int, float, str, bytes, bool, type(None)))


def _pickled(values: Any) -> str:
    """dill's pickle. Of plain values pickle makes one that is as good, ten times as fast."""
    items = values.values() if isinstance(values, dict) else values
    maker = pickle if all(type(v) in PLAIN for v in items) else _dill()
    return "00\n" + base64.encodebytes(maker.dumps(values, protocol=4)).decode()


def encode_arguments(kind: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return the payload string of one call."""
    if kind == "globus":
        return pack(_pickled(tuple(args)), _pickled(dict(kwargs)))
    try:
        return json.dumps({"args": list(args), "kwargs": dict(kwargs)})
    except (TypeError, ValueError) as e:
        raise WeftError("the arguments are not JSON (%s); install dill to send any object" % e) from e


def decode_result(text: str, kind: Optional[str] = None) -> Any:
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
