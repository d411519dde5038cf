/* link: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free */
#include "../aead/internal.h"
#include "../record.h"
#include "guard.h"
#include "record_peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The record layer: the trace of RFC 8448, records to and from an independent other end
 * (record_peer.h), everything that must be refused with the alert that says so, floods, keys that
 * are replaced, sequence numbers at their ends, and that none of it allocates. */

enum { ALERT = 21, HANDSHAKE = 22, DATA = 23, WARNING = 1, FATAL = 2 };
enum { ROOM = RECORD_MAX + 1024 };

static const enum record_version versions[] = {RECORD_TLS12, RECORD_TLS13};

static _Atomic unsigned heap_calls;
static unsigned fail_at; /* the how many-th calloc from now on gives nothing; 0: none */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

void *__wrap_malloc(size_t n)
{
    heap_calls++;
    return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    heap_calls++;
    if (fail_at > 0 && --fail_at == 0) return NULL;
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    heap_calls++;
    return __real_realloc(p, n);
}

void __wrap_free(void *p)
{
    heap_calls++;
    __real_free(p);
}

/* ---- one end under test, and the other ---- */

static struct {
    enum record_version version;
    enum aead suite;
    struct record *r; /* at the end of a page: one byte too many is noticed */
    size_t size;
    struct peer_way in, out; /* what the other end sends, and what it receives */
    uint8_t plain[ROOM], reply[RECORD_REPLY_MAX];
    size_t n, reply_len;
    const char *why;
} t;

static uint8_t text[ROOM], wire[ROOM], answer[ROOM];

static void begin_at(enum record_version version, enum aead suite, bool client, uint64_t seq_in,
                     uint64_t seq_out)
{
    if (t.r) guard_free(t.r, t.size);
    t.version = version;
    t.suite = suite;
    t.size = record_size(version, suite);
    t.r = guard_copy(NULL, t.size);
    peer_pair(t.r, version, suite, client, seq_in, seq_out, &t.in, &t.out);
}

static void begin(enum record_version version, enum aead suite, bool client)
{
    begin_at(version, suite, client, (uint64_t)random() % 100, (uint64_t)random() % 100);
}

#define EVERY_SUITE                                                                                \
    for (unsigned v = 0; v < 2; v++)                                                               \
        for (int s = 0; s < AEADS; s++)
#define SUITE versions[v], (enum aead)s

/* give opens a record of len bytes; its copy ends at an unreadable page. */
static enum record_got give(const uint8_t *record, size_t len)
{
    uint8_t *copy = guard_copy(record, len);
    memset(t.plain, 0xee, sizeof t.plain);
    t.n = t.reply_len = 99;
    t.why = NULL;
    const enum record_got got =
        record_open(t.r, copy, len, t.plain, &t.n, t.reply, &t.reply_len, &t.why);
    guard_free(copy, len);
    if (got != RECORD_DATA) assert_int_equal(t.n, 0);
    assert_true(t.reply_len <= RECORD_REPLY_MAX);
    return got;
}

/* says has the other end send this. */
static enum record_got says(uint8_t type, const void *bytes, size_t len)
{
    return give(wire, peer_seal(&t.in, type, bytes, len, 0, wire));
}

