#include "watch.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/methods.h"
#include "client.h"
#include "log.h"
#include "pubsub.h"
#include "users.h"
#include "worker_errand.h"

#define LIMIT 100
#define SECONDS 300
#define BUFFER (256u * 1024)   /* lines that wait for their watcher's worker */
#define QUEUE_MAX (64u * 1024) /* bytes in its out queue beyond which it is not given more */
#define LINE_MAX_BYTES 8192
#define REPORT_MS 1000 /* how often it is told what was left out */
#define ALIVE_MS 15000 /* without a line it is told that we are there */
#define FILTER_MAX 256

struct filter { /* text of one condition */
    bool given;
    size_t len;
    char text[FILTER_MAX];
};

/* One connection, by the name that the API gives it: read once, since what each message compares
 * is to be cheap. */
struct wanted {
    bool given;
    bool counted;     /* is of a protocol; false: no more than HTTP yet */
    uint8_t protocol; /* of a counted one; CONN_CLIENT: uuid, else worker and id */
    unsigned worker;
    uint32_t id;
    uint8_t uuid[16];
};

struct watcher {
    struct errand begin, end;
    unsigned over;     /* of these two errands, how many are done; the second one frees */
    struct conn *conn; /* on the asker's worker alone; NULL: it has gone */
    struct filter user, channel;
    struct filter name; /* of wanted */
    struct wanted wanted;
    bool payload;
    int64_t limit;
    int64_t ends_ms, at_ms, report_ms, alive_ms; /* of the asker */
    int64_t gained;                              /* thousandths of a line, not in credit yet */
    uint64_t told;                               /* of what was left out */
    uint64_t shown;                              /* lines about connections; of the asker */
    char who[API_KEY_NAME];
    _Atomic int64_t credit; /* lines that may be given; relaxed */
    pthread_mutex_t lock;   /* of lines, len and count */
    char *lines, *spare;
    size_t len;
    unsigned count;
    struct watching { /* what belongs to one worker */
        _Alignas(64) struct watcher *next;
        _Atomic uint64_t left_out; /* lines; written by that worker, relaxed */
    } at[WORKERS_MAX];
};

static _Atomic int watchers; /* relaxed; in the process */

/* ---- on every worker's list ---- */

static void run_begin(struct worker *w, struct errand *e)
{
    struct watcher *t = (struct watcher *)((char *)e - offsetof(struct watcher, begin));
    t->at[w->index].next = w->watchers;
    w->watchers = t;
}

static void run_end(struct worker *w, struct errand *e)
{
    struct watcher *t = (struct watcher *)((char *)e - offsetof(struct watcher, end));
    struct watcher *before = w->watchers;
    if (before == t) {
        w->watchers = t->at[w->index].next;
        return;
    }
    while (before->at[w->index].next != t) before = before->at[w->index].next;
    before->at[w->index].next = t->at[w->index].next;
}

static void free_watcher(struct watcher *t)
{
    pthread_mutex_destroy(&t->lock);
    free(t->lines);
    free(t->spare);
    free(t);
}

/* done_with: when the server ends, the way back of the first may be found behind the second. */
static void done_with(struct watcher *t)
{
    if (++t->over < 2) return;
    free_watcher(t);
    atomic_fetch_sub_explicit(&watchers, 1, memory_order_relaxed);
}

static void say(struct watcher *t, const char *line)
{
    if (t->conn && t->conn->state == CONN_HTTP) conn_http_chunk(t->conn, line, strlen(line));
}

static int64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void done_begin(struct worker *w, struct errand *e)
{
    struct watcher *t = (struct watcher *)((char *)e - offsetof(struct watcher, begin));
    char line[96];
    snprintf(line, sizeof line, "{\"time\":%" PRId64 ",\"event\":\"watching\"}\n", wall_ms());
    if (w) say(t, line);
    done_with(t);
}

static void done_end(struct worker *w, struct errand *e)
{
    struct watcher *t = (struct watcher *)((char *)e - offsetof(struct watcher, end));
    if (w) metric_sub(&w->metrics, METRIC_WATCHERS, 1);
    done_with(t);
}

