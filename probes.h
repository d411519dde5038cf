/* probes.h - static probes (USDT) for bpftrace, perf and SystemTap, provider "roost".
 *
 * Where the compiler finds <sys/sdt.h>, a probe is one nop in the code and a note in the binary
 * that says where it is and where its arguments are; else, and with MINIMAL=1, it is nothing.
 * Nobody is called until a tracer attaches, but arguments are evaluated: pass what is at hand, and
 * nothing with a side effect. A text without a NUL comes with its length behind it. A statement
 * each. Any thread.
 * docs/operations.md lists the probes; tests/e2e/probes.test.mjs compares. */
#ifndef PROBES_H
#define PROBES_H

#if !defined(ROOST_MINIMAL) && __has_include(<sys/sdt.h>)
#include <sys/sdt.h>

#define PROBE0(name) DTRACE_PROBE(roost, name)
#define PROBE1(name, a) DTRACE_PROBE1(roost, name, a)
#define PROBE2(name, a, b) DTRACE_PROBE2(roost, name, a, b)
#define PROBE3(name, a, b, c) DTRACE_PROBE3(roost, name, a, b, c)
#define PROBE4(name, a, b, c, d) DTRACE_PROBE4(roost, name, a, b, c, d)

#else

/* not evaluated, but used: what is there for a probe alone gives no warning */
#define PROBE_USE(a) (0 ? (void)(a) : (void)0)
#define PROBE0(name) ((void)0)
#define PROBE1(name, a) PROBE_USE(a)
#define PROBE2(name, a, b)                                                                         \
    do {                                                                                           \
        PROBE_USE(a);                                                                              \
        PROBE_USE(b);                                                                              \
    } while (0)
#define PROBE3(name, a, b, c)                                                                      \
    do {                                                                                           \
        PROBE2(name, a, b);                                                                        \
        PROBE_USE(c);                                                                              \
    } while (0)
#define PROBE4(name, a, b, c, d)                                                                   \
    do {                                                                                           \
        PROBE2(name, a, b);                                                                        \
        PROBE2(name, c, d);                                                                        \
    } while (0)

#endif

#endif
