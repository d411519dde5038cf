/* `roost serve`: reads the configuration, starts the server, and puts it away in the end. */
#include "cmd/serve.h"

#include "cmd/cmd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <unistd.h>

#include "api.h"
#include "console.h"
#include "idempotency.h"
#include "log.h"
#include "notify.h"
#include "pubsub.h"
#include "trace/export.h"
#include "user_limit.h"
#include "users.h"
#include "worker_errand.h"

extern char **environ;

const char *cmd_program = "roost";

int serve_say(const char *what, const char *why)
{
    fprintf(stderr, "roost: %s: %s\n", what, why);
    return 1;
}

/* ---- configuration ---- */

static void help(bool all)
{
    puts("Usage: roost serve [OPTION]...\n\n"
         "Serves WebSocket connections: /connection/websocket for Centrifuge SDKs, /raw/CHANNEL "
         "for any\n"
         "client, /echo with --echo; and the HTTP API for backends, POST /api/METHOD.\n"
         "SIGTERM closes them politely; a second one ends at once.\n");
    config_help(stdout, all);
}

/* load returns -1 to go on, or the exit status. */
static int load(struct serve *s, int argc, char **argv)
{
    struct config_report report = {0};
    enum config_outcome outcome = config_load(&s->set->config, argc, argv, environ, &report);
    if (outcome == CONFIG_LOADED || outcome == CONFIG_WRONG) config_report_print(&report, stderr);
    config_report_free(&report);
    switch (outcome) {
    case CONFIG_LOADED: return -1;
    case CONFIG_WRONG: return 2;
    case CONFIG_HELP:
    case CONFIG_HELP_ALL: help(outcome == CONFIG_HELP_ALL); return 0;
    }
    return 2;
}

static void add_url(struct config_urls *urls, const char *text)
{
    struct config_url *bigger = realloc(urls->items, (urls->count + 1) * sizeof *bigger);
    if (!bigger) abort(); /* at start, a few bytes */
    urls->items = bigger;
    if (!config_parse_url(&urls->items[urls->count], text)) urls->count++;
}

/* dev_channels lets SDK clients try everything at once: without a configuration channels have
 * presence and a short history. */
static void dev_channels(struct config *c)
{
    if (!c->namespace_item_count) return;
    struct channel_options *o =
        &c->namespace_items[0].options; /* of channels without a namespace */
    o->subscribe_for_client = o->publish_for_subscriber = true;
    o->presence = o->join_leave = o->presence_for_subscriber = true;
    o->history_for_subscriber = o->allow_recovery = o->allow_positioning = true;
    if (!channel_has_history(o)) {
        o->history_size = 100;
        o->history_ttl_ms = 300 * 1000;
    }
}

void serve_fill_dev(const struct serve *s, struct config *c)
{
    if (!c->token.secret.len)
        config_secret_set(&c->token.secret, s->dev.hmac_secret, strlen(s->dev.hmac_secret));
    if (!c->api_key.len) config_secret_set(&c->api_key, s->dev.api_key, strlen(s->dev.api_key));
    if (!c->tls_cert_files.count && !c->tls_key_files.count) {
        config_strings_add(&c->tls_cert_files, s->dev.cert_file);
        config_strings_add(&c->tls_key_files, s->dev.key_file);
    }
    dev_channels(c);
    if (!c->listen.count) {
        add_url(&c->listen, "wss://127.0.0.1:8443");
        add_url(&c->listen, "ws://127.0.0.1:8080");
    }
}

/* prepare_dev makes what --dev makes by itself. */
static int prepare_dev(struct serve *s)
{
    char err[512];
    if (dev_state_open(&s->dev, (int64_t)time(NULL), err, sizeof err) == -1)
        return serve_say("--dev", err);
    serve_fill_dev(s, &s->set->config);
    return -1;
}

/* ---- start and end ---- */

/* descriptors_in_use counts what the process has open before the first connection. */
static uint32_t descriptors_in_use(void)
{
    uint32_t n = 0;
    DIR *d = opendir("/proc/self/fd");
    if (!d) return 0;
    while (readdir(d)) n++;
    closedir(d);
    return n > 3 ? n - 3 : 0; /* ".", "..", and the one that reads */
}

