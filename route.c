#include "route.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "api.h"
#include "client.h"
#include "console.h"
#include "debug.h"
#include "kernel.h"
#include "log.h"
#include "origin.h"
#include "pubsub.h"
#include "raw.h"
#include "trace/export.h"
#include "watch.h"

_Static_assert(JWT_SCRATCH <= 64u * 1024, "a worker's tx is the scratch of a verification");

static const struct route_options *options(void)
{
    return settings_of(SETTINGS_ROUTE);
}

void route_init(const struct route_options *o)
{
    static struct route_options first;
    first = *o;
    settings_first.of[SETTINGS_ROUTE] = &first;
}

static bool starts_with(struct http_str s, const char *prefix)
{
    size_t n = strlen(prefix);
    return s.len >= n && memcmp(s.p, prefix, n) == 0;
}

/* ---- opening handshakes ---- */

static void refuse(struct conn *c, const struct http_request *r, enum metric why, int status,
                   const char *line)
{
    metric_add(&c->worker->metrics, why, 1);
    if (conn_watched(c)) raw_see_refusal(c, r, NULL, (unsigned)status, line);
    conn_http_error(c, r, status, line);
}

/* refuse_at_limit: option says which limit it is, to the log. */
static void refuse_at_limit(struct conn *c, const struct http_request *r, enum metric why,
                            const char *option, int status, const char *line)
{
    conn_limit_met(c, why, option);
    conn_http_error(c, r, status, line);
}

/* is_handshake checks what RFC 6455 section 4.2.1 wants of the request. */
static bool is_handshake(struct conn *c, const struct http_request *r)
{
    if (r->method != HTTP_GET) {
        static const char body[] = "405 Method Not Allowed: an opening handshake is a GET\n";
        struct http_reply reply = {
            .status = 405, .headers = "Allow: GET\r\n", .body = body, .len = sizeof body - 1};
        metric_add(&c->worker->metrics, METRIC_REFUSED_BAD_REQUEST, 1);
        conn_http_reply(c, r, &reply);
        return false;
    }
    if (!r->upgrade_websocket) {
        refuse(
            c, r, METRIC_REFUSED_BAD_REQUEST, 426,
            "this path speaks WebSocket: Upgrade: websocket and Connection: Upgrade are missing");
        return false;
    }
    if (!r->ws_version.p || !http_str_is(r->ws_version, "13")) {
        refuse(c, r, METRIC_REFUSED_BAD_REQUEST, 426, "Sec-WebSocket-Version must be 13");
        return false;
    }
    if (!r->ws_key.p || !ws_key_ok(r->ws_key.p, r->ws_key.len)) {
        refuse(c, r, METRIC_REFUSED_BAD_REQUEST, 400,
               "Sec-WebSocket-Key must be 16 bytes in base64");
        return false;
    }
    return true;
}

/* no_descriptors: has every descriptor that can be a connection become one? */
static bool no_descriptors(const struct server *s)
{
    uint64_t sockets = 0;
    for (unsigned i = 0; i < s->worker_count; i++)
        sockets += metric_get(&s->workers[i]->metrics, METRIC_SOCKETS);
    return sockets >= s->sockets_max;
}

static bool is_full(const struct server *s)
{
    int64_t open = atomic_load_explicit(&s->connections, memory_order_relaxed);
    return options()->connection_limit > 0 && open >= options()->connection_limit;
}

/* over_rate takes one handshake from this worker's share of the rate: a bucket that holds a
 * second's worth, and one handshake at least. A handshake is 1000 x workers units, a millisecond's
 * gain then rate units: nothing is rounded away. */
static bool over_rate(struct worker *w)
{
    if (options()->rate_limit <= 0) return false;
    int64_t rate = options()->rate_limit < INT32_MAX ? options()->rate_limit : INT32_MAX;
    int64_t one = 1000 * (int64_t)w->server->worker_count;
    int64_t full = rate * 1000 > one ? rate * 1000 : one;
    int64_t past_ms = w->now_ms - w->credit_at_ms;
    w->handshake_credit +=
        (past_ms < one ? past_ms : one) * rate; /* so long fills it at any rate */
    w->credit_at_ms = w->now_ms;
    if (w->handshake_credit > full) w->handshake_credit = full;
    if (w->handshake_credit < one) return true;
    w->handshake_credit -= one;
    return false;
}

