/* ws_cases.h - what a WebSocket server must do with what a client sends, as a table (RFC 6455).
 *
 * The numbers are those of the groups in which conformance suites arrange the RFC's rules: 1
 * lengths, 2 pings and pongs, 3 reserved bits, 4 reserved opcodes, 5 fragments, 6 UTF-8, 7 closing,
 * 9 large messages, 10 many fragments. A case is the frames that a client sends and what must come
 * of them: the messages and control frames that the server hears, and the code that ends the
 * connection.
 *
 * For the codec (test_ws_cases.c) those are the events. On a socket to /echo the same bytes must
 * bring back: a TEXT or BINARY event, the same message; a PING event, a PONG with its payload; a
 * PONG event, nothing; in that order; then a close frame with .close (WS_CLOSE_NO_STATUS: an
 * empty one), or, with STAYS_OPEN, an open connection.
 *
 * Test programs only. No allocation: ws_case_wire says how many bytes it needs. */
#ifndef WS_CASES_H
#define WS_CASES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "ws.h"
#include "ws_utf8_cases.h"

#define FIN 0x80
#define RSV(bits) ((bits) << 4)
#define CASE_FILL '*' /* payload bytes where a table gives a length alone */
#define CASE_FRAMES 8
#define CASE_EVENTS 8
#define STAYS_OPEN 0

enum ws_case_shape {
    SHAPE_NONE,     /* behind the last frame */
    SHAPE_MASKED,   /* as it should be */
    SHAPE_UNMASKED, /* section 5.1: refused */
    SHAPE_LEN16,    /* masked, length in 2 bytes however short */
    SHAPE_LEN64,    /* masked, length in 8 bytes however short */
    SHAPE_RAW,      /* payload is what goes on the wire, header included */
};

struct ws_case_frame {
    enum ws_case_shape shape;
    unsigned first;      /* first byte: FIN, RSV and opcode */
    const char *payload; /* NULL: len times CASE_FILL */
    size_t len;
};

struct ws_case_event {
    unsigned opcode; /* 0: behind the last event */
    const char *payload;
    size_t len;
};

struct ws_case {
    const char *id, *about;
    struct ws_case_frame frames[CASE_FRAMES];
    struct ws_case_event events[CASE_EVENTS];
    unsigned repeat;   /* the frames are sent, and the events expected, this often (0 = once) */
    unsigned fragment; /* the first frame is sent as fragments of at most this many bytes */
    unsigned chop;     /* on a socket: written in pieces of this many bytes (0 = at once) */
    int close;         /* or STAYS_OPEN */
    /* The byte that proves the client wrong: the server fails when it has come, not before and not
     * later. Frames count from 1; 0 = not said. Bytes of a frame count from 0, header first. */
    unsigned bad_frame, bad_byte;
};

/* For the rows: a frame with a literal payload, one with filling; a byte of a short frame's
 * payload. */
#define FRAME(first_byte, text)                                                                    \
    {                                                                                              \
        SHAPE_MASKED, first_byte, text, sizeof(text) - 1                                           \
    }
#define FILLED(first_byte, n)                                                                      \
    {                                                                                              \
        SHAPE_MASKED, first_byte, NULL, n                                                          \
    }
#define HEARD(opcode, text)                                                                        \
    {                                                                                              \
        opcode, text, sizeof(text) - 1                                                             \
    }
#define HEARD_FILLED(opcode, n)                                                                    \
    {                                                                                              \
        opcode, NULL, n                                                                            \
    }
#define PAYLOAD_BYTE(n) (6 + (n))
#define BAD(frame, byte) .bad_frame = frame, .bad_byte = byte

#define TEXT_FIN (FIN | WS_TEXT)
#define BINARY_FIN (FIN | WS_BINARY)
#define CONTINUATION_FIN (FIN | WS_CONTINUATION)
#define PING_FIN (FIN | WS_PING)
#define PONG_FIN (FIN | WS_PONG)
#define CLOSE_FIN (FIN | WS_CLOSE)

/* Groups 2 to 5 and 7, with some rows named by the RFC's own sections. Sizes and close codes have
 * tables of their own below, UTF-8 in ws_utf8_cases.h. */
