/* Problem: bytes that anybody can send decide who somebody is. So: one algorithm, fixed here and
 * never taken from the token (RFC 8725 section 3.1); one spelling for each token (strict base64url,
 * strict JSON, no duplicate members, so that no two readers read it differently); every check
 * before the answer; caps before work. The work is bounded by JWT_TOKEN_MAX and JWT_KEYS_MAX.
 *
 * No allocation: HMAC is built on mbedtls_sha256 contexts on the stack, since mbedtls_md_setup
 * allocates. States of the padded key could be kept with the key: 2 of some 7 compressions saved,
 * 90 ns with SHA-NI, against one more copy of every secret in memory. Not worth it beside an
 * opening handshake.
 *
 * The scratch holds the tokens of the JSON texts, then header and claims decoded from base64url,
 * then those strings that had escapes. A string without one is a slice of its text. */
#include "jwt.h"

#include <assert.h>
#include <string.h>

#include <mbedtls/constant_time.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/sha256.h>

#include "json.h"
#include "probes.h"

#define MAC_LEN 32u
#define BLOCK_LEN 64u
#define TOKENS 1024 /* names and values of the claims; what is inside of them does not count */
#define TEXT_MAX (JWT_TOKEN_MAX / 4 * 3)

/* each text decoded once, and each string in it at most twice: none is longer than its raw text */
_Static_assert(TOKENS * sizeof(jsmntok_t) + 3 * TEXT_MAX <= JWT_SCRATCH, "scratch is too small");

struct verify {
    const struct jwt_rules *rules;
    struct jwt_claims *claims;
    int64_t now_s;
    struct jwt_str header, payload, signature; /* as sent */
    jsmntok_t *tokens;
    char *free, *end; /* scratch not used yet */
    struct json doc;
    int aud, iss; /* values in doc */
    bool has_channel;
    const char *why;
};

static bool fail(struct verify *v, const char *why)
{
    v->why = why;
    return false;
}

/* ---- base64url ---- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* 64 + value for the characters of the alphabet, 0 for all others */
static const uint8_t
    sextets
        [256] =
            {
                // clang-format off
    ['A'] = 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76,
    77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89,
    ['a'] = 90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100, 101, 102,
    103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115,
    ['0'] = 116, 117, 118, 119, 120, 121, 122, 123, 124, 125,
    ['-'] = 126, ['_'] = 127,
                // clang-format on
};

int64_t jwt_base64url_decode(uint8_t *out, const char *text, size_t len)
{
    const uint8_t *p = (const uint8_t *)text;
    uint8_t *start = out;
    uint32_t good = 64, bits;
    for (; len >= 4; len -= 4, p += 4, out += 3) {
        uint32_t a = sextets[p[0]], b = sextets[p[1]], c = sextets[p[2]], d = sextets[p[3]];
        good &= a & b & c & d;
        bits = (a & 63) << 18 | (b & 63) << 12 | (c & 63) << 6 | (d & 63);
        out[0] = (uint8_t)(bits >> 16);
        out[1] = (uint8_t)(bits >> 8);
        out[2] = (uint8_t)bits;
    }
    if (len == 1) return -1;
    if (len >= 2) {
        uint32_t a = sextets[p[0]], b = sextets[p[1]], c = len == 3 ? sextets[p[2]] : 64;
        good &= a & b & c;
        bits = (a & 63) << 18 | (b & 63) << 12 | (c & 63) << 6;
        if (bits & (len == 3 ? 0xff : 0xffff)) return -1; /* unused bits must be zero */
        *out++ = (uint8_t)(bits >> 16);
        if (len == 3) *out++ = (uint8_t)(bits >> 8);
    }
    return good ? out - start : -1;
}

size_t jwt_base64url_encode(char *out, const uint8_t *bytes, size_t len)
{
    char *start = out;
    for (; len > 0; bytes += 3) {
        size_t n = len < 3 ? len : 3;
        uint32_t bits = (uint32_t)bytes[0] << 16;
        if (n > 1) bits |= (uint32_t)bytes[1] << 8;
        if (n > 2) bits |= bytes[2];
        for (unsigned i = 0; i <= n; i++) *out++ = alphabet[bits >> (18 - 6 * i) & 63];
        len -= n;
    }
    return (size_t)(out - start);
}

