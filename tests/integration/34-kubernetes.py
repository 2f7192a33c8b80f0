#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes provider against a scripted API server (TLS, token and client certificate): pods that work and pods that do not, a server
that goes and comes back, agents that are killed, and nothing left behind. Pods that run are real managers and workers on this host."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), os.path.join(HERE, "..", "fakes")]
import kubeapi  # noqa: E402
from e2e import HOLD, Fabric, call, gather, main, processes, register, submit, wait_for  # noqa: E402
from kube_endpoint import KubeEndpoint  # noqa: E402


class Pods:
    """Runs the command of a pod on this host, its directories in one of ours."""

    def __init__(self, build):
        self.bin, self.dir, self.n, self.commands = os.path.join(os.path.abspath(build), "bin"), tempfile.mkdtemp(prefix="weft-pods-"), 0, []

    def __call__(self, command, env, pod):
        self.commands.append(command)
        self.n += 1
        home = os.path.join(self.dir, str(self.n))
        os.mkdir(home)
        volume = os.path.join(self.dir, pod["metadata"]["uid"])
        words = [a.replace("/var/lib/weft", home).replace("/opt/weft", volume) for a in command]
        argv = [os.path.join(self.bin, words[0])] + words[1:]
        env = dict(env, IMAGE=pod["spec"]["containers"][0]["image"])
        with open(os.path.join(home, "log"), "ab") as log:
            return subprocess.Popen(argv, env=dict({"PATH": os.environ["PATH"]}, **env), stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def logs(self):
        out = []
        for n in range(1, self.n + 1):
            with open(os.path.join(self.dir, str(n), "log")) as f:
                out.append(f.read()[-2000:])
        return "\n".join(out)


class World(Fabric):
    def __init__(self, build):
        super().__init__(build, workers=1)
        self.pods = Pods(build)
        self.k8s = kubeapi.KubeApi(os.path.join(self.state, "k8s"))
        self.k8s.runner = self.pods

    def kube(self, *provider, config="kubeconfig", scaling=None, name="kube", top=()):
        lines = ["kubeconfig: " + os.path.join(self.k8s.dir, config), "image: registry.example/weft:1", "cpu_request: \"1\""]
        return KubeEndpoint(self, lines + list(provider), scaling, ["manager_address: 127.0.0.1"] + list(top), name)

    def clean(self):
        """What is left in the cluster, once it has had time to go."""
        def left():
            return self.k8s.of("deployments") + self.k8s.of("pods") + self.k8s.of("secrets")
        try:
            wait_for(lambda: not left(), 30, "nothing is left")
        except TimeoutError:
            pass
        return [o["metadata"]["name"] for o in left()]

    def reset(self):
        self.k8s.allow()
        self.k8s.plan, self.k8s.plans, self.k8s.quota = (lambda n: [kubeapi.CREATING, kubeapi.RUNNING]), {}, None

    def stop(self, remove=True):
        left = super().stop(remove)
        if remove and not self.keep:
            self.k8s.close()
            shutil.rmtree(self.pods.dir, ignore_errors=True)
        return left


def double(f):
    if not hasattr(f, "double"):
        f.double = register(f, "def double(x):\n    return 2 * x", "double")
        f.slow = register(f, "import time\ndef slow(s):\n    time.sleep(s)\n    return s", "slow")
    return f.double


def gated(f, e, n):
    """Tasks that run until what comes with them is called."""
    gate = os.path.join(tempfile.mkdtemp(dir=f.state), "gate")
    return submit(f, register(f, HOLD, "hold"), [{"args": [gate]}] * n, endpoint=e.id)[0], lambda: open(gate, "w").close()


def test_runs_and_scales(report, f):
    with f.kube(scaling={"max_blocks": 3, "nodes_per_block": 2, "idle_timeout": "1s"}, top=["workers_per_node: 1"]) as e:
        e.start()
        report.check("without tasks there is no Deployment", not f.k8s.of("deployments"))
        doc = call(f, double(f), 21, endpoint=e.id)
        report.check("a task runs in a pod", doc.get("status") == "success" and json.loads(doc["result"]) == 42, doc)
        d = f.k8s.of("deployments")[0]
        report.check("the Deployment was scaled to the nodes of a block", d["spec"]["replicas"] == 2, d["spec"]["replicas"])
        owner = f.k8s.of("secrets")[0]["metadata"]["ownerReferences"][0]
        report.check("it owns the Secret", owner["uid"] == d["metadata"]["uid"], owner)
        text = json.dumps(f.k8s.of("deployments")) + json.dumps(f.k8s.of("pods"))
        key = f.k8s.of("secrets")[0]["data"]["manager-key"]
        import base64
        report.check("the key is in the Secret only", base64.b64decode(key).decode() not in text.replace("$$", "$"))
        pid = [p for p in f.k8s.processes.values() if p.poll() is None][0].pid

        def wiped():
            with open("/proc/%d/environ" % pid, "rb") as env:
                return base64.b64decode(key) not in env.read()
        wait_for(wiped, 30, "the manager wipes it from its environment")     # it may have started just now
        report.check("the manager wipes it from its environment", True)
        report.check("status names Deployment and pods", "Deployment weft-kube-" in e.text() and "2 of 2 pods run" in e.text(), e.text())
        ids, go = gated(f, e, 12)
        wait_for(lambda: len(f.k8s.of("deployments")) == 3, 60, "3 Deployments under load")
        go()
        docs = gather(f, ids)
        report.check("scaled up to 3 Deployments, all tasks done", all(x["status"] == "success" for x in docs.values()))
        wait_for(lambda: not f.k8s.of("deployments"), 30, "idle Deployments are gone")
        report.check("scaled down to none when idle", True)
        report.check("pods, Secrets went with them", f.clean() == [], f.clean())


def pods_of(f):
    return {p["metadata"]["name"] for p in f.k8s.of("pods")}


def test_pod_killed(report, f):
    f.reset()
    with f.kube() as e:
        e.start()
        ids, go = gated(f, e, 1)
        wait_for(lambda: any(m["tasks"] for m in e.managers()), 30, "the task runs")
        for p in f.k8s.processes.values():
            if p.poll() is None:
                p.kill()
        pod = f.k8s.of("pods")[0]
        with f.k8s.lock:
            f.k8s.delete_pod(f.k8s.objects[("pods", "weft", pod["metadata"]["name"])])
        go()
        doc = gather(f, ids)[ids[0]]
        report.check("a pod that is killed is replaced, its task runs again", doc["status"] == "success", doc)
        report.check("another pod did it", doc["node"] in pods_of(f) - {pod["metadata"]["name"]}, (doc["node"], pods_of(f)))
    report.check("nothing is left after stop", f.clean() == [], f.clean())


def trouble(report, f, name, plan, pattern, *provider, end=None, quota=None):
    """A plan for pods, what status must say while it waits, and how the block ends when its budget is spent."""
    f.reset()
    f.k8s.plan, f.k8s.quota = (lambda n: plan), quota
    with f.kube(*provider, scaling={"max_failures_per_hour": 1}) as e:
        e.start()
        submit(f, f.double, [{"args": [1]}], endpoint=e.id)
        try:
            report.check(name, e.wait_said(pattern))
        except TimeoutError as x:
            report.check(name, False, x)
        if end:
            try:
                report.check(name + ": given up", e.wait_said(end))
                e.wait_said("no more are started")
                left = f.clean()
                report.check(name + ": given back", left == [], left)
            except TimeoutError as x:
                report.check(name + ": given up", False, x)
        # the task would wait for ever: it is not for this endpoint's next test
        e.run("drain")
    report.check(name + ": nothing is left", f.clean() == [], f.clean())


def test_image_that_cannot_be_pulled(report, f):
    pull = kubeapi.waiting("ErrImagePull", 'rpc error: code = Unknown desc = Error response from daemon: manifest for nosuch:1 not found')
    back = kubeapi.waiting("ImagePullBackOff", 'Back-off pulling image "nosuch:1"')
    trouble(report, f, "an image that cannot be pulled", [kubeapi.CREATING, pull, back], "ErrImagePull.*not found|ImagePullBackOff: Back-off pulling",
            "start_deadline: 2s", end="no pod ran for 2 s .*ImagePullBackOff: Back-off pulling image")


def test_image_that_its_registry_has_not(report, f):
    pull = kubeapi.waiting("ErrImagePull", 'rpc error: code = Unknown desc = Error response from daemon: manifest for nosuch:1 not found: manifest unknown')
    trouble(report, f, "a tag that is not in the registry", [kubeapi.CREATING, pull], "ErrImagePull.*manifest unknown",
            "start_deadline: 1h", end="pod .*manifest unknown")


def test_image_name_that_is_none(report, f):
    bad = kubeapi.waiting("InvalidImageName", 'Failed to apply default image tag "Bad Image"')
    trouble(report, f, "an image name that is none", [bad], "InvalidImageName: Failed to apply default image tag", end="InvalidImageName")


def test_unschedulable(report, f):
    trouble(report, f, "a pod that fits nowhere", [kubeapi.unschedulable("0/1 nodes are available: 1 Insufficient cpu.")],
            "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu", "start_deadline: 2s", end="no pod ran for 2 s .*Insufficient cpu")


def test_quota(report, f):
    words = 'pods "weft-x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2'
    trouble(report, f, "a quota that is used up", [], "FailedCreate: pods .* is forbidden: exceeded quota: q", "start_deadline: 2s",
            end="no pod ran for 2 s .*exceeded quota", quota=words)


def test_crash_loop(report, f):
    last = {"exitCode": 3, "reason": "Error"}
    plan = [kubeapi.terminated(3), kubeapi.waiting("CrashLoopBackOff", "back-off 10s restarting failed container", 1, last),
            kubeapi.terminated(3, restarts=1), kubeapi.waiting("CrashLoopBackOff", "back-off 20s restarting failed container", 3, last)]
    trouble(report, f, "a pod that crashes", plan, "ended: Error, exit code 3|CrashLoopBackOff", "max_pod_failures: 2",
            end="its pods failed 3 times .*CrashLoopBackOff.*exit code 3.*the pod's last words")


def test_out_of_memory(report, f):
    plan = [kubeapi.terminated(137, "OOMKilled", restarts=r) for r in range(4)]
    trouble(report, f, "a pod without enough memory", plan, "OOMKilled, exit code 137", "max_pod_failures: 1", end="its pods failed .*OOMKilled")


def refused(report, f, name, method, path, code, reason, message, pattern, end=True):
    f.reset()
    f.k8s.refuse(method, path, code, reason, message)
    with f.kube(scaling={"max_failures_per_hour": 1, "init_blocks": 1}) as e:
        e.start()
        try:
            report.check(name, e.wait_said(pattern))
            if end:
                e.wait_said("no more are started")
        except TimeoutError as x:
            report.check(name, False, x)
        f.k8s.allow()
    report.check(name + ": nothing is left", f.clean() == [], f.clean())


def test_refusals(report, f):
    refused(report, f, "not allowed to make Deployments", "POST", "/deployments", 403, "Forbidden",
            'deployments.apps is forbidden: User "system:serviceaccount:weft:runner" cannot create resource "deployments" in API group "apps"',
            'deployments.apps is forbidden: User "system:serviceaccount:weft:runner" cannot create')
    refused(report, f, "no such namespace", "POST", "/deployments", 404, "NotFound", 'namespaces "weft" not found', 'namespaces "weft" not found')
    refused(report, f, "an invalid Deployment", "POST", "/deployments", 422, "Invalid", 'Deployment.apps "weft" is invalid: spec.x', "is invalid: spec.x")
    refused(report, f, "not allowed to make Secrets", "POST", "/secrets", 403, "Forbidden", "secrets is forbidden: User cannot create",
            "secrets is forbidden")
    refused(report, f, "not allowed to watch pods", "GET", "/pods", 403, "Forbidden", 'pods is forbidden: User "alice" cannot list resource "pods"',
            'Kubernetes .*pods cannot be watched: pods is forbidden: User "alice"', end=False)
    refused(report, f, "a server with trouble of its own", "POST", "/deployments", 500, "InternalError", "etcdserver: request timed out",
            "etcdserver: request timed out", end=False)


def test_passing_errors(report, f):
    f.reset()
    f.k8s.refuse("POST", "/deployments", 503, "ServiceUnavailable", "the server is currently unable to handle the request", 2)
    f.k8s.refuse("POST", "/deployments", 403, "Forbidden", "deployments.apps is forbidden: User cannot create", 1)    # it has not read its rules yet
    f.k8s.refuse("POST", "/secrets", 429, "TooManyRequests", "Too many requests, please try again later.", 1)
    f.k8s.refuse("PATCH", "/deployments", 500, "InternalError", "etcdserver: leader changed", 1)
    with f.kube() as e:
        e.start()
        doc = call(f, double(f), 4, endpoint=e.id)
        report.check("errors that pass are waited out", doc.get("status") == "success", doc)
        f.k8s.refuse("DELETE", "/deployments/", 500, "InternalError", "etcdserver: leader changed", 1)
    report.check("also when deleting", f.clean() == [], f.clean())


def test_server_goes_and_comes(report, f):
    f.reset()
    with f.kube(config="kubeconfig-cert") as e:
        e.start()
        doc = call(f, double(f), 5, endpoint=e.id)
        report.check("with a client certificate", doc.get("status") == "success", doc)
        watches, lists = f.k8s.asked("GET", "/pods.*watch=1.*resourceVersion="), f.k8s.asked("GET", "/pods.*limit=")
        f.k8s.cut()
        wait_for(lambda: f.k8s.asked("GET", "/pods.*watch=1.*resourceVersion=") > watches, 30, "the watch is resumed")
        report.check("a watch that is cut is resumed from its version", f.k8s.asked("GET", "/pods.*limit=") == lists)
        f.k8s.expire()
        wait_for(lambda: f.k8s.asked("GET", "/pods.*limit=") > lists, 30, "a list after 410")
        report.check("410 Gone: listed again", True)
        f.k8s.down()
        report.check("a server that is away is told", e.wait_said("Kubernetes .* cannot be watched.*pods that run are used"))
        doc = call(f, f.double, 6, endpoint=e.id)
        report.check("what runs is used meanwhile", doc.get("status") == "success", doc)
        f.k8s.up()
        wait_for(lambda: not (e.blocks().get("scheduler") or ""), 60, "the trouble is over")
        report.check("the server is back: no trouble any more, same pod", len(f.k8s.of("pods")) == 1 and e.blocks()["started"] == 1, e.blocks())
    report.check("nothing is left", f.clean() == [], f.clean())


def test_deleted_by_others(report, f):
    f.reset()
    with f.kube() as e:
        e.start()
        call(f, double(f), 5, endpoint=e.id)
        name = f.k8s.of("deployments")[0]["metadata"]["name"]
        with f.k8s.lock:
            f.k8s.scale("weft", name, 0)
        report.check("one that somebody scales is told", e.wait_said("somebody else has scaled its Deployment to 0 pods, 1 were asked for"))
        with f.k8s.lock:
            f.k8s.remove("deployments", "weft", name)
        report.check("a Deployment that somebody deletes is noticed", e.wait_said("its Deployment was deleted by somebody else"))
        doc = call(f, f.double, 7, endpoint=e.id)
        report.check("another one takes its place", doc.get("status") == "success", doc)
    report.check("nothing is left", f.clean() == [], f.clean())


def test_agent_killed(report, f):
    f.reset()
    e = f.kube()
    with e:
        e.start()
        call(f, double(f), 5, endpoint=e.id)
        first = f.k8s.of("deployments")[0]["metadata"]
        e.kill()
        report.check("a killed agent leaves its Deployment", len(f.k8s.of("deployments")) == 1)
        e.start()
        wait_for(lambda: not f.k8s.of("deployments"), 30, "the old one is found and deleted")
        report.check("the next one finds and deletes it", True)
        # killed again, and a task comes at once: the same name is taken until the old one is gone
        call(f, f.double, 5, endpoint=e.id)
        second = f.k8s.of("deployments")[0]["metadata"]
        e.kill()
        ids, _ = submit(f, f.double, [{"args": [8]}], endpoint=e.id)
        e.start()
        doc = gather(f, ids)[ids[0]]
        third = f.k8s.of("deployments")[0]["metadata"]
        report.check("the same names again, other objects", doc["status"] == "success" and first["name"] == second["name"] == third["name"]
                     and len({first["uid"], second["uid"], third["uid"]}) == 3, (doc, first["name"], third["name"]))
    report.check("nothing is left", f.clean() == [], f.clean())


def test_memo_is_of_one_image(report, f):
    f.reset()
    log = os.path.join(f.state, "runs")
    fn = register(f, "def note(path):\n    with open(path, 'a') as f:\n        f.write('x')\n    return 7", "note", memoize=True)

    def runs(e):
        """Of two equal calls."""
        open(log, "w").close()
        for _ in range(2):
            doc = call(f, fn, log, endpoint=e.id)
            assert doc.get("status") == "success" and json.loads(doc["result"]) == 7, doc
        return os.path.getsize(log)
    with f.kube() as e:
        e.start()
        report.check("under a tag may be another image tomorrow: each call runs", runs(e) == 2, e.log()[-2000:])
        for name, digest, want in (("an image that its digest names: the second is answered", "a", 1), ("another image: nothing of the first one's", "b", 1),
                                   ("the first one again: what it made", "a", 0)):
            e.run("stop")
            e.start("provider.kubernetes.image=registry.example/weft@sha256:" + digest * 64)
            report.check(name, runs(e) == want)
    report.check("nothing of it is left", f.clean() == [], f.clean())


MODEL = "registry.example/model:"


def where(f, image, **container):
    """A function that says which image it runs in, which it names unless that is None."""
    more = {"container": dict(container, image=image)} if image else {}
    return register(f, "import os, time\ndef where(x=0, gate=None):\n    while gate and not os.path.exists(gate):\n        time.sleep(0.02)\n"
                       "    return os.environ['IMAGE']", "where", **more)


def said(doc):
    return json.loads(doc["result"]) if doc.get("status") == "success" else doc


def test_functions_name_their_images(report, f):
    f.reset()
    plain, one, two = where(f, None), where(f, MODEL + "1"), where(f, MODEL + "2", type="docker", network=True)
    with f.kube(scaling={"max_blocks": 3}, top=["workers_per_node: 2"]) as e:
        e.start()
        for fn, image in ((one, MODEL + "1"), (plain, "registry.example/weft:1"), (two, MODEL + "2")):
            report.check("a call runs in %s" % image, said(call(f, fn, endpoint=e.id)) == image, e.log())
        specs = {d["spec"]["template"]["spec"]["containers"][0]["image"]: d["spec"]["template"]["spec"] for d in f.k8s.of("deployments")}
        report.check("a Deployment for each image", sorted(specs) == [MODEL + "1", MODEL + "2", "registry.example/weft:1"], sorted(specs))
        init, c = specs[MODEL + "1"]["initContainers"][0], specs[MODEL + "1"]["containers"][0]
        report.check("the configured image brings manager and worker", init["image"] == "registry.example/weft:1"
                     and {"name": "weft", "mountPath": "/opt/weft", "readOnly": True} in c["volumeMounts"] and c["command"][0] == "/opt/weft/ld.so", init)
        report.check("without privileges, and within the same limits", init["securityContext"] == c["securityContext"]
                     and c["securityContext"]["readOnlyRootFilesystem"] and init["resources"] == c["resources"])
        report.check("plain pods have nothing of it", "initContainers" not in specs["registry.example/weft:1"])
        report.check("status says for which image a block is", "up, image %s1, Deployment weft-kube-" % MODEL in e.text(), e.text())
        started, gate = e.blocks()["started"], os.path.join(f.state, "gate")
        docs = [submit(f, fn, [{"args": [i, gate]} for i in range(2)], endpoint=e.id)[0] for fn in (one, plain, two)]
        wait_for(lambda: [m["tasks"] >= 2 for m in e.managers()] == [True] * 3, 60, "all slots busy: an idle block would make room")
        for ids, fn in zip(docs, (one, plain, two)):
            ids += submit(f, fn, [{"args": [i, gate]} for i in range(2, 10)], endpoint=e.id)[0]
        wait_for(lambda: sum(e.status()["queue"][k] for k in ("waiting", "running")) == 30, 60, "more tasks of each image")
        report.check("max_blocks holds for all of them together", len(f.k8s.of("deployments")) == 3 and e.blocks()["started"] == started, e.blocks())
        open(gate, "w").close()
        docs = [gather(f, ids) for ids in docs]
        got = [{said(d) if d.get("status") == "success" else str(d) for d in x.values()} for x in docs]
        report.check("tasks of three images at once go each to their own", got == [{MODEL + "1"}, {"registry.example/weft:1"}, {MODEL + "2"}], got)
    report.check("nothing is left", f.clean() == [], f.clean())


def test_images_share_the_room(report, f):
    f.reset()
    plain, one = where(f, None), where(f, MODEL + "1")
    with f.kube(scaling={"max_blocks": 1}) as e:
        e.start()
        got = [said(call(f, fn, endpoint=e.id)) for fn in (plain, one, plain)]
        report.check("an idle block of another image goes when there is no room", got == ["registry.example/weft:1", MODEL + "1",
                                                                                           "registry.example/weft:1"], got)
    report.check("nothing is left", f.clean() == [], f.clean())
    with f.kube(scaling={"max_blocks": 2, "idle_timeout": "1s"}) as e:
        e.start()
        report.check("a call in an image", said(call(f, one, endpoint=e.id)) == MODEL + "1")
        wait_for(lambda: not f.k8s.of("deployments"), 30, "idle blocks of images are gone")
        report.check("its block goes when it is idle", True)


def test_image_of_a_function_that_cannot_be_pulled(report, f):
    f.reset()
    pull = kubeapi.waiting("ErrImagePull", "manifest for %snone not found: manifest unknown" % MODEL)
    f.k8s.plans = {MODEL + "none": [kubeapi.CREATING, pull],
                   MODEL + "Bad": [kubeapi.waiting("InvalidImageName", 'Failed to apply default image tag "%sBad"' % MODEL)]}
    with f.kube("start_deadline: 5s", scaling={"max_blocks": 3, "max_failures_per_hour": 1}) as e:
        e.start()
        ids, _ = submit(f, where(f, MODEL + "none"), [{"args": [1]}, {"args": [2]}], endpoint=e.id)
        report.check("tasks of others go on meanwhile", said(call(f, where(f, MODEL + "1"), endpoint=e.id)) == MODEL + "1"
                     and call(f, double(f), 1, endpoint=e.id).get("status") == "success")
        docs = list(gather(f, ids).values())
        report.check("its own end with the cluster's words", all(d.get("status") == "failed" and "manifest unknown" in json.dumps(d)
                                                                 and MODEL + "none" in json.dumps(d) for d in docs), docs)
        fn, docs = where(f, MODEL + "none"), []

        def spent():        # the first one to come may be told of the block that has just failed
            docs.append(call(f, fn, endpoint=e.id))
            return docs[-1].get("status") != "failed" or "no more are started" in json.dumps(docs[-1])
        wait_for(spent, 30, "the budget is spent")
        report.check("and later ones at once, while its budget is spent", all(d.get("status") == "failed" and "manifest unknown" in json.dumps(d) for d in docs), docs)
        doc = call(f, where(f, MODEL + "Bad"), endpoint=e.id)
        report.check("a name that is none: at once", doc.get("status") == "failed" and "InvalidImageName" in json.dumps(doc), doc)
        report.check("the endpoint's own image has lost nothing by it", call(f, f.double, 2, endpoint=e.id).get("status") == "success")
    report.check("nothing is left", f.clean() == [], f.clean())


def test_equal_tasks_hear_together_that_their_image_cannot_be_had(report, f):
    f.reset()
    image = MODEL[:-1] + "@sha256:" + "c" * 64
    f.k8s.plans = {image: [kubeapi.CREATING, kubeapi.waiting("ErrImagePull", "manifest unknown")]}
    fn = register(f, "def same(x):\n    return x", "same", memoize=True, container={"image": image})
    with f.kube("start_deadline: 5s", scaling={"max_blocks": 1}) as e:
        e.start()
        docs = list(gather(f, submit(f, fn, [{"args": [x]} for x in (1, 1, 1, 2, 2)], endpoint=e.id)[0]).values())
        report.check("those that wait for an equal one end with it", len(docs) == 5 and all("manifest unknown" in json.dumps(d) for d in docs)
                     and e.blocks()["failed"] == 1, (e.blocks(), docs))
    report.check("nothing is left", f.clean() == [], f.clean())


def test_tasks_do_not_wait_behind_those_of_another_image(report, f):
    f.reset()
    with f.kube(scaling={"max_blocks": 2, "parallelism": 0}, top=["workers_per_node: 1"]) as e:
        e.start()
        ids, go = gated(f, e, 30)
        wait_for(lambda: any(m["tasks"] for m in e.managers()), 60, "one of them to run")
        report.check("one in an image runs while others wait for plain nodes", said(call(f, where(f, MODEL + "1"), endpoint=e.id)) == MODEL + "1", e.text())
        go()
        docs = gather(f, ids)
        report.check("and so do these, then", all(d.get("status") == "success" for d in docs.values()), docs)


def test_nor_when_all_of_them_were_lost(report, f):
    """Managers of both kinds that go in one moment, and no node comes in place of the plain one."""
    f.reset()
    gate, other = os.path.join(f.state, "lost"), os.path.join(f.state, "other")
    with f.kube(scaling={"max_blocks": 6}, top=["workers_per_node: 1"]) as e:
        e.start()
        ids, _ = submit(f, where(f, MODEL + "1"), [{"args": [0, gate]}] * 5, endpoint=e.id)
        wait_for(lambda: [m["tasks"] for m in e.managers()] == [1] * 5, 60, "those in an image to run")
        plain, _ = submit(f, where(f, None), [{"args": [0, other]}] * 30, endpoint=e.id)
        wait_for(lambda: len(e.managers()) == 6 and all(m["tasks"] for m in e.managers()), 60, "a plain one to run")
        pids, agent = [m["pid"] for m in e.managers()], e.pid()
        f.k8s.plans = {"registry.example/weft:1": [kubeapi.CREATING]}
        os.kill(agent, signal.SIGSTOP)
        try:
            with f.k8s.lock:
                for pod in f.k8s.of("pods"):
                    f.k8s.delete_pod(f.k8s.objects[("pods", "weft", pod["metadata"]["name"])])
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not set(pids) & set(processes()), 30, "the managers are gone")
        finally:
            os.kill(agent, signal.SIGCONT)
        open(gate, "w").close()
        docs = list(gather(f, ids).values())
        report.check("those in an image run again, while nobody can take the others", [said(d) for d in docs] == [MODEL + "1"] * 5, (docs, e.text()))
        for i in plain:
            f.http("DELETE", "/v3/tasks/" + i)
    report.check("nothing is left", f.clean() == [], f.clean())


