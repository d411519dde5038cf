#include "conn.h"

#include <string.h>

#include "log.h"

/* ---- sending ---- */

struct frame *conn_message_frame(struct mem_pool *pool, enum ws_opcode opcode, const void *payload,
                                 size_t len)
{
    size_t head_len = ws_head_size(len);
    struct frame *f = frame_new(pool, (uint32_t)(head_len + len));
    if (!f) return NULL;
    struct ws_head h = {.opcode = (uint8_t)opcode, .fin = true, .payload_len = len};
    ws_head_write(f->bytes, &h);
    if (len) memcpy(f->bytes + head_len, payload, len);
    return f;
}

void conn_send(struct conn *c, enum ws_opcode opcode, const void *payload, size_t len)
{
    struct frame *f = conn_message_frame(c->worker->pool, opcode, payload, len);
    bool data = opcode == WS_TEXT || opcode == WS_BINARY;
    conn_queue(c, (struct out_entry){.frame = f, .kind = OUT_REPLY, .messages = data});
}

void conn_ping(struct conn *c)
{
    c->flags |= CONN_PONG_DUE;
    metric_add(&c->worker->metrics, METRIC_PINGS, 1);
    conn_send(c, WS_PING, NULL, 0);
}

/* Every ping is answered. While an earlier pong could not be written, it answers the latest ping
 * instead (RFC 6455 section 5.5.3). */
static void pong(struct conn *c, const uint8_t *payload, size_t len)
{
    struct frame *f = conn_message_frame(c->worker->pool, WS_PONG, payload, len);
    uint32_t before = outq_bytes(c->out);
    if (f && c->flags & CONN_BLOCKED && c->out && outq_replace_pong(c->out, f)) {
        metric_add(&c->worker->metrics, METRIC_QUEUED_BYTES, outq_bytes(c->out));
        metric_sub(&c->worker->metrics, METRIC_QUEUED_BYTES, before);
        return;
    }
    conn_queue(c, (struct out_entry){.frame = f, .kind = OUT_PONG});
}

/* ---- closing (RFC 6455 section 7) ---- */

static void queue_close(struct conn *c, unsigned code, const char *reason)
{
    uint8_t payload[WS_CONTROL_MAX];
    size_t len = code == WS_CLOSE_NO_STATUS ? 0 : ws_close_write(payload, code, reason);
    conn_send(c, WS_CLOSE, payload, len);
}

/* begin_close sends the Close that is ours, not the echo of the peer's. */
static void begin_close(struct conn *c, unsigned code, const char *reason)
{
    c->close_code = (uint16_t)code;
    metric_close(&c->worker->metrics, code);
    log_event(LOG_DEBUG, "close sent", LOG_U64("conn", c->id), LOG_U64("code", code),
              LOG_STR("reason", reason));
    queue_close(c, code, reason);
}

void conn_close(struct conn *c, unsigned code, const char *reason)
{
    if (c->state != CONN_OPEN) {
        if (c->state != CONN_CLOSING) conn_finish(c, code);
        return;
    }
    begin_close(c, code, reason);
    if (c->state != CONN_OPEN) return; /* memory was out: dropped */
    conn_left_open(c, code, reason);
    conn_set_state(c, CONN_CLOSING);
    conn_arm(c, CONN_DEADLINE_CLOSE, conn_options()->close_timeout_ms);
    conn_read_again(c); /* for the peer's Close */
}

/* end_at_once: say why, and look at nothing that comes after. */
static void end_at_once(struct conn *c, unsigned code, const char *reason)
{
    if (c->state == CONN_OPEN) {
        begin_close(c, code, reason);
        conn_left_open(c, code, reason);
    }
    conn_finish(c, code);
}

/* fail: the peer broke the protocol (section 7.1.7). */
static void fail(struct conn *c, unsigned code)
{
    if (code == WS_CLOSE_TOO_LARGE)
        conn_limit_met(c, METRIC_TOO_LARGE, "websocket.message_size_limit");
    const char *reason = code == WS_CLOSE_TOO_LARGE  ? "message too large"
                         : code == WS_CLOSE_BAD_DATA ? "text is not UTF-8"
                         : code == WS_CLOSE_PROTOCOL ? "protocol error"
                                                     : "closed";
    end_at_once(c, code, reason);
}

