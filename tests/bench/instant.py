# SPDX-License-Identifier: Apache-2.0
"""A service that answers at once, for what a client of Globus Compute costs by itself: as much HTTP and AMQP as the SDK's Executor asks for.
Nothing is stored and nothing runs; each task's result is on its way before its submission is answered. RESULT is what all of them return,
serialised.

    instant.py RESULT       prints its HTTP port
"""
import json
import os
import socketserver
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import amqp  # noqa: E402

GROUP, RESULT = str(uuid.uuid4()), sys.argv[1].encode().decode("unicode_escape")
lock, ready = threading.Condition(), []


def number(n, value):
    return value.to_bytes(n, "big")


class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.startswith("/v2/get_amqp"):
            self.answer({"queue_prefix": "", "connection_url": "amqp://u:p@127.0.0.1:%d/" % queues.server_address[1]})
        else:
            self.answer({"min_sdk_version": "1", "min_ep_version": "1", "api": "1"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "tasks" not in body:
            self.answer({"function_uuid": str(uuid.uuid4())})
            return
        tasks = {f: [str(uuid.uuid4()) for _ in payloads] for f, payloads in body["tasks"].items()}
        with lock:
            ready.extend(t for ids in tasks.values() for t in ids)
            lock.notify_all()
        self.answer({"request_id": str(uuid.uuid4()), "task_group_id": body.get("task_group_id") or GROUP,
                     "endpoint_id": self.path.split("/")[3], "tasks": tasks})

    def answer(self, doc):
        data = json.dumps(doc).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Queue(socketserver.BaseRequestHandler):
    """One consumer. What it acknowledges is read and forgotten."""

    def setup(self):
        self.gone = False

    def finish(self):
        with lock:
            self.gone = True
            lock.notify_all()

    def handle(self):
        self.data = b""
        self.take(8)
        self.request.sendall(amqp.method(0, 10, 10, b"\0\x09" + amqp.lstr(b"") + amqp.lstr(b"PLAIN") + amqp.lstr(b"en_US")))
        self.frame()
        self.request.sendall(amqp.method(0, 10, 30, number(2, 1) + number(4, 131072) + number(2, 60)))
        self.frame()
        self.frame()
        self.request.sendall(amqp.method(0, 10, 41, b"\0"))
        while True:
            kind, channel, payload = self.frame()
            key = payload[:4] if kind == amqp.METHOD else b""
            if key == number(2, 20) + number(2, 10):
                self.request.sendall(amqp.method(channel, 20, 11, b"\0\0\0\0"))
            elif key == number(2, 60) + number(2, 20):
                tag = amqp.Reader(payload[6:])
                tag.short()
                name = amqp.sstr(tag.short())
                self.request.sendall(amqp.method(channel, 60, 21, name))
                threading.Thread(target=self.deliver, args=(channel, name), daemon=True).start()
            elif key[2:] in (number(2, 40), number(2, 50)):
                self.request.sendall(amqp.method(channel, key[1], key[3] + 1))

    def take(self, n):
        while len(self.data) < n:
            more = self.request.recv(65536)
            if not more:
                raise SystemExit
            self.data += more
        out, self.data = self.data[:n], self.data[n:]
        return out

    def frame(self):
        head = self.take(7)
        rest = self.take(int.from_bytes(head[3:], "big") + 1)
        return amqp.parse_frame(head + rest)[:3]

    def deliver(self, channel, name):
        tag = 0
        while True:
            with lock:
                while not ready and not self.gone:
                    lock.wait()
                if self.gone:           # what is ready is for the next consumer
                    return
                tasks = ready[:]
                ready.clear()
            out = []
            for t in tasks:
                tag += 1
                body = b"\1" + json.dumps({"message_type": "result", "data": {"task_id": t, "data": RESULT}}).encode()
                out += [amqp.method(channel, 60, 60, name + number(8, tag) + b"\0\0\0"),
                        amqp.frame(amqp.HEADER, channel, number(2, 60) + number(2, 0) + number(8, len(body)) + number(2, 1 << 6) +
                                   number(8, int(time.time()))), amqp.frame(amqp.BODY, channel, body)]
            self.request.sendall(b"".join(out))


class Queues(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


queues = Queues(("127.0.0.1", 0), Queue)
http = ThreadingHTTPServer(("127.0.0.1", 0), Http)
http.daemon_threads = True
threading.Thread(target=queues.serve_forever, daemon=True).start()
print(http.server_address[1], flush=True)
http.serve_forever()
