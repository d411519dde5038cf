/* tune: each rule at its limit and one beyond, on trees that stand for hosts. */
#include "../tune.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[] = "/tmp/roost-tune-XXXXXX";

/* put writes a file of the tree, folders and all. */
static void put(const char *file, const char *text)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", root, file);
    for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        (void)mkdir(path, 0755);
        *slash = '/';
    }
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void put_sysctl(const char *name, const char *text)
{
    char file[PATH_MAX] = "", path[PATH_MAX];
    tune_sysctl_path(path, "", name);
    snprintf(file, sizeof file, "%s", path + 1);
    put(file, text);
}

static int set_up(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(root));
    put("proc/meminfo", "MemTotal:       25000000 kB\nMemFree:  1 kB\n");
    put("proc/sys/fs/file-nr", "1000\t0\t2466174\n");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command); /* NOLINT(cert-env33-c): a folder that we made */
}

static const struct tune_check *check_of(const char *name)
{
    for (size_t i = 0; i < tune_checks_count; i++)
        if (strcmp(tune_checks[i].name, name) == 0) return &tune_checks[i];
    fail_msg("no check %s", name);
    return NULL;
}

static struct tune_plan plan_of(uint64_t connections)
{
    struct tune_plan plan = {.root = root, .connections = connections, .processes = 1};
    assert_int_equal(tune_open(&plan), 0);
    return plan;
}

static struct tune_result look(const char *name, const struct tune_plan *plan)
{
    struct tune_result r;
    tune_look(&r, check_of(name), plan);
    return r;
}

/* Sysctls: for N connections, the value that is enough and the one that is not, and what would be
 * set. */
static const struct {
    const char *name;
    uint64_t connections;
    const char *enough, *short_of, *line;
    enum tune_verdict verdict;
} rows[] = {
    {"fs.nr_open", 1000000, "1001000", "1000999", "1001000", TUNE_FAIL},
    {"fs.file-max", 1000000, "1201200", "1201199", "1201200", TUNE_FAIL},
    {"fs.file-max", 1000000, "9223372036854775807", "0", "1201200", TUNE_FAIL},
    {"fs.epoll.max_user_watches", 5491489, "5491489", "5491488", "5491489", TUNE_FAIL},
    {"net.ipv4.tcp_mem", 1000000, "1\t2\t600000\n", "1\t2\t599999", "300000 400000 600000",
     TUNE_FAIL},
    {"net.netfilter.nf_conntrack_max", 131072, "262144", "262143", "262144", TUNE_FAIL},
    {"net.core.somaxconn", 10, "4096", "4095", "4096", TUNE_WARN},
    {"net.core.somaxconn", 160000, "10000", "9999", "10000", TUNE_WARN},
    {"net.core.somaxconn", 100000000, "65535", "65534", "65535", TUNE_WARN},
    {"net.ipv4.tcp_syncookies", 10, "1", "2", "1", TUNE_WARN},
    {"net.ipv4.tcp_syncookies", 10, "1\n", "0\n", "1", TUNE_WARN},
    {"net.ipv4.tcp_synack_retries", 10, "3", "4", "3", TUNE_WARN},
    {"net.ipv4.tcp_migrate_req", 10, "1", "0", "1", TUNE_WARN},
    {"net.ipv4.tcp_rmem", 100000000, "4096 131072 262144", "4096 131072 262145",
     "4096 131072 262144", TUNE_WARN},
    {"net.ipv4.tcp_wmem", 100000000, "4096 16384 262144", "300000 300000 6291456",
     "262144 262144 262144", TUNE_WARN},
};

static void test_sysctls(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct tune_plan plan = plan_of(rows[i].connections);
        put_sysctl(rows[i].name, rows[i].enough);
        struct tune_result r = look(rows[i].name, &plan);
        if (r.verdict != TUNE_OK) fail_msg("%s %s: not enough", rows[i].name, rows[i].enough);
        assert_string_equal(r.line, "");
        put_sysctl(rows[i].name, rows[i].short_of);
        r = look(rows[i].name, &plan);
        if (r.verdict != rows[i].verdict) fail_msg("%s %s: enough", rows[i].name, rows[i].short_of);
        assert_string_equal(r.line, rows[i].line);
    }
}

