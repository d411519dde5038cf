/* `roost serve`: reads the configuration, wires the modules together, runs the workers, and stops
 * politely. */
#include "cmd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "api.h"
#include "cidr.h"
#include "client.h"
#include "config.h"
#include "conn.h"
#include "console.h"
#include "cpus.h"
#include "dev.h"
#include "emf.h"
#include "heartbeat.h"
#include "idempotency.h"
#include "listen.h"
#include "log.h"
#include "namespace.h"
#include "notify.h"
#include "pubsub.h"
#include "raw.h"
#include "route.h"
#include "tls.h"
#include "trace_export.h"
#include "user_limit.h"
#include "users.h"
#include "worker_errand.h"

extern char **environ;

const char *cmd_program = "roost";

#define LOOK_MS 2000     /* how often the certificates' files are looked at */
#define PROGRESS_MS 1000 /* how often a stop tells how far it is */
#define BACKLOG 65535
#define CONNS_MAX (16u << 20) /* when the descriptor limit is "unlimited" */

struct serve { /* everything that lives as long as the server */
    struct config config;
    struct dev_state dev;
    struct server server;
    struct app app;
    struct worker_ops ops;
    struct tls_server *tls;
    uint64_t certificates; /* mark of their files when they were last looked at */
    int64_t look_at_ms;    /* when that is done again */
    struct jwt_rules connect_rules, subscribe_rules;
    struct namespace_rules namespaces;
    char urls[LISTENERS_MAX][CONFIG_URL_MAX];
    size_t url_count;
    const char *wss_url, *ws_url; /* of the dev banner */
    struct unix_listener {
        int fd;
        char path[CONFIG_URL_MAX]; /* "": taken away already */
        dev_t
            dev; /* of the file that we made: somebody else may have put another one there since */
        ino_t ino;
    } unixes[LISTENERS_MAX];
    size_t unix_count;
    uint64_t turns[WORKERS_MAX]; /* of each worker when the watchdog last looked */
    int64_t watch_at_ms;         /* when it looks again */
    struct emf emf;
    int argc; /* to read the configuration again */
    char **argv;
    int signal_fd;
    int pid_fd; /* -1: the pid file is not ours */
};

/* ---- configuration ---- */

static int say(const char *what, const char *why)
{
    fprintf(stderr, "roost: %s: %s\n", what, why);
    return 1;
}

static void help(bool all)
{
    puts("Usage: roost serve [OPTION]...\n\n"
         "Serves WebSocket connections: /raw/CHANNEL, /echo (with --echo), and POST /api/publish.\n"
         "SIGTERM closes them politely; a second one ends at once.\n");
    config_help(stdout, all);
}

