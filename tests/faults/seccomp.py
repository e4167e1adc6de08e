"""Runs a program under a seccomp profile in Docker's format: a call that is not in its list ends the program by SIGSYS.

An engine answers such a call with the error that the profile names; here it is fatal, so that none goes unnoticed.
"""

import ctypes
import json
import os
import re
import struct
import sys

NO_NEW_PRIVS, SET_SECCOMP, FILTER = 38, 22, 2
KILL_PROCESS, ALLOW = 0x80000000, 0x7FFF0000
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBERS = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"


def numbers():
    with open(NUMBERS, encoding="ascii") as header:
        return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", header.read())}


def allowed(profile):
    with open(profile, encoding="utf-8") as text:
        rules = json.load(text)["syscalls"]
    return {name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}


def instructions(names):
    """The filter: load the call's number, and return ALLOW where it is one of these."""
    known = numbers()
    listed = sorted(known[name] for name in names if name in known)
    code = [(LOAD, 0, 0, 0)]
    for left, number in zip(range(len(listed), 0, -1), listed):
        # Equal: past the remaining comparisons and the KILL.
        code.append((JUMP_EQUAL, left, 0, number))
    code += [(RETURN, 0, 0, KILL_PROCESS), (RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code), len(code)


def confine(names):
    libc = ctypes.CDLL(None, use_errno=True)
    code, length = instructions(names)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", length, ctypes.addressof(buffer))
    for words in ((NO_NEW_PRIVS, 1, 0, 0, 0), (SET_SECCOMP, FILTER, program)):
        if libc.prctl(*words) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    confine(allowed(sys.argv[1]) | {"execve"})
    os.execv(sys.argv[2], sys.argv[2:])
