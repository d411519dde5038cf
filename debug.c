#include "debug.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/methods.h"
#include "client.h"
#include "kernel.h"
#include "pubsub.h"
#include "worker_errand.h"

#define LOOKS_MAX 50000u /* connections that a worker looks at for an answer */
#define ROW_ROOM 512     /* of an answer, beside the user */

struct row {
    char id[API_ID_MAX], user[USER_NAME_MAX], peer[CONN_PEER_TEXT];
    size_t id_len, user_len;
    uint64_t queued_bytes, unsent_bytes, age_s, subscriptions;
    double rtt_ms; /* < 0: the kernel does not say, as for a Unix socket */
};

struct slow_call {
    struct errand errand;
    struct conn *conn; /* NULL: it has gone */
    struct mem_pool *pool;
    size_t size; /* of all this */
    bool json;
    uint32_t counts[WORKERS_MAX];
    struct row rows[]; /* DEBUG_SLOW_MAX a worker */
};

/* ---- one worker ---- */

static bool is_client(const struct conn *c)
{
    return c->state == CONN_OPEN && c->user;
}

/* insert keeps list sorted, the longest queue first, and at most DEBUG_SLOW_MAX long. */
static uint32_t insert(const struct conn **list, uint32_t n, const struct conn *c)
{
    const uint32_t bytes = outq_bytes(c->out);
    if (n == DEBUG_SLOW_MAX && outq_bytes(list[n - 1]->out) >= bytes) return n;
    uint32_t at = n < DEBUG_SLOW_MAX ? n++ : n - 1;
    for (; at > 0 && outq_bytes(list[at - 1]->out) < bytes; at--) list[at] = list[at - 1];
    list[at] = c;
    return n;
}

static void fill(struct row *r, const struct conn *c)
{
    uint32_t rtt_us, unsent;
    const struct text id = api_connection_id(c, r->id);
    r->id_len = id.len;
    memmove(r->id, id.p, id.len);
    r->user_len = c->user->len;
    memcpy(r->user, c->user->name, r->user_len);
    conn_peer_text(c, r->peer);
    r->queued_bytes = outq_bytes(c->out);
    r->unsent_bytes = kernel_ask_unsent(c->fd);
    r->rtt_ms = kernel_ask_connection(c->fd, &rtt_us, &unsent) ? rtt_us / 1000.0 : -1;
    r->age_s = (uint64_t)(worker_tick(c->worker) - c->opened) * WORKER_TICK_MS / 1000;
    r->subscriptions =
        c->protocol == CONN_CLIENT ? client_channel_count(c) : pubsub_is_subscribed(c);
}

static void run(struct worker *w, struct errand *e)
{
    struct slow_call *s = (struct slow_call *)(void *)e;
    const struct conn *list[DEBUG_SLOW_MAX];
    const uint32_t count = w->waiting.count, most = count < LOOKS_MAX ? count : LOOKS_MAX;
    const uint32_t from = most < count ? (uint32_t)(worker_random(w) % count) : 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < most; i++) {
        const struct conn *c = w->waiting.items[(from + i) % count];
        if (is_client(c)) n = insert(list, n, c);
    }
    for (uint32_t i = 0; i < n; i++) fill(&s->rows[w->index * DEBUG_SLOW_MAX + i], list[i]);
    s->counts[w->index] = n;
}

/* ---- all of them ---- */

static int longest_first(const void *a, const void *b)
{
    const struct row *x = *(const struct row *const *)a, *y = *(const struct row *const *)b;
    return (x->queued_bytes < y->queued_bytes) - (x->queued_bytes > y->queued_bytes);
}

/* gather sorts the rows of all workers; returns how many are told. */
static uint32_t gather(const struct slow_call *s, const struct row **out, unsigned workers)
{
    uint32_t n = 0;
    for (unsigned w = 0; w < workers; w++)
        for (uint32_t i = 0; i < s->counts[w]; i++) out[n++] = &s->rows[w * DEBUG_SLOW_MAX + i];
    qsort(out, n, sizeof *out, longest_first);
    return n < DEBUG_SLOW_MAX ? n : DEBUG_SLOW_MAX;
}

static void put_field(struct json_out *o, const char *name, uint64_t n)
{
    json_puts(o, ",\"");
    json_puts(o, name);
    json_puts(o, "\":");
    json_put_uint(o, n);
}

