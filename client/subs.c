#include "client.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "heartbeat.h"
#include "users.h"

#define CHANNEL_JSON_MAX (PUBSUB_NAME_MAX * 6) /* \u0000 for each byte */

void client_info_of(const struct conn *c, const struct subscription *sub, struct client_info *i,
                    char id_text[static OPS_UUID_TEXT])
{
    if (sub) {
        ops_info_of(sub, i, id_text);
        return;
    }
    const struct client *k = client_of(c);
    *i = (struct client_info){.user = text_of(c->user->name, c->user->len),
                              .client = ops_uuid_text(k->id, id_text)};
    if (k->info) i->conn_info = text_of((const char *)k->info->bytes, k->info->len);
}

bool client_permitted(const struct conn *c, bool subscribed, bool for_client, bool for_subscriber,
                      bool for_anonymous)
{
    if (client_options()->insecure) return true;
    if (!c->user->len && !for_anonymous) return false;
    return for_client || (for_subscriber && subscribed);
}

void client_info_changed(struct conn *c)
{
    const struct client *k = client_of(c);
    for (uint32_t i = 0; i < k->cap; i++) {
        struct subscription *sub = k->places[i];
        if (!sub) continue;
        frame_ref(k->info, 1);
        pubsub_set_info(sub, &sub->conn_info, k->info);
    }
}

/* ---- the end of a subscription ---- */

static void free_subscription(struct subscription *sub)
{
    struct mem_pool *pool = sub->conn->worker->pool;
    frame_unref(sub->conn_info, 1);
    frame_unref(sub->chan_info, 1);
    mem_free(pool, sub, sizeof *sub);
}

static void see(struct conn *c, enum conn_sight_kind kind, struct text channel)
{
    conn_see(c,
             &(struct conn_sight){.kind = kind, .channel = channel.p, .channel_len = channel.len});
}

/* end takes sub out of its channel and tells the others, once. */
static void end(struct subscription *sub)
{
    struct conn *c = sub->conn;
    struct client *k = client_of(c);
    struct channel *ch = pubsub_shared(sub->local);
    char id[OPS_UUID_TEXT];
    struct client_info info;
    client_info_of(c, sub, &info, id);
    if (conn_watched(c) && c->flags & CONN_COUNTED) see(c, SIGHT_UNSUBSCRIBED, client_channel(sub));
    client_table_remove(c->worker, k, sub);
    size_t len;
    const char *name = pubsub_name(ch, &len);
    struct channel *held =
        sub->flags & SUBSCRIPTION_ANNOUNCED ? pubsub_channel(c->worker, name, len) : NULL;
    pubsub_unsubscribe_client(sub);
    if (held) {
        ops_membership(c->worker, held, false, &info);
        pubsub_channel_unref(held);
    }
    free_subscription(sub);
}

void client_end_all(struct conn *c)
{
    const struct client *k = client_of(c);
    for (uint32_t i = 0; i < k->cap;) { /* another one may move into the place */
        if (k->places[i])
            end(k->places[i]);
        else
            i++;
    }
}

/* push_end tells the client that its subscription is over, and ends it before the client can come
 * back. */
static void push_end(struct subscription *sub, uint32_t code, const char *reason)
{
    struct conn *c = sub->conn;
    char text[CHANNEL_JSON_MAX + 256];
    struct json_out o = {.p = text, .cap = sizeof text};
    push_json_unsubscribe(&o, client_channel(sub), code, reason);
    end(sub);
    if (!o.full) conn_send(c, WS_TEXT, text, o.len);
}

void client_missed(struct subscription *s)
{
    struct conn *c = s->conn;
    if (s->flags & SUBSCRIPTION_SERVER_SIDE)
        conn_close(c, 3010, "insufficient state");
    else
        push_end(s, 2500, "insufficient state");
}

/* date_tick: of the wall clock, as all ticks of a subscription's end are. */
static uint32_t date_tick(struct worker *w)
{
    return (uint32_t)(worker_date_ms(w) / WORKER_TICK_MS);
}

static bool has_come(const struct conn *c, uint32_t tick)
{
    return tick && (int32_t)(date_tick(c->worker) - tick) >= 0;
}

