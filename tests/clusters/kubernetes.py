#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Kubernetes, the real one: control plane and kubelet on this host, started by tests/testbed/kubernetes in a network namespace of its own.
No task is lost, nothing is left in the cluster."""
import contextlib
import http.server
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from e2e import Fabric, call, gather, main, register, register_command, submit, wait_for  # noqa: E402
from kube_endpoint import KubeEndpoint  # noqa: E402
import testbed  # noqa: E402

API = "https://127.0.0.1:16443"
NODE = "192.0.2.10"
IMAGE = "weft-worker:test"


class Cluster:
    def __init__(self, build):
        self.dir = tempfile.mkdtemp(prefix="weft-k8s-")
        self.bin = os.path.join(os.path.abspath(build), "bin")
        self.tls = None

    def bed(self, command, *args, check=True):
        testbed.bed("kubernetes", command, self.dir, *args, check=check)

    def start(self):
        with testbed.starting("Kubernetes"):
            self.bed("up")
            self.bed("node")
        self.bed("image", IMAGE, self.bin)
        self.tls = ssl.create_default_context(cafile=os.path.join(self.dir, "ca.crt"))
        self.apply_documented_role()

    def api(self, method, path, body=None, kind="application/json", quiet=False):
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode() if body is not None else None
        r = urllib.request.Request(API + path, data, {"Authorization": "Bearer admin-token", "Content-Type": kind}, method=method)
        try:
            with urllib.request.urlopen(r, timeout=20, context=self.tls) as f:
                return json.loads(f.read().decode())
        except urllib.error.HTTPError as e:
            if quiet:
                return None
            raise RuntimeError("%s %s: %s" % (method, path, e.read().decode()))

    def apply_documented_role(self):
        """What docs/providers/kubernetes.md tells administrators to apply, as it stands there; then a token of that service account."""
        with open(os.path.join(ROOT, "docs", "providers", "kubernetes.md")) as f:
            text = re.search(r"```yaml\n(   apiVersion: v1\n   kind: Namespace.*?)```", f.read(), re.S).group(1)
        rbac, where = "/apis/rbac.authorization.k8s.io/v1/namespaces/weft/", {"Namespace": "/api/v1/namespaces"}
        where.update(ServiceAccount="/api/v1/namespaces/weft/serviceaccounts", Role=rbac + "roles", RoleBinding=rbac + "rolebindings")
        for doc in text.replace("\n   ", "\n").strip().split("\n---\n"):
            self.api("POST", where[re.search(r"kind: (\w+)\n", doc).group(1)], doc + "\n", "application/yaml")
        wait_for(lambda: self.api("GET", "/api/v1/namespaces/weft/serviceaccounts/default", quiet=True), 60, "the namespace's default account")
        token = self.api("POST", "/api/v1/namespaces/weft/serviceaccounts/weft-endpoint/token", {"spec": {"expirationSeconds": 7200}})
        with open(os.path.join(self.dir, "kubeconfig-weft")) as f:
            text = f.read().replace("weft-token", token["status"]["token"])
        with open(os.open(os.path.join(self.dir, "kubeconfig-account"), os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
            f.write(text)

    def of(self, kind):
        group = "/apis/apps/v1" if kind in ("deployments", "replicasets") else "/api/v1"
        items = self.api("GET", "%s/namespaces/weft/%s?labelSelector=weft%%2Fendpoint" % (group, kind))["items"]
        return [o for o in items if not o["metadata"].get("deletionTimestamp")]

    def left(self):
        """All that has an endpoint's label, or is being deleted still, once it has had time to go."""
        def look():
            out = []
            for kind in ("deployments", "replicasets", "pods", "secrets"):
                group = "/apis/apps/v1" if kind in ("deployments", "replicasets") else "/api/v1"
                out += self.api("GET", "%s/namespaces/weft/%s?labelSelector=weft%%2Fendpoint" % (group, kind))["items"]
            return out
        try:
            wait_for(lambda: not look(), 90, "nothing is left")
        except TimeoutError:
            pass
        return [o["metadata"]["name"] for o in look()]

    def logs(self):
        out = []
        for name in ("kube-apiserver", "kubelet", "dockerd"):
            with open(os.path.join(self.dir, name + ".log"), errors="replace") as f:
                out.append("== %s\n%s" % (name, f.read()[-1500:]))
        return "\n".join(out)

    def close(self):
        self.bed("down", check=self.tls is not None)
        shutil.rmtree(self.dir, ignore_errors=True)


