#include "tune.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE 4096u
#define KERNEL_EACH 4200u     /* bytes of the kernel's for one end of an idle connection */
#define USER_EACH 512u        /* of roost's, for an SDK client; a raw one has half */
#define TLS_EACH (24 * 1024u) /* more, over TLS */

/* ---- files ---- */

static void path_of(char path[static PATH_MAX], const char *root, const char *file)
{
    if (snprintf(path, PATH_MAX, "%s/%s", root, file) >= PATH_MAX) *path = 0; /* is no file */
}

void tune_sysctl_path(char path[static PATH_MAX], const char *root, const char *name)
{
    const int head = snprintf(path, PATH_MAX, "%s/proc/sys/", root);
    snprintf(path + head, PATH_MAX - (size_t)head, "%s", name);
    for (char *p = path + head; *p; p++)
        if (*p == '.') *p = '/';
}

/* squeeze leaves one space between words, none at the ends. */
static void squeeze(char *text)
{
    char *to = text;
    for (const char *p = text; *p; p++) {
        const bool space = *p == ' ' || *p == '\t' || *p == '\n';
        if (!space)
            *to++ = *p;
        else if (to > text && to[-1] != ' ')
            *to++ = ' ';
    }
    if (to > text && to[-1] == ' ') to--;
    *to = 0;
}

/* slurp reads the beginning of a file, up to size - 1 bytes. */
static int slurp(const char *path, char *text, size_t size)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd == -1) return -1;
    size_t len = 0;
    ssize_t n = 0;
    while (len < size - 1 && (n = read(fd, text + len, size - 1 - len)) > 0) len += (size_t)n;
    close(fd);
    text[len] = 0;
    return n == -1 ? -1 : 0;
}

static int slurp_below(const struct tune_plan *plan, const char *file, char *text, size_t size)
{
    char path[PATH_MAX];
    path_of(path, plan->root, file);
    return slurp(path, text, size);
}

static int read_below(const struct tune_plan *plan, const char *file, char *text, size_t size)
{
    if (slurp_below(plan, file, text, size) == -1) return -1;
    squeeze(text);
    return *text ? 0 : -1;
}

/* number_in: the nth number of a line, false if there are fewer. */
static bool number_in(const char *line, int nth, uint64_t *n)
{
    char *end;
    for (;; nth--, line = end) {
        while (*line && (*line < '0' || *line > '9')) line++;
        if (!*line) return false;
        *n = strtoull(line, &end, 10);
        if (nth == 0) return true;
    }
}

/* labelled finds "Label: number" or "Label number" at a line's begin. */
static bool labelled(const char *text, const char *label, uint64_t *n)
{
    const size_t len = strlen(label);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (strncmp(line, label, len) == 0) return number_in(line + len, 0, n);
    }
    return false;
}

static int write_number(char *text, size_t size, uint64_t n)
{
    snprintf(text, size, "%" PRIu64, n);
    return 0;
}

/* ---- what is no sysctl ---- */

static int read_memory(const struct tune_plan *plan, char *text, size_t size)
{
    return write_number(text, size, plan->memory);
}

static int read_descriptors(const struct tune_plan *plan, char *text, size_t size)
{
    char limits[4096];
    static const char label[] = "Max open files";
    if (slurp_below(plan, "proc/self/limits", limits, sizeof limits) == -1) return -1;
    const char *line = strstr(limits, label);
    uint64_t hard;
    if (!line || !number_in(line, 1, &hard)) return -1; /* soft, hard: roost raises the soft one */
    return write_number(text, size, hard);
}

/* cgroup_file: of the cgroup (version 2) that we are in. */
static int cgroup_file(const struct tune_plan *plan, const char *name, char *text, size_t size)
{
    char cgroup[4096], file[PATH_MAX];
    if (slurp_below(plan, "proc/self/cgroup", cgroup, sizeof cgroup) == -1) return -1;
    char *folder = strncmp(cgroup, "0::", 3) == 0 ? cgroup : strstr(cgroup, "\n0::");
    if (!folder) return -1;
    folder = strchr(folder, '/');
    if (!folder) return -1;
    folder[strcspn(folder, "\n")] = 0;
    snprintf(file, sizeof file, "sys/fs/cgroup%s/%s", strcmp(folder, "/") ? folder : "", name);
    return read_below(plan, file, text, size);
}