#define SAYS(type, ...)                                                                            \
    says(type, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* hears has the other end open len bytes, one record, which must be of this type. */
static size_t hears(uint8_t type, const uint8_t *record, size_t len)
{
    size_t n = 0;
    assert_int_equal(peer_open(&t.out, record, len, answer, &n), type);
    return n;
}

static void hears_alert(uint8_t level, uint8_t description)
{
    assert_int_equal(hears(ALERT, t.reply, t.reply_len), 2);
    assert_int_equal(answer[0], level);
    assert_int_equal(answer[1], description);
}

static size_t seal(const void *bytes, size_t len)
{
    const struct iovec piece = {(void *)(uintptr_t)bytes, len};
    size_t used;
    const size_t n = record_seal(t.r, &piece, 1, &used, wire, sizeof wire);
    assert_int_equal(used, n ? len : 0);
    return n;
}

static void works_both_ways(void)
{
    assert_int_equal(says(DATA, "from there", 10), RECORD_DATA);
    assert_int_equal(t.n, 10);
    assert_memory_equal(t.plain, "from there", 10);
    assert_int_equal(t.reply_len, 0);
    assert_int_equal(hears(DATA, wire, seal("from here", 9)), 9);
    assert_memory_equal(answer, "from here", 9);
}

static void is_over(void) /* nothing can be opened, sealed or said any more */
{
    const size_t len = peer_seal(&t.in, DATA, "x", 1, 0, wire);
    assert_int_equal(give(wire, len), RECORD_FAILED);
    assert_int_equal(t.reply_len, 0);
    assert_non_null(t.why);
    assert_int_equal(seal("x", 1), 0);
    assert_int_equal(record_goodbye(t.r, wire), 0);
}

static void refused(enum record_got got, uint8_t alert)
{
    assert_int_equal(got, RECORD_FAILED);
    assert_non_null(t.why);
    hears_alert(FATAL, alert);
    is_over();
}

/* ---- RFC 8448, section 3 ---- */

static size_t hex(const char *from, uint8_t *to)
{
    size_t n = 0;
    for (; *from; from++) {
        if (*from == ' ') continue;
        const char pair[3] = {from[0], from[1], 0};
        to[n++] = (uint8_t)strtoul(pair, NULL, 16);
        from++;
    }
    return n;
}

static const char client_secret[] =
    "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
static const char server_secret[] =
    "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";
static const char ticket_record[] =
    "17030300de3a6b8f90414a97d6959c3487680de5134a2b240e6cffac116e95d41d6af8f6b580dcf3d11d63c758db"
    "289a015940252f55713e061dc13e078891a38efbcf5753ad8ef170ad3c7353d16d9da773b9ca7f2b9fa1b6c0d4a3"
    "d03f75e09c30ba1e62972ac46f75f7b981be63439b2999ce13064615139891d5e4c5b406f16e3fc181a77ca47584"
    "0025db2f0a77f81b5ab05b94c01346755f69232c86519d86cbeeac87aac347d143f9605d64f650db4d023e70e952"
    "ca49fe5137121c74bc2697687e248746d6df353005f3bce18696129c8153556b3b6c6779b37bf15985684f";
static const char client_data[] =
    "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a2044"
    "1e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";
static const char server_data[] =
    "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb501a"
    "59a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d";
static const char client_alert[] = "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3";
static const char server_alert[] = "1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9";

/* trace_end makes one end of the trace, after its handshake. */
static void trace_end(bool client)
{
    struct record_keys k = {
        .version = RECORD_TLS13, .suite = AEAD_AES_128_GCM, .client = client, .seq = {0, 0}};
    hex(client_secret, k.secret[client ? RECORD_OUT : RECORD_IN]);
    hex(server_secret, k.secret[client ? RECORD_IN : RECORD_OUT]);
    if (!client) k.seq[RECORD_OUT] = 1; /* the ticket was sent in the handshake */
    if (t.r) guard_free(t.r, t.size);
    t.size = record_size(k.version, k.suite);
    t.r = guard_copy(NULL, t.size);
    assert_true(record_init(t.r, &k));
}

static void sends(const char *expected, size_t len)
{
    uint8_t record[300];
    assert_int_equal(len, hex(expected, record));
    assert_memory_equal(wire, record, len);
}

static enum record_got receives(const char *what)
{
    uint8_t record[300];
    return give(record, hex(what, record));
}

static void test_rfc8448(void **state)
{
    (void)state;
    uint8_t data[50];
    for (unsigned i = 0; i < sizeof data; i++) data[i] = (uint8_t)i;
    trace_end(true);
    assert_int_equal(receives(ticket_record), RECORD_NOTHING);
    assert_int_equal(t.reply_len, 0);
    sends(client_data, seal(data, sizeof data));
    assert_int_equal(receives(server_data), RECORD_DATA);
    assert_int_equal(t.n, 50);
    assert_memory_equal(t.plain, data, 50);
    sends(client_alert, record_goodbye(t.r, wire));
    assert_int_equal(receives(server_alert), RECORD_CLOSED);

    trace_end(false);
    assert_int_equal(receives(client_data), RECORD_DATA);
    assert_int_equal(t.n, 50);
    assert_memory_equal(t.plain, data, 50);
    sends(server_data, seal(data, sizeof data));
    assert_int_equal(receives(client_alert), RECORD_CLOSED);
    sends(server_alert, record_goodbye(t.r, wire));
}

/* ---- there and back ---- */

static void test_sizes(void **state)
{
    (void)state;
    assert_int_equal(record_size(RECORD_TLS13, AEAD_AES_128_GCM), 144);
    assert_int_equal(record_size(RECORD_TLS13, AEAD_AES_256_GCM), 208);
    assert_int_equal(record_size(RECORD_TLS13, AEAD_CHACHA20_POLY1305), 176);
    assert_int_equal(record_size(RECORD_TLS12, AEAD_AES_128_GCM), 64);
    EVERY_SUITE assert_true(record_size(SUITE) <= RECORD_STATE_MAX);
}

static size_t some_length(void)
{
    switch (random() % 4) {
    case 0: return 1 + (size_t)random() % 64;
    case 1: return 1 + (size_t)random() % 2000;
    case 2: return RECORD_PLAIN_MAX - (size_t)random() % 3;
    default: return 1 + (size_t)random() % RECORD_PLAIN_MAX;
    }
}

/* cut describes len bytes of text in up to max pieces, some of them empty. */
static unsigned cut(struct iovec *pieces, size_t len, unsigned max)
{
    unsigned n = 0;
    size_t at = 0;
    while (at < len && n + 1 < max) {
        size_t take = random() % 5 == 0 ? 0 : (size_t)random() % (random() % 2 ? 40 : 1500);
        if (take > len - at) take = len - at;
        pieces[n++] = (struct iovec){text + at, take};
        at += take;
    }
    pieces[n++] = (struct iovec){text + at, len - at};
    return n;
}

/* sealed_in_pieces: as many records as it takes, in a room that is small at times. */
static void sealed_in_pieces(size_t len)
{
    struct iovec pieces[100];
    unsigned count = cut(pieces, len, 1 + (unsigned)random() % 100), at = 0;
    size_t got = 0;
    while (got < len) {
        const size_t cap = RECORD_OVERHEAD + (random() % 3 ? 1 + (size_t)random() % 20000 : 17000);
        size_t used, n;
        uint8_t *out = guard_copy(NULL, cap);
        const size_t sealed = record_seal(t.r, pieces + at, count - at, &used, out, cap);
        assert_true(sealed > 0 && sealed <= cap && used > 0 && used <= RECORD_PLAIN_MAX);
        assert_true(used <= cap - RECORD_OVERHEAD);
        assert_int_equal(peer_open(&t.out, out, sealed, answer, &n), DATA);
        assert_int_equal(n, used);
        assert_memory_equal(answer, text + got, used);
        guard_free(out, cap);
        got += used;
        for (; at < count && used >= pieces[at].iov_len; at++) used -= pieces[at].iov_len;
        if (at < count) {
            pieces[at].iov_base = (uint8_t *)pieces[at].iov_base + used;
            pieces[at].iov_len -= used;
        }
    }
}

static void opened_from(size_t len, size_t padding) /* aside, at the record's begin, in itself */
{
    uint8_t *const places[] = {t.plain, wire, wire + RECORD_HEADER};
    for (unsigned p = 0; p < 3; p++) {
        const size_t sealed = peer_seal(&t.in, DATA, text, len, padding, wire);
        assert_int_equal(record_length(t.r, wire, RECORD_HEADER), sealed);
        assert_int_equal(
            record_open(t.r, wire, sealed, places[p], &t.n, t.reply, &t.reply_len, &t.why),
            len ? RECORD_DATA : RECORD_NOTHING);
        assert_int_equal(t.n, len);
        assert_memory_equal(places[p], text, len);
        assert_int_equal(t.reply_len, 0);
    }
}

static void there_and_back(void)
{
    EVERY_SUITE
    {
        begin(SUITE, random() % 2);
        for (int i = 0; i < 40; i++) {
            for (size_t k = 0; k < sizeof text; k++) text[k] = (uint8_t)random();
            const size_t len = some_length();
            sealed_in_pieces(len);
            opened_from(len, (size_t)random() % (RECORD_PLAIN_MAX - len + 1));
        }
        opened_from(0, 0);
        opened_from(RECORD_PLAIN_MAX, 0);
    }
}

static void test_there_and_back(void **state)
{
    (void)state;
    there_and_back();
    aead_use(&aead_mbedtls);
    there_and_back();
    aead_use(NULL);
}

/* So many pieces that one record can not take all. */
static void test_many_pieces(void **state)
{
    (void)state;
    struct iovec pieces[200];
    for (unsigned i = 0; i < 200; i++) pieces[i] = (struct iovec){text + i, i % 3 ? 1 : 0};
    EVERY_SUITE
    {
        begin(SUITE, false);
        size_t used, n;
        const size_t len = record_seal(t.r, pieces, 200, &used, wire, sizeof wire);
        assert_int_equal(used, 64);
        assert_int_equal(peer_open(&t.out, wire, len, answer, &n), DATA);
        assert_int_equal(n, used);
        for (unsigned i = 0, k = 0; k < n; i++)
            if (i % 3) assert_int_equal(answer[k++], text[i]);
    }
}

/* A record is plain bytes: moved and read back in the middle, by another who has only these. */
static void test_moved(void **state)
{
    (void)state;
    EVERY_SUITE
    {
        begin(SUITE, false);
        works_both_ways();
        uint8_t *copy = guard_copy(t.r, t.size);
        record_wipe(t.r);
        for (size_t i = 0; i < t.size; i++) assert_int_equal(((uint8_t *)t.r)[i], 0);
        assert_true(record_valid(copy, t.size));
        guard_free(t.r, t.size);
        t.r = (struct record *)copy;
        works_both_ways();
    }
}

static void test_valid(void **state)
{
    (void)state;
    EVERY_SUITE
    {
        begin(SUITE, false);
        uint8_t bytes[RECORD_STATE_MAX + 8] = {0};
        memcpy(bytes, t.r, t.size);
        for (size_t len = 0; len < sizeof bytes; len++)
            assert_true(record_valid(bytes, len) == (len == t.size));
        for (unsigned i = 0; i < 8; i++) { /* whatever a byte of its head is: no size but its own */
            for (unsigned b = 0; b < 256; b++) {
                memcpy(bytes, t.r, 8);
                bytes[i] = (uint8_t)b;
                if (i >= 4 || (i == 2 && b >= 16))
                    assert_true(record_valid(bytes, t.size) == (b == 0));
                if (record_valid(bytes, t.size))
                    assert_int_equal(
                        record_size((enum record_version)bytes[0], (enum aead)bytes[1]), t.size);
            }
        }
        memcpy(bytes, t.r, 8);
        memset(bytes + 8, 0xff, 8); /* a sequence number that no connection gets to */
        assert_false(record_valid(bytes, t.size));
    }
}

static void test_length(void **state)
{
    (void)state;
    static const unsigned most[2][AEADS] = {{16384 + 24, 16384 + 24, 16384 + 16},
                                            {16384 + 256, 16384 + 256, 16384 + 256}};
    EVERY_SUITE
    {
        begin(SUITE, false);
        for (unsigned fragment = 0; fragment < 65536; fragment += fragment < 16300 ? 97 : 1) {
            const uint8_t head[] = {DATA, 3, 3, (uint8_t)(fragment >> 8), (uint8_t)fragment};
            for (size_t len = 0; len < RECORD_HEADER; len++)
                assert_int_equal(record_length(t.r, head, len), 0);
            assert_int_equal(record_length(t.r, head, RECORD_HEADER),
                             fragment > most[v][s] ? -1 : (int)fragment + 5);
        }
        const unsigned over = most[v][s] + 1;
        const uint8_t head[] = {DATA, 3, 3, (uint8_t)(over >> 8), (uint8_t)over};
        refused(give(head, sizeof head), 22);
    }
}

/* ---- what must be refused ---- */

enum { IN_12 = 1, IN_13 = 2, IN_BOTH = 3, TO_SERVER = 4, TO_CLIENT = 8, TO_BOTH = 12 };

static const struct {
    const char *what;
    uint8_t when, type, alert; /* when: which version, which end */
    uint8_t len, bytes[12];
} wrong[] = {
    {"change_cipher_spec inside", IN_BOTH | TO_BOTH, 20, 10, 1, {1}},
    {"heartbeat", IN_BOTH | TO_BOTH, 24, 10, 3, {1, 0, 0}},
    {"unknown type", IN_BOTH | TO_BOTH, 99, 10, 1, {0}},
    {"unknown type, empty", IN_BOTH | TO_BOTH, 99, 10, 0, {0}},
    {"alert, empty", IN_13 | TO_BOTH, ALERT, 10, 0, {0}}, /* RFC 8446 5.4 */
    {"alert, empty", IN_12 | TO_BOTH, ALERT, 50, 0, {0}},
    {"alert, one byte", IN_BOTH | TO_BOTH, ALERT, 50, 1, {2}},
    {"two alerts", IN_BOTH | TO_BOTH, ALERT, 50, 4, {1, 90, 1, 0}},
    {"handshake, empty", IN_BOTH | TO_BOTH, HANDSHAKE, 10, 0, {0}}, /* RFC 8446 5.4 */
    {"KeyUpdate in 1.2", IN_12 | TO_BOTH, HANDSHAKE, 10, 5, {24, 0, 0, 1, 0}},
    {"KeyUpdate, type only", IN_13 | TO_BOTH, HANDSHAKE, 10, 1, {24}},
    {"KeyUpdate, no request", IN_13 | TO_BOTH, HANDSHAKE, 10, 4, {24, 0, 0, 1}},
    {"KeyUpdate, empty", IN_13 | TO_BOTH, HANDSHAKE, 50, 4, {24, 0, 0, 0}},
    {"KeyUpdate, too long", IN_13 | TO_BOTH, HANDSHAKE, 50, 6, {24, 0, 0, 2, 0, 0}},
    {"KeyUpdate, huge", IN_13 | TO_BOTH, HANDSHAKE, 50, 5, {24, 1, 0, 1, 0}},
    {"KeyUpdate, something behind", IN_13 | TO_BOTH, HANDSHAKE, 10, 6, {24, 0, 0, 1, 0, 24}},
    {"two KeyUpdates", IN_13 | TO_BOTH, HANDSHAKE, 10, 10, {24, 0, 0, 1, 0, 24, 0, 0, 1, 0}},
    {"KeyUpdate, request of 2", IN_13 | TO_BOTH, HANDSHAKE, 47, 5, {24, 0, 0, 1, 2}},
    {"KeyUpdate, request of 255", IN_13 | TO_BOTH, HANDSHAKE, 47, 5, {24, 0, 0, 1, 255}},
    {"KeyUpdate behind a ticket", IN_13 | TO_BOTH, HANDSHAKE, 10, 9, {4, 0, 0, 0, 24, 0, 0, 1, 0}},
    {"ticket for a server", IN_13 | TO_SERVER, HANDSHAKE, 10, 4, {4, 0, 0, 0}},
    {"ticket in 1.2", IN_12 | TO_BOTH, HANDSHAKE, 10, 4, {4, 0, 0, 0}},
    {"ticket, cut", IN_13 | TO_CLIENT, HANDSHAKE, 10, 5, {4, 0, 0, 2, 0}},
    {"ticket, huge", IN_13 | TO_CLIENT, HANDSHAKE, 10, 5, {4, 255, 255, 255, 0}},
    {"ticket, header cut", IN_13 | TO_CLIENT, HANDSHAKE, 10, 3, {4, 0, 0}},
    {"ClientHello in 1.3", IN_13 | TO_BOTH, HANDSHAKE, 10, 4, {1, 0, 0, 0}},
    {"HelloRequest in 1.3", IN_13 | TO_BOTH, HANDSHAKE, 10, 4, {0, 0, 0, 0}},
    {"CertificateRequest", IN_BOTH | TO_BOTH, HANDSHAKE, 10, 4, {13, 0, 0, 0}},
    {"Finished", IN_BOTH | TO_BOTH, HANDSHAKE, 10, 4, {20, 0, 0, 0}},
    {"ServerHello", IN_BOTH | TO_BOTH, HANDSHAKE, 10, 4, {2, 0, 0, 0}},
    {"EndOfEarlyData", IN_BOTH | TO_BOTH, HANDSHAKE, 10, 4, {5, 0, 0, 0}},
    {"HelloRequest for a server", IN_12 | TO_SERVER, HANDSHAKE, 10, 4, {0, 0, 0, 0}},
    {"ClientHello for a client", IN_12 | TO_CLIENT, HANDSHAKE, 10, 4, {1, 0, 0, 0}},
};

static void test_wrong_messages(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        EVERY_SUITE for (int client = 0; client < 2; client++)
        {
            if (!(wrong[i].when & (v ? IN_13 : IN_12))) continue;
            if (!(wrong[i].when & (client ? TO_CLIENT : TO_SERVER))) continue;
            print_message("    %s\n", wrong[i].what);
            begin(SUITE, client);
            works_both_ways();
            refused(says(wrong[i].type, wrong[i].bytes, wrong[i].len), wrong[i].alert);
        }
    }
}