def images_of(f):
    """Of the Deployments that there are."""
    return sorted(d["spec"]["template"]["spec"]["containers"][0]["image"] for d in f.k8s.of("deployments"))


def change(f, fn, **container):
    status, body = f.http("PATCH", "/v3/functions/" + fn, {"container": container})[:2]
    assert status == 200, body


def roll(report, f, e, fn, image, n):
    """Another image for a function with n replicas, while it is called; what the calls said, and how many Deployments there were at most."""
    got, most = [], [0]

    def rolled():
        got.append(said(call(f, fn, endpoint=e.id)))
        # One that goes and one that comes are two requests, and the second may be answered first: only what stays counts.
        seen = [len(images_of(f))]
        while seen[-1] > n + 1 and len(seen) < 50:
            time.sleep(0.02)
            seen.append(len(images_of(f)))
        most[0] = max(most[0], min(seen))
        return images_of(f) == [image] * n and e.blocks()["up"] == n
    change(f, fn, image=image)
    wait_for(rolled, 60, "all replicas are of %s" % image)
    got.append(said(call(f, fn, endpoint=e.id)))
    return got, most[0]


def test_replicas(report, f):
    f.reset()
    one, two, none = MODEL + "1", MODEL + "2", MODEL + "none"
    fn = where(f, one, replicas=2)
    with f.kube("start_deadline: 5s", scaling={"max_blocks": 4, "idle_timeout": "300ms"}, top=["workers_per_node: 1"]) as e:
        e.start()
        report.check("a call of a function with replicas", said(call(f, fn, endpoint=e.id)) == one)
        wait_for(lambda: images_of(f) == [one] * 2 and e.blocks()["up"] == 2, 30, "2 pods of it")
        call(f, double(f), 1, endpoint=e.id)
        wait_for(lambda: "registry.example/weft:1" not in images_of(f), 30, "the plain pod is gone, being idle")
        report.check("so many pods stay when they are idle", images_of(f) == [one] * 2, images_of(f))
        slow = register(f, "import time\ndef slow(s):\n    time.sleep(s)\n    return s", "slow", container={"image": one})
        before = {m["node"]: m["done"] for m in e.managers()}
        gather(f, submit(f, slow, [{"args": [0.5]} for _ in range(4)], endpoint=e.id)[0])
        with contextlib.suppress(TimeoutError):     # what they say of themselves comes a moment later
            wait_for(lambda: all(m["done"] > before[m["node"]] for m in e.managers() if m["node"] in before), 10, "both have done some")
        report.check("calls are shared out over them", all(m["done"] > before[m["node"]] for m in e.managers() if m["node"] in before), (before, e.managers()))
        change(f, fn, replicas=3)
        wait_for(lambda: images_of(f) == [one] * 3, 30, "3 pods of it")
        report.check("another number is set through the API, and had without a call", True)
        got, most = roll(report, f, e, fn, two, 3)
        report.check("another image: its pods first, then the old ones go; no call fails", set(got) <= {one, two} and got[-1] == two and most <= 4, (got, most))
        f.k8s.plans = {none: [kubeapi.CREATING, kubeapi.waiting("ErrImagePull", "manifest unknown")]}
        change(f, fn, image=none)
        e.wait_said("ErrImagePull: manifest unknown")
        report.check("an image that cannot be pulled: the pods of the one before serve on", said(call(f, fn, endpoint=e.id)) == two)
        e.wait_said("of image %s: pod .*manifest unknown" % none)
        report.check("also when it was given up", said(call(f, fn, endpoint=e.id)) == two and images_of(f).count(two) == 3, images_of(f))
        change(f, fn, image=two)
        wait_for(lambda: images_of(f) == [two] * 3, 30, "nothing is wanted of it any more")
        change(f, fn, replicas=0)
        wait_for(lambda: not f.k8s.of("deployments"), 30, "no replicas: idle ones go")
        report.check("without replicas they go when they are idle", True)
    report.check("nothing is left", f.clean() == [], f.clean())


