#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tests/lib/schema.py finds what is wrong, and knows every keyword of service/openapi.json."""
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
import schema  # noqa: E402

NAMED = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}, "b": {"type": "string", "nullable": True}}, "required": ["a"]}
DOC = {"components": {"schemas": {"Named": NAMED}}}
REF = {"$ref": "#/components/schemas/Named"}
MORE = {"allOf": [REF, {"type": "object", "properties": {"c": {"type": "boolean"}}, "required": ["c"]}]}
ID = "0f1e2d3c-0000-4000-8000-000000000001"
GOOD = ((REF, {"a": 1}), (REF, {"a": 0, "b": None}), (MORE, {"a": 1, "c": True, "b": "x"}), ({"type": "array", "items": REF}, [{"a": 1}, {"a": 2}]),
        ({"type": "string", "format": "uuid"}, ID), ({"type": "number"}, 1), ({"oneOf": [{"type": "string"}, REF]}, {"a": 1}),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, 1), ({"type": "object", "additionalProperties": REF}, {"x": {"a": 1}}), ({"type": "object"}, {"any": 1}),
        ({}, None), ({"type": "string", "pattern": "^a", "minLength": 2, "maxLength": 3, "enum": ["ab", "abc"]}, "ab"), (dict(MORE, nullable=True), None))
BAD = ((REF, {}), (REF, {"a": "1"}), (REF, {"a": True}), (REF, {"a": 10}), (REF, {"a": 1, "z": 1}), (REF, {"a": None}), (REF, None), (MORE, {"a": 1}),
       (MORE, {"a": 1, "c": 1}), (MORE, {"a": 1, "c": True, "d": 1}), ({"type": "array", "items": REF}, [{"a": 1}, 2]), ({"type": "array", "maxItems": 1}, [1, 2]),
       ({"type": "string", "format": "uuid"}, "x" + ID), ({"type": "string", "format": "date-time"}, "today"), ({"type": "integer"}, 1.5), ({"type": "boolean"}, 0),
       ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, 1), ({"oneOf": [{"type": "string"}, REF]}, 1), ({"anyOf": [{"type": "string"}, REF]}, 1),
       ({"type": "object", "additionalProperties": REF}, {"x": {"a": -1}}), ({"type": "object", "additionalProperties": False}, {"x": 1}),
       ({"type": "string", "pattern": "^a"}, "ba"), ({"type": "string", "minLength": 2}, "a"), ({"type": "string", "maxLength": 2}, "abc"), ({"enum": ["a"]}, "b"))
UNKNOWN = ({"type": "object", "patternProperties": {}}, {"type": "string", "const": "x"})


def raises(call):
    try:
        call()
    except ValueError:
        return True
    return False


def walk(doc, s):
    """Every schema below s, references aside."""
    resolved = schema.resolve(doc, s)
    assert resolved.get("type") in (None, *schema.TYPES) and ("format" not in s or s["format"] in schema.FORMATS), s
    below = [s.get("items"), s.get("additionalProperties"), *s.get("properties", {}).values(), *s.get("oneOf", []), *s.get("anyOf", []), *s.get("allOf", [])]
    return 1 + sum(walk(doc, b) for b in below if isinstance(b, dict))


def every(doc, part):
    """All schemas in a part of the document that is none itself."""
    if isinstance(part, list):
        return sum(every(doc, p) for p in part)
    if not isinstance(part, dict):
        return 0
    return sum(walk(doc, v) if k == "schema" else every(doc, v) for k, v in part.items())


def main():
    wrong = [(s, v, schema.problems(DOC, s, v)) for s, v in GOOD if schema.problems(DOC, s, v)] + [(s, v) for s, v in BAD if not schema.problems(DOC, s, v)]
    wrong += [s for s in UNKNOWN if not raises(lambda: schema.problems(DOC, s, "x"))]
    with open(os.path.join(ROOT, "service", "openapi.json")) as f:
        doc = json.load(f)
    n = every(doc, doc["paths"]) + every(doc, doc["components"]["responses"]) + sum(walk(doc, s) for s in doc["components"]["schemas"].values())
    for w in wrong:
        print("not ok - %r" % (w,))
    print("%d schemas of openapi.json" % n)
    failed = len(wrong) + (n < 300)
    print("%d passed, %d failed, 0 skipped" % (len(GOOD) + len(BAD) + len(UNKNOWN) + 1 - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