/* Other outer types are no way in, whether what follows is authentic or not. */
static void test_outer_type(void **state)
{
    (void)state;
    EVERY_SUITE for (unsigned outer = 0; outer < 256; outer++)
    {
        if (v ? outer == DATA : outer >= ALERT && outer <= DATA) continue;
        begin(SUITE, outer % 2);
        refused(
            give(wire, peer_seal_fragment(&t.in, (uint8_t)outer, (const uint8_t *)"x\27", 2, wire)),
            10);
        begin(SUITE, outer % 2);
        const uint8_t plain[] = {(uint8_t)outer, 3, 3, 0, 1, 1}; /* change_cipher_spec as it is */
        refused(give(plain, sizeof plain), 10);
    }
}

/* A record without a type: RFC 8446 section 5.4. */
static void test_all_zero(void **state)
{
    (void)state;
    static const uint8_t zeros[RECORD_PLAIN_MAX + 1];
    static const size_t lengths[] = {0,           1, 2, 15, 16, 17, 128, 1000, RECORD_PLAIN_MAX,
                                     sizeof zeros};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        begin(RECORD_TLS13, (enum aead)(i % AEADS), false);
        refused(give(wire, peer_seal_fragment(&t.in, DATA, zeros, lengths[i], wire)), 10);
    }
}

