/* kernel.c: what /proc says, on captured text and on text that no kernel writes; and real sockets.
 */
#include "guard.h"

#include "../kernel.h"

#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

#include <cmocka.h>

/* Linux 6.18, shortened */
#define NETSTAT                                                                                    \
    "TcpExt: SyncookiesSent TW ListenOverflows ListenDrops TCPHPHits\n"                            \
    "TcpExt: 0 21 136 18446744073709551615 5\n"                                                    \
    "IpExt: InNoRoutes InTruncatedPkts\n"                                                          \
    "IpExt: 0 0\n"
#define SOCKSTAT                                                                                   \
    "sockets: used 2142\n"                                                                         \
    "TCP: inuse 2030 orphan 0 tw 2656 alloc 2030 mem 198\n"                                        \
    "UDP: inuse 0 mem 7\n"

enum parser { P_NETSTAT, P_SOCKSTAT, P_TCP_MEM, P_MEMORY };

/* parse gives what parser makes of len bytes that end at an unreadable page, as text. */
static const char *parse(enum parser parser, const char *bytes, size_t len)
{
    static char out[128];
    char *copy = guard_copy(bytes, len);
    struct kernel_listen l = {7, 7};
    struct kernel_tcp_mem m = {7, 7, 7};
    uint64_t n = 7;
    bool ok = true;
    switch (parser) {
    case P_NETSTAT:
        ok = kernel_parse_netstat(&l, copy, len);
        if (!ok) assert_true(l.overflows == 7 && l.drops == 7);
        snprintf(out, sizeof out, "%llu %llu", (unsigned long long)l.overflows,
                 (unsigned long long)l.drops);
        break;
    case P_SOCKSTAT:
        ok = kernel_parse_sockstat(&n, copy, len);
        if (!ok) assert_int_equal(n, 7);
        snprintf(out, sizeof out, "%llu", (unsigned long long)n);
        break;
    case P_TCP_MEM:
        ok = kernel_parse_tcp_mem(&m, copy, len);
        if (!ok) assert_true(m.low == 7 && m.pressure == 7 && m.max == 7);
        snprintf(out, sizeof out, "%llu %llu %llu", (unsigned long long)m.low,
                 (unsigned long long)m.pressure, (unsigned long long)m.max);
        break;
    case P_MEMORY:
        n = kernel_memory_max(copy, len);
        snprintf(out, sizeof out, "%llu", (unsigned long long)n);
        ok = n != UINT64_MAX;
        break;
    }
    guard_free(copy, len);
    return ok ? out : "none";
}

static const struct {
    enum parser parser;
    const char *text, *says;
} cases[] = {
    {P_NETSTAT, NETSTAT, "136 18446744073709551615"},
    {P_NETSTAT, "IpExt: A\nIpExt: 1\n" NETSTAT, "136 18446744073709551615"},
    {P_NETSTAT, "TcpExt: ListenDrops  ListenOverflows\nTcpExt:\t1\t2", "2 1"},
    {P_NETSTAT, "", "none"},
    {P_NETSTAT, "\n\n\n", "none"},
    {P_NETSTAT, "TcpExt: ListenOverflows ListenDrops\n", "none"},
    {P_NETSTAT, "TcpExt: ListenOverflows ListenDrops\nTcpExt: 1\n", "none"},
    {P_NETSTAT, "TcpExt: ListenOverflows\nTcpExt: 1 2\n", "none"},
    {P_NETSTAT, "TcpExt: ListenOverflows ListenDrops\nTcpExt: -1 2\n", "none"},
    {P_NETSTAT, "TcpExt: ListenOverflows ListenDrops\nTcpExt: 1x 2\n", "none"},
    {P_NETSTAT, "TcpExt: ListenOverflows ListenDrops\nTcpExt: 1 18446744073709551616\n", "none"},
    {P_NETSTAT, "TcpExt:ListenOverflows ListenDrops\nTcpExt:1 2\n", "none"},
    {P_NETSTAT, "MPTcpExt: ListenOverflows ListenDrops\nMPTcpExt: 1 2\n", "none"},
    {P_SOCKSTAT, SOCKSTAT, "198"},
    {P_SOCKSTAT, "TCP: mem 3", "3"},
    {P_SOCKSTAT, "TCP6: inuse 3\n", "none"},
    {P_SOCKSTAT, "UDP: inuse 0 mem 7\n", "none"},
    {P_SOCKSTAT, "TCP: inuse mem 7\n", "none"},
    {P_SOCKSTAT, "TCP: mem\n", "none"},
    {P_SOCKSTAT, "TCP: mem 99999999999999999999\n", "none"},
    {P_TCP_MEM, "287898\t383866\t575796\n", "287898 383866 575796"},
    {P_TCP_MEM, "1 2 3", "1 2 3"},
    {P_TCP_MEM, "1 2\n3", "none"},
    {P_TCP_MEM, "1 2 3a", "none"},
    {P_TCP_MEM, "", "none"},
    {P_MEMORY, "536870912\n", "536870912"},
    {P_MEMORY, "max\n", "none"},
    {P_MEMORY, "", "none"},
    {P_MEMORY, "99999999999999999999999\n", "none"},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(parse(cases[i].parser, cases[i].text, strlen(cases[i].text)),
                            cases[i].says);
}