class World(Fabric):
    def __init__(self, build):
        super().__init__(build, workers=1)
        self.k8s = Cluster(build)

    def start(self):
        self.k8s.start()
        super().start()
        self.double = register(self, "def double(x):\n    return 2 * x", "double")
        self.slow = register(self, "import time\ndef slow(s):\n    time.sleep(s)\n    return s", "slow")
        self.where = register(self, "import os\ndef where():\n    return [os.getuid(), os.uname().nodename, os.environ.get('WEFT_MANAGER_KEY'), "
                                    "[f for f in os.listdir('/') if os.access('/' + f, os.W_OK)]]", "where")
        return self

    def http(self, *args, **kw):
        self._conn = None       # tests wait for longer than the service keeps an idle connection
        return super().http(*args, **kw)

    def kube(self, *provider, config="kubeconfig-account", image=IMAGE, scaling=None, top=()):
        lines = ["kubeconfig: " + os.path.join(self.k8s.dir, config), "image: " + image, "host_network: true", "memory_request: 64Mi"]
        lines += [] if any(p.startswith("cpu_request") for p in provider) else ["cpu_request: 50m"]
        lines += [] if any(p.startswith("image_pull_policy") for p in provider) else ["image_pull_policy: Never"]
        more = {"max_failures_per_hour": 1, "connect_timeout": "2m"}
        more.update(scaling or {})
        return KubeEndpoint(self, lines + list(provider), more, ["manager_address: " + NODE, "workers_per_node: 1"] + list(top))

    def stop(self, remove=True):
        left = super().stop(remove)
        if remove and not self.keep:
            self.k8s.close()
        return left


def nothing_left(report, f, name):
    left = f.k8s.left()
    report.check(name + ": nothing is left", left == [], left)


def test_scale(report, f):
    with f.kube(scaling={"max_blocks": 3, "nodes_per_block": 2, "idle_timeout": "3s"}) as e:
        r = e.run("doctor")
        report.check("doctor: the documented role is enough", "access       all that is needed" in r.stdout and "the API server takes it" in r.stdout,
                     r.stdout)
        e.start()
        began = time.monotonic()
        doc = call(f, f.double, 21, endpoint=e.id, wait=60)
        report.check("a task runs in a pod", doc.get("status") == "success" and json.loads(doc["result"]) == 42, (doc, e.said()))
        print("# from no pod to a result: %.1f s" % (time.monotonic() - began))
        doc = call(f, f.where, endpoint=e.id)
        uid, node, key, writable = json.loads(doc["result"])
        report.check("as the image's user, without the key, on a root it cannot write", uid == 10001 and key is None
                     and set(writable) <= {"tmp", "dev", "proc", "run"}, doc)
        ids, _ = submit(f, f.slow, [{"args": [4]} for _ in range(12)], endpoint=e.id)
        wait_for(lambda: len(f.k8s.of("deployments")) == 3, 60, "3 Deployments")
        docs = gather(f, ids, timeout=120)
        report.check("scaled up under load, all tasks done", all(d["status"] == "success" for d in docs.values()), docs)
        report.check("3 Deployments of 2 pods", sum(d["spec"]["replicas"] for d in f.k8s.of("deployments")) <= 6)
        wait_for(lambda: not f.k8s.of("deployments"), 90, "idle Deployments are gone")
        report.check("scaled down to none when idle", True)
    nothing_left(report, f, "scaling")


