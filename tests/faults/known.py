"""What std and the C library do when their own start-up fails. Nothing of the program's runs before them."""

from outcome import Known

KNOWN = [
    Known("probe", "start-up", "arch_prctl", "SIGSEGV", "musl crashes on purpose where a thread can have no storage of its own"),
    Known("probe", "start-up", "rt_sigaction", "SIGABRT", "std aborts where it cannot ignore SIGPIPE"),
    Known("probe", "start-up", "poll", "SIGABRT", "std aborts where it cannot ask whether descriptors 0 to 2 are open"),
    Known("probe", "start-up", "poll", "late", "std asks again without end when that is interrupted each time"),
    Known("probe", "start-up", "mmap mprotect", "SIGABRT, SIGSEGV", "std panics before main without its alternate signal stack"),
    Known("daemon", "start-up", "arch_prctl", "SIGSEGV", "musl crashes on purpose where a thread can have no storage of its own"),
    Known("daemon", "start-up", "rt_sigaction", "SIGABRT", "std aborts where it cannot ignore SIGPIPE"),
    Known("daemon", "start-up", "poll", "SIGABRT", "std aborts where it cannot ask whether descriptors 0 to 2 are open"),
    Known("daemon", "start-up", "mmap mprotect", "SIGABRT, SIGSEGV", "std panics before main without its alternate signal stack"),
    Known("daemon", "program, thread start", "mmap mremap brk", "SIGABRT", "std aborts where memory cannot be had"),
    Known("daemon", "program, thread start", "mprotect", "SIGABRT, spins", "std panics in a new thread without its alternate signal stack"),
    Known("daemon", "program", "mprotect", "SIGSEGV", "musl takes ENOSYS for a machine without memory protection, and uses a stack that is still protected"),
    Known("daemon", "program", "rt_sigprocmask", "hangs", "musl blocks all signals while it makes a thread, and does not look whether they are unblocked again"),
    Known("daemon", "program", "futex", "spins", "std takes each end of a wait for a wake-up, and waits again"),
]
