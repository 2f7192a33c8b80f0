# SPDX-License-Identifier: Apache-2.0
"""Headless Chromium for tests, by the DevTools protocol over a pipe: no driver, no WebSocket, standard library only."""
import atexit
import base64
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time

KEYS = {"Tab": 9, "Enter": 13, "ArrowDown": 40}


def find():
    """The program's path, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class BrowserError(Exception):
    pass


class PageError(BrowserError):
    """An expression failed in the page, or the page went away meanwhile."""


class Browser:
    """One browser with one page. js() evaluates in the page; wait() awaits a condition there; keys and clicks are real input events."""

    def __init__(self, timeout=60):
        self.timeout, self.dir, self.pid = timeout, tempfile.mkdtemp(prefix="weft-browser-"), None
        self.problems, self.requests = [], []   # errors of scripts and of policy; addresses asked for
        self._id, self._in, self._answers = 0, b"", {}
        atexit.register(self.stop)
        self._start()
        target = self._call("Target.createTarget", {"url": "about:blank"}, None)["targetId"]
        self.session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True}, None)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(domain + ".enable")

    def _start(self):
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        r, w = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (to_read, to_write))
        os.close(to_read)
        os.close(to_write)
        argv = [find(), "--headless=new", "--remote-debugging-pipe", "--user-data-dir=" + os.path.join(self.dir, "profile"), "--no-first-run",
                "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--disable-background-networking", "--disable-component-update",
                "--disable-sync", "--no-default-browser-check", "--force-color-profile=srgb", "--lang=en"]
        if os.geteuid() == 0:
            argv.append("--no-sandbox")     # Chromium has none for root; the pages are ours
        log = os.path.join(self.dir, "log")
        env = dict(os.environ, HOME=self.dir, TZ="UTC")
        self.pid = os.posix_spawn(argv[0], argv, env, setsid=True, file_actions=[
            (os.POSIX_SPAWN_DUP2, r, 3), (os.POSIX_SPAWN_DUP2, w, 4), (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT, 0o600), (os.POSIX_SPAWN_DUP2, 1, 2)])
        os.close(r)
        os.close(w)

    # ---- protocol ----

    def _message(self, deadline):
        """The next message, or None when the time is over."""
        while b"\0" not in self._in:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._from], [], [], left)[0]:
                return None
            data = os.read(self._from, 1 << 20)
            if not data:
                with open(os.path.join(self.dir, "log"), errors="replace") as f:
                    raise BrowserError("chromium ended:\n" + f.read()[-2000:])
            self._in += data
        one, self._in = self._in.split(b"\0", 1)
        return json.loads(one)

    def _take(self, m):
        if "id" in m:
            self._answers[m["id"]] = m
            return
        p = m.get("params", {})
        if m["method"] == "Runtime.exceptionThrown":
            d = p["exceptionDetails"]
            self.problems.append(d.get("exception", {}).get("description") or d["text"])
        elif m["method"] == "Log.entryAdded" and p["entry"]["level"] == "error" and p["entry"]["source"] != "network":
            self.problems.append(p["entry"]["text"])
        elif m["method"] == "Network.requestWillBeSent":
            self.requests.append(p["request"]["url"])

    def _call(self, method, params, session):
        self._id += 1
        m = {"id": self._id, "method": method, "params": params or {}}
        if session:
            m["sessionId"] = session
        data = json.dumps(m).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data):]
        deadline = time.monotonic() + self.timeout
        while self._id not in self._answers:
            got = self._message(deadline)
            if got is None:
                raise BrowserError("%s: no answer in %d s" % (method, self.timeout))
            self._take(got)
        a = self._answers.pop(self._id)
        if "error" in a:
            raise BrowserError("%s: %s" % (method, a["error"]["message"]))
        return a["result"]

    def call(self, method, **params):
        return self._call(method, params, self.session)

    # ---- the page ----

    def js(self, expression):
        try:
            r = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        except BrowserError as e:
            raise PageError(str(e)) if "context" in str(e) or "navigated" in str(e) else e
        if "exceptionDetails" in r:
            d = r["exceptionDetails"]
            raise PageError("%s: %s" % (expression[:200], d.get("exception", {}).get("description", d["text"])))
        return r["result"].get("value")

    def wait(self, expression, what=None):
        """Until the expression is true in the page; its value. One that fails, on a page that is not there yet, is not true yet."""
        end, failed = time.monotonic() + self.timeout, ""
        while True:
            try:
                value = self.js(expression)
            except PageError as e:
                value, failed = None, str(e)
            if value not in (None, False, 0, ""):      # an element comes as {}
                return value
            if time.monotonic() > end:
                raise TimeoutError("%s: not within %d s; %s the page: %s" % (what or expression, self.timeout, failed, self.text()[:1500]))
            time.sleep(0.03)

    def has(self, text, where="body"):
        """Wait for a text in the first element that a selector finds."""
        return self.wait("document.querySelector(%s)?.innerText.includes(%s)" % (json.dumps(where), json.dumps(text)), "text %r in %s" % (text, where))

    def text(self, where="body"):
        return self.js("document.querySelector(%s)?.innerText ?? ''" % json.dumps(where))

    def goto(self, url):
        """Open an address anew, also when only its fragment differs."""
        self.call("Page.navigate", url="about:blank")
        self.wait("location.href === 'about:blank'")
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'", url)

    def click(self, selector):
        """A press and release of the mouse in its middle."""
        at = self.wait("(() => { const e = document.querySelector(%s); if (!e) return null; e.scrollIntoView({block: 'center'});"
                       "const r = e.getBoundingClientRect(); return r.width ? [r.x + r.width / 2, r.y + r.height / 2] : null; })()" % json.dumps(selector),
                       "to click " + selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], button="left", clickCount=1)

    def key(self, name):
        p = {"key": name, "code": name, "windowsVirtualKeyCode": KEYS[name]}
        self.call("Input.dispatchKeyEvent", type="keyDown", **dict(p, **({"text": "\r"} if name == "Enter" else {})))
        self.call("Input.dispatchKeyEvent", type="keyUp", **p)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def viewport(self, width, height, mobile=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def prefers(self, scheme):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path):
        size = self.js("[document.documentElement.clientWidth, Math.min(document.documentElement.scrollHeight, 4000)]")
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True,
                         clip={"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1})["data"]
        with open(path, "wb") as f:
            f.write(base64.b64decode(data))

    def unnamed(self):
        """Links, buttons and fields of the accessibility tree that have no name."""
        out = []
        for n in self.call("Accessibility.getFullAXTree")["nodes"]:
            role = n.get("role", {}).get("value")
            if not n.get("ignored") and role in ("link", "button", "textbox", "combobox", "table", "region", "navigation", "image", "search") \
                    and not n.get("name", {}).get("value"):
                out.append(role)
        return out

    def stop(self):
        if self.pid is None:
            return
        try:
            self._call("Browser.close", {}, None)
        except (BrowserError, OSError):
            pass
        end = time.monotonic() + 10
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > end:
                os.killpg(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                break
            time.sleep(0.02)
        try:
            os.killpg(self.pid, signal.SIGKILL)     # its helpers, if some are left
        except ProcessLookupError:
            pass
        self.pid = None
        for fd in (self._to, self._from):
            os.close(fd)
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()