/* expire_at lets sub end at a tick, 0 = never. */
static void expire_at(struct client *k, struct subscription *sub, uint32_t tick)
{
    sub->expires = tick;
    if (tick && (!k->next_expiry || (int32_t)(tick - k->next_expiry) < 0)) k->next_expiry = tick;
}

/* expire ends sub, whose time is over. false: the connection is not open any more. */
static bool expire(struct subscription *sub)
{
    struct conn *c = sub->conn;
    if (sub->flags & SUBSCRIPTION_SERVER_SIDE)
        conn_close(c, 3006, "subscription expired");
    else
        push_end(sub, 2501, "subscription expired");
    return c->state == CONN_OPEN;
}

void client_expire_subscriptions(struct conn *c)
{
    struct client *k = client_of(c);
    if (!has_come(c, k->next_expiry)) return;
    k->next_expiry = 0;
    for (uint32_t i = 0; i < k->cap;) {
        struct subscription *sub = k->places[i];
        if (sub && has_come(c, sub->expires)) { /* another one may move into the place */
            if (!expire(sub)) return;
        } else {
            if (sub) expire_at(k, sub, sub->expires);
            i++;
        }
    }
}

uint32_t client_next_expiry(const struct conn *c)
{
    const struct client *k = client_of(c);
    if (!k || !k->next_expiry) return 0;
    const uint32_t t = worker_tick(c->worker) + (k->next_expiry - date_tick(c->worker));
    return t ? t : 1;
}

/* ---- its beginning ---- */

struct request { /* what is asked for, once it is allowed */
    struct text channel;
    const struct channel_options *options;
    bool positioned, recoverable, membership, present, announced, server_side, by_token, recover,
        reject_unrecovered;
    const struct jwt_override *override; /* of a token, or NULL */
    struct position from;
    struct text chan_info, data;
    int64_t expires_s; /* wall clock, 0 = never */
    size_t reply_len;  /* what its reply has already, or its push of the subscription */
    size_t push_extra; /* for each publication, where it is pushed by itself; 0 in a reply */
};

static uint32_t expiry_tick(struct worker *w, int64_t expires_s)
{
    if (!expires_s) return 0;
    int64_t ms = heartbeat_left_ms(expires_s) + client_options()->expired_sub_delay_ms;
    if (ms > INT32_MAX) return 0; /* in weeks: whatever comes first */
    uint32_t t = date_tick(w) + (uint32_t)(ms / WORKER_TICK_MS) + 1;
    return t ? t : 1;
}

static struct subscription *new_subscription(struct conn *c, const struct request *q)
{
    struct worker *w = c->worker;
    struct client *k = client_of(c);
    struct subscription *sub = mem_zalloc(w->pool, sizeof *sub);
    if (!sub) return NULL;
    list_init(&sub->in_presence);
    sub->conn = c;
    sub->client_id = k->id;
    sub->flags = (q->membership ? SUBSCRIPTION_MEMBERSHIP : 0u) |
                 (q->positioned ? SUBSCRIPTION_POSITIONED : 0u) |
                 (q->present ? SUBSCRIPTION_PRESENT : 0u) |
                 (q->announced ? SUBSCRIPTION_ANNOUNCED : 0u) |
                 (q->server_side ? SUBSCRIPTION_SERVER_SIDE : 0u) |
                 (q->by_token ? SUBSCRIPTION_BY_TOKEN : 0u);
    expire_at(k, sub, expiry_tick(w, q->expires_s));
    sub->chan_info = client_keep(w, q->chan_info);
    if (k->info) {
        frame_ref(k->info, 1);
        sub->conn_info = k->info;
    }
    return sub;
}

static size_t room_size(void)
{
    return client_options()->recovery_max * sizeof(struct publication *);
}

/* prepare fills in what is asked of the channel's history; end_recovery lets go of what came of it.
 * false: memory is out. */
static bool prepare(struct worker *w, struct pubsub_recovery *r, const struct request *q)
{
    *r = (struct pubsub_recovery){.wanted = q->recover && q->recoverable,
                                  .cache = q->options->recovery_mode == RECOVERY_CACHE,
                                  .any_epoch = q->from.epoch.len == 0,
                                  .offset = q->from.offset,
                                  .max = client_options()->recovery_max,
                                  .missed = mem_alloc(w->pool, room_size())};
    if (q->from.epoch.len == sizeof r->epoch) memcpy(r->epoch, q->from.epoch.p, sizeof r->epoch);
    return r->missed;
}