static void test_sharing_and_clients(void **state)
{
    (void)state;
    struct tune_plan plan = plan_of(1000000);
    put_sysctl("fs.nr_open", "20000");
    assert_int_equal(look("fs.nr_open", &plan).verdict, TUNE_FAIL);
    plan.processes = 53; /* 18,868 each */
    assert_int_equal(look("fs.nr_open", &plan).verdict, TUNE_OK);
    plan.processes = 52;
    assert_int_equal(look("fs.nr_open", &plan).verdict, TUNE_FAIL);

    put_sysctl("net.ipv4.ip_local_port_range", "32768\t60999");
    assert_int_equal(look("net.ipv4.ip_local_port_range", &plan).verdict, TUNE_OK);
    plan.clients = true;
    const struct tune_result r = look("net.ipv4.ip_local_port_range", &plan);
    assert_int_equal(r.verdict, TUNE_WARN);
    assert_string_equal(r.line, "1024 65535");
    put_sysctl("net.ipv4.ip_local_port_range", r.line);
    assert_int_equal(look("net.ipv4.ip_local_port_range", &plan).verdict, TUNE_OK);
    put_sysctl("fs.epoll.max_user_watches", "1999999"); /* both ends are here */
    assert_int_equal(look("fs.epoll.max_user_watches", &plan).verdict, TUNE_FAIL);
}

static void test_limits_and_memory(void **state)
{
    (void)state;
    put("proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max processes             100                  200                  processes \n"
        "Max open files            1024                 20000                files     \n");
    struct tune_plan plan = plan_of(19000);
    assert_int_equal(look("RLIMIT_NOFILE", &plan).verdict, TUNE_OK);
    plan.connections = 19001;
    assert_int_equal(look("RLIMIT_NOFILE", &plan).verdict, TUNE_FAIL);
    assert_string_equal(look("RLIMIT_NOFILE", &plan).now, "20000");

    plan.connections = 25000000ull * 1024 / 4712;
    assert_int_equal(look("memory", &plan).verdict, TUNE_OK);
    plan.connections++;
    assert_int_equal(look("memory", &plan).verdict, TUNE_FAIL);
    plan.connections = 1000000;
    plan.tls = true; /* 29 KB each */
    assert_int_equal(look("memory", &plan).verdict, TUNE_FAIL);
    plan.tls = false;

    assert_string_equal(look("cgroup memory.max", &plan).now, "no limit");
    put("proc/self/cgroup", "1:cpu:/x\n0::/a/b\n");
    put("sys/fs/cgroup/a/b/memory.max", "max\n");
    assert_int_equal(look("cgroup memory.max", &plan).verdict, TUNE_OK);
    put("sys/fs/cgroup/a/memory.max", "1048576\n"); /* above us */
    assert_int_equal(look("cgroup memory.max", &plan).verdict, TUNE_FAIL);
    assert_string_equal(look("cgroup memory.max", &plan).now, "1048576");
    put("sys/fs/cgroup/a/memory.max", "max\n");
    put("sys/fs/cgroup/a/b/memory.max", "4711999999\n");
    assert_int_equal(look("cgroup memory.max", &plan).verdict, TUNE_FAIL);
    put("sys/fs/cgroup/a/b/memory.max", "4712000000\n");
    assert_int_equal(look("cgroup memory.max", &plan).verdict, TUNE_OK);
}

static void test_counters(void **state)
{
    (void)state;
    const struct tune_plan plan = plan_of(1000);
    put("proc/net/netstat", "TcpExt: SyncookiesSent ListenOverflows ListenDrops\n"
                            "TcpExt: 7 0 9\nIpExt: InNoRoutes ListenOverflows\nIpExt: 1 5\n");
    assert_int_equal(look("accept queues overflowed", &plan).verdict, TUNE_OK);
    put("proc/net/netstat", "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 7 3 9\n");
    assert_string_equal(look("accept queues overflowed", &plan).now, "3");
    assert_int_equal(look("accept queues overflowed", &plan).verdict, TUNE_WARN);
    put("proc/net/netstat", "TcpExt: SyncookiesSent\nTcpExt: 7\n");
    assert_int_equal(look("accept queues overflowed", &plan).verdict, TUNE_UNKNOWN);
    put("proc/net/softnet_stat", "00000001 00000010 00000000\n00000001 00000001 00000000\n");
    assert_string_equal(look("packets dropped by a CPU", &plan).now, "17");
    put("proc/net/sockstat",
        "sockets: used 9\nTCP: inuse 5 orphan 0 tw 0 alloc 8 mem 51\nUDP: inuse 0 mem 3\n");
    put("proc/sys/net/ipv4/tcp_mem", "50 75 100");
    assert_int_equal(look("TCP memory in use, %", &plan).verdict, TUNE_WARN);
    put("proc/sys/net/ipv4/tcp_mem", "50 75 102");
    assert_int_equal(look("TCP memory in use, %", &plan).verdict, TUNE_OK);
}