static void put_json(struct json_out *o, const struct row *r, bool first)
{
    char rtt[32];
    json_puts(o, first ? "\n{\"connection\":" : ",\n{\"connection\":");
    json_put_string(o, r->id, r->id_len);
    json_puts(o, ",\"user\":");
    json_put_string(o, r->user, r->user_len);
    json_puts(o, ",\"peer\":");
    json_put_string(o, r->peer, strlen(r->peer));
    put_field(o, "queued_bytes", r->queued_bytes);
    put_field(o, "unsent_bytes", r->unsent_bytes);
    snprintf(rtt, sizeof rtt, "%.3f", r->rtt_ms);
    json_puts(o, ",\"rtt_ms\":");
    json_puts(o, r->rtt_ms < 0 ? "null" : rtt);
    put_field(o, "age_s", r->age_s);
    put_field(o, "subscriptions", r->subscriptions);
    json_puts(o, "}");
}

/* put_line: a user's name may hold anything, so it is the last column, as a JSON string. */
static void put_line(struct json_out *o, const struct row *r)
{
    char line[ROW_ROOM], rtt[32];
    snprintf(rtt, sizeof rtt, r->rtt_ms < 0 ? "-" : "%.3f", r->rtt_ms);
    snprintf(line, sizeof line, "%-36.*s %-24s %12llu %12llu %9s %8llu %5llu ", (int)r->id_len,
             r->id, r->peer, (unsigned long long)r->queued_bytes,
             (unsigned long long)r->unsent_bytes, rtt, (unsigned long long)r->age_s,
             (unsigned long long)r->subscriptions);
    json_puts(o, line);
    json_put_string(o, r->user, r->user_len);
    json_puts(o, "\n");
}

static void put_all(struct json_out *o, const struct row *const *rows, uint32_t n, bool json)
{
    char head[ROW_ROOM];
    snprintf(head, sizeof head, "%-36s %-24s %12s %12s %9s %8s %5s %s\n", "connection", "peer",
             "queued_bytes", "unsent_bytes", "rtt_ms", "age_s", "subs", "user");
    json_puts(o, json ? "{\"slow\":[" : head);
    for (uint32_t i = 0; i < n; i++)
        if (json)
            put_json(o, rows[i], i == 0);
        else
            put_line(o, rows[i]);
    if (json) json_puts(o, n ? "\n]}\n" : "]}\n");
}

static void answer(struct conn *c, const struct slow_call *s)
{
    static const char no_memory[] = "503 Service Unavailable: out of memory\n";
    struct worker *w = c->worker;
    const unsigned workers = w->server->worker_count;
    const size_t list_size = workers * DEBUG_SLOW_MAX * sizeof(struct row *);
    const size_t cap = (DEBUG_SLOW_MAX + 1) * (size_t)(ROW_ROOM + 6 * USER_NAME_MAX);
    const struct row **rows = mem_alloc(w->pool, list_size);
    struct json_out o = {.p = mem_alloc(w->pool, cap), .cap = cap};
    if (rows && o.p) {
        put_all(&o, rows, gather(s, rows, workers), s->json);
        conn_http_answer(c,
                         &(struct http_reply){.status = 200,
                                              .content_type = s->json ? "application/json" : NULL,
                                              .headers = "Cache-Control: no-store\r\n",
                                              .body = o.p,
                                              .len = o.len});
    } else {
        conn_http_answer(
            c, &(struct http_reply){.status = 503, .body = no_memory, .len = sizeof no_memory - 1});
    }
    mem_free(w->pool, rows, list_size);
    mem_free(w->pool, o.p, cap);
}

static void done(struct worker *w, struct errand *e)
{
    struct slow_call *s = (struct slow_call *)(void *)e;
    struct conn *c = s->conn;
    if (c) c->channel = NULL;
    if (c && w) answer(c, s);
    mem_free(s->pool, s, s->size);
}

void debug_slow(struct conn *c, const struct http_request *r)
{
    struct worker *w = c->worker;
    struct http_str format;
    if (r->method != HTTP_GET || r->chunked || r->content_length) {
        conn_http_error(c, r, 405, "use GET, without a body");
        return;
    }
    const size_t size =
        sizeof(struct slow_call) + w->server->worker_count * DEBUG_SLOW_MAX * sizeof(struct row);
    struct slow_call *s = mem_zalloc(w->pool, size);
    if (!s) {
        conn_http_error(c, r, 503, "out of memory");
        return;
    }
    s->errand.run = run;
    s->errand.done = done;
    s->conn = c;
    s->pool = w->pool;
    s->size = size;
    s->json = http_query_get(r->query, "format", &format) && http_str_is(format, "json");
    c->channel = &s->conn;
    conn_http_later(c);
    worker_errand_start(w, &s->errand);
}
