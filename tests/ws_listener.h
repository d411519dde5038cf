/* ws_listener.h - feeds ws_read and boils what it says down to a few numbers, so that two ways of
 * cutting the same bytes into pieces can be compared. Ends the program where ws_read breaks a
 * promise of ws.h. For tests and fuzz targets; no allocation. */
#ifndef WS_LISTENER_H
#define WS_LISTENER_H

#include <stdlib.h>

#include "ws.h"

#define DIGEST_START 0xcbf29ce484222325u

struct ws_listener {
    struct ws_reader reader;
    struct ws_limits limits;
    bool forget;      /* zero the reader whenever it says that it is at rest */
    bool in_message;  /* a first piece came, no last one yet */
    uint8_t opcode;   /* of that message */
    unsigned events;  /* whole messages and control frames */
    uint64_t digest;  /* of all of them, in their order */
    uint64_t message; /* of the message under way */
    uint64_t message_len;
    int close; /* what the connection ends with: the code of a close frame or of an error; 0 = open
                */
    bool failed; /* it was an error */
};

static inline uint64_t ws_digest(uint64_t digest, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) digest = (digest ^ bytes[i]) * 0x100000001b3u;
    return digest;
}

/* One whole message or control frame, whose payload has the given digest. */
static inline void ws_listener_heard(struct ws_listener *l, unsigned opcode, uint64_t payload,
                                     uint64_t len)
{
    const uint64_t words[] = {opcode, payload, len};
    for (size_t i = 0; i < 24; i++) {
        const uint8_t byte = (uint8_t)(words[i / 8] >> i % 8 * 8);
        l->digest = ws_digest(l->digest, &byte, 1);
    }
    l->events++;
}

static inline void ws_listener_must(bool promise)
{
    if (!promise) abort();
}

static inline void ws_listener_control(struct ws_listener *l, const struct ws_event *ev)
{
    const char *reason;
    size_t reason_len;

    ws_listener_must(ev->len <= WS_CONTROL_MAX && ev->opcode >= WS_CLOSE);
    if (ev->opcode == WS_CLOSE) {
        int code = ws_close_parse(ev->payload, ev->len, &reason, &reason_len);
        l->failed = code < 0;
        l->close = code < 0 ? -code : code;
        return;
    }
    ws_listener_heard(l, ev->opcode, ws_digest(DIGEST_START, ev->payload, ev->len), ev->len);
}

static inline void ws_listener_data(struct ws_listener *l, const struct ws_event *ev)
{
    ws_listener_must(ev->first == !l->in_message);
    ws_listener_must(ev->len > 0 || ev->first || ev->last);
    ws_listener_must(ev->opcode == WS_TEXT || ev->opcode == WS_BINARY);
    ws_listener_must(ev->first || ev->opcode == l->opcode);
    if (ev->first) {
        l->message = DIGEST_START;
        l->message_len = 0;
        l->opcode = ev->opcode;
    }
    l->in_message = !ev->last;
    l->message = ws_digest(l->message, ev->payload, ev->len);
    l->message_len += ev->len;
    ws_listener_must(l->message_len <= l->limits.max_message_bytes);
    if (ev->last) ws_listener_heard(l, ev->opcode, l->message, l->message_len);
}

/* Feeds one piece, which is unmasked in place. Returns false once the connection has ended. */
static inline bool ws_listener_feed(struct ws_listener *l, uint8_t *buf, size_t len)
{
    size_t at = 0;

    while (at < len && l->close == 0) {
        struct ws_event ev;
        int64_t used = ws_read(&l->reader, &l->limits, buf + at, len - at, &ev);
        if (used < 0) {
            l->close = (int)-used;
            l->failed = true;
            break;
        }
        ws_listener_must(used > 0 && (size_t)used <= len - at);
        if (ev.kind == WS_EVENT_NONE) ws_listener_must((size_t)used == len - at);
        if (ev.kind == WS_EVENT_DATA) {
            ws_listener_must(ev.payload >= buf + at && ev.payload + ev.len == buf + at + used);
            ws_listener_data(l, &ev);
        }
        if (ev.kind == WS_EVENT_CONTROL) ws_listener_control(l, &ev);
        at += (size_t)used;
        bool at_rest = ws_reader_at_rest(&l->reader);
        ws_listener_must(!(at_rest && l->in_message));
        if (at_rest && l->forget) l->reader = (struct ws_reader){0};
    }
    return l->close == 0;
}

/* Do two listeners have heard the same? */
static inline bool ws_listener_same(const struct ws_listener *a, const struct ws_listener *b)
{
    return a->events == b->events && a->digest == b->digest && a->close == b->close &&
           a->failed == b->failed;
}

#endif
