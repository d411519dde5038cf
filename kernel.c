#include "kernel.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <linux/tcp.h> /* not netinet/tcp.h, whose struct tcp_info is a shorter one */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (32u * 1024) /* of /proc; netstat has some 6 KB */

/* ---- words and numbers ---- */

struct span { /* what is left to be read */
    const char *p, *end;
};

/* number reads digits; false if there are none, or it is more than 64 bits hold. */
static bool number(struct span *s, uint64_t *out)
{
    const char *from = s->p;
    uint64_t n = 0;
    for (; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++)
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, (uint64_t)(*s->p - '0'), &n))
            return false;
    if (s->p == from) return false;
    *out = n;
    return true;
}

/* read_file reads the first cap bytes of a file of /proc or /sys; -1 if there is none. */
static int64_t read_file(const char *path, char *out, size_t cap)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    if (fd == -1) return -1;
    for (ssize_t n = 1; n > 0 && len<cap; len += n> 0 ? (size_t)n : 0)
        n = read(fd, out + len, cap - len);
    close(fd);
    return (int64_t)len;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* next_line takes a line off s, without its end. */
static bool next_line(struct span *s, struct span *line)
{
    if (s->p == s->end) return false;
    const char *nl = memchr(s->p, '\n', (size_t)(s->end - s->p));
    *line = (struct span){s->p, nl ? nl : s->end};
    s->p = nl ? nl + 1 : s->end;
    return true;
}

/* next_word takes a word off a line. */
static bool next_word(struct span *line, struct span *word)
{
    while (line->p < line->end && is_blank(*line->p)) line->p++;
    word->p = line->p;
    while (line->p < line->end && !is_blank(*line->p)) line->p++;
    word->end = line->p;
    return word->p < word->end;
}

static bool is(struct span word, const char *text)
{
    const size_t len = strlen(text);
    return (size_t)(word.end - word.p) == len && memcmp(word.p, text, len) == 0;
}

/* whole_number: the word is a number and nothing else. */
static bool whole_number(struct span word, uint64_t *out)
{
    uint64_t n;
    if (!number(&word, &n) || word.p != word.end) return false;
    *out = n;
    return true;
}

/* line_of finds the next line whose first word is name, and takes that off. */
static bool line_of(struct span *s, const char *name, struct span *line)
{
    struct span word;
    while (next_line(s, line))
        if (next_word(line, &word) && is(word, name)) return true;
    return false;
}

/* ---- parsers ---- */

bool kernel_parse_netstat(struct kernel_listen *out, const char *text, size_t len)
{
    struct span s = {text, text + len}, names, values, name, value;
    struct kernel_listen found = {0};
    unsigned have = 0;
    if (!line_of(&s, "TcpExt:", &names) || !line_of(&s, "TcpExt:", &values)) return false;
    while (next_word(&names, &name) && next_word(&values, &value)) {
        if (is(name, "ListenOverflows")) have |= whole_number(value, &found.overflows) ? 1u : 0u;
        if (is(name, "ListenDrops")) have |= whole_number(value, &found.drops) ? 2u : 0u;
    }
    if (have == 3) *out = found;
    return have == 3;
}

bool kernel_parse_sockstat(uint64_t *pages, const char *text, size_t len)
{
    struct span s = {text, text + len}, line, name, value;
    if (!line_of(&s, "TCP:", &line)) return false;
    while (next_word(&line, &name) && next_word(&line, &value))
        if (is(name, "mem")) return whole_number(value, pages);
    return false;
}

bool kernel_parse_tcp_mem(struct kernel_tcp_mem *out, const char *text, size_t len)
{
    struct span s = {text, text + len}, line, word;
    uint64_t n[3];
    if (!next_line(&s, &line)) return false;
    for (unsigned i = 0; i < 3; i++)
        if (!next_word(&line, &word) || !whole_number(word, &n[i])) return false;
    *out = (struct kernel_tcp_mem){n[0], n[1], n[2]};
    return true;
}

/* ---- memory ---- */

uint64_t kernel_memory_max(const char *text, size_t len)
{
    struct span s = {text, text + len};
    uint64_t n;
    return number(&s, &n) ? n : UINT64_MAX; /* "max" */
}