/* ---- HMAC-SHA256 (RFC 2104) ---- */

static bool hash_padded(uint8_t out[static MAC_LEN], const uint8_t key[static BLOCK_LEN],
                        uint8_t pad, const void *bytes, size_t len)
{
    uint8_t block[BLOCK_LEN];
    mbedtls_sha256_context sha;
    for (size_t i = 0; i < BLOCK_LEN; i++) block[i] = key[i] ^ pad;
    mbedtls_sha256_init(&sha);
    bool ok = mbedtls_sha256_starts(&sha, 0) == 0 &&
              mbedtls_sha256_update(&sha, block, sizeof block) == 0 &&
              mbedtls_sha256_update(&sha, bytes, len) == 0 && mbedtls_sha256_finish(&sha, out) == 0;
    mbedtls_sha256_free(&sha); /* wipes */
    mbedtls_platform_zeroize(block, sizeof block);
    return ok;
}

static bool hmac(uint8_t mac[static MAC_LEN], const struct jwt_key *key, const char *text,
                 size_t len)
{
    uint8_t padded[BLOCK_LEN] = {0}, inner[MAC_LEN];
    bool ok = true;
    if (key->secret_len <= BLOCK_LEN)
        memcpy(padded, key->secret, key->secret_len);
    else
        ok = mbedtls_sha256(key->secret, key->secret_len, padded, 0) == 0;
    ok = ok && hash_padded(inner, padded, 0x36, text, len) &&
         hash_padded(mac, padded, 0x5c, inner, sizeof inner);
    mbedtls_platform_zeroize(padded, sizeof padded);
    return ok;
}

/* ---- structure ---- */

static bool split(struct verify *v, const char *token, size_t len)
{
    if (len > JWT_TOKEN_MAX) return fail(v, "token is too long");
    if (len < 3 || memcmp(token, "eyJ", 3) != 0) return fail(v, "token does not start like a JWT");
    const char *end = token + len, *dot = memchr(token, '.', len);
    if (!dot) return fail(v, "token has not three parts");
    const char *second = memchr(dot + 1, '.', (size_t)(end - dot - 1));
    if (!second || memchr(second + 1, '.', (size_t)(end - second - 1)))
        return fail(v, "token has not three parts");
    v->header = (struct jwt_str){token, (size_t)(dot - token)};
    v->payload = (struct jwt_str){dot + 1, (size_t)(second - dot - 1)};
    v->signature = (struct jwt_str){second + 1, (size_t)(end - second - 1)};
    return true;
}

/* Decodes a part into the scratch and parses it: an object, whose names are unique. */
static bool read_part(struct verify *v, struct jwt_str part)
{
    char *text = v->free;
    int64_t len = jwt_base64url_decode((uint8_t *)text, part.p, part.len);
    if (len < 0) return fail(v, "token is not base64url");
    v->free += len;
    if (json_parse(&v->doc, text, (size_t)len, v->tokens, TOKENS, 1, 0) != 0)
        return fail(v, "token is not JSON");
    if (json_type(&v->doc, 0) != JSON_OBJECT) return fail(v, "token is not a JSON object");
    return json_unique(&v->doc, 0) ? true : fail(v, "token has a name twice");
}

/* A string's bytes, decoded. They live in the scratch. */
static bool read_string(struct verify *v, const struct json *doc, int value, struct jwt_str *out)
{
    struct json_slice plain;
    if (json_plain(doc, value, &plain)) {
        *out = (struct jwt_str){plain.p, plain.len};
        return true;
    }
    int64_t len = json_string(doc, value, v->free, (size_t)(v->end - v->free));
    if (len < 0) return false;
    *out = (struct jwt_str){v->free, (size_t)len};
    v->free += len;
    return true;
}