/* write_pid takes the pid file, which is locked as long as we live: it is never another server's
 * that is taken or removed. Returns what is wrong, or NULL. */
static const char *write_pid(struct serve *s)
{
    const char *path = s->set->config.pid_file;
    if (!*path) return NULL;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd == -1) return strerror(errno);
    if (flock(fd, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK) {
        close(fd);
        return "another server that runs has this pid file";
    }
    s->pid_fd = fd;
    if (ftruncate(fd, 0) == -1 || dprintf(fd, "%ld\n", (long)getpid()) < 0) return strerror(errno);
    return NULL;
}

/* may_read warns of what a reload will not be able to read. */
static void may_read(const char *path)
{
    if (*path && access(path, R_OK) == -1)
        log_event(LOG_WARN, "this file can not be read by the user: SIGHUP will not read it again",
                  LOG_STR("file", path), LOG_ERRNO(errno));
}

/* try_reload reads the configuration once more, as SIGHUP will. */
static void try_reload(const struct serve *s)
{
    struct config_report report = {0};
    struct config fresh = {0};
    (void)config_load(&fresh, s->argc, s->argv, environ, &report);
    for (size_t i = 0; i < report.count; i++)
        if (report.notes[i].is_error)
            log_event(LOG_WARN, "by the user the configuration can not be read again, by SIGHUP",
                      LOG_STR("problem", report.notes[i].text));
    config_report_free(&report);
    config_free(&fresh);
    for (size_t i = 0; i < s->set->config.tls_cert_files.count; i++)
        may_read(s->set->config.tls_cert_files.items[i]);
    for (size_t i = 0; i < s->set->config.tls_key_files.count; i++)
        may_read(s->set->config.tls_key_files.items[i]);
    for (size_t i = 0; i < s->set->config.tls_ticket_key_files.count; i++)
        may_read(s->set->config.tls_ticket_key_files.items[i]);
}

