/* listen.c: sockets that are opened, shared, taken over, refused. */
#include "../listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static const struct listen_options options = {.backlog = 16, .user_timeout_ms = 33000};

static int option(int fd, int level, int name)
{
    int v = 0;
    socklen_t len = sizeof v;
    assert_int_equal(getsockopt(fd, level, name, &v, &len), 0);
    return v;
}

static int dial(uint16_t port)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0) return fd;
    close(fd);
    return -1;
}

/* Two workers share a port that the kernel chose; what is accepted inherits the options. */
static void test_tcp(void **state)
{
    (void)state;
    uint16_t port = 0;
    int a = listen_tcp("127.0.0.1", false, &port, &options);
    assert_true(a >= 0);
    assert_int_not_equal(port, 0);
    uint16_t same = port;
    int b = listen_tcp("127.0.0.1", false, &same, &options);
    assert_true(b >= 0);
    assert_int_equal(same, port);
    assert_true(fcntl(a, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(a, F_GETFD) & FD_CLOEXEC);
    close(b); /* one is left: all connections are its */
    int client = dial(port);
    assert_true(client >= 0);
    int server = accept(a, NULL, NULL);
    assert_true(server >= 0);
    assert_int_equal(option(server, IPPROTO_TCP, TCP_NODELAY), 1);
    assert_int_equal(option(server, IPPROTO_TCP, TCP_USER_TIMEOUT), 33000);
    close(server);
    close(client);
    close(a);
    assert_int_equal(dial(port), -1);
}

static void test_tcp_wrong(void **state)
{
    (void)state;
    static const char *const hosts[] = {"localhost", "", "127.0.0.1.1", "256.0.0.1", "::1"};
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        uint16_t port = 0;
        errno = 0;
        assert_int_equal(listen_tcp(hosts[i], false, &port, &options), -1);
        assert_int_equal(errno, EINVAL);
    }
    uint16_t port = 0;
    assert_int_equal(listen_tcp("192.0.2.1", false, &port, &options), -1); /* RFC 5737: nobody's */
    assert_int_equal(errno, EADDRNOTAVAIL);
}

/* A port that is in use without SO_REUSEPORT is not ours. */
static void test_tcp_in_use(void **state)
{
    (void)state;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof any;
    int other = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(other, (struct sockaddr *)&any, sizeof any), 0);
    assert_int_equal(listen(other, 1), 0);
    assert_int_equal(getsockname(other, (struct sockaddr *)&any, &len), 0);
    uint16_t port = ntohs(any.sin_port);
    assert_int_equal(listen_tcp("127.0.0.1", false, &port, &options), -1);
    assert_int_equal(errno, EADDRINUSE);
    close(other);
}

/* IPv6 sockets take IPv6 only, so that both families can have listeners on one port. */
static void test_tcp6(void **state)
{
    (void)state;
    uint16_t port = 0;
    int six = listen_tcp("::", true, &port, &options);
    if (six == -1 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL)) skip();
    assert_true(six >= 0);
    assert_int_equal(dial(port), -1);
    int four = listen_tcp("0.0.0.0", false, &port, &options);
    assert_true(four >= 0);
    close(four);
    close(six);
}

static void test_unix(void **state)
{
    (void)state;
    char dir[] = "/tmp/roost-listen-XXXXXX", path[64];
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/sock", dir);
    strcpy(sa.sun_path, path);
    int a = listen_unix(path, &options);
    assert_true(a >= 0);
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&sa, sizeof sa), 0);
    close(client);

    assert_int_equal(listen_unix(path, &options), -1); /* somebody listens there */
    assert_int_equal(errno, EADDRINUSE);
    close(a);
    int b = listen_unix(path, &options); /* nobody does: the file was left behind */
    assert_true(b >= 0);
    close(b);
    unlink(path);

    int file = open(path, O_CREAT | O_WRONLY, 0600); /* no socket: not ours to remove */
    assert_true(file >= 0);
    close(file);
    assert_int_equal(listen_unix(path, &options), -1);
    assert_int_equal(access(path, F_OK), 0);
    unlink(path);
    rmdir(dir);
}

static void test_unix_wrong(void **state)
{
    (void)state;
    char path[200];
    memset(path, 'x', sizeof path);
    path[sizeof path - 1] = 0;
    assert_int_equal(listen_unix(path, &options), -1);
    assert_int_equal(errno, ENAMETOOLONG);
    assert_int_equal(listen_unix("/nonexistent/sock", &options), -1);
    assert_int_equal(errno, ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tcp),        cmocka_unit_test(test_tcp_wrong),
        cmocka_unit_test(test_tcp_in_use), cmocka_unit_test(test_tcp6),
        cmocka_unit_test(test_unix),       cmocka_unit_test(test_unix_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
