#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The web console: its files as the service gives them, and in headless Chromium against a whole fabric."""
import argparse
import json
import os
import re
import signal
import sys
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import browser  # noqa: E402
from e2e import HOLD, connection, ok, register, submit  # noqa: E402
from fabric import ROOT, Fabric, Report, wait_for  # noqa: E402

arg = argparse.ArgumentParser()
arg.add_argument("--build", default="build")
arg.add_argument("--screenshots", help="folder for pictures of what was tested")
arg = arg.parse_args()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
r = Report()
check = r.check
UI = os.path.join(ROOT, "service", "ui")
PAGE = "<img src=x onerror=pwned=1>"        # as a name
SCRIPT = "</pre><script>pwned=2</script>"   # as output

# ---- checks of a page, run in it ----

# Contrast of each piece of text that is seen with the ground below it; [text, ratio] of those under the AA limit
CONTRAST = r"""(() => {
	const rgb = (c) => c.match(/[\d.]+/g).map(Number);
	const light = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
	const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; }
		return [255, 255, 255]; };
	const bad = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	let seen = 0;
	while (walk.nextNode()) {
		const e = walk.currentNode.parentElement, s = getComputedStyle(e), text = walk.currentNode.data.trim();
		if (!text || !e.checkVisibility({visibilityProperty: true}) || e.closest(".hide, .skip, option, noscript")) continue;
		const a = light(rgb(s.color)), b = light(ground(e)), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		const size = parseFloat(s.fontSize), large = size >= 24 || (size >= 18.66 && s.fontWeight >= 700);
		seen++;
		if (ratio < (large ? 3 : 4.5)) bad.push([text.slice(0, 40), ratio.toFixed(2), s.color]);
	}
	return seen ? bad : ["no text"];
})()"""

# What a page must have for those who hear it or have no mouse
STRUCTURE = r"""(() => {
	const bad = [], all = (q) => [...document.querySelectorAll(q)].filter((e) => e.checkVisibility());
	const need = (ok, text) => ok || bad.push(text);
	need(document.documentElement.lang, "language");
	need(all("h1").length === 1, "one h1");
	need(all("main").length === 1 && all("header").length === 1, "landmarks");
	need(document.title.endsWith("Weft") && document.title.length > 6, "title " + document.title);
	const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
	need(new Set(ids).size === ids.length, "ids twice: " + ids.filter((x, i) => ids.indexOf(x) !== i));
	for (const e of all("input, select, textarea")) need(e.labels?.length || e.getAttribute("aria-label"), "label of " + e.outerHTML);
	for (const e of all("table")) {
		need(e.caption?.textContent.trim(), "caption");
		need([...e.querySelectorAll("th")].every((t) => t.scope), "scope of th");
		need([...e.tBodies[0].rows].every((t) => t.querySelectorAll("th").length === 1), "row headers");
	}
	for (const e of all("section, [role=region]")) need(e.getAttribute("aria-label") || document.getElementById(e.getAttribute("aria-labelledby")), "name of " + e.tagName);
	for (const e of all("[aria-labelledby], [aria-describedby]"))
		for (const x of ((e.getAttribute("aria-labelledby") ?? "") + " " + (e.getAttribute("aria-describedby") ?? "")).trim().split(/\s+/)) need(document.getElementById(x), "reference " + x);
	for (const e of all("a, button")) need(e.innerText.trim(), "text of " + e.outerHTML);
	for (const e of all("pre, .scroll")) need(e.tabIndex === 0, "keyboard reach of " + e.className);
	const levels = all("h1, h2, h3").map((e) => +e.tagName[1]);
	need(levels[0] === 1 && levels.every((n, i) => !i || n <= levels[i - 1] + 1), "order of headings " + levels);
	return bad;
})()"""


def raw(f, method, path, **headers):
    c = connection(f)
    c.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    a = c.getresponse()
    body = a.read()
    c.close()
    return a.status, {k.lower(): v for k, v in a.getheaders()}, body