static int read_cgroup_memory(const struct tune_plan *plan, char *text, size_t size)
{
    if (cgroup_file(plan, "memory.max", text, size) == -1 || strcmp(text, "max") == 0)
        snprintf(text, size, "no limit");
    return 0;
}

static int read_cgroup_pids(const struct tune_plan *plan, char *text, size_t size)
{
    return cgroup_file(plan, "pids.max", text, size);
}

/* The column "ListenOverflows" of the second pair of lines of netstat. */
static int read_overflows(const struct tune_plan *plan, char *text, size_t size)
{
    static char all[32 * 1024];
    if (slurp_below(plan, "proc/net/netstat", all, sizeof all) == -1) return -1;
    char *names = strstr(all, "TcpExt:");
    char *values = names ? strstr(names + 1, "TcpExt:") : NULL;
    char *end_of_names = names ? strchr(names, '\n') : NULL;
    if (!values || !end_of_names) return -1;
    *end_of_names = 0;
    char *save;
    int column = -1; /* the label itself */
    for (char *word = strtok_r(names, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        uint64_t n;
        if (strcmp(word, "ListenOverflows") == 0 && number_in(values, column, &n))
            return write_number(text, size, n);
        column++;
    }
    return -1;
}

/* Packets that a CPU had no room for: the second column of each line, hexadecimal. */
static int read_backlog_drops(const struct tune_plan *plan, char *text, size_t size)
{
    static char all[64 * 1024];
    if (slurp_below(plan, "proc/net/softnet_stat", all, sizeof all) == -1) return -1;
    uint64_t drops = 0;
    for (const char *line = all; line && *line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        const char *second = strchr(line, ' ');
        if (second) drops += strtoull(second, NULL, 16);
    }
    return write_number(text, size, drops);
}

/* Percent of the upper limit that TCP's buffers take now. */
static int read_tcp_memory(const struct tune_plan *plan, char *text, size_t size)
{
    char sockstat[2048], limits[128];
    uint64_t used, most;
    if (slurp_below(plan, "proc/net/sockstat", sockstat, sizeof sockstat) == -1 ||
        read_below(plan, "proc/sys/net/ipv4/tcp_mem", limits, sizeof limits) == -1)
        return -1;
    const char *line = strstr(sockstat, "TCP:");
    const char *mem = line ? strstr(line, " mem ") : NULL;
    if (!mem || !number_in(mem, 0, &used) || !number_in(limits, 2, &most) || !most) return -1;
    return write_number(text, size, used * 100 / most);
}

static int read_huge_pages(const struct tune_plan *plan, char *text, size_t size)
{
    char line[128];
    if (read_below(plan, "sys/kernel/mm/transparent_hugepage/enabled", line, sizeof line) == -1)
        return -1;
    const char *open = strchr(line, '['), *close = open ? strchr(open, ']') : NULL;
    if (!close) return -1;
    snprintf(text, size, "%.*s", (int)(close - open - 1), open + 1);
    return 0;
}

static int read_pacing(const struct tune_plan *plan, char *text, size_t size)
{
    char control[64], qdisc[64];
    if (read_below(plan, "proc/sys/net/ipv4/tcp_congestion_control", control, sizeof control) == -1)
        return -1;
    if (read_below(plan, "proc/sys/net/core/default_qdisc", qdisc, sizeof qdisc) == -1) return -1;
    const bool timers = strcmp(control, "bbr") == 0 && strcmp(qdisc, "fq") != 0;
    snprintf(text, size, "%s", timers ? "bbr without fq" : control);
    return 0;
}

/* has_one_queue: does this network card deliver all packets to one CPU? */
static bool has_one_queue(const struct tune_plan *plan, const char *card)
{
    char file[PATH_MAX], mask[256];
    snprintf(file, sizeof file, "sys/class/net/%.64s/queues/rx-1/rps_cpus", card);
    if (slurp_below(plan, file, mask, sizeof mask) == 0) return false;
    snprintf(file, sizeof file, "sys/class/net/%.64s/queues/rx-0/rps_cpus", card);
    if (slurp_below(plan, file, mask, sizeof mask) == -1) return false;
    return mask[strspn(mask, "0,\n")] == 0;
}

static int read_queues(const struct tune_plan *plan, char *text, size_t size)
{
    char path[PATH_MAX];
    path_of(path, plan->root, "sys/class/net");
    DIR *cards = opendir(path);
    if (!cards) return -1;
    snprintf(text, size, "spread");
    for (const struct dirent *card; (card = readdir(cards));)
        if (card->d_name[0] != '.' && strcmp(card->d_name, "lo") != 0 &&
            has_one_queue(plan, card->d_name))
            snprintf(text, size, "one CPU");
    closedir(cards);
    return 0;
}

/* ---- what is needed ---- */

static uint64_t at_least(uint64_t n, uint64_t least)
{
    return n < least ? least : n;
}

static uint64_t at_most(uint64_t n, uint64_t most)
{
    return n > most ? most : n;
}

static uint64_t need_memory(const struct tune_plan *p)
{
    const uint64_t each = USER_EACH + (p->tls ? TLS_EACH : 0) + KERNEL_EACH;
    return p->connections * (p->clients ? each + KERNEL_EACH + USER_EACH : each);
}
static uint64_t need_descriptors(const struct tune_plan *p)
{
    return (p->connections + p->processes - 1) / p->processes + 1000;
}
static uint64_t need_files(const struct tune_plan *p)
{
    return ((p->clients ? 2 : 1) * p->connections + p->open_here) * 6 / 5;
}
static uint64_t need_watches(const struct tune_plan *p)
{
    return (p->clients ? 2 : 1) * p->connections;
}
static uint64_t need_backlog(const struct tune_plan *p)
{
    return at_most(at_least(p->connections / 16, 4096), 65535);
}
static uint64_t need_input_queue(const struct tune_plan *p)
{
    return at_most(at_least(p->connections / 16, 1000), 16384);
}
static uint64_t need_tcp_pages(const struct tune_plan *p)
{
    return p->connections * 6 / 10;
}
static uint64_t need_buffer(const struct tune_plan *p)
{
    return at_least(p->memory / 8 / at_least(p->connections / 100, 1), 256 * 1024);
}
static uint64_t need_orphans(const struct tune_plan *p)
{
    return at_least(p->connections / 10, 8192);
}
static uint64_t need_time_wait(const struct tune_plan *p)
{
    return at_least(p->connections / 30, 8192);
}
static uint64_t need_hash(const struct tune_plan *p)
{
    return (p->clients ? 2 : 1) * p->connections / 2;
}
static uint64_t need_ports(const struct tune_plan *p)
{
    return p->clients ? at_most(p->connections, 64000) : 0;
}
static uint64_t need_tracked(const struct tune_plan *p)
{
    return 2 * p->connections;
}
static uint64_t need_buckets(const struct tune_plan *p)
{
    return p->connections / 2;
}
static uint64_t need_free(const struct tune_plan *p)
{
    return at_most(p->memory / 1024 / 192, 262144);
}
static uint64_t zero(const struct tune_plan *p)
{
    (void)p;
    return 0;
}
static uint64_t one(const struct tune_plan *p)
{
    (void)p;
    return 1;
}
static uint64_t three(const struct tune_plan *p)
{
    (void)p;
    return 3;
}
static uint64_t thirty(const struct tune_plan *p)
{
    (void)p;
    return 30;
}
static uint64_t half(const struct tune_plan *p)
{
    (void)p;
    return 50;
}

/* clang-format off: a table */
#define UNIT_LIMIT "LimitNOFILE= of the unit, --ulimit nofile= of a container, or limits.conf"
const struct tune_check tune_checks[] = {
    /* what the number of connections hangs on */
    {"memory", read_memory, TUNE_AT_LEAST, 0, need_memory,
     "N x (4,200 bytes of the kernel's + 512 of roost's; over TLS 24 KiB more)", TUNE_FAIL, true,
     "a machine with more memory", "The kernel ends processes, or the machine stands still."},
    {"cgroup memory.max", read_cgroup_memory, TUNE_AT_LEAST, 0, need_memory, "as memory", TUNE_FAIL,
     true, "MemoryMax= of the unit, or the container's limit",
     "Sockets count as well: the cgroup is killed at a number of connections that RSS does not "
     "explain."},
    {"RLIMIT_NOFILE", read_descriptors, TUNE_AT_LEAST, 0, need_descriptors,
     "N / processes + 1,000 (the hard limit; roost raises the soft one)", TUNE_FAIL, false,
     UNIT_LIMIT,
     "New connections are refused with 503. The ulimit of a shell does not reach a unit."},
    {"fs.nr_open", NULL, TUNE_AT_LEAST, 0, need_descriptors, "N / processes + 1,000", TUNE_FAIL,
     true, NULL, "A unit whose LimitNOFILE is above it does not start."},
    {"fs.file-max", NULL, TUNE_AT_LEAST, 0, need_files, "1.2 x (N + what is open now)", TUNE_FAIL,
     true, NULL, "ENFILE for everybody, sshd too."},
    {"fs.epoll.max_user_watches", NULL, TUNE_AT_LEAST, 0, need_watches, "N", TUNE_FAIL, true, NULL,
     "epoll_ctl fails with ENOSPC: a connection more is closed."},
    {"net.ipv4.tcp_mem", NULL, TUNE_AT_LEAST, 2, need_tcp_pages,
     "2 pages x N x 30 % (the third number)", TUNE_FAIL, true, NULL,
     "One byte that is under way costs a page. A broadcast to more than there are pages for makes "
     "the kernel drop and reset: the first wall of most hosts."},
    {"net.netfilter.nf_conntrack_max", NULL, TUNE_AT_LEAST, 0, need_tracked,
     "2 x N, if connections are tracked", TUNE_FAIL, false, NULL,
     "The connection above it is dropped silently. Better: do not track our port (NOTRACK)."},
    {"net.netfilter.nf_conntrack_buckets", NULL, TUNE_AT_LEAST, 0, need_buckets,
     "N / 2, if connections are tracked", TUNE_WARN, false, NULL,
     "Each packet walks a long chain."},
    /* when many come at once */
    {"net.core.somaxconn", NULL, TUNE_AT_LEAST, 0, need_backlog, "N / 16, from 4,096 to 65,535",
     TUNE_WARN, false, NULL,
     "The accept queue overflows in a reconnect storm, SYNs are dropped silently, and clients wait "
     "1, 3, 7 s."},
    {"net.ipv4.tcp_max_syn_backlog", NULL, TUNE_AT_LEAST, 0, need_backlog,
     "N / 16, from 4,096 to 65,535", TUNE_WARN, false, NULL,
     "A storm is answered with SYN cookies, which lose window scaling where timestamps are off."},
    {"net.core.netdev_max_backlog", NULL, TUNE_AT_LEAST, 0, need_input_queue,
     "N / 16, from 1,000 to 16,384", TUNE_WARN, true, NULL,
     "Bursts of packets are dropped before TCP sees them."},
    {"net.ipv4.tcp_syncookies", NULL, TUNE_EXACTLY, 0, one, "1", TUNE_WARN, false, NULL,
     "0 loses connections when the SYN queue is full; 2 is for tests."},
    {"net.ipv4.tcp_abort_on_overflow", NULL, TUNE_EXACTLY, 0, zero, "0", TUNE_WARN, false, NULL,
     "1 makes errors of bursts that would pass."},
    {"net.ipv4.tcp_synack_retries", NULL, TUNE_AT_MOST, 0, three, "3", TUNE_WARN, false, NULL,
     "5 keeps a half-open connection for 63 s."},
    {"net.ipv4.tcp_migrate_req", NULL, TUNE_EXACTLY, 0, one, "1", TUNE_WARN, false, NULL,
     "What waits in the accept queue of a process that stops is reset."},
    {"net.ipv4.tcp_ehash_entries", NULL, TUNE_AT_LEAST, 0, need_hash, "N / 2", TUNE_WARN, true,
     "boot with thash_entries=; for a network namespace net.ipv4.tcp_child_ehash_entries before it "
     "is made",
     "Each packet walks a chain of connections."},
    {"accept queues overflowed", read_overflows, TUNE_AT_MOST, 0, zero,
     "0 since the machine started", TUNE_WARN, false,
     "net.core.somaxconn, and a look at what stalls the server",
     "So often somebody's connection was dropped because nobody accepted it in time."},
    {"packets dropped by a CPU", read_backlog_drops, TUNE_AT_MOST, 0, zero,
     "0 since the machine started", TUNE_WARN, true, "net.core.netdev_max_backlog",
     "The kernel's input queue was full."},
    {"network cards' queues", read_queues, TUNE_NOT_WORD, 0, NULL, "one CPU", TUNE_WARN, true,
     "echo f > /sys/class/net/CARD/queues/rx-0/rps_cpus, or more queues (ethtool -L)",
     "One CPU does the network's work of all of them."},
    /* when peers are slow, leave, come back */
    {"net.ipv4.tcp_rmem", NULL, TUNE_AT_MOST, 2, need_buffer,
     "memory / 8 / 1 % of N, 262,144 or more (the third number)", TUNE_WARN, false, NULL,
     "That many bytes may wait in the kernel for one peer: 1 % of all, slow, take an eighth of the "
     "memory."},
    {"net.ipv4.tcp_wmem", NULL, TUNE_AT_MOST, 2, need_buffer,
     "memory / 8 / 1 % of N, 262,144 or more (the third number)", TUNE_WARN, false, NULL,
     "The same toward them."},
    {"net.ipv4.tcp_max_orphans", NULL, TUNE_AT_LEAST, 0, need_orphans, "N / 10, 8,192 or more",
     TUNE_WARN, true, NULL, "Connections that end while the other side is away are reset."},
    {"net.ipv4.tcp_max_tw_buckets", NULL, TUNE_AT_LEAST, 0, need_time_wait,
     "N / 30, 8,192 or more (connections live an hour)", TUNE_WARN, false, NULL,
     "TIME_WAIT ends early."},
    {"net.ipv4.tcp_fin_timeout", NULL, TUNE_AT_MOST, 0, thirty, "30", TUNE_WARN, false, NULL,
     "Peers that vanish while closing are remembered for a minute."},
    {"net.ipv4.tcp_slow_start_after_idle", NULL, TUNE_EXACTLY, 0, zero, "0", TUNE_WARN, false, NULL,
     "The first burst after a pause takes extra round trips."},
    {"TCP memory in use, %", read_tcp_memory, TUNE_AT_MOST, 0, half, "50 of net.ipv4.tcp_mem",
     TUNE_WARN, true, "net.ipv4.tcp_mem, and a look at slow peers", "See net.ipv4.tcp_mem."},
    {"vm.min_free_kbytes", NULL, TUNE_AT_LEAST, 0, need_free, "memory / 192, 256 MiB at most",
     TUNE_WARN, true, NULL, "Packets of a burst find no memory and are dropped."},
    {"transparent huge pages", read_huge_pages, TUNE_NOT_WORD, 0, NULL, "always", TUNE_WARN, true,
     "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
     "Memory grows, and latency has peaks when pages are put together."},
    {"congestion control", read_pacing, TUNE_NOT_WORD, 0, NULL, "bbr without fq", TUNE_WARN, false,
     "net.core.default_qdisc = fq, or net.ipv4.tcp_congestion_control = cubic",
     "Each connection is paced by a timer of its own: CPU."},
    {"net.ipv4.ip_local_port_range", NULL, TUNE_WIDTH, 0, need_ports,
     "N ports, 64,000 at most, where clients or a proxy run (--clients)", TUNE_WARN, false, NULL,
     "EADDRNOTAVAIL: a client's address has no port left toward a listener. No matter to a server "
     "alone."},
    /* looked at, and left */
    {"net.ipv4.tcp_notsent_lowat", NULL, TUNE_NOTE, 0, NULL, "", TUNE_OK, false, NULL,
     "roost sets it on its sockets (32 KiB)."},
    {"net.ipv4.tcp_retries2", NULL, TUNE_NOTE, 0, NULL, "", TUNE_OK, false, NULL,
     "roost sets TCP_USER_TIMEOUT on its sockets instead: ping interval and pong timeout."},
    {"net.ipv4.tcp_keepalive_time", NULL, TUNE_NOTE, 0, NULL, "", TUNE_OK, false, NULL,
     "Pings find dead peers; balancers do not count keepalives."},
    {"net.ipv4.tcp_tw_reuse", NULL, TUNE_NOTE, 0, NULL, "", TUNE_OK, false, NULL,
     "For outgoing connections only."},
    {"net.ipv4.tcp_autocorking", NULL, TUNE_NOTE, 0, NULL, "", TUNE_OK, false, NULL,
     "roost sends once a turn and sets TCP_NODELAY."},
    {"net.ipv4.tcp_fastopen", NULL, TUNE_NOTE, 0, NULL, "", TUNE_OK, false, NULL,
     "Browsers do not use it."},
    {"net.ipv4.ip_local_reserved_ports", NULL, TUNE_NOTE, 0, NULL, "", TUNE_OK, false, NULL,
     "Name your listeners' ports here if they lie in ip_local_port_range, or a client may hold one "
     "when roost starts."},
    {"net.core.busy_poll", NULL, TUNE_NOTE, 0, NULL, "", TUNE_OK, true, NULL,
     "Only with CPUs to spare."},
    {"vm.max_map_count", NULL, TUNE_NOTE, 0, NULL, "", TUNE_OK, true, NULL,
     "roost maps memory in large pieces."},
    {"kernel.pid_max", NULL, TUNE_NOTE, 0, NULL, "", TUNE_OK, true, NULL,
     "roost has a thread a CPU."},
    {"cgroup pids.max", read_cgroup_pids, TUNE_NOTE, 0, NULL, "", TUNE_OK, true, NULL,
     "The same (TasksMax= of a unit)."},
    {"kernel.core_pattern", NULL, TUNE_NOTE, 0, NULL, "", TUNE_OK, true, NULL,
     "A core file is as large as the process."},
};
/* clang-format on */
const size_t tune_checks_count = sizeof tune_checks / sizeof *tune_checks;

/* ---- looking ---- */

int tune_open(struct tune_plan *plan)
{
    char text[4096];
    uint64_t kib;
    if (slurp_below(plan, "proc/meminfo", text, sizeof text) == -1) return -1;
    if (!labelled(text, "MemTotal", &kib)) {
        errno = EINVAL;
        return -1;
    }
    plan->memory = kib * 1024;
    plan->open_here = 0;
    if (read_below(plan, "proc/sys/fs/file-nr", text, sizeof text) == 0)
        (void)number_in(text, 0, &plan->open_here);
    char path[PATH_MAX];
    static const char *const marks[] = {".dockerenv", "run/.containerenv"};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        path_of(path, plan->root, marks[i]);
        if (access(path, F_OK) == 0) plan->container = true;
    }
    return 0;
}