/* address_has_room counts c for the client that X-Forwarded-For names; all others are counted. */
static bool address_has_room(struct conn *c, const struct http_request *r)
{
    if (!(c->flags & CONN_FORWARDED) || conn_address_enter(c)) return true;
    if (errno == ENOSPC)
        conn_http_error(c, r, 429, CONN_ADDRESS_FULL);
    else
        conn_http_error(c, r, 503, "out of memory");
    return false;
}

static bool has_room(struct conn *c, const struct http_request *r)
{
    if (over_rate(c->worker)) {
        refuse_at_limit(c, r, METRIC_REFUSED_RATE, "client.connection_rate_limit", 429,
                        "too many opening handshakes a second");
        return false;
    }
    const struct server *s = c->worker->server;
    if (atomic_load_explicit(&s->closing, memory_order_relaxed)) {
        refuse(c, r, METRIC_REFUSED_LIMIT, 503, "this server is shutting down");
        return false;
    }
    if (conn_queues_full(c->worker->server)) {
        refuse_at_limit(c, r, METRIC_REFUSED_QUEUES, "client.total_queue_max_size", 503,
                        "too much waits to be sent to slow clients");
        return false;
    }
    if (is_full(s)) {
        refuse_at_limit(c, r, METRIC_REFUSED_LIMIT, "client.connection_limit", 503,
                        "the connection limit is reached");
        return false;
    }
    return address_has_room(c, r);
}

static bool origin_is_allowed(struct conn *c, const struct http_request *r)
{
    if (origin_allowed(options()->origins, options()->origin_count, r->origin)) return true;
    log_limited(5, LOG_WARN,
                "origin refused: allow it with --allowed-origin or client.allowed_origins",
                LOG_STRN("origin", r->origin.p, r->origin.len));
    refuse(c, r, METRIC_REFUSED_ORIGIN, 403,
           "this origin is not allowed: see client.allowed_origins");
    return false;
}

static bool authenticate(struct conn *c, const struct http_request *r, struct auth *a)
{
    struct worker *w = c->worker;
    auth_check(&options()->auth, r, (int64_t)time(NULL), w->tx, w->tx_size, a);
    if (a->verdict == AUTH_OK) return true;
    raw_refuse(c, r, a);
    return false;
}

static bool is_client_path(struct http_str path)
{
    return options()->client_path && http_str_is(path, options()->client_path);
}

/* A client of the Centrifuge protocol brings its token in its first command; one in the request's
 * header counts too. A bad one there is not refused here: SDKs would come back for ever
 * (protocol.md 1.1). */
static void open_client(struct conn *c, const struct http_request *r)
{
    struct auth a = {.verdict = AUTH_MISSING};
    if (r->authorization.p)
        auth_check(&options()->auth, r, (int64_t)time(NULL), c->worker->tx, c->worker->tx_size, &a);
    client_open(c, r, &a);
}

static void answer_handshake(struct conn *c, const struct http_request *r)
{
    struct auth a;
    if (!is_handshake(c, r) || !has_room(c, r) || !origin_is_allowed(c, r)) return;
    if (is_client_path(r->path)) {
        open_client(c, r);
        return;
    }
    if (!authenticate(c, r, &a)) return;
    if (http_str_is(r->path, "/echo")) {
        echo_open(c, r, &a);
        return;
    }
    const size_t prefix = sizeof "/raw/" - 1;
    raw_open(c, r, &a, (struct http_str){r->path.p + prefix, r->path.len - prefix});
}

