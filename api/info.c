/* What the server is doing: the methods info and connections. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/methods.h"
#include "client.h"
#include "hash.h"
#include "tls.h"
#include "worker_errand.h"

#define USERS_EXACT 200000u /* up to so many, users on several workers are counted once */
#define LIST_MAX 1000       /* connections of one reply */
#define LOOK_AT_MAX 10000u  /* connections that a worker looks at for one reply */
#define ENTRY_ROOM 512      /* of a reply, beside the user */

static struct {
    char uid[OPS_UUID_TEXT + 1];
    char name[128];
    struct hash_key key; /* of users' names */
} node;

void api_info_init(const char *node_name)
{
    uint8_t id[16];
    ops_uuid_make(id);
    (void)ops_uuid_text(id, node.uid);
    random_bytes(&node.key, sizeof node.key);
    if (node_name && *node_name)
        snprintf(node.name, sizeof node.name, "%s", node_name);
    else if (gethostname(node.name, sizeof node.name - 1) == -1)
        snprintf(node.name, sizeof node.name, "roost");
}

/* ---- info ---- */

struct info_call {
    struct errand errand;
    struct api_call *call;
    struct mem_pool *pool;
    struct part { /* of one worker: what its users' names hash to */
        struct mem_pool *pool;
        uint64_t *hashes;
        uint32_t count, cap;
    } parts[WORKERS_MAX];
};

static void add_hash(const struct user *u, void *arg)
{
    struct part *p = arg;
    if (p->count < p->cap) p->hashes[p->count++] = hash_bytes(&node.key, u->name, u->len);
}

static void run_info(struct worker *w, struct errand *e)
{
    struct info_call *i = (struct info_call *)(void *)e;
    struct part *p = &i->parts[w->index];
    p->pool = w->pool;
    p->count = p->cap = users_count(w);
    if (!p->cap || p->cap > USERS_EXACT) return;
    p->hashes = mem_alloc(w->pool, p->cap * sizeof *p->hashes);
    if (!p->hashes) return;
    p->count = 0;
    users_visit(w, add_hash, p);
}

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* distinct_users: exact, unless there are very many: then a user on several workers counts once on
 * each. */
static uint64_t distinct_users(const struct info_call *i, unsigned workers, struct mem_pool *pool)
{
    uint64_t total = 0, at = 0, distinct = 0;
    bool known = workers > 1;
    for (unsigned k = 0; k < workers; k++) {
        total += i->parts[k].count;
        known = known && (i->parts[k].hashes || !i->parts[k].count);
    }
    uint64_t *all =
        known && total && total <= USERS_EXACT ? mem_alloc(pool, total * sizeof *all) : NULL;
    if (!all) return total;
    for (unsigned k = 0; k < workers; k++) {
        const struct part *p = &i->parts[k];
        if (p->count) memcpy(all + at, p->hashes, p->count * sizeof *all);
        at += p->count;
    }
    qsort(all, total, sizeof *all, by_value);
    for (uint64_t n = 0; n < total; n++) distinct += n == 0 || all[n] != all[n - 1];
    mem_free(pool, all, total * sizeof *all);
    return distinct;
}

static uint64_t metric_sum(const struct server *s, enum metric id)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < s->worker_count; i++) n += metric_get(&s->workers[i]->metrics, id);
    return n;
}

static void put_field(struct json_out *o, const char *name, uint64_t n)
{
    json_puts(o, ",\"");
    json_puts(o, name);
    json_puts(o, "\":");
    json_put_uint(o, n);
}

