#include "record.h"

#include <string.h>

#include <mbedtls/hkdf.h>
#include <mbedtls/platform_util.h>

/* The keys of a connection in plain bytes, and what RFC 8446 section 5 says of records.
 *
 * Nonces: a sequence number is used once for each key, since seal_record and open_record, the only
 * places that use one, count it up before they are done, and it never wraps: long before, keys are
 * replaced (1.3) or the connection ends, and at the very end seal_record seals nothing. */

enum { /* RFC 8446 section 5.1, appendix B; RFC 5246 section 7.2, 7.4 */
       TYPE_ALERT = 21,
       TYPE_HANDSHAKE = 22,
       TYPE_DATA = 23,
       ALERT_WARNING = 1,
       ALERT_FATAL = 2,
       CLOSE_NOTIFY = 0,
       UNEXPECTED_MESSAGE = 10,
       BAD_RECORD_MAC = 20,
       RECORD_OVERFLOW = 22,
       ILLEGAL_PARAMETER = 47,
       DECODE_ERROR = 50,
       INTERNAL_ERROR = 80,
       USER_CANCELED = 90,
       NO_RENEGOTIATION = 100,
       HELLO_REQUEST = 0,
       CLIENT_HELLO = 1,
       NEW_SESSION_TICKET = 4,
       KEY_UPDATE = 24,
};

#define EXPLICIT_NONCE 8u      /* TLS 1.2 AES-GCM: RFC 5288 section 3 */
#define UPDATE_AT (1ull << 24) /* RFC 8446 section 5.5 allows some 2^24.5 records a key */
#define END_AT (1ull << 32)    /* 1.2 has no KeyUpdate, and a peer may not heed ours: it ends */
#define QUIET_MAX 32u          /* records in a row without a byte for the layer above */
#define PIECES_MAX 65u         /* of a record, its content type one of them */

enum {
    CLIENT = 1 << 0,
    FAILED = 1 << 1,
    SAID_GOODBYE = 1 << 2,
    HEARD_GOODBYE = 1 << 3,
    FLAGS = (1 << 4) - 1,
};

struct record {
    uint8_t version; /* enum record_version */
    uint8_t suite;   /* enum aead */
    uint8_t flags;
    uint8_t quiet; /* records in a row without a byte for the layer above */
    uint32_t unused;
    uint64_t seq[2];   /* by enum record_direction: of the next record */
    uint8_t secrets[]; /* for each direction: traffic secret (1.3), key, nonce */
};

/* ---- where things lie ---- */

static size_t secret_len(enum record_version version, enum aead suite)
{
    if (version == RECORD_TLS12) return 0;
    return suite == AEAD_AES_256_GCM ? 48 : 32;
}

static size_t iv_len(enum record_version version, enum aead suite)
{
    return version == RECORD_TLS12 && suite != AEAD_CHACHA20_POLY1305 ? 4 : 12;
}

static size_t way_len(enum record_version version, enum aead suite)
{
    return secret_len(version, suite) + aead_key_len(suite) + iv_len(version, suite);
}

size_t record_size(enum record_version version, enum aead suite)
{
    return sizeof(struct record) + 2 * way_len(version, suite);
}

static enum record_version version_of(const struct record *r)
{
    return (enum record_version)r->version;
}

static enum aead suite_of(const struct record *r)
{
    return (enum aead)r->suite;
}

static uint8_t *secret_of(struct record *r, enum record_direction d)
{
    return r->secrets + d * way_len(version_of(r), suite_of(r));
}

static uint8_t *key_of(struct record *r, enum record_direction d)
{
    return secret_of(r, d) + secret_len(version_of(r), suite_of(r));
}

static uint8_t *iv_of(struct record *r, enum record_direction d)
{
    return key_of(r, d) + aead_key_len(suite_of(r));
}

static bool explicit_nonce(const struct record *r)
{
    return iv_len(version_of(r), suite_of(r)) == 4;
}

/* ---- keys ---- */