def test_replicas_take_all_the_room(report, f):
    f.reset()
    fn = where(f, MODEL + "1", replicas=5)
    with f.kube(scaling={"max_blocks": 2}) as e:
        e.start()
        call(f, fn, endpoint=e.id)
        wait_for(lambda: e.blocks()["up"] == 2, 30, "as many as there may be")
        got, most = roll(report, f, e, fn, MODEL + "2", 2)
        report.check("max_blocks bounds them; then one goes for one that comes, and no call fails", set(got) <= {MODEL + "1", MODEL + "2"}
                     and got[-1] == MODEL + "2" and most <= 3, (got, most))
    report.check("nothing is left", f.clean() == [], f.clean())


def test_memo_is_of_the_function_s_image(report, f):
    f.reset()
    log = os.path.join(f.state, "runs-of-images")
    source = "def note(path):\n    with open(path, 'a') as f:\n        f.write('x')\n    return 7"

    def runs(e, fn, n=2):
        open(log, "w").close()
        for _ in range(n):
            doc = call(f, fn, log, endpoint=e.id)
            assert doc.get("status") == "success" and json.loads(doc["result"]) == 7, doc
        return os.path.getsize(log)
    digest = MODEL[:-1] + "@sha256:"
    pinned, tagged = (register(f, source, "note", memoize=True, container={"image": i}) for i in (digest + "a" * 64, MODEL + "1"))
    with f.kube(scaling={"max_blocks": 4}) as e:
        e.start()
        report.check("a function in an image that its digest names: the second call is answered", runs(e, pinned) == 1, e.log()[-2000:])
        report.check("under a tag each call runs", runs(e, tagged) == 2)
        r = f.http("PATCH", "/v3/functions/" + pinned, {"container": {"image": digest + "b" * 64}})
        wait_for(lambda: runs(e, pinned, 1) == 1, 30, "the first call in the new image runs")
        report.check("in another image nothing of the first one's, then its own", runs(e, pinned) == 0, r)
    report.check("nothing of it is left", f.clean() == [], f.clean())


