/* Fuzz target of jwt.c: the bytes as a token, as the header of one, as the claims of a well-signed
 * one, which are then read to the end, and as base64url. */
#include "../jwt.h"

#include <stdlib.h>
#include <string.h>

#include "guard.h"
#include "json.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

#define NOW 1700000000

static const struct jwt_key key = {
    .secret = (const uint8_t *)"0123456789abcdef0123456789abcdef",
    .secret_len = 32,
};
static struct jwt_claims claims;

static void require(bool ok)
{
    if (!ok) abort();
}

/* Strings of the claims must lie in the scratch: touches all of them. */
static void touch(struct jwt_str s)
{
    for (size_t i = 0; i < s.len; i++) (void)*(const volatile char *)(s.p + i);
}

/* What is passed on must be one JSON value. */
static void touch_json(struct jwt_str s)
{
    require(!s.p || json_check(s.p, s.len, 0, NULL, NULL));
}

static enum jwt_verdict verify(const struct jwt_rules *rules, const char *token, size_t len)
{
    char *copy = guard_copy(token, len), *scratch = guard_copy(NULL, JWT_SCRATCH);
    const char *why;
    enum jwt_verdict v = jwt_verify(rules, copy, len, NOW, &claims, scratch, JWT_SCRATCH, &why);
    require((v == JWT_OK) == (why == NULL));
    require(claims.pub_count <= JWT_PATTERNS_MAX && claims.sub_to_count <= JWT_PATTERNS_MAX);
    require(claims.sub.len <= JWT_SUB_MAX);
    for (size_t i = 0; i < claims.pub_count; i++) touch(claims.pub[i]);
    for (size_t i = 0; i < claims.sub_to_count; i++) touch(claims.sub_to[i]);
    touch(claims.sub);
    touch(claims.kid);
    touch(claims.channel);
    touch(claims.client);
    touch_json(claims.info);
    touch_json(claims.data);
    require(claims.subs_count <= JWT_SUBS_MAX);
    for (size_t i = 0; i < claims.subs_count; i++) {
        touch(claims.subs[i].channel);
        touch_json(claims.subs[i].info);
        touch_json(claims.subs[i].data);
    }
    if (v == JWT_OK && claims.has_exp) require(claims.exp_s > NOW - rules->leeway_s);
    guard_free(copy, len);
    guard_free(scratch, JWT_SCRATCH);
    return v;
}

static void check_base64url(const uint8_t *bytes, size_t len)
{
    uint8_t *raw = guard_copy(NULL, len * 3 / 4);
    int64_t n = jwt_base64url_decode(raw, (const char *)bytes, len);
    if (n >= 0) { /* strict: one text for each value */
        char *text = guard_copy(NULL, JWT_BASE64URL_LEN((size_t)n));
        require(jwt_base64url_encode(text, raw, (size_t)n) == len && memcmp(text, bytes, len) == 0);
        guard_free(text, JWT_BASE64URL_LEN((size_t)n));
    }
    guard_free(raw, len * 3 / 4);
}

/* The header is read before the signature, so that any signature will do. */
static void check_header(const struct jwt_rules *rules, const uint8_t *bytes, size_t len)
{
    static const char rest[] = ".e30.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    static char token[JWT_TOKEN_MAX * 2 + sizeof rest];
    size_t n = jwt_base64url_encode(token, bytes, len);
    memcpy(token + n, rest, sizeof rest - 1);
    require(verify(rules, token, n + sizeof rest - 1) == JWT_INVALID);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static char token[JWT_TOKEN_MAX + 1];
    struct jwt_rules rules = {.keys = {key}, .key_count = 1};
    if (len > JWT_TOKEN_MAX + 1) return 0;
    check_base64url(bytes, len);
    verify(&rules, (const char *)bytes, len);
    check_header(&rules, bytes, len);
    struct jwt_rules other = rules;
    other.audience = "roost";
    other.issuer = "id";
    other.user_id_claim = "uid";
    other.subscription = true;
    other.leeway_s = 60;
    int64_t n = jwt_make(token, sizeof token, &key, (const char *)bytes, len);
    if (n < 0) return 0;
    enum jwt_verdict v = verify(&rules, token, (size_t)n);
    if (v != JWT_INVALID) require(claims.payload_json.len == len);
    verify(&other, token, (size_t)n);
    return 0;
}
