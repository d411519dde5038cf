/* conn.h - a connection: its state, reading, out queue, backpressure and end; HTTP requests and
 * WebSocket messages on it.
 *
 * conn.c moves bytes between socket, TLS and queue; conn/http.c reads requests and writes responses
 * (RFC 9112); conn/ws.c reads and sends messages (RFC 6455); conn/tls.c has TLS; conn/address.c
 * counts them by their clients' addresses, conn/rate.c what they send; conn/drain.c closes them all
 * and conn/rebalance.c the oldest. What a request or a message means is said by the layers above,
 * through struct app. An idle connection owns its struct and its TLS session and nothing else:
 * unfinished input and unsent output are made when they are needed and freed when they are done.
 * Threads: a connection belongs to its worker for life; everything here is worker only. A
 * connection stays readable memory until the end of the turn that closed it. */
#ifndef CONN_H
#define CONN_H

#include "cidr.h"
#include "http.h"
#include "outq.h"
#include "worker.h"
#include "ws.h"

enum conn_state {
    CONN_TLS_HANDSHAKE = 0,
    CONN_HTTP,    /* reading requests, the opening handshake among them */
    CONN_OPEN,    /* WebSocket */
    CONN_CLOSING, /* our Close is queued or sent, waiting for the peer's (RFC 6455 section 7.1.2) */
    CONN_LINGER, /* everything is said: flush, FIN, wait for the peer's FIN so that no RST eats what
                    we said */
    CONN_CLOSED, /* on the closed list until the turn ends */
};

enum conn_protocol { /* what the messages of an open connection mean */
                     CONN_ECHO,
                     CONN_RAW,
                     CONN_CLIENT, /* Centrifuge protocol, JSON */
                     CONN_PROTOCOLS
};

enum conn_flag {                         /* each the answer to one question */
                 CONN_READABLE = 1 << 0, /* the kernel may have more for us (edge-triggered: it will
                                            not say so again) */
                 CONN_DIRTY = 1 << 1,    /* on the worker's dirty list */
                 CONN_READY = 1 << 2,    /* on the worker's ready list */
                 CONN_BLOCKED = 1 << 3,  /* the socket took less than we had; EPOLLOUT will come */
                 CONN_HUP = 1 << 4,      /* RDHUP, HUP or ERR was reported: read until 0 */
                 CONN_PONG_DUE =
                     1 << 5, /* a ping was sent and the peer has given no sign of life since */
                 CONN_PAUSED = 1 << 6,      /* not read: its own out queue is too full */
                 CONN_THROTTLED = 1 << 7,   /* not read: too many control frames this second */
                 CONN_PEER_DONE = 1 << 8,   /* the peer's Close has come */
                 CONN_EOF = 1 << 9,         /* the peer's FIN has come */
                 CONN_SHUT = 1 << 10,       /* our FIN is sent */
                 CONN_KEEP_ALIVE = 1 << 11, /* HTTP: another request may follow */
                 CONN_NO_SELF = 1 << 12,    /* its own publications are not for it (?self=0) */
                 CONN_MAY_PUBLISH = 1 << 13,
                 CONN_LOCAL = 1 << 14,     /* came in by loopback or a Unix socket */
                 CONN_ADMIN = 1 << 15,     /* came in by an admin listener */
                 CONN_CLIENTS = 1 << 16,   /* came in by a listener for clients */
                 CONN_IPV6 = 1 << 17,      /* peer.ip6 is in use */
                 CONN_TLS = 1 << 18,       /* came in by a TLS listener */
                 CONN_COUNTED = 1 << 19,   /* is in the counts of open WebSocket connections */
                 CONN_PING_ODD = 1 << 20,  /* heartbeat: the last ping was one of odd number */
                 CONN_AWAITED = 1 << 21,   /* not read: the answer to its request is yet to come */
                 CONN_PROXIED = 1 << 22,   /* a header of the PROXY protocol must come first */
                 CONN_FORWARDED = 1 << 23, /* the socket's peer may say in X-Forwarded-For who it
                                              speaks for */
                 CONN_USER_COUNTED = 1 << 24,    /* user_limit.h */
                 CONN_BEAT_ODD = 1 << 25,        /* heartbeat: so was the last message of beat_s */
                 CONN_ADDRESS_COUNTED = 1 << 26, /* is one of its address's connections */
                 CONN_TURNED_AWAY = 1 << 27,     /* in worker.turned_away */
                 CONN_WAITED = 1 << 28,  /* what there is to read may have come while we did not */
                 CONN_STREAMS = 1 << 29, /* an answer without an end: conn_http_stream */
};
/* The rest of flags: the number of its ping interval; heartbeat.h. */
#define CONN_PERIOD_SHIFT 29
#define CONN_PERIOD_MAX 7u