/* ---- is it meant? ---- */

static bool is(const struct filter *f, const char *text, size_t len)
{
    return f->len == len && (len == 0 || memcmp(f->text, text, len) == 0);
}

static bool is_wanted(const struct wanted *k, const struct conn *c)
{
    const bool counted = c->flags & CONN_COUNTED;
    if (counted != k->counted || (counted && c->protocol != k->protocol)) return false;
    if (counted && k->protocol == CONN_CLIENT)
        return c->channel && memcmp(client_of(c)->id, k->uuid, sizeof k->uuid) == 0;
    return c->id == k->id && c->worker->index == k->worker;
}

static struct text name_of(const struct conn *c, char out[static API_ID_MAX])
{
    if (c->flags & CONN_COUNTED) return api_connection_id(c, out);
    const int n = snprintf(out, API_ID_MAX, "http-%u-%" PRIu32, c->worker->index, c->id);
    return text_of(out, (size_t)n);
}

/* has_channel: is c in the channel, or the event of it? */
static bool has_channel(const struct filter *f, const struct conn *c, const struct conn_sight *s)
{
    size_t len;
    if (s->channel) return is(f, s->channel, s->channel_len);
    if (!(c->flags & CONN_COUNTED) || !c->channel) return false;
    if (c->protocol == CONN_CLIENT) return client_find(client_of(c), f->text, f->len) != NULL;
    const char *name = pubsub_name(pubsub_shared(c->channel), &len);
    return is(f, name, len);
}

static bool has_user(const struct filter *f, const struct conn *c, const struct conn_sight *s)
{
    if (s->user) return is(f, s->user, s->user_len);
    return c->user && is(f, c->user->name, c->user->len);
}

static bool is_meant(const struct watcher *t, const struct conn *c, const struct conn_sight *s)
{
    if (t->wanted.given && !is_wanted(&t->wanted, c)) return false;
    if (t->user.given && !has_user(&t->user, c, s)) return false;
    return !t->channel.given || has_channel(&t->channel, c, s);
}

/* may_be_on: is who is wanted a connection of this worker, as far as the name says? */
static bool may_be_on(const struct wanted *k, const struct worker *w)
{
    return !k->given || k->protocol == CONN_CLIENT || k->worker == w->index;
}

bool watch_follows(const struct worker *w, const char *channel, size_t len)
{
    for (const struct watcher *t = w->watchers; t; t = t->at[w->index].next)
        if (may_be_on(&t->wanted, w) && (!t->channel.given || is(&t->channel, channel, len)))
            return true;
    return false;
}

/* ---- a line ---- */

static void put_text(struct json_out *o, const char *name, const char *text, size_t len)
{
    json_puts(o, ",\"");
    json_puts(o, name);
    json_puts(o, "\":");
    json_put_string(o, text, len);
}

static void put_number(struct json_out *o, const char *name, uint64_t n)
{
    json_puts(o, ",\"");
    json_puts(o, name);
    json_puts(o, "\":");
    json_put_uint(o, n);
}

/* cut gives how much of a payload is shown: whole characters, if it is UTF-8. */
static size_t cut(const uint8_t *p, size_t len, bool *utf8)
{
    uint32_t state = 0;
    size_t n = len < WATCH_PAYLOAD_MAX ? len : WATCH_PAYLOAD_MAX;
    if (n < len)
        for (unsigned i = 0; i < 3 && n > 1 && (p[n] & 0xc0) == 0x80; i++) n--;
    *utf8 = ws_utf8(&state, p, n) && ws_utf8_done(state);
    return n;
}

/* may_hold_token: may this message carry a token of the client protocol (connect, refresh,
 * sub_refresh, subscribe)? Then nothing of it is shown: it lets its reader in as somebody else. The
 * name is looked for in all of the message, in a payload of publish as well, which is the price of
 * not parsing it; also where letters of it are escaped: \u006 and \u007 begin all of them. */
