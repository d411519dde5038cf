#include "../batch.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* Batches of sends: what is answered is what send() would have said, in order, and nothing is under
 * way afterwards. */

static int32_t done[BATCH_MAX];

static struct batch *need_batch(void)
{
    const char *why = "";
    struct batch *b = batch_new(&why);
    if (b) return b;
    print_message("SKIP: %s\n", why);
    skip();
    return NULL;
}

static void tcp_pair(int fds[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fds[0], (struct sockaddr *)&at, len), 0);
    fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fds[1] != -1);
    close(listener);
}

static void read_all(int fd, uint8_t *to, size_t len)
{
    for (size_t at = 0; at < len;) {
        const ssize_t n = recv(fd, to + at, len - at, 0);
        assert_true(n > 0);
        at += (size_t)n;
    }
}

/* Many batches, of every size: the rings wrap. What arrives is what was sent, in order. */
static void test_in_order(void **state)
{
    (void)state;
    static uint8_t out[BATCH_MAX][64], in[BATCH_MAX * 64];
    struct batch *b = need_batch();
    int fds[2];
    tcp_pair(fds);
    unsigned char next = 0;
    for (unsigned round = 0; round < 1000; round++) {
        const unsigned count = 1 + round * 7 % BATCH_MAX;
        size_t len = 0;
        for (unsigned i = 0; i < count; i++) {
            memset(out[i], next++, sizeof out[i]);
            assert_int_equal(batch_count(b), i);
            assert_int_equal(batch_add(b, fds[1], out[i], 1 + i % 64), i);
            len += 1 + i % 64;
        }
        assert_true(batch_submit(b, done));
        assert_int_equal(batch_count(b), 0);
        for (unsigned i = 0; i < count; i++) assert_int_equal(done[i], 1 + i % 64);
        read_all(fds[0], in, len);
        for (unsigned i = 0, at = 0; i < count; at += 1 + i % 64, i++)
            assert_memory_equal(in + at, out[i], 1 + i % 64);
    }
    close(fds[0]);
    close(fds[1]);
    batch_delete(b);
}

/* A socket that is full takes a part, or nothing, and says how much; those behind it are served.
 * What it did not take is never sent later: the memory is somebody else's by then. */
static void test_full_sockets(void **state)
{
    (void)state;
    enum { LARGE = 8 << 20 };
    struct batch *b = need_batch();
    uint8_t *large = malloc(LARGE), *in = malloc(LARGE);
    int full[2], other[2];
    tcp_pair(full);
    tcp_pair(other);
    memset(large, 'a', LARGE);
    batch_add(b, full[1], large, LARGE);
    batch_add(b, full[1], large, 100);
    batch_add(b, other[1], "behind", 6);
    assert_true(batch_submit(b, done));
    assert_true(done[0] > 0 && done[0] < LARGE);
    assert_int_equal(done[1], -EAGAIN);
    assert_int_equal(done[2], 6);
    memset(large, 'b', LARGE);
    read_all(full[0], in, (size_t)done[0]);
    for (int i = 0; i < done[0]; i++) assert_int_equal(in[i], 'a');
    assert_int_equal(batch_submit(b, done), true); /* an empty one does nothing */
    usleep(20000);
    assert_int_equal(recv(full[0], in, LARGE, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
    batch_add(b, full[1], "again", 5);
    assert_true(batch_submit(b, done));
    assert_int_equal(done[0], 5);
    read_all(full[0], in, 5);
    assert_memory_equal(in, "again", 5);
    close(full[0]);
    close(full[1]);
    close(other[0]);
    close(other[1]);
    free(large);
    free(in);
    batch_delete(b);
}

static void test_errors(void **state)
{
    (void)state;
    struct batch *b = need_batch();
    int gone[2], good[2], closed[2];
    tcp_pair(gone);
    tcp_pair(good);
    tcp_pair(closed);
    close(gone[0]);
    close(closed[1]);
    assert_int_equal(shutdown(gone[1], SHUT_WR), 0);
    batch_add(b, gone[1], "x", 1);
    batch_add(b, closed[1], "x", 1);
    batch_add(b, good[1], "x", 1);
    assert_true(batch_submit(b, done)); /* and no SIGPIPE */
    assert_int_equal(done[0], -EPIPE);
    assert_int_equal(done[1], -EBADF);
    assert_int_equal(done[2], 1);
    close(gone[1]);
    close(closed[0]);
    close(good[0]);
    close(good[1]);
    batch_delete(b);
}

static void test_full_batch(void **state)
{
    (void)state;
    struct batch *b = need_batch();
    int fds[2];
    uint8_t in[BATCH_MAX];
    tcp_pair(fds);
    for (unsigned round = 0; round < 50; round++) {
        for (unsigned i = 0; i < BATCH_MAX; i++) batch_add(b, fds[1], "y", 1);
        assert_true(batch_submit(b, done));
        for (unsigned i = 0; i < BATCH_MAX; i++) assert_int_equal(done[i], 1);
        read_all(fds[0], in, BATCH_MAX);
    }
    for (unsigned i = 0; i < BATCH_MAX; i++) batch_add(b, -1, "y", 1); /* each with a completion */
    assert_true(batch_submit(b, done));
    for (unsigned i = 0; i < BATCH_MAX; i++) assert_int_equal(done[i], -EBADF);
    close(fds[0]);
    close(fds[1]);
    batch_delete(b);
}

/* The ring stops to work: what was not done is told so. */
static void test_ring_is_gone(void **state)
{
    (void)state;
    struct batch *b = need_batch();
    int fds[2];
    tcp_pair(fds);
    for (int fd = 3; fd < 30; fd++) { /* find the ring's descriptor and put something else there */
        char link[64], path[32];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        const ssize_t n = readlink(path, link, sizeof link - 1);
        if (n <= 0) continue;
        link[n] = '\0';
        if (strstr(link, "io_uring")) assert_int_equal(dup2(fds[0], fd), fd);
    }
    batch_add(b, fds[1], "x", 1);
    batch_add(b, fds[1], "x", 1);
    assert_false(batch_submit(b, done));
    assert_int_equal(done[0], BATCH_NOT_DONE);
    assert_int_equal(done[1], BATCH_NOT_DONE);
    close(fds[0]);
    close(fds[1]);
    batch_delete(b);
}

static void test_forbidden(void **state)
{
    (void)state;
    const char *why = "";
    batch_forbid(true);
    assert_null(batch_new(&why));
    assert_string_equal(why, "io_uring is forbidden here (seccomp, kernel.io_uring_disabled)");
    assert_false(batch_works(&why));
    batch_forbid(false);
    batch_delete(NULL);
}

static void test_works(void **state)
{
    (void)state;
    const char *why = "";
    batch_delete(need_batch());
    assert_true(batch_works(&why));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_order),     cmocka_unit_test(test_full_sockets),
        cmocka_unit_test(test_errors),       cmocka_unit_test(test_full_batch),
        cmocka_unit_test(test_ring_is_gone), cmocka_unit_test(test_forbidden),
        cmocka_unit_test(test_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