static void forget_missed(struct pubsub_recovery *r)
{
    for (uint32_t i = 0; i < r->count; i++) pubsub_publication_unref(r->missed[i]);
    r->count = 0;
}

static size_t publications_size(const struct request *q, const struct pubsub_recovery *r)
{
    return ops_publications_size(r->missed, r->count) + r->count * q->push_extra;
}

/* bound_recovery: who has missed too much to be told in one message has not recovered, as if it
 * were kept no longer. It could not get the message, and would come back with the same position. */
static void bound_recovery(struct worker *w, const struct request *q, struct pubsub_recovery *r)
{
    if (!r->count || q->reply_len + publications_size(q, r) <= client_options()->reply_max) return;
    metric_add(&w->metrics, METRIC_REPLY_TOO_LARGE, 1);
    forget_missed(r);
    r->recovered = false;
}

static void end_recovery(struct worker *w, struct pubsub_recovery *r)
{
    forget_missed(r);
    mem_free(w->pool, r->missed, room_size());
}

static size_t missed_size(const struct request *q, const struct pubsub_recovery *r)
{
    return 512 + q->data.len + publications_size(q, r);
}

static struct subscribe_result result_of(const struct request *q, const struct pubsub_recovery *r)
{
    bool recovered = r->wanted && r->recovered;
    struct subscribe_result result = {.recoverable = q->recoverable,
                                      .positioned = q->positioned,
                                      .was_recovering = q->recover,
                                      .recovered = recovered,
                                      .data = q->data};
    if (q->positioned) {
        result.epoch = ops_epoch(&r->top);
        result.offset = recovered ? q->from.offset : r->top.offset;
    }
    result.expires = q->expires_s > 0;
    result.ttl_s = ops_left_s(q->expires_s);
    return result;
}

/* begin subscribes: position, missed publications, presence and membership in one step. Returns 0
 * or an error code; r->missed is the caller's to let go. */
static uint32_t begin(struct conn *c, const struct request *q, struct pubsub_recovery *r)
{
    struct client *k = client_of(c);
    struct worker *w = c->worker;
    struct local *l = pubsub_attach(w, q->channel.p, q->channel.len);
    if (!l) {
        if (errno == ENOSPC)
            conn_limit_met(c, METRIC_REFUSED_CHANNELS, "channel.limit");
        else
            metric_add(&w->metrics, METRIC_REFUSED_MEMORY, 1);
        return 100;
    }
    struct subscription *sub = client_table_reserve(w, k) ? new_subscription(c, q) : NULL;
    if (!sub || pubsub_subscribe_client(sub, l, r) == -1) {
        if (sub) free_subscription(sub);
        pubsub_detach(l);
        return 100;
    }
    client_table_add(k, sub);
    bound_recovery(w, q, r);
    if (r->wanted)
        metric_add(&w->metrics,
                   !r->recovered ? METRIC_UNRECOVERED
                   : r->count    ? METRIC_RECOVERED
                                 : METRIC_RECOVERED_NOTHING,
                   1);
    if (q->reject_unrecovered && r->wanted && !r->recovered) {
        sub->flags &= ~(uint32_t)SUBSCRIPTION_ANNOUNCED; /* no leave without a join */
        end(sub);
        return 112;
    }
    if (conn_watched(c)) see(c, SIGHT_SUBSCRIBED, q->channel);
    if (q->announced) {
        char id[OPS_UUID_TEXT];
        struct client_info info;
        client_info_of(c, sub, &info, id);
        ops_membership(w, pubsub_shared(l), true, &info);
    }
    return 0;
}

/* or_override: what a token says instead of the namespace's option. */
static bool or_override(bool option, int8_t override)
{
    return override < 0 ? option : override > 0;
}

/* settle decides what the subscription has: by force, by the client's wish if it may, or by the
 * token's override. A wish not granted is silently ignored. */
