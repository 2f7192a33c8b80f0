# SPDX-License-Identifier: Apache-2.0
"""A wire that tests cut."""
import select
import socket
import subprocess
import threading
import time


def reach(target):
    if not isinstance(target, str):
        return socket.create_connection(target, timeout=1)
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(1)
    s.connect(target)
    return s


class Relay(threading.Thread):
    """A wire that can be cut and healed: a TCP relay. target(), asked at each connection, is a (host, port) or the path of a Unix socket.
    With tls, a server's context, it is a proxy that ends TLS."""

    def __init__(self, target, tls=None):
        super().__init__(daemon=True)
        self.tls = tls
        self.target, self.cut, self.is_cut, self.pairs = target, False, False, []
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]

    def set_cut(self, cut):
        """Bytes stop in both directions; connections stay, as when a cable is pulled. When this returns nothing comes through any more."""
        self.cut = cut
        while self.is_cut != self.cut and self.is_alive():
            time.sleep(0.005)

    def run(self):
        while True:
            self.is_cut = self.cut
            socks = [self.sock] + ([] if self.is_cut else [s for p in self.pairs for s in p])
            for s in select.select(socks, [], [], 0.1)[0]:
                if s is self.sock:
                    self.accept()
                else:
                    self.relay(s)

    def accept(self):
        a, _ = self.sock.accept()
        try:
            if self.tls:
                a.settimeout(5)
                a = self.tls.wrap_socket(a, server_side=True)
            b = reach(self.target())
        except (OSError, LookupError, ValueError, subprocess.SubprocessError):     # Redis or the forwarder is down: so is the wire
            a.close()
            return
        for s in (a, b):
            s.settimeout(5)
            if s.family != socket.AF_UNIX:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pairs.append((a, b))

    def relay(self, s):
        pair = next((p for p in self.pairs if s in p), None)
        if pair is None:
            return
        other = pair[1] if s is pair[0] else pair[0]
        try:
            data = s.recv(262144)
            while self.tls and s is pair[0] and s.pending():    # select does not see it
                data += s.recv(262144)
            if data:
                other.sendall(data)
                return
        except OSError:
            pass
        for x in pair:
            x.close()
        self.pairs.remove(pair)
