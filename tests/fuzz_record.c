/* record: the input's first byte says which end, version and suite, the others are steps: authentic
 * records of any type and content, damaged ones, bytes that are no records, something sealed in
 * pieces, goodbyes, the state written down and read back. Whatever they are: no fault; nothing that
 * is not authentic gives data; what is said can be opened by an independent other end
 * (record_peer.h), in order and under the right keys; and who failed stays so. */
#include "record_peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct { /* the input */
    const uint8_t *at;
    size_t left;
} in;

static struct {
    struct record *r;
    size_t size;
    struct peer_way sends, hears;
    bool failed, closed, goodbye;
} t;

static uint8_t byte(void)
{
    if (in.left == 0) return 0;
    in.left--;
    return *in.at++;
}

static const uint8_t *some(size_t want, size_t *len)
{
    const uint8_t *bytes = in.at;
    *len = want < in.left ? want : in.left;
    in.at += *len;
    in.left -= *len;
    return bytes;
}

static void *room(size_t len)
{
    void *p = malloc(len ? len : 1);
    peer_must(p != NULL);
    return p;
}

/* heard: what is to be sent is records that the other end can open; data must be what it says. */
static void heard(const uint8_t *bytes, size_t len, const uint8_t *data, size_t data_len)
{
    static uint8_t plain[RECORD_MAX];
    bool any = false;
    while (len > 0) {
        const size_t whole = 5 + ((size_t)bytes[3] << 8 | bytes[4]);
        size_t n;
        peer_must(len >= whole);
        const int type = peer_open(&t.hears, bytes, whole, plain, &n);
        peer_must(type == 21 || type == 22 || (type == 23 && data && !any));
        if (type == 21) peer_must(n == 2);
        if (type == 22) {
            peer_must(t.hears.version == RECORD_TLS13 && n == 5 && plain[0] == 24);
            peer_update(&t.hears);
        }
        if (type == 23) {
            peer_must(n == data_len && memcmp(plain, data, n) == 0);
            any = true;
        }
        bytes += whole;
        len -= whole;
    }
    peer_must(any == (data != NULL));
}

/* give has the record opened, in its own place or aside. */
static enum record_got give(const uint8_t *record, size_t len, uint8_t *plain, size_t *n)
{
    uint8_t *copy = room(len), reply[RECORD_REPLY_MAX];
    const char *why = NULL;
    size_t reply_len;
    memcpy(copy, record, len);
    const bool aside = byte() & 1;
    const enum record_got got =
        record_open(t.r, copy, len, aside ? plain : copy, n, reply, &reply_len, &why);
    peer_must(*n <= RECORD_PLAIN_MAX && reply_len <= sizeof reply);
    peer_must(got == RECORD_DATA || *n == 0);
    if (!aside) memcpy(plain, copy, *n);
    if (t.failed)
        peer_must(got == RECORD_FAILED && reply_len == 0);
    else if (t.closed)
        peer_must(got == RECORD_CLOSED && reply_len == 0);
    if (t.goodbye) peer_must(reply_len == 0);
    if (got == RECORD_FAILED) peer_must(why != NULL);
    t.failed |= got == RECORD_FAILED;
    t.closed |= got == RECORD_CLOSED;
    heard(reply, reply_len, NULL, 0);
    free(copy);
    return got;
}

static bool is_key_update(uint8_t type, const uint8_t *bytes, size_t len)
{
    static const uint8_t head[] = {24, 0, 0, 1};
    return t.sends.version == RECORD_TLS13 && type == 22 && len == 5 &&
           memcmp(bytes, head, sizeof head) == 0 && bytes[4] <= 1;
}

static void authentic(void)
{
    static const uint8_t types[] = {23, 22, 21, 20};
    static uint8_t record[2 * RECORD_MAX], plain[RECORD_MAX];
    const uint8_t which = byte();
    const uint8_t type = which < 0xf0 ? types[which % 4] : which;
    size_t len, n, want = which & 0x10 ? (size_t)byte() << 7 : which & 0x20 ? 5 : byte() % 16;
    const uint8_t *bytes = some(want, &len);
    const size_t sealed = peer_seal(&t.sends, type, bytes, len, which & 0x40 ? byte() : 0, record);
    const bool over = t.failed || t.closed;
    const enum record_got got = give(record, sealed, plain, &n);
    if (got == RECORD_DATA)
        peer_must(type == 23 && n == len && memcmp(plain, bytes, n) == 0);
    else if (type == 23 && !over)
        peer_must(len == 0);
    if (is_key_update(type, bytes, len)) peer_update(&t.sends);
}