/* expand_label is HKDF-Expand-Label with an empty context (RFC 8446 section 7.1). */
static bool expand_label(const uint8_t *secret, size_t hash_len, const char *label, uint8_t *out,
                         size_t len)
{
    const size_t n = strlen(label);
    uint8_t info[4 + 6 + 16] = {(uint8_t)(len >> 8), (uint8_t)len, (uint8_t)(6 + n)};
    memcpy(info + 3, "tls13 ", 6);
    memcpy(info + 9, label, n);
    info[9 + n] = 0;
    const mbedtls_md_info_t *md =
        mbedtls_md_info_from_type(hash_len == 48 ? MBEDTLS_MD_SHA384 : MBEDTLS_MD_SHA256);
    return mbedtls_hkdf_expand(md, secret, hash_len, info, 10 + n, out, len) == 0;
}

/* keys_from_secret: RFC 8446 section 7.3. */
static bool keys_from_secret(struct record *r, enum record_direction d)
{
    const size_t len = secret_len(version_of(r), suite_of(r));
    return expand_label(secret_of(r, d), len, "key", key_of(r, d), aead_key_len(suite_of(r))) &&
           expand_label(secret_of(r, d), len, "iv", iv_of(r, d), 12);
}

/* update_keys: RFC 8446 section 7.2. */
static bool update_keys(struct record *r, enum record_direction d)
{
    const size_t len = secret_len(version_of(r), suite_of(r));
    uint8_t next[48];
    bool done = expand_label(secret_of(r, d), len, "traffic upd", next, len);
    if (done) memcpy(secret_of(r, d), next, len);
    mbedtls_platform_zeroize(next, sizeof next);
    done = done && keys_from_secret(r, d);
    if (done) r->seq[d] = 0;
    return done;
}

bool record_init(struct record *r, const struct record_keys *k)
{
    memset(r, 0, record_size(k->version, k->suite));
    r->version = (uint8_t)k->version;
    r->suite = (uint8_t)k->suite;
    r->flags = k->client ? CLIENT : 0;
    for (unsigned i = 0; i < 2; i++) {
        const enum record_direction d = (enum record_direction)i;
        r->seq[d] = k->seq[d];
        if (k->version == RECORD_TLS13) {
            memcpy(secret_of(r, d), k->secret[d], secret_len(k->version, k->suite));
            if (!keys_from_secret(r, d)) return false;
        } else {
            memcpy(key_of(r, d), k->key[d], aead_key_len(k->suite));
            memcpy(iv_of(r, d), k->iv[d], iv_len(k->version, k->suite));
        }
    }
    return true;
}

void record_wipe(struct record *r)
{
    mbedtls_platform_zeroize(r, record_size(version_of(r), suite_of(r)));
}

bool record_valid(const void *bytes, size_t len)
{
    const struct record *r = bytes;
    return len >= sizeof *r && (r->version == RECORD_TLS12 || r->version == RECORD_TLS13) &&
           r->suite < AEADS && (r->flags & ~FLAGS) == 0 && r->unused == 0 &&
           r->seq[RECORD_IN] <= END_AT && r->seq[RECORD_OUT] <= END_AT + QUIET_MAX &&
           len == record_size(version_of(r), suite_of(r));
}

/* ---- one record ---- */

static void put_u16(uint8_t *p, size_t n)
{
    p[0] = (uint8_t)(n >> 8);
    p[1] = (uint8_t)n;
}

static void put_u64(uint8_t *p, uint64_t n)
{
    for (int i = 7; i >= 0; i--, n >>= 8) p[i] = (uint8_t)n;
}

/* make_nonce: RFC 8446 section 5.3 and RFC 7905 section 2, or RFC 5288 section 3 with the part that
 * is sent. */
