#include "raw.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "heartbeat.h"
#include "ops.h"
#include "pubsub.h"
#include "user_limit.h"
#include "users.h"

static const struct raw_options *options(void)
{
    return settings_of(SETTINGS_RAW);
}

void raw_init(const struct raw_options *o)
{
    static struct raw_options first;
    first = *o;
    settings_first.of[SETTINGS_RAW] = &first;
}

/* path_channel decodes the channel that a path /raw/CHANNEL names; 0: none that could be one. */
static size_t path_channel(struct http_str path, char out[static USER_NAME_MAX])
{
    static const char prefix[] = "/raw/";
    const size_t n = sizeof prefix - 1;
    if (path.len <= n || memcmp(path.p, prefix, n) != 0) return 0;
    const int64_t len =
        http_percent_decode(out, USER_NAME_MAX, (struct http_str){path.p + n, path.len - n});
    uint32_t utf8 = 0;
    if (len <= 0 || !ws_utf8(&utf8, (const uint8_t *)out, (size_t)len) || !ws_utf8_done(utf8))
        return 0;
    return (size_t)len;
}

void raw_see_refusal(struct conn *c, const struct http_request *r, const struct auth *a,
                     unsigned code, const char *why)
{
    char channel[USER_NAME_MAX];
    const size_t len = path_channel(r->path, channel);
    const bool known = a && (a->verdict == AUTH_OK || a->verdict == AUTH_EXPIRED);
    conn_see(c, &(struct conn_sight){.kind = SIGHT_REFUSED,
                                     .channel = len ? channel : NULL,
                                     .channel_len = len,
                                     .user = known ? a->claims.sub.p : NULL,
                                     .user_len = known ? a->claims.sub.len : 0,
                                     .code = code,
                                     .text = why});
}

static int64_t left_ms(const struct auth *a)
{
    return a->claims.has_exp ? heartbeat_left_ms(a->claims.exp_s) : -1;
}

/* refuse_user: the user has as many connections as it may, or (errno) memory is out. */
static void refuse_user(struct conn *c, const struct http_request *r, const struct auth *a,
                        enum conn_protocol protocol)
{
    const bool full = errno == ENOSPC;
    if (conn_watched(c))
        raw_see_refusal(c, r, a, full ? 429 : 503, full ? "connection limit" : "out of memory");
    if (!full) {
        metric_add(&c->worker->metrics, METRIC_REFUSED_MEMORY, 1);
        conn_http_error(c, r, 503, "out of memory");
    } else if (a->by_subprotocol) { /* a browser sees no status */
        conn_upgrade(c, r, protocol, AUTH_SUBPROTOCOL);
        conn_close(c, 3504, "connection limit");
    } else {
        conn_http_error(c, r, 429, "this user has as many connections as it may");
    }
}

/* opened upgrades and gives the connection its user. Returns false if it did not become an open
 * connection. */
static bool opened(struct conn *c, const struct http_request *r, const struct auth *a,
                   enum conn_protocol protocol)
{
    struct worker *w = c->worker;
    struct user *u = users_intern(w, a->claims.sub.p, a->claims.sub.len);
    c->user = u;
    if (u && user_limit_enter(c)) {
        conn_upgrade(c, r, protocol, a->by_subprotocol ? AUTH_SUBPROTOCOL : NULL);
        if (c->state == CONN_OPEN) return true;
        user_limit_leave(c);
    } else {
        refuse_user(c, r, a, protocol);
    }
    c->user = NULL;
    users_release(w, u);
    return false;
}

static void let_go(struct conn *c)
{
    struct local *l = c->channel;
    user_limit_leave(c);
    if (!l) return;
    if (pubsub_is_subscribed(c)) pubsub_unsubscribe(c);
    pubsub_detach(l);
    c->channel = NULL; /* c->user stays for the summary line */
}

/* ---- raw ---- */

struct wish { /* what a raw connection asked for and may do */
    char name[PUBSUB_NAME_MAX];
    size_t len;
    bool publish, subscribe;
    int beat_s; /* 0 = no heartbeat */
};

#define BEAT_MIN_S 5 /* oftener would cost more than it tells */
#define BEAT_MAX_S 300
_Static_assert(BEAT_MAX_S <= 511, "conn.beat_s has nine bits");

static bool switched_off(struct http_str query, const char *name)
{
    struct http_str v;
    return http_query_get(query, name, &v) && http_str_is(v, "0");
}

