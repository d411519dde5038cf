/* The workers and the sockets they listen on. */
#include "cmd/serve.h"

#include "batch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "cpus.h"
#include "listen.h"
#include "log.h"
#include "pubsub.h"
#include "trace/export.h"
#include "users.h"

#define BACKLOG 65535
#define BATCH_WORTH 8u        /* sends; a smaller batch costs more than it saves */
#define CONNS_MAX (16u << 20) /* when the descriptor limit is "unlimited" */

static uint32_t raise_descriptor_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == -1) return 1024;
    r.rlim_cur = r.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &r) == -1) getrlimit(RLIMIT_NOFILE, &r);
    return r.rlim_cur > CONNS_MAX ? CONNS_MAX : (uint32_t)r.rlim_cur;
}

static int open_traces(const struct config *c, unsigned workers)
{
    struct trace_export_options o = {
        .instance = c->node_name, .sample = c->trace_sample, .workers = workers};
    char err[256];
    if (!*c->trace || trace_target_parse(&o.target, c->trace)) return -1; /* has been checked */
    o.authorization = c->trace_authorization.len ? (const char *)c->trace_authorization.bytes : "";
    return trace_export_open(&o, err, sizeof err) == -1 ? serve_say("--trace", err) : -1;
}

/* send_batches: may workers send by batches? */
static bool send_batches(const struct config *c)
{
    const char *why = "worker.send_batch is off";
    if (c->worker_send_batch != CONFIG_BATCH_OFF && batch_works(&why)) return true;
    log_event(LOG_INFO, "sends are made one by one", LOG_STR("why", why));
    return false;
}

int serve_make_workers(struct serve *s)
{
    const struct config *c = &s->set->config;
    struct server *v = &s->server;
    unsigned want = c->workers ? (unsigned)c->workers : cpus_usable();
    if (want > WORKERS_MAX) want = WORKERS_MAX;
    v->options =
        (struct worker_options){.accepts_per_turn = c->worker_accepts_per_turn,
                                .receive_buffer_bytes = c->worker_receive_buffer_bytes,
                                .mailbox_max_bytes = (uint64_t)c->worker_mailbox_max_bytes};
    v->ops = &s->ops;
    v->app = &s->app;
    v->conns_max = raise_descriptor_limit();
    v->started_s = (int64_t)time(NULL);
    v->started_ms = clock_us() / 1000;
    if (pubsub_open(&s->set->pubsub, want) == -1) return serve_say("channels", strerror(errno));
    int status = open_traces(c, want);
    if (status != -1) return status;
    const bool batches = send_batches(c);
    for (unsigned i = 0; i < want; i++) {
        struct worker *w = worker_new(v, i);
        if (w) w->trace = trace_export_worker(i);
        if (w && batches) w->batch_from = BATCH_WORTH;
        if (!w || users_open(w) == -1 || pubsub_worker_open(w) == -1)
            return serve_say("worker", strerror(errno));
        v->workers[v->worker_count++] = w;
    }
    return -1;
}

static int cannot_listen(const struct config_url *u)
{
    char text[CONFIG_URL_MAX];
    int e = errno;
    fprintf(stderr, "roost: cannot listen on %s: %s%s\n", config_url_format(text, u), strerror(e),
            e == EADDRINUSE ? " (another process has the port: stop it or choose another --listen)"
            : e == EACCES   ? " (ports below 1024 need CAP_NET_BIND_SERVICE)"
                            : "");
    return 1;
}

/* note_unix keeps what is needed to take the socket's file away again. */
static void note_unix(struct serve *s, int fd, const char *path)
{
    struct unix_listener *u = &s->unixes[s->unix_count++];
    struct stat st = {0};
    (void)lstat(path, &st);
    *u = (struct unix_listener){.fd = fd, .dev = st.st_dev, .ino = st.st_ino};
    snprintf(u->path, sizeof u->path, "%s", path);
}

/* close_unix takes the files away and refuses further connections; those that wait in a queue can
 * still be accepted by the workers, which share the descriptors, until they are closed in the end.
 */
void serve_close_unix(struct serve *s)
{
    for (size_t i = 0; i < s->unix_count; i++) {
        struct unix_listener *u = &s->unixes[i];
        struct stat st;
        if (*u->path && lstat(u->path, &st) == 0 && st.st_dev == u->dev && st.st_ino == u->ino)
            unlink(u->path);
        *u->path = 0;
        shutdown(u->fd, SHUT_RDWR);
    }
}

/* listen_on opens u on every worker. */
static int listen_on(struct serve *s, struct config_url u, bool admin)
{
    struct listen_options o = {.backlog = BACKLOG,
                               .user_timeout_ms = s->set->config.ping_interval_ms +
                                                  s->set->config.pong_timeout_ms};
    struct listener l = {.admin = admin,
                         .clients = !admin,
                         .local = u.loopback,
                         .tls = u.scheme == CONFIG_WSS ? s->tls : NULL};
    l.fd = listen_inherited(u.scheme == CONFIG_UNIX ? NULL : u.host, u.ipv6, u.port, u.path, &o);
    l.shared = l.kept = l.fd != -1;
    for (unsigned i = 0; i < s->server.worker_count; i++) {
        o.first = i == 0 && !s->set->config.reuse_port;
        if (l.kept) {
            /* one for all, from a service manager */
        } else if (u.scheme != CONFIG_UNIX) {
            l.fd = listen_tcp(u.host, u.ipv6, &u.port, &o);
        } else if (i == 0) {
            l.shared = true;
            l.fd = listen_unix(u.path, &o);
            if (l.fd != -1) note_unix(s, l.fd, u.path);
        }
        if (l.fd == -1 || worker_listen(s->server.workers[i], &l) == -1) return cannot_listen(&u);
    }
    char *text = config_url_format(s->urls[s->url_count++], &u);
    s->server.listener_urls[s->server.listener_count++] = text;
    if (u.scheme == CONFIG_WSS && !s->wss_url && !admin) s->wss_url = text;
    if (u.scheme == CONFIG_WS && !s->ws_url && !admin) s->ws_url = text;
    if (u.scheme == CONFIG_WS && !u.loopback)
        log_event(LOG_WARN, "listener without TLS is reachable from outside", LOG_STR("url", text));
    return -1;
}