static void make_nonce(struct record *r, enum record_direction d, const uint8_t *sent,
                       uint8_t nonce[static AEAD_NONCE])
{
    if (explicit_nonce(r)) {
        memcpy(nonce, iv_of(r, d), 4);
        memcpy(nonce + 4, sent, EXPLICIT_NONCE);
        return;
    }
    put_u64(nonce + 4, r->seq[d]);
    memset(nonce, 0, 4);
    const uint8_t *iv = iv_of(r, d);
    for (unsigned i = 0; i < AEAD_NONCE; i++) nonce[i] ^= iv[i];
}

/* make_aad: RFC 8446 section 5.2 takes the header as it is, RFC 5246 section 6.2.3.3 the sequence
 * number, type, version and length of the plain bytes. Returns its length. */
static size_t make_aad(const struct record *r, enum record_direction d, const uint8_t *header,
                       size_t plain_len, uint8_t aad[static 13])
{
    if (version_of(r) == RECORD_TLS13) {
        memcpy(aad, header, RECORD_HEADER);
        return RECORD_HEADER;
    }
    put_u64(aad, r->seq[d]);
    memcpy(aad + 8, header, 3);
    put_u16(aad + 11, plain_len);
    return 13;
}

/* seal_record puts one record of the pieces' len bytes into out; returns its length; 0: there are
 * no sequence numbers left. The array has room for one more piece, which it uses. */
static size_t seal_record(struct record *r, uint8_t type, struct iovec *pieces, unsigned count,
                          size_t len, uint8_t *out)
{
    static const uint8_t inner[] = {TYPE_ALERT, TYPE_HANDSHAKE, TYPE_DATA};
    const bool tls13 = version_of(r) == RECORD_TLS13;
    const size_t before = explicit_nonce(r) ? EXPLICIT_NONCE : 0;
    uint8_t nonce[AEAD_NONCE], aad[13];
    if (r->seq[RECORD_OUT] == UINT64_MAX) return 0;
    if (tls13) pieces[count++] = (struct iovec){(void *)(uintptr_t)&inner[type - TYPE_ALERT], 1};
    const size_t inner_len = len + (tls13 ? 1 : 0); /* no padding */
    out[0] = tls13 ? TYPE_DATA : type;
    put_u16(out + 1, 0x0303);
    put_u16(out + 3, before + inner_len + AEAD_TAG);
    if (before) put_u64(out + RECORD_HEADER, r->seq[RECORD_OUT]);
    make_nonce(r, RECORD_OUT, out + RECORD_HEADER, nonce);
    const size_t aad_len = make_aad(r, RECORD_OUT, out, inner_len, aad);
    r->seq[RECORD_OUT]++;
    aead_seal(suite_of(r), key_of(r, RECORD_OUT), nonce, aad, aad_len, pieces, count,
              out + RECORD_HEADER + before);
    return RECORD_HEADER + before + inner_len + AEAD_TAG;
}

static size_t seal_bytes(struct record *r, uint8_t type, const uint8_t *bytes, size_t len,
                         uint8_t *out)
{
    struct iovec pieces[2] = {{(void *)(uintptr_t)bytes, len}};
    return seal_record(r, type, pieces, 1, len, out);
}

static size_t seal_alert(struct record *r, uint8_t level, uint8_t description, uint8_t *out)
{
    if (r->flags & (FAILED | SAID_GOODBYE)) return 0;
    return seal_bytes(r, TYPE_ALERT, (const uint8_t[]){level, description}, 2, out);
}

/* seal_key_update announces new keys under the old ones, and takes them; 0: that failed, and
 * nothing may be sealed any more. */
static size_t seal_key_update(struct record *r, bool ask, uint8_t *out)
{
    const uint8_t message[] = {KEY_UPDATE, 0, 0, 1, ask};
    const size_t len = seal_bytes(r, TYPE_HANDSHAKE, message, sizeof message, out);
    if (len && update_keys(r, RECORD_OUT)) return len;
    r->flags |= FAILED;
    return 0;
}

/* ---- in ---- */