static void refuse_channel(struct conn *c, const struct http_request *r, const struct auth *a,
                           int status, const char *line)
{
    if (conn_watched(c)) raw_see_refusal(c, r, a, (unsigned)status, line);
    metric_add(&c->worker->metrics,
               status == 403 ? METRIC_REFUSED_PERMISSION : METRIC_REFUSED_BAD_REQUEST, 1);
    conn_http_error(c, r, status, line);
}

/* read_beat reads heartbeat=SECONDS, digits alone: 0 when it is not there, -1 when it is wrong. */
static int read_beat(struct http_str query)
{
    struct http_str v;
    int n = 0;
    if (!http_query_get(query, "heartbeat", &v)) return 0;
    if (v.len < 1 || v.len > 3) return -1;
    for (size_t i = 0; i < v.len; i++) {
        if (v.p[i] < '0' || v.p[i] > '9') return -1;
        n = n * 10 + (v.p[i] - '0');
    }
    return n >= BEAT_MIN_S && n <= BEAT_MAX_S ? n : -1;
}

static bool read_wish(struct conn *c, const struct http_request *r, const struct auth *a,
                      struct http_str encoded, struct wish *wish)
{
    char name[HTTP_HEAD_MAX];
    int64_t len = http_percent_decode(name, sizeof name, encoded);
    if (len <= 0) {
        refuse_channel(c, r, a, len ? 400 : 404,
                       len ? "the channel in the path is not well percent-encoded"
                           : "the path is /raw/CHANNEL");
        return false;
    }
    uint32_t utf8 = 0;
    if (!ws_utf8(&utf8, (const uint8_t *)name, (size_t)len) || !ws_utf8_done(utf8)) {
        refuse_channel(c, r, a, 400, "the channel's name is not UTF-8");
        return false;
    }
    if ((size_t)len > options()->channel_max_length || (size_t)len > sizeof wish->name) {
        refuse_channel(c, r, a, 400, "the channel's name is too long");
        return false;
    }
    memcpy(wish->name, name, (size_t)len);
    wish->len = (size_t)len;
    if (!namespace_of(wish->name, wish->len)) {
        refuse_channel(c, r, a, 404, "unknown namespace: it is not in channel.namespaces");
        return false;
    }
    wish->beat_s = read_beat(r->query);
    if (wish->beat_s < 0) {
        refuse_channel(c, r, a, 400, "heartbeat is a number of seconds from 5 to 300");
        return false;
    }
    const struct jwt_claims *claims = &a->claims;
    wish->publish =
        !switched_off(r->query, "pub") &&
        (a->everything || jwt_may(claims->pub, claims->pub_count, wish->name, wish->len));
    wish->subscribe =
        !switched_off(r->query, "sub") &&
        (a->everything || jwt_may(claims->sub_to, claims->sub_to_count, wish->name, wish->len));
    if (wish->publish || wish->subscribe) return true;
    if (a->by_subprotocol) { /* a browser sees no status, and would come back for ever */
        metric_add(&c->worker->metrics, METRIC_REFUSED_PERMISSION, 1);
        if (conn_watched(c)) raw_see_refusal(c, r, a, 4403, "neither publishing nor subscribing");
        conn_upgrade(c, r, CONN_RAW, AUTH_SUBPROTOCOL);
        conn_close(c, 4403, "the token permits neither publishing nor subscribing here");
        return false;
    }
    refuse_channel(c, r, a, 403,
                   "the token's claim roost permits neither publishing nor subscribing here");
    return false;
}

static void see_opened(struct conn *c, const struct wish *wish)
{
    struct conn_sight s = {
        .kind = SIGHT_CONNECTED, .channel = wish->name, .channel_len = wish->len};
    conn_see(c, &s);
    s.kind = SIGHT_SUBSCRIBED;
    if (wish->subscribe) conn_see(c, &s);
}