enum conn_deadline {                          /* what the connection's one timer is armed for */
                     CONN_DEADLINE_HANDSHAKE, /* TLS and request head, in all */
                     CONN_DEADLINE_REQUEST,   /* a body, or the next request of a keep-alive
                                                 connection */
                     CONN_DEADLINE_HEARTBEAT, /* the layer above says what is due */
                     CONN_DEADLINE_CLOSE,     /* the peer's Close or FIN */
                     CONN_DEADLINE_STREAM,    /* the next part of an answer without an end */
};

struct conn_in {  /* unfinished input */
    uint8_t *buf; /* HTTP: the request so far; WebSocket: the message so far */
    uint32_t len, cap;
    uint8_t opcode;  /* of the message so far */
    bool in_body;    /* HTTP: the head is complete, buf has body bytes behind it */
    bool unverified; /* cap is booked in server.unauthenticated_bytes, else in .unfinished_bytes */
    uint32_t head_len, body_len,
        raw_at; /* HTTP: buf = head, decoded body, then bytes not looked at from raw_at on */
    uint32_t body_max;
    size_t end_at; /* how far the end of the head was looked for */
    struct http_chunked chunked;
    struct ws_reader reader;
    uint8_t *kept; /* WebSocket: input behind the frame at which c was paused or throttled; bytes
                      from kept_at on */
    uint32_t kept_at, kept_len, kept_cap;
    uint8_t *held; /* the end of a message whose beginning the layer above has dealt with; comes
                      before what is kept */
    uint32_t held_len;
    uint8_t held_opcode;
};

struct user;

struct conn {
    struct wheel_timer timer; /* kind: enum conn_deadline */
    struct worker *worker;
    struct tls *tls;
    struct conn_in *in;
    struct out_queue *out;
    int fd;
    uint32_t slot;         /* index in worker->conns */
    uint32_t id;           /* of this worker's last 2^32 connections */
    uint32_t flags;        /* enum conn_flag */
    uint16_t state : 4;    /* enum conn_state; written by conn.c alone */
    uint16_t protocol : 3; /* enum conn_protocol, once open */
    uint16_t beat_s : 9; /* it asked for a message every so many seconds, to hear that we live; 0 =
                            it did not */
    uint8_t control_frames, control_second; /* control frames in that second (mod 256) */
    uint16_t close_code;                    /* how it ended, for the log */
    uint16_t peer_port;
    uint32_t last_seen; /* tick of the last bytes received */
    uint32_t opened;    /* tick of the upgrade; before it, of the accept */
    uint32_t expires; /* heartbeat: when the token's grace is over, by the wall clock, 0 = never */
    uint32_t sub_index; /* the layer above: place in the channel's array */
    void *channel;      /* the layer above: the local half of its channel */
    struct user *user;  /* the layer above: interned subject */
    union {
        uint32_t ip4;         /* network order */
        struct in6_addr *ip6; /* with CONN_IPV6 */
    } peer;
    uint64_t bytes_in, bytes_out; /* on the wire */
    uint32_t messages_in, messages_out;
};

_Static_assert(sizeof(struct conn) <= 144,
               "paid by every connection; put rare fields behind a pointer");

struct conn_rate { /* lies behind a struct conn while there is a limit for what is sent a second */
    int64_t bytes_ns, messages_ns; /* when the buckets will be empty again, monotonic */
};

enum slow_policy {
    SLOW_CLOSE,
    SLOW_DROP_OLDEST,
    SLOW_KEEP_LATEST,
    SLOW_RECOVER, /* nothing is queued: the caller ends the subscription, whose client comes back
                     and recovers */
};