const char *record_alert_text(int description)
{
    static const struct {
        int description;
        const char *text;
    } says[] = {
        {10, "the peer says: unexpected_message"},
        {20, "the peer says: bad_record_mac"},
        {22, "the peer says: record_overflow"},
        {40, "the peer says: handshake_failure (no common cipher suite, group or signature)"},
        {42, "the peer says: bad_certificate"},
        {43, "the peer says: unsupported_certificate"},
        {44, "the peer says: certificate_revoked"},
        {45, "the peer says: certificate_expired"},
        {46, "the peer says: certificate_unknown"},
        {47, "the peer says: illegal_parameter"},
        {48, "the peer says: unknown_ca"},
        {49, "the peer says: access_denied"},
        {50, "the peer says: decode_error"},
        {51, "the peer says: decrypt_error"},
        {70, "the peer says: protocol_version"},
        {71, "the peer says: insufficient_security"},
        {80, "the peer says: internal_error"},
        {90, "the peer says: user_canceled"},
        {109, "the peer says: missing_extension"},
        {112, "the peer says: unrecognized_name"},
        {116, "the peer says: certificate_required"},
        {120, "the peer says: no_application_protocol"},
    };

    for (size_t i = 0; i < sizeof says / sizeof says[0]; i++)
        if (says[i].description == description) return says[i].text;
    return "the peer sent a fatal alert";
}

static size_t fragment_max(const struct record *r)
{
    if (version_of(r) == RECORD_TLS13) return RECORD_PLAIN_MAX + 256;
    return RECORD_PLAIN_MAX + AEAD_TAG + (explicit_nonce(r) ? EXPLICIT_NONCE : 0);
}

int record_length(const struct record *r, const uint8_t *bytes, size_t len)
{
    if (len < RECORD_HEADER) return 0;
    const size_t fragment = (size_t)bytes[3] << 8 | bytes[4];
    return fragment > fragment_max(r) ? -1 : (int)(RECORD_HEADER + fragment);
}

struct opening { /* of one record */
    struct record *r;
    uint8_t *plain;
    size_t n;
    uint8_t *reply;
    size_t reply_len;
    const char *why;
};

static enum record_got fail(struct opening *o, uint8_t alert, const char *why)
{
    o->reply_len += seal_alert(o->r, ALERT_FATAL, alert, o->reply + o->reply_len);
    o->r->flags |= FAILED;
    o->why = why;
    o->n = 0;
    return RECORD_FAILED;
}

static enum record_got unexpected(struct opening *o)
{
    return fail(o, UNEXPECTED_MESSAGE, "unexpected message");
}

/* quiet: a record that brought nothing for the layer above. Some are allowed; a peer that sends
 * nothing else keeps us busy for nothing. */
static enum record_got quiet(struct opening *o)
{
    if (++o->r->quiet <= QUIET_MAX) return RECORD_NOTHING;
    return fail(o, UNEXPECTED_MESSAGE, "too many records without data");
}

static enum record_got take_alert(struct opening *o)
{
    if (o->n == 0 && version_of(o->r) == RECORD_TLS13) return unexpected(o); /* section 5.4 */
    if (o->n != 2) return fail(o, DECODE_ERROR, "bad alert");
    const uint8_t level = o->plain[0], description = o->plain[1];
    o->n = 0;
    if (description == CLOSE_NOTIFY) {
        o->r->flags |= HEARD_GOODBYE;
        return RECORD_CLOSED;
    }
    const bool warning = version_of(o->r) == RECORD_TLS12
                             ? level == ALERT_WARNING
                             : description == USER_CANCELED; /* RFC 8446 section 6.1 */
    if (warning) return quiet(o);
    o->r->flags |= FAILED; /* no answer */
    o->why = record_alert_text(description);
    return RECORD_FAILED;
}

/* take_key_update: RFC 8446 section 4.6.3. It is the last message under its key, so nothing may
 * follow it in its record (section 5.1). */