static void test_too_long(void **state)
{
    (void)state;
    EVERY_SUITE
    {
        begin(SUITE, false);
        assert_int_equal(says(DATA, text, RECORD_PLAIN_MAX), RECORD_DATA);
        assert_int_equal(t.n, RECORD_PLAIN_MAX);
        refused(says(DATA, text, RECORD_PLAIN_MAX + 1), 22);
    }
    for (int s = 0; s < AEADS; s++) { /* padding counts: RFC 8446 section 5.4 */
        for (size_t len = 0; len < 300; len += 99) {
            begin(RECORD_TLS13, (enum aead)s, false);
            assert_int_equal(
                give(wire, peer_seal(&t.in, DATA, text, len, RECORD_PLAIN_MAX - len, wire)),
                len ? RECORD_DATA : RECORD_NOTHING);
            refused(give(wire, peer_seal(&t.in, DATA, text, len, RECORD_PLAIN_MAX - len + 1, wire)),
                    22);
        }
    }
}

static void test_too_short(void **state)
{
    (void)state;
    EVERY_SUITE
    {
        begin(SUITE, false);
        const size_t least = AEAD_TAG + peer_explicit(&t.in);
        for (size_t fragment = 0; fragment < least; fragment++) {
            const uint8_t head[40] = {DATA, 3, 3, 0, (uint8_t)fragment};
            begin(SUITE, false);
            refused(give(head, RECORD_HEADER + fragment), 20);
        }
    }
}

