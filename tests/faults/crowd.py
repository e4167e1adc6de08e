"""A crowd at the door: every probe is answered, though descriptors or processor time are short."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import daemon_cases

DESCRIPTORS = 64
STALLED_A_SECOND = 100
STALLED_AT_LEAST = 100
STALLED_AT_MOST = 400
PROBES = 60
BETWEEN_PROBES = 0.05
# Each one that is lost may take the whole timeout of 5 s.
LOST_ENOUGH = 5

BUSY_LOOPS = 6
ROUNDS = 5
LINGERING = 100
HALF_A_HEAD = b"GET /live HTTP/1.1\r\nHo"
WITHOUT_ITS_BODY = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"


def stall(address):
    """Keeps opening connections that send half a head, as its own process; says so once there are many."""
    held = []
    begun = time.monotonic()
    for number in range(STALLED_A_SECOND * 120):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex((address, 8081))
        held.append(client)
        # Those that are connected by now, and have not been written to.
        for earlier in held[-3:-1]:
            with contextlib.suppress(OSError):
                earlier.send(HALF_A_HEAD)
        if len(held) > STALLED_AT_MOST:
            held.pop(0).close()
        if number == STALLED_AT_LEAST:
            print("stalled", flush=True)
        time.sleep(max(0.0, begun + number / STALLED_A_SECOND - time.monotonic()))


def probe(program, address, endpoint):
    words = [program, "health-check", f"--health-check-bind-address={address}", f"--endpoint={endpoint}"]
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)


def ask(program, address, count, pause):
    """So many probes: how many were asked, and what the lost ones said."""
    lost, asked = [], 0
    for number in range(count):
        seen = probe(program, address, ("live", "ready", "health")[number % 3])
        asked += 1
        if seen.returncode != 0:
            lost.append(seen.stderr.strip())
        if len(lost) >= LOST_ENOUGH:
            break
        time.sleep(pause)
    return asked, lost


def few_descriptors(program):
    """100 stalled connections a second, for a daemon that may have 64 descriptors."""
    daemon = daemon_cases.Daemon(["prlimit", f"--nofile={DESCRIPTORS}", program])
    if not daemon.until_ready(daemon_cases.RECOVERS_IN):
        raise SystemExit(f"the daemon with {DESCRIPTORS} descriptors does not start: {daemon.lines}")
    flood = subprocess.Popen([sys.executable, __file__, daemon.address], stdout=subprocess.PIPE, text=True)
    try:
        if flood.stdout.readline() != "stalled\n":
            raise SystemExit("the stalled clients ended early")
        asked, lost = ask(program, daemon.address, PROBES, BETWEEN_PROBES)
        flooded = flood.poll() is None
    finally:
        flood.kill()
        flood.wait()
        flood.stdout.close()
        daemon.signal(signal.SIGTERM)
        code = daemon.end()
    what = f"{DESCRIPTORS} descriptors, {STALLED_A_SECOND} stalled connections a second"
    print(f"  {what}: {asked - len(lost)} of {asked} probes answered")
    if not flooded:
        yield f"{what}: the stalled clients ended early"
    if lost:
        yield f"{what}: {len(lost)} of {asked} probes lost: {lost[:3]}"
    if code != 0:
        yield f"{what}: the daemon ends with {code}: {daemon.lines[-3:]}"


@contextlib.contextmanager
def one_busy_processor():
    """This process and its children share one processor with loops that never rest."""
    whole = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(whole)})
    loops = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(BUSY_LOOPS)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
        os.sched_setaffinity(0, whole)


def answer(client):
    text = b""
    client.settimeout(30)
    with contextlib.suppress(OSError):
        while piece := client.recv(4096):
            text += piece
    return text


def round_of_lingering(program, address):
    """Clients that come all at once with a whole request and do not close, more than there are places; probes after them."""
    clients = [socket.socket() for _ in range(LINGERING)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex((address, 8081))
    for client in clients:
        client.setblocking(True)
        client.sendall(WITHOUT_ITS_BODY)
    _, lost = ask(program, address, 3, 0)
    unanswered = sum(not answer(client).startswith(b"HTTP/1.1 405 ") for client in clients)
    for client in clients:
        client.close()
    return lost, unanswered


def little_time(program):
    """All on one processor, beside loops: who has sent a whole request is answered."""
    lost, unanswered = [], 0
    with one_busy_processor():
        daemon = daemon_cases.Daemon([program])
        if not daemon.until_ready(6 * daemon_cases.RECOVERS_IN):
            raise SystemExit(f"the daemon beside busy loops does not start: {daemon.lines}")
        for _ in range(ROUNDS):
            more_lost, more_unanswered = round_of_lingering(program, daemon.address)
            lost += more_lost
            unanswered += more_unanswered
        daemon.signal(signal.SIGTERM)
        code = daemon.end()
    what = f"one processor beside {BUSY_LOOPS} busy loops"
    clients = ROUNDS * LINGERING
    print(f"  {what}: {clients - unanswered} of {clients} whole requests answered, {len(lost)} of {ROUNDS * 3} probes lost")
    if lost:
        yield f"{what}: {len(lost)} probes lost: {lost[:3]}"
    if unanswered:
        yield f"{what}: {unanswered} of {clients} clients that had sent a whole request got no answer"
    if code != 0:
        yield f"{what}: the daemon ends with {code}: {daemon.lines[-3:]}"


def test(program, _workdir):
    yield from few_descriptors(program)
    yield from little_time(program)


if __name__ == "__main__":
    stall(sys.argv[1])
