#!/usr/bin/env python3
"""The connectors in examples/ that have packages of their own, against a directory with TLS on loopback.

    run.py PROGRAM..    as root also: run.py --image DOCKERFILE PROGRAM

The directory is Python's http.server over OpenSSL, so that two implementations of TLS and HTTP meet.
"""

import http.server
import json
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

TOKEN = "s3cr3t-of-the-directory"
USERS = [{"id": str(number), "name": f"user-{number}"} for number in range(5)]
#: Seconds to wait for something that has to come.
PATIENCE = 60
#: Seconds between two looks at what has to change.
BETWEEN = 0.05


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        mode = self.server.mode
        if mode == "hang":
            self.server.changed.wait()
        known = self.headers["Authorization"] == f"Bearer {TOKEN}"
        if not known or mode == "refuse":
            # A directory that repeats what it was sent.
            return self.answer(401, {"error": f"unknown token {self.headers['Authorization']}"})
        target = urllib.parse.urlparse(self.path)
        if target.path == "/api/whoami":
            return self.answer(200, {"name": "connector"})
        if target.path != "/api/users":
            return self.answer(404, {})
        query = urllib.parse.parse_qs(target.query, keep_blank_values=True)
        start = next((at + 1 for at, user in enumerate(USERS) if [user["id"]] == query["after"]), 0)
        end = start + int(query["limit"][0])
        page = {"users": USERS[start:end], "total": len(USERS)}
        if end < len(USERS) and not (mode == "short" and start):
            page["next"] = USERS[end - 1]["id"]
        self.answer(200, page, cut=mode == "cut")

    def answer(self, status, body, cut=False):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:-1] if cut else body)
        self.close_connection = cut

    def log_message(self, *_):
        pass


class Directory(http.server.ThreadingHTTPServer):
    """Behaves as its mode says: good, refuse, hang, short (a page is missing), cut (a page is cut short)."""

    def __init__(self, certificate):
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        # The handshake belongs to the thread of the connection.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.mode, self.changed = "good", threading.Event()
        self.url = f"https://localhost:{self.server_port}/api"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def becomes(self, mode):
        # Who hangs goes on.
        self.mode, changed, self.changed = mode, self.changed, threading.Event()
        changed.set()

    def handle_error(self, *_):
        """A client that does not trust the certificate hangs up."""