static void settle(struct request *q, const struct conn *c, const struct command *m)
{
    static const struct jwt_override none = {-1, -1, -1, -1, -1};
    const struct jwt_override *over = q->override ? q->override : &none;
    const struct channel_options *o = q->options;
    bool history = channel_has_history(o);
    bool may_history = client_permitted(c, true, o->history_for_client, o->history_for_subscriber,
                                        o->history_for_anonymous);
    bool may_presence = client_permitted(c, true, o->presence_for_client,
                                         o->presence_for_subscriber, o->presence_for_anonymous);
    bool wants_recovery = m && (m->recoverable || m->recover), wants_position = m && m->positioned;
    q->recoverable = history && (or_override(o->force_recovery, over->force_recovery) ||
                                 (wants_recovery && (o->allow_recovery || may_history)));
    q->positioned =
        q->recoverable || (history && (or_override(o->force_positioning, over->force_positioning) ||
                                       (wants_position && (o->allow_positioning || may_history))));
    q->announced = or_override(o->join_leave, over->join_leave);
    q->membership =
        q->announced && (or_override(o->force_push_join_leave, over->force_push_join_leave) ||
                         (m && m->join_leave && may_presence));
    q->present = or_override(o->presence, over->presence);
}

/* start settles what is asked for, by command m or by the server (NULL), and subscribes. Returns 0
 * or an error code; either way r is for end_recovery. */
static uint32_t start(struct conn *c, const struct command *m, struct request *q,
                      struct pubsub_recovery *r)
{
    settle(q, c, m);
    return prepare(c->worker, r, q) ? begin(c, q, r) : 100;
}

static void subscribe_allowed(struct session *s, const struct command *m, struct request *q)
{
    struct pubsub_recovery r;
    uint32_t code = start(s->c, m, q, &r);
    if (code) {
        client_error(s, m->id, code);
    } else {
        struct subscribe_result result = result_of(q, &r);
        struct json_out o = client_line(s, missed_size(q, &r));
        reply_json_subscribe_begin(&o, m->id, &result);
        ops_put_publications(&o, r.missed, r.count);
        reply_json_subscribe_end(&o, r.count > 0);
        client_line_end(s, &o);
        if (s->c->state == CONN_OPEN && q->expires_s) heartbeat_arm(s->c);
    }
    end_recovery(s->w, &r);
}

/* is_for: is a subscription token for this channel and the one who shows it? An old-style token
 * names the client as well (protocol.md 5.3). */
static bool is_for(const struct session *s, const struct jwt_claims *claims, struct text channel)
{
    char text[OPS_UUID_TEXT];
    struct text id = ops_uuid_text(s->k->id, text);
    const struct user *u = s->c->user;
    return client_same(client_text(claims->channel), channel) &&
           client_same(client_text(claims->sub), text_of(u->name, u->len)) &&
           (!claims->client.len || client_same(client_text(claims->client), id));
}

/* allowed_by_token verifies a subscription token (protocol.md 2.2 row 9). Returns true if the
 * subscription is allowed; else it has been answered. */
static bool allowed_by_token(struct session *s, const struct command *m, struct request *q,
                             struct jwt_claims *claims)
{
    switch (client_verify(s, client_options()->subscribe_rules, m->token, claims)) {
    case JWT_EXPIRED: client_error(s, m->id, 109); return false;
    case JWT_INVALID: client_error(s, m->id, 103); return false;
    case JWT_OK: break;
    }
    if (!is_for(s, claims, q->channel)) {
        client_close(s, 3500);
        return false;
    }
    q->chan_info = client_text(claims->info);
    q->data = client_text(claims->data);
    q->override = &claims->override;
    q->expires_s = client_expires_of(claims);
    return true;
}

/* may_subscribe: without a token, by rows 8 and 11 to 13 of protocol.md 2.2. */
bool client_may_subscribe(const struct conn *c, struct text channel,
                          const struct channel_options *o)
{
    const struct user *u = c->user;
    if (namespace_is_private(channel.p, channel.len)) return false;
    if (client_options()->insecure) return true;
    if (namespace_is_user_limited(o, channel.p, channel.len))
        return namespace_lists_user(channel.p, channel.len, u->name, u->len);
    return o->subscribe_for_client && (u->len || o->subscribe_for_anonymous);
}