void raw_open(struct conn *c, const struct http_request *r, const struct auth *a,
              struct http_str encoded)
{
    struct wish wish;
    if (!read_wish(c, r, a, encoded, &wish)) return;
    struct local *l = pubsub_attach(c->worker, wish.name, wish.len);
    if (!l) {
        bool full = errno == ENOSPC;
        if (full)
            conn_limit_met(c, METRIC_REFUSED_CHANNELS, "channel.limit");
        else
            metric_add(&c->worker->metrics, METRIC_REFUSED_MEMORY, 1);
        if (conn_watched(c))
            raw_see_refusal(c, r, a, 503, full ? "too many channels" : "out of memory");
        conn_http_error(c, r, 503, full ? "too many channels" : "out of memory");
        return;
    }
    if (!opened(c, r, a, CONN_RAW)) {
        pubsub_detach(l);
        return;
    }
    c->channel = l;
    c->sub_index = UINT32_MAX;
    c->beat_s = (unsigned)wish.beat_s & 511;
    if (switched_off(r->query, "self")) c->flags |= CONN_NO_SELF;
    if (wish.publish) c->flags |= CONN_MAY_PUBLISH;
    if (wish.subscribe && pubsub_subscribe(c, l) == -1) {
        metric_add(&c->worker->metrics, METRIC_REFUSED_MEMORY, 1);
        conn_close(c, WS_CLOSE_INTERNAL, "out of memory");
        return;
    }
    if (conn_watched(c)) see_opened(c, &wish);
    heartbeat_start(c, left_ms(a));
}

static void raw_message(struct conn *c, enum ws_opcode opcode, uint8_t *payload, size_t len)
{
    if (!(c->flags & CONN_MAY_PUBLISH)) {
        metric_add(&c->worker->metrics, METRIC_REFUSED_PERMISSION, 1);
        conn_close(c, WS_CLOSE_POLICY, "publishing is not permitted");
        return;
    }
    if (!conn_rate_message(c)) {
        conn_limit_met(c, METRIC_RATE_MESSAGES, "raw.message_rate_limit");
        conn_close(c, WS_CLOSE_POLICY, "rate");
        return;
    }
    struct message m = {.is_raw = true,
                        .opcode = opcode,
                        .payload = {(const char *)payload, len},
                        .publisher = conn_key(c)};
    if (ops_publish(c->worker, pubsub_shared(c->channel), &m, NULL) == -1)
        conn_close(c, WS_CLOSE_TRY_LATER, "out of memory: not published");
}

/* raw_beat says that we live. To who has not taken what was sent before, nothing is added: that
 * tells as much, and the queue must not grow by it. */
static void raw_beat(struct conn *c)
{
    char text[32];
    if (c->flags & CONN_BLOCKED) return;
    int len = snprintf(text, sizeof text, "{\"heartbeat\":%u}", c->beat_s * 1000u);
    metric_add(&c->worker->metrics, METRIC_BEATS, 1);
    conn_send(c, WS_TEXT, text, (size_t)len);
}

const struct conn_handler raw_handler = {.message = raw_message,
                                         .closed = let_go,
                                         .beat = raw_beat,
                                         .drain_code = WS_CLOSE_RESTART,
                                         .age_code = WS_CLOSE_RESTART,
                                         .rate_code = WS_CLOSE_POLICY,
                                         .rate_reason = "rate"};

/* ---- echo ---- */

void echo_open(struct conn *c, const struct http_request *r, const struct auth *a)
{
    if (!opened(c, r, a, CONN_ECHO)) return;
    if (conn_watched(c)) conn_see(c, &(struct conn_sight){.kind = SIGHT_CONNECTED});
    heartbeat_start(c, left_ms(a));
}

static void echo_message(struct conn *c, enum ws_opcode opcode, uint8_t *payload, size_t len)
{
    conn_send(c, opcode, payload, len);
    conn_pause_if_full(c);
}

const struct conn_handler echo_handler = {.message = echo_message,
                                          .closed = let_go,
                                          .drain_code = WS_CLOSE_RESTART,
                                          .age_code = WS_CLOSE_RESTART,
                                          .rate_code = WS_CLOSE_POLICY,
                                          .rate_reason = "rate"};

/* ---- refusals ---- */

void raw_refuse(struct conn *c, const struct http_request *r, const struct auth *a)
{
    struct metrics *m = &c->worker->metrics;
    metric_add(m, a->verdict == AUTH_EXPIRED ? METRIC_REFUSED_TOKEN_EXPIRED : METRIC_REFUSED_TOKEN,
               1);
    const char *line = a->verdict == AUTH_EXPIRED ? "token expired" : a->why;
    if (conn_watched(c)) raw_see_refusal(c, r, a, 401, line);
    if (!a->by_subprotocol) {
        conn_http_error(c, r, 401, line);
        return;
    }
    conn_upgrade(c, r, CONN_RAW, AUTH_SUBPROTOCOL);
    conn_close(c, 4401, a->verdict == AUTH_EXPIRED ? "token expired" : "invalid token");
}