/* Every bit of a record counts. */
static void test_flipped(void **state)
{
    (void)state;
    uint8_t record[200], flipped[200];
    EVERY_SUITE
    {
        begin(SUITE, false);
        struct peer_way in = t.in, out = t.out;
        uint8_t before[RECORD_STATE_MAX];
        memcpy(before, t.r, t.size);
        const size_t len = peer_seal(&in, DATA, "twenty-one bytes long", 21, 3, record);
        const struct peer_way after = in;
        for (size_t bit = 0; bit < len * 8; bit++) {
            memcpy(t.r, before, t.size);
            t.in = after;
            t.out = out;
            memcpy(flipped, record, len);
            flipped[bit / 8] ^= (uint8_t)(1u << bit % 8);
            uint8_t alert = 20;
            if (bit < 8) alert = v == 0 && flipped[0] >= ALERT && flipped[0] <= DATA ? 20 : 10;
            if (record_length(t.r, flipped, len) < 0) alert = 22;
            refused(give(flipped, len), alert);
        }
        memcpy(t.r, before, t.size);
        assert_int_equal(give(record, len), RECORD_DATA); /* and it is all right without */
    }
}

/* Each end writes with keys of its own, counts records, and wants all of them. */
static void test_order(void **state)
{
    (void)state;
    uint8_t first[100], second[100];
    EVERY_SUITE
    {
        begin(SUITE, false); /* twice the same */
        size_t len = peer_seal(&t.in, DATA, "once", 4, 0, first);
        assert_int_equal(give(first, len), RECORD_DATA);
        refused(give(first, len), 20);

        begin(SUITE, false); /* one is missing */
        peer_seal(&t.in, DATA, "once", 4, 0, first);
        len = peer_seal(&t.in, DATA, "once", 4, 0, second);
        refused(give(second, len), 20);

        begin(SUITE, false); /* the end of one is missing, or its header says less */
        len = peer_seal(&t.in, DATA, "once", 4, 0, first);
        refused(give(first, len - 1), 20);
        begin(SUITE, false);
        len = peer_seal(&t.in, DATA, "once", 4, 0, first);
        first[4]--;
        refused(give(first, len - 1), 20);

        begin(SUITE, false); /* what we said comes back */
        len = seal("mine", 4);
        assert_int_equal(hears(DATA, wire, len), 4);
        refused(give(wire, len), 20);
    }
}

/* ---- alerts ---- */

