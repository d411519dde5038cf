/* dial.h - a WebSocket connection as a client opens it (RFC 6455 sections 4.1 and 5): connect, TLS,
 * opening handshake, frames, closing handshake.
 *
 * Non-blocking and without a clock: the caller polls dial_fd for dial_wants, calls dial_step, and
 * keeps all deadlines. So a loop around poll(2) drives a few and one around epoll(7) drives
 * thousands. Threads: a dial_loop and its connections belong to one thread; a dial_peer is only
 * read. */
#ifndef DIAL_H
#define DIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "tls.h"
#include "url.h"
#include "ws.h"

/* ---- whom to call ---- */

#define DIAL_ADDRESSES_MAX 8

/* Made by the caller, zeroed first; outlives the connections that use it. */
struct dial_peer {
    struct url url;
    struct tls_client *tls;     /* for wss: trust anchors; borrowed */
    uint64_t max_message_bytes; /* longer messages end the connection; 0 = 64 MiB */
    bool echo_masked; /* frames come back masked, as sent: a bare loop that copies bytes (bench) */
    struct sockaddr_storage source; /* connect from this address, if source_len is not 0 */
    socklen_t source_len;
    struct sockaddr_storage addresses[DIAL_ADDRESSES_MAX]; /* tried in this order */
    socklen_t address_len[DIAL_ADDRESSES_MAX];
    size_t address_count;
};

/* dial_resolve looks up p->url's host and fills the addresses. Blocks for as long as the resolver
 * does. Returns 0, or -1 with one line in err; *no_such_name (may be NULL) says that trying again
 * is no use. */
int dial_resolve(struct dial_peer *p, char *err, size_t err_len, bool *no_such_name);

/* ---- what connections of one thread share: receive buffers and fresh masking keys ---- */

struct dial_loop;
struct dial_loop *dial_loop_new(void);         /* NULL when memory is out */
void dial_loop_delete(struct dial_loop *loop); /* no connection may be left */

/* ---- a connection ---- */

struct dial;

enum dial_state {
    DIAL_CONNECTING = 0,
    DIAL_TLS_HANDSHAKE,
    DIAL_READY,     /* `hold` was asked for: dial_upgrade goes on */
    DIAL_HTTP_HEAD, /* the request is under way, the answer not complete */
    DIAL_OPEN,
    DIAL_CLOSING, /* a Close was sent or received; ends when the server closes the socket */
    DIAL_CLOSED,  /* over, socket closed; see dial_end */
};

/* Called from inside dial_step. They may call dial_send and dial_close, never dial_free. */
struct dial_handler {
    void (*opened)(struct dial *d, void *user); /* may be NULL */
    /* A piece of a message or a whole control frame; the payload is the handler's to change until
     * it returns. Pings are answered and a Close is echoed before this is called. */
    void (*event)(struct dial *d, const struct ws_event *ev, void *user);
};

struct dial_request {                   /* copied, the strings too */
    const char *target;                 /* path and query as they go into the request line */
    const char *token;                  /* for Authorization: Bearer (RFC 6750); NULL = none */
    bool hold;                          /* stop at DIAL_READY, before the request is sent */
    const struct dial_handler *handler; /* borrowed */
    void *user;
};

/* dial_new starts to connect to the first address. What fails is told by the state DIAL_CLOSED and
 * dial_end; NULL only when memory is out. dial_free closes the socket, whatever the state. */
struct dial *dial_new(struct dial_loop *loop, const struct dial_peer *peer,
                      const struct dial_request *request);
void dial_free(struct dial *d); /* d may be NULL */

int dial_fd(const struct dial *d); /* -1 once closed. Changes while connecting: the next address */
short dial_wants(const struct dial *d); /* POLLIN, POLLOUT (the same bits as EPOLLIN, EPOLLOUT) */
enum dial_state dial_state(const struct dial *d);

/* dial_step does what can be done now; events are what poll or epoll said (level-triggered: it may
 * leave bytes unread). Returns the state. */
enum dial_state dial_step(struct dial *d, short events);

/* dial_upgrade sends the opening handshake of a connection that is held in DIAL_READY. */
void dial_upgrade(struct dial *d);

/* dial_send queues a message in one frame, or a ping or pong of at most WS_CONTROL_MAX bytes, and
 * does no I/O: dial_flush does, dial_step at its end too. Copies payload. Returns the stream
 * position behind the frame (see dial_taken), or -1 when the connection is not open or memory is
 * out. */
int64_t dial_send(struct dial *d, enum ws_opcode opcode, const void *payload, size_t len);
void dial_flush(struct dial *d);

size_t dial_queued(const struct dial *d); /* bytes that the socket has not taken yet */

/* dial_taken is the stream position up to which the socket has taken everything: a frame whose end
 * is behind it can not have reached the server whole. */
int64_t dial_taken(const struct dial *d);

/* dial_close begins the closing handshake (section 7.1.2) with code and reason; in earlier states
 * it just ends the connection. The connection is over when the server closes the socket, or when
 * the caller, whose deadline it is, calls dial_free. */
void dial_close(struct dial *d, unsigned code, const char *reason);

/* dial_close_received: has the server's Close arrived? dial_close_confirmed: and as the answer to
 * ours, so that the server has taken in everything that was sent before it? (A Close with a code of
 * its own may have crossed ours.) */
bool dial_close_received(const struct dial *d);
bool dial_close_confirmed(const struct dial *d);

enum dial_end_kind {
    DIAL_END_NONE,
    DIAL_END_NETWORK,  /* could not connect, or cut without a Close */
    DIAL_END_TLS,      /* certificate not trusted, no common version ... */
    DIAL_END_HTTP,     /* the handshake was answered with another status than 101 */
    DIAL_END_PROTOCOL, /* the server broke HTTP or RFC 6455 */
    DIAL_END_CLOSE,    /* by a Close frame */
    DIAL_END_LOCAL,    /* out of memory, or dial_close before it was open */
};

struct dial_end {
    enum dial_end_kind kind;
    int code;              /* HTTP status or close code */
    int64_t retry_after_s; /* from Retry-After; -1 = not said */
    bool for_rate;         /* a Close that says "rate": it may come back, slower */
    char text[192];        /* one printable line that says what happened */
};

/* dial_end tells how it ended; while DIAL_CLOSING with the server's Close here, how it will.
 * Lives as long as d. */
const struct dial_end *dial_end(const struct dial *d);

const char *dial_tls_version(const struct dial *d); /* "TLSv1.3", "" without TLS */
bool dial_tls_resumed(const struct dial *d);

/* ---- when to try again ---- */

#define DIAL_RETRY_MIN_MS 500
#define DIAL_RETRY_MAX_MS 20000

/* dial_retry_ms: how long to wait before attempt number `failures` + 1 (exponential, full jitter: a
 * thousand clients cut at once come back spread out). random is any 64 random bits.
 * From DIAL_RETRY_MIN_MS to DIAL_RETRY_MAX_MS. Pure. */
int64_t dial_retry_ms(unsigned failures, uint64_t random);

#endif