static bool may_hold_token(const struct conn *c, const struct conn_sight *s)
{
    static const char *const signs[] = {"token", "\\u006", "\\u007"};
    if (s->kind != SIGHT_MESSAGE || c->protocol != CONN_CLIENT) return false;
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (memmem(s->payload, s->len, signs[i], strlen(signs[i]))) return true;
    return false;
}

/* put_payload: control characters, what is no UTF-8, and the backslash that says so, are \xNN. */
static void put_payload(struct json_out *o, const uint8_t *p, size_t len)
{
    char text[WATCH_PAYLOAD_MAX * 4 + 1];
    size_t at = 0;
    bool utf8;
    const size_t n = cut(p, len, &utf8);
    for (size_t i = 0; i < n; i++) {
        const bool c1 = p[i] == 0xc2 && i + 1 < n && p[i + 1] < 0xa0;
        const bool plain = p[i] < 0x80 ? p[i] >= ' ' && p[i] != 0x7f && p[i] != '\\' : utf8 && !c1;
        if (plain)
            text[at++] = (char)p[i];
        else
            at += (size_t)snprintf(text + at, 5, "\\x%02x", p[i]);
        if (c1 && utf8) at += (size_t)snprintf(text + at, 5, "\\x%02x", p[++i]);
    }
    put_text(o, "payload", text, at);
    if (n < len) json_puts(o, ",\"cut\":true");
}

static void put_conn(struct json_out *o, const struct conn *c, const struct conn_sight *s)
{
    char id[API_ID_MAX], peer[CONN_PEER_TEXT];
    const struct text name = name_of(c, id);
    put_text(o, "conn", name.p, name.len);
    if (s->user)
        put_text(o, "user", s->user, s->user_len);
    else if (c->user)
        put_text(o, "user", c->user->name, c->user->len);
    if (s->kind != SIGHT_CONNECTED && s->kind != SIGHT_REFUSED) return;
    conn_peer_text(c, peer);
    put_text(o, "peer", peer, strlen(peer));
}

static void put_line(struct json_out *o, const struct watcher *t, const struct conn *c,
                     const struct conn_sight *s)
{
    static const char *const events[] = {
        [SIGHT_CONNECTED] = "connected",   [SIGHT_CLOSED] = "closed",
        [SIGHT_SUBSCRIBED] = "subscribed", [SIGHT_UNSUBSCRIBED] = "unsubscribed",
        [SIGHT_MESSAGE] = "message",       [SIGHT_DELIVERED] = "delivered",
        [SIGHT_REFUSED] = "refused"};
    json_puts(o, "{\"time\":");
    json_put_int(o, wall_ms());
    json_puts(o, ",\"event\":\"");
    json_puts(o, events[s->kind]);
    json_puts(o, "\"");
    put_conn(o, c, s);
    if (s->channel) put_text(o, "channel", s->channel, s->channel_len);
    if (s->payload) put_number(o, "bytes", s->len);
    if (s->offset) put_number(o, "offset", s->offset);
    if (s->code) put_number(o, "code", s->code);
    if (s->text) put_text(o, "reason", s->text, strlen(s->text));
    if (t->payload && s->payload) {
        if (may_hold_token(c, s))
            json_puts(o, ",\"hidden\":\"token\"");
        else
            put_payload(o, s->payload, s->len);
    }
    json_puts(o, "}\n");
}

/* ---- giving it ---- */

static void leave_out(struct watcher *t, struct worker *w)
{
    _Atomic uint64_t *n = &t->at[w->index].left_out;
    const uint64_t before = atomic_load_explicit(n, memory_order_relaxed);
    atomic_store_explicit(n, before + 1, memory_order_relaxed);
    metric_add(&w->metrics, METRIC_WATCH_LEFT_OUT, 1);
}

/* take_credit: above the rate nothing is written that all workers share. */
static bool take_credit(struct watcher *t)
{
    return atomic_load_explicit(&t->credit, memory_order_relaxed) > 0 &&
           atomic_fetch_sub_explicit(&t->credit, 1, memory_order_relaxed) > 0;
}