static bool read_header(struct verify *v)
{
    if (!read_part(v, v->header)) return false;
    if (!json_is(&v->doc, json_member(&v->doc, 0, "alg"), "HS256", 5))
        return fail(v, "alg is not HS256");
    /* RFC 7515 section 4.1.11: we understand no extension, so none may be critical */
    if (json_member(&v->doc, 0, "crit") != JSON_NONE) return fail(v, "crit is not supported");
    int kid = json_member(&v->doc, 0, "kid");
    if (kid != JSON_NONE && !read_string(v, &v->doc, kid, &v->claims->kid))
        return fail(v, "kid is not a string");
    return true;
}

/* ---- claims: one reader each; false with why if the type is wrong ---- */

static bool read_user(struct verify *v, int value)
{
    struct jwt_str *sub = &v->claims->sub;
    if (!read_string(v, &v->doc, value, sub)) return fail(v, "user id is not a string");
    if (sub->len > JWT_SUB_MAX) return fail(v, "user id is too long");
    for (size_t i = 0; i < sub->len; i++)
        if ((unsigned char)sub->p[i] < 0x20 || sub->p[i] == 0x7f)
            return fail(v, "user id has a control character");
    return true;
}

static bool read_sub(struct verify *v, int value)
{
    if (!v->rules->user_id_claim) return read_user(v, value);
    return json_type(&v->doc, value) == JSON_STRING ? true : fail(v, "sub is not a string");
}

/* RFC 7519 section 2, NumericDate: any number. Rounded down, and so early for exp. */
static bool read_exp(struct verify *v, int value)
{
    v->claims->has_exp = true;
    if (json_floor(&v->doc, value, &v->claims->exp_s, NULL)) return true;
    return fail(v, "exp is not a number");
}

/* Rounded up, and so late. */
static bool read_nbf(struct verify *v, int value)
{
    bool exact;
    int64_t *nbf_s = &v->claims->nbf_s;
    v->claims->has_nbf = true;
    if (!json_floor(&v->doc, value, nbf_s, &exact)) return fail(v, "nbf is not a number");
    if (!exact && *nbf_s < INT64_MAX) ++*nbf_s;
    return true;
}

static bool read_iat(struct verify *v, int value)
{
    v->claims->has_iat = true;
    if (json_floor(&v->doc, value, &v->claims->iat_s, NULL)) return true;
    return fail(v, "iat is not a number");
}

static bool read_jti(struct verify *v, int value)
{
    return json_type(&v->doc, value) == JSON_STRING ? true : fail(v, "jti is not a string");
}

static bool read_iss(struct verify *v, int value)
{
    v->iss = value;
    return json_type(&v->doc, value) == JSON_STRING ? true : fail(v, "iss is not a string");
}

/* Opens a value of doc that is an object or array, with the tokens that are left behind doc's. */
static bool open_value(struct verify *v, const struct json *doc, int value, struct json *sub,
                       int depth)
{
    jsmntok_t *rest = doc->tokens + doc->count;
    uint32_t count = TOKENS - (uint32_t)(rest - v->tokens);
    return json_parse_value(sub, doc, value, rest, count, depth) == 0;
}

static bool open_claim(struct verify *v, int value, struct json *sub, int depth)
{
    return open_value(v, &v->doc, value, sub, depth);
}

static bool read_aud(struct verify *v, int value)
{
    struct json list;
    v->aud = value;
    if (json_type(&v->doc, value) == JSON_STRING) return true;
    if (json_type(&v->doc, value) != JSON_ARRAY || !open_claim(v, value, &list, 1))
        return fail(v, "aud is neither a string nor an array of strings");
    for (int a = json_first(&list, 0); a != JSON_NONE; a = json_next(&list, 0, a))
        if (json_type(&list, a) != JSON_STRING)
            return fail(v, "aud is neither a string nor an array of strings");
    return true;
}

static bool read_channel(struct verify *v, int value)
{
    v->has_channel = true;
    if (read_string(v, &v->doc, value, &v->claims->channel)) return true;
    return fail(v, "channel is not a string");
}