static enum record_got take_key_update(struct opening *o)
{
    struct record *r = o->r;
    if (o->n >= 4 && memcmp(o->plain + 1, (const uint8_t[]){0, 0, 1}, 3) != 0)
        return fail(o, DECODE_ERROR, "bad KeyUpdate");
    if (o->n != 5) return unexpected(o); /* cut, or not the last message of its record */
    const uint8_t request = o->plain[4];
    o->n = 0;
    if (request > 1) return fail(o, ILLEGAL_PARAMETER, "bad KeyUpdate");
    if (!update_keys(r, RECORD_IN)) return fail(o, INTERNAL_ERROR, "out of memory");
    if (request && !(r->flags & SAID_GOODBYE)) {
        const size_t len = seal_key_update(r, false, o->reply);
        if (len == 0) return fail(o, INTERNAL_ERROR, "out of memory");
        o->reply_len = len;
    }
    return quiet(o);
}

/* only_tickets: whole NewSessionTicket messages (RFC 8446 section 4.6.1) and nothing else. */
static bool only_tickets(const uint8_t *p, size_t n)
{
    while (n >= 4 && p[0] == NEW_SESSION_TICKET) {
        const size_t len = 4 + ((size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3]);
        if (len > n) return false;
        p += len;
        n -= len;
    }
    return n == 0;
}

static enum record_got take_handshake(struct opening *o)
{
    const bool client = o->r->flags & CLIENT;
    if (o->n == 0) return unexpected(o);
    const uint8_t type = o->plain[0];
    if (version_of(o->r) == RECORD_TLS13) {
        if (type == KEY_UPDATE) return take_key_update(o);
        if (!client || !only_tickets(o->plain, o->n)) return unexpected(o);
        o->n = 0;
        return quiet(o);
    }
    if (type != (client ? HELLO_REQUEST : CLIENT_HELLO)) return unexpected(o);
    o->n = 0; /* RFC 5246 section 7.2.2: it may be refused, and things go on */
    const enum record_got got = quiet(o);
    if (got == RECORD_NOTHING)
        o->reply_len = seal_alert(o->r, ALERT_WARNING, NO_RENEGOTIATION, o->reply);
    return got;
}

static enum record_got take(struct opening *o, uint8_t type)
{
    switch (type) {
    case TYPE_DATA:
        if (o->n == 0) return quiet(o);
        o->r->quiet = 0;
        return RECORD_DATA;
    case TYPE_ALERT: return take_alert(o);
    case TYPE_HANDSHAKE: return take_handshake(o);
    default: return unexpected(o);
    }
}

/* inner_type finds the content type behind the plain bytes and in front of the padding (RFC 8446
 * section 5.4), and takes both away; 0: there is none. */
static uint8_t inner_type(struct opening *o)
{
    while (o->n > 0 && o->plain[o->n - 1] == 0) o->n--;
    return o->n > 0 ? o->plain[--o->n] : 0;
}

/* open_record decrypts; *n plain bytes, of 1.3 with type and padding. */
static bool open_record(struct record *r, const uint8_t *record, size_t len, uint8_t *plain,
                        size_t *n)
{
    const size_t before = explicit_nonce(r) ? EXPLICIT_NONCE : 0;
    uint8_t nonce[AEAD_NONCE], aad[13];
    if (len != (size_t)record_length(r, record, len)) return false;
    if (len < RECORD_HEADER + before + AEAD_TAG) return false;
    *n = len - RECORD_HEADER - before - AEAD_TAG;
    make_nonce(r, RECORD_IN, record + RECORD_HEADER, nonce);
    const size_t aad_len = make_aad(r, RECORD_IN, record, *n, aad);
    r->seq[RECORD_IN]++;
    return aead_open(suite_of(r), key_of(r, RECORD_IN), nonce, aad, aad_len,
                     record + RECORD_HEADER + before, *n, plain);
}

