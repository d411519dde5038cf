/* privileges.c: which files are given away. Becoming somebody else is in e2e/user.test.mjs. */
#include "../privileges.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/roost-privileges-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

static const char *in_dir(const char *name, char out[static 108])
{
    snprintf(out, 108, "%s/%s", dir, name);
    return out;
}

static void make_socket(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    close(fd);
}

/* Root gives it to another user; who is not root can only keep it. */
static struct privileges somebody(void)
{
    const bool root = geteuid() == 0;
    return (struct privileges){.uid = root ? 65534 : geteuid(), .gid = root ? 65534 : getegid()};
}

static void assert_left_alone(const char *path, const char *real)
{
    const struct privileges p = somebody();
    struct stat st;
    errno = 0;
    assert_int_equal(privileges_own_path(&p, path), -1);
    assert_true(errno == EPERM);
    assert_int_equal(stat(real, &st), 0);
    assert_int_equal(st.st_uid, geteuid());
}

static void test_a_socket(void **state)
{
    (void)state;
    char path[108];
    struct stat st;
    const struct privileges p = somebody();
    make_socket(in_dir("socket", path));
    assert_int_equal(privileges_own_path(&p, path), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_uid, p.uid);
    assert_int_equal(st.st_gid, p.gid);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(privileges_own_path(&p, path), -1);
    assert_int_equal(errno, ENOENT);
}

/* Who may write to the folder could put anything there, to have it. */
static void test_nothing_else(void **state)
{
    (void)state;
    char path[108], other[108];
    make_socket(in_dir("socket", path));
    assert_int_equal(link(path, in_dir("other", other)), 0);
    assert_left_alone(path, path);
    assert_left_alone(other, path);
    assert_int_equal(unlink(other), 0);
    assert_int_equal(symlink(path, other), 0);
    assert_left_alone(other, path);
    assert_int_equal(unlink(other), 0);
    const int fd = open(other, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_not_equal(fd, -1);
    close(fd);
    assert_left_alone(other, other);
    assert_int_equal(unlink(other), 0);
    assert_int_equal(unlink(path), 0);
    assert_left_alone(dir, dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_socket),
                                       cmocka_unit_test(test_nothing_else)};
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