def files(f):
    """Without a browser: what is served, and what it promises."""
    for path in ("/", "/console"):
        status, h, _ = raw(f, "GET", path)
        check("%s leads to the console" % path, status == 302 and h["location"] == "console/", (status, h))
    served = {n: raw(f, "GET", "/console/" + (n if n != "index.html" else "")) for n in sorted(os.listdir(UI))}
    different = [n for n, (status, _, body) in served.items() if status != 200 or body != open(os.path.join(UI, n), "rb").read()]
    check("every file of service/ui is served as it is", not different and len(served) > 10, different)
    types = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".html": "text/html; charset=utf-8"}
    wrong = [n for n, (_, h, _) in served.items() if h["content-type"] != types[os.path.splitext(n)[1]] or h["x-content-type-options"] != "nosniff"]
    check("with its type, which is not to be guessed", not wrong, wrong)
    policies = {h["content-security-policy"] for _, h, _ in served.values()}
    policy = policies.pop()
    check("one policy: nothing inline, nothing from elsewhere, no frames, no markup from text", not policies and "default-src 'none'" in policy and
          "unsafe" not in policy and "http" not in policy and "*" not in policy and "frame-ancestors 'none'" in policy and "trusted-types 'none'" in policy, policy)
    page = served["index.html"][2].decode()
    check("the page has no inline code or style", not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", page))
    text = {n: body.decode() for n, (_, _, body) in served.items()}
    check("no file makes markup of text", not [n for n, t in text.items() if re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", t)])
    check("no file names another host", not [n for n, t in text.items() if re.search(r"https?://", t.replace("http://www.w3.org/2000/svg", ""))])
    named = set(re.findall(r'(?:src|href)="(\w+\.\w+)"', page)) | set(re.findall(r'from "\./(\w+\.js)"', " ".join(text.values())))
    check("every file is used, every used one is there", named | {"index.html"} == set(served), named ^ set(served))
    _, h, _ = served["main.js"]
    status, h2, body = raw(f, "GET", "/console/main.js", If_None_Match='W/"x", ' + h["etag"])
    check("a reader that has it gets 304 and nothing more", status == 304 and body == b"" and h2["etag"] == h["etag"], (status, h2))
    status, _, body = raw(f, "GET", "/console/main.js", If_None_Match='"other"')
    check("one that has another gets it", status == 200 and body == served["main.js"][2])
    etags = [h["etag"] for _, h, _ in served.values()]
    check("each its own ETag", len(set(etags)) == len(etags))
    status, h, body = raw(f, "HEAD", "/console/")
    check("HEAD of the page", status == 200 and int(h["content-length"]) == len(page) and body == b"", (status, h))
    for path in ("/console/nothing.js", "/console/%2e%2e%2fapp.c", "/console/../openapi.json", "/console/a/b"):
        check("nothing at " + path, raw(f, "GET", path)[0] == 404)
    check("a POST is refused", raw(f, "POST", "/console/")[0] == 405)


def details(f):
    one = f.http("GET", "/v3/endpoints/%s/status" % f.endpoint)[1]
    status, a = f.http("GET", "/v3/endpoints?details=1&role=any")
    mine = [e for e in a["endpoints"] if e["uuid"] == f.endpoint][0]
    check("the list with details says what status says", status == 200 and mine["status"] == one["status"] == "online" and set(mine["details"]) == set(one["details"]) and
          mine["details"]["total_workers"] == 2 and mine["name"], (mine, one))
    check("and without them it does not", all("details" not in e and "status" in e for e in f.http("GET", "/v3/endpoints")[1]["endpoints"]))


# ---- what there is to see ----

class World:
    """Functions and tasks of each kind, some of them hostile."""

    def __init__(self, f):
        self.f = f
        self.add = register(f, "def f(a, b):\n    print('adding', a, 'and', b)\n    return a + b\n", "f", function_name="add")
        self.fail = register(f, "import sys\ndef f(x):\n    print('about to fail', file=sys.stderr)\n    raise ValueError('no such sample: %r' % x)\n", "f", function_name="fail")
        self.evil = register(f, "import sys\ndef f():\n    print(%r)\n    print(%r, file=sys.stderr)\n    return %r\n" % (SCRIPT, SCRIPT, SCRIPT), "f", function_name=PAGE)
        self.gate = register(f, HOLD + "    return 'opened'\n", "hold", function_name="gate")
        self.adds, _ = submit(f, self.add, [{"args": [i, 1]} for i in range(60)], wait=60)
        (self.failed,), _ = submit(f, self.fail, [{"args": ["s17"]}], wait=60)
        (self.attack,), _ = submit(f, self.evil, [{"args": []}], wait=60)
        self.path = os.path.join(f.state, "gate")
        self.gated = submit(f, self.gate, [{"args": [self.path]}])[0][0]
        self.odd = ok(f.http("POST", "/v3/endpoints", {"endpoint_name": "odd", "display_name": PAGE, "metadata": {"hostname": PAGE},
                                                       "weft": {"public_key": "0123456789" * 4}}))["endpoint_id"]


class Console:
    def __init__(self, f, b):
        self.f, self.b, self.shots = f, b, 0

    def go(self, path, text, where="main"):
        self.b.js("location.hash = %s" % json.dumps("#/" + path))
        self.b.has(text, where)

    def good(self, name):
        """The checks that every view has to pass, light and dark."""
        b = self.b
        check(name + ": structure", b.js(STRUCTURE) == [], b.js(STRUCTURE))
        check(name + ": everything has a name", b.unnamed() == [], b.unnamed())
        for scheme in ("dark", "light"):
            b.prefers(scheme)
            b.wait("matchMedia('(prefers-color-scheme: %s)').matches" % scheme)
            bad = b.js(CONTRAST)
            check("%s: contrast, %s" % (name, scheme), bad == [], bad)
            if arg.screenshots:
                b.screenshot(os.path.join(arg.screenshots, "%s-%s.png" % (name.replace(" ", "-"), scheme)))
        b.viewport(360, 740, True)
        b.wait("innerWidth === 360 && document.documentElement.clientWidth <= 360")
        check(name + ": no scrolling sideways on a phone", b.js("document.documentElement.scrollWidth <= innerWidth"), b.js("document.documentElement.scrollWidth"))
        tall = b.js("[...document.querySelectorAll('td .state')].filter((e) => e.offsetHeight > 1.5 * parseFloat(getComputedStyle(e).lineHeight) && !e.innerText.includes('-'))"
                    ".map((e) => e.innerText)")
        check(name + ": nor are words of states broken there", tall == [], tall)
        if arg.screenshots:
            b.screenshot(os.path.join(arg.screenshots, "%s-phone.png" % name.replace(" ", "-")))
        b.viewport(1280, 800)


def sign_in(c, w):
    b, f = c.b, c.f
    b.goto(f.url + "/")
    b.has("Sign in", "h1")
    check("/ leads to the page", b.js("location.pathname") == "/console/")
    check("the field has the focus", b.js("document.activeElement.id") == "token")
    b.type("weft_wrong")
    b.key("Enter")
    b.has("unknown, revoked or expired", "[role=alert].problem")
    check("a wrong token is refused in words, and the field marked", b.js("document.activeElement.getAttribute('aria-invalid')") == "true")
    check("and not kept", b.js("sessionStorage.length") == 0)
    c.good("sign in")
    b.js("document.activeElement.select()")
    b.type("has a space")
    b.key("Enter")
    b.has("This is not a token", ".problem")
    b.js("document.activeElement.select()")
    b.type("  %s " % f.token)
    b.key("Enter")
    b.has("local", "tbody")
    check("a good one opens the console", b.js("location.hash") in ("", "#/endpoints") and not b.js("!!document.querySelector('#token')"))
    check("it is kept for this tab only", b.js("sessionStorage.getItem('weft-token')") == f.token and b.js("JSON.stringify(localStorage)").find(f.token) < 0)
    check("who one is", b.wait("document.querySelector('#who').textContent") == "local")
    b.js("window.before = true; location.reload()")         # the old page still answers for a moment
    b.wait("!window.before && document.readyState === 'complete'")
    b.has("local", "tbody")
    check("a reload stays signed in", True)
    b.click("#signout")
    b.has("Sign in", "h1")
    check("signing out forgets it", b.js("sessionStorage.length") == 0)
    way = f.weft("console").stdout.strip()
    ticket = way.partition("/console/#ticket=")[2]
    check("weft console prints an address", way.startswith(f.url + "/console/#") and len(ticket) > 40, way)
    b.goto(way)
    b.has("local", "tbody")
    kept = b.js("sessionStorage.getItem('weft-token')")
    check("which signs in and loses its ticket", b.js("location.hash") == "#/endpoints" and kept not in (None, ticket, f.token), b.js("location.href"))
    check("as one that may only look", f.http("GET", "/v3/whoami", token=kept)[1]["scopes"] == "read" and
          f.http("POST", "/v3/functions", {"function_name": "x", "function_code": "x"}, token=kept)[0] == 403)
    b.goto(way)
    b.has("online", "tbody")
    check("the address again, in the tab that used it: still signed in", b.js("sessionStorage.getItem('weft-token')") == kept)
    b.click("#signout")
    b.has("Sign in", "h1")
    b.goto(way)
    b.has("the address was used before, or is older than 2 minutes: run `weft console`", ".problem")
    check("to others it is worth nothing", b.js("sessionStorage.length") == 0)
    b.goto(f.weft("console").stdout.strip())
    b.has("local", "tbody")
    b.js("sessionStorage.setItem('weft-token', 'weft_revoked'); location.reload()")
    b.has("You are signed out: the token is unknown, revoked or expired", ".problem")
    check("a token that stops being good leads to the way in", b.js("document.querySelector('nav').hidden"))
    b.goto(f.weft("console").stdout.strip())
    b.has("online", "tbody")
    logs = f.logs(1 << 22)
    check("the token stands in no log and no address", not [x for x in (f.token, kept, ticket) if x in logs or x in " ".join(b.requests)] and len(logs) > 1000)


def endpoints(c, w):
    b = c.b
    c.go("endpoints", "online", "tbody")
    row = "[...document.querySelectorAll('tbody tr')].find((r) => r.cells[0].innerText === 'local')"
    b.wait("%s.innerText.includes('1 of 2 busy')" % row, "the gated task makes a worker busy")
    check("an endpoint with its state, workers and blocks", b.js("%s.cells[1].innerText.includes('online') && %s.cells[4].innerText === '1'" % (row, row)), b.text("tbody"))
    b.wait("document.querySelector('#say').textContent.includes('1 of 2 endpoints online')")
    check("told to those who hear it", True)
    c.good("endpoints")
    b.js("%s.cells[0].querySelector('a').focus()" % row)
    many, _ = submit(c.f, w.gate, [{"args": [w.path]}] * 3)
    b.wait("%s.innerText.includes('2 of 2 busy') && %s.cells[3].innerText === '2'" % (row, row), "the list follows what happens")
    check("it follows what happens, and the focus stays", b.js("document.activeElement.innerText") == "local")
    b.key("Enter")
    b.has("Your latest tasks", "main")
    b.has("gate", "section")
    b.has("2 of 2 busy", ".facts")
    check("one endpoint", b.js("document.title") == "local · Weft" and "2 of 2 busy" in b.text(".facts") and c.f.endpoint in b.text(".facts"), b.text(".facts"))
    check("the focus is in the new view", b.js("document.activeElement.id") == "main")
    c.good("endpoint")
    for t in many:
        c.f.http("DELETE", "/v3/tasks/" + t)
    c.go("endpoints/" + w.odd, "offline")
    check("one that was never there", "never" in b.text(".facts"))
    check("no such endpoint", c.go("endpoints/01a21677-1dd5-715f-b358-0a9b7529b961", "trying again", "#trouble") is None and "not" in b.text("#trouble"), b.text("#trouble"))


def tasks(c, w):
    b = c.b
    c.go("tasks", "add", "tbody")
    check("a page of tasks", b.js("document.querySelectorAll('tbody tr').length") == 50)
    c.good("tasks")
    first = b.js("document.querySelector('tbody a').href")
    b.click(".pages a:last-child")
    b.wait("location.hash.includes('cursor=') && document.querySelectorAll('tbody tr').length > 0 && document.querySelector('tbody a').href !== %s" % json.dumps(first))
    check("the older ones by cursor", b.js("document.querySelectorAll('tbody tr').length") < 50 and b.text(".pages").strip() == "Newest", b.text(".pages"))
    b.js("history.back()")
    b.wait("document.querySelectorAll('tbody tr').length === 50 && document.querySelector('tbody a').href === %s" % json.dumps(first))
    check("and back", True)
    b.js("document.querySelector('#by-status').value = 'failed'")
    b.click(".filter button")
    b.wait("location.hash === '#/tasks?status=failed' && document.querySelectorAll('tbody tr').length === 1")
    check("by state", "fail" in b.text("tbody") and "✕" in b.text("tbody"), b.text("tbody"))
    check("the filter shows what it is", b.js("document.querySelector('#by-status').value") == "failed")
    b.wait("document.querySelector('#say').textContent === '1 task'")
    check("told to those who hear it", True)
    c.go("tasks?function=" + w.add, "add", "tbody")
    b.wait("[...document.querySelectorAll('tbody tr')].every((r) => r.cells[2].innerText === 'add')")
    check("by function, which the filter names", b.js("document.querySelector('#by-function').selectedOptions[0].text").startswith("add ("))
    c.go("tasks?group=" + w.failed, "fail", "tbody")
    check("by group", b.js("document.querySelectorAll('tbody tr').length") == 1)
    c.go("tasks?status=cancelled&function=" + w.add, "No task fits")
    c.go("tasks?group=nonsense", "'group' is not a UUID", "#trouble")
    check("a bad filter is told in the service's words", True)
    b.click(".filter a")
    b.wait("document.querySelectorAll('tbody tr').length === 50 && document.querySelector('#trouble').hidden")
    check("cleared", b.js("location.hash") == "#/tasks")


def task(c, w):
    b = c.b
    c.go("tasks/" + w.adds[3], "Where the time went")
    check("standard output", b.text("[aria-label=stdout]") == "adding 3 and 1\n", b.text("[aria-label=stdout]"))
    check("the result", b.text("[aria-label=Result]") == "4")
    spans = c.f.http("GET", "/v3/tasks/%s/trace" % w.adds[3])[1]
    check("the trace, a row a span", b.js("document.querySelectorAll('.trace tbody tr').length") == len(spans["spans"]) > 8 and "the function runs" in b.text(".trace"))
    ends = b.js("(() => { const t = document.querySelector('.trace .track').getBoundingClientRect(); const bars = [...document.querySelectorAll('.trace .bar')]"
                ".map((x) => x.getBoundingClientRect()); return [bars[0].left - t.left, bars.at(-1).right - t.right,"
                "bars.every((x, i) => !i || x.left >= bars[i - 1].left - 0.01)]; })()")
    check("its bars fall from the beginning to the end", abs(ends[0]) < 1 and abs(ends[1]) < 3 and ends[2], ends)
    c.good("task")
    c.go("tasks/" + w.failed, "Where the time went")
    check("an error with its cause", "TASK_EXCEPTION" in b.text(".cause") and "the function, or what it was given" in b.text(".cause") and
          "ValueError: no such sample: 's17'" in b.text("[aria-label='Error text']"), b.text(".cause"))
    check("standard error", b.text("[aria-label=stderr]") == "about to fail\n")
    c.good("failed task")
    c.go("tasks/" + w.gated, "It is running")
    open(w.path, "w").close()
    b.has("opened", "[aria-label=Result]")
    b.has("success", "h1")
    check("a running task shows its end when it comes", b.wait("document.querySelector('#say').textContent === 'The task is success'"))
    c.go("tasks/01a21677-1dd5-715f-b358-0a9b7529b961", "not found", "#trouble")
    check("no such task", True)


def functions(c, w):
    b = c.b
    c.go("functions", "fail", "tbody")
    check("functions, newest first", b.js("[...document.querySelectorAll('tbody th')].map((x) => x.innerText)") == ["gate", PAGE, "fail", "add"], b.text("tbody"))
    c.good("functions")
    c.go("functions/" + w.fail, "raise ValueError", "pre")
    b.has("failed", "tbody")
    check("one with its code and its tasks", b.js("document.querySelectorAll('tbody tr').length") == 1)
    c.good("function")


def usage(c, w):
    """Counted exactly: everything has ended, nothing else runs."""
    b, f = c.b, c.f
    ended = {"tasks": 0, "failed": 0, "cancelled": 0}
    cursor = ""
    while cursor is not None:
        page = f.http("GET", "/v3/tasks?limit=1000" + cursor)[1]
        for t in page["tasks"]:
            ended["tasks"] += 1
            if t["status"] in ended:
                ended[t["status"]] += 1
        cursor = "&cursor=" + page["next_cursor"] if page["next_cursor"] else None

    def counted(query=""):
        hours = f.http("GET", "/v3/usage?days=2" + query)[1]["hours"]
        return {k: sum(h[k] for h in hours) for k in ended}
    try:
        wait_for(lambda: counted() == ended, 60, "usage is counted")
    except TimeoutError:
        pass
    check("each end is counted once", counted() == ended and ended["failed"] == 1 and ended["cancelled"] == 3, (counted(), ended))
    check("by endpoint", counted("&endpoint=" + f.endpoint) == ended and counted("&endpoint=" + w.odd)["tasks"] == 0)
    hours = [h for h in f.http("GET", "/v3/usage")[1]["hours"] if h["ran"]]     # two when one ends meanwhile
    check("with how long they ran", all(0 < h["mean_s"] < 60 for h in hours) and sum(h["ran"] for h in hours) >= 60, hours)
    check("bad days", f.http("GET", "/v3/usage?days=32")[0] == 400 and f.http("GET", "/v3/usage?days=x")[0] == 400)
    check("of an unknown endpoint", f.http("GET", "/v3/usage?endpoint=01a21677-1dd5-715f-b358-0a9b7529b961")[0] == 404)
    c.go("usage", "%d" % ended["tasks"], ".facts")
    check("usage in figures, a row an hour", 1 <= b.js("document.querySelectorAll('tbody tr').length") <= 3 and
          b.js("[...document.querySelectorAll('tbody tr')].reduce((n, r) => n + +r.cells[1].innerText, 0)") == ended["tasks"], b.text("main"))
    check("and drawn", b.js("document.querySelectorAll('.column').length") == 24 and b.js("document.querySelector('.stack .fine').getBoundingClientRect().height") > 20)
    c.good("usage")
    b.js("document.querySelector('#of-range').value = 'month'; document.querySelector('#of-endpoint').value = %s" % json.dumps(f.endpoint))
    b.click(".filter button")
    b.wait("document.querySelectorAll('.column').length === 30")
    check("by day, of one endpoint", b.js("location.hash") == "#/usage?endpoint=%s&range=month" % f.endpoint and b.js("document.querySelector('#of-endpoint').selectedOptions[0].text") == "local")
    c.go("usage?endpoint=" + w.odd, "No task has ended in this time")


def hostile(c, w):
    b = c.b
    c.go("tasks/" + w.attack, "Where the time went")
    check("output and result are shown as they are", b.text("[aria-label=stdout]").strip() == SCRIPT and b.text("[aria-label=stderr]").strip() == SCRIPT and
          SCRIPT in json.loads(b.text("[aria-label=Result]")), b.text("main"))
    b.has(PAGE, ".facts")
    c.go("functions/" + w.evil, PAGE, "h1")
    c.go("endpoints/" + w.odd, PAGE, "h1")
    c.go("endpoints", PAGE, "tbody")
    c.go("tasks?function=" + w.evil, PAGE, "tbody")
    c.go("tasks?status=" + urllib.parse.quote(PAGE), "status", "#trouble")
    c.go("tasks/" + urllib.parse.quote(PAGE, safe=""), "not a UUID", "#trouble")
    c.go("tasks/%3Cscript%3E", "not a UUID", "#trouble")
    c.go("%E0%A4%A", "Not found")
    c.go("tasks/%E0%A4%A", "Not found")
    check("nothing of it ran or became an element", b.js("typeof pwned") == "undefined" and b.js("document.querySelectorAll('main img, main script').length") == 0)
    policy = b.js("(() => { try { document.querySelector('main').innerHTML = '<b>x</b>'; return false; } catch (e) { return e instanceof TypeError; } })()")
    check("and if code of ours tried, the policy would stop it", policy)
    b.problems = [p for p in b.problems if "TrustedHTML" not in p]


def keyboard(c, w):
    b = c.b

    def tab_to(condition, what, limit=40):
        for _ in range(limit):
            b.key("Tab")
            if b.js("(() => { const e = document.activeElement; return !!(%s); })()" % condition):
                return b.js("getComputedStyle(document.activeElement).outlineStyle") != "none"
        raise TimeoutError("no %s by the Tab key; focus on %s" % (what, b.js("document.activeElement.outerHTML.slice(0, 200)")))

    b.goto(c.f.url + "/console/")
    b.has("local", "tbody")
    b.key("Tab")
    check("first comes the way past the header", b.text("#skip") == "Skip to content" and b.js("document.activeElement.id") == "skip" and
          b.js("document.activeElement.getBoundingClientRect().top >= 0"))
    b.key("Enter")
    check("it leads to the content", b.js("document.activeElement.id") == "main" and b.js("location.hash") == "")
    b.goto(c.f.url + "/console/")
    b.has("local", "tbody")
    seen = [tab_to("e.innerText === 'Tasks' && e.closest('nav')", "link to the tasks")]
    b.key("Enter")
    b.has("add", "tbody")
    check("the current view is told", b.js("document.querySelector('nav [aria-current=page]').innerText") == "Tasks")
    seen.append(tab_to("e.id === 'by-status'", "choice of states"))
    for _ in range(10):
        if b.js("document.activeElement.value") == "failed":
            break
        b.key("ArrowDown")
    seen.append(tab_to("e.type === 'submit'", "button Filter"))
    b.key("Enter")
    b.wait("location.hash === '#/tasks?status=failed' && document.querySelectorAll('tbody tr').length === 1")
    seen.append(tab_to("e.closest('tbody')", "the task"))
    b.key("Enter")
    b.has("Where the time went", "main")
    seen.append(tab_to("e.matches('pre')", "the error's text"))
    check("a failed task is found by keys alone, with the focus seen at each step", all(seen), seen)


def theme(c):
    b = c.b
    ground = "getComputedStyle(document.body).backgroundColor"
    b.prefers("light")
    light = b.js(ground)
    b.prefers("dark")
    b.wait("%s !== %s" % (ground, json.dumps(light)))
    dark = b.js(ground)
    b.js("(() => { const s = document.querySelector('#theme'); s.value = 'light'; s.dispatchEvent(new Event('change')); })()")
    check("dark and light by the system, and by choice against it", b.js(ground) == light != dark, (light, dark))
    b.js("window.before = true; location.reload()")         # the old page still answers for a moment
    b.wait("!window.before && document.readyState === 'complete' && document.querySelector('#theme').value === 'light'")
    check("the choice is remembered", b.js(ground) == light)
    b.js("(() => { const s = document.querySelector('#theme'); s.value = 'system'; s.dispatchEvent(new Event('change')); })()")
    check("and taken back", b.js(ground) == dark, (b.js(ground), b.js("document.documentElement.dataset.theme")))
    b.prefers("light")


def polling(c):
    """How often it asks: seen by the timers that it sets."""
    b = c.b
    c.go("endpoints", "online", "tbody")
    b.call("Network.setBlockedURLs", urls=["*/v3/*"])
    b.has("the service cannot be reached; trying again in", "#trouble")
    check("a service that is away is told", b.js("document.querySelector('#trouble').getAttribute('role')") == "alert")
    b.call("Network.setBlockedURLs", urls=[])
    b.wait("document.querySelector('#trouble').hidden", "the trouble is over")
    check("and that it is back", "online" in b.text("tbody"))
    c.go("nowhere", "Not found")    # a view without a timer of its own
    pauses = b.js("""(async () => {
        const { every } = await import("./live.js"), real = setTimeout, end = new AbortController(), out = [];
        let hidden = false, fails = false, runs = 0, wake;
        Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
        window.setTimeout = (f, ms) => { out.push(ms); wake = f; return 0; };
        const settle = () => new Promise((ok) => real(ok, 0));
        try {
            const now = every(1000, async () => { runs++; if (fails) throw new Error("x"); }, () => {}, end.signal);
            await settle(); hidden = true; wake();
            await settle(); hidden = false; document.dispatchEvent(new Event("visibilitychange"));
            await settle(); fails = true;
            for (let i = 0; i < 9; i++) { wake(); await settle(); }
            end.abort(); const before = runs; wake(); await settle();
            return { out, runs, still: runs === before };
        } finally { window.setTimeout = real; delete document.hidden; end.abort(); }
    })()""")
    out = pauses["out"]
    check("seen: each second; unseen: each ten; seen again: at once", 800 < out[0] < 1200 and 8000 < out[1] < 12000 and 800 < out[2] < 1200 and pauses["runs"] == 12, pauses)
    check("failing: twice as long each time, a minute at most", all(b_ > a * 1.5 for a, b_ in zip(out[2:7], out[3:8])) and 50000 < out[-1] <= 66000, out)
    check("left: never again", pauses["still"])


def in_browser(f):
    w = World(f)
    with browser.Browser() as b:
        b.viewport(1280, 800)
        b.prefers("light")
        c = Console(f, b)
        sign_in(c, w)
        endpoints(c, w)
        tasks(c, w)
        task(c, w)
        functions(c, w)
        usage(c, w)
        hostile(c, w)
        keyboard(c, w)
        theme(c)
        polling(c)
        check("no error of a script, nothing that the policy had to stop", b.problems == [], b.problems)
        other = {u for u in b.requests if not u.startswith((f.url, "about:", "data:"))}
        check("nothing was asked of anybody else", not other, other)


with Fabric(arg.build, workers=2) as fabric:
    files(fabric)
    details(fabric)
    if browser.find():
        in_browser(fabric)
    else:
        r.skip("the console in a browser", "Chromium is not installed: packaging/install-deps --browser installs it")
r.end()