static void open_websocket(struct conn *c, const struct http_request *r)
{
    if (c->worker->trace) conn_trace_handshake(c, r);
    answer_handshake(c, r);
    if (c->state == CONN_HTTP && c->flags & CONN_FORWARDED)
        conn_address_leave(c); /* it stays the proxy's, for the requests of others */
    if (c->worker->trace) conn_trace_answered(c);
}

/* ---- plain HTTP ---- */

static bool is_read(struct conn *c, const struct http_request *r)
{
    if (r->method == HTTP_GET || r->method == HTTP_HEAD) return true;
    conn_http_error(c, r, 405, "use GET");
    return false;
}

static void reply_text(struct conn *c, const struct http_request *r, int status, const char *text)
{
    struct http_reply reply = {.status = status, .body = text, .len = strlen(text)};
    conn_http_reply(c, r, &reply);
}

static void reply_ready(struct conn *c, const struct http_request *r)
{
    const char *tls = c->worker->server->tls_backend;
    char headers[256] = "";
    if (tls) snprintf(headers, sizeof headers, "Roost-TLS: %s\r\n", tls);
    struct http_reply reply = {.status = 200, .headers = headers, .body = "ok\n", .len = 3};
    conn_http_reply(c, r, &reply);
}

static void readyz(struct conn *c, const struct http_request *r)
{
    const struct server *s = c->worker->server;
    if (atomic_load_explicit(&s->draining, memory_order_relaxed))
        conn_http_error(c, r, 503, "draining");
    else if (is_full(s))
        conn_http_error(c, r, 503, "the connection limit is reached");
    else if (no_descriptors(s))
        conn_http_error(c, r, 503, "no descriptor is left for connections");
    else if (conn_queues_full(c->worker->server))
        conn_http_error(c, r, 503, "too much waits to be sent to slow clients");
    else
        reply_ready(c, r);
}

/* render writes all of it, at most METRICS_TEXT_MAX bytes; -1 if that is too little. */
static int64_t render(const struct server *s, const struct metrics_process *p,
                      const struct metrics_form *form, char *out)
{
    const struct metrics *all[WORKERS_MAX];
    const struct kernel_sockets *sockets[WORKERS_MAX];
    uint64_t open = s->conns_max - s->sockets_max; /* what was in use before the first connection */
    for (unsigned i = 0; i < s->worker_count; i++) {
        all[i] = &s->workers[i]->metrics;
        sockets[i] = &s->workers[i]->sockets;
        open += metric_get(all[i], METRIC_SOCKETS);
    }
    const int64_t len = metrics_render(out, METRICS_TEXT_MAX, all, s->worker_count, p, form);
    if (len < 0) return -1;
    struct metrics_text t = {
        .p = out, .cap = METRICS_TEXT_MAX, .len = (size_t)len, .openmetrics = form->openmetrics};
    kernel_render(&t, &(struct kernel_view){.workers = sockets,
                                            .worker_count = s->worker_count,
                                            .listeners = s->listener_urls,
                                            .listener_count = s->listener_count,
                                            .descriptors_open = open,
                                            .descriptors_max = s->conns_max});
    metrics_add_end(&t);
    return t.full ? -1 : (int64_t)t.len;
}