/* allowed decides rows 8 to 14 of protocol.md 2.2; if not, it has been answered. */
static bool allowed(struct session *s, const struct command *m, struct request *q,
                    struct jwt_claims *claims)
{
    if (m->token.len) return allowed_by_token(s, m, q, claims);
    if (client_may_subscribe(s->c, q->channel, q->options)) return true;
    client_error(s, m->id, 103);
    return false;
}

/* has_all: c is subscribed to as many channels as it may. */
static bool has_all(struct conn *c)
{
    if (client_of(c)->count < client_options()->channel_limit) return false;
    conn_limit_met(c, METRIC_REFUSED_CLIENT_CHANNELS, "client.channel_limit");
    return true;
}

/* wrong_at_once finds what needs no look at permissions: rows 3 to 7 of protocol.md 2.2. */
static uint32_t wrong_at_once(const struct session *s, const struct command *m,
                              const struct channel_options **o)
{
    if (m->channel.len > client_options()->channel_max_length) return 107;
    if (m->type >= 1) return 108;
    if (client_find(s->k, m->channel.p, m->channel.len)) return 105;
    if (has_all(s->c)) return 106;
    *o = namespace_of(m->channel.p, m->channel.len);
    if (!*o) return 102;
    return namespace_name_ok(*o, m->channel.p, m->channel.len) ? 0 : 107;
}

static bool is_delta(struct text t) /* fossil is known, and not granted */
{
    return !t.len || (t.len == 6 && memcmp(t.p, "fossil", 6) == 0);
}

void client_subscribe(struct session *s, const struct command *m)
{
    struct request q = {.channel = m->channel,
                        .recover = m->recover,
                        .reject_unrecovered = m->flag & 2,
                        .from = m->position};
    struct jwt_claims claims;
    if (!m->channel.len || !is_delta(m->delta)) {
        client_close(s, 3501);
        return;
    }
    uint32_t code = wrong_at_once(s, m, &q.options);
    if (!code) {
        if (!allowed(s, m, &q, &claims)) return;
        if (q.expires_s && q.expires_s <= (int64_t)time(NULL))
            code = 110;
        else if (m->has_tags_filter && !q.options->allow_tags_filter)
            code = 107;
    }
    if (code)
        client_error(s, m->id, code);
    else
        subscribe_allowed(s, m, &q);
}

void client_unsubscribe(struct session *s, const struct command *m)
{
    if (!m->channel.len) {
        client_close(s, 3501);
        return;
    }
    struct subscription *sub = client_find(s->k, m->channel.p, m->channel.len);
    if (sub) end(sub);
    struct json_out o = client_line(s, 64);
    reply_json_empty(&o, m->id, COMMAND_UNSUBSCRIBE);
    client_line_end(s, &o);
}

/* expire_at_once answers a token that has ended: first the push, then the error, in one message, so
 * that the SDK resubscribes with a fresh one (protocol.md 2.9). */
static void expire_at_once(struct session *s, const struct command *m, struct subscription *sub)
{
    struct json_out o = client_line(s, CHANNEL_JSON_MAX + 256);
    push_json_unsubscribe(&o, m->channel, 2501, "subscription expired");
    client_line_end(s, &o);
    if (s->c->state != CONN_OPEN) return;
    end(sub);
    client_error(s, m->id, 109);
}

static void renew_chan_info(struct subscription *sub, struct text info)
{
    struct frame *f = client_keep(sub->conn->worker, info);
    if (f) pubsub_set_info(sub, &sub->chan_info, f);
}

void client_sub_refresh(struct session *s, const struct command *m)
{
    if (!m->channel.len) {
        client_close(s, 3501);
        return;
    }
    struct subscription *sub = client_find(s->k, m->channel.p, m->channel.len);
    if (!sub || !m->token.len) {
        client_error(s, m->id, sub ? 107 : 103);
        return;
    }
    struct jwt_claims claims;
    enum jwt_verdict v = client_verify(s, client_options()->subscribe_rules, m->token, &claims);
    if (v == JWT_INVALID || !is_for(s, &claims, m->channel)) {
        client_close(s, 3500);
        return;
    }
    const int64_t expires_s = client_expires_of(&claims);
    if (v == JWT_EXPIRED || (expires_s && expires_s <= (int64_t)time(NULL))) {
        expire_at_once(s, m, sub);
        return;
    }
    expire_at(s->k, sub, expiry_tick(s->w, expires_s));
    renew_chan_info(sub, client_text(claims.info));
    struct json_out o = client_line(s, 128);
    reply_json_refresh(&o, m->id, COMMAND_SUB_REFRESH, expires_s > 0, ops_left_s(expires_s));
    client_line_end(s, &o);
    if (s->c->state == CONN_OPEN) heartbeat_arm(s->c);
}

