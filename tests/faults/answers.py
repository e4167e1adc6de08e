"""Servers that the probe is asked to judge: each says one thing, the same every time."""

import socket
import socketserver
import threading

HEALTHY = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
UNHEALTHY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 6\r\n\r\nbroken"


def read_head(connection):
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(4096)
        if not piece:
            return False
        head += piece
    return True


def whole(answer):
    def say(connection):
        if read_head(connection):
            connection.sendall(answer)

    return say


def dripping(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if read_head(connection):
        for byte in HEALTHY[: HEALTHY.index(b"\r\n\r\n") + 4]:
            connection.sendall(bytes([byte]))


def cut(connection):
    if read_head(connection):
        connection.sendall(HEALTHY[:20])


def silent(connection):
    # Ends when the probe does.
    while connection.recv(4096):
        pass


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, say):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                try:
                    say(self.request)
                except OSError:
                    pass  # The probe that is tested may break off at any time.

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self):
        return self.server_address[1]


def closed_port():
    """A port that refuses: bound, so that no one else gets it, but not listening."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    return held, held.getsockname()[1]
