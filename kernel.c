#include "kernel.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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