static bool wants_tls(const struct config_urls *urls)
{
    for (size_t i = 0; i < urls->count; i++)
        if (urls->items[i].scheme == CONFIG_WSS) return true;
    return false;
}

size_t serve_files(const struct config *c, struct tls_files files[static TLS_PAIRS_MAX])
{
    size_t n = 0;
    for (; n < c->tls_cert_files.count && n < c->tls_key_files.count && n < TLS_PAIRS_MAX; n++)
        files[n] = (struct tls_files){c->tls_cert_files.items[n], c->tls_key_files.items[n]};
    return n;
}

static uint64_t mark_of(const char *path)
{
    struct stat st;
    if (stat(path, &st) == -1) return 1;
    return (uint64_t)st.st_ino * 31 + (uint64_t)st.st_size * 37 + (uint64_t)st.st_mtim.tv_sec * 41 +
           (uint64_t)st.st_mtim.tv_nsec * 43;
}

int serve_ticket_keys(const struct config *c, char *err, size_t err_len)
{
    const struct config_strings *files = &c->tls_ticket_key_files;
    return tls_ticket_keys((const char *const *)files->items, files->count, err, err_len);
}

/* files_mark is another number when one of the files of certificates or tickets is another one, or
 * has changed. */
uint64_t serve_files_mark(const struct config *c)
{
    uint64_t mark = 0;
    for (size_t i = 0; i < c->tls_cert_files.count; i++)
        mark = mark * 1000003 + mark_of(c->tls_cert_files.items[i]);
    for (size_t i = 0; i < c->tls_key_files.count; i++)
        mark = mark * 1000003 + mark_of(c->tls_key_files.items[i]);
    for (size_t i = 0; i < c->tls_ticket_key_files.count; i++)
        mark = mark * 1000003 + mark_of(c->tls_ticket_key_files.items[i]);
    return mark;
}

/* choose_backend: a suite whose detached records fail their test stays with mbedTLS, loudly; that
 * is not what somebody asked for who has said detached. */
static int choose_backend(struct serve *s)
{
    static const enum tls_backend backends[] = {[CONFIG_TLS_AUTO] = TLS_BACKEND_AUTO,
                                                [CONFIG_TLS_DETACHED] = TLS_BACKEND_DETACHED,
                                                [CONFIG_TLS_MBEDTLS] = TLS_BACKEND_MBEDTLS};
    const enum config_tls_backend chosen = s->set->config.tls_backend;
    char err[512];
    tls_backend_set(backends[chosen]);
    const unsigned failed = tls_backend_try(s->tls, err, sizeof err);
    if (failed && chosen == CONFIG_TLS_DETACHED) return serve_say("--tls-backend", err);
    if (*err) log_event(LOG_ERROR, "TLS backend", LOG_STR("problem", err));
    log_event(LOG_INFO, "TLS backend", LOG_STR("records", tls_backend_in_use()));
    s->server.tls_backend = tls_backend_in_use();
    return -1;
}

int serve_listen(struct serve *s)
{
    const struct config *c = &s->set->config;
    if (c->listen.count + c->admin_listen.count > LISTENERS_MAX)
        return serve_say("--listen", "too many listeners, 32 at most");
    if (wants_tls(&c->listen) || wants_tls(&c->admin_listen)) {
        char err[512];
        struct tls_files files[TLS_PAIRS_MAX];
        const size_t count = serve_files(c, files);
        s->certificates = serve_files_mark(c);
        if (serve_ticket_keys(c, err, sizeof err) == -1)
            return serve_say("http_server.tls.ticket_key", err);
        if (*err) log_event(LOG_WARN, "certificate", LOG_STR("problem", err));
        s->tls = tls_server_new(files, count, err, sizeof err);
        if (!s->tls) return serve_say("TLS", err);
        if (*err) log_event(LOG_WARN, "certificate", LOG_STR("problem", err));
        serve_note_certificates(s);
        const int status = choose_backend(s);
        if (status != -1) return status;
    }
    for (size_t i = 0; i < c->listen.count; i++) {
        int status = listen_on(s, c->listen.items[i], false);
        if (status != -1) return status;
    }
    for (size_t i = 0; i < c->admin_listen.count; i++) {
        int status = listen_on(s, c->admin_listen.items[i], true);
        if (status != -1) return status;
    }
    const unsigned rest = listen_inherited_rest();
    if (rest)
        log_event(LOG_WARN, "sockets of the service manager that fit no listener are closed",
                  LOG_U64("count", rest));
    return -1;
}