static enum record_got open_in(struct opening *o, const uint8_t *record, size_t len)
{
    struct record *r = o->r;
    const bool tls13 = version_of(r) == RECORD_TLS13;
    const uint8_t type = record[0]; /* the plain bytes may be put over it */
    if (r->flags & FAILED) return RECORD_FAILED;
    if (r->flags & HEARD_GOODBYE) return RECORD_CLOSED; /* RFC 8446 section 6.1: is ignored */
    if (tls13 ? type != TYPE_DATA : type < TYPE_ALERT || type > TYPE_DATA) return unexpected(o);
    if (record_length(r, record, len) < 0) return fail(o, RECORD_OVERFLOW, "record too long");
    if (r->seq[RECORD_IN] >= END_AT)
        return fail(o, INTERNAL_ERROR, "as many records as a key may open");
    if (!open_record(r, record, len, o->plain, &o->n))
        return fail(o, BAD_RECORD_MAC, "record not authentic");
    if (o->n > RECORD_PLAIN_MAX + (tls13 ? 1u : 0u))
        return fail(o, RECORD_OVERFLOW, "record too long");
    return take(o, tls13 ? inner_type(o) : type);
}

/* ask_for_keys: the peer has used its key for as many records as it should. */
static bool ask_for_keys(struct opening *o)
{
    struct record *r = o->r;
    if (version_of(r) != RECORD_TLS13 || r->seq[RECORD_IN] != UPDATE_AT) return true;
    if (r->flags & (FAILED | SAID_GOODBYE | HEARD_GOODBYE)) return true;
    const size_t len = seal_key_update(r, true, o->reply + o->reply_len);
    o->reply_len += len;
    return len > 0;
}

enum record_got record_open(struct record *r, const uint8_t *record, size_t len, uint8_t *plain,
                            size_t *n, uint8_t *reply, size_t *reply_len, const char **why)
{
    struct opening o = {.r = r, .plain = plain, .reply = reply, .why = "failed before"};
    enum record_got got = open_in(&o, record, len);
    if (got != RECORD_FAILED && !ask_for_keys(&o)) got = fail(&o, INTERNAL_ERROR, "out of memory");
    *n = o.n;
    *reply_len = o.reply_len;
    *why = o.why;
    return got;
}

/* ---- out ---- */

/* take_pieces copies the descriptions of up to max bytes; *count of them, which have *len bytes. */
static void take_pieces(struct iovec *to, const struct iovec *from, unsigned *count, size_t max,
                        size_t *len)
{
    unsigned taken = 0;
    *len = 0;
    for (unsigned i = 0; i < *count && taken < PIECES_MAX - 1 && *len < max; i++) {
        size_t n = from[i].iov_len;
        if (n == 0) continue;
        if (n > max - *len) n = max - *len;
        to[taken++] = (struct iovec){from[i].iov_base, n};
        *len += n;
    }
    *count = taken;
}

size_t record_seal(struct record *r, const struct iovec *pieces, unsigned count, size_t *used,
                   uint8_t *out, size_t cap)
{
    struct iovec taken[PIECES_MAX];
    size_t before = 0, len;
    *used = 0;
    if (r->flags & (FAILED | SAID_GOODBYE) || cap <= RECORD_OVERHEAD) return 0;
    if (version_of(r) == RECORD_TLS13 && r->seq[RECORD_OUT] >= UPDATE_AT) {
        before = seal_key_update(r, false, out);
        if (before == 0) return 0;
    } else if (version_of(r) == RECORD_TLS12 && r->seq[RECORD_OUT] >= END_AT) {
        return 0;
    }
    const size_t room = cap - RECORD_OVERHEAD;
    take_pieces(taken, pieces, &count, room < RECORD_PLAIN_MAX ? room : RECORD_PLAIN_MAX, &len);
    *used = len;
    return before + seal_record(r, TYPE_DATA, taken, count, len, out + before);
}

size_t record_goodbye(struct record *r, uint8_t *out)
{
    const size_t len = seal_alert(r, ALERT_WARNING, CLOSE_NOTIFY, out);
    r->flags |= SAID_GOODBYE;
    return len;
}