static void damaged(void)
{
    uint8_t record[300], plain[RECORD_MAX];
    size_t len, n;
    const uint8_t *bytes = some(byte() % 64, &len);
    struct peer_way copy = t.sends;
    const size_t sealed = peer_seal(&copy, 23, bytes, len, 0, record);
    record[byte() % sealed] ^= (uint8_t)(1u << byte() % 8);
    const enum record_got got = give(record, sealed, plain, &n);
    peer_must(got == RECORD_FAILED || got == RECORD_CLOSED);
}

static void foreign(void)
{
    static uint8_t plain[RECORD_MAX];
    size_t len, n;
    const uint8_t *bytes = some(byte() * 4u, &len);
    const int whole = record_length(t.r, bytes, len);
    peer_must(whole >= -1 && whole <= (int)RECORD_MAX && (len >= 5 || whole == 0));
    if (whole == 0 || (whole > 0 && (size_t)whole > len)) return;
    const enum record_got got = give(bytes, whole < 0 ? RECORD_HEADER : (size_t)whole, plain, &n);
    peer_must(got == RECORD_FAILED || got == RECORD_CLOSED);
}

static void seal(void)
{
    struct iovec pieces[80];
    unsigned count = byte() % 80;
    size_t len, used, at = 0;
    const uint8_t *bytes = some(byte() * 8u, &len);
    const size_t step = len / (count + 1);
    if (len == 0) return;
    for (unsigned i = 0; i < count; i++, at += step)
        pieces[i] = (struct iovec){(void *)(uintptr_t)(bytes + at), step};
    pieces[count++] = (struct iovec){(void *)(uintptr_t)(bytes + at), len - at};
    const size_t cap = byte() * 10u;
    uint8_t *out = room(cap);
    const size_t sealed = record_seal(t.r, pieces, count, &used, out, cap);
    peer_must(sealed <= cap && used <= len);
    peer_must((sealed > 0) == (!t.failed && !t.goodbye && cap > RECORD_OVERHEAD));
    if (sealed) heard(out, sealed, bytes, used);
    free(out);
}

static void goodbye(void)
{
    uint8_t out[RECORD_OVERHEAD];
    const size_t len = record_goodbye(t.r, out);
    peer_must((len > 0) == (!t.failed && !t.goodbye));
    heard(out, len, NULL, 0);
    t.goodbye = true;
}

static void move(void)
{
    struct record *copy = room(t.size);
    memcpy(copy, t.r, t.size);
    peer_must(record_valid(copy, t.size));
    record_wipe(t.r);
    free(t.r);
    t.r = copy;
}

/* read_back: bytes from anywhere, if they pass for a record, are one that can do no harm. */
static void read_back(void)
{
    size_t len, n, used, reply_len;
    const char *why;
    uint8_t reply[RECORD_REPLY_MAX], plain[100], out[200];
    const uint8_t *bytes = some(in.left, &len);
    struct record *copy = room(len);
    memcpy(copy, bytes, len);
    if (record_valid(copy, len)) {
        const struct iovec piece = {plain, sizeof plain};
        static const uint8_t record[64] = {23, 3, 3, 0, 59};
        memset(plain, 0, sizeof plain);
        peer_must(record_seal(copy, &piece, 1, &used, out, sizeof out) <= sizeof out);
        peer_must(record_open(copy, record, sizeof record, plain, &n, reply, &reply_len, &why) !=
                  RECORD_DATA);
        peer_must(record_goodbye(copy, out) <= RECORD_OVERHEAD);
        record_wipe(copy);
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t starts[] = {0, (1ull << 24) - 3};
    void (*const steps[])(void) = {authentic, authentic, authentic, seal,
                                   damaged,   foreign,   goodbye,   move};
    in.at = data;
    in.left = size;
    const uint8_t first = byte();
    if (first & 0x80) {
        read_back();
        return 0;
    }
    memset(&t, 0, sizeof t);
    const enum record_version version = first & 1 ? RECORD_TLS13 : RECORD_TLS12;
    const enum aead suite = (enum aead)((first >> 1 & 3) % AEADS);
    t.size = record_size(version, suite);
    t.r = room(t.size);
    srandom(first);
    peer_pair(t.r, version, suite, first & 8, starts[first >> 4 & 1], starts[first >> 5 & 1],
              &t.sends, &t.hears);
    while (in.left > 0) steps[byte() % 8]();
    record_wipe(t.r);
    free(t.r);
    return 0;
}