class Work:
    """A folder with the certificates and the token."""

    def __init__(self, folder):
        self.folder = folder
        self.token = self.path("token")
        with open(self.token, "w") as file:
            file.write(TOKEN + "\n")
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                     "-subj", "/CN=a CA of our own", "-keyout", "ca.key", "-out", "ca.pem")
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost",
                     "-keyout", "directory.key", "-out", "directory.csr")
        with open(self.path("names"), "w") as file:
            file.write("subjectAltName=DNS:localhost\n")
        self.openssl("x509", "-req", "-in", "directory.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                     "-days", "2", "-extfile", "names", "-out", "directory.crt")
        self.certificate = self.path("directory.pem")
        with open(self.certificate, "w") as file:
            file.writelines(open(self.path(part)).read() for part in ("directory.crt", "directory.key"))

    def path(self, name):
        return os.path.join(self.folder, name)

    def openssl(self, *arguments):
        done = subprocess.run(["openssl", *arguments], cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, f"openssl {arguments}: {done.stderr}"


class Connector:
    """A running connector; all that it and its probes say is kept."""

    def __init__(self, program, *arguments):
        self.program, self.said = program, ""
        self.process = subprocess.Popen(
            [program, "--health-check", "--health-check-port=0", "--page-size=2", "--sync-interval=1", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={})
        self.port = re.search(r"127\.0\.0\.1:(\d+)", self.line('"listening"'))[1]

    def line(self, text):
        """Waits for the next line that has this text."""
        end = time.monotonic() + PATIENCE
        seen = len(self.said)
        while True:
            found = re.search(f".*{re.escape(text)}.*\n", self.said[seen:])
            if found:
                return found[0]
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            piece = os.read(self.process.stdout.fileno(), 65536).decode() if ready else ""
            assert piece, f"{self.program} does not say {text!r} but:\n{self.said}"
            self.said += piece

    def probe(self, endpoint):
        done = subprocess.run([self.program, "health-check", f"--health-check-port={self.port}", f"--endpoint={endpoint}"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={}, text=True)
        self.said += done.stdout
        return done.returncode, done.stdout

    def becomes(self, endpoint, code, text):
        """Waits until the probe ends with this code and says this text."""
        end = time.monotonic() + PATIENCE
        while True:
            seen = self.probe(endpoint)
            if seen[0] == code and text in seen[1]:
                return print(f"ok - {os.path.basename(self.program)}: {seen[1].strip()}", flush=True)
            time.sleep(BETWEEN)
            assert time.monotonic() < end, f"/{endpoint} becomes {seen}, not {(code, text)}:\n{self.said}"

    def ends(self):
        """SIGTERM ends it with 0, and the token is in nothing that was said."""
        self.process.send_signal(signal.SIGTERM)
        rest, _ = self.process.communicate(timeout=PATIENCE)
        self.said += rest.decode()
        assert self.process.returncode == 0, f"it ends with {self.process.returncode}:\n{self.said}"
        assert TOKEN not in self.said, f"the token shows:\n{self.said}"


def changes(program, work):
    """One connector, while its directory changes."""
    directory = Directory(work.certificate)
    connector = Connector(program, f"--url={directory.url}", f"--token-file={work.token}", f"--ca-file={work.path('ca.pem')}")
    assert '"users":"5"' in connector.line('"users changed"'), connector.said
    connector.becomes("health", 0, "healthy")
    connector.becomes("ready", 0, "ready")
    for mode, text in (
        ("refuse", "/api/whoami: the directory refuses our token"),
        ("short", "the last sync failed: the list is cut short: 4 of 5 users"),
        ("cut", "the last sync failed: https://localhost:"),
        # Its own words, not the probe's: a call upstream ends before the probe does.
        ("hang", "/api/whoami: no whole answer within 3 s"),
    ):
        directory.becomes(mode)
        connector.becomes("health", 1, text)
    connector.becomes("live", 0, "alive")
    directory.becomes("good")
    connector.becomes("health", 0, "healthy")
    directory.becomes("hang")
    connector.line('"sync failed"')
    connector.ends()
    directory.becomes("good")
    directory.shutdown()


def strangers(program, work):
    """Directories that are not to be trusted, or say nothing at all: never ready, and health says why."""
    directory = Directory(work.certificate)
    mute = socket.create_server(("127.0.0.1", 0))
    ca = f"--ca-file={work.path('ca.pem')}"
    for text, url, *arguments in (
        ("invalid peer certificate: UnknownIssuer", directory.url),
        ("invalid peer certificate: certificate not valid for name", directory.url.replace("localhost", "127.0.0.1"), ca),
        ("/whoami: no whole answer within 3 s", f"https://localhost:{mute.getsockname()[1]}", ca),
    ):
        connector = Connector(program, f"--url={url}", f"--token-file={work.token}", *arguments)
        connector.becomes("health", 1, text)
        connector.becomes("ready", 1, "not synced yet")
        connector.ends()
    directory.shutdown()
    mute.close()


def image(dockerfile, program, work):
    """The image holds the program alone, and works as the same program does outside."""
    directory = Directory(work.certificate)
    name = f"directory-{os.getpid()}"
    podman = ["podman", "--root", work.path("storage"), "--runroot", work.path("run"), "--storage-driver=vfs",
              "--cgroup-manager=cgroupfs", "--runtime=runc"]

    def run(*arguments):
        done = subprocess.run([*podman, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, f"podman {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def log():
        """What the container said, on standard output and standard error."""
        return subprocess.run([*podman, "logs", name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout

    try:
        run("build", "--isolation=chroot", "--format=docker", "--file", dockerfile, "--tag", name, os.path.dirname(program))
        layer = run("image", "mount", name).strip()
        files = [os.path.join(folder, file) for folder, _, files in os.walk(layer) for file in files]
        assert files == [os.path.join(layer, os.path.basename(program))], files
        run("image", "unmount", name)
        os.chmod(work.token, 0o644)
        run("run", "--detach", "--name", name, "--network=host", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges",
            "--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000",
            "--volume", f"{work.token}:/run/secrets/token:ro", "--volume", f"{work.path('ca.pem')}:/ca.pem:ro",
            "--env", "BATON_HEALTH_CHECK_PORT=" + free_port(), name, f"--url={directory.url}", "--ca-file=/ca.pem")
        check = json.loads(run("image", "inspect", name, "--format", "{{json .HealthCheck.Test}}"))
        end = time.monotonic() + PATIENCE
        while "users changed" not in log():
            assert time.monotonic() < end, log()
            time.sleep(BETWEEN)
        assert check[0] == "CMD" and run("exec", name, *check[1:]) == "healthy\n"
        run("stop", "--time", "20", name)
        assert run("inspect", name, "--format", "{{.State.ExitCode}}") == "0\n"
        assert "listening" in log() and TOKEN not in log(), log()
        print(f"ok - {name}: the image, {os.path.getsize(program)} bytes, and its health check", flush=True)
    finally:
        subprocess.run([*podman, "rm", "--force", "--time", "0", name], capture_output=True)
        subprocess.run(["umount", work.path("storage/vfs")], capture_output=True)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return str(taken.getsockname()[1])


def main(arguments):
    folder = tempfile.mkdtemp()
    try:
        work = Work(folder)
        if arguments[0] == "--image":
            return image(arguments[1], os.path.abspath(arguments[2]), work)
        for program in arguments:
            changes(program, work)
            strangers(program, work)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