struct conn_options {              /* a part of the settings (settings.h) */
    int64_t reads_per_turn;        /* recv calls for one connection */
    int64_t handshake_us_per_turn; /* time for TLS handshakes of one worker */
    int64_t handshake_timeout_ms, http_idle_timeout_ms, close_timeout_ms;
    int64_t max_message_bytes;
    int64_t queue_max_bytes;
    int64_t queues_max_bytes;          /* process-wide, for all out queues; 0 = no limit */
    int64_t unauthenticated_max_bytes; /* process-wide, for unfinished requests */
    int64_t unfinished_max_bytes;      /* the same, for messages, and bodies with a good key */
    int64_t tls_max_handshakes;        /* process-wide, in flight */
    int64_t control_frames_per_second;
    /* What one connection may send a second; 0 = off. Not changed while there are connections:
     * conn_size goes by them. */
    int64_t byte_rate;    /* bytes of frames, with their heads; as many at once, or the largest
                             message if that is more */
    int64_t message_rate; /* messages, as many at once; for who calls conn_rate_message */
    struct cidr_list proxy_from;      /* who must begin with a header of the PROXY protocol */
    struct cidr_list trusted_proxies; /* whose X-Forwarded-For is believed */
};

struct conn_handler { /* what the layer above does with an open connection's messages */
    void (*message)(struct conn *c, enum ws_opcode opcode, uint8_t *payload, size_t len);
    void (*closed)(
        struct conn *c);          /* it is not open any more: let go of channels and users. Once */
    void (*ping)(struct conn *c); /* NULL: a WebSocket ping */
    void (*beat)(struct conn *c); /* the message of beat_s; NULL where that is 0 */
    uint32_t (*deadline)(const struct conn *c); /* NULL, or: a tick at which heartbeat shall fire as
                                                   well, 0 = none */
    uint16_t drain_code, age_code; /* close codes of a stopping server and of a connection's age */
    uint16_t rate_code;            /* above the byte rate */
    const char *rate_reason;
};

/* What somebody who follows a connection is told of it (watch.h). */
enum conn_sight_kind {
    SIGHT_CONNECTED,
    SIGHT_CLOSED, /* code, text */
    SIGHT_SUBSCRIBED,
    SIGHT_UNSUBSCRIBED,
    SIGHT_MESSAGE,   /* payload */
    SIGHT_DELIVERED, /* payload, offset */
    SIGHT_REFUSED,   /* code, text: a status, or an error of the client protocol */
};

struct conn_sight { /* borrowed for the call */
    enum conn_sight_kind kind;
    const char *channel; /* NULL: none */
    size_t channel_len;
    const char *user; /* NULL: the connection's own */
    size_t user_len;
    unsigned code;
    const char *text;
    const uint8_t *payload; /* NULL: none */
    size_t len;
    uint64_t offset; /* 0: none */
};

struct app { /* the layers above; filled by cmd_serve */
    /* A request head is complete. Either answer it (conn_http_reply, conn_upgrade) and return 0, or
     * return how many bytes of body are accepted at most (> 0): then request follows with the whole
     * body. */
    int64_t (*head)(struct conn *c, const struct http_request *r);
    void (*request)(struct conn *c, const struct http_request *r, const char *body, size_t len);
    void (*heartbeat)(struct conn *c); /* the heartbeat deadline has passed: act and arm again */
    void (*ended)(struct conn *c); /* is about to be freed: the summary line, the last references */
    void (*stream)(
        struct conn *c); /* conn_http_stream: the next part is due, or the server stops */
    void (*seen)(struct conn *c, const struct conn_sight *s); /* only while worker.watchers */
    /* while worker.watchers: may what is delivered in this channel concern one of them? */
    bool (*follows)(const struct worker *w, const char *channel, size_t len);
    struct conn_handler handlers[CONN_PROTOCOLS];
};

extern const struct worker_ops conn_worker_ops;

static inline const struct conn_options *conn_options(void)
{
    return settings_of(SETTINGS_CONN);
}

/* conn_may_read: other connections are neither read nor are the bytes looked at that have been read
 * already. One that lingers is read for its FIN, whatever was to be answered. */