uint32_t client_subscribe_by_server(struct session *s, struct json_out *o, bool first,
                                    const struct server_subscription *b)
{
    const struct text channel = b->channel;
    struct request q = {.channel = channel,
                        .server_side = true,
                        .recover = b->recover,
                        .from = b->from,
                        .reply_len = o->len};
    if (b->claim) {
        q.by_token = true;
        q.override = &b->claim->override;
        q.chan_info = client_text(b->claim->info);
        q.data = client_text(b->claim->data);
    }
    if (!channel.len || channel.len > client_options()->channel_max_length) return 107;
    if (has_all(s->c)) return 3505;
    if (!(q.options = namespace_of(channel.p, channel.len))) return 102;
    struct pubsub_recovery r;
    uint32_t code = start(s->c, NULL, &q, &r);
    if (!code) {
        struct subscribe_result result = result_of(&q, &r);
        client_more(s, o, missed_size(&q, &r) + channel.len * 6);
        reply_json_connect_sub_begin(o, first, channel);
        reply_json_result_begin(o, &result);
        ops_put_publications(o, r.missed, r.count);
        reply_json_result_end(o, r.count > 0);
    }
    end_recovery(s->w, &r);
    return code;
}

uint32_t client_by_token(const struct client *k)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < k->cap; i++)
        n += k->places[i] && k->places[i]->flags & SUBSCRIPTION_BY_TOKEN;
    return n;
}

/* ---- by a backend ---- */

/* push_extra: what a push has around its object, each byte of the channel as \u0000. */
static size_t push_extra(struct text channel)
{
    return channel.len * 6 + 64;
}

/* push_granted tells the client of its new subscription, then what it has missed, in one message.
 */
static void push_granted(struct conn *c, const struct request *q, const struct pubsub_recovery *r)
{
    struct mem_pool *pool = c->worker->pool;
    const size_t size = missed_size(q, r) + q->push_extra;
    struct json_out o = {.p = mem_alloc(pool, size), .cap = size};
    struct subscribe_result result = result_of(q, r);
    if (!o.p) {
        conn_close(c, 3004, "internal server error");
        return;
    }
    push_json_subscribe(&o, q->channel, &result);
    for (uint32_t i = 0; i < r->count; i++) {
        json_puts(&o, "\n");
        push_json_pub_object(&o, q->channel, ops_publication_object(r->missed[i]));
    }
    if (o.full)
        conn_close(c, 3004, "internal server error");
    else
        conn_send(c, WS_TEXT, o.p, o.len);
    mem_free(pool, o.p, size);
}

uint32_t client_grant(struct conn *c, const struct client_grant *g)
{
    struct client *k = client_of(c);
    struct request q = {.channel = g->channel,
                        .options = namespace_of(g->channel.p, g->channel.len),
                        .server_side = true,
                        .recover = g->recover,
                        .from = g->from,
                        .override = &g->override,
                        .chan_info = g->info,
                        .data = g->data,
                        .expires_s = g->expires_s,
                        .reply_len = g->data.len + push_extra(g->channel),
                        .push_extra = push_extra(g->channel)};
    if (!q.options) return 102;
    if (client_find(k, g->channel.p, g->channel.len)) return 0;
    if (has_all(c)) {
        conn_close(c, 3505, "channel limit");
        return 0;
    }
    struct pubsub_recovery r;
    uint32_t code = start(c, NULL, &q, &r);
    if (!code) {
        push_granted(c, &q, &r);
        if (q.expires_s) heartbeat_arm(c);
    }
    end_recovery(c->worker, &r);
    return code;
}

void client_revoke(struct conn *c, struct text channel)
{
    struct subscription *sub = client_find(client_of(c), channel.p, channel.len);
    if (sub) push_end(sub, 2000, "server unsubscribe");
}