/* is_met: only for a rule that compares numbers. */
static bool is_met(const struct tune_check *c, uint64_t now, uint64_t need)
{
    switch (c->rule) {
    case TUNE_AT_LEAST:
    case TUNE_WIDTH: return now >= need;
    case TUNE_AT_MOST: return now <= need;
    case TUNE_EXACTLY: return now == need;
    case TUNE_NOT_WORD:
    case TUNE_NOTE: return true;
    }
    return true;
}

static bool number_now(const struct tune_check *c, const char *text, uint64_t *now)
{
    if (c->rule != TUNE_WIDTH) return number_in(text, c->field, now);
    uint64_t last;
    if (!number_in(text, 0, now) || !number_in(text, 1, &last) || last < *now) return false;
    *now = last - *now + 1;
    return true;
}

/* write_line: what the sysctl should say; of three numbers the others keep their proportion. */
static void write_line(struct tune_result *r, const struct tune_check *c, uint64_t need)
{
    uint64_t first = 0, second = 0;
    if (c->rule == TUNE_WIDTH)
        snprintf(r->line, sizeof r->line, "1024 65535");
    else if (c->field == 0)
        write_number(r->line, sizeof r->line, need);
    else if (c->rule == TUNE_AT_LEAST)
        snprintf(r->line, sizeof r->line, "%" PRIu64 " %" PRIu64 " %" PRIu64, need / 2,
                 need / 3 * 2, need);
    else if (number_in(r->now, 0, &first) && number_in(r->now, 1, &second))
        snprintf(r->line, sizeof r->line, "%" PRIu64 " %" PRIu64 " %" PRIu64, at_most(first, need),
                 at_most(second, need), need);
}