static uint64_t limit_of(const char *path)
{
    char text[64];
    const int64_t n = read_file(path, text, sizeof text);
    return n > 0 ? kernel_memory_max(text, (size_t)n) : UINT64_MAX;
}

/* least_above: the least limit of the cgroup folder (of v2) and those above it. Shortens folder. */
static uint64_t least_above(char *folder)
{
    uint64_t least = UINT64_MAX;
    for (;;) {
        char path[PATH_MAX + 64];
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max",
                 strcmp(folder, "/") == 0 ? "" : folder);
        const uint64_t n = limit_of(path);
        if (n < least) least = n;
        char *slash = strrchr(folder, '/');
        if (!slash || !*folder) return least;
        *slash = 0;
    }
}

static uint64_t in_cgroups(void)
{
    char line[PATH_MAX];
    uint64_t least = limit_of("/sys/fs/cgroup/memory/memory.limit_in_bytes"); /* v1, a container */
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "0::", 3) != 0) continue;
        const uint64_t n = least_above(line + 3);
        if (n < least) least = n;
    }
    if (f) fclose(f);
    return least;
}

uint64_t kernel_memory_bytes(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    const uint64_t machine = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
    const uint64_t limit = in_cgroups();
    return limit < machine ? limit : machine;
}

/* ---- sockets ---- */

static bool tcp_info(int fd, struct tcp_info *out)
{
    socklen_t len = sizeof *out;
    *out = (struct tcp_info){0}; /* an older kernel fills less of it */
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, out, &len) == 0;
}

bool kernel_ask_connection(int fd, uint32_t *rtt_us, uint32_t *unsent_bytes)
{
    struct tcp_info info;
    if (!tcp_info(fd, &info) || !info.tcpi_rtt) return false;
    *rtt_us = info.tcpi_rtt;
    *unsent_bytes = info.tcpi_notsent_bytes;
    return true;
}

uint32_t kernel_ask_unsent(int fd)
{
    int n = 0;
    return ioctl(fd, SIOCOUTQ, &n) == -1 || n < 0 ? 0 : (uint32_t)n;
}

bool kernel_ask_listener(int fd, uint32_t *queue, uint32_t *max)
{
    struct tcp_info info;
    if (!tcp_info(fd, &info)) return false;
    *queue = info.tcpi_unacked; /* inet_diag calls them that for a listening socket, too */
    *max = info.tcpi_sacked;
    return true;
}

/* ---- /metrics ---- */

static void add_network(struct metrics_text *t)
{
    char text[FILE_MAX];
    struct kernel_listen l;
    const int64_t n = read_file("/proc/net/netstat", text, sizeof text);
    if (n <= 0 || !kernel_parse_netstat(&l, text, (size_t)n)) return;
    metrics_add_family(t, "kernel_listen_overflows_total", "counter",
                       "Connections not taken since an accept queue was full, of the whole host or "
                       "network namespace");
    metrics_add(t, "roost_kernel_listen_overflows_total %llu\n", (unsigned long long)l.overflows);
    metrics_add_family(t, "kernel_listen_drops_total", "counter",
                       "Connections that listening sockets did not take, of the whole host or "
                       "network namespace");
    metrics_add(t, "roost_kernel_listen_drops_total %llu\n", (unsigned long long)l.drops);
}

static void add_tcp_memory(struct metrics_text *t)
{
    char text[1024];
    uint64_t pages;
    struct kernel_tcp_mem m;
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    int64_t n = read_file("/proc/net/sockstat", text, sizeof text);
    if (n > 0 && kernel_parse_sockstat(&pages, text, (size_t)n))
        metrics_add_gauge(t, "kernel_tcp_memory_bytes",
                          "Memory of TCP's payload, of the whole host or network namespace",
                          pages * page);
    n = read_file("/proc/sys/net/ipv4/tcp_mem", text, sizeof text);
    if (n <= 0 || !kernel_parse_tcp_mem(&m, text, (size_t)n)) return;
    metrics_add_family(
        t, "kernel_tcp_memory_limit_bytes", "gauge",
        "net.ipv4.tcp_mem: from where on the kernel saves, and what it never exceeds");
    metrics_add(t, "roost_kernel_tcp_memory_limit_bytes{level=\"low\"} %llu\n",
                (unsigned long long)(m.low * page));
    metrics_add(t, "roost_kernel_tcp_memory_limit_bytes{level=\"pressure\"} %llu\n",
                (unsigned long long)(m.pressure * page));
    metrics_add(t, "roost_kernel_tcp_memory_limit_bytes{level=\"max\"} %llu\n",
                (unsigned long long)(m.max * page));
}

