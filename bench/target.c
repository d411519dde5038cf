#include "bench.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_MS 10000
#define STOP_MS 5000
#define PROCESSES_MAX 4096
#define ARGUMENTS_MAX 64

/* ---- what it uses ---- */

static pid_t parent_of(pid_t pid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd == -1 ? -1 : read(fd, text, sizeof text - 1);
    if (fd != -1) close(fd);
    if (n <= 0) return -1;
    text[n] = 0;
    char *name_end = strrchr(text, ')'); /* the name itself may hold brackets and spaces */
    int parent = -1;
    if (!name_end || sscanf(name_end, ") %*c %d", &parent) != 1) return -1;
    return parent;
}

/* family fills pids with the target's process and all below it. */
static size_t family(pid_t root, pid_t *pids, size_t cap)
{
    static struct {
        pid_t pid, parent;
    } all[PROCESSES_MAX];
    size_t count = 0, n = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *e; proc && (e = readdir(proc)) && count < PROCESSES_MAX;) {
        if (!isdigit((unsigned char)e->d_name[0])) continue;
        all[count].pid = (pid_t)strtol(e->d_name, NULL, 10);
        all[count].parent = parent_of(all[count].pid);
        count++;
    }
    if (proc) closedir(proc);
    pids[n++] = root;
    for (size_t at = 0; at < n; at++)
        for (size_t i = 0; i < count && n < cap; i++)
            if (all[i].parent == pids[at]) pids[n++] = all[i].pid;
    return n;
}

static int64_t cpu_ns(pid_t pid)
{
    clockid_t clock;
    struct timespec ts;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &ts) == -1) return -1;
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int64_t pss_bytes(pid_t pid)
{
    char path[64], line[256];
    long long kib = -1;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && kib < 0 && fgets(line, sizeof line, f))
        if (sscanf(line, "Pss: %lld kB", &kib) != 1) kib = -1;
    if (f) fclose(f);
    return kib < 0 ? -1 : kib * 1024;
}

static int64_t sum(const struct target *t, int64_t (*of)(pid_t pid))
{
    pid_t pids[256];
    int64_t total = 0;
    if (t->pid == 0) return -1;
    size_t n = family(t->pid, pids, sizeof pids / sizeof pids[0]);
    for (size_t i = 0; i < n; i++) {
        int64_t one = of(pids[i]);
        if (one < 0 && i == 0) return -1;
        if (one > 0) total += one;
    }
    return total;
}

int64_t target_cpu_ns(const struct target *t)
{
    return sum(t, cpu_ns);
}

int64_t target_pss_bytes(const struct target *t)
{
    return sum(t, pss_bytes);
}

/* ---- starting one ---- */

static void path_in(const struct target *t, const char *name, char out[static 128])
{
    snprintf(out, 128, "%s/%s", t->dir, name);
}

/* The server's options are these and no others, so that figures can be repeated. */
static void clear_environment(void)
{
    extern char **environ;
    char name[128];
    for (size_t i = 0; environ[i];) {
        size_t len = strcspn(environ[i], "=");
        if (strncmp(environ[i], "ROOST_", 6) != 0 || len >= sizeof name) {
            i++;
            continue;
        }
        memcpy(name, environ[i], len);
        name[len] = 0;
        unsetenv(name);
    }
}

static void exec_server(const struct target *t, const struct target_options *o)
{
    char cert[128], key[128], workers[16], history[16];
    const char *argv[ARGUMENTS_MAX + 32] = {
        "roost",  "serve",     "--listen", o->tls ? "wss://127.0.0.1:0" : "ws://127.0.0.1:0",
        "--echo", "--workers", workers,    "--max-message",
        "64MiB"};
    size_t n = 9;
    path_in(t, "cert.pem", cert);
    path_in(t, "key.pem", key);
    snprintf(workers, sizeof workers, "%u", o->workers);
    if (o->tls) {
        argv[n++] = "--cert";
        argv[n++] = cert;
        argv[n++] = "--key";
        argv[n++] = key;
    }
    if (o->clients) {
        argv[n++] = "--channel.without_namespace.allow_subscribe_for_client";
        argv[n++] = "true";
        argv[n++] = "--channel.without_namespace.allow_publish_for_subscriber";
        argv[n++] = "true";
    }
    if (o->history) {
        snprintf(history, sizeof history, "%u", o->history);
        argv[n++] = "--channel.without_namespace.history_size";
        argv[n++] = history;
        argv[n++] = "--channel.without_namespace.history_ttl";
        argv[n++] = "5m";
        argv[n++] = "--channel.without_namespace.force_recovery";
        argv[n++] = "true";
    }
    for (size_t i = 0; i < o->argument_count && i < ARGUMENTS_MAX; i++) argv[n++] = o->arguments[i];
    argv[n] = NULL;
    setenv("ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY", t->secret, 1);
    execv("/proc/self/exe", (char *const *)argv);
}

