"""Every transfer moves one byte: what the kernel may do with any read and any write, done to all of them.

strace can only make a call return a number without doing it; so this is a tracer of its own, which shortens the length
that a call asks for, for all threads of a program.
"""

import ctypes
import os
import signal
import sys

# x86-64: numbers of the calls that move bytes, and where struct user_regs_struct has orig_rax and rdx (the length).
TRANSFERS = {0: "read", 1: "write", 44: "sendto", 45: "recvfrom"}
REGISTERS, ORIG_RAX, RDX = 27, 15, 12

TRACEME, GETREGS, SETREGS, SETOPTIONS, SYSCALL = 0, 12, 13, 0x4200, 24
SYSGOOD, FORK, VFORK, CLONE, EXEC, EXITKILL = 1, 2, 4, 8, 16, 0x100000
WALL = 0x40000000
SYSCALL_STOP = signal.SIGTRAP | 0x80

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request, pid, address=None, data=None):
    # A thread may be gone at any time: then there is nothing to do.
    return libc.ptrace(request, pid, address, data) == 0


def shorten(pid):
    """Shortens the call that a thread is about to make; True if there was something to shorten."""
    registers = (ctypes.c_ulonglong * REGISTERS)()
    if not ptrace(GETREGS, pid, None, ctypes.cast(registers, ctypes.c_void_p)):
        return False
    if registers[ORIG_RAX] not in TRANSFERS or registers[RDX] <= 1:
        return False
    registers[RDX] = 1
    return ptrace(SETREGS, pid, None, ctypes.cast(registers, ctypes.c_void_p))


def main(words):
    """Runs a program so; says at its end how many transfers were shortened, in the file named first."""
    report, program = words[0], words[1:]
    child = os.fork()
    if child == 0:
        ptrace(TRACEME, 0)
        os.execv(program[0], program)
    os.waitpid(child, 0)
    ptrace(SETOPTIONS, child, None, SYSGOOD | CLONE | EXEC | EXITKILL)
    ptrace(SYSCALL, child)
    # A person or a test that ends the tracer means the program.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: os.kill(child, number))
    shortened, entering, new = 0, {}, set()
    while True:
        pid, status = os.waitpid(-1, WALL)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            entering.pop(pid, None)
            if pid == child:
                break
            continue
        stop, event, deliver = os.WSTOPSIG(status), status >> 16, 0
        if stop == SYSCALL_STOP:
            entering[pid] = not entering.get(pid, False)
            if entering[pid]:
                shortened += shorten(pid)
        elif stop == signal.SIGSTOP and pid not in entering and pid != child and pid not in new:
            new.add(pid)  # A new thread begins stopped.
        elif event == 0 and stop != signal.SIGTRAP:
            deliver = stop
        ptrace(SYSCALL, pid, None, deliver)
    with open(report, "w", encoding="ascii") as out:
        out.write(str(shortened))
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