/* Every beginning of them, and every byte of them changed: nothing is read beyond the end, and what
 * is refused leaves the figures alone (parse asserts it). */
static void test_hostile(void **state)
{
    static const char bytes[] = {0, ' ', '\n', ':', '9', '-', (char)0xff};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[512];
        const size_t len = strlen(cases[i].text);
        for (size_t cut = 0; cut < len; cut++) parse(cases[i].parser, cases[i].text, cut);
        for (size_t at = 0; at < len; at++)
            for (size_t b = 0; b < sizeof bytes; b++) {
                memcpy(text, cases[i].text, len);
                text[at] = bytes[b];
                for (int p = P_NETSTAT; p <= P_MEMORY; p++) parse((enum parser)p, text, len);
            }
    }
}

/* ---- real ones ---- */

static void test_memory(void **state)
{
    (void)state;
    assert_in_range(kernel_memory_bytes(), 1 << 20, (uint64_t)1 << 50);
}

static int listener(struct sockaddr_in *at)
{
    socklen_t len = sizeof *at;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)at, len), 0);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)at, &len), 0);
    return fd;
}

static int dial(const struct sockaddr_in *at)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)at, sizeof *at), 0);
    return fd;
}

static void test_sockets(void **state)
{
    struct sockaddr_in at;
    uint32_t queue, max, rtt_us = 0, unsent = 1;
    (void)state;
    const int fd = listener(&at), one = dial(&at), two = dial(&at);
    for (int i = 0; i < 1000; i++) { /* the last step of a handshake may still be on its way */
        assert_true(kernel_ask_listener(fd, &queue, &max));
        if (queue == 2) break;
        poll(NULL, 0, 10);
    }
    assert_int_equal(queue, 2);
    assert_int_equal(max, 5);
    assert_true(kernel_ask_connection(one, &rtt_us, &unsent));
    assert_true(rtt_us > 0);
    assert_int_equal(unsent, 0);
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_false(kernel_ask_connection(pair[0], &rtt_us, &unsent));
    assert_false(kernel_ask_listener(pair[0], &queue, &max));
    assert_false(kernel_ask_connection(-1, &rtt_us, &unsent));
    close(pair[0]);
    close(pair[1]);
    close(one);
    close(two);
    close(fd);
}

/* ---- as text ---- */

static double value(const char *text, const char *name)
{
    char line[128];
    snprintf(line, sizeof line, "\n%s ", name);
    const char *at = strstr(text, line);
    return at ? strtod(at + strlen(line), NULL) : -1;
}

static void test_render(void **state)
{
    static char text[32 * 1024];
    static struct kernel_sockets one, two;
    const struct kernel_sockets *all[] = {&one, &two};
    const char *urls[] = {"ws://127.0.0.1:1", "unix:/a\"b\\c\n", "ws://127.0.0.1:3"};
    const struct kernel_view v = {.workers = all,
                                  .worker_count = 2,
                                  .listeners = urls,
                                  .listener_count = 3,
                                  .descriptors_open = 11,
                                  .descriptors_max = 1000};
    (void)state;
    one.accept_queue[0] = 3;
    one.accept_max[0] = 128;
    two.accept_queue[0] = 4;
    two.accept_max[0] = 128;
    one.accept_max[1] = 1;
    one.count = two.count = 50;
    for (unsigned i = 0; i < 50; i++) { /* 1 to 100 microseconds */
        one.rtt_us[i] = 100 - i;
        two.rtt_us[i] = 1 + i;
        one.unsent_bytes[i] = i == 7 ? 5000 : 0;
    }
    struct metrics_text t = {.p = text, .cap = sizeof text};
    kernel_render(&t, &v);
    assert_false(t.full);
    assert_true(value(text, "roost_accept_queue{listener=\"ws://127.0.0.1:1\"}") == 7);
    assert_true(value(text, "roost_accept_queue_max{listener=\"ws://127.0.0.1:1\"}") == 256);
    assert_true(value(text, "roost_accept_queue{listener=\"unix:/a_b_c_\"}") == 0);
    assert_null(strstr(text, "127.0.0.1:3"));
    assert_true(value(text, "roost_tcp_sampled_connections") == 100);
    assert_true(value(text, "roost_tcp_rtt_seconds{quantile=\"0.5\"}") == 50e-6);
    assert_true(value(text, "roost_tcp_rtt_seconds{quantile=\"0.99\"}") == 99e-6);
    assert_true(value(text, "roost_tcp_unsent_bytes{quantile=\"0.99\"}") == 0);
    assert_true(value(text, "roost_descriptors_max") == 1000);
    assert_true(value(text, "roost_descriptors_open") > 2);

    char *small = guard_copy(NULL, 300); /* too little room: said, and not written beyond */
    struct metrics_text cut = {.p = small, .cap = 300};
    kernel_render(&cut, &v);
    assert_true(cut.full);
    guard_free(small, 300);

    one.count = two.count = 0;
    t = (struct metrics_text){.p = text, .cap = sizeof text};
    kernel_render(&t, &v);
    assert_null(strstr(text, "rtt"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),  cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_memory), cmocka_unit_test(test_sockets),
        cmocka_unit_test(test_render),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
