# SPDX-License-Identifier: Apache-2.0
"""A web server on loopback for tests of files that tasks name by URL: contents by name, and everything that goes wrong with servers."""
import hashlib
import http.server
import ssl
import subprocess
import threading


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def self_signed(directory):
    """(a server's TLS context, the file with its certificate), for 127.0.0.1."""
    cert, key = directory + "/cert.pem", directory + "/key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
                    "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert], check=True, stderr=subprocess.DEVNULL)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context, cert


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        s = self.server.owner
        path, _, _ = self.path.partition("?")
        with s.lock:
            s.hits[path] = s.hits.get(path, 0) + 1
            hit = s.hits[path]
        kind, _, name = path[1:].partition("/")
        try:
            getattr(self, "get_" + kind, self.get_404)(s, name, hit)
        except (BrokenPipeError, ConnectionResetError):
            with s.lock:
                s.broken.append(path)

    def answer(self, data, status=200, length=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def get_404(self, s, name, hit):
        self.answer(b"no such file", 404)

    def get_data(self, s, name, hit):
        if name in s.data:
            self.answer(s.data[name])
        else:
            self.get_404(s, name, hit)

    def get_secret(self, s, name, hit):
        self.answer(b"who are you?", 403)

    def get_moved(self, s, name, hit):
        self.send_response(302)
        self.send_header("Location", "/data/" + name)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def get_escape(self, s, name, hit):
        self.send_response(302)
        self.send_header("Location", "file:///etc/passwd")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def get_flaky(self, s, name, hit):
        if hit < 3:
            self.answer(b"try again", 503)
        else:
            self.get_data(s, name, hit)

    def get_down(self, s, name, hit):
        self.answer(b"always", 503)

    def get_dies(self, s, name, hit):
        self.answer(s.data[name][:1000], length=len(s.data[name]))
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)

    def get_dies_once(self, s, name, hit):
        (self.get_dies if hit == 1 else self.get_data)(s, name, hit)

    def get_endless(self, s, name, hit):
        """Never says how long it is."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        while not s.ending.is_set():
            self.wfile.write(b"x" * 65536)

    def get_unsized(self, s, name, hit):
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(s.data[name])
        self.close_connection = True

    def get_slow(self, s, name, hit):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        for _ in range(1000):
            self.wfile.write(b"x")
            self.wfile.flush()
            if s.ending.wait(0.2):
                return

    def get_gate(self, s, name, hit):
        """Half of it, the other half when the gate is opened."""
        data = s.data[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:len(data) // 2])
        self.wfile.flush()
        while not s.gate.wait(0.1):
            if s.ending.is_set() or self.gone():
                raise BrokenPipeError
        self.wfile.write(data[len(data) // 2:])

    def gone(self):
        self.connection.setblocking(False)
        try:
            return self.connection.recv(1) == b""
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True
        finally:
            self.connection.setblocking(True)


class FileServer:
    def __init__(self, tls=None):
        """tls: directory for a certificate that it makes for itself."""
        self.lock, self.hits, self.broken, self.data = threading.Lock(), {}, [], {}
        self.gate, self.ending = threading.Event(), threading.Event()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *a: None      # a client that hangs up is no error here
        self.server.daemon_threads, self.server.owner = True, self
        self.url = "%s://127.0.0.1:%d" % ("https" if tls else "http", self.server.server_address[1])
        if tls:
            context, self.ca = self_signed(tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def put(self, name, data):
        """Returns its checksum."""
        self.data[name] = data
        return sha256(data)

    def count(self, path):
        with self.lock:
            return self.hits.get(path, 0)

    def stop(self):
        self.ending.set()
        self.server.shutdown()
        self.server.server_close()