static void write_want(struct tune_result *r, const struct tune_check *c, uint64_t need)
{
    static const char *const sign[] = {
        [TUNE_AT_LEAST] = ">= ", [TUNE_AT_MOST] = "<= ", [TUNE_EXACTLY] = "",
        [TUNE_WIDTH] = ">= ",    [TUNE_NOT_WORD] = "",   [TUNE_NOTE] = ""};
    static const char *const place[] = {"", ", the second", ", the third"};
    snprintf(r->want, sizeof r->want, "%s%" PRIu64 "%s", need ? sign[c->rule] : "", need,
             c->rule == TUNE_WIDTH ? " ports" : place[c->field]);
}

static void judge_number(struct tune_result *r, const struct tune_check *c,
                         const struct tune_plan *plan)
{
    uint64_t now;
    const uint64_t need = c->need(plan);
    write_want(r, c, need);
    if (!number_now(c, r->now, &now) || is_met(c, now, need)) return; /* "no limit" is met */
    r->verdict = c->otherwise;
    if (!c->read && !c->how) write_line(r, c, need);
}

void tune_look(struct tune_result *r, const struct tune_check *c, const struct tune_plan *plan)
{
    *r = (struct tune_result){.verdict = TUNE_OK};
    char path[PATH_MAX];
    tune_sysctl_path(path, plan->root, c->name);
    const int got =
        c->read ? c->read(plan, r->now, sizeof r->now) : slurp(path, r->now, sizeof r->now);
    squeeze(r->now);
    const bool optional = c->rule == TUNE_NOTE || strstr(c->name, "conntrack"); /* not loaded */
    if (got == -1 || (!r->now[0] && !optional)) {
        snprintf(r->now, sizeof r->now, "-");
        r->verdict = optional ? TUNE_OK : TUNE_UNKNOWN;
        return;
    }
    if (c->rule == TUNE_NOT_WORD) {
        snprintf(r->want, sizeof r->want, "not %s", c->formula);
        if (strcmp(r->now, c->formula) == 0) r->verdict = c->otherwise;
    } else if (c->rule != TUNE_NOTE) {
        judge_number(r, c, plan);
    }
}

const char *tune_verdict_name(enum tune_verdict verdict)
{
    static const char *const names[] = {
        [TUNE_OK] = "OK", [TUNE_WARN] = "WARN", [TUNE_FAIL] = "FAIL", [TUNE_UNKNOWN] = "UNKNOWN"};
    return names[verdict];
}