static void test_alerts(void **state)
{
    (void)state;
    EVERY_SUITE for (unsigned description = 0; description < 256; description++)
    {
        begin(SUITE, true);
        const enum record_got got = SAYS(ALERT, FATAL, (uint8_t)description);
        assert_int_equal(t.reply_len, 0); /* an alert is not answered with one */
        if (description == 0) {
            assert_int_equal(got, RECORD_CLOSED);
        } else if (v == 1 && description == 90) { /* 1.3: the level does not count */
            assert_int_equal(got, RECORD_NOTHING);
        } else {
            assert_int_equal(got, RECORD_FAILED);
            assert_string_equal(t.why, record_alert_text((int)description));
            is_over();
        }
        begin(SUITE, true);
        const enum record_got warned = SAYS(ALERT, WARNING, (uint8_t)description);
        if (description == 0)
            assert_int_equal(warned, RECORD_CLOSED);
        else if (v == 0 || description == 90)
            assert_int_equal(warned, RECORD_NOTHING);
        else
            assert_int_equal(warned, RECORD_FAILED);
    }
}

static void test_goodbye(void **state)
{
    (void)state;
    EVERY_SUITE
    {
        begin(SUITE, false); /* we first: what comes is still read */
        uint8_t out[RECORD_OVERHEAD];
        t.reply_len = record_goodbye(t.r, out);
        memcpy(t.reply, out, t.reply_len);
        hears_alert(WARNING, 0);
        assert_int_equal(record_goodbye(t.r, out), 0);
        assert_int_equal(seal("x", 1), 0);
        assert_int_equal(says(DATA, "late", 4), RECORD_DATA);
        if (v == 1) { /* a KeyUpdate is taken, and not answered: nothing follows a close_notify */
            assert_int_equal(SAYS(HANDSHAKE, 24, 0, 0, 1, 1), RECORD_NOTHING);
            assert_int_equal(t.reply_len, 0);
            peer_update(&t.in);
        }
        assert_int_equal(says(DATA, "later", 5), RECORD_DATA);
        assert_int_equal(SAYS(ALERT, WARNING, 0), RECORD_CLOSED);
        assert_int_equal(t.reply_len, 0);

        begin(SUITE, false); /* they first: what comes behind it does not count (RFC 8446 6.1) */
        assert_int_equal(SAYS(ALERT, WARNING, 0), RECORD_CLOSED);
        assert_int_equal(says(DATA, "x", 1), RECORD_CLOSED);
        assert_int_equal(hears(DATA, wire, seal("still here", 10)), 10); /* half-closed */
        assert_true(record_goodbye(t.r, out) > 0);
    }
}

/* ---- what may come besides data ---- */

static void test_renegotiation(void **state)
{
    (void)state;
    for (int s = 0; s < AEADS; s++) {
        for (int client = 0; client < 2; client++) {
            begin(RECORD_TLS12, (enum aead)s, client);
            assert_int_equal(SAYS(HANDSHAKE, client ? 0 : 1, 0, 0, 0), RECORD_NOTHING);
            hears_alert(WARNING, 100); /* no_renegotiation */
            works_both_ways();
        }
    }
}

static void test_tickets(void **state)
{
    (void)state;
    for (int s = 0; s < AEADS; s++) {
        begin(RECORD_TLS13, (enum aead)s, true);
        assert_int_equal(SAYS(HANDSHAKE, 4, 0, 0, 2, 9, 9), RECORD_NOTHING);
        assert_int_equal(t.reply_len, 0);
        assert_int_equal(SAYS(HANDSHAKE, 4, 0, 0, 1, 9, 4, 0, 0, 0), RECORD_NOTHING); /* two */
        works_both_ways();
    }
}

static void test_floods(void **state)
{
    (void)state;
    static const struct {
        uint8_t when, type, len, bytes[5];
    } quiet[] = {
        {IN_BOTH | TO_BOTH, DATA, 0, {0}},
        {IN_BOTH | TO_BOTH, ALERT, 2, {WARNING, 90}},
        {IN_12 | TO_BOTH, ALERT, 2, {WARNING, 100}},
        {IN_12 | TO_SERVER, HANDSHAKE, 4, {1, 0, 0, 0}},
        {IN_12 | TO_CLIENT, HANDSHAKE, 4, {0, 0, 0, 0}},
        {IN_13 | TO_BOTH, HANDSHAKE, 5, {24, 0, 0, 1, 0}},
        {IN_13 | TO_BOTH, HANDSHAKE, 5, {24, 0, 0, 1, 1}},
        {IN_13 | TO_CLIENT, HANDSHAKE, 4, {4, 0, 0, 0}},
    };
    enum { ALLOWED = 32 };
    for (size_t i = 0; i < sizeof quiet / sizeof quiet[0]; i++) {
        EVERY_SUITE for (int client = 0; client < 2; client++)
        {
            if (!(quiet[i].when & (v ? IN_13 : IN_12))) continue;
            if (!(quiet[i].when & (client ? TO_CLIENT : TO_SERVER))) continue;
            begin(SUITE, client);
            for (int k = 0; k < 3 * ALLOWED + 1; k++) {
                if (k == ALLOWED || k == 2 * ALLOWED) works_both_ways(); /* data: counted anew */
                const enum record_got got = says(quiet[i].type, quiet[i].bytes, quiet[i].len);
                size_t at = 0;
                const bool update = quiet[i].type == HANDSHAKE && quiet[i].bytes[0] == 24;
                if (update) peer_update(&t.in);
                if (update && quiet[i].bytes[4] == 1) { /* the answer, and new keys */
                    at = RECORD_HEADER + 5 + 1 + AEAD_TAG;
                    assert_int_equal(hears(HANDSHAKE, t.reply, at), 5);
                    assert_memory_equal(answer, ((const uint8_t[]){24, 0, 0, 1, 0}), 5);
                    peer_update(&t.out);
                } else if (t.reply_len > 0 && got == RECORD_NOTHING) {
                    hears_alert(WARNING, 100);
                }
                if (k < 3 * ALLOWED) {
                    assert_int_equal(got, RECORD_NOTHING);
                    continue;
                }
                memmove(t.reply, t.reply + at, t.reply_len - at);
                t.reply_len -= at;
                refused(got, 10);
            }
        }
    }
}