static void test_words(void **state)
{
    (void)state;
    const struct tune_plan plan = plan_of(1000);
    put("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n");
    assert_int_equal(look("transparent huge pages", &plan).verdict, TUNE_WARN);
    put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    assert_int_equal(look("transparent huge pages", &plan).verdict, TUNE_OK);
    put_sysctl("net.ipv4.tcp_congestion_control", "bbr\n");
    put_sysctl("net.core.default_qdisc", "pfifo_fast\n");
    assert_int_equal(look("congestion control", &plan).verdict, TUNE_WARN);
    put_sysctl("net.core.default_qdisc", "fq\n");
    assert_int_equal(look("congestion control", &plan).verdict, TUNE_OK);
    put("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,00000000\n");
    assert_int_equal(look("network cards' queues", &plan).verdict, TUNE_WARN);
    put("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,0000000f\n");
    assert_int_equal(look("network cards' queues", &plan).verdict, TUNE_OK);
}

/* What is not there: only the host knows; for what need not be there, all is well. */
static void test_absent(void **state)
{
    (void)state;
    const struct tune_plan plan = plan_of(1000000);
    assert_int_equal(look("net.core.netdev_max_backlog", &plan).verdict, TUNE_UNKNOWN);
    assert_string_equal(look("net.core.netdev_max_backlog", &plan).now, "-");
    assert_int_equal(look("net.netfilter.nf_conntrack_buckets", &plan).verdict, TUNE_OK);
    assert_int_equal(look("net.core.busy_poll", &plan).verdict, TUNE_OK);
    struct tune_plan nowhere = {.root = "/nonexistent", .connections = 1, .processes = 1};
    assert_int_equal(tune_open(&nowhere), -1);
    assert_int_equal(errno, ENOENT);
    put("proc/meminfo", "nothing of the kind\n");
    nowhere.root = root;
    assert_int_equal(tune_open(&nowhere), -1);
}

/* Bytes that no kernel writes. */
static void test_hostile(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "\n",
                                        "x",
                                        "-1",
                                        "99999999999999999999999",
                                        "1 2",
                                        "[",
                                        "TcpExt:",
                                        "TcpExt:\nTcpExt:",
                                        "0::",
                                        "0::/\n"};
    put("proc/meminfo", "MemTotal: 1 kB\n");
    static char longest[70000];
    memset(longest, '7', sizeof longest - 1);
    static const char *const files[] = {
        "proc/self/limits",      "proc/self/cgroup",  "proc/net/netstat",
        "proc/net/softnet_stat", "proc/net/sockstat", "sys/kernel/mm/transparent_hugepage/enabled"};
    const size_t kinds = sizeof texts / sizeof *texts;
    for (size_t k = 0; k <= kinds; k++) {
        const char *text = k < kinds ? texts[k] : longest;
        for (size_t f = 0; f < sizeof files / sizeof *files; f++) put(files[f], text);
        for (size_t i = 0; i < tune_checks_count; i++)
            if (!tune_checks[i].read) put_sysctl(tune_checks[i].name, text);
        const struct tune_plan plan = plan_of(1000000);
        for (size_t i = 0; i < tune_checks_count; i++) {
            struct tune_result r;
            tune_look(&r, &tune_checks[i], &plan);
            assert_true(memchr(r.now, 0, sizeof r.now) && memchr(r.line, 0, sizeof r.line));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sysctls),
        cmocka_unit_test(test_sharing_and_clients),
        cmocka_unit_test(test_limits_and_memory),
        cmocka_unit_test(test_counters),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_absent),
        cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