static void put_node(struct worker *w, struct json_out *o, uint64_t users)
{
    static const struct {
        const char *name;
        enum metric id;
    } items[] = {{"messages_received", METRIC_MESSAGES_IN}, {"messages_sent", METRIC_MESSAGES_OUT},
                 {"publications", METRIC_PUBLISHED},        {"deliveries", METRIC_DELIVERIES},
                 {"queued_bytes", METRIC_QUEUED_BYTES},     {"slow_closed", METRIC_SLOW_CLOSED}};
    const struct server *s = w->server;
    json_puts(o, "{\"nodes\":[{\"uid\":");
    json_put_string(o, node.uid, OPS_UUID_TEXT);
    json_puts(o, ",\"name\":");
    json_put_string(o, node.name, strlen(node.name));
    json_puts(o, ",\"version\":\"" ROOST_VERSION "\"");
    put_field(o, "num_clients", metric_sum(s, METRIC_CONNECTIONS));
    put_field(o, "num_users", users);
    put_field(o, "num_channels", pubsub_used_count());
    put_field(o, "num_subs", metric_sum(s, METRIC_SUBSCRIPTIONS));
    put_field(o, "uptime", (uint64_t)(w->now_ms - s->started_ms) / 1000);
    put_field(o, "workers", s->worker_count);
    json_puts(o, ",\"metrics\":{\"interval\":0,\"items\":{\"streams\":");
    json_put_uint(o, pubsub_channel_count());
    for (size_t i = 0; i < sizeof items / sizeof *items; i++)
        put_field(o, items[i].name, metric_sum(s, items[i].id));
    json_puts(o, "}}}]}");
}

static void done_info(struct worker *w, struct errand *e)
{
    struct info_call *i = (struct info_call *)(void *)e;
    struct api_call *call = i->call;
    const unsigned workers = w ? w->server->worker_count : WORKERS_MAX;
    const uint64_t users = w ? distinct_users(i, workers, w->pool) : 0;
    for (unsigned k = 0; k < workers; k++)
        if (i->parts[k].hashes)
            mem_free(i->parts[k].pool, i->parts[k].hashes, i->parts[k].cap * sizeof(uint64_t));
    mem_free(i->pool, i, sizeof *i);
    if (w) {
        api_begin(call, 2048);
        put_node(w, &call->o, users);
    }
    call->finished(call, w ? 0 : API_ABANDONED);
}

unsigned api_info(struct api_call *call)
{
    struct info_call *i = mem_zalloc(call->w->pool, sizeof *i);
    if (!i) return 100;
    i->call = call;
    i->pool = call->w->pool;
    i->errand.run = run_info;
    i->errand.done = done_info;
    worker_errand_start(call->w, &i->errand);
    return API_LATER;
}

/* ---- connections ---- */

struct list_call {
    struct errand errand;
    struct api_call *call;
    struct mem_pool *pool;
    bool has_user;
    uint8_t user_len;
    char user[USER_NAME_MAX];
    uint32_t limit;
    struct page { /* of one worker */
        struct mem_pool *pool;
        struct json_out o; /* entries, a comma in front of each */
        uint32_t count;
    } pages[WORKERS_MAX];
};

/* A place among the connections to be shown: those with most in their queue first, then the
 * youngest. */
struct place {
    const struct conn *conn;
    uint64_t queued;
};

static bool comes_before(const struct place *a, const struct place *b)
{
    if (a->queued != b->queued) return a->queued > b->queued;
    return (int32_t)(a->conn->opened - b->conn->opened) > 0;
}

/* insert keeps list sorted and at most max long. */
static uint32_t insert(struct place *list, uint32_t n, uint32_t max, struct place p)
{
    if (n == max && (n == 0 || !comes_before(&p, &list[n - 1]))) return n;
    uint32_t at = n < max ? n++ : n - 1;
    for (; at > 0 && comes_before(&p, &list[at - 1]); at--) list[at] = list[at - 1];
    list[at] = p;
    return n;
}

static void put_connection(struct worker *w, struct page *p, const struct place *at)
{
    static const char *const protocols[] = {
        [CONN_ECHO] = "echo", [CONN_RAW] = "raw", [CONN_CLIENT] = "client"};
    const struct conn *c = at->conn;
    const size_t need = c->user->len * 6u + ENTRY_ROOM;
    char id[API_ID_MAX], peer[CONN_PEER_TEXT];
    if (p->o.cap - p->o.len < need) {
        const size_t cap = p->o.cap * 2 + need;
        char *bigger = mem_alloc(w->pool, cap);
        if (!bigger) return;
        if (p->o.len) memcpy(bigger, p->o.p, p->o.len);
        mem_free(w->pool, p->o.p, p->o.cap);
        p->o.p = bigger;
        p->o.cap = cap;
    }
    struct json_out *o = &p->o;
    const struct text name = api_connection_id(c, id);
    const char *from = conn_peer_text(c, peer);
    json_puts(o, ",");
    json_put_string(o, name.p, name.len);
    json_puts(o, ":{\"user\":");
    json_put_string(o, c->user->name, c->user->len);
    json_puts(o, ",\"protocol\":");
    json_put_string(o, protocols[c->protocol], strlen(protocols[c->protocol]));
    json_puts(o, ",\"peer\":");
    json_put_string(o, from, strlen(from));
    json_puts(o, c->flags & CONN_TLS ? ",\"tls\":true" : ",\"tls\":false");
    put_field(o, "worker", w->index);
    put_field(o, "age", (uint64_t)(worker_tick(w) - c->opened) * WORKER_TICK_MS / 1000);
    put_field(o, "queued_bytes", at->queued);
    put_field(o, "channels",
              c->protocol == CONN_CLIENT ? client_channel_count(c) : pubsub_is_subscribed(c));
    put_field(o, "messages_received", c->messages_in);
    put_field(o, "messages_sent", c->messages_out);
    json_puts(o, "}");
    p->count++;
}