static bool append(struct watcher *t, const char *line, size_t len)
{
    pthread_mutex_lock(&t->lock);
    const bool fits = BUFFER - t->len >= len;
    if (fits) {
        memcpy(t->lines + t->len, line, len);
        t->len += len;
        t->count++;
    }
    pthread_mutex_unlock(&t->lock);
    return fits;
}

static void give(struct watcher *t, struct worker *w, const struct conn *c,
                 const struct conn_sight *s)
{
    char line[LINE_MAX_BYTES];
    struct json_out o = {.p = line, .cap = sizeof line};
    if (!take_credit(t)) {
        leave_out(t, w);
        return;
    }
    put_line(&o, t, c, s);
    if (o.full || !append(t, line, o.len))
        leave_out(t, w);
    else
        metric_add(&w->metrics, METRIC_WATCH_LINES, 1);
}

void watch_seen(struct conn *c, const struct conn_sight *s)
{
    struct worker *w = c->worker;
    for (struct watcher *t = w->watchers; t; t = t->at[w->index].next)
        if (is_meant(t, c, s)) give(t, w, c, s);
}

/* ---- the watcher's own connection ---- */

/* earn lets so many lines pass as the time since the last part allows, a second's worth at most. */
static void earn(struct watcher *t, int64_t now_ms)
{
    const int64_t have = atomic_load_explicit(&t->credit, memory_order_relaxed);
    t->gained += t->limit * (now_ms - t->at_ms);
    t->at_ms = now_ms;
    int64_t lines = t->gained / 1000;
    t->gained -= lines * 1000;
    if (lines > t->limit - have) lines = t->limit - have;
    if (lines > 0) atomic_fetch_add_explicit(&t->credit, lines, memory_order_relaxed);
}

/* hand_out sends what has been gathered; false: nothing. */
static bool hand_out(struct watcher *t)
{
    pthread_mutex_lock(&t->lock);
    char *lines = t->lines;
    const size_t len = t->len;
    t->lines = t->spare;
    t->spare = lines;
    t->len = 0;
    t->shown += t->count;
    t->count = 0;
    pthread_mutex_unlock(&t->lock);
    if (len) conn_http_chunk(t->conn, lines, len);
    return len > 0;
}

static uint64_t left_out(const struct watcher *t)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < t->conn->worker->server->worker_count; i++)
        n += atomic_load_explicit(&t->at[i].left_out, memory_order_relaxed);
    return n;
}

static void report(struct watcher *t, bool last)
{
    char line[128];
    const struct worker *w = t->conn->worker;
    if (!last && w->now_ms < t->report_ms) return;
    t->report_ms = w->now_ms + REPORT_MS;
    const uint64_t n = left_out(t);
    if (n == t->told) return;
    snprintf(line, sizeof line,
             "{\"time\":%" PRId64 ",\"event\":\"left_out\",\"lines\":%" PRIu64 "}\n", wall_ms(),
             n - t->told);
    t->told = n;
    say(t, line);
}

/* still_there says something if nothing has been said for long. */
static void still_there(struct watcher *t, bool said)
{
    char line[96];
    const int64_t now_ms = t->conn->worker->now_ms;
    const bool silent = !said && now_ms >= t->alive_ms;
    if (said || silent) t->alive_ms = now_ms + ALIVE_MS;
    if (!silent) return;
    snprintf(line, sizeof line, "{\"time\":%" PRId64 ",\"event\":\"alive\"}\n", wall_ms());
    say(t, line);
}

static void end(struct watcher *t, const char *why)
{
    char line[128];
    (void)hand_out(t);
    if (t->conn->state == CONN_HTTP) report(t, true);
    snprintf(line, sizeof line, "{\"time\":%" PRId64 ",\"event\":\"end\",\"reason\":\"%s\"}\n",
             wall_ms(), why);
    say(t, line);
    if (t->conn->state == CONN_HTTP) conn_http_stream_end(t->conn);
}