static void add_descriptors(struct metrics_text *t, const struct kernel_view *v)
{
    struct stat st;
    const bool told = stat("/proc/self/fd", &st) == 0 && st.st_size > 0; /* since Linux 6.2 */
    metrics_add_gauge(t, "descriptors_open", "File descriptors in use",
                      told ? (uint64_t)st.st_size : v->descriptors_open);
    metrics_add_gauge(t, "descriptors_max", "File descriptors that the process may have",
                      v->descriptors_max);
}

static uint32_t load(const _Atomic uint32_t *n)
{
    return atomic_load_explicit(n, memory_order_relaxed);
}

/* label writes a URL as the value of a label; a path may hold what would end it. */
static const char *label(char out[static 300], const char *url)
{
    size_t n = 0;
    for (; n < 299 && url[n]; n++)
        out[n] = url[n] == '"' || url[n] == '\\' || url[n] == '\n' ? '_' : url[n];
    out[n] = 0;
    return out;
}

static void add_listeners(struct metrics_text *t, const struct kernel_view *v, const char *name,
                          const char *help, bool max)
{
    char url[300];
    bool any = false;
    for (size_t i = 0; i < v->listener_count && i < KERNEL_LISTENERS; i++) {
        uint64_t sum = 0, room = 0;
        for (size_t w = 0; w < v->worker_count; w++) {
            sum += load(&v->workers[w]->accept_queue[i]);
            room += load(&v->workers[w]->accept_max[i]);
        }
        if (!room) continue; /* no TCP, or not asked yet */
        if (!any) metrics_add_family(t, name, "gauge", help);
        any = true;
        metrics_add(t, "roost_%s{listener=\"%s\"} %llu\n", name, label(url, v->listeners[i]),
                    (unsigned long long)(max ? room : sum));
    }
}

static int by_value(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* gather sorts what all workers were told; returns how many. */
static size_t gather(uint32_t *out, size_t cap, const struct kernel_view *v, bool rtt)
{
    size_t n = 0;
    for (size_t w = 0; w < v->worker_count; w++) {
        const struct kernel_sockets *k = v->workers[w];
        const uint32_t count = load(&k->count);
        for (uint32_t i = 0; i < count && i < KERNEL_SAMPLES && n < cap; i++)
            out[n++] = load(rtt ? &k->rtt_us[i] : &k->unsent_bytes[i]);
    }
    qsort(out, n, sizeof *out, by_value);
    return n;
}

static void add_quantiles(struct metrics_text *t, const char *name, const char *help,
                          const uint32_t *sorted, size_t n, double unit)
{
    metrics_add_family(t, name, "gauge", help);
    const uint32_t median = sorted[(n - 1) / 2], high = sorted[(n - 1) * 99 / 100];
    metrics_add(t, "roost_%s{quantile=\"0.5\"} %g\n", name, median * unit);
    metrics_add(t, "roost_%s{quantile=\"0.99\"} %g\n", name, high * unit);
}

static void add_samples(struct metrics_text *t, const struct kernel_view *v)
{
    uint32_t sorted[KERNEL_SAMPLES * 64] = {0};
    const size_t cap = sizeof sorted / sizeof *sorted;
    size_t n = gather(sorted, cap, v, true);
    metrics_add_gauge(t, "tcp_sampled_connections",
                      "Open connections that the kernel was last asked about, at most 64 a worker",
                      n);
    if (!n) return;
    add_quantiles(t, "tcp_rtt_seconds", "Smoothed round-trip times of those", sorted, n, 1e-6);
    n = gather(sorted, cap, v, false);
    if (n)
        add_quantiles(t, "tcp_unsent_bytes", "Bytes that the kernel has not sent to those", sorted,
                      n, 1);
}

void kernel_render(struct metrics_text *t, const struct kernel_view *v)
{
    add_listeners(t, v, "accept_queue", "Connections that wait to be accepted", false);
    add_listeners(t, v, "accept_queue_max", "Connections that may wait to be accepted", true);
    add_network(t);
    add_tcp_memory(t);
    add_descriptors(t, v);
    add_samples(t, v);
}
