#include "cpus.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

static unsigned in_affinity_mask(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == -1) return 1;
    int n = CPU_COUNT(&set);
    return n < 1 ? 1 : (unsigned)n;
}

/* round up: half a CPU more is worth a thread, none at all is not possible */
static unsigned quota_cpus(long long quota, long long period)
{
    if (quota <= 0 || period <= 0) return UINT_MAX;
    long long n = (quota + period - 1) / period;
    return n < 1 ? 1 : n > UINT_MAX ? UINT_MAX : (unsigned)n;
}

static unsigned read_cpu_max(const char *folder) /* cgroup v2: "QUOTA PERIOD" or "max PERIOD" */
{
    char path[PATH_MAX + 64];
    long long quota, period;
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", folder);
    FILE *f = fopen(path, "re");
    if (!f) return UINT_MAX;
    int n = fscanf(f, "%lld %lld", &quota, &period);
    fclose(f);
    return n == 2 ? quota_cpus(quota, period) : UINT_MAX;
}

/* in_cgroup: the least quota of our cgroup and those above it. */
static unsigned in_cgroup(void)
{
    char line[PATH_MAX], *folder = NULL;
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (!f) return UINT_MAX;
    while (!folder && fgets(line, sizeof line, f))
        if (strncmp(line, "0::", 3) == 0) folder = line + 3;
    fclose(f);
    if (!folder) return UINT_MAX;
    folder[strcspn(folder, "\n")] = 0;
    unsigned least = UINT_MAX;
    for (;;) {
        unsigned n = read_cpu_max(strcmp(folder, "/") == 0 ? "" : folder);
        if (n < least) least = n;
        char *slash = strrchr(folder, '/');
        if (!slash || !*folder) return least;
        *slash = 0;
    }
}

unsigned cpus_usable(void)
{
    unsigned mask = in_affinity_mask(), quota = in_cgroup();
    return mask < quota ? mask : quota;
}
