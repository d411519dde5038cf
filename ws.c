#include "ws.h"

#include <string.h>

#include <mbedtls/base64.h>
#include <mbedtls/sha1.h>

/* Bits of the first two header bytes, RFC 6455 section 5.2. FIN and MASKED are the same bit of
 * different bytes, so each has its own name. */
#define HEAD0_FIN 0x80u
#define HEAD0_RSV1 0x40u
#define HEAD0_RSV2_RSV3 0x30u
#define HEAD0_OPCODE 0x0fu
#define OPCODE_CONTROL 0x08u
#define HEAD1_MASKED 0x80u
#define HEAD1_LENGTH 0x7fu
#define LENGTH_16 126u /* the length is in the next two bytes */
#define LENGTH_64 127u /* in the next eight */

#define KNOWN_OPCODES                                                                              \
    (1u << WS_CONTINUATION | 1u << WS_TEXT | 1u << WS_BINARY | 1u << WS_CLOSE | 1u << WS_PING |    \
     1u << WS_PONG)

/* ---- frame header ---- */

static inline uint64_t big_endian(const uint8_t *p, size_t n)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++) value = value << 8 | p[i];
    return value;
}

/* What the first one or two bytes prove wrong whatever follows (sections 5.2 and 5.5). */
static inline bool first_bytes_ok(const uint8_t *head, size_t len)
{
    unsigned opcode = head[0] & HEAD0_OPCODE;

    if (head[0] & HEAD0_RSV2_RSV3) return false;
    if (!(KNOWN_OPCODES >> opcode & 1)) return false;
    if (!(opcode & OPCODE_CONTROL)) return true;
    if (!(head[0] & HEAD0_FIN)) return false;
    return len < 2 || (head[1] & HEAD1_LENGTH) <= WS_CONTROL_MAX;
}

/* Section 5.2: the minimal number of bytes MUST be used, and the top bit of 64 is zero. p has n of
 * the extended length's bytes; six zero bytes of eight already say "below 65,536". */
static inline bool length_is_minimal(unsigned length7, const uint8_t *p, size_t n)
{
    if (length7 < LENGTH_16 || n == 0) return true;
    if (length7 == LENGTH_16) return n < 2 || big_endian(p, 2) >= LENGTH_16;
    return !(p[0] & 0x80) && (n < 6 || big_endian(p, 6) != 0);
}

static inline int parse_head(struct ws_head *h, const uint8_t *buf, size_t len)
{
    if (len == 0) return 0;
    if (!first_bytes_ok(buf, len)) return -WS_CLOSE_PROTOCOL;
    if (len < 2) return 0;

    unsigned length7 = buf[1] & HEAD1_LENGTH;
    if (!length_is_minimal(length7, buf + 2, len - 2)) return -WS_CLOSE_PROTOCOL;

    size_t extended = length7 < LENGTH_16 ? 0 : length7 == LENGTH_16 ? 2 : 8;
    bool masked = buf[1] & HEAD1_MASKED;
    size_t size = 2 + extended + (masked ? 4 : 0);
    if (len < size) return 0;

    h->opcode = buf[0] & HEAD0_OPCODE;
    h->fin = buf[0] & HEAD0_FIN;
    h->rsv1 = buf[0] & HEAD0_RSV1;
    h->masked = masked;
    h->payload_len = extended ? big_endian(buf + 2, extended) : length7;
    if (masked) memcpy(h->masking_key, buf + size - 4, 4);
    return (int)size;
}

int ws_head_parse(struct ws_head *h, const uint8_t *buf, size_t len)
{
    return parse_head(h, buf, len);
}

size_t ws_head_write(uint8_t *out, const struct ws_head *h)
{
    size_t size = ws_head_size(h->payload_len);
    size_t extended = size - 2;

    out[0] = (uint8_t)((h->fin ? HEAD0_FIN : 0) | (h->rsv1 ? HEAD0_RSV1 : 0) | h->opcode);
    out[1] = (uint8_t)(extended == 0 ? h->payload_len : extended == 2 ? LENGTH_16 : LENGTH_64);
    for (size_t i = 0; i < extended; i++)
        out[2 + i] = (uint8_t)(h->payload_len >> 8 * (extended - 1 - i));
    if (!h->masked) return size;
    out[1] |= HEAD1_MASKED;
    memcpy(out + size, h->masking_key, 4);
    return size + 4;
}

/* ---- unmasking, section 5.3 ---- */

/* Sixteen bytes that the compiler keeps in one SSE2 or NEON register. memcpy in and out, so that
 * any alignment is right; it costs nothing on the processors we build for. */
typedef uint32_t lanes __attribute__((vector_size(16)));

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "ws_unmask turns the key in a register");

static inline void xor_lanes(uint8_t *p, lanes key)
{
    lanes v;
    memcpy(&v, p, sizeof(v));
    v ^= key;
    memcpy(p, &v, sizeof(v));
}

