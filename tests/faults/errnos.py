"""Which errors are injected into which system call."""

import errno

# Every error number of Linux that a program can see. The kernel's own (ERESTARTSYS and the like, from 512 on) never leave it.
# Two have a second name, which strace does not know.
SECOND_NAMES = {"EDEADLOCK": "EDEADLK", "ENOTSUP": "EOPNOTSUPP"}
ALL = [SECOND_NAMES.get(errno.errorcode[number], errno.errorcode[number]) for number in sorted(errno.errorcode)]

# A filter (seccomp) or a sandbox can deny any call with these.
DENIED = "EPERM ENOSYS"

# For a call that has no line below: one error of each kind that programs tell apart.
ANY = "EINTR EAGAIN EBADF EINVAL EIO ENOMEM EMFILE EACCES EFAULT"

# From the manual page of each call: the errors that it documents for the kind of file that the program uses it on.
DOCUMENTED = {
    "accept": "EAGAIN EBADF ECONNABORTED EFAULT EINTR EINVAL EMFILE ENFILE ENOBUFS ENOMEM ENOTSOCK EOPNOTSUPP EPROTO "
    "ENETDOWN ENOPROTOOPT EHOSTDOWN ENONET EHOSTUNREACH ENETUNREACH ECONNRESET ETIMEDOUT",
    "arch_prctl": "EFAULT EINVAL",
    "bind": "EACCES EADDRINUSE EBADF EINVAL ENOTSOCK EADDRNOTAVAIL EFAULT ENOMEM",
    "brk": "ENOMEM",
    "clone": "EAGAIN EINVAL ENOMEM ENOSPC EUSERS",
    "clone3": "EAGAIN EINVAL ENOMEM ENOSPC EUSERS",
    "close": "EBADF EINTR EIO ENOSPC EDQUOT",
    "connect": "EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF ECONNREFUSED EFAULT EINPROGRESS EINTR "
    "EISCONN ENETUNREACH ENOTSOCK EPROTOTYPE ETIMEDOUT",
    "epoll_wait": "EBADF EFAULT EINTR EINVAL",
    "exit": "",
    "fcntl": "EACCES EAGAIN EBADF EINTR EINVAL EMFILE ENOLCK",
    "fstat": "EACCES EBADF EFAULT ELOOP ENOENT ENOMEM ENOTDIR EOVERFLOW",
    "futex": "EAGAIN EINTR EINVAL ETIMEDOUT EFAULT",
    "getsockname": "EBADF EFAULT EINVAL ENOBUFS ENOTSOCK",
    "getsockopt": "EBADF EFAULT EINVAL ENOPROTOOPT ENOTSOCK",
    "gettid": "",
    "ioctl": "EBADF EFAULT EINVAL ENOTTY",
    "listen": "EADDRINUSE EBADF ENOTSOCK EOPNOTSUPP",
    "madvise": "EAGAIN EBADF EINVAL EIO ENOMEM",
    "mmap": "EACCES EAGAIN EBADF EINVAL ENFILE ENODEV ENOMEM EOVERFLOW",
    "mprotect": "EACCES EINVAL ENOMEM",
    "mremap": "EAGAIN EFAULT EINVAL ENOMEM",
    "munmap": "EINVAL ENOMEM",
    "nanosleep": "EFAULT EINTR EINVAL",
    "open": "EACCES EINTR EINVAL EISDIR ELOOP EMFILE ENAMETOOLONG ENFILE ENODEV ENOENT ENOMEM ENOTDIR ENXIO EOVERFLOW EAGAIN",
    "poll": "EFAULT EINTR EINVAL ENOMEM EAGAIN",
    "prctl": "EINVAL EFAULT",
    "read": "EAGAIN EBADF EFAULT EINTR EINVAL EIO EISDIR",
    "recvfrom": "EAGAIN EBADF ECONNREFUSED ECONNRESET EFAULT EINTR EINVAL ENOMEM ENOTCONN ENOTSOCK ETIMEDOUT EHOSTUNREACH",
    "rt_sigaction": "EFAULT EINVAL",
    "rt_sigprocmask": "EFAULT EINVAL",
    "sendto": "EACCES EAGAIN EBADF ECONNRESET EFAULT EINTR EINVAL ENOBUFS ENOMEM ENOTCONN ENOTSOCK EPIPE ETIMEDOUT",
    "set_tid_address": "",
    "setsockopt": "EBADF EDOM EFAULT EINVAL ENOPROTOOPT ENOTSOCK ENOMEM",
    "shutdown": "EBADF EINVAL ENOTCONN ENOTSOCK",
    "sigaltstack": "EFAULT EINVAL ENOMEM EPERM",
    "socket": "EACCES EAFNOSUPPORT EINVAL EMFILE ENFILE ENOBUFS ENOMEM EPROTONOSUPPORT",
    "socketpair": "EAFNOSUPPORT EFAULT EMFILE ENFILE EOPNOTSUPP EPROTONOSUPPORT ENOMEM",
    "write": "EAGAIN EBADF EDQUOT EFAULT EFBIG EINTR EINVAL EIO ENOSPC EPIPE",
}
for name, other in {"accept4": "accept", "openat": "open", "ppoll": "poll", "send": "sendto", "sendmsg": "sendto", "writev": "write",
                    "recvmsg": "recvfrom", "readv": "read", "fcntl64": "fcntl", "mmap2": "mmap", "clock_nanosleep": "nanosleep"}.items():
    DOCUMENTED[name] = DOCUMENTED[other]

# Results other than an error that the kernel may give at any time: nothing moved, the time is up, woken without a cause.
RETURNED = {"read": "0", "recvfrom": "0", "write": "0", "sendto": "0", "poll": "0", "ppoll": "0", "futex": "0"}

# No error of these can reach the program: the first three do not return to the caller, execve is the tracer's.
CANNOT_FAIL = {"exit", "exit_group", "rt_sigreturn", "execve"}


# Told to try again, a program does: so these can end, but the kernel cannot give them for good. A socket with a timeout
# gives EAGAIN only when that is over, and ETIMEDOUT once for a connection that is lost.
TRY_AGAIN = {"error=EINTR": None, "error=ETIMEDOUT": ("recvfrom", "sendto"), "error=EAGAIN": ("recvfrom", "sendto", "read", "write", "recvmsg", "sendmsg", "readv", "writev")}


def lasts(call, fault):
    """Whether the kernel can give this each time, for good."""
    calls = TRY_AGAIN.get(fault, ())
    return calls is not None and call not in calls


def faults(call, every_errno=False):
    """The faults of a call, in strace's words: its documented errors (or all there are), and what it may return instead."""
    names = ALL if every_errno else (DENIED + " " + DOCUMENTED.get(call, ANY)).split()
    errors = [f"error={name}" for name in dict.fromkeys(names)]
    return errors + [f"retval={value}" for value in RETURNED.get(call, "").split()]