def test_images_that_are_not_permitted(report, f):
    f.reset()
    bad = where(f, "registry.example/a b")
    with f.kube(top=["containers: {images: [\"registry.example/*\"]}"]) as e:
        e.start()
        status, body = f.http("POST", "/v3/endpoints/%s/submit" % e.id, {"tasks": {where(f, "elsewhere.example/x:1"): ["{}"]}})[:2]
        report.check("an image that containers.images does not have is refused at once", status == 400 or "not permitted" in json.dumps(body), body)
        doc = call(f, bad, endpoint=e.id)
        report.check("a name with a space is none", doc.get("status") == "failed" and "is no name of an image" in json.dumps(doc), doc)
        report.check("no pod was made for it", not f.k8s.of("deployments"))


def test_stop_without_server(report, f):
    f.reset()
    with f.kube(scaling={"stop_grace": "1s"}) as e:
        e.start()
        call(f, double(f), 5, endpoint=e.id)
        f.k8s.down()
        r = e.stop()
        report.check("it stops without the server", r.returncode == 0, r.stdout)
        report.check("and says what is left, and how to remove it", "kubectl delete deployments -n weft -l weft/endpoint=kube-" in e.log(), e.log())
        f.k8s.up()
        e.start()
        left = f.clean()
        report.check("the next start removes it", left == [], left)