static bool read_patterns(struct verify *v, const struct json *doc, int list, struct jwt_str *out,
                          size_t *count)
{
    if (list == JSON_NONE) return true; /* absent = deny */
    if (json_type(doc, list) != JSON_ARRAY) return fail(v, "roost pub or sub is not an array");
    for (int e = json_first(doc, list); e != JSON_NONE; e = json_next(doc, list, e)) {
        if (*count == JWT_PATTERNS_MAX) return fail(v, "roost has too many patterns");
        if (!read_string(v, doc, e, &out[*count])) return fail(v, "roost pattern is not a string");
        ++*count;
    }
    return true;
}

static bool read_roost(struct verify *v, int value)
{
    struct json roost;
    struct jwt_claims *c = v->claims;
    if (json_type(&v->doc, value) != JSON_OBJECT) return fail(v, "roost is not an object");
    if (!open_claim(v, value, &roost, 2)) return fail(v, "roost has too many values");
    if (!json_unique(&roost, 0)) return fail(v, "roost has a name twice");
    return read_patterns(v, &roost, json_member(&roost, 0, "pub"), c->pub, &c->pub_count) &&
           read_patterns(v, &roost, json_member(&roost, 0, "sub"), c->sub_to, &c->sub_to_count);
}

static const struct {
    const char *name;
    size_t len;
    bool (*read)(struct verify *v, int value);
} readers[] = {
    {"sub", 3, read_sub}, {"exp", 3, read_exp},         {"nbf", 3, read_nbf},
    {"iat", 3, read_iat}, {"jti", 3, read_jti},         {"iss", 3, read_iss},
    {"aud", 3, read_aud}, {"channel", 7, read_channel}, {"roost", 5, read_roost},
};

static bool str_is(struct jwt_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.p, text, s.len) == 0;
}

static bool read_claim(struct verify *v, int value)
{
    struct jwt_str name;
    if (!read_string(v, &v->doc, json_name(&v->doc, value), &name))
        return fail(v, "name of a claim is not text");
    const char *user = v->rules->user_id_claim;
    if (user && str_is(name, user) && !read_user(v, value)) return false;
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++)
        if (name.len == readers[i].len && memcmp(name.p, readers[i].name, name.len) == 0)
            return readers[i].read(v, value);
    return true;
}

/* ---- what protocol.md 5.2 and 5.3 add: null is absent, as for who writes it in Go ---- */

/* The member of an object, JSON_NONE also if it is null. */
static int member(const struct json *doc, int object, const char *name)
{
    int value = json_member(doc, object, name);
    return json_type(doc, value) == JSON_NULL ? JSON_NONE : value;
}

/* base64_decode decodes base64 with padding (RFC 4648 section 4) in place, by way of the alphabet
 * of section 5. Returns the length, or -1. */
static int64_t base64_decode(char *text, size_t len)
{
    if (len % 4 != 0) return -1;
    for (int i = 0; i < 2 && len > 0 && text[len - 1] == '='; i++) len--;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '-' || text[i] == '_') return -1;
        if (text[i] == '+') text[i] = '-';
        if (text[i] == '/') text[i] = '_';
    }
    return jwt_base64url_decode((uint8_t *)text, text, len);
}

/* read_base64 decodes a string that is JSON in base64; an empty one leaves *out alone. */
static bool read_base64(struct verify *v, const struct json *doc, int value, struct jwt_str *out)
{
    int64_t len = json_string(doc, value, v->free, (size_t)(v->end - v->free));
    if (len < 0) return fail(v, "b64info or b64data is not a string");
    if (len == 0) return true;
    len = base64_decode(v->free, (size_t)len);
    if (len < 0) return fail(v, "b64info or b64data is not base64");
    /* the protocol's JSON form passes it on as it is: anything else would break the line it is in
     */
    if (!json_check(v->free, (size_t)len, 0, NULL, NULL))
        return fail(v, "b64info or b64data is not JSON inside");
    *out = (struct jwt_str){v->free, (size_t)len};
    v->free += len;
    return true;
}

static bool read_json(struct verify *v, const struct json *doc, const char *name,
                      const char *base64_name, struct jwt_str *out)
{
    struct json_slice raw = json_raw(doc, member(doc, 0, name));
    int base64 = member(doc, 0, base64_name);
    *out = (struct jwt_str){raw.p, raw.len};
    return base64 == JSON_NONE || read_base64(v, doc, base64, out);
}