static inline bool conn_may_read(const struct conn *c)
{
    if (c->state == CONN_CLOSED || c->flags & (CONN_PAUSED | CONN_THROTTLED)) return false;
    return !(c->flags & CONN_AWAITED) || c->state == CONN_LINGER;
}

/* ---- all connections ---- */

/* conn_queue appends a frame (one reference is taken over) from byte from on; it is sent at the end
 * of the turn. Replies have no cap of their own: whoever causes them is not read while its queue is
 * above half of queue_max_bytes. */
void conn_queue(struct conn *c, struct out_entry e);

/* conn_deliver appends a publication to an open connection, with the slow-consumer policy at the
 * cap: close 3008, or make room by dropping older publications. An empty queue admits one of any
 * size. Takes over the reference. */
bool conn_deliver(struct conn *c, struct out_entry e,
                  enum slow_policy policy); /* false: SLOW_RECOVER, and there was no room */

/* conn_queues_full: newcomers are refused, since too much waits in the out queues of the process
 * and closing the slowest did not help. conn_queues_bytes: how much that is, as queues_max_bytes
 * counts it (conn/shed.c). Any thread. */
bool conn_queues_full(struct server *s);
uint64_t conn_queues_bytes(const struct server *s);

/* conn_drop ends the connection at once; conn_finish when what is queued has been sent. code is for
 * the log. */
void conn_drop(struct conn *c, unsigned code);
void conn_finish(struct conn *c, unsigned code);

/* conn_limit_met counts in why that c met a limit, and says so in the log: one line in ten seconds
 * for each why, with how many were left out. option: which one sets the limit. */
void conn_limit_met(struct conn *c, enum metric why, const char *option);

/* conn_arm sets the connection's one timer. */
void conn_arm(struct conn *c, enum conn_deadline what, int64_t in_ms);

/* conn_pause_if_full stops reading while the connection's own out queue is above its mark; the
 * flush reads on. */
void conn_pause_if_full(struct conn *c);

/* conn_pause stops reading until what is queued has been sent, in the next turn at the earliest:
 * for a connection that has had its share of this one. */
void conn_pause(struct conn *c);

/* conn_hold, in a handler's message, when reading is paused: the last len bytes of the message come
 * again, as a message, once it is not; before all that came behind them. Copies them. */
void conn_hold(struct conn *c, enum ws_opcode opcode, const uint8_t *bytes, size_t len);

/* conn_throttle reads the connection no further for a second. */
void conn_throttle(struct conn *c);

/* conn_read_again undoes both. */
void conn_read_again(struct conn *c);

/* conn_set_peer says who is at the other end, behind whatever proxies; port 0: not known. */
void conn_set_peer(struct conn *c, const struct in6_addr *ip, uint16_t port);

/* conn_peer_text writes the peer's address, "127.0.0.1:4711", "[::1]:4711" or "unix". */
#define CONN_PEER_TEXT 64
const char *conn_peer_text(const struct conn *c, char out[static CONN_PEER_TEXT]);

/* conn_key names a connection in this process for as long as it lives. */
static inline uint64_t conn_key(const struct conn *c)
{
    return (uint64_t)c->worker->index << 32 | c->id;
}

/* conn_rebalance closes the oldest percent of w's open connections, so that their clients come back
 * through the balancer: with the close code of age, at w's share of rate a second, where all is how
 * many connections the server has. Replaces an earlier one; 0 percent only ends that. Returns how
 * many will be closed; none when w stops, which closes everybody anyway. */
uint32_t conn_rebalance(struct worker *w, unsigned percent, uint32_t rate, uint64_t all);

/* ---- connections of an address (client.ip_connection_limit) ---- */

/* conn_address_limit_open: how many an IPv4 address or a /64 of IPv6 may have, 0 = off: then
 * nothing is counted and no lock taken. Main thread, before workers start;
 * conn_address_limit_close: no thread runs any more, but the workers' memory is there. */
void conn_address_limit_open(int64_t limit);
void conn_address_limit_set(int64_t limit); /* from now on; any thread */
void conn_address_limit_close(void);

/* conn_address_enter counts c as one of its client's address, unless it is counted or this is not a
 * client's (a proxy's, a Unix socket, a listener for operators alone). false with errno: ENOSPC,
 * there are as many as there may be; ENOMEM; both are counted in the metrics. conn_address_leave
 * takes it out again, if it is counted; so does the end of the connection. */