def test_render_and_doctor(report, f):
    f.reset()
    more = ["image_pull_secret: regcred", "memory_limit: 2Gi", "cpu_limit: \"2\"", "node_selector: {disk: ssd}",
            "tolerations: [\"dedicated=weft:NoSchedule\", gpu]", "volumes: [\"claim=data:/data:ro\", \"emptyDir=1Gi:/scratch\"]",
            "pod_labels: {team: ml}", "extra_resources: {nvidia.com/gpu: \"1\"}", "service_account: runner"]
    with f.kube(*more, scaling={"nodes_per_block": 3}) as e:
        docs = [json.loads(d) for d in e.run("render").stdout.split("---\n")[1:]]
        d, s = docs
        pod = d["spec"]["template"]["spec"]
        c = pod["containers"][0]
        report.check("render: n pods", d["kind"] == "Deployment" and d["spec"]["replicas"] == 3)
        report.check("render: resources", c["resources"] == {"requests": {"cpu": "1", "memory": "1Gi"},
                                                             "limits": {"cpu": "2", "memory": "2Gi", "nvidia.com/gpu": "1"}}, c["resources"])
        report.check("render: where it may run", pod["nodeSelector"] == {"disk": "ssd"} and pod["tolerations"] == [
            {"key": "dedicated", "operator": "Equal", "value": "weft", "effect": "NoSchedule"}, {"key": "gpu", "operator": "Exists"}])
        report.check("render: volumes", {"name": "volume-0", "persistentVolumeClaim": {"claimName": "data"}} in pod["volumes"]
                     and {"name": "volume-0", "mountPath": "/data", "readOnly": True} in c["volumeMounts"])
        report.check("render: workers from the limit", c["command"][c["command"].index("--workers") + 1] == "2", c["command"])
        report.check("render: pull secret, account, labels", pod["imagePullSecrets"] == [{"name": "regcred"}] and pod["serviceAccountName"] == "runner"
                     and d["spec"]["template"]["metadata"]["labels"]["team"] == "ml")
        report.check("render: no privileges", c["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                                                       "capabilities": {"drop": ["ALL"]}})
        report.check("render: shows no key", s["kind"] == "Secret" and "U0VDUkVULUtFWQ==" in json.dumps(s))
        r = e.run("doctor")
        report.check("doctor: all is well", "answers: v1.20.2" in r.stdout and "the API server takes it" in r.stdout, r.stdout)
        f.k8s.denied = {"create deployments", "get pods/log"}
        r = e.run("doctor")
        report.check("doctor: rights that are missing", "may not, in namespace weft: create deployments.apps" in r.stdout
                     and "not allowed: get pods/log" in r.stdout and r.returncode, r.stdout)
        f.k8s.denied = set()
    for config, provider, words in (("kubeconfig", ["namespace: nosuch"], 'namespaces "nosuch" not found'),
                                    ("kubeconfig-wrong", [], "Unauthorized"), ("kubeconfig-none", [], "No such file")):
        with f.kube(*provider, config=config) as e:
            r = e.run("doctor")
            report.check("doctor: " + words, words in r.stdout and r.returncode, r.stdout)


def test_bad_configuration(report, f):
    for line, words in (("cpu_limit: banana", 'provider.kubernetes.cpu_limit: expected an amount such as 500m'),
                        ("tolerations: [\"a:Never\"]", "provider.kubernetes.tolerations: expected KEY"),
                        ("volumes: [\"data:/data\"]", "provider.kubernetes.volumes: expected claim=NAME"),
                        ("namespace: Bad_Name", "provider.kubernetes.namespace: expected lower case"),
                        ("replicas: 3", "unknown key")):
        with f.kube(line) as e:
            r = e.run("check-config")
            report.check("refused: " + line, r.returncode and words in r.stdout, r.stdout)


def test_example(report, f):
    """config/sites/kubernetes.yaml is a configuration that is taken."""
    with f.kube() as e:
        shutil.copyfile(os.path.join(HERE, "..", "..", "config", "sites", "kubernetes.yaml"), os.path.join(e.dir, "config.yaml"))
        r = e.run("check-config")
        report.check("config/sites/kubernetes.yaml", r.returncode == 0, r.stdout)
        docs = e.run("render").stdout.split("---\n")
        report.check("it renders", len(docs) == 3 and json.loads(docs[1])["spec"]["template"]["spec"]["volumes"][2]["persistentVolumeClaim"], docs)


if __name__ == "__main__":
    main(__doc__, [t for n, t in list(globals().items()) if n.startswith("test_")], World)