/* load returns -1 to go on, or the exit status. */
static int load(struct serve *s, int argc, char **argv)
{
    struct config_report report = {0};
    enum config_outcome outcome = config_load(&s->config, argc, argv, environ, &report);
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

/* prepare_dev fills in what --dev makes by itself. */
static int prepare_dev(struct serve *s)
{
    struct config *c = &s->config;
    char err[512];
    if (dev_state_open(&s->dev, (int64_t)time(NULL), err, sizeof err) == -1)
        return say("--dev", err);
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
    return -1;
}

static enum slow_policy policy_of(enum config_slow_policy p)
{
    switch (p) {
    case CONFIG_SLOW_CLOSE: return SLOW_CLOSE;
    case CONFIG_SLOW_DROP_OLDEST: return SLOW_DROP_OLDEST;
    case CONFIG_SLOW_KEEP_LATEST: return SLOW_KEEP_LATEST;
    }
    return SLOW_CLOSE;
}

/* ---- wiring ---- */

static void ended(struct conn *c)
{
    static const char *const protocols[] = {
        [CONN_ECHO] = "echo", [CONN_RAW] = "raw", [CONN_CLIENT] = "client"};
    struct worker *w = c->worker;
    char peer[CONN_PEER_TEXT];
    enum log_level level = c->user ? LOG_INFO : LOG_DEBUG; /* never upgraded: a peer's matter */
    int64_t life_ms = (int64_t)(worker_tick(w) - c->opened) * WORKER_TICK_MS;
    log_event(level, "conn closed", LOG_U64("conn", c->id),
              LOG_STR("peer", conn_peer_text(c, peer)),
              LOG_STR("proto", c->user ? protocols[c->protocol] : "http"),
              LOG_STRN("user", c->user ? c->user->name : "", c->user ? c->user->len : 0),
              LOG_U64("code", c->close_code), LOG_U64("in", c->messages_in),
              LOG_U64("out", c->messages_out), LOG_U64("bytes_in", c->bytes_in),
              LOG_U64("bytes_out", c->bytes_out), LOG_I64("ms", life_ms));
    api_ended(c);
    users_release(w, c->user);
    c->user = NULL;
}

static void heartbeat(struct conn *c)
{
    if (c->protocol == CONN_CLIENT)
        client_fired(c);
    else
        heartbeat_fired(c);
}

static void each_turn(struct worker *w, struct post *oldest)
{
    pubsub_posts(w, oldest);
    idempotency_sweep(w);
}

/* blocks_of reads what config_check has checked. */
static int blocks_of(struct cidr_list *out, const struct config_strings *from)
{
    struct cidr *items = calloc(from->count + 1, sizeof *items);
    if (!items) return -1;
    for (size_t i = 0; i < from->count; i++) (void)cidr_parse(&items[i], from->items[i]);
    *out = (struct cidr_list){items, from->count};
    return 0;
}

static int wire_app(struct serve *s)
{
    const struct config *c = &s->config;
    s->app = (struct app){
        .conn = {.reads_per_turn = c->worker_reads_per_turn,
                 .handshakes_per_turn = c->worker_handshakes_per_turn,
                 .handshake_timeout_ms = c->handshake_timeout_ms,
                 .http_idle_timeout_ms = c->http_idle_timeout_ms,
                 .close_timeout_ms = c->close_timeout_ms,
                 .max_message_bytes = c->max_message_bytes,
                 .queue_max_bytes = c->queue_max_bytes,
                 .unauthenticated_max_bytes = c->unauthenticated_max_bytes,
                 .tls_max_handshakes = c->tls_max_handshakes,
                 .control_frames_per_second = c->control_frames_per_second},
        .head = route_head,
        .request = route_request,
        .heartbeat = heartbeat,
        .ended = ended,
        .handlers =
            {[CONN_ECHO] = echo_handler, [CONN_RAW] = raw_handler, [CONN_CLIENT] = client_handler},
    };
    s->ops = conn_worker_ops;
    s->ops.posts = each_turn;
    s->ops.idle_ms = pubsub_idle_ms;
    if (blocks_of(&s->app.conn.proxy_from, &c->proxy_protocol_from) == 0 &&
        blocks_of(&s->app.conn.trusted_proxies, &c->trusted_proxies) == 0)
        return -1;
    return say("proxies", strerror(errno));
}

static void fill_rules(struct jwt_rules *r, const struct config_token *t)
{
    struct jwt_key *k = r->keys;
    for (size_t i = 0; i < t->keys.count && i < JWT_KEYS_MAX - 2; i++)
        *k++ = (struct jwt_key){.secret = t->keys.items[i].secret.bytes,
                                .secret_len = t->keys.items[i].secret.len,
                                .kid = t->keys.items[i].kid};
    if (t->secret.len)
        *k++ = (struct jwt_key){.secret = t->secret.bytes, .secret_len = t->secret.len};
    if (t->previous.len)
        *k++ = (struct jwt_key){.secret = t->previous.bytes,
                                .secret_len = t->previous.len,
                                .until_s = t->previous_until_s};
    r->key_count = (size_t)(k - r->keys);
    r->audience = *t->audience ? t->audience : NULL;
    r->issuer = *t->issuer ? t->issuer : NULL;
    r->user_id_claim = *t->user_id_claim ? t->user_id_claim : NULL;
    r->leeway_s = t->leeway_ms / 1000;
}

static void wire_client(struct serve *s)
{
    const struct config *c = &s->config;
    fill_rules(&s->connect_rules, &c->token);
    fill_rules(&s->subscribe_rules,
               c->subscription_token_enabled ? &c->subscription_token : &c->token);
    s->subscribe_rules.subscription = true;
    client_init(
        &(struct client_options){.connect_rules = &s->connect_rules,
                                 .subscribe_rules = &s->subscribe_rules,
                                 .anonymous = c->anonymous,
                                 .insecure = c->insecure,
                                 .no_anonymous_tokens = c->no_anonymous_tokens,
                                 .include_time = c->connect_include_server_time,
                                 .channel_limit = (uint32_t)c->client_channel_limit,
                                 .channel_max_length = (size_t)c->channel_max_length,
                                 .reply_max = CLIENT_REPLY_MAX,
                                 .limits = {.commands = (uint32_t)c->command_rate_limit,
                                            .publications = (uint32_t)c->publication_rate_limit,
                                            .free = (uint32_t)c->client_channel_limit},
                                 .history_max = (uint32_t)c->history_max_publication_limit,
                                 .recovery_max = (uint32_t)c->recovery_max_publication_limit,
                                 .personal = c->personal_channel ? c->personal_namespace : NULL,
                                 .single_connection = c->personal_channel && c->single_connection,
                                 .stale_ms = c->stale_close_delay_ms,
                                 .expired_sub_delay_ms = c->expired_sub_close_delay_ms,
                                 .version = ROOST_VERSION});
}

/* set_api_keys makes c's keys those that are accepted. */
static int set_api_keys(const struct config *c)
{
    static const enum api_scope scopes[] = {[CONFIG_SCOPE_PUBLISH] = API_PUBLISH,
                                            [CONFIG_SCOPE_READ] = API_READ,
                                            [CONFIG_SCOPE_ALL] = API_ALL};
    struct api_key keys[API_KEYS_MAX];
    size_t n = 0;
    if (c->api_key.len)
        keys[n++] = (struct api_key){"http_api.key", c->api_key.bytes, c->api_key.len, API_ALL};
    for (size_t i = 0; i < c->api_keys.count && n < API_KEYS_MAX; i++) {
        const struct config_key *k = &c->api_keys.items[i];
        keys[n++] = (struct api_key){k->kid, k->secret.bytes, k->secret.len, scopes[k->scope]};
    }
    return api_set_keys(keys, n);
}

static enum console_access console_access(const struct config *c)
{
    if (c->console_password.len && (c->console || c->dev)) return CONSOLE_PASSWORD;
    return c->dev ? CONSOLE_LOOPBACK : CONSOLE_OFF;
}

static void wire_console(const struct serve *s)
{
    const struct config *c = &s->config;
    console_init(
        &(struct console_options){.access = console_access(c),
                                  .client_path = *c->websocket_path ? c->websocket_path : NULL,
                                  .tokens = c->dev ? &s->connect_rules : NULL});
    console_set_password(c->console_password.bytes, c->console_password.len);
}

static int wire_formats(struct serve *s)
{
    const struct config *c = &s->config;
    config_namespace_rules(c, &s->namespaces);
    s->namespaces.any_namespace = c->dev;
    namespace_init(&s->namespaces);
    raw_init((size_t)c->channel_max_length);
    wire_client(s);
    api_init(&(struct api_options){.insecure = c->api_insecure,
                                   .audit_publications = c->api_audit_publications,
                                   .node_name = c->node_name,
                                   .transport_errors = c->api_errors == CONFIG_API_ERRORS_TRANSPORT,
                                   .max_body_bytes = c->api_max_body_bytes,
                                   .channel_max_length = (size_t)c->channel_max_length});
    idempotency_open(c->api_idempotency_max_entries);
    user_limit_open(c->user_connection_limit);
    if (set_api_keys(c) == -1) return say("API keys", strerror(errno));
    struct route_options r = {.auth = {.anonymous = c->anonymous,
                                       .insecure = c->insecure,
                                       .no_anonymous_tokens = c->no_anonymous_tokens,
                                       .token_query = c->token_query},
                              .origins = (const char *const *)c->allowed_origins.items,
                              .origin_count = c->allowed_origins.count,
                              .client_path = *c->websocket_path ? c->websocket_path : NULL,
                              .echo = c->echo,
                              .metrics = c->metrics,
                              .metrics_public = c->metrics_public,
                              .health = c->health,
                              .api = !c->api_disabled,
                              .has_admin = c->admin_listen.count > 0,
                              .connection_limit = c->connection_limit,
                              .rate_limit = c->connection_rate_limit,
                              .dev = c->dev};
    fill_rules(&r.auth.rules, &c->token);
    route_init(&r);
    wire_console(s);
    heartbeat_init(
        &(struct heartbeat_options){.ping_interval_ms = c->ping_interval_ms,
                                    .pong_timeout_ms = c->pong_timeout_ms,
                                    .max_age_ms = c->connection_max_age_ms,
                                    .expired_close_delay_ms = c->expired_close_delay_ms});
    return -1;
}

/* ---- workers and listeners ---- */

static uint32_t raise_descriptor_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == -1) return 1024;
    r.rlim_cur = r.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &r) == -1) getrlimit(RLIMIT_NOFILE, &r);
    return r.rlim_cur > CONNS_MAX ? CONNS_MAX : (uint32_t)r.rlim_cur;
}

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