/* give_files: what the user must be able to write, open anew or be asked by. */
static void give_files(const struct serve *s)
{
    const char *log = s->set->config.log_file;
    const int fd = *log ? open(log, O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (fd != -1 && privileges_own(&s->user, fd) == -1)
        log_event(LOG_WARN, "the log file stays root's: SIGHUP may not open it anew",
                  LOG_STR("file", log), LOG_ERRNO(errno));
    if (fd != -1) close(fd);
    if (s->pid_fd != -1) (void)privileges_own(&s->user, s->pid_fd);
    for (size_t i = 0; i < s->unix_count; i++)
        if (*s->unixes[i].path && privileges_own_path(&s->user, s->unixes[i].path) == -1)
            log_event(LOG_WARN, "the socket stays root's: who is not root may not be let in",
                      LOG_STR("file", s->unixes[i].path), LOG_ERRNO(errno));
}

/* become goes on as the user of --user: all that needs root is open by now. */
static int become(const struct serve *s)
{
    char err[256];
    if (!*s->set->config.user) return -1;
    give_files(s);
    if (privileges_drop(&s->user, err, sizeof err) == -1) return serve_say("--user", err);
    log_event(LOG_INFO, "root is given up", LOG_STR("user", s->set->config.user),
              LOG_U64("uid", s->user.uid), LOG_U64("gid", s->user.gid));
    try_reload(s);
    return -1;
}

/* inject_fault: in builds for tests, the k-th allocation from now on fails once. */
static void inject_fault(void)
{
#ifdef ROOST_FAULTS
    const char *k = getenv("ROOST_TEST_FAIL_ALLOC");
    if (k) mem_fail_at(strtoull(k, NULL, 10));
    if (getenv("ROOST_TEST_WEDGE")) atomic_store(&worker_wedge, true);
    k = getenv("ROOST_TEST_FAIL_TLS_ALLOC");
    if (k) tls_memory_fail_at(strtoull(k, NULL, 10));
#endif
}

static int run(struct serve *s)
{
    struct server *v = &s->server;
    uint32_t used = descriptors_in_use();
    v->sockets_max = v->conns_max > used ? v->conns_max - used : 0;
    if (trace_export_start() == -1) return serve_say("--trace", strerror(errno));
    for (unsigned i = 0; i < v->worker_count; i++) {
        if (worker_start(v->workers[i]) == -1) {
            int e = errno;
            while (i-- > 0) {
                worker_stop(v->workers[i], WORKER_ENDS);
                worker_join(v->workers[i]);
            }
            return serve_say("worker", strerror(e));
        }
    }
    for (size_t i = 0; i < s->url_count; i++)
        log_event(LOG_INFO, "listening", LOG_STR("url", s->urls[i]));
    log_event(LOG_INFO, "ready", LOG_STR("version", ROOST_VERSION),
              LOG_STR("tls", tls_library_version()), LOG_U64("workers", v->worker_count),
              LOG_STR("sends", v->workers[0]->batch_from ? "batched" : "one by one"),
              LOG_U64("descriptors", v->conns_max));
    inject_fault();
    if (s->set->config.dev)
        dev_banner(stdout, &s->dev, cmd_program, s->wss_url ? s->wss_url : s->ws_url,
                   s->ws_url ? s->ws_url : s->wss_url);
    fflush(stdout);
    emf_begin(&s->emf, s->set->config.emf_ms, s->set->config.node_name, clock_us() / 1000);
    notify("READY=1\nSTATUS=serving with %u workers", v->worker_count);
    serve_until_stop(s);
    serve_drain(s);
    for (unsigned i = 0; i < v->worker_count; i++) worker_join(v->workers[i]);
    trace_export_stop();
    serve_last_figures(s);
    log_event(LOG_INFO, "stopped");
    return 0;
}

static void clean_up(struct serve *s)
{
    struct server *v = &s->server;
    trace_export_stop(); /* if it came to nothing */
    for (unsigned i = 0; i < v->worker_count; i++) v->workers[i]->trace = NULL;
    for (unsigned i = 0; i < v->worker_count; i++) worker_errands_abandon(v->workers[i]);
    for (unsigned i = 0; i < v->worker_count; i++) pubsub_worker_close(v->workers[i]);
    for (unsigned i = 0; i < v->worker_count; i++) users_close(v->workers[i]);
    user_limit_close();
    conn_address_limit_close();
    pubsub_close(); /* histories lie in the workers' pools */
    for (unsigned i = 0; i < v->worker_count; i++) worker_delete(v->workers[i]);
    serve_close_unix(s);
    for (size_t i = 0; i < s->unix_count; i++) close(s->unixes[i].fd);
    tls_server_delete(s->tls);
    if (s->signal_fd != -1) close(s->signal_fd);
    if (v->done_fd != -1) close(v->done_fd);
    if (s->pid_fd != -1) {
        unlink(s->set->config.pid_file);
        close(s->pid_fd);
    }
    notify_close();
    console_close();
    idempotency_close();
    dev_state_wipe(&s->dev);
    serve_set_free(s->old);
    serve_set_free(s->set);
    log_close();
}

static int serve(struct serve *s)
{
    int status = -1;
    const struct config *c = &s->set->config;
    char err[256];
    if (*c->user && privileges_find(&s->user, c->user, err, sizeof err) == -1)
        return serve_say("--user", err);
    if (log_open(&(struct log_options){.level = c->log_level,
                                       .file = c->log_file,
                                       .json = c->log_format == CONFIG_LOG_JSON}) == -1)
        return serve_say(c->log_file, strerror(errno));
    if (c->dev && (status = prepare_dev(s)) != -1) return status;
    s->signal_fd = serve_open_signals();
    s->server.done_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    notify_open();
    if (s->signal_fd == -1 || s->server.done_fd == -1) return serve_say("signals", strerror(errno));
    if ((status = serve_wire(s)) != -1) return status;
    if ((status = serve_make_workers(s)) != -1) return status;
    if ((status = serve_listen(s)) != -1) return status;
    const char *why = write_pid(s);
    if (why) return serve_say(c->pid_file, why);
    if ((status = become(s)) != -1) return status;
    return run(s);
}

int cmd_serve(int argc, char **argv)
{
    struct serve *s = calloc(1, sizeof *s);
    if (!s || !(s->set = calloc(1, sizeof *s->set))) {
        free(s);
        return serve_say("serve", strerror(ENOMEM));
    }
    s->signal_fd = s->pid_fd = s->server.done_fd = -1;
    s->argc = argc;
    s->argv = argv;
    int status = load(s, argc, argv);
    if (status == -1) status = serve(s);
    clean_up(s);
    free(s);
    return status;
}