bool conn_address_enter(struct conn *c);
void conn_address_leave(struct conn *c);
#define CONN_ADDRESS_FULL "this address has as many connections as it may"

/* ---- what a connection sends a second ---- */

/* conn_rate_message takes one message from the bucket of message_rate; false: it is above that. */
bool conn_rate_message(struct conn *c);

/* ---- HTTP ---- */

struct http_reply {
    int status;
    const char *content_type; /* NULL: text/plain */
    const char *headers;      /* further header lines, each with CRLF, or NULL */
    const char *body;
    size_t len;
    bool close; /* the connection can not be used for another request */
};
/* conn_http_reply queues a response; r may be NULL (a head that could not be read). A HEAD request
 * gets no body. */
void conn_http_reply(struct conn *c, const struct http_request *r, const struct http_reply *reply);

/* conn_http_error answers status with one line that says what is wrong. */
void conn_http_error(struct conn *c, const struct http_request *r, int status, const char *line);

/* conn_http_later, instead of an answer to the request that is being handled, keeps c from reading
 * further until conn_http_answer gives it; c may have been closed by then (struct app's ended is
 * told), or be finishing: then the answer is dropped. */
void conn_http_later(struct conn *c);
void conn_http_answer(struct conn *c, const struct http_reply *reply);

/* conn_http_stream answers 200 with a body in chunks whose end is not known yet (RFC 9112 section
 * 7.1), to a request of HTTP/1.1 without a body; each STREAM_MS, and when the server stops, struct
 * app's stream is called. conn_http_chunk queues a piece of it (len > 0; copies);
 * conn_http_stream_end its end. What the peer sends meanwhile is not looked at; when it goes, c
 * ends. */
#define CONN_STREAM_MS 50
void conn_http_stream(struct conn *c, const char *content_type);
void conn_http_chunk(struct conn *c, const char *bytes, size_t len);
void conn_http_stream_end(struct conn *c);

/* conn_upgrade answers 101 (RFC 6455 section 4.2.2), with subprotocol unless it is NULL, and makes
 * c an open connection of protocol. The caller then arms its heartbeat. */
void conn_upgrade(struct conn *c, const struct http_request *r, enum conn_protocol protocol,
                  const char *subprotocol);

/* ---- WebSocket ---- */

/* conn_send queues one message as a reply; copies. */
void conn_send(struct conn *c, enum ws_opcode opcode, const void *payload, size_t len);
void conn_ping(struct conn *c);

/* conn_close begins the closing handshake of an open connection (any other state: finishes it). May
 * be called from anywhere on the worker, twice, in any state. reason: plain text, not empty, at
 * most 123 bytes. */
void conn_close(struct conn *c, unsigned code, const char *reason);

/* conn_message_frame builds the frame of an unmasked message with room for len payload bytes,
 * copied from payload. NULL: out of memory. */
struct frame *conn_message_frame(struct mem_pool *pool, enum ws_opcode opcode, const void *payload,
                                 size_t len);

/* ---- for those who follow it: ask conn_watched first, which costs one load ---- */

static inline bool conn_watched(const struct conn *c)
{
    return __builtin_expect(c->worker->watchers != NULL, 0);
}

static inline void conn_see(struct conn *c, const struct conn_sight *s)
{
    c->worker->server->app->seen(c, s);
}

/* ---- spans, when c's worker has a tracer ---- */

/* conn_trace_handshake begins the span of the opening handshake r, which conn_trace_answered ends;
 * conn_trace_message gives a message to its handler, in a span. conn_trace_parent reads the header
 * traceparent: false if there is no good one. */
void conn_trace_handshake(struct conn *c, const struct http_request *r);
void conn_trace_answered(struct conn *c);
void conn_trace_message(struct conn *c, enum ws_opcode opcode, uint8_t *payload, size_t len);
struct trace_parent;
bool conn_trace_parent(const struct http_request *r, struct trace_parent *p);

/* ---- between conn.c and the files of conn/ ---- */
/* conn_book books bytes (fewer than 0: gives back) kept of unfinished input in the budget of
 * clients whose token is not verified yet, or of others; conn_budget_has: has it room for more? */