/* ---- new keys ---- */

static void test_key_update(void **state)
{
    (void)state;
    for (int s = 0; s < AEADS; s++) {
        begin(RECORD_TLS13, (enum aead)s, s % 2);
        for (int k = 0; k < 40; k++) {
            const bool asks = k % 3 != 0;
            assert_int_equal(SAYS(HANDSHAKE, 24, 0, 0, 1, asks), RECORD_NOTHING);
            peer_update(&t.in);
            if (asks) {
                assert_int_equal(hears(HANDSHAKE, t.reply, t.reply_len), 5);
                assert_memory_equal(answer, ((const uint8_t[]){24, 0, 0, 1, 0}), 5);
                peer_update(&t.out);
            } else {
                assert_int_equal(t.reply_len, 0);
            }
            works_both_ways();
        }
        const size_t len =
            peer_seal(&t.in, HANDSHAKE, ((const uint8_t[]){24, 0, 0, 1, 0}), 5, 0, wire);
        assert_int_equal(give(wire, len), RECORD_NOTHING);
        refused(says(DATA, "x", 1), 20); /* under the old key */
    }
}

#define UPDATE_AT (1ull << 24)
#define END_AT (1ull << 32)

/* RFC 8446 section 5.5: our key is replaced before it has sealed too much. */
static void test_out_key_is_replaced(void **state)
{
    (void)state;
    for (int s = 0; s < AEADS; s++) {
        begin_at(RECORD_TLS13, (enum aead)s, false, 0, UPDATE_AT - 2);
        works_both_ways();
        works_both_ways();
        const size_t update = RECORD_HEADER + 5 + 1 + AEAD_TAG, len = seal("new", 3);
        assert_int_equal(len, update + RECORD_HEADER + 3 + 1 + AEAD_TAG);
        assert_int_equal(hears(HANDSHAKE, wire, update), 5);
        assert_memory_equal(answer, ((const uint8_t[]){24, 0, 0, 1, 0}), 5);
        peer_update(&t.out);
        assert_int_equal(hears(DATA, wire + update, len - update), 3);
        works_both_ways();
    }
}

/* The most that a record with a KeyUpdate in front of it takes is what RECORD_OVERHEAD says. */
static void test_update_fits(void **state)
{
    (void)state;
    for (size_t cap = 0; cap < 200; cap++) {
        begin_at(RECORD_TLS13, AEAD_AES_256_GCM, false, 0, UPDATE_AT);
        uint8_t *out = guard_copy(NULL, cap + 1);
        const struct iovec piece = {text, sizeof text};
        size_t used;
        const size_t len = record_seal(t.r, &piece, 1, &used, out, cap + 1);
        assert_int_equal(len > 0, cap >= RECORD_OVERHEAD);
        assert_true(len <= cap + 1);
        guard_free(out, cap + 1);
    }
}

/* The peer is asked, once, when it has used its key for long. */
static void test_in_key_is_asked_for(void **state)
{
    (void)state;
    for (int s = 0; s < AEADS; s++) {
        begin_at(RECORD_TLS13, (enum aead)s, false, UPDATE_AT - 2, 0);
        works_both_ways();
        assert_int_equal(says(DATA, "last", 4), RECORD_DATA);
        assert_int_equal(t.n, 4);
        assert_int_equal(hears(HANDSHAKE, t.reply, t.reply_len), 5);
        assert_memory_equal(answer, ((const uint8_t[]){24, 0, 0, 1, 1}), 5);
        peer_update(&t.out);
        works_both_ways(); /* what was under way */
        assert_int_equal(SAYS(HANDSHAKE, 24, 0, 0, 1, 0), RECORD_NOTHING);
        peer_update(&t.in);
        works_both_ways();
    }
}

static void test_ends(void **state)
{
    (void)state;
    EVERY_SUITE
    {
        begin_at(SUITE, false, END_AT - 1, 0); /* no more is opened under one key */
        works_both_ways();
        refused(says(DATA, "x", 1), 80);

        static const uint64_t last[] = {UINT64_MAX - 1, UINT64_MAX};
        for (int i = 0; i < 2; i++) {
            begin_at(SUITE, false, last[i], 0);
            refused(says(DATA, "x", 1), 80);
        }
        if (v == 1) continue;
        begin_at(SUITE, false, 0, END_AT - 1); /* 1.2 has no new keys: that is it */
        works_both_ways();
        assert_int_equal(seal("x", 1), 0);
        assert_true(record_goodbye(t.r, t.reply) > 0);
    }
}