void ws_unmask(uint8_t *payload, size_t len, const uint8_t key[static 4], size_t offset)
{
    /* The key as this piece meets it: every step below is a multiple of 4, so it turns only once,
     * and in a register: four bytes stored and loaded as one word would stall. */
    const unsigned turn = 8 * (unsigned)(offset & 3);
    uint32_t key4;
    memcpy(&key4, key, 4);
    if (turn) key4 = key4 >> turn | key4 << (32 - turn);
    const lanes key16 = {key4, key4, key4, key4};

    for (; len >= 64; payload += 64, len -= 64) {
        xor_lanes(payload, key16);
        xor_lanes(payload + 16, key16);
        xor_lanes(payload + 32, key16);
        xor_lanes(payload + 48, key16);
    }
    for (; len >= 16; payload += 16, len -= 16) xor_lanes(payload, key16);
    for (; len >= 4; payload += 4, len -= 4) {
        uint32_t v;
        memcpy(&v, payload, 4);
        v ^= key4;
        memcpy(payload, &v, 4);
    }
    for (size_t i = 0; i < len; i++) payload[i] ^= (uint8_t)(key4 >> 8 * i);
}

/* ---- UTF-8, RFC 3629 ----
 * A state machine of nine states whose whole transition function for one byte fits in 64 bits:
 * a state is a bit offset, and the next state is the six bits at that offset of the byte's word.
 * So a step is one load and one shift, without a branch that text could mispredict. 2 KiB of table.
 * A range check per character (branches) and vector code (length, and another form per processor)
 * were rejected. */
enum {
    UTF8_START = 0, /* between characters */
    UTF8_BAD = 6,   /* stays bad */
    UTF8_NEED1 = 12,
    UTF8_NEED2 = 18,
    UTF8_NEED3 = 24,
    UTF8_AFTER_E0 = 30, /* only A0..BF, else overlong */
    UTF8_AFTER_ED = 36, /* only 80..9F, else a surrogate */
    UTF8_AFTER_F0 = 42, /* only 90..BF, else overlong */
    UTF8_AFTER_F4 = 48, /* only 80..8F, else above U+10FFFF */
    UTF8_STATE = 63,    /* mask */
};

#define MOVE(from, to) ((uint64_t)(to) << (from))
#define MOVES(start, need1, need2, need3, e0, ed, f0, f4)                                          \
    (MOVE(UTF8_START, start) | MOVE(UTF8_BAD, UTF8_BAD) | MOVE(UTF8_NEED1, need1) |                \
     MOVE(UTF8_NEED2, need2) | MOVE(UTF8_NEED3, need3) | MOVE(UTF8_AFTER_E0, e0) |                 \
     MOVE(UTF8_AFTER_ED, ed) | MOVE(UTF8_AFTER_F0, f0) | MOVE(UTF8_AFTER_F4, f4))
#define BAD UTF8_BAD
#define LEAD(to) MOVES(to, BAD, BAD, BAD, BAD, BAD, BAD, BAD)
#define CONTINUES(e0, ed, f0, f4) MOVES(BAD, UTF8_START, UTF8_NEED1, UTF8_NEED2, e0, ed, f0, f4)

static const uint64_t utf8_moves[256] = {
    [0x00 ... 0x7f] = LEAD(UTF8_START),
    [0x80 ... 0x8f] = CONTINUES(BAD, UTF8_NEED1, BAD, UTF8_NEED2),
    [0x90 ... 0x9f] = CONTINUES(BAD, UTF8_NEED1, UTF8_NEED2, BAD),
    [0xa0 ... 0xbf] = CONTINUES(UTF8_NEED1, BAD, UTF8_NEED2, BAD),
    [0xc0 ... 0xc1] = LEAD(BAD), /* overlong ASCII */
    [0xc2 ... 0xdf] = LEAD(UTF8_NEED1),
    [0xe0] = LEAD(UTF8_AFTER_E0),
    [0xe1 ... 0xec] = LEAD(UTF8_NEED2),
    [0xed] = LEAD(UTF8_AFTER_ED),
    [0xee ... 0xef] = LEAD(UTF8_NEED2),
    [0xf0] = LEAD(UTF8_AFTER_F0),
    [0xf1 ... 0xf3] = LEAD(UTF8_NEED3),
    [0xf4] = LEAD(UTF8_AFTER_F4),
    [0xf5 ... 0xff] = LEAD(BAD),
};

