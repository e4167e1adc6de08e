/* The least a probe can do: socket, connect, write, read, exit. No C library, no options, no time limit.
   Usage: floor PORT. Exit 0 when /health on 127.0.0.1 answers 200. Without PORT it ends at once, with 0. */
#if defined(__x86_64__)
enum { READ = 0, WRITE = 1, SOCKET = 41, CONNECT = 42, EXIT = 60 };
static long call(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}
__asm__(".globl _start\n_start:\n  mov %rsp, %rdi\n  and $-16, %rsp\n  call probe\n");
#elif defined(__aarch64__)
enum { READ = 63, WRITE = 64, SOCKET = 198, CONNECT = 203, EXIT = 93 };
static long call(long number, long a, long b, long c) {
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
}
__asm__(".globl _start\n_start:\n  mov x0, sp\n  bl probe\n");
#else
#error "no system calls known for this machine"
#endif

static const char request[] = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

__attribute__((used, noreturn)) void probe(long *stack) {
    enum { IPV4 = 2, STREAM = 1 };
    const char *digit = ((char **)(stack + 1))[1];
    unsigned port = 0, good;
    struct { unsigned short family; unsigned char port[2], address[4], zero[8]; } peer = {IPV4, {0, 0}, {127, 0, 0, 1}, {0}};
    char answer[512];
    long socket, count = 0;
    if (!digit) for (;;) call(EXIT, 0, 0, 0);
    for (; *digit; digit++) port = port * 10 + (unsigned)(*digit - '0');
    peer.port[0] = (unsigned char)(port >> 8);
    peer.port[1] = (unsigned char)port;
    socket = call(SOCKET, IPV4, STREAM, 0);
    if (call(CONNECT, socket, (long)&peer, sizeof peer) == 0 && call(WRITE, socket, (long)request, sizeof request - 1) > 0)
        count = call(READ, socket, (long)answer, sizeof answer);
    good = count >= 12 && answer[9] == '2' && answer[10] == '0' && answer[11] == '0';
    for (;;) call(EXIT, !good, 0, 0);
}