static const struct ws_case ws_plain_cases[] = {
    /* RFC 6455 section 5.7, the client's side */
    {"rfc5.7-1",
     "the example: a masked text message",
     {{SHAPE_RAW, 0, "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 11}},
     {HEARD(WS_TEXT, "Hello")},
     .close = STAYS_OPEN},
    {"rfc5.7-2",
     "the example: a masked pong",
     {{SHAPE_RAW, 0, "\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 11}},
     {HEARD(WS_PONG, "Hello")},
     .close = STAYS_OPEN},
    {"rfc5.1-1",
     "a text message without a mask",
     {{SHAPE_UNMASKED, TEXT_FIN, "Hello", 5}},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 1)},
    {"rfc5.1-2",
     "a ping without a mask",
     {{SHAPE_UNMASKED, PING_FIN, "Hello", 5}},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 1)},
    {"rfc5.1-3",
     "a text message, then a fragment without a mask",
     {FRAME(TEXT_FIN, "Hello"), {SHAPE_UNMASKED, WS_TEXT, "Hello", 5}},
     {HEARD(WS_TEXT, "Hello")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(2, 1)},
    /* Section 5.2: the minimal number of bytes must encode the length */
    {"rfc5.2-1",
     "length 5 in 16 bits",
     {{SHAPE_LEN16, TEXT_FIN, "Hello", 5}},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 3)},
    {"rfc5.2-2",
     "length 125 in 16 bits",
     {{SHAPE_LEN16, TEXT_FIN, NULL, 125}},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 3)},
    {"rfc5.2-3",
     "length 0 in 16 bits",
     {{SHAPE_LEN16, BINARY_FIN, NULL, 0}},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 3)},
    {"rfc5.2-4",
     "length 5 in 64 bits",
     {{SHAPE_LEN64, TEXT_FIN, "Hello", 5}},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 7)},
    {"rfc5.2-5",
     "length 65535 in 64 bits",
     {{SHAPE_LEN64, TEXT_FIN, NULL, 65535}},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 7)},
    {"rfc5.2-6",
     "length 2^63 (the top bit; CVE-2026-27889)",
     {{SHAPE_RAW, 0, "\x82\xff\x80\0\0\0\0\0\0\0\1\2\3\4", 14}},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 2)},
    {"rfc5.2-7",
     "length 2^64 - 1 (CVE-2026-27889)",
     {{SHAPE_RAW, 0, "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\1\2\3\4", 14}},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 2)},
    {"rfc5.2-8",
     "length 2^63 - 1: legal, and too large for anyone (CVE-2026-1528)",
     {{SHAPE_RAW, 0, "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\1\2\3\4", 14}},
     .close = WS_CLOSE_TOO_LARGE,
     BAD(1, 13)},
    {"rfc5.2-9",
     "a fragment, then one of 2^63 - 1: the sum must not wrap (CVE-2020-27813)",
     {FRAME(WS_BINARY, "Hello"),
      {SHAPE_RAW, 0, "\x80\xff\x7f\xff\xff\xff\xff\xff\xff\xff\1\2\3\4", 14}},
     .close = WS_CLOSE_TOO_LARGE,
     BAD(2, 13)},
    {"rfc5.2-10",
     "a ping whose length is in 16 bits",
     {{SHAPE_LEN16, PING_FIN, "Hello", 5}},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 1)},

    {"2.1",
     "a ping without payload",
     {FRAME(PING_FIN, "")},
     {HEARD(WS_PING, "")},
     .close = STAYS_OPEN},
    {"2.2",
     "a ping with text",
     {FRAME(PING_FIN, "Hello, world!")},
     {HEARD(WS_PING, "Hello, world!")},
     .close = STAYS_OPEN},
    {"2.3",
     "a ping with bytes that are not text",
     {FRAME(PING_FIN, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff")},
     {HEARD(WS_PING, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff")},
     .close = STAYS_OPEN},
    {"2.4",
     "a ping of 125 bytes",
     {FILLED(PING_FIN, 125)},
     {HEARD_FILLED(WS_PING, 125)},
     .close = STAYS_OPEN},
    {"2.5", "a ping of 126 bytes", {FILLED(PING_FIN, 126)}, .close = WS_CLOSE_PROTOCOL, BAD(1, 1)},
    {"2.6",
     "a ping of 125 bytes, byte by byte",
     {FILLED(PING_FIN, 125)},
     {HEARD_FILLED(WS_PING, 125)},
     .chop = 1},
    {"2.7",
     "a pong that nobody asked for, empty",
     {FRAME(PONG_FIN, "")},
     {HEARD(WS_PONG, "")},
     .close = STAYS_OPEN},
    {"2.8",
     "a pong that nobody asked for",
     {FRAME(PONG_FIN, "unsolicited")},
     {HEARD(WS_PONG, "unsolicited")},
     .close = STAYS_OPEN},
    {"2.9",
     "a pong that nobody asked for, then a ping",
     {FRAME(PONG_FIN, "unsolicited"), FRAME(PING_FIN, "ping")},
     {HEARD(WS_PONG, "unsolicited"), HEARD(WS_PING, "ping")},
     .close = STAYS_OPEN},
    {"2.10", "ten pings", {FRAME(PING_FIN, "payload")}, {HEARD(WS_PING, "payload")}, .repeat = 10},
    {"2.11",
     "ten pings, byte by byte",
     {FRAME(PING_FIN, "payload")},
     {HEARD(WS_PING, "payload")},
     .repeat = 10,
     .chop = 1},

    {"3.1",
     "RSV3 in a text message",
     {FRAME(TEXT_FIN | RSV(1), "Hello, world!")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 0)},
    {"3.2",
     "a good message, RSV2, a ping",
     {FRAME(TEXT_FIN, "Hello"), FRAME(TEXT_FIN | RSV(2), "Hello"), FRAME(PING_FIN, "")},
     {HEARD(WS_TEXT, "Hello")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(2, 0)},
    {"3.3",
     "a good message, RSV2 and RSV3, a ping",
     {FRAME(TEXT_FIN, "Hello"), FRAME(TEXT_FIN | RSV(3), "Hello"), FRAME(PING_FIN, "")},
     {HEARD(WS_TEXT, "Hello")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(2, 0)},
    {"3.4",
     "a good message, RSV1, a ping, byte by byte",
     {FRAME(TEXT_FIN, "Hello"), FRAME(TEXT_FIN | RSV(4), "Hello"), FRAME(PING_FIN, "")},
     {HEARD(WS_TEXT, "Hello")},
     .close = WS_CLOSE_PROTOCOL,
     .chop = 1,
     BAD(2, 0)},
    {"3.5",
     "RSV1 and RSV3 in a binary message",
     {FRAME(BINARY_FIN | RSV(5), "\x00\xff\xfe\xfd\xfc\xfb\x00\xff")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 0)},
    {"3.6",
     "RSV1 and RSV2 in a ping",
     {FRAME(PING_FIN | RSV(6), "Hello, world!")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 0)},
    {"3.7",
     "all reserved bits in a close frame",
     {FRAME(CLOSE_FIN | RSV(7), "\x03\xe8")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 0)},

    {"4.1.1", "opcode 3", {FRAME(FIN | 3, "")}, .close = WS_CLOSE_PROTOCOL, BAD(1, 0)},
    {"4.1.2",
     "opcode 4 with a payload",
     {FRAME(FIN | 4, "reserved")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 0)},
    {"4.1.3",
     "a good message, opcode 5, a ping",
     {FRAME(TEXT_FIN, "Hello"), FRAME(FIN | 5, ""), FRAME(PING_FIN, "")},
     {HEARD(WS_TEXT, "Hello")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(2, 0)},
    {"4.1.4",
     "a good message, opcode 6 with a payload, a ping",
     {FRAME(TEXT_FIN, "Hello"), FRAME(FIN | 6, "reserved"), FRAME(PING_FIN, "")},
     {HEARD(WS_TEXT, "Hello")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(2, 0)},
    {"4.1.5",
     "a good message, opcode 7, a ping, byte by byte",
     {FRAME(TEXT_FIN, "Hello"), FRAME(FIN | 7, "reserved"), FRAME(PING_FIN, "")},
     {HEARD(WS_TEXT, "Hello")},
     .close = WS_CLOSE_PROTOCOL,
     .chop = 1,
     BAD(2, 0)},
    {"4.2.1", "opcode 11", {FRAME(FIN | 11, "")}, .close = WS_CLOSE_PROTOCOL, BAD(1, 0)},
    {"4.2.2",
     "opcode 12 with a payload",
     {FRAME(FIN | 12, "reserved")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 0)},
    {"4.2.3",
     "a good message, opcode 13, a ping",
     {FRAME(TEXT_FIN, "Hello"), FRAME(FIN | 13, ""), FRAME(PING_FIN, "")},
     {HEARD(WS_TEXT, "Hello")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(2, 0)},
    {"4.2.4",
     "a good message, opcode 14 with a payload, a ping",
     {FRAME(TEXT_FIN, "Hello"), FRAME(FIN | 14, "reserved"), FRAME(PING_FIN, "")},
     {HEARD(WS_TEXT, "Hello")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(2, 0)},
    {"4.2.5",
     "a good message, opcode 15, a ping, byte by byte",
     {FRAME(TEXT_FIN, "Hello"), FRAME(FIN | 15, "reserved"), FRAME(PING_FIN, "")},
     {HEARD(WS_TEXT, "Hello")},
     .close = WS_CLOSE_PROTOCOL,
     .chop = 1,
     BAD(2, 0)},

    {"5.1",
     "a ping in two fragments",
     {FRAME(WS_PING, "frag1"), FRAME(CONTINUATION_FIN, "frag2")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 0)},
    {"5.2",
     "a pong in two fragments",
     {FRAME(WS_PONG, "frag1"), FRAME(CONTINUATION_FIN, "frag2")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 0)},
    {"5.2b",
     "a close frame without FIN",
     {FRAME(WS_CLOSE, "\x03\xe8")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 0)},
    {"5.3",
     "text in two fragments",
     {FRAME(WS_TEXT, "frag1"), FRAME(CONTINUATION_FIN, "frag2")},
     {HEARD(WS_TEXT, "frag1frag2")},
     .close = STAYS_OPEN},
    {"5.4",
     "text in two fragments, in small writes",
     {FRAME(WS_TEXT, "frag1"), FRAME(CONTINUATION_FIN, "frag2")},
     {HEARD(WS_TEXT, "frag1frag2")},
     .chop = 11},
    {"5.5",
     "text in two fragments, byte by byte",
     {FRAME(WS_TEXT, "frag1"), FRAME(CONTINUATION_FIN, "frag2")},
     {HEARD(WS_TEXT, "frag1frag2")},
     .chop = 1},
    {"5.5b",
     "binary in two fragments",
     {FRAME(WS_BINARY, "\xff\x00"), FRAME(CONTINUATION_FIN, "\x80")},
     {HEARD(WS_BINARY, "\xff\x00\x80")},
     .close = STAYS_OPEN},
    {"5.6",
     "a ping between two fragments",
     {FRAME(WS_TEXT, "frag1"), FRAME(PING_FIN, "ping"), FRAME(CONTINUATION_FIN, "frag2")},
     {HEARD(WS_PING, "ping"), HEARD(WS_TEXT, "frag1frag2")},
     .close = STAYS_OPEN},
    {"5.7",
     "a ping between two fragments, in small writes",
     {FRAME(WS_TEXT, "frag1"), FRAME(PING_FIN, "ping"), FRAME(CONTINUATION_FIN, "frag2")},
     {HEARD(WS_PING, "ping"), HEARD(WS_TEXT, "frag1frag2")},
     .chop = 11},
    {"5.8",
     "a ping between two fragments, byte by byte",
     {FRAME(WS_TEXT, "frag1"), FRAME(PING_FIN, "ping"), FRAME(CONTINUATION_FIN, "frag2")},
     {HEARD(WS_PING, "ping"), HEARD(WS_TEXT, "frag1frag2")},
     .chop = 1},
    {"5.9",
     "a last fragment of nothing",
     {FRAME(CONTINUATION_FIN, "non-continuation payload"), FRAME(TEXT_FIN, "Hello")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 0)},
    {"5.10",
     "a last fragment of nothing, in small writes",
     {FRAME(CONTINUATION_FIN, "non-continuation payload"), FRAME(TEXT_FIN, "Hello")},
     .close = WS_CLOSE_PROTOCOL,
     .chop = 30,
     BAD(1, 0)},
    {"5.11",
     "a last fragment of nothing, byte by byte",
     {FRAME(CONTINUATION_FIN, "non-continuation payload"), FRAME(TEXT_FIN, "Hello")},
     .close = WS_CLOSE_PROTOCOL,
     .chop = 1,
     BAD(1, 0)},
    {"5.12",
     "a middle fragment of nothing",
     {FRAME(WS_CONTINUATION, "non-continuation payload"), FRAME(TEXT_FIN, "Hello")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 0)},
    {"5.13",
     "a middle fragment of nothing, in small writes",
     {FRAME(WS_CONTINUATION, "non-continuation payload"), FRAME(TEXT_FIN, "Hello")},
     .close = WS_CLOSE_PROTOCOL,
     .chop = 30,
     BAD(1, 0)},
    {"5.14",
     "a middle fragment of nothing, byte by byte",
     {FRAME(WS_CONTINUATION, "non-continuation payload"), FRAME(TEXT_FIN, "Hello")},
     .close = WS_CLOSE_PROTOCOL,
     .chop = 1,
     BAD(1, 0)},
    {"5.15",
     "a message in two fragments, then a fragment of nothing",
     {FRAME(WS_TEXT, "frag1"), FRAME(CONTINUATION_FIN, "frag2"), FRAME(WS_CONTINUATION, "frag3"),
      FRAME(TEXT_FIN, "frag4")},
     {HEARD(WS_TEXT, "frag1frag2")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(3, 0)},
    {"5.16",
     "a middle fragment, then a message in two, twice",
     {FRAME(WS_CONTINUATION, "frag1"), FRAME(WS_TEXT, "frag2"), FRAME(CONTINUATION_FIN, "frag3")},
     .repeat = 2,
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 0)},
    {"5.17",
     "a last fragment, then a message in two, twice",
     {FRAME(CONTINUATION_FIN, "frag1"), FRAME(WS_TEXT, "frag2"), FRAME(CONTINUATION_FIN, "frag3")},
     .repeat = 2,
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 0)},
    {"5.18",
     "a text message within a text message",
     {FRAME(WS_TEXT, "frag1"), FRAME(TEXT_FIN, "frag2")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(2, 0)},
    {"5.18b",
     "a binary message within a text message",
     {FRAME(WS_TEXT, "frag1"), FRAME(WS_BINARY, "frag2")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(2, 0)},
    {"5.18c",
     "a ping and a text message within a binary message",
     {FRAME(WS_BINARY, "frag1"), FRAME(PING_FIN, "p"), FRAME(WS_TEXT, "frag2")},
     {HEARD(WS_PING, "p")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(3, 0)},
    {"5.19",
     "five fragments with pings between them",
     {FRAME(WS_TEXT, "fragment1"), FRAME(WS_CONTINUATION, "fragment2"),
      FRAME(PING_FIN, "pongme 1!"), FRAME(WS_CONTINUATION, "fragment3"),
      FRAME(WS_CONTINUATION, "fragment4"), FRAME(PING_FIN, "pongme 2!"),
      FRAME(CONTINUATION_FIN, "fragment5")},
     {HEARD(WS_PING, "pongme 1!"), HEARD(WS_PING, "pongme 2!"),
      HEARD(WS_TEXT, "fragment1fragment2fragment3fragment4fragment5")},
     .close = STAYS_OPEN},
    {"5.20",
     "five fragments with pings between them, byte by byte",
     {FRAME(WS_TEXT, "fragment1"), FRAME(WS_CONTINUATION, "fragment2"),
      FRAME(PING_FIN, "pongme 1!"), FRAME(WS_CONTINUATION, "fragment3"),
      FRAME(WS_CONTINUATION, "fragment4"), FRAME(PING_FIN, "pongme 2!"),
      FRAME(CONTINUATION_FIN, "fragment5")},
     {HEARD(WS_PING, "pongme 1!"), HEARD(WS_PING, "pongme 2!"),
      HEARD(WS_TEXT, "fragment1fragment2fragment3fragment4fragment5")},
     .chop = 1},
    {"5.21",
     "empty fragments first, in the middle and last (CVE-2026-12151)",
     {FRAME(WS_BINARY, ""), FRAME(WS_CONTINUATION, ""), FRAME(WS_CONTINUATION, "x"),
      FRAME(WS_CONTINUATION, ""), FRAME(CONTINUATION_FIN, "")},
     {HEARD(WS_BINARY, "x")},
     .repeat = 3},

    {"6.1.1",
     "an empty text message",
     {FRAME(TEXT_FIN, "")},
     {HEARD(WS_TEXT, "")},
     .close = STAYS_OPEN},
    {"6.1.2",
     "an empty text message in three fragments",
     {FRAME(WS_TEXT, ""), FRAME(WS_CONTINUATION, ""), FRAME(CONTINUATION_FIN, "")},
     {HEARD(WS_TEXT, "")},
     .close = STAYS_OPEN},
    {"6.1.3",
     "three fragments of which the middle one has text",
     {FRAME(WS_TEXT, ""), FRAME(WS_CONTINUATION, "middle frame payload"),
      FRAME(CONTINUATION_FIN, "")},
     {HEARD(WS_TEXT, "middle frame payload")},
     .close = STAYS_OPEN},
    {"6.2.2",
     "text in two fragments, cut between characters",
     {FRAME(WS_TEXT, "Hello-\xc2\xb5@\xc3\x9f\xc3\xb6"),
      FRAME(CONTINUATION_FIN, "\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!")},
     {HEARD(WS_TEXT, "Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!")},
     .close = STAYS_OPEN},
    {"6.4.1",
     "the second of three fragments is above U+10FFFF",
     {FRAME(WS_TEXT, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"),
      FRAME(WS_CONTINUATION, "\xf4\x90\x80\x80"), FRAME(CONTINUATION_FIN, "edited")},
     .close = WS_CLOSE_BAD_DATA,
     BAD(2, PAYLOAD_BYTE(1))},
    {"6.4.2",
     "the same, cut behind its first byte",
     {FRAME(WS_TEXT, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4"),
      FRAME(WS_CONTINUATION, "\x90"),
      FRAME(CONTINUATION_FIN, "\x80\x80"
                              "edited")},
     .close = WS_CLOSE_BAD_DATA,
     BAD(2, PAYLOAD_BYTE(0))},
    {"6.4.3",
     "the same in one frame",
     {FRAME(TEXT_FIN, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80"
                      "edited")},
     .close = WS_CLOSE_BAD_DATA,
     .chop = 17,
     BAD(1, PAYLOAD_BYTE(12))},
    {"6.4.4",
     "the same in one frame, byte by byte",
     {FRAME(TEXT_FIN, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80"
                      "edited")},
     .close = WS_CLOSE_BAD_DATA,
     .chop = 1,
     BAD(1, PAYLOAD_BYTE(12))},
    {"6.4.5",
     "a surrogate, proven by its second byte, a ping before it",
     {FRAME(WS_TEXT, "\xed"), FRAME(PING_FIN, "\xff"), FRAME(CONTINUATION_FIN, "\xa0\x80")},
     {HEARD(WS_PING, "\xff")},
     .close = WS_CLOSE_BAD_DATA,
     BAD(3, PAYLOAD_BYTE(0))},
    {"6.4.6",
     "the message ends within a character: an empty last fragment proves it",
     {FRAME(WS_TEXT, "\xce"), FRAME(CONTINUATION_FIN, "")},
     .close = WS_CLOSE_BAD_DATA,
     BAD(2, 5)},
    {"6.4.7",
     "bytes that are not text in a binary message, then text",
     {FRAME(BINARY_FIN, "\xf4\x90\xff\xed"), FRAME(TEXT_FIN, "\xce\xba")},
     {HEARD(WS_BINARY, "\xf4\x90\xff\xed"), HEARD(WS_TEXT, "\xce\xba")},
     .close = STAYS_OPEN},

    {"7.1.1",
     "a message, then a close frame",
     {FRAME(TEXT_FIN, "Hello World!"), FRAME(CLOSE_FIN, "\x03\xe8")},
     {HEARD(WS_TEXT, "Hello World!")},
     .close = 1000},
    {"7.1.2",
     "two close frames",
     {FRAME(CLOSE_FIN, "\x03\xe8"), FRAME(CLOSE_FIN, "\x03\xe9")},
     .close = 1000},
    {"7.1.3",
     "a ping behind the close frame",
     {FRAME(CLOSE_FIN, "\x03\xe8"), FRAME(PING_FIN, "")},
     .close = 1000},
    {"7.1.4",
     "a message behind the close frame",
     {FRAME(CLOSE_FIN, "\x03\xe8"), FRAME(TEXT_FIN, "Hello World!")},
     .close = 1000},
    {"7.1.5",
     "a close frame between two fragments",
     {FRAME(WS_TEXT, "fragment1"), FRAME(CLOSE_FIN, "\x03\xe8"),
      FRAME(CONTINUATION_FIN, "fragment2")},
     .close = 1000},
    {"7.1.6",
     "256 KiB, a close frame, a ping",
     {FILLED(TEXT_FIN, 262144), FRAME(CLOSE_FIN, "\x03\xe8"), FRAME(PING_FIN, "")},
     {HEARD_FILLED(WS_TEXT, 262144)},
     .close = 1000},
    {"7.3.1", "an empty close frame", {FRAME(CLOSE_FIN, "")}, .close = WS_CLOSE_NO_STATUS},
    {"7.3.2", "a close frame of one byte", {FRAME(CLOSE_FIN, "a")}, .close = WS_CLOSE_PROTOCOL},
    {"7.3.3", "a close frame with a code", {FRAME(CLOSE_FIN, "\x03\xe8")}, .close = 1000},
    {"7.3.4",
     "a close frame with a code and a reason",
     {FRAME(CLOSE_FIN, "\x03\xe8Hello World!")},
     .close = 1000},
    {"7.3.5",
     "a reason of 123 bytes",
     {FRAME(CLOSE_FIN, "\x03\xe8"
                       "****************************************"
                       "****************************************"
                       "*******************************************")},
     .close = 1000},
    {"7.3.6",
     "a reason of 124 bytes: a control frame that is too long",
     {FRAME(CLOSE_FIN, "\x03\xe8"
                       "****************************************"
                       "****************************************"
                       "********************************************")},
     .close = WS_CLOSE_PROTOCOL,
     BAD(1, 1)},
    {"7.5.1",
     "a reason that is not UTF-8",
     {FRAME(CLOSE_FIN, "\x03\xe8\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80"
                       "edited")},
     .close = WS_CLOSE_BAD_DATA},
    {"7.5.2",
     "a reason that ends within a character",
     {FRAME(CLOSE_FIN, "\x03\xe8\xce")},
     .close = WS_CLOSE_BAD_DATA},
};

/* Messages by their size. With .fragment and .repeat as above; groups 1, 9 and 10. */
static const struct ws_size_case {
    const char *id;
    unsigned len, fragment, chop, repeat;
} ws_size_cases[] = {
    /* 1.1.x is text, 1.2.x binary, and so on: each row is run as both */
    {"1.x.1", 0, 0, 0, 0},
    {"1.x.2", 125, 0, 0, 0},
    {"1.x.3", 126, 0, 0, 0},
    {"1.x.4", 127, 0, 0, 0},
    {"1.x.5", 128, 0, 0, 0},
    {"1.x.6", 65535, 0, 0, 0},
    {"1.x.7", 65536, 0, 0, 0},
    {"1.x.8", 65536, 0, 997, 0},
    {"9.1+2.1", 65536, 0, 0, 0},
    {"9.1+2.2", 262144, 0, 0, 0},
    {"9.1+2.3", 1048576, 0, 0, 0},
    {"9.1+2.4", 4194304, 0, 0, 0},
    {"9.1+2.5", 8388608, 0, 0, 0},
    {"9.1+2.6", 16777216, 0, 0, 0},
    {"9.3+4.1", 4194304, 64, 0, 0}, /* 65,536 fragments */
    {"9.3+4.2", 4194304, 256, 0, 0},
    {"9.3+4.3", 4194304, 1024, 0, 0},
    {"9.3+4.4", 4194304, 4096, 0, 0},
    {"9.3+4.5", 4194304, 16384, 0, 0},
    {"9.3+4.6", 4194304, 65536, 0, 0},
    {"9.3+4.7", 4194304, 262144, 0, 0},
    {"9.3+4.8", 4194304, 1048576, 0, 0},
    {"9.3+4.9", 4194304, 4194304, 0, 0},
    {"9.5+6.1", 1048576, 0, 64, 0},
    {"9.5+6.2", 1048576, 0, 128, 0},
    {"9.5+6.3", 1048576, 0, 256, 0},
    {"9.5+6.4", 1048576, 0, 512, 0},
    {"9.5+6.5", 1048576, 0, 1024, 0},
    {"9.5+6.6", 1048576, 0, 2048, 0},
    {"9.7+8.1", 0, 0, 0, 1000},
    {"9.7+8.2", 16, 0, 0, 1000},
    {"9.7+8.3", 64, 0, 0, 1000},
    {"9.7+8.4", 256, 0, 0, 1000},
    {"9.7+8.5", 1024, 0, 0, 1000},
    {"9.7+8.6", 4096, 0, 0, 1000},
    {"10.1.1", 65536, 1300, 0, 0},
};

/* Close codes, section 7.4. */
static const struct ws_code_case {
    const char *id;
    unsigned code;
    bool ok;
} ws_code_cases[] = {
    {"7.7.1", 1000, true},   {"7.7.2", 1001, true},    {"7.7.3", 1002, true},
    {"7.7.4", 1003, true},   {"7.7.5", 1007, true},    {"7.7.6", 1008, true},
    {"7.7.7", 1009, true},   {"7.7.8", 1010, true},    {"7.7.9", 1011, true},
    {"7.7.10", 3000, true},  {"7.7.11", 3999, true},   {"7.7.12", 4000, true},
    {"7.7.13", 4999, true},  {"7.7.14", 1012, true},   {"7.7.15", 1013, true},
    {"7.7.16", 1014, true},  {"7.9.1", 0, false},      {"7.9.2", 999, false},
    {"7.9.3", 1004, false},  {"7.9.4", 1005, false},   {"7.9.5", 1006, false},
    {"7.9.6", 1016, false},  {"7.9.7", 1100, false},   {"7.9.8", 2000, false},
    {"7.9.9", 2999, false},  {"7.9.10", 1015, false},  {"7.9.11", 1, false},
    {"7.13.1", 5000, false}, {"7.13.2", 65535, false},
};

#define ROWS(table) (sizeof(table) / sizeof(*(table)))
#define WS_CASES                                                                                   \
    (ROWS(ws_plain_cases) + 2 * ROWS(ws_size_cases) + ROWS(ws_code_cases) + 2 * ROWS(ws_utf8_cases))

static inline struct ws_case ws_size_case_make(const struct ws_size_case *s, unsigned opcode)
{
    return (struct ws_case){
        .id = s->id,
        .about = opcode == WS_TEXT ? "text of a size" : "binary of a size",
        .frames = {FILLED(FIN | opcode, s->len)},
        .events = {HEARD_FILLED(opcode, s->len)},
        .fragment = s->fragment,
        .chop = s->chop,
        .repeat = s->repeat,
    };
}

static inline struct ws_case ws_code_case_make(const struct ws_code_case *s)
{
    static char payload[ROWS(ws_code_cases)][2]; /* a case may be kept while the next is made */
    char *p = payload[s - ws_code_cases];

    p[0] = (char)(s->code >> 8);
    p[1] = (char)s->code;
    return (struct ws_case){
        .id = s->id,
        .about = s->ok ? "a close code" : "a code that may not be sent",
        .frames = {{SHAPE_MASKED, CLOSE_FIN, p, 2}},
        .close = s->ok ? (int)s->code : WS_CLOSE_PROTOCOL,
    };
}

/* fragment 0: as one message; 1: a byte a fragment. */
static inline struct ws_case ws_utf8_case_make(const struct ws_utf8_case *s, unsigned fragment)
{
    struct ws_case c = {
        .id = s->id,
        .about = fragment ? "UTF-8, a byte a fragment" : "UTF-8 in one frame",
        .frames = {{SHAPE_MASKED, TEXT_FIN, s->text, s->len}},
        .fragment = fragment,
    };
    if (s->bad == GOOD) {
        c.events[0] = (struct ws_case_event){WS_TEXT, s->text, s->len};
        return c;
    }
    /* A text that ends within a character is proven wrong by its last byte. */
    unsigned bad = (unsigned)s->bad < s->len ? (unsigned)s->bad : (unsigned)s->len - 1;
    c.close = WS_CLOSE_BAD_DATA;
    c.bad_frame = fragment ? bad + 1 : 1;
    c.bad_byte = PAYLOAD_BYTE(fragment ? 0 : bad);
    return c;
}

/* ws_case_at gives case i of WS_CASES. */
static inline struct ws_case ws_case_at(size_t i)
{
    if (i < ROWS(ws_plain_cases)) return ws_plain_cases[i];
    i -= ROWS(ws_plain_cases);
    if (i < 2 * ROWS(ws_size_cases))
        return ws_size_case_make(&ws_size_cases[i / 2], i % 2 ? WS_BINARY : WS_TEXT);
    i -= 2 * ROWS(ws_size_cases);
    if (i < ROWS(ws_code_cases)) return ws_code_case_make(&ws_code_cases[i]);
    i -= ROWS(ws_code_cases);
    return ws_utf8_case_make(&ws_utf8_cases[i / 2], i % 2);
}

/* ---- from a case to bytes ---- */

struct ws_case_wire { /* where the bytes go */
    uint8_t *out;     /* NULL: only counted */
    size_t len;       /* so far */
    unsigned frames;
    size_t bad_end; /* behind the byte that proves the client wrong; 0 = not said */
};

static inline void ws_case_put_frame(struct ws_case_wire *w, const struct ws_case *c,
                                     const struct ws_case_frame *f)
{
    size_t at = w->len, size = 0;
    uint8_t head[WS_HEAD_MAX];

    if (++w->frames == c->bad_frame) w->bad_end = at + c->bad_byte + 1;
    if (f->shape != SHAPE_RAW) {
        struct ws_head h = {.fin = f->first & FIN,
                            .opcode = f->first & 15,
                            .masked = f->shape != SHAPE_UNMASKED,
                            .payload_len = f->len};
        const uint32_t key = 0x5a17c3e9u * w->frames; /* another one for each frame */
        memcpy(h.masking_key, &key, 4);
        size = ws_head_write(head, &h);
        head[0] = (uint8_t)f->first;
        size_t wide = f->shape == SHAPE_LEN16 ? 2 : f->shape == SHAPE_LEN64 ? 8 : 0;
        if (wide) { /* what ws_head_write would never write */
            head[1] = wide == 2 ? 0xfe : 0xff;
            for (size_t i = 0; i < wide; i++)
                head[2 + i] = (uint8_t)((uint64_t)f->len >> 8 * (wide - 1 - i));
            memcpy(head + 2 + wide, h.masking_key, 4);
            size = 6 + wide;
        }
    }
    w->len += size + f->len;
    if (!w->out) return;
    memcpy(w->out + at, head, size);
    for (size_t i = 0; i < f->len; i++) {
        uint8_t byte = f->payload ? (uint8_t)f->payload[i] : CASE_FILL;
        if (f->shape == SHAPE_MASKED || f->shape == SHAPE_LEN16 || f->shape == SHAPE_LEN64)
            byte ^= head[size - 4 + (i & 3)];
        w->out[at + size + i] = byte;
    }
}

static inline void ws_case_put_fragments(struct ws_case_wire *w, const struct ws_case *c)
{
    const struct ws_case_frame *whole = &c->frames[0];

    for (size_t at = 0; at == 0 || at < whole->len; at += c->fragment) {
        struct ws_case_frame f = *whole;
        f.len = whole->len - at < c->fragment ? whole->len - at : c->fragment;
        if (f.payload) f.payload += at;
        if (at > 0) f.first &= ~15u; /* continuation */
        if (at + f.len < whole->len) f.first &= ~(unsigned)FIN;
        ws_case_put_frame(w, c, &f);
    }
}

/* ws_case_wire writes what the client sends to out, if that is not NULL, and returns its size.
 * *bad_end, if not NULL: how many bytes the server has when it must fail, 0 if the case does not
 * say. */
static inline size_t ws_case_wire(const struct ws_case *c, uint8_t *out, size_t *bad_end)
{
    struct ws_case_wire w = {.out = out};

    for (unsigned n = 0; n < (c->repeat ? c->repeat : 1); n++) {
        if (c->fragment) ws_case_put_fragments(&w, c);
        for (size_t i = c->fragment ? 1 : 0; i < CASE_FRAMES && c->frames[i].shape; i++)
            ws_case_put_frame(&w, c, &c->frames[i]);
    }
    if (bad_end) *bad_end = w.bad_end;
    return w.len;
}

#endif