void watch_stream(struct conn *c)
{
    struct watcher *t = c->channel;
    if (c->state != CONN_HTTP) return;
    if (c->worker->stopped != WORKER_RUNS) {
        end(t, "the server stops");
        return;
    }
    if (c->worker->now_ms >= t->ends_ms) {
        end(t, "the time is over");
        return;
    }
    earn(t, c->worker->now_ms);
    if (outq_bytes(c->out) < QUEUE_MAX) {
        const bool said = hand_out(t);
        if (c->state == CONN_HTTP) report(t, false);
        if (c->state == CONN_HTTP) still_there(t, said);
    }
    if (c->state == CONN_HTTP) conn_arm(c, CONN_DEADLINE_STREAM, CONN_STREAM_MS);
}

/* audit tells the log whom somebody follows; in the end also how much that has been. */
static void audit(const struct watcher *t, const char *event, bool over)
{
    char peer[CONN_PEER_TEXT];
    conn_peer_text(t->conn, peer);
    const struct log_field shown = over ? LOG_U64("lines", t->shown) : LOG_END,
                           missed = over ? LOG_U64("left_out", left_out(t)) : LOG_END;
    log_event(LOG_INFO, event, LOG_STR("key", t->who), LOG_STR("peer", peer),
              LOG_STRN("user", t->user.text, t->user.len),
              LOG_STRN("channel", t->channel.text, t->channel.len),
              LOG_STRN("conn", t->name.text, t->name.len),
              LOG_STR("payload", t->payload ? "yes" : "no"), shown, missed);
}

void watch_ended(struct conn *c)
{
    struct watcher *t = c->channel;
    if (!(c->flags & CONN_STREAMS) || !t) return;
    audit(t, "somebody has followed connections", true);
    c->channel = NULL;
    t->conn = NULL;
    t->end.run = run_end;
    t->end.done = done_end;
    worker_errand_start(c->worker, &t->end);
}

/* ---- opening one ---- */

static bool read_filter(struct filter *f, const struct http_request *r, const char *name)
{
    struct http_str v;
    f->given = http_query_get(r->query, name, &v);
    const int64_t n = f->given ? http_percent_decode(f->text, sizeof f->text, v) : 0;
    f->len = n > 0 ? (size_t)n : 0;
    return n >= 0;
}

/* read_number: what is absent stays as it is. */
static bool read_number(const struct http_request *r, const char *name, int64_t most, int64_t *out)
{
    struct http_str v;
    if (!http_query_get(r->query, name, &v)) return true;
    int64_t n = 0;
    for (size_t i = 0; i < v.len && n <= most; i++) {
        if (v.p[i] < '0' || v.p[i] > '9') return false;
        n = n * 10 + (v.p[i] - '0');
    }
    *out = n;
    return n >= 1 && n <= most;
}

/* read_id reads digits as an id is written: no zero in front. Returns how many, 0: none. */
static size_t read_id(const char *p, size_t len, uint32_t *out)
{
    uint64_t n = 0;
    size_t i = 0;
    for (; i < len && p[i] >= '0' && p[i] <= '9' && n <= UINT32_MAX; i++)
        n = n * 10 + (uint64_t)(p[i] - '0');
    *out = (uint32_t)n;
    return n > UINT32_MAX || (i > 1 && *p == '0') ? 0 : i;
}

/* read_place reads W-N, all of p. */
static bool read_place(struct wanted *k, const char *p, size_t len)
{
    uint32_t worker = 0;
    const size_t n = read_id(p, len, &worker);
    if (!n || n == len || p[n] != '-') return false;
    k->worker = worker;
    const size_t rest = len - n - 1;
    return rest && read_id(p + n + 1, rest, &k->id) == rest;
}