def test_pods_killed(report, f):
    with f.kube(scaling={"nodes_per_block": 2}, top=["retries_on_loss: 5"]) as e:
        e.start()
        ids, _ = submit(f, f.slow, [{"args": [15]} for _ in range(4)], endpoint=e.id)
        wait_for(lambda: sum(m["tasks"] for m in e.managers()) >= 2, 90, "two pods work")

        def containers():       # the kubelet tells of them some seconds later
            pods = f.k8s.of("pods")
            return pods if len(pods) == 2 and all(c.get("containerID") for p in pods for c in p["status"].get("containerStatuses", [{}])) else None
        pods = wait_for(containers, 60, "the API server knows both containers")
        f.k8s.api("DELETE", "/api/v1/namespaces/weft/pods/%s?gracePeriodSeconds=0" % pods[0]["metadata"]["name"])
        for p in pods[1:]:
            container = p["status"]["containerStatuses"][0]["containerID"].replace("docker://", "")
            subprocess.run(["docker", "-H", "unix://%s/docker/docker.sock" % f.k8s.dir, "kill", container], check=True, stdout=subprocess.DEVNULL)
        docs = gather(f, ids, timeout=120)
        report.check("pods deleted and killed while they work: all tasks done", all(d["status"] == "success" for d in docs.values()), docs)
        wait_for(lambda: re.search("2 of 2 pods run", e.text()), 90, "both pods run again")
        report.check("the Deployment has replaced them", e.blocks()["started"] == 1, e.blocks())
    nothing_left(report, f, "killed pods")


def trouble(report, f, name, first, end, *provider, deadline=15, **more):
    with f.kube("start_deadline: %ds" % deadline, *provider, **more) as e:
        e.start()
        submit(f, f.double, [{"args": [1]}], endpoint=e.id)
        for what, pattern in ((name, first), (name + ": given up", end)):
            try:
                report.check(what, e.wait_said(pattern, 120))
            except TimeoutError as x:
                report.check(what, False, x)