void conn_book(struct server *s, bool unverified, int64_t bytes);
bool conn_budget_has(struct conn *c, bool unverified, int64_t more);
/* conn_socket_took notes n bytes of want that the socket took, or its error; returns whether it
 * took all. conn_unqueued: n bytes of the queue are gone. conn_end_of_input: the peer's FIN, or as
 * good. */
bool conn_socket_took(struct conn *c, ssize_t n, size_t want);
void conn_unqueued(struct conn *c, size_t n);
void conn_end_of_input(struct conn *c);
/* conn_flushed sends what is queued yet, and takes c from the dirty list. conn/batch.c: is this
 * turn's flush worth a batch; put c's sends into it (false: it is to be flushed as ever); do it,
 * and flush who was in it; give its memory back. */
void conn_flushed(struct conn *c);
bool conn_batch_begin(struct worker *w);
bool conn_batch_add(struct conn *c);
void conn_batch_submit(struct worker *w);
void conn_batch_free(struct worker *w);
/* conn_tls_seal puts what is queued, up to 16 KiB of it, into one record at out, as much as cap
 * bytes have room for; returns its length, 0: c is dropped. conn_tls_keep keeps sealed bytes that
 * the socket did not take. */
size_t conn_tls_seal(struct conn *c, uint8_t *out, size_t cap);
void conn_tls_keep(struct conn *c, const uint8_t *bytes, size_t len);
/* conn/tls.c: received bytes; send what is queued; say close_notify; the handshake has failed; the
 * client's token is verified, what is kept is no stranger's any more; the end of the session. */
void conn_tls_input(struct conn *c, const uint8_t *bytes, size_t len);
void conn_tls_flush(struct conn *c);
void conn_tls_goodbye(struct conn *c);
void conn_tls_failed(struct conn *c);
void conn_tls_verified(struct conn *c);
void conn_tls_free(struct conn *c);
void conn_waits(struct conn *c);         /* its queue is not empty after a flush */
void conn_waits_no_more(struct conn *c); /* before its queue is freed */
void conn_ask_kernel(struct worker *w);  /* once a second */
bool conn_shed(struct worker *w); /* once a turn; true if it closed somebody: there is something to
                                     flush */
void conn_stopping(struct worker *w);
int conn_draining(struct worker *w);
int conn_rebalancing(struct worker *w);
void conn_rebalance_stop(struct worker *w);
void conn_set_state(struct conn *c, enum conn_state to);
void conn_mark_dirty(struct conn *c);
/* tells the handler, once; reason: for who follows it, NULL = none */
void conn_left_open(struct conn *c, unsigned code, const char *reason);
void conn_input(struct conn *c, uint8_t *plain, size_t len);
void conn_http_input(struct conn *c, uint8_t *bytes, size_t len);
/* conn_size is what a connection takes. conn_rate_bytes, where byte_rate is on: how many of len
 * bytes received are within it; the bucket has taken them, unless there are more, which is the end
 * of the connection. */
size_t conn_size(const struct conn_options *o);
size_t conn_rate_bytes(struct conn *c, size_t len);
/* conn_address_refuse ends what could not enter (errno is of that): plain ones with a 429, which
 * some of them get; TLS without a word, since to say it would cost a handshake. */
void conn_address_refuse(struct conn *c);
void conn_ws_input(struct conn *c, uint8_t *bytes,
                   size_t len);               /* both: without bytes, go on with what was kept */
struct conn_in *conn_in_need(struct conn *c); /* makes it; NULL: out of memory, c is dropped */
bool conn_in_reserve(struct conn *c, size_t len, size_t max); /* room for len bytes in all in buf */
/* conn_in_alloc gives memory for what is put off of a WebSocket's input, of the budget of c->in;
 * NULL: there is none, or the budget has no room. conn_in_give_back takes it back; p may be NULL.
 */
uint8_t *conn_in_alloc(struct conn *c, size_t len);
void conn_in_give_back(struct worker *w, uint8_t *p, size_t len);
void conn_in_verified(struct conn *c); /* what is kept is no stranger's any more */
void conn_in_free(struct worker *w, struct conn_in **in);

#endif