/* open_traces makes the workers' tracers, if spans are to be sent anywhere. */
static int open_traces(const struct config *c, unsigned workers)
{
    struct trace_export_options o = {
        .instance = c->node_name, .sample = c->trace_sample, .workers = workers};
    char err[256];
    if (!*c->trace || trace_target_parse(&o.target, c->trace)) return -1; /* has been checked */
    o.authorization = c->trace_authorization.len ? (const char *)c->trace_authorization.bytes : "";
    return trace_export_open(&o, err, sizeof err) == -1 ? say("--trace", err) : -1;
}

static int make_workers(struct serve *s)
{
    const struct config *c = &s->config;
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
    struct pubsub_options bus = {.slice = (uint32_t)c->worker_fanout_slice,
                                 .channels_max = c->channel_limit,
                                 .history_max_bytes = c->history_max_bytes,
                                 .policy = policy_of(c->raw_slow_policy),
                                 .missed = client_missed};
    if (pubsub_open(&bus, want) == -1) return say("channels", strerror(errno));
    int status = open_traces(c, want);
    if (status != -1) return status;
    for (unsigned i = 0; i < want; i++) {
        struct worker *w = worker_new(v, i);
        if (w) w->trace = trace_export_worker(i);
        if (!w || users_open(w) == -1 || pubsub_worker_open(w) == -1)
            return say("worker", strerror(errno));
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
static void close_unix(struct serve *s)
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
                               .user_timeout_ms =
                                   s->config.ping_interval_ms + s->config.pong_timeout_ms};
    struct listener l = {.admin = admin,
                         .clients = !admin,
                         .local = u.loopback,
                         .tls = u.scheme == CONFIG_WSS ? s->tls : NULL};
    l.fd = listen_inherited(u.scheme == CONFIG_UNIX ? NULL : u.host, u.ipv6, u.port, u.path, &o);
    l.shared = l.kept = l.fd != -1;
    for (unsigned i = 0; i < s->server.worker_count; i++) {
        o.first = i == 0 && !s->config.reuse_port;
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

static size_t tls_files_of(const struct config *c, struct tls_files files[static TLS_PAIRS_MAX])
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

/* files_mark is another number when one of the certificates' files is another one, or has changed.
 */
static uint64_t files_mark(const struct config *c)
{
    uint64_t mark = 0;
    for (size_t i = 0; i < c->tls_cert_files.count; i++)
        mark = mark * 1000003 + mark_of(c->tls_cert_files.items[i]);
    for (size_t i = 0; i < c->tls_key_files.count; i++)
        mark = mark * 1000003 + mark_of(c->tls_key_files.items[i]);
    return mark;
}

static int open_listeners(struct serve *s)
{
    const struct config *c = &s->config;
    if (c->listen.count + c->admin_listen.count > LISTENERS_MAX)
        return say("--listen", "too many listeners, 32 at most");
    if (wants_tls(&c->listen) || wants_tls(&c->admin_listen)) {
        char err[512];
        struct tls_files files[TLS_PAIRS_MAX];
        const size_t count = tls_files_of(c, files);
        s->certificates = files_mark(c);
        s->tls = tls_server_new(files, count, err, sizeof err);
        if (!s->tls) return say("TLS", err);
        if (*err) log_event(LOG_WARN, "certificate", LOG_STR("problem", err));
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

/* ---- running ---- */

static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* workers inherit it */
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* write_pid takes the pid file, which is locked as long as we live: it is never another server's
 * that is taken or removed. Returns what is wrong, or NULL. */
static const char *write_pid(struct serve *s)
{
    const char *path = s->config.pid_file;
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

static void stop_workers(struct serve *s, enum worker_stop how)
{
    for (unsigned i = 0; i < s->server.worker_count; i++) worker_stop(s->server.workers[i], how);
}

static int64_t open_conns(const struct serve *s)
{
    return atomic_load_explicit(&s->server.connections, memory_order_relaxed);
}

/* reopen_log: the file may have been renamed by a rotation. */
static void reopen_log(const struct config *c)
{
    if (log_open(&(struct log_options){.level = c->log_level, .file = c->log_file}) == -1)
        log_event(LOG_ERROR, "SIGHUP: the log file can not be opened, the old one goes on",
                  LOG_STR("file", c->log_file), LOG_ERRNO(errno));
    else
        log_event(LOG_INFO, "SIGHUP: log opened anew", LOG_STR("file", c->log_file));
}

/* reload_certificates: handshakes from now on see what is in c's files. What is wrong with them is
 * told to the log, and the old ones stay. */
static void reload_certificates(struct serve *s, const struct config *c)
{
    struct tls_files files[TLS_PAIRS_MAX];
    char err[512];
    const size_t count = tls_files_of(c, files);
    if (!s->tls || !count) return;
    s->certificates = files_mark(c);
    if (tls_server_reload(s->tls, files, count, err, sizeof err) == -1)
        log_event(LOG_ERROR, "the old certificates stay", LOG_STR("problem", err));
    else
        log_event(*err ? LOG_WARN : LOG_INFO, "certificates read again", LOG_U64("count", count),
                  LOG_STR("problem", err));
}

/* look_at_certificates: a tool that renews them need not tell us. While one file is new and the
 * other still old, they do not fit: the next look finds them changed again. */
static void look_at_certificates(struct serve *s)
{
    const int64_t now_ms = clock_us() / 1000;
    if (!s->tls || now_ms < s->look_at_ms) return;
    s->look_at_ms = now_ms + LOOK_MS;
    if (files_mark(&s->config) != s->certificates) reload_certificates(s, &s->config);
}

/* reload reads the configuration again, for the keys of the HTTP API, the console's password and
 * the certificates. A wrong one is told to the log, and what was there stays. */
static void reload(struct serve *s)
{
    struct config_report report = {0};
    struct config fresh = {0};
    bool ok = config_load(&fresh, s->argc, s->argv, environ, &report) == CONFIG_LOADED;
    for (size_t i = 0; i < report.count; i++)
        if (report.notes[i].is_error)
            log_event(LOG_ERROR, "SIGHUP: the configuration is wrong",
                      LOG_STR("problem", report.notes[i].text));
    if (fresh.dev && !fresh.api_key.len)
        config_secret_set(&fresh.api_key, s->dev.api_key, strlen(s->dev.api_key));
    if (ok) console_set_password(fresh.console_password.bytes, fresh.console_password.len);
    if (ok && set_api_keys(&fresh) == 0)
        log_event(LOG_INFO, "SIGHUP: API keys read again",
                  LOG_U64("keys", fresh.api_keys.count + (fresh.api_key.len > 0)));
    else
        log_event(LOG_ERROR, "SIGHUP: the old API keys stay");
    if (ok && fresh.tls_cert_files.count) { /* with --dev they may be those of the state folder */
        config_strings_swap(&s->config.tls_cert_files, &fresh.tls_cert_files);
        config_strings_swap(&s->config.tls_key_files, &fresh.tls_key_files);
    }
    if (ok) reload_certificates(s, &s->config);
    config_report_free(&report);
    config_free(&fresh);
}

/* watch tells the service manager that all is well, if every worker has made a turn since the last
 * look; then it gives each a reason for another one. */
static void watch(struct serve *s)
{
    const struct server *v = &s->server;
    const int64_t now_ms = clock_us() / 1000;
    bool well = true;
    if (!notify_watchdog_ms() || now_ms < s->watch_at_ms) return;
    s->watch_at_ms = now_ms + notify_watchdog_ms();
    for (unsigned i = 0; i < v->worker_count; i++) {
        const uint64_t turns = metric_get(&v->workers[i]->metrics, METRIC_TURNS);
        well = well && turns != s->turns[i];
        s->turns[i] = turns;
        reactor_wake(&v->workers[i]->reactor);
    }
    if (well)
        notify("WATCHDOG=1");
    else
        log_event(LOG_ERROR, "a worker has made no turn for a while: the watchdog is not told",
                  LOG_I64("ms", notify_watchdog_ms()));
}

static void tell_figures(struct serve *s, bool last)
{
    const struct metrics *all[WORKERS_MAX];
    for (unsigned i = 0; i < s->server.worker_count; i++) all[i] = &s->server.workers[i]->metrics;
    emf_tell(&s->emf, all, s->server.worker_count, STDOUT_FILENO, clock_us() / 1000, last);
}

/* wait_for waits for a signal to stop (returns true) or until running workers are no more or
 * timeout_ms has passed (false). */
static bool wait_for(struct serve *s, int64_t timeout_ms)
{
    int64_t until = timeout_ms < 0 ? INT64_MAX : clock_us() / 1000 + timeout_ms;
    for (;;) {
        int64_t left = until - clock_us() / 1000;
        if (left <= 0) return false;
        watch(s);
        look_at_certificates(s);
        tell_figures(s, false);
        if (left > emf_left_ms(&s->emf, clock_us() / 1000))
            left = emf_left_ms(&s->emf, clock_us() / 1000);
        if (s->tls && left > LOOK_MS) left = LOOK_MS;
        if (notify_watchdog_ms() && left > notify_watchdog_ms()) left = notify_watchdog_ms();
        struct pollfd p[2] = {{.fd = s->signal_fd, .events = POLLIN},
                              {.fd = s->server.done_fd, .events = POLLIN}};
        poll(p, 2, left > 60000 ? 60000 : (int)left);
        struct signalfd_siginfo info;
        if (read(s->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
            if (info.ssi_signo != SIGHUP) return true;
            reopen_log(&s->config);
            reload(s);
        }
        if (atomic_load_explicit(&s->server.running, memory_order_acquire) == 0) return false;
    }
}

/* close_rate: connections a second, so that all are closed in time. */
static uint32_t close_rate(const struct config *c, int64_t connections)
{
    const int64_t least = connections * 1000 / (c->shutdown_timeout_ms * 4 / 5 + 1) + 1;
    if (!c->shutdown_close_rate) return 0;
    return (uint32_t)(c->shutdown_close_rate > least ? c->shutdown_close_rate : least);
}

/* wait_out waits until the workers are done, saying how far they are. Returns true if a second
 * signal came first. */
static bool wait_out(struct serve *s)
{
    for (int64_t left = s->config.shutdown_timeout_ms; left > 0; left -= PROGRESS_MS) {
        if (wait_for(s, left < PROGRESS_MS ? left : PROGRESS_MS)) return true;
        if (atomic_load_explicit(&s->server.running, memory_order_acquire) == 0) return false;
        notify("STATUS=stopping: %lld of %u connections are left", (long long)open_conns(s),
               s->server.drain_from);
    }
    return false;
}

/* drain: not ready, then closed to newcomers, then everybody is closed. */
static void drain(struct serve *s)
{
    struct server *v = &s->server;
    notify("STOPPING=1\nSTATUS=stopping: %lld connections", (long long)open_conns(s));
    log_event(LOG_INFO, "stopping", LOG_I64("connections", open_conns(s)),
              LOG_I64("delay_ms", s->config.shutdown_delay_ms),
              LOG_I64("timeout_ms", s->config.shutdown_timeout_ms));
    atomic_store_explicit(&v->draining, true, memory_order_relaxed);
    bool again = s->config.shutdown_delay_ms && wait_for(s, s->config.shutdown_delay_ms);
    if (!again) {
        v->drain_from = (uint32_t)open_conns(s);
        v->drain_rate = close_rate(&s->config, v->drain_from);
        atomic_store_explicit(&v->closing, true, memory_order_relaxed);
        close_unix(s); /* before the workers take in what waits, so that nobody comes behind them */
        stop_workers(s, WORKER_DRAINS);
        again = wait_out(s);
    }
    if (again)
        log_event(LOG_WARN, "second signal: ending at once", LOG_I64("connections", open_conns(s)));
    stop_workers(s, WORKER_ENDS);
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
    if (trace_export_start() == -1) return say("--trace", strerror(errno));
    for (unsigned i = 0; i < v->worker_count; i++) {
        if (worker_start(v->workers[i]) == -1) {
            int e = errno;
            while (i-- > 0) {
                worker_stop(v->workers[i], WORKER_ENDS);
                worker_join(v->workers[i]);
            }
            return say("worker", strerror(e));
        }
    }
    for (size_t i = 0; i < s->url_count; i++)
        log_event(LOG_INFO, "listening", LOG_STR("url", s->urls[i]));
    log_event(LOG_INFO, "ready", LOG_STR("version", ROOST_VERSION),
              LOG_STR("tls", tls_library_version()), LOG_U64("workers", v->worker_count),
              LOG_U64("descriptors", v->conns_max));
    inject_fault();
    if (s->config.dev)
        dev_banner(stdout, &s->dev, cmd_program, s->wss_url ? s->wss_url : s->ws_url,
                   s->ws_url ? s->ws_url : s->wss_url);
    fflush(stdout);
    emf_begin(&s->emf, s->config.emf_ms, s->config.node_name, clock_us() / 1000);
    notify("READY=1\nSTATUS=serving with %u workers", v->worker_count);
    wait_for(s, -1);
    drain(s);
    for (unsigned i = 0; i < v->worker_count; i++) worker_join(v->workers[i]);
    trace_export_stop();
    tell_figures(s, true);
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
    pubsub_close(); /* histories lie in the workers' pools */
    for (unsigned i = 0; i < v->worker_count; i++) worker_delete(v->workers[i]);
    close_unix(s);
    for (size_t i = 0; i < s->unix_count; i++) close(s->unixes[i].fd);
    tls_server_delete(s->tls);
    if (s->signal_fd != -1) close(s->signal_fd);
    if (v->done_fd != -1) close(v->done_fd);
    if (s->pid_fd != -1) {
        unlink(s->config.pid_file);
        close(s->pid_fd);
    }
    notify_close();
    free((void *)s->app.conn.proxy_from.items);
    free((void *)s->app.conn.trusted_proxies.items);
    api_close();
    console_close();
    idempotency_close();
    dev_state_wipe(&s->dev);
    config_free(&s->config);
    log_close();
}

static int serve(struct serve *s)
{
    int status = -1;
    const struct config *c = &s->config;
    if (log_open(&(struct log_options){.level = c->log_level, .file = c->log_file}) == -1)
        return say(c->log_file, strerror(errno));
    if (c->dev && (status = prepare_dev(s)) != -1) return status;
    s->signal_fd = open_signals();
    s->server.done_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    notify_open();
    if (s->signal_fd == -1 || s->server.done_fd == -1) return say("signals", strerror(errno));
    if ((status = wire_app(s)) != -1) return status;
    if ((status = wire_formats(s)) != -1) return status;
    if ((status = make_workers(s)) != -1) return status;
    if ((status = open_listeners(s)) != -1) return status;
    const char *why = write_pid(s);
    if (why) return say(c->pid_file, why);
    return run(s);
}

int cmd_serve(int argc, char **argv)
{
    struct serve *s = calloc(1, sizeof *s);
    if (!s) return say("serve", strerror(errno));
    s->signal_fd = s->pid_fd = s->server.done_fd = -1;
    s->argc = argc;
    s->argv = argv;
    int status = load(s, argc, argv);
    if (status == -1) status = serve(s);
    clean_up(s);
    free(s);
    return status;
}
