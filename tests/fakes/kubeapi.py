# SPDX-License-Identifier: Apache-2.0
"""A Kubernetes API server with just enough behind it: Deployments make pods, pods go through the statuses that a script gives them or
really run their command on this host, deleting a Deployment deletes what it owns. Its words are those of a real 1.20 server.

    k = KubeApi(directory)                  # TLS; directory/kubeconfig (token), directory/kubeconfig-cert (client certificate)
    k.plan = lambda n: [RUNNING]            # the statuses of the n-th pod, one after the other
    k.plans = {image: [...]}                # those of pods whose (first) container has this image
    k.runner = lambda command, env, pod: Popen      # a pod in status RUNNING is this process; its init containers were run before
    k.refuse("POST", "/deployments", 403, "Forbidden", 'deployments.apps is forbidden: ...')
    k.down(); k.up(); k.expire()            # the server goes, comes back; versions become too old for watches
"""
import base64
import datetime
import http.server
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
import uuid

RUNNING = {"phase": "Running", "containerStatuses": [{"name": "worker", "state": {"running": {}}, "ready": True, "restartCount": 0}]}
CREATING = {"phase": "Pending", "containerStatuses": [{"name": "worker", "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}]}


def waiting(reason, message, restarts=0, last=None):
    c = {"name": "worker", "restartCount": restarts, "state": {"waiting": {"reason": reason, "message": message}}, "lastState": {}}
    if last:
        c["lastState"] = {"terminated": last}
    return {"phase": "Pending" if not restarts else "Running", "containerStatuses": [c]}


def terminated(code, reason="Error", restarts=0, phase="Running"):
    return {"phase": phase, "containerStatuses": [{"name": "worker", "restartCount": restarts, "lastState": {},
                                                   "state": {"terminated": {"exitCode": code, "reason": reason}}}]}


def unschedulable(message):
    return {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]}


def status_object(code, reason, message):
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code}


def make_certificates(d):
    """An authority, the server's certificate and a client's."""
    def openssl(*args):
        subprocess.run(("openssl",) + args, cwd=d, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *new, "-days", "2", "-subj", "/CN=fake-ca", "-keyout", "ca.key", "-out", "ca.crt")
    for name, subject in (("server", "/CN=kube-apiserver"), ("client", "/O=weft/CN=ada")):
        openssl("req", *new, "-subj", subject, "-keyout", name + ".key", "-out", name + ".csr")
        with open(os.path.join(d, name + ".ext"), "w") as f:
            f.write("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        openssl("x509", "-req", "-in", name + ".csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-out", name + ".crt",
                "-extfile", name + ".ext")


class KubeApi:
    def __init__(self, directory, token="fake-token"):
        self.dir, self.token = directory, token
        os.makedirs(directory, exist_ok=True)
        make_certificates(directory)
        self.lock = threading.Condition(threading.RLock())
        self.objects = {}           # (kind, namespace, name) -> object
        self.events = []            # (version, type, kind, namespace, object)
        self.version, self.oldest = 100, 0
        self.requests = []          # (method, path with query)
        self.refusals = []          # [method, regex, status, reason, message, times]
        self.denied = set()         # "create deployments"
        self.plan = lambda n: [CREATING, RUNNING]
        self.plans = {}
        self.quota = None           # message: the Deployment makes no pods
        self.runner = None
        self.logs = "Traceback: the pod's last words\n"
        self.made = 0
        self.processes = {}         # pod's uid -> Popen
        self.connections = set()
        self.server = None
        self.port = 0
        self.ending = False
        self.up()
        self.write_kubeconfigs()
        threading.Thread(target=self._control, daemon=True).start()

    # ---- who it is for

    def write_kubeconfigs(self):
        def b64(name):
            with open(os.path.join(self.dir, name), "rb") as f:
                return base64.b64encode(f.read()).decode()
        for name, user in (("kubeconfig", "{token: %s}" % self.token),
                           ("kubeconfig-cert", "{client-certificate: client.crt, client-key-data: %s}" % b64("client.key")),
                           ("kubeconfig-wrong", "{token: nobodys}")):
            path = os.path.join(self.dir, name)
            with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as f:
                f.write("apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster:\n    server: https://127.0.0.1:%d\n"
                        "    certificate-authority-data: %s\nusers:\n- name: u\n  user: %s\n"
                        "contexts:\n- name: x\n  context: {cluster: c, user: u, namespace: weft}\ncurrent-context: x\n"
                        % (self.port, b64("ca.crt"), user))

    # ---- coming and going

    def up(self):
        api = self

        class Handler(_Handler):
            pass
        Handler.api = api

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 64

            def get_request(self):
                sock, addr = self.socket.accept()
                api.connections.add(sock)
                return sock, addr

            def finish_request(self, request, client_address):
                try:
                    tls = api.context.wrap_socket(request, server_side=True)
                except (OSError, ssl.SSLError):
                    return
                api.connections.add(tls)
                self.RequestHandlerClass(tls, client_address, self)

            def handle_error(self, request, client_address):
                pass
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(os.path.join(self.dir, "server.crt"), os.path.join(self.dir, "server.key"))
        self.context.load_verify_locations(os.path.join(self.dir, "ca.crt"))
        self.context.verify_mode = ssl.CERT_OPTIONAL
        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def down(self):
        """Like a killed server: connections are cut, new ones refused."""
        server, self.server = self.server, None
        server.shutdown()
        server.server_close()
        self.cut()

    def cut(self):
        for c in list(self.connections):
            try:
                c.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.connections.clear()

    def expire(self):
        """All versions so far are too old, and the watches learn it."""
        with self.lock:
            self.version += 10
            self.oldest = self.version
            self.events = []
            self.lock.notify_all()
        self.cut()

    def close(self):
        self.ending = True
        with self.lock:
            self.lock.notify_all()
        if self.server:
            self.down()
        for p in self.processes.values():
            if p.poll() is None:
                p.kill()
            p.wait()

    def refuse(self, method, regex, code, reason, message, times=1000000):
        with self.lock:
            self.refusals.append([method, regex, code, reason, message, times])

    def allow(self):
        with self.lock:
            del self.refusals[:]

    def asked(self, method, regex):
        with self.lock:
            return sum(1 for m, p in self.requests if m == method and re.search(regex, p))

    def of(self, kind):
        with self.lock:
            return [json.loads(json.dumps(o)) for (k, _, _), o in sorted(self.objects.items()) if k == kind]

    # ---- objects; call with the lock

    def _event(self, type_, kind, obj):
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        self.events.append((self.version, type_, kind, obj["metadata"]["namespace"], json.loads(json.dumps(obj))))
        self.lock.notify_all()

    def put(self, kind, ns, obj):
        meta = obj["metadata"]
        meta["namespace"] = ns
        meta.setdefault("uid", str(uuid.uuid4()))
        meta.setdefault("creationTimestamp", datetime.datetime.utcnow().strftime("%Y-%m-%dT%H:%M:%SZ"))
        key = (kind, ns, meta["name"])
        type_ = "MODIFIED" if key in self.objects else "ADDED"
        self.objects[key] = obj
        self._event(type_, kind, obj)
        return obj

    def remove(self, kind, ns, name):
        obj = self.objects.pop((kind, ns, name))
        self._event("DELETED", kind, obj)
        for (k, n, other), o in list(self.objects.items()):
            if n == ns and any(r.get("uid") == obj["metadata"]["uid"] for r in o["metadata"].get("ownerReferences", [])):
                if k == "pods":
                    self.delete_pod(o)
                else:
                    self.remove(k, n, other)

    def scale(self, ns, name, replicas):
        d = self.objects[("deployments", ns, name)]
        d["spec"]["replicas"] = replicas
        d["metadata"]["generation"] = d["metadata"].get("generation", 1) + 1
        self._event("MODIFIED", "deployments", d)

    def delete_pod(self, pod):
        if "deletionTimestamp" not in pod["metadata"]:
            pod["metadata"]["deletionTimestamp"] = "2026-11-21T07:23:04Z"
            pod["gone_at"] = time.monotonic() + 0.2
            self._event("MODIFIED", "pods", pod)
            p = self.processes.get(pod["metadata"]["uid"])
            if p and p.poll() is None:
                p.terminate()

    # ---- the controllers, the scheduler and the kubelet

    def _control(self):
        while not self.ending:
            with self.lock:
                for (kind, ns, name), o in list(self.objects.items()):
                    if kind == "deployments":
                        self._deployment(ns, o)
                    elif kind == "pods":
                        self._pod(ns, name, o)
                self.lock.wait(0.03)

    def _deployment(self, ns, d):
        uid = d["metadata"]["uid"]
        pods = [o for (k, n, _), o in self.objects.items() if k == "pods" and n == ns and "deletionTimestamp" not in o["metadata"]
                and o["metadata"]["ownerReferences"][0]["uid"] == uid]
        want = d["spec"]["replicas"]
        if len(pods) < want and self.quota:
            failure = [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": self.quota}]
            if d.get("status", {}).get("conditions") != failure:
                d["status"] = {"replicas": 0, "conditions": failure}
                self._event("MODIFIED", "deployments", d)
            return
        if d.get("status", {}).get("conditions"):
            d["status"] = {"replicas": want}
            self._event("MODIFIED", "deployments", d)
        for _ in range(want - len(pods)):
            self.made += 1
            t = d["spec"]["template"]
            plan = self.plans.get(t["spec"]["containers"][0]["image"]) or self.plan(self.made - 1)
            pod = {"kind": "Pod", "apiVersion": "v1", "spec": t["spec"], "status": {"phase": "Pending"}, "plan": list(plan),
                   "metadata": {"name": "%s-%05d" % (d["metadata"]["name"], self.made), "labels": dict(t["metadata"]["labels"]),
                                "annotations": dict(t["metadata"].get("annotations", {})),
                                "ownerReferences": [{"uid": uid, "kind": "Deployment"}]}}
            self.put("pods", ns, pod)
        for pod in pods[want:]:
            self.delete_pod(pod)

    def _pod(self, ns, name, pod):
        uid = pod["metadata"]["uid"]
        process = self.processes.get(uid)
        if "deletionTimestamp" in pod["metadata"]:
            if time.monotonic() >= pod["gone_at"] and (not process or process.poll() is not None):
                self.remove("pods", ns, name)
            return
        if pod["plan"]:
            pod["status"] = json.loads(json.dumps(pod["plan"].pop(0)))
            if pod["status"] == RUNNING and self.runner:
                self._run(ns, pod)
            self._event("MODIFIED", "pods", pod)
        elif process and process.poll() is not None and not pod.get("ended"):
            pod["ended"] = True
            pod["status"] = terminated(process.returncode)
            self._event("MODIFIED", "pods", pod)

    def _run(self, ns, pod):
        for c in pod["spec"].get("initContainers", []):
            if self.runner(c["command"], {}, pod).wait():
                pod["status"] = waiting("CrashLoopBackOff", "the init container has failed")
                return
        c = pod["spec"]["containers"][0]
        env = {}
        for e in c.get("env", []):
            source = e.get("valueFrom", {})
            if "fieldRef" in source:
                env[e["name"]] = pod["metadata"]["name"]
            elif "secretKeyRef" in source:
                secret = self.objects.get(("secrets", ns, source["secretKeyRef"]["name"]))
                if not secret:
                    pod["status"] = waiting("CreateContainerConfigError", 'secret "%s" not found' % source["secretKeyRef"]["name"])
                    pod["plan"] = [RUNNING]
                    return
                env[e["name"]] = base64.b64decode(secret["data"][source["secretKeyRef"]["key"]]).decode()
        # $(NAME) is replaced, $$ is a dollar sign
        def expand(m):
            return "$" if m.group(0) == "$$" else env.get(m.group(1), m.group(0))
        command = [re.sub(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)", expand, a) for a in c["command"]]
        self.processes[pod["metadata"]["uid"]] = self.runner(command, env, pod)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api = None

    def log_message(self, *a):
        pass

    def answer(self, code, obj, text=None):
        body = text.encode() if text is not None else json.dumps(obj).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if text is not None else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def fail(self, code, reason, message):
        self.answer(code, status_object(code, reason, message))

    def who(self):
        if self.headers.get("Authorization") == "Bearer " + self.api.token:
            return "weft"
        cert = self.connection.getpeercert()
        return "ada" if cert and (("commonName", "ada"),) in cert["subject"] else None

    def handle_any(self):
        n = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(n) if n else b""
        path, _, query = self.path.partition("?")
        q = {k: v[0] for k, v in urllib.parse.parse_qs(query).items()}
        api = self.api
        with api.lock:
            api.requests.append((self.command, self.path))
            for r in api.refusals:
                if r[0] == self.command and re.search(r[1], self.path) and r[5] > 0:
                    r[5] -= 1
                    return self.fail(r[2], r[3], r[4])
        if not self.who():
            return self.fail(401, "Unauthorized", "Unauthorized")
        if path == "/version":
            return self.answer(200, {"major": "1", "minor": "20", "gitVersion": "v1.20.2"})
        if path.endswith("/selfsubjectaccessreviews"):
            a = json.loads(raw.decode())["spec"]["resourceAttributes"]
            what = a["verb"] + " " + a["resource"] + ("/" + a["subresource"] if a.get("subresource") else "")
            return self.answer(201, {"kind": "SelfSubjectAccessReview", "status": {"allowed": what not in api.denied}})
        m = re.match(r"/(?:api/v1|apis/apps/v1)/namespaces/([^/]+)/(deployments|pods|secrets)(?:/([^/]+))?(/log)?$", path)
        if not m:
            return self.fail(404, "NotFound", "the server could not find the requested resource")
        ns, kind, name, log = m.groups()
        if self.command == "GET" and log:
            return self.answer(200, None, text=api.logs)
        if self.command == "GET" and not name and q.get("watch"):
            return self.watch(ns, kind, q)
        with api.lock:
            return self.one(ns, kind, name, q, raw)

    def one(self, ns, kind, name, q, raw):
        api = self.api
        key, full = (kind, ns, name), {"deployments": "deployments.apps"}.get(kind, kind)
        if ns == "nosuch" and self.command == "POST":
            return self.fail(404, "NotFound", 'namespaces "nosuch" not found')
        if self.command == "POST":
            obj = json.loads(raw.decode())
            key = (kind, ns, obj["metadata"]["name"])
            if key in api.objects:
                return self.fail(409, "AlreadyExists", '%s "%s" already exists' % (full, key[2]))
            if q.get("dryRun"):
                return self.answer(201, obj)
            return self.answer(201, api.put(kind, ns, obj))
        if self.command == "GET" and not name:
            return self.list(ns, kind, q)
        if self.command == "DELETE" and not name:
            for k in [k for k, o in api.objects.items() if k[:2] == (kind, ns) and self.selected(o, q)]:
                api.remove(*k)
            return self.answer(200, {"kind": "Status", "status": "Success"})
        if key not in api.objects:
            return self.fail(404, "NotFound", '%s "%s" not found' % (full, name))
        if self.command == "PATCH":
            if self.headers.get("Content-Type") != "application/merge-patch+json":
                return self.fail(415, "UnsupportedMediaType", "415: Unsupported Media Type")
            api.scale(ns, name, json.loads(raw.decode())["spec"]["replicas"])
            return self.answer(200, api.objects[key])
        if self.command == "DELETE" and kind == "pods":
            api.delete_pod(api.objects[key])
        elif self.command == "DELETE":
            api.remove(*key)
            return self.answer(200, {"kind": "Status", "status": "Success"})
        return self.answer(200, api.objects[key])

    def selected(self, obj, q):
        labels = obj["metadata"].get("labels", {})
        return all(labels.get(k) == v for k, v in (s.split("=", 1) for s in q.get("labelSelector", "").split(",") if s))

    def list(self, ns, kind, q):
        api = self.api
        names = [k for k in sorted(api.objects) if k[:2] == (kind, ns) and self.selected(api.objects[k], q)]
        start, limit = int(q.get("continue") or 0), min(int(q.get("limit") or 500), api.__dict__.get("page", 500))
        meta = {"resourceVersion": str(api.version)}
        if start + limit < len(names):
            meta["continue"] = str(start + limit)
        self.answer(200, {"kind": "List", "metadata": meta, "items": [api.objects[k] for k in names[start:start + limit]]})

    def watch(self, ns, kind, q):
        api, last = self.api, int(q.get("resourceVersion") or 0)
        end = time.monotonic() + int(q.get("timeoutSeconds") or 60)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        server = api.server

        def line(obj):
            text = json.dumps(obj).encode() + b"\n"
            half = len(text) // 2       # events come in pieces
            for part in (text[:half], text[half:]):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        try:
            while time.monotonic() < end and not api.ending and api.server is server:
                with api.lock:
                    if last < api.oldest:
                        line({"type": "ERROR", "object": status_object(410, "Expired", "too old resource version: %d (%d)" % (last, api.oldest))})
                        break
                    news = [e for e in api.events if e[0] > last and e[2] == kind and e[3] == ns and self.selected(e[4], q)]
                    if not news:
                        api.lock.wait(0.5)
                        continue
                for version, type_, _, _, obj in news:
                    line({"type": type_, "object": obj})
                    last = version
            self.wfile.write(b"0\r\n\r\n")
        except (OSError, ValueError):
            self.close_connection = True

    do_GET = do_POST = do_DELETE = do_PATCH = handle_any