/* {"value":true}; without a value it is false. */
static bool read_flag(struct verify *v, const struct json *override, const char *name, int8_t *out)
{
    bool yes = false;
    int flag = member(override, 0, name), value = member(override, flag, "value");
    *out = -1;
    if (flag == JSON_NONE) return true;
    if (json_type(override, flag) != JSON_OBJECT ||
        (value != JSON_NONE && !json_bool(override, value, &yes)))
        return fail(v, "override has a flag that is not {\"value\":bool}");
    *out = yes;
    return true;
}

static bool read_override(struct verify *v, const struct json *doc, struct jwt_override *out)
{
    struct json o;
    int value = member(doc, 0, "override");
    *out = (struct jwt_override){-1, -1, -1, -1, -1};
    if (value == JSON_NONE) return true;
    if (json_type(doc, value) != JSON_OBJECT) return fail(v, "override is not an object");
    if (!open_value(v, doc, value, &o, 2)) return fail(v, "override has too many values");
    if (!json_unique(&o, 0)) return fail(v, "override has a name twice");
    return read_flag(v, &o, "presence", &out->presence) &&
           read_flag(v, &o, "join_leave", &out->join_leave) &&
           read_flag(v, &o, "force_push_join_leave", &out->force_push_join_leave) &&
           read_flag(v, &o, "force_recovery", &out->force_recovery) &&
           read_flag(v, &o, "force_positioning", &out->force_positioning);
}

static bool read_expire_at(struct verify *v)
{
    int value = member(&v->doc, 0, "expire_at");
    v->claims->has_expire_at = value != JSON_NONE;
    if (value == JSON_NONE || json_int64(&v->doc, value, &v->claims->expire_at_s)) return true;
    return fail(v, "expire_at is not a whole number");
}

/* add_sub appends a channel named by a string; NULL with v->why set if it can not. */
static struct jwt_sub *add_sub(struct verify *v, const struct json *doc, int name)
{
    struct jwt_claims *c = v->claims;
    struct jwt_sub *s = &c->subs[c->subs_count];
    if (c->subs_count == JWT_SUBS_MAX) {
        fail(v, "token has too many channels");
        return NULL;
    }
    *s = (struct jwt_sub){.override = {-1, -1, -1, -1, -1}};
    if (!read_string(v, doc, name, &s->channel)) {
        fail(v, "channels or subs name a channel that is not text");
        return NULL;
    }
    c->subs_count++;
    return s;
}

static bool is_there(const struct jwt_claims *c, struct jwt_str channel)
{
    for (size_t i = 0; i + 1 < c->subs_count; i++)
        if (c->subs[i].channel.len == channel.len &&
            memcmp(c->subs[i].channel.p, channel.p, channel.len) == 0)
            return true;
    return false;
}

static bool read_channels(struct verify *v)
{
    struct json list;
    int value = member(&v->doc, 0, "channels");
    if (value == JSON_NONE) return true;
    if (json_type(&v->doc, value) != JSON_ARRAY) return fail(v, "channels is not an array");
    if (!open_claim(v, value, &list, 1)) return fail(v, "token has too many channels");
    for (int e = json_first(&list, 0); e != JSON_NONE; e = json_next(&list, 0, e)) {
        const struct jwt_sub *s = add_sub(v, &list, e);
        if (!s) return false;
        if (is_there(v->claims, s->channel)) v->claims->subs_count--;
    }
    return true;
}

static bool read_sub_options(struct verify *v, const struct json *subs, int value,
                             struct jwt_sub *out)
{
    struct json o;
    if (json_type(subs, value) == JSON_NULL) return true;
    if (json_type(subs, value) != JSON_OBJECT) return fail(v, "subs has a value that is no object");
    if (!open_value(v, subs, value, &o, 1)) return fail(v, "subs has too many values");
    if (!json_unique(&o, 0)) return fail(v, "subs has a name twice");
    return read_json(v, &o, "info", "b64info", &out->info) &&
           read_json(v, &o, "data", "b64data", &out->data) && read_override(v, &o, &out->override);
}