static void above_rate(struct conn *c)
{
    const struct conn_handler *h = &c->worker->server->app->handlers[c->protocol];
    conn_limit_met(c, METRIC_RATE_BYTES, "client.byte_rate_limit");
    end_at_once(c, h->rate_code, h->rate_reason);
}

static void peer_closed(struct conn *c, const struct ws_event *e)
{
    const char *reason;
    size_t reason_len;
    int code = ws_close_parse(e->payload, e->len, &reason, &reason_len);
    if (code < 0) {
        fail(c, (unsigned)-code);
        return;
    }
    c->flags |= CONN_PEER_DONE;
    if (c->state == CONN_OPEN) { /* the echo carries the peer's code (section 5.5.1) */
        c->close_code = (uint16_t)code;
        queue_close(c, (unsigned)code, "");
        if (c->state != CONN_OPEN) return;
        conn_left_open(c, (unsigned)code, "by the client");
        conn_set_state(c, CONN_CLOSING);
        conn_arm(c, CONN_DEADLINE_CLOSE, conn_options()->close_timeout_ms);
    }
    conn_read_again(c); /* for the peer's FIN */
    conn_mark_dirty(c); /* once the queue is sent, the flush ends the connection */
}

/* ---- receiving ---- */

/* count_control notices more than the allowed number of control frames in one second. */
static void count_control(struct conn *c)
{
    uint8_t second = (uint8_t)(c->worker->now_ms / 1000);
    if (second != c->control_second) {
        c->control_second = second;
        c->control_frames = 0;
    }
    if (c->control_frames < UINT8_MAX) c->control_frames++;
    if (c->control_frames > conn_options()->control_frames_per_second) conn_throttle(c);
}

static void control(struct conn *c, const struct ws_event *e)
{
    count_control(c);
    switch ((enum ws_opcode)e->opcode) {
    case WS_CLOSE: peer_closed(c, e); return;
    case WS_PING:
        if (c->state == CONN_OPEN) pong(c, e->payload, e->len);
        return;
    case WS_PONG:
    case WS_CONTINUATION:
    case WS_TEXT:
    case WS_BINARY: return;
    }
}

/* hand_over gives a message, or what was held of one, to its handler. Tracing takes the place of
 * the call, so that it costs one branch while it is off. */
static void hand_over(struct conn *c, enum ws_opcode opcode, uint8_t *payload, size_t len)
{
    if (c->worker->trace)
        conn_trace_message(c, opcode, payload, len);
    else
        c->worker->server->app->handlers[c->protocol].message(c, opcode, payload, len);
}

static void deliver(struct conn *c, enum ws_opcode opcode, uint8_t *payload, size_t len)
{
    c->messages_in++;
    metric_add(&c->worker->metrics, METRIC_MESSAGES_IN, 1);
    if (conn_watched(c))
        conn_see(c, &(struct conn_sight){.kind = SIGHT_MESSAGE, .payload = payload, .len = len});
    hand_over(c, opcode, payload, len);
}

/* data puts a piece to its message and delivers the message that it completes. */
static void data(struct conn *c, const struct ws_event *e)
{
    if (e->first && e->last) {
        deliver(c, (enum ws_opcode)e->opcode, e->payload, e->len);
        return;
    }
    struct conn_in *in = conn_in_need(c);
    if (!in) return;
    if (!conn_in_reserve(c, in->len + e->len, (size_t)conn_options()->max_message_bytes)) {
        fail(c, WS_CLOSE_INTERNAL);
        return;
    }
    if (e->len) memcpy(in->buf + in->len, e->payload, e->len);
    in->len += (uint32_t)e->len;
    if (!e->last) return;
    uint32_t len = in->len;
    in->len = 0; /* what follows in this input is the next message */
    deliver(c, (enum ws_opcode)e->opcode, in->buf, len);
}

static bool is_read(const struct conn *c)
{
    return c->state == CONN_OPEN || c->state == CONN_CLOSING;
}

/* keep puts input behind what is kept already, until c is read again. At most what one read gives,
 * since none follows before. */
