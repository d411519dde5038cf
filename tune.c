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

/* cgroup_least: the least limit of the cgroup (version 2) that we are in and of those above it. */
static int cgroup_least(const struct tune_plan *plan, const char *name, char *text, size_t size)
{
    char cgroup[4096], file[PATH_MAX], line[TUNE_TEXT];
    uint64_t least = UINT64_MAX, n;
    if (slurp_below(plan, "proc/self/cgroup", cgroup, sizeof cgroup) == -1) return -1;
    char *folder = strncmp(cgroup, "0::", 3) == 0 ? cgroup : strstr(cgroup, "\n0::");
    if (!folder) return -1;
    folder = strchr(folder, '/');
    if (!folder) return -1;
    folder[strcspn(folder, "\n")] = 0;
    for (char *slash = folder + strlen(folder); slash; slash = strrchr(folder, '/')) {
        *slash = 0;
        snprintf(file, sizeof file, "sys/fs/cgroup%s/%s", folder, name);
        if (read_below(plan, file, line, sizeof line) == 0 && number_in(line, 0, &n) && n < least)
            least = n;
    }
    return least == UINT64_MAX ? -1 : write_number(text, size, least);
}

static int read_cgroup_memory(const struct tune_plan *plan, char *text, size_t size)
{
    if (cgroup_least(plan, "memory.max", text, size) == -1) snprintf(text, size, "no limit");
    return 0;
}