static bool read_subs(struct verify *v)
{
    struct json subs;
    int value = member(&v->doc, 0, "subs");
    if (value == JSON_NONE) return true;
    if (json_type(&v->doc, value) != JSON_OBJECT) return fail(v, "subs is not an object");
    if (!open_claim(v, value, &subs, 1)) return fail(v, "token has too many channels");
    if (!json_unique(&subs, 0)) return fail(v, "subs has a name twice");
    if (json_size(&subs, 0) > 0) v->claims->subs_count = 0; /* then it counts alone */
    for (int e = json_first(&subs, 0); e != JSON_NONE; e = json_next(&subs, 0, e)) {
        struct jwt_sub *s = add_sub(v, &subs, json_name(&subs, e));
        if (!s || !read_sub_options(v, &subs, e, s)) return false;
    }
    return true;
}

static bool read_connection(struct verify *v)
{
    return read_json(v, &v->doc, "info", "b64info", &v->claims->info) && read_expire_at(v) &&
           read_channels(v) && read_subs(v);
}

static bool read_subscription(struct verify *v)
{
    struct jwt_claims *c = v->claims;
    int client = member(&v->doc, 0, "client");
    if (client != JSON_NONE && !read_string(v, &v->doc, client, &c->client))
        return fail(v, "client is not a string");
    return read_json(v, &v->doc, "info", "b64info", &c->info) &&
           read_json(v, &v->doc, "data", "b64data", &c->data) &&
           read_override(v, &v->doc, &c->override) && read_expire_at(v);
}

static bool read_claims(struct verify *v)
{
    if (!read_part(v, v->payload)) return false;
    v->claims->payload_json = (struct jwt_str){v->doc.text, v->doc.len};
    for (int c = json_first(&v->doc, 0); c != JSON_NONE; c = json_next(&v->doc, 0, c))
        if (!read_claim(v, c)) return false;
    return v->rules->subscription ? read_subscription(v) : read_connection(v);
}

/* ---- verdict ---- */

/* Does any key bear this name, whether its time is over or not? */
static bool kid_known(const struct jwt_rules *rules, struct jwt_str kid)
{
    for (size_t i = 0; kid.p && i < rules->key_count; i++)
        if (rules->keys[i].kid && str_is(kid, rules->keys[i].kid)) return true;
    return false;
}

static bool check_signature(struct verify *v)
{
    uint8_t sent[MAC_LEN], mac[MAC_LEN];
    struct jwt_str kid = v->claims->kid;
    if (v->signature.len != JWT_BASE64URL_LEN(MAC_LEN) ||
        jwt_base64url_decode(sent, v->signature.p, v->signature.len) != MAC_LEN)
        return fail(v, "signature has the wrong form");
    const char *text = v->header.p; /* RFC 7515 section 5.2: both parts as sent, with their dot */
    size_t len = v->header.len + 1 + v->payload.len;
    bool known = kid_known(v->rules, kid), good = false;
    for (size_t i = 0; i < v->rules->key_count && !good; i++) {
        const struct jwt_key *key = &v->rules->keys[i];
        if (known ? !key->kid || !str_is(kid, key->kid) : key->kid != NULL) continue;
        if (key->secret_len == 0 || (key->until_s != 0 && v->now_s > key->until_s)) continue;
        good = hmac(mac, key, text, len) && mbedtls_ct_memcmp(mac, sent, MAC_LEN) == 0;
    }
    mbedtls_platform_zeroize(mac, sizeof mac); /* it would sign a forgery of these very parts */
    return good ? true : fail(v, JWT_WHY_SIGNATURE);
}

static bool check_audience(struct verify *v)
{
    const char *want = v->rules->audience;
    struct json list;
    if (!want) return true;
    if (json_is(&v->doc, v->aud, want, strlen(want))) return true;
    if (json_type(&v->doc, v->aud) == JSON_ARRAY && open_claim(v, v->aud, &list, 1))
        for (int a = json_first(&list, 0); a != JSON_NONE; a = json_next(&list, 0, a))
            if (json_is(&list, a, want, strlen(want))) return true;
    return fail(v, "token is for another audience");
}