@contextlib.contextmanager
def registry_of_nothing():
    """host:port of one that has no image."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path == "/v2/"
            body = b"{}" if found else b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)
        do_HEAD = do_GET

        def log_message(self, *args):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield "127.0.0.1:%d" % server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def test_images(report, f):
    trouble(report, f, "an image whose registry is not there", "ErrImagePull: .*connection refused|ImagePullBackOff: Back-off pulling",
            "no pod ran for 15 s .*(ErrImagePull|ImagePullBackOff)", "image_pull_policy: Always", image="localhost:1/nosuch:1")
    with registry_of_nothing() as host:
        trouble(report, f, "a tag that the registry has not", "ErrImagePull: .*manifest unknown", "pod .*ErrImagePull: .*manifest unknown",
                "image_pull_policy: Always", deadline=3600, image=host + "/nosuch:1")
    trouble(report, f, "an image that is not on the node", "ErrImageNeverPull", "ErrImageNeverPull: Container image .nosuch:1. is not present",
            image="nosuch:1")
    trouble(report, f, "an image name that is none", "InvalidImageName", "InvalidImageName: Failed to apply default image tag", image="Bad/Image")
    nothing_left(report, f, "images")


MODEL = "import os\ndef model():\n    return [open('/model').read().strip(), os.path.exists('/usr/bin/weft-manager')]"


def docker_build(f, tag, *lines, files=()):
    """An image of its own on the node, that knows nothing of Weft."""
    with tempfile.TemporaryDirectory() as context:
        for path in files:
            shutil.copy(path, context)
        with open(os.path.join(context, "Dockerfile"), "w") as out:
            out.write("\n".join(lines) + "\n")
        subprocess.run(["docker", "-H", "unix://%s/docker/docker.sock" % f.k8s.dir, "build", "--quiet", "--network=none", "--tag", tag, context],
                       check=True, stdout=subprocess.DEVNULL)


def test_functions_name_their_images(report, f):
    for n in "12":
        docker_build(f, "model:" + n, "FROM worker-root", "RUN echo %s >/model" % n)
    shout = os.path.join(f.k8s.dir, "shout")
    with open(shout + ".c", "w") as out:
        out.write("#include <ctype.h>\n#include <stdio.h>\nint main (void) { int c; while ((c = getchar ()) != EOF) putchar (toupper (c)); return 0; }\n")
    subprocess.run(["cc", "-static", "-o", shout, shout + ".c"], check=True)
    docker_build(f, "bare:1", "FROM scratch", "COPY shout /shout", files=[shout])
    fns = [register(f, MODEL, "model", container={"image": "model:" + n}) for n in "12"]
    bare = register_command(f, ["/shout"], container={"image": "bare:1"})
    with f.kube("start_deadline: 60s", scaling={"max_blocks": 4, "idle_timeout": "3s"}) as e:
        e.start()
        for n, fn in zip("12", fns):
            began = time.monotonic()
            doc = call(f, fn, endpoint=e.id, wait=90)
            report.check("a call in an image that knows nothing of Weft (%s)" % n, doc.get("status") == "success"
                         and json.loads(doc["result"]) == [n, False], (doc, e.said(), e.log()))
            print("# from no pod of the image to a result: %.1f s" % (time.monotonic() - began))
        report.check("the endpoint's own pods beside them", call(f, f.double, 2, endpoint=e.id, wait=90).get("status") == "success")
        ids, _ = submit(f, bare, ["hello"], endpoint=e.id)
        doc = gather(f, ids, timeout=120)[ids[0]]
        report.check("an image with nothing but one program", doc.get("status") == "success" and "HELLO" in json.dumps(doc), (doc, e.said(), e.log()))
        nosuch = call(f, register(f, MODEL, "model", container={"image": "nosuch:1"}), endpoint=e.id, wait=90)
        report.check("an image that is not there: its task ends with the cluster's words", nosuch.get("status") == "failed"
                     and "ErrImageNeverPull" in json.dumps(nosuch), nosuch)
        report.check("others go on", call(f, fns[0], endpoint=e.id, wait=90).get("status") == "success")
        wait_for(lambda: not f.k8s.of("deployments"), 120, "idle Deployments are gone")
        report.check("scaled down to none when idle", True)
    nothing_left(report, f, "functions with images")


def test_replicas(report, f):
    for n in "34":
        docker_build(f, "model:" + n, "FROM worker-root", "RUN echo %s >/model" % n)
    fn = register(f, MODEL, "model", container={"image": "model:3", "replicas": 2})

    def images():
        return sorted(d["spec"]["template"]["spec"]["containers"][0]["image"] for d in f.k8s.of("deployments"))

    def settled(want):
        return images() == want and e.blocks()["up"] == len(want)
    with f.kube("start_deadline: 60s", scaling={"max_blocks": 3, "idle_timeout": "2s"}) as e:
        e.start()
        call(f, fn, endpoint=e.id, wait=90)
        wait_for(lambda: settled(["model:3"] * 2), 90, "2 pods of it")
        report.check("so many pods as the function has replicas", True)
        got = []

        def rolled():
            doc = call(f, fn, endpoint=e.id, wait=60)
            got.append(json.loads(doc["result"])[0] if doc.get("status") == "success" else doc)
            return settled(["model:4"] * 2)
        status, body = f.http("PATCH", "/v3/functions/" + fn, {"container": {"image": "model:4"}})[:2]
        wait_for(rolled, 120, "both are of the new image")
        rolled()
        report.check("another image: no call fails while pods are replaced", status == 200 and set(got) <= {"3", "4"} and got[-1] == "4", (body, got))
        print("# calls meanwhile: %d of the old image, %d of the new one" % (got.count("3"), got.count("4")))
        f.http("PATCH", "/v3/functions/" + fn, {"container": {"replicas": 0}})
        wait_for(lambda: not f.k8s.of("deployments"), 90, "idle ones go")
        report.check("without replicas they go when they are idle", True)
    nothing_left(report, f, "replicas")


def test_crash(report, f):
    trouble(report, f, "a program that is not in the image", "(RunContainerError|CrashLoopBackOff|ContainerCannotRun)",
            "its pods failed .*(no such file|exit code 127|CrashLoopBackOff)", "manager: /nonexistent", "max_pod_failures: 1", deadline=110)
    trouble(report, f, "a manager that ends", "Error, exit code 1|CrashLoopBackOff", "its pods failed 2 times .*exit code 1", "manager: /bin/false",
            "max_pod_failures: 1", deadline=110)
    nothing_left(report, f, "crashes")


def test_scheduling_and_quota(report, f):
    trouble(report, f, "a pod that fits nowhere", "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu",
            "no pod ran for 15 s .*Insufficient cpu", "cpu_request: \"1000\"")
    f.k8s.api("POST", "/api/v1/namespaces/weft/resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}})
    wait_for(lambda: f.k8s.api("GET", "/api/v1/namespaces/weft/resourcequotas/q").get("status", {}).get("hard"), 60, "the quota is in force")
    try:
        trouble(report, f, "a quota that is used up", "FailedCreate: .*exceeded quota: q", "no pod ran for 15 s .*exceeded quota: q")
    finally:
        f.k8s.api("DELETE", "/api/v1/namespaces/weft/resourcequotas/q")
    nothing_left(report, f, "scheduling and quota")


def test_forbidden(report, f):
    with f.kube(config="kubeconfig-alice", scaling={"init_blocks": 1}) as e:
        r = e.run("doctor")
        report.check("doctor: all rights that are missing", r.returncode and "may not, in namespace weft: create deployments.apps" in r.stdout
                     and "create secrets" in r.stdout, r.stdout)
        e.start()
        said = e.wait_said('deployments.apps is forbidden: User "alice" cannot create')
        report.check("a user without rights", said)
        report.check("and cannot watch", e.wait_said('cannot be watched: \\S+ is forbidden: User "alice"'))
    with f.kube(config="kubeconfig-cert") as e:
        r = e.run("doctor")
        report.check("a client certificate is a user", "may not, in namespace weft" in r.stdout, r.stdout)
    nothing_left(report, f, "forbidden")


def test_server_stopped(report, f):
    with f.kube(scaling={"max_blocks": 2}) as e:
        e.start()
        call(f, f.double, 1, endpoint=e.id, wait=60)
        f.k8s.bed("kill", "kube-apiserver")
        report.check("the API server is away", e.wait_said("cannot be watched: .*pods that run are used", 60))
        doc = call(f, f.double, 2, endpoint=e.id)
        report.check("its pods work on", doc.get("status") == "success", doc)
        ids, _ = submit(f, f.slow, [{"args": [2]} for _ in range(8)], endpoint=e.id)
        e.wait_said("Couldn't connect|Connection refused|Failed to connect", 60)
        f.k8s.bed("up")
        wait_for(lambda: not e.blocks().get("scheduler"), 90, "the watch is resumed")
        docs = gather(f, ids, timeout=120)
        report.check("the server is back, the watch resumed, all tasks done", all(d["status"] == "success" for d in docs.values()), docs)
        report.check("no block was lost by it", e.blocks()["failed"] == 0, e.blocks())
        submit(f, f.slow, [{"args": [4]} for _ in range(6)], endpoint=e.id)
        e.wait_up(2, 90)
        report.check("and scales again", len(f.k8s.of("deployments")) == 2)
    nothing_left(report, f, "server stopped")


def test_agent_killed(report, f):
    with f.kube() as e:
        e.start()
        call(f, f.double, 1, endpoint=e.id, wait=60)
        old = f.k8s.of("deployments")[0]["metadata"]
        e.kill()
        ids, _ = submit(f, f.double, [{"args": [8]}], endpoint=e.id)
        e.start()
        docs = gather(f, ids, timeout=120)
        new = [d["metadata"] for d in f.k8s.of("deployments")]
        report.check("an agent killed and started again finds what is its own", docs[ids[0]]["status"] == "success" and len(new) == 1
                     and new[0]["name"] == old["name"] and new[0]["uid"] != old["uid"], (docs, new))
    nothing_left(report, f, "killed agent")


def prepare():
    testbed.need("etcd", "dockerd", "runc", "mmdebstrap", "openssl", "curl", "ip", "unshare")
    if subprocess.run([os.path.join(testbed.BEDS, "kubernetes"), "built"]).returncode:
        raise testbed.Skip("its programs are not in %s: tests/testbed/kubernetes build makes them from Debian's source, once, in about 40 minutes"
                           % testbed.CACHE)
    with testbed.starting("Kubernetes"):
        testbed.bed("kubernetes", "root")
        subprocess.run(["unshare", "--net", "true"], check=True)


def inside():
    """Run all of it once more, in a network namespace of its own."""
    env = dict(os.environ, WEFT_TEST_INSIDE="1", PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
    return subprocess.run(["unshare", "--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh", sys.executable] + sys.argv, env=env).returncode


if __name__ == "__main__":
    if not os.environ.get("WEFT_TEST_INSIDE"):
        try:
            prepare()
        except testbed.Skip as e:
            print("skip - kubernetes: %s\n0 passed, 0 failed, 1 skipped" % e)
            sys.exit(0)
        sys.exit(inside())
    main(__doc__, [t for n, t in list(globals().items()) if n.startswith("test_")], World)