static inline uint64_t eight_bytes(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

bool ws_utf8(uint32_t *state, const uint8_t *text, size_t len)
{
    const uint64_t high_bits = 0x8080808080808080u;
    uint64_t s = *state;

    while (len >= 8) {
        if ((s & UTF8_STATE) == UTF8_START) {
            for (; len >= 32; text += 32, len -= 32)
                if ((eight_bytes(text) | eight_bytes(text + 8) | eight_bytes(text + 16) |
                     eight_bytes(text + 24)) &
                    high_bits)
                    break;
            for (; len >= 8 && !(eight_bytes(text) & high_bits); text += 8) len -= 8;
            if (len < 8) break;
        }
        for (size_t i = 0; i < 8; i++) s = utf8_moves[text[i]] >> (s & UTF8_STATE);
        if ((s & UTF8_STATE) == UTF8_BAD) return false;
        text += 8;
        len -= 8;
    }
    for (; len > 0; text++, len--) s = utf8_moves[*text] >> (s & UTF8_STATE);
    *state = s & UTF8_STATE;
    return *state != UTF8_BAD;
}

/* ---- close frames, sections 5.5.1 and 7.4 ---- */

bool ws_close_code_ok(unsigned code)
{
    if (code >= 3000) return code <= 4999;
    /* 1004 is reserved; 1005, 1006 and 1015 say what happened without a close frame. */
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014);
}

int ws_close_parse(const uint8_t *payload, size_t len, const char **reason, size_t *reason_len)
{
    uint32_t utf8 = 0;

    *reason = "";
    *reason_len = 0;
    if (len == 0) return WS_CLOSE_NO_STATUS;
    if (len == 1) return -WS_CLOSE_PROTOCOL;

    unsigned code = (unsigned)big_endian(payload, 2);
    if (!ws_close_code_ok(code)) return -WS_CLOSE_PROTOCOL;
    if (!ws_utf8(&utf8, payload + 2, len - 2) || !ws_utf8_done(utf8)) return -WS_CLOSE_BAD_DATA;
    *reason = (const char *)payload + 2;
    *reason_len = len - 2;
    return (int)code;
}

size_t ws_close_write(uint8_t *out, unsigned code, const char *reason)
{
    const size_t room = WS_CONTROL_MAX - 2;

    if (!ws_close_code_ok(code)) return 0;
    out[0] = (uint8_t)(code >> 8);
    out[1] = (uint8_t)code;
    size_t len = reason ? strnlen(reason, room + 1) : 0;
    if (len > room) { /* back to the start of the character that does not fit */
        len = room;
        while (len > 0 && ((uint8_t)reason[len] & 0xc0) == 0x80) len--;
    }
    if (len > 0) memcpy(out + 2, reason, len);
    return 2 + len;
}

/* ---- the streaming reader ---- */

static inline bool is_control(uint8_t opcode)
{
    return opcode & OPCODE_CONTROL;
}

/* What the peer may not send on this connection at this point, by the first one or two bytes. */
static inline bool head_is_due(const struct ws_reader *r, const struct ws_limits *lim,
                               const uint8_t *head, size_t len)
{
    uint8_t opcode = head[0] & HEAD0_OPCODE;

    if (head[0] & HEAD0_RSV1) return false; /* 5.2: no extension that defines it was agreed */
    /* 5.4: the fragments of one message may not be interleaved with another message */
    if (!is_control(opcode) && (opcode == WS_CONTINUATION) != (r->message_opcode != 0))
        return false;
    return len < 2 || (bool)(head[1] & HEAD1_MASKED) == lim->server; /* 5.1 */
}

/* The header in r->h is whole. Lengths are compared before anything is added or reserved. */
static inline int start_frame(struct ws_reader *r, const struct ws_limits *lim)
{
    r->in_frame = 1;
    r->head_len = 0;
    r->frame_at = 0;
    if (is_control(r->h.opcode)) return 0;

    if (r->h.payload_len > lim->max_message_bytes) return -WS_CLOSE_TOO_LARGE;
    if (r->message_bytes > lim->max_message_bytes - r->h.payload_len) return -WS_CLOSE_TOO_LARGE;
    if (r->fragments >= WS_MAX_FRAGMENTS) return -WS_CLOSE_TOO_LARGE;
    r->message_bytes += r->h.payload_len;
    r->fragments++;
    if (r->h.opcode != WS_CONTINUATION) r->message_opcode = r->h.opcode;
    return 0;
}

/* Reads a header, or a part of it, from the start of buf. Returns the bytes used, or -close_code;
 * r->in_frame says whether the header is whole now. */
static inline int read_head(struct ws_reader *r, const struct ws_limits *lim, const uint8_t *buf,
                            size_t len)
{
    const uint8_t *head = buf;
    size_t kept = r->head_len;

    if (kept > 0) {
        size_t more = len < WS_HEAD_MAX - kept ? len : WS_HEAD_MAX - kept;
        memcpy(r->head + kept, buf, more);
        head = r->head;
        len = kept + more;
    }
    if (!head_is_due(r, lim, head, len)) return -WS_CLOSE_PROTOCOL;
    int size = parse_head(&r->h, head, len);
    if (size < 0) return size;
    if (size > 0) {
        int refused = start_frame(r, lim);
        return refused ? refused : size - (int)kept;
    }
    if (kept == 0) memcpy(r->head, buf, len); /* unfinished, so below WS_HEAD_MAX */
    r->head_len = (uint8_t)len;
    return (int)(len - kept);
}