/* The child: its output goes to a file, since a pipe would have to be read all the time. */
static void run_child(const struct target *t, const struct target_options *o, int log)
{
    int null = open("/dev/null", O_RDONLY);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(null, STDIN_FILENO);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    clear_environment();
    if (o->bare)
        execl(o->bare, o->bare, (char *)NULL);
    else
        exec_server(t, o);
    fprintf(stderr, "%s: %s\n", o->bare ? o->bare : "roost serve", strerror(errno));
    _exit(127);
}

static bool find_url(struct target *t)
{
    char path[128], text[4096];
    path_in(t, "log", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd == -1 ? -1 : read(fd, text, sizeof text - 1);
    if (fd != -1) close(fd);
    text[n > 0 ? n : 0] = 0;
    char *at = strstr(text, "msg=listening url=");
    if (!at) return false;
    at += strlen("msg=listening url=");
    size_t len = strcspn(at, " \n");
    if (at[len] == 0 || len >= sizeof t->url) return false;
    memcpy(t->url, at, len);
    t->url[len] = 0;
    return true;
}

static void show_log(const struct target *t)
{
    char path[128], line[1024];
    path_in(t, "log", path);
    FILE *f = fopen(path, "re");
    for (int i = 0; f && i < 20 && fgets(line, sizeof line, f); i++) fprintf(stderr, "  %s", line);
    if (f) fclose(f);
}

static bool wait_for_url(struct target *t)
{
    int64_t deadline_ns = bench_clock_ns() + (int64_t)START_MS * 1000000;
    const struct timespec pause = {.tv_nsec = 10000000};
    int status;
    while (!find_url(t)) {
        if (waitpid(t->pid, &status, WNOHANG) == t->pid) {
            t->pid = 0;
            fprintf(stderr, "roost bench: the server ended:\n");
            show_log(t);
            return false;
        }
        if (bench_clock_ns() > deadline_ns || bench_stop) {
            fprintf(stderr, "roost bench: the server does not say where it listens:\n");
            show_log(t);
            return false;
        }
        nanosleep(&pause, NULL);
    }
    return true;
}

static void make_secret(char out[static 65])
{
    uint8_t bytes[32];
    random_bytes(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++) snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

int target_start(struct target *t, const struct target_options *o)
{
    char path[128], key[128];
    const char *tmp = getenv("TMPDIR");
    snprintf(t->dir, sizeof t->dir, "%.30s/roost-bench-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(t->dir)) {
        fprintf(stderr, "roost bench: %s: %s\n", t->dir, strerror(errno));
        t->dir[0] = 0;
        return -1;
    }
    t->started = true;
    if (!o->bare) make_secret(t->secret);
    path_in(t, "cert.pem", path);
    path_in(t, "key.pem", key);
    if (o->tls && tls_make_certificate(path, key) == -1) {
        fprintf(stderr, "roost bench: %s: %s\n", path, strerror(errno));
        return -1;
    }
    path_in(t, "log", path);
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    t->pid = log == -1 ? -1 : fork();
    if (t->pid == 0) run_child(t, o, log);
    if (log != -1) close(log);
    if (t->pid == -1) {
        fprintf(stderr, "roost bench: can not start the server: %s\n", strerror(errno));
        t->pid = 0;
        return -1;
    }
    return wait_for_url(t) ? 0 : -1;
}

void target_stop(struct target *t)
{
    static const char *const files[] = {"log", "cert.pem", "key.pem"};
    const struct timespec pause = {.tv_nsec = 10000000};
    char path[128];
    if (!t->started) return;
    if (t->pid > 0) {
        int64_t deadline_ns = bench_clock_ns() + (int64_t)STOP_MS * 1000000;
        kill(t->pid, SIGTERM);
        while (waitpid(t->pid, NULL, WNOHANG) == 0 && bench_clock_ns() < deadline_ns)
            nanosleep(&pause, NULL);
        if (kill(t->pid, 0) == 0) {
            kill(t->pid, SIGKILL);
            waitpid(t->pid, NULL, 0);
        }
    }
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        path_in(t, files[i], path);
        unlink(path);
    }
    if (*t->dir) rmdir(t->dir);
}
