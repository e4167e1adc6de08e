"""What std and the C library do when their own start-up fails. Nothing of the program's runs before them."""

from outcome import Known

KNOWN = [
    Known("probe", "start-up", "arch_prctl", "SIGSEGV", "musl crashes on purpose where a thread can have no storage of its own"),
    Known("probe", "start-up", "rt_sigaction", "SIGABRT", "std aborts where it cannot ignore SIGPIPE"),
    Known("probe", "start-up", "poll", "SIGABRT", "std aborts where it cannot ask whether descriptors 0 to 2 are open"),
    Known("probe", "start-up", "poll", "late", "std asks again without end when that is interrupted each time"),
    Known("probe", "start-up", "mmap mprotect", "SIGABRT, SIGSEGV", "std panics before main without its alternate signal stack"),
]