static bool check_issuer(struct verify *v)
{
    const char *want = v->rules->issuer;
    if (!want || json_is(&v->doc, v->iss, want, strlen(want))) return true;
    return fail(v, "token is by another issuer");
}

static bool check_channel(struct verify *v)
{
    if (v->has_channel == v->rules->subscription) return true;
    return fail(v, v->has_channel ? "a subscription token can not connect"
                                  : "token names no channel to subscribe to");
}

static bool check_time(struct verify *v)
{
    const struct jwt_claims *c = v->claims;
    int64_t early, late; /* the clock at its most lenient, either way */
    if (__builtin_sub_overflow(v->now_s, v->rules->leeway_s, &early)) early = INT64_MIN;
    if (__builtin_add_overflow(v->now_s, v->rules->leeway_s, &late)) late = INT64_MAX;
    if (c->has_nbf && c->nbf_s > late) return fail(v, "token is not valid yet");
    if (c->has_exp && c->exp_s <= early) return fail(v, "token has expired");
    return true;
}

enum jwt_verdict jwt_verify(const struct jwt_rules *rules, const char *token, size_t len,
                            int64_t now_s, struct jwt_claims *claims, void *scratch,
                            size_t scratch_len, const char **why)
{
    struct verify v = {.rules = rules, .claims = claims, .now_s = now_s};
    assert(scratch_len >= JWT_SCRATCH && (uintptr_t)scratch % 8 == 0);
    *claims = (struct jwt_claims){0};
    v.aud = v.iss = JSON_NONE;
    v.tokens = scratch;
    v.free = (char *)(v.tokens + TOKENS);
    v.end = (char *)scratch + scratch_len;
    enum jwt_verdict verdict = JWT_INVALID;
    if (split(&v, token, len) && read_header(&v) && read_claims(&v) && check_signature(&v) &&
        check_audience(&v) && check_issuer(&v) && check_channel(&v))
        verdict = check_time(&v) ? JWT_OK : JWT_EXPIRED;
    if (verdict == JWT_INVALID) *claims = (struct jwt_claims){0};
    *why = v.why;
    if (verdict != JWT_OK) PROBE1(jwt_fail, v.why);
    return verdict;
}

/* ---- permissions ---- */

bool jwt_pattern_match(struct jwt_str pattern, const char *name, size_t len)
{
    if (pattern.len > 0 && pattern.p[pattern.len - 1] == '*')
        return len >= pattern.len - 1 && memcmp(pattern.p, name, pattern.len - 1) == 0;
    return len == pattern.len && memcmp(pattern.p, name, len) == 0;
}

bool jwt_may(const struct jwt_str *patterns, size_t count, const char *name, size_t len)
{
    for (size_t i = 0; i < count; i++)
        if (jwt_pattern_match(patterns[i], name, len)) return true;
    return false;
}

/* ---- make ---- */

int64_t jwt_make(char *out, size_t cap, const struct jwt_key *key, const char *claims_json,
                 size_t len)
{
    char header[512];
    uint8_t mac[MAC_LEN];
    struct json_out o = {.p = header, .cap = sizeof header};
    json_puts(&o, "{\"alg\":\"HS256\",\"typ\":\"JWT\"");
    if (key->kid) json_puts(&o, ",\"kid\":");
    if (key->kid) json_put_string(&o, key->kid, strlen(key->kid));
    json_puts(&o, "}");
    if (o.full || len > TEXT_MAX || key->secret_len == 0) return -1;
    size_t signed_len = JWT_BASE64URL_LEN(o.len) + 1 + JWT_BASE64URL_LEN(len);
    size_t token_len = signed_len + 1 + JWT_BASE64URL_LEN(MAC_LEN);
    if (token_len > JWT_TOKEN_MAX || token_len >= cap) return -1;
    char *p = out + jwt_base64url_encode(out, (const uint8_t *)header, o.len);
    *p++ = '.';
    p += jwt_base64url_encode(p, (const uint8_t *)claims_json, len);
    if (!hmac(mac, key, out, signed_len)) return -1;
    *p++ = '.';
    p += jwt_base64url_encode(p, mac, sizeof mac);
    *p = 0;
    return (int64_t)token_len;
}