static int read_cgroup_pids(const struct tune_plan *plan, char *text, size_t size)
{
    return cgroup_least(plan, "pids.max", text, size);
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

#define UNIT_LIMIT "LimitNOFILE= of the unit, --ulimit nofile= of a container, or limits.conf"
const struct tune_check tune_checks[] = {
    /* what the number of connections hangs on */
    {.name = "memory",
     .read = read_memory,
     .rule = TUNE_AT_LEAST,
     .need = need_memory,
     .formula = "N x (4,200 bytes of the kernel's + 512 of roost's; over TLS 24 KiB more)",
     .otherwise = TUNE_FAIL,
     .host = true,
     .how = "a machine with more memory",
     .why = "The kernel ends processes, or the machine stands still."},
    {.name = "cgroup memory.max",
     .read = read_cgroup_memory,
     .rule = TUNE_AT_LEAST,
     .need = need_memory,
     .formula = "as memory",
     .otherwise = TUNE_FAIL,
     .host = true,
     .how = "MemoryMax= of the unit, or the container's limit",
     .why =
         "Sockets count as well: the cgroup is killed at a number of connections that RSS does not "
         "explain."},
    {.name = "RLIMIT_NOFILE",
     .read = read_descriptors,
     .rule = TUNE_AT_LEAST,
     .need = need_descriptors,
     .formula = "N / processes + 1,000 (the hard limit; roost raises the soft one)",
     .otherwise = TUNE_FAIL,
     .how = UNIT_LIMIT,
     .why = "New connections are refused with 503. The ulimit of a shell does not reach a unit."},
    {.name = "fs.nr_open",
     .rule = TUNE_AT_LEAST,
     .need = need_descriptors,
     .formula = "N / processes + 1,000",
     .otherwise = TUNE_FAIL,
     .host = true,
     .why = "A unit whose LimitNOFILE is above it does not start."},
    {.name = "fs.file-max",
     .rule = TUNE_AT_LEAST,
     .need = need_files,
     .formula = "1.2 x (N + what is open now)",
     .otherwise = TUNE_FAIL,
     .host = true,
     .why = "ENFILE for everybody, sshd too."},
    {.name = "fs.epoll.max_user_watches",
     .rule = TUNE_AT_LEAST,
     .need = need_watches,
     .formula = "N",
     .otherwise = TUNE_FAIL,
     .host = true,
     .why = "epoll_ctl fails with ENOSPC: a connection more is closed."},
    {.name = "net.ipv4.tcp_mem",
     .rule = TUNE_AT_LEAST,
     .field = 2,
     .need = need_tcp_pages,
     .formula = "2 pages x N x 30 % (the third number)",
     .otherwise = TUNE_FAIL,
     .host = true,
     .why = "One byte that is under way costs a page. A broadcast to more than there are pages for "
            "makes "
            "the kernel drop and reset: the first wall of most hosts."},
    {.name = "net.netfilter.nf_conntrack_max",
     .rule = TUNE_AT_LEAST,
     .need = need_tracked,
     .formula = "2 x N, if connections are tracked",
     .otherwise = TUNE_FAIL,
     .why =
         "The connection above it is dropped silently. Better: do not track our port (NOTRACK)."},
    {.name = "net.netfilter.nf_conntrack_buckets",
     .rule = TUNE_AT_LEAST,
     .need = need_buckets,
     .formula = "N / 2, if connections are tracked",
     .otherwise = TUNE_WARN,
     .why = "Each packet walks a long chain."},
    /* when many come at once */
    {.name = "net.core.somaxconn",
     .rule = TUNE_AT_LEAST,
     .need = need_backlog,
     .formula = "N / 16, from 4,096 to 65,535",
     .otherwise = TUNE_WARN,
     .why = "The accept queue overflows in a reconnect storm, SYNs are dropped silently, and "
            "clients wait "
            "1, 3, 7 s."},
    {.name = "net.ipv4.tcp_max_syn_backlog",
     .rule = TUNE_AT_LEAST,
     .need = need_backlog,
     .formula = "N / 16, from 4,096 to 65,535",
     .otherwise = TUNE_WARN,
     .why = "A storm is answered with SYN cookies, which lose window scaling where timestamps are "
            "off."},
    {.name = "net.core.netdev_max_backlog",
     .rule = TUNE_AT_LEAST,
     .need = need_input_queue,
     .formula = "N / 16, from 1,000 to 16,384",
     .otherwise = TUNE_WARN,
     .host = true,
     .why = "Bursts of packets are dropped before TCP sees them."},
    {.name = "net.ipv4.tcp_syncookies",
     .rule = TUNE_EXACTLY,
     .fixed = 1,
     .formula = "1",
     .otherwise = TUNE_WARN,
     .why = "0 loses connections when the SYN queue is full; 2 is for tests."},
    {.name = "net.ipv4.tcp_abort_on_overflow",
     .rule = TUNE_EXACTLY,
     .formula = "0",
     .otherwise = TUNE_WARN,
     .why = "1 makes errors of bursts that would pass."},
    {.name = "net.ipv4.tcp_synack_retries",
     .rule = TUNE_AT_MOST,
     .fixed = 3,
     .formula = "3",
     .otherwise = TUNE_WARN,
     .why = "5 keeps a half-open connection for 63 s."},
    {.name = "net.ipv4.tcp_migrate_req",
     .rule = TUNE_EXACTLY,
     .fixed = 1,
     .formula = "1",
     .otherwise = TUNE_WARN,
     .why = "What waits in the accept queue of a process that stops is reset."},
    {.name = "net.ipv4.tcp_ehash_entries",
     .rule = TUNE_AT_LEAST,
     .need = need_hash,
     .formula = "N / 2",
     .otherwise = TUNE_WARN,
     .host = true,
     .how = "boot with thash_entries=; for a network namespace net.ipv4.tcp_child_ehash_entries "
            "before it "
            "is made",
     .why = "Each packet walks a chain of connections."},
    {.name = "accept queues overflowed",
     .read = read_overflows,
     .rule = TUNE_AT_MOST,
     .formula = "0 since the machine started",
     .otherwise = TUNE_WARN,
     .how = "net.core.somaxconn, and a look at what stalls the server",
     .why = "So often somebody's connection was dropped because nobody accepted it in time."},
    {.name = "packets dropped by a CPU",
     .read = read_backlog_drops,
     .rule = TUNE_AT_MOST,
     .formula = "0 since the machine started",
     .otherwise = TUNE_WARN,
     .host = true,
     .how = "net.core.netdev_max_backlog",
     .why = "The kernel's input queue was full."},
    {.name = "network cards' queues",
     .read = read_queues,
     .rule = TUNE_NOT_WORD,
     .formula = "one CPU",
     .otherwise = TUNE_WARN,
     .host = true,
     .how = "echo f > /sys/class/net/CARD/queues/rx-0/rps_cpus, or more queues (ethtool -L)",
     .why = "One CPU does the network's work of all of them."},
    /* when peers are slow, leave, come back */
    {.name = "net.ipv4.tcp_rmem",
     .rule = TUNE_AT_MOST,
     .field = 2,
     .need = need_buffer,
     .formula = "memory / 8 / 1 % of N, 262,144 or more (the third number)",
     .otherwise = TUNE_WARN,
     .why = "That many bytes may wait in the kernel for one peer: 1 % of all, slow, take an eighth "
            "of the "
            "memory."},
    {.name = "net.ipv4.tcp_wmem",
     .rule = TUNE_AT_MOST,
     .field = 2,
     .need = need_buffer,
     .formula = "memory / 8 / 1 % of N, 262,144 or more (the third number)",
     .otherwise = TUNE_WARN,
     .why = "The same toward them."},
    {.name = "net.ipv4.tcp_max_orphans",
     .rule = TUNE_AT_LEAST,
     .need = need_orphans,
     .formula = "N / 10, 8,192 or more",
     .otherwise = TUNE_WARN,
     .host = true,
     .why = "Connections that end while the other side is away are reset."},
    {.name = "net.ipv4.tcp_max_tw_buckets",
     .rule = TUNE_AT_LEAST,
     .need = need_time_wait,
     .formula = "N / 30, 8,192 or more (connections live an hour)",
     .otherwise = TUNE_WARN,
     .why = "TIME_WAIT ends early."},
    {.name = "net.ipv4.tcp_fin_timeout",
     .rule = TUNE_AT_MOST,
     .fixed = 30,
     .formula = "30",
     .otherwise = TUNE_WARN,
     .why = "Peers that vanish while closing are remembered for a minute."},
    {.name = "net.ipv4.tcp_slow_start_after_idle",
     .rule = TUNE_EXACTLY,
     .formula = "0",
     .otherwise = TUNE_WARN,
     .why = "The first burst after a pause takes extra round trips."},
    {.name = "TCP memory in use, %",
     .read = read_tcp_memory,
     .rule = TUNE_AT_MOST,
     .fixed = 50,
     .formula = "50 of net.ipv4.tcp_mem",
     .otherwise = TUNE_WARN,
     .host = true,
     .how = "net.ipv4.tcp_mem, and a look at slow peers",
     .why = "See net.ipv4.tcp_mem."},
    {.name = "vm.min_free_kbytes",
     .rule = TUNE_AT_LEAST,
     .need = need_free,
     .formula = "memory / 192, 256 MiB at most",
     .otherwise = TUNE_WARN,
     .host = true,
     .why = "Packets of a burst find no memory and are dropped."},
    {.name = "transparent huge pages",
     .read = read_huge_pages,
     .rule = TUNE_NOT_WORD,
     .formula = "always",
     .otherwise = TUNE_WARN,
     .host = true,
     .how = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
     .why = "Memory grows, and latency has peaks when pages are put together."},
    {.name = "congestion control",
     .read = read_pacing,
     .rule = TUNE_NOT_WORD,
     .formula = "bbr without fq",
     .otherwise = TUNE_WARN,
     .how = "net.core.default_qdisc = fq, or net.ipv4.tcp_congestion_control = cubic",
     .why = "Each connection is paced by a timer of its own: CPU."},
    {.name = "net.ipv4.ip_local_port_range",
     .rule = TUNE_WIDTH,
     .need = need_ports,
     .formula = "N ports, 64,000 at most, where clients or a proxy run (--clients)",
     .otherwise = TUNE_WARN,
     .why = "EADDRNOTAVAIL: a client's address has no port left toward a listener. No matter to a "
            "server "
            "alone."},
    /* looked at, and left */
    {.name = "net.ipv4.tcp_notsent_lowat",
     .rule = TUNE_NOTE,
     .formula = "",
     .why = "roost sets it on its sockets (32 KiB)."},
    {.name = "net.ipv4.tcp_retries2",
     .rule = TUNE_NOTE,
     .formula = "",
     .why = "roost sets TCP_USER_TIMEOUT on its sockets instead: ping interval and pong timeout."},
    {.name = "net.ipv4.tcp_keepalive_time",
     .rule = TUNE_NOTE,
     .formula = "",
     .why = "Pings find dead peers; balancers do not count keepalives."},
    {.name = "net.ipv4.tcp_tw_reuse",
     .rule = TUNE_NOTE,
     .formula = "",
     .why = "For outgoing connections only."},
    {.name = "net.ipv4.tcp_autocorking",
     .rule = TUNE_NOTE,
     .formula = "",
     .why = "roost sends once a turn and sets TCP_NODELAY."},
    {.name = "net.ipv4.tcp_fastopen",
     .rule = TUNE_NOTE,
     .formula = "",
     .why = "Browsers do not use it."},
    {.name = "net.ipv4.ip_local_reserved_ports",
     .rule = TUNE_NOTE,
     .formula = "",
     .why = "Name your listeners' ports here if they lie in ip_local_port_range, or a client may "
            "hold one "
            "when roost starts."},
    {.name = "net.core.busy_poll",
     .rule = TUNE_NOTE,
     .formula = "",
     .host = true,
     .why = "Only with CPUs to spare."},
    {.name = "vm.max_map_count",
     .rule = TUNE_NOTE,
     .formula = "",
     .host = true,
     .why = "roost maps memory in large pieces."},
    {.name = "kernel.pid_max",
     .rule = TUNE_NOTE,
     .formula = "",
     .host = true,
     .why = "roost has a thread a CPU."},
    {.name = "cgroup pids.max",
     .read = read_cgroup_pids,
     .rule = TUNE_NOTE,
     .formula = "",
     .host = true,
     .why = "The same (TasksMax= of a unit)."},
    {.name = "kernel.core_pattern",
     .rule = TUNE_NOTE,
     .formula = "",
     .host = true,
     .why = "A core file is as large as the process."},
};
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
    const uint64_t need = c->need ? c->need(plan) : c->fixed;
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
