/* ws.h - WebSocket framing (RFC 6455): a streaming reader of frames, header writer, unmasking,
 * UTF-8, close codes.
 *
 * Pure functions: no I/O, no allocation, no clock, no globals. Any thread. */
#ifndef WS_H
#define WS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ws_opcode { /* RFC 6455 section 5.2 */
                 WS_CONTINUATION = 0,
                 WS_TEXT = 1,
                 WS_BINARY = 2,
                 WS_CLOSE = 8,
                 WS_PING = 9,
                 WS_PONG = 10,
};

enum { /* RFC 6455 section 7.4.1 */
       WS_CLOSE_NORMAL = 1000,
       WS_CLOSE_GOING_AWAY = 1001,
       WS_CLOSE_PROTOCOL = 1002,
       WS_CLOSE_UNSUPPORTED = 1003,
       WS_CLOSE_NO_STATUS = 1005, /* never on the wire */
       WS_CLOSE_ABNORMAL = 1006,  /* never on the wire */
       WS_CLOSE_BAD_DATA = 1007,
       WS_CLOSE_POLICY = 1008,
       WS_CLOSE_TOO_LARGE = 1009,
       WS_CLOSE_INTERNAL = 1011,
       WS_CLOSE_RESTART = 1012,
       WS_CLOSE_TRY_LATER = 1013,
};

#define WS_HEAD_MAX 14     /* longest frame header, masked */
#define WS_CONTROL_MAX 125 /* longest control payload, section 5.5 */
#define WS_MAX_FRAGMENTS 65536

struct ws_head {
    uint8_t opcode; /* enum ws_opcode */
    bool fin, rsv1, masked;
    uint8_t masking_key[4];
    uint64_t payload_len;
};

/* ws_head_parse reads one frame header from the first len bytes of buf. Returns the header's size
 * in bytes (2..14) and fills *h; 0 if more bytes are needed; -close_code if the peer broke RFC 6455
 * whoever it is: rsv2/rsv3, unknown opcode, length not minimal or with its top bit set, fragmented
 * or long control frame. Fails at the earliest byte that proves it. Whether rsv1 and masked are
 * right depends on the side: ws_read checks them. Keeps no pointer to buf. */
int ws_head_parse(struct ws_head *h, const uint8_t *buf, size_t len);

/* ws_head_write writes a header (fin, rsv1, opcode, payload_len, and masking_key if masked) and
 * returns its size. out has WS_HEAD_MAX bytes. */
size_t ws_head_write(uint8_t *out, const struct ws_head *h);

/* ws_head_size: bytes of an unmasked header for payload_len. */
static inline size_t ws_head_size(uint64_t payload_len)
{
    return payload_len < 126 ? 2 : payload_len < 65536 ? 4 : 10;
}

/* ws_unmask XORs len bytes in place. offset is how many payload bytes of this frame were unmasked
 * before, so that a frame may arrive in pieces. At least eight bytes a step. */
void ws_unmask(uint8_t *payload, size_t len, const uint8_t key[static 4], size_t offset);

/* UTF-8 as it arrives (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF). *state starts
 * 0. Returns false at the first byte that can not be part of valid text, even when its character is
 * not complete. ws_utf8_done says whether the text may end here. ASCII goes eight bytes a step or
 * more. */
bool ws_utf8(uint32_t *state, const uint8_t *text, size_t len);
static inline bool ws_utf8_done(uint32_t state)
{
    return state == 0;
}

/* ws_close_code_ok: may a peer send this code (section 7.4: 1000-1003, 1007-1014, 3000-4999)? */
bool ws_close_code_ok(unsigned code);

/* ws_close_parse reads the payload of a close frame: 0 bytes = WS_CLOSE_NO_STATUS; returns the
 * code, or -close_code for one byte, a code that may not be sent, or a reason that is not UTF-8.
 * *reason points into payload. */
int ws_close_parse(const uint8_t *payload, size_t len, const char **reason, size_t *reason_len);

/* ws_close_write writes the payload of a close frame (code and reason, cut at a character boundary
 * to 123 bytes); returns its length. A code that may not be on the wire, WS_CLOSE_NO_STATUS, gives
 * an empty payload. reason is UTF-8 and may be NULL. out has WS_CONTROL_MAX bytes. */
size_t ws_close_write(uint8_t *out, unsigned code, const char *reason);

/* ---- the streaming reader ----
 * Feed it bytes in any pieces; the same bytes give the same events (data pieces apart, which follow
 * the input) and fail at the same byte. A zeroed reader is at the start of a connection.
 * ws_reader_at_rest says that it is between messages with nothing kept, i.e. that it may be
 * forgotten and a zeroed one, or any other reader at rest, used for the next byte: an idle
 * connection owns no reader, and a worker needs only one for all of them. */
struct ws_limits {
    uint64_t max_message_bytes;
    bool server; /* our side is the server: frames must be masked; client: must not be */
};

struct ws_reader {
    uint8_t head[WS_HEAD_MAX]; /* an unfinished header */
    uint8_t head_len;
    uint8_t in_frame;       /* payload of h is being read */
    uint8_t message_opcode; /* of the message under way, 0 = none */
    struct ws_head h;
    uint64_t frame_at;      /* payload bytes of this frame consumed */
    uint64_t message_bytes; /* of the message, this frame's announced length included */
    uint32_t fragments;
    uint32_t utf8;
    uint8_t control[WS_CONTROL_MAX]; /* an unfinished control payload */
};

enum ws_event_kind {
    WS_EVENT_NONE,    /* all input was used, nothing to say */
    WS_EVENT_DATA,    /* a piece of a data message, unmasked in place in the input */
    WS_EVENT_CONTROL, /* a whole control frame */
};

struct ws_event {
    enum ws_event_kind kind;
    uint8_t opcode;   /* of the message (never continuation) or of the control frame */
    bool first, last; /* DATA: first / last piece of its message; only such a piece may be empty */
    uint8_t *payload; /* into the input (DATA) or the reader or the input (CONTROL) */
    size_t len;
};

/* ws_read consumes bytes of buf (unmasking in place) until there is an event or the input ends.
 * Returns the number of bytes consumed (> 0 whenever len > 0) or -close_code: 1002 protocol; 1007
 * bad UTF-8 in text, checked as it arrives and failing at the first bad byte; 1009 announced total
 * over max_message_bytes, or more than WS_MAX_FRAGMENTS fragments. After an error the reader is
 * undefined. A message wholly inside buf in one frame comes as one event with first and last.
 * What a close frame says, and that nothing may follow it, is the caller's (ws_close_parse). */
int64_t ws_read(struct ws_reader *r, const struct ws_limits *lim, uint8_t *buf, size_t len,
                struct ws_event *ev);

bool ws_reader_at_rest(const struct ws_reader *r);

/* ---- opening handshake helpers ---- */
/* ws_accept_key writes the 28 characters of Sec-WebSocket-Accept and a NUL for a 24-character key
 * (section 4.2.2). */
void ws_accept_key(char out[static 29], const char *key, size_t key_len);
/* ws_key_ok: is it base64 of exactly 16 bytes? */
bool ws_key_ok(const char *key, size_t len);

#endif