/* A sequence number is never used twice under a key, whatever is to be sent. */
static void test_never_wraps(void **state)
{
    (void)state;
    EVERY_SUITE
    {
        begin_at(SUITE, false, 0, UINT64_MAX - 1);
        t.reply_len = record_goodbye(t.r, t.reply);
        hears_alert(WARNING, 0);
        begin_at(SUITE, false, 0, UINT64_MAX);
        assert_int_equal(record_goodbye(t.r, t.reply), 0);
        begin_at(SUITE, false, 0, UINT64_MAX);
        assert_int_equal(seal("x", 1), 0);
        begin_at(SUITE, false, 0, UINT64_MAX);
        const uint8_t garbage[40] = {DATA, 3, 3, 0, 35};
        assert_int_equal(give(garbage, sizeof garbage), RECORD_FAILED);
        assert_int_equal(t.reply_len, 0);
        if (v == 0) {
            begin_at(SUITE, false, 0, UINT64_MAX);
            assert_int_equal(SAYS(HANDSHAKE, 1, 0, 0, 0), RECORD_NOTHING);
            assert_int_equal(t.reply_len, 0);
        } else {
            begin_at(SUITE, false, 0, UINT64_MAX);
            assert_int_equal(SAYS(HANDSHAKE, 24, 0, 0, 1, 1), RECORD_FAILED);
            assert_int_equal(t.reply_len, 0);
        }
    }
}

/* HKDF allocates: whichever of its allocations fails, nothing goes on under half of a key. */
static void test_no_memory(void **state)
{
    (void)state;
    static const uint8_t update[2][5] = {{24, 0, 0, 1, 0}, {24, 0, 0, 1, 1}};
    unsigned failed[3] = {0}, worked = 0;
    for (unsigned at = 1; at < 40 && worked < 3; at++) {
        worked = 0;
        for (unsigned asks = 0; asks < 2; asks++) { /* one key, both keys */
            begin(RECORD_TLS13, AEAD_AES_128_GCM, false);
            const size_t len = peer_seal(&t.in, HANDSHAKE, update[asks], 5, 0, wire);
            fail_at = at;
            const enum record_got got = give(wire, len);
            const bool fell = fail_at == 0;
            fail_at = 0;
            assert_int_equal(got, fell ? RECORD_FAILED : RECORD_NOTHING);
            worked += !fell;
            failed[asks] += fell;
            if (fell && !asks) refused(got, 80);
            if (fell && asks) is_over();
        }
        begin_at(RECORD_TLS13, AEAD_AES_128_GCM, false, 0, UPDATE_AT); /* ours */
        fail_at = at;
        const size_t len = seal("x", 1);
        const bool fell = fail_at == 0;
        fail_at = 0;
        assert_int_equal(len == 0, fell);
        worked += !fell;
        failed[2] += fell;
        if (fell) is_over();
    }
    assert_int_equal(worked, 3);
    assert_true(failed[0] > 0 && failed[1] > failed[0] && failed[2] > 0);

    struct record_keys k = {.version = RECORD_TLS13, .suite = AEAD_AES_256_GCM};
    uint8_t *r = guard_copy(NULL, RECORD_STATE_MAX);
    fail_at = 1;
    assert_false(record_init((struct record *)r, &k));
    assert_int_equal(fail_at, 0);
    assert_true(record_init((struct record *)r, &k));
    guard_free(r, RECORD_STATE_MAX);
}

/* ---- costs ---- */

static void one_way_and_back(void)
{
    struct iovec pieces[3] = {{text, 4}, {text + 4, 300}, {text + 304, 1}};
    size_t used;
    const size_t len = record_seal(t.r, pieces, 3, &used, wire, sizeof wire);
    assert_int_equal(used, 305);
    assert_true(record_open(t.r, wire, len, t.plain, &t.n, t.reply, &t.reply_len, &t.why) ==
                RECORD_DATA);
}

/* Once a thread has its scratch memory, a record costs no allocation. */
static void test_no_allocation(void **state)
{
    (void)state;
    const struct aead_kernel *const kernels[] = {NULL, &aead_mbedtls};
    for (unsigned k = 0; k < 2; k++) {
        aead_use(kernels[k]);
        EVERY_SUITE
        {
            struct record_keys keys = {.version = versions[v], .suite = (enum aead)s};
            t.r = guard_copy(NULL, t.size = record_size(SUITE));
            assert_true(record_init(t.r, &keys)); /* the same both ways */
            one_way_and_back();
            const unsigned before = heap_calls;
            for (int i = 0; i < 1000; i++) one_way_and_back();
            assert_int_equal(heap_calls, before);
            guard_free(t.r, t.size);
            t.r = NULL;
        }
    }
    aead_use(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc8448),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_many_pieces),
        cmocka_unit_test(test_moved),
        cmocka_unit_test(test_valid),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_wrong_messages),
        cmocka_unit_test(test_outer_type),
        cmocka_unit_test(test_all_zero),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_too_short),
        cmocka_unit_test(test_flipped),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_alerts),
        cmocka_unit_test(test_goodbye),
        cmocka_unit_test(test_renegotiation),
        cmocka_unit_test(test_tickets),
        cmocka_unit_test(test_floods),
        cmocka_unit_test(test_key_update),
        cmocka_unit_test(test_out_key_is_replaced),
        cmocka_unit_test(test_update_fits),
        cmocka_unit_test(test_in_key_is_asked_for),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_never_wraps),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_no_allocation),
    };
    srandom(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