static bool read_name(struct wanted *k, const struct filter *name)
{
    static const struct {
        const char *prefix;
        bool counted;
        uint8_t protocol;
    } kinds[] = {{"raw-", true, CONN_RAW}, {"echo-", true, CONN_ECHO}, {"http-", false, CONN_ECHO}};
    *k = (struct wanted){.given = name->given, .counted = true, .protocol = CONN_CLIENT};
    if (!name->given || ops_uuid_read(text_of(name->text, name->len), k->uuid)) return true;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const size_t n = strlen(kinds[i].prefix);
        if (name->len <= n || memcmp(name->text, kinds[i].prefix, n) != 0) continue;
        k->counted = kinds[i].counted;
        k->protocol = kinds[i].protocol;
        return read_place(k, name->text + n, name->len - n);
    }
    return false;
}

/* read_wish returns what is wrong with r, or NULL. */
static const char *read_wish(struct watcher *t, const struct http_request *r, int64_t now_ms)
{
    struct http_str v;
    int64_t seconds = SECONDS;
    t->limit = LIMIT;
    if (r->method != HTTP_GET) return "use GET";
    if (r->minor == 0) return "this needs HTTP/1.1";
    if (r->chunked || r->content_length) return "this takes no body";
    if (!read_filter(&t->user, r, "user") || !read_filter(&t->channel, r, "channel") ||
        !read_filter(&t->name, r, "conn"))
        return "user, channel or conn is too long, or not well percent-encoded";
    if (!t->user.given && !t->channel.given && !t->name.given)
        return "say whom: ?user=NAME, ?channel=NAME or ?conn=ID";
    if (!read_name(&t->wanted, &t->name))
        return "conn is an id as the API's connections shows it: a UUID, or such as raw-0-17";
    if (!read_number(r, "limit", WATCH_LIMIT_MAX, &t->limit))
        return "limit is lines a second, from 1 to 10000";
    if (!read_number(r, "seconds", WATCH_SECONDS_MAX, &seconds))
        return "seconds is from 1 to 86400";
    t->payload = http_query_get(r->query, "payload", &v) && http_str_is(v, "1");
    t->ends_ms = now_ms + seconds * 1000;
    return NULL;
}

static struct watcher *new_watcher(void)
{
    struct watcher *t = aligned_alloc(_Alignof(struct watcher), sizeof *t);
    if (!t) return NULL;
    memset(t, 0, sizeof *t);
    pthread_mutex_init(&t->lock, NULL);
    t->lines = malloc(BUFFER);
    t->spare = malloc(BUFFER);
    if (t->lines && t->spare) return t;
    free_watcher(t);
    return NULL;
}

/* begin puts t, which it takes over, to work. */
static void begin(struct conn *c, struct watcher *t, const struct api_caller *who)
{
    struct worker *w = c->worker;
    memcpy(t->who, who->name, sizeof t->who);
    t->conn = c;
    audit(t, "somebody follows connections", false);
    t->at_ms = w->now_ms;
    t->alive_ms = w->now_ms + ALIVE_MS;
    atomic_init(&t->credit, t->limit);
    metric_add(&w->metrics, METRIC_WATCHERS, 1);
    c->channel = t;
    conn_http_stream(c, "application/x-ndjson");
    c->flags |= CONN_STREAMS; /* also if memory was out for the head: then it ends as any other */
    t->begin.run = run_begin;
    t->begin.done = done_begin;
    worker_errand_start(w, &t->begin);
}

static void no_more(struct conn *c, const struct http_request *r, int status, const char *why)
{
    atomic_fetch_sub_explicit(&watchers, 1, memory_order_relaxed);
    conn_http_error(c, r, status, why);
}

void watch_open(struct conn *c, const struct http_request *r, const struct api_caller *who)
{
    if (atomic_fetch_add_explicit(&watchers, 1, memory_order_relaxed) >= WATCHERS_MAX) {
        no_more(c, r, 429, "four follow connections already");
        return;
    }
    struct watcher *t = new_watcher();
    const char *why = t ? read_wish(t, r, c->worker->now_ms) : "out of memory";
    if (!why) {
        begin(c, t, who);
        return;
    }
    if (t) free_watcher(t);
    no_more(c, r, t ? 400 : 503, why);
}