static void keep(struct conn *c, const uint8_t *bytes, size_t len)
{
    struct conn_in *in = conn_in_need(c);
    if (!in) return;
    size_t need = in->kept_len + len;
    if (need > in->kept_cap) {
        size_t cap = need > 2 * (size_t)in->kept_cap ? need : 2 * (size_t)in->kept_cap;
        uint8_t *bigger = conn_in_alloc(c, cap);
        if (!bigger) {
            fail(c, WS_CLOSE_INTERNAL);
            return;
        }
        if (in->kept_len) memcpy(bigger, in->kept, in->kept_len);
        conn_in_give_back(c->worker, in->kept, in->kept_cap);
        in->kept = bigger;
        in->kept_cap = (uint32_t)cap;
    }
    memcpy(in->kept + in->kept_len, bytes, len);
    in->kept_len = (uint32_t)need;
}

static void forget_kept(struct conn *c)
{
    struct conn_in *in = c->in;
    conn_in_give_back(c->worker, in->kept, in->kept_cap);
    in->kept = NULL;
    in->kept_at = in->kept_len = in->kept_cap = 0;
}

void conn_hold(struct conn *c, enum ws_opcode opcode, const uint8_t *bytes, size_t len)
{
    struct conn_in *in = conn_in_need(c);
    if (!in) return;
    in->held = conn_in_alloc(c, len);
    if (!in->held) {
        fail(c, WS_CLOSE_INTERNAL);
        return;
    }
    memcpy(in->held, bytes, len);
    in->held_len = (uint32_t)len;
    in->held_opcode = (uint8_t)opcode;
}

/* hand_held gives the layer above what it held; it may hold the end of that again. */
static void hand_held(struct conn *c)
{
    struct conn_in *in = c->in;
    uint8_t *bytes = in->held;
    const uint32_t len = in->held_len;
    in->held = NULL;
    in->held_len = 0;
    struct worker *w = c->worker;
    hand_over(c, (enum ws_opcode)in->held_opcode, bytes, len);
    conn_in_give_back(w, bytes, len);
}

/* rest forgets the reader when it is between messages: an idle connection owns none. */
static void rest(struct conn *c, const struct ws_reader *reader)
{
    if (!is_read(c)) return; /* freed with the connection */
    if (ws_reader_at_rest(reader) && !(c->in && (c->in->kept || c->in->held))) {
        conn_in_free(c->worker, &c->in);
        return;
    }
    struct conn_in *in = conn_in_need(c);
    if (in) in->reader = *reader;
}

/* frames reads frames as long as c is read; returns how many bytes are done with. */
static size_t frames(struct conn *c, struct ws_reader *reader, uint8_t *bytes, size_t len)
{
    const struct ws_limits limits = {
        .max_message_bytes = (uint64_t)conn_options()->max_message_bytes, .server = true};
    size_t at = 0;
    while (at < len && is_read(c) && conn_may_read(c)) {
        struct ws_event e;
        int64_t used = ws_read(reader, &limits, bytes + at, len - at, &e);
        if (used < 0) {
            fail(c, (unsigned)-used);
            break;
        }
        at += (size_t)used;
        switch (e.kind) {
        case WS_EVENT_NONE: break;
        case WS_EVENT_CONTROL: control(c, &e); break;
        case WS_EVENT_DATA:
            if (c->state == CONN_OPEN)
                data(c, &e); /* section 5.5.1: nothing counts behind our Close */
            break;
        }
    }
    return is_read(c) ? at : len;
}

static void take_input(struct conn *c, uint8_t *bytes, size_t len)
{
    struct ws_reader reader = {0};
    struct conn_in *in = c->in;
    if (in) reader = in->reader;
    if (in && in->held && c->state == CONN_OPEN && conn_may_read(c)) hand_held(c);
    if (in && in->kept) {
        if (len) keep(c, bytes, len); /* of the same read, by TLS */
        in->kept_at +=
            (uint32_t)frames(c, &reader, in->kept + in->kept_at, in->kept_len - in->kept_at);
        if (in->kept_at == in->kept_len) forget_kept(c);
    } else {
        size_t used = frames(c, &reader, bytes, len);
        if (used < len) keep(c, bytes + used, len - used);
    }
    rest(c, &reader);
}

void conn_ws_input(struct conn *c, uint8_t *bytes, size_t len)
{
    const bool limited = conn_options()->byte_rate && len && c->state == CONN_OPEN;
    const size_t within = limited ? conn_rate_bytes(c, len) : len;
    take_input(c, bytes, within);
    if (within < len && c->state == CONN_OPEN) above_rate(c);
}