static void run_list(struct worker *w, struct errand *e)
{
    struct list_call *l = (struct list_call *)(void *)e;
    struct page *p = &l->pages[w->index];
    const size_t size = (l->limit + 1) * sizeof(struct place);
    struct place *list = mem_alloc(w->pool, size);
    const struct user *who = l->has_user ? users_find(w, l->user, l->user_len) : NULL;
    const uint32_t count = w->conns.count,
                   most = l->has_user || count < LOOK_AT_MAX ? count : LOOK_AT_MAX;
    const uint32_t from = most < count ? (uint32_t)(worker_random(w) % count) : 0;
    uint32_t n = 0;
    p->pool = w->pool;
    for (uint32_t i = 0; list && i < most && (who || !l->has_user); i++) {
        const struct conn *c = w->conns.items[(from + i) % count];
        if (c->state != CONN_OPEN || !c->user || (l->has_user && c->user != who)) continue;
        n = insert(list, n, l->limit, (struct place){c, outq_bytes(c->out)});
    }
    for (uint32_t i = 0; i < n; i++) put_connection(w, p, &list[i]);
    mem_free(w->pool, list, size);
}

static void put_pages(struct list_call *l, const struct server *s)
{
    struct api_call *call = l->call;
    bool first = true;
    api_begin(call, 64);
    json_puts(&call->o, "{\"connections\":{");
    for (unsigned i = 0; i < s->worker_count; i++) {
        const struct json_out *o = &l->pages[i].o;
        if (!o->len) continue;
        api_begin(call, o->len + 64);
        json_put(&call->o, o->p + first, o->len - first); /* without its first comma */
        first = false;
    }
    json_puts(&call->o, "}}");
}

static void done_list(struct worker *w, struct errand *e)
{
    struct list_call *l = (struct list_call *)(void *)e;
    struct api_call *call = l->call;
    if (w) put_pages(l, w->server);
    for (unsigned i = 0; i < WORKERS_MAX; i++)
        if (l->pages[i].pool) mem_free(l->pages[i].pool, l->pages[i].o.p, l->pages[i].o.cap);
    mem_free(l->pool, l, sizeof *l);
    call->finished(call, w ? 0 : API_ABANDONED);
}

/* api_connections lists a worker's connections, `limit` of each: ours, not of protocol.md. With
 * very many it looks at some of them. */
unsigned api_connections(struct api_call *call)
{
    int64_t limit = 100, n = 0;
    int v;
    struct list_call *l = mem_zalloc(call->w->pool, sizeof *l);
    if (!l) return 100;
    bool ok = api_optional_int(call->doc, "limit", &limit) &&
              api_optional(call->doc, "user", JSON_STRING, &v);
    if (ok && v != JSON_NONE) n = json_string(call->doc, v, l->user, sizeof l->user);
    if (!ok || n < 0 || limit < 1 || limit > LIST_MAX) {
        mem_free(call->w->pool, l, sizeof *l);
        return ok ? 107 : API_BAD_REQUEST;
    }
    l->has_user = v != JSON_NONE;
    l->user_len = (uint8_t)n;
    l->limit = (uint32_t)limit;
    l->call = call;
    l->pool = call->w->pool;
    l->errand.run = run_list;
    l->errand.done = done_list;
    worker_errand_start(call->w, &l->errand);
    return API_LATER;
}
