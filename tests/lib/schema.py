# SPDX-License-Identifier: Apache-2.0
"""Answers compared with service/openapi.json: the part of JSON Schema that ours uses. A keyword that is not known here is an error, so that nothing is
taken for checked that is not. Answers are held to more than the letter: a member that the schema does not name is a problem too, unless it has
additionalProperties, or names none at all."""
import json
import os
import re
import threading

TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict}
FORMATS = {"uuid": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "date-time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "binary": r"(?s).*"}
LARGE = 4 << 20
KNOWN = {"$ref", "additionalProperties", "allOf", "anyOf", "default", "description", "enum", "example", "format", "items", "maxItems", "maxLength", "maximum", "minLength",
         "minimum", "nullable", "oneOf", "pattern", "properties", "required", "type"}


def resolve(doc, schema):
    """Without $ref and allOf: what they stand for, in one schema."""
    unknown = set(schema) - KNOWN
    if unknown:
        raise ValueError("keywords of a schema that are not known: %s" % sorted(unknown))
    if "$ref" in schema:
        part = doc
        for name in schema["$ref"].lstrip("#/").split("/"):
            part = part[name]
        return resolve(doc, part)
    if "allOf" not in schema:
        return schema
    out = {"properties": {}, "required": []}
    for s in [resolve(doc, s) for s in schema["allOf"]] + [{k: v for k, v in schema.items() if k != "allOf"}]:
        merged = {"properties": dict(out["properties"], **s.get("properties", {})), "required": out["required"] + s.get("required", [])}
        out.update(s)
        out.update(merged)
    return out


def problems(doc, schema, value, at="answer"):
    """What is wrong with a value, as sentences."""
    s = resolve(doc, schema)
    if value is None and "nullable" in s:
        return [] if s["nullable"] else ["%s: null" % at]
    for key, wanted in (("oneOf", lambda n: n == 1), ("anyOf", lambda n: n > 0)):
        if key in s:
            tried = [problems(doc, o, value, at) for o in s[key]]
            if not wanted(sum(not t for t in tried)):
                return ["%s: fits %d of %s: %s" % (at, sum(not t for t in tried), key, tried)]
    kind = s.get("type")
    if kind and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return ["%s: %s is expected, got %.100r" % (at, kind, value)]
    found = []
    if "enum" in s and value not in s["enum"]:
        found.append("%s: %.100r is none of %s" % (at, value, s["enum"]))
    if isinstance(value, str):
        found += text(s, value, at)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if not s.get("minimum", value) <= value <= s.get("maximum", value):
            found.append("%s: %r is out of range" % (at, value))
    elif isinstance(value, list):
        if len(value) > s.get("maxItems", len(value)):
            found.append("%s: %d items" % (at, len(value)))
        for i, v in enumerate(value):
            found += problems(doc, s.get("items", {}), v, "%s[%d]" % (at, i))
    elif isinstance(value, dict):
        found += members(doc, s, value, at)
    return found


def text(s, value, at):
    found = []
    if not s.get("minLength", 0) <= len(value) <= s.get("maxLength", len(value)):
        found.append("%s: %d characters" % (at, len(value)))
    if "pattern" in s and not re.search(s["pattern"], value):
        found.append("%s: %.100r does not match %s" % (at, value, s["pattern"]))
    if "format" in s and not re.fullmatch(FORMATS[s["format"]], value):
        found.append("%s: %.100r is no %s" % (at, value, s["format"]))
    return found


def members(doc, s, value, at):
    named, more = s.get("properties", {}), s.get("additionalProperties", not s.get("properties"))
    found = ["%s: %s is missing" % (at, k) for k in s.get("required", []) if k not in value]
    for k, v in value.items():
        if k in named or isinstance(more, dict):
            found += problems(doc, named.get(k, more), v, "%s.%s" % (at, k))
        elif not more:
            found.append("%s: %s is not told" % (at, k))
    return found


class Watch:
    """Looks at each answer of a service: has its route this status, and is the body as its schema says? Give it to Service.watch or Fabric.watch."""

    def __init__(self):
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "service", "openapi.json")) as f:
            self.doc = json.load(f)
        self.found, self.seen = {}, set()
        self.lock = threading.Lock()
        # what is literal goes before what is not
        self.routes = sorted((tuple(p.strip("/").split("/")) for p in self.doc["paths"]), key=lambda parts: [x.startswith("{") for x in parts])

    def route(self, path):
        parts = path.partition("?")[0].strip("/").split("/")
        for r in self.routes:
            if len(r) == len(parts) and all(a == b or (a.startswith("{") and b) for a, b in zip(r, parts)):
                return "/" + "/".join(r)
        return None

    def __call__(self, method, path, status, kind, body):
        """kind: of content, as its header says; body: text or bytes."""
        method = "get" if method == "HEAD" else method.lower()
        route = self.route(path)
        told = self.doc["paths"].get(route, {}).get(method)
        if told is None:        # no such route or method
            response = self.doc["components"]["responses"]["404" if route is None else "405"]
        else:
            response = told["responses"].get(str(status))
        where = "%s %s: %d" % (method.upper(), route or path, status)
        wrong = ["no such status is told"] if response is None else self.body(response, (kind or "").partition(";")[0], body)
        with self.lock:
            if told:
                self.seen.add((method, route, status))
            if wrong:
                self.found.setdefault(where, wrong[:3])

    def body(self, response, kind, body):
        if "$ref" in response:
            response = self.doc["components"]["responses"][response["$ref"].rpartition("/")[2]]
        content = response.get("content", {})
        if not body or len(body) > LARGE:
            return []           # HEAD, or a status without one; or more of the same
        if kind not in content:
            return ["%s is not told, but %s" % (kind, sorted(content))]
        if kind != "application/json":
            return []
        try:
            return problems(self.doc, content[kind].get("schema", {}), json.loads(body))
        except ValueError as e:
            return ["%s: %.200r" % (e, body)]