/* resident_bytes reads the process' memory (proc(5)); 0 where there is no /proc. */
static uint64_t resident_bytes(void)
{
    char text[128];
    unsigned long long pages = 0;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd == -1) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return sscanf(text, "%*u %llu", &pages) == 1 ? pages * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static void ask_system(struct metrics_process *p)
{
    struct rusage usage;
    p->resident_bytes = resident_bytes();
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        p->cpu_us = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
                    (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static struct metrics_process process_of(const struct server *s)
{
    struct metrics_process p = {.version = ROOST_VERSION,
                                .tls_backend = s->tls_backend,
                                .channels = pubsub_channel_count(),
                                .used_channels = pubsub_used_count(),
                                .history_bytes = pubsub_history_bytes(),
                                .draining =
                                    atomic_load_explicit(&s->draining, memory_order_relaxed),
                                .start_time_s = s->started_s,
                                .queue_budget_bytes = (uint64_t)conn_options()->queues_max_bytes,
                                .api_method = api_method_name};
    p.generation = settings_now->generation;
    p.reloads = atomic_load_explicit(&s->reloads, memory_order_relaxed);
    p.unfinished_bytes = (uint64_t)atomic_load_explicit(&s->unfinished_bytes, memory_order_relaxed);
    p.reloads_failed = atomic_load_explicit(&s->reloads_failed, memory_order_relaxed);
    p.certificate_reads = atomic_load_explicit(&s->certificate_reads, memory_order_relaxed);
    p.certificate_reads_failed =
        atomic_load_explicit(&s->certificate_reads_failed, memory_order_relaxed);
    p.certificates_end_s = atomic_load_explicit(&s->certificates_end_s, memory_order_relaxed);
    p.reloaded_s = atomic_load_explicit(&s->reloaded_s, memory_order_relaxed);
    struct trace_totals spans;
    trace_export_totals(&spans);
    p.spans_sent = spans.sent;
    p.spans_dropped = spans.dropped;
    p.spans_failed = spans.failed;
    for (unsigned i = 0; i < s->worker_count; i++) {
        const struct mem_stats m = mem_pool_stats(s->workers[i]->pool),
                               secrets = mem_pool_stats(s->workers[i]->secrets);
        p.memory_used_bytes += m.used_bytes + secrets.used_bytes;
        p.memory_mapped_bytes += m.mapped_bytes + secrets.mapped_bytes;
    }
    ask_system(&p);
    return p;
}

/* quality is an element of Accept's weight in thousandths (RFC 9110 section 12.4.2). */
static int quality(struct http_str element)
{
    const char *at = memmem(element.p, element.len, ";q=", 3);
    if (!at) at = memmem(element.p, element.len, "; q=", 4);
    if (!at) return 1000;
    at += at[1] == ' ' ? 4 : 3;
    int q = 0, scale = 1000;
    for (const char *end = element.p + element.len; at < end; at++) {
        if (*at == '.') continue;
        if (*at < '0' || *at > '9') break;
        q += (*at - '0') * scale;
        scale /= 10;
    }
    return q;
}

static bool is_media_type(struct http_str element, const char *type)
{
    const size_t len = strlen(type);
    if (element.len < len || strncasecmp(element.p, type, len) != 0) return false;
    return element.len == len || strchr("; \t", element.p[len]);
}

/* wants_openmetrics: Accept names it, and nothing else that is served with more weight. */
static bool wants_openmetrics(const struct http_request *r)
{
    const struct http_str *line;
    struct http_str element;
    int openmetrics = 0, text = 0;
    for (size_t n = 0; (line = http_header(r, "Accept", n)); n++) {
        struct http_str rest = *line;
        while (http_list_next(&rest, &element)) {
            const int q = quality(element);
            if (is_media_type(element, "application/openmetrics-text"))
                openmetrics = q > openmetrics ? q : openmetrics;
            else if (is_media_type(element, "text/plain"))
                text = q > text ? q : text;
        }
    }
    return openmetrics > 0 && openmetrics >= text;
}

static void metrics(struct conn *c, const struct http_request *r)
{
    const struct server *s = c->worker->server;
    const struct metrics_process p = process_of(s);
    const struct metrics_form form = {.openmetrics = wants_openmetrics(r),
                                      .centrifugo = options()->centrifugo_names};
    char *text = mem_alloc(c->worker->pool, METRICS_TEXT_MAX);
    int64_t len = text ? render(s, &p, &form, text) : -1;
    if (len < 0) {
        conn_http_error(c, r, 503, "out of memory");
    } else {
        struct http_reply reply = {
            .status = 200,
            .content_type = form.openmetrics
                                ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                                : "text/plain; version=0.0.4; charset=utf-8",
            .headers = "Vary: Accept\r\n",
            .body = text,
            .len = (size_t)len};
        conn_http_reply(c, r, &reply);
    }
    mem_free(c->worker->pool, text, METRICS_TEXT_MAX);
}

/* ---- proxies ---- */

/* last_address takes the rightmost element off a list of addresses. */
static bool last_address(struct http_str *list, struct in6_addr *ip, uint16_t *port)
{
    size_t from = list->len;
    while (from > 0 && list->p[from - 1] != ',') from--;
    struct http_str s = {list->p + from, list->len - from};
    list->len = from ? from - 1 : 0;
    while (s.len && (*s.p == ' ' || *s.p == '\t')) s = (struct http_str){s.p + 1, s.len - 1};
    while (s.len && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t')) s.len--;
    return cidr_address(ip, port, s.p, s.len);
}

/* believe_forwarded finds who a trusted proxy speaks for: the last address of X-Forwarded-For that
 * is not itself a trusted proxy's. What stands left of it anybody may have written. */
static void believe_forwarded(struct conn *c, const struct http_request *r)
{
    const struct cidr_list *trusted = &conn_options()->trusted_proxies;
    size_t lines = 0;
    while (http_header(r, "X-Forwarded-For", lines)) lines++;
    if (lines) c->flags &= ~(uint32_t)CONN_LOCAL; /* it came through a proxy, whoever it is */
    while (lines-- > 0) {
        struct http_str list = *http_header(r, "X-Forwarded-For", lines);
        while (list.len) {
            struct in6_addr ip;
            uint16_t port;
            if (!last_address(&list, &ip, &port)) return;
            conn_set_peer(c, &ip, port);
            if (!cidr_contains(trusted, &ip)) return;
        }
    }
}

/* ---- the table of paths ---- */

static bool for_operators(const struct conn *c)
{
    return options()->dev || c->flags & CONN_ADMIN ||
           (c->flags & CONN_LOCAL && !options()->has_admin);
}

static int64_t plain_http(struct conn *c, const struct http_request *r)
{
    if (options()->health &&
        (http_str_is(r->path, "/healthz") || http_str_is(r->path, "/health"))) {
        if (is_read(c, r)) reply_text(c, r, 200, "ok\n");
    } else if (options()->health && http_str_is(r->path, "/readyz")) {
        if (is_read(c, r)) readyz(c, r);
    } else if (options()->metrics && http_str_is(r->path, "/metrics") &&
               (options()->metrics_public || for_operators(c))) {
        if (is_read(c, r)) metrics(c, r);
    } else if (for_operators(c) && http_str_is(r->path, "/debug/slow")) {
        struct api_caller who;
        if (c->flags & CONN_LOCAL || api_may_all(c, r, &who)) debug_slow(c, r);
    } else if (for_operators(c) && console_has(r->path)) {
        return console_head(c, r);
    } else {
        conn_http_error(c, r, 404, "nothing is served at this path");
    }
    return 0;
}

static bool is_api(const struct conn *c, struct http_str path)
{
    return options()->api && starts_with(path, "/api/") &&
           (c->flags & CONN_ADMIN || !options()->has_admin);
}

static bool is_watch(const struct conn *c, struct http_str path)
{
    return http_str_is(path, WATCH_PATH) && for_operators(c) && options()->api;
}

int64_t route_head(struct conn *c, const struct http_request *r)
{
    bool clients = c->flags & CONN_CLIENTS;
    if (c->flags & CONN_FORWARDED) believe_forwarded(c, r);
    if (clients && (is_client_path(r->path) || starts_with(r->path, "/raw/") ||
                    (options()->echo && http_str_is(r->path, "/echo")))) {
        open_websocket(c, r);
        return 0;
    }
    if (is_watch(c, r->path)) {
        struct api_caller who;
        if (is_read(c, r) && api_may_all(c, r, &who)) watch_open(c, r, &who);
        return 0;
    }
    if (is_api(c, r->path)) return api_head(c, r);
    return plain_http(c, r);
}

void route_request(struct conn *c, const struct http_request *r, const char *body, size_t len)
{
    if (is_api(c, r->path)) /* these two alone accept a body */
        api_request(c, r, body, len);
    else
        console_request(c, r, body, len);
}