/* How many of the len bytes at p belong to this frame; unmasks and counts them. */
static inline size_t take_payload(struct ws_reader *r, uint8_t *p, size_t len)
{
    uint64_t left = r->h.payload_len - r->frame_at;
    if (left < len) len = (size_t)left;
    if (r->h.masked && len > 0) ws_unmask(p, len, r->h.masking_key, (size_t)(r->frame_at & 3));
    r->frame_at += len;
    if (r->frame_at == r->h.payload_len) r->in_frame = 0;
    return len;
}

/* Back to the state of a zeroed reader. */
static inline void end_message(struct ws_reader *r)
{
    r->message_opcode = 0;
    r->message_bytes = 0;
    r->fragments = 0;
    r->utf8 = 0;
}

static inline int64_t read_data(struct ws_reader *r, uint8_t *p, size_t len, struct ws_event *ev)
{
    bool first = r->h.opcode != WS_CONTINUATION && r->frame_at == 0;
    size_t used = take_payload(r, p, len);
    bool last = !r->in_frame && r->h.fin;

    if (r->message_opcode == WS_TEXT) {
        if (!ws_utf8(&r->utf8, p, used)) return -WS_CLOSE_BAD_DATA;
        if (last && !ws_utf8_done(r->utf8)) return -WS_CLOSE_BAD_DATA;
    }
    /* Nothing to say: the payload has not begun, or an empty fragment in the middle. */
    if (used == 0 && (r->in_frame || !(first || last))) return 0;
    *ev = (struct ws_event){WS_EVENT_DATA, r->message_opcode, first, last, p, used};
    if (last) end_message(r);
    return (int64_t)used;
}

static inline size_t read_control(struct ws_reader *r, uint8_t *p, size_t len, struct ws_event *ev)
{
    size_t kept = (size_t)r->frame_at;
    size_t used = take_payload(r, p, len);
    uint8_t *payload = p;

    if (kept > 0 || r->in_frame) { /* not whole in this input */
        memcpy(r->control + kept, p, used);
        payload = r->control;
    }
    if (!r->in_frame)
        *ev = (struct ws_event){.kind = WS_EVENT_CONTROL,
                                .opcode = r->h.opcode,
                                .payload = payload,
                                .len = (size_t)r->h.payload_len};
    return used;
}

int64_t ws_read(struct ws_reader *r, const struct ws_limits *lim, uint8_t *buf, size_t len,
                struct ws_event *ev)
{
    size_t at = 0;

    ev->kind = WS_EVENT_NONE;
    while (at < len && ev->kind == WS_EVENT_NONE) {
        if (!r->in_frame) {
            int used = read_head(r, lim, buf + at, len - at);
            if (used < 0) return used;
            at += (size_t)used;
            if (!r->in_frame) break;
        }
        /* Also with no byte left: an empty frame is complete with its header. */
        if (is_control(r->h.opcode)) {
            at += read_control(r, buf + at, len - at, ev);
        } else {
            int64_t used = read_data(r, buf + at, len - at, ev);
            if (used < 0) return used;
            at += (size_t)used;
        }
    }
    return (int64_t)at;
}

bool ws_reader_at_rest(const struct ws_reader *r)
{
    return r->head_len == 0 && !r->in_frame && r->message_opcode == 0;
}

/* ---- opening handshake, section 4.2.2 ---- */

void ws_accept_key(char out[static 29], const char *key, size_t key_len)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    mbedtls_sha1_context sha1;
    unsigned char digest[20];
    size_t written;

    mbedtls_sha1_init(&sha1);
    mbedtls_sha1_starts(&sha1);
    mbedtls_sha1_update(&sha1, (const unsigned char *)key, key_len);
    mbedtls_sha1_update(&sha1, (const unsigned char *)guid, sizeof(guid) - 1);
    mbedtls_sha1_finish(&sha1, digest);
    mbedtls_sha1_free(&sha1);
    mbedtls_base64_encode((unsigned char *)out, 29, &written, digest, sizeof(digest));
}

bool ws_key_ok(const char *key, size_t len)
{
    unsigned char nonce[16];
    size_t written = 0;

    /* 24 characters can only give 16 bytes if none of them is white space, which the decoder skips.
     */
    if (len != 24) return false;
    if (mbedtls_base64_decode(nonce, sizeof(nonce), &written, (const unsigned char *)key, len))
        return false;
    return written == sizeof(nonce);
}
