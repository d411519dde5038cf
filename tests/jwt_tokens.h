/* jwt_tokens.h - test harness: tokens made by another way than jwt.c's, by mbedTLS's own HMAC, and
 * rules to judge them by. Every token ends at an unreadable page.
 *
 * Test programs only; static functions, not all used by each. */
#ifndef JWT_TOKENS_H
#define JWT_TOKENS_H

#include "../jwt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <mbedtls/md.h>

#include "guard.h"

#define UNUSED __attribute__((unused))
#define NOW 1700000000
#define H "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define HB "eyJhbGciOiJIUzI1NiJ9" /* {"alg":"HS256"} */
#define SECRET "0123456789abcdef0123456789abcdef"

#define S "{\"sub\":\"alice\""

#define C S ",\"channel\":\"news\""

static const struct jwt_key main_key = {.secret = (const uint8_t *)SECRET, .secret_len = 32};
static UNUSED struct jwt_rules plain_rules, audience_rules, issuer_rules, leeway_rules, uid_rules,
    subscription_rules, kid_rules, named_rules;
static struct jwt_claims claims;
static const char *why;
static _Alignas(8) char scratch[JWT_SCRATCH];

static struct jwt_key key_of(const char *secret, const char *kid, int64_t until_s)
{
    return (struct jwt_key){
        .secret = (const uint8_t *)secret,
        .secret_len = strlen(secret),
        .kid = kid,
        .until_s = until_s,
    };
}

static UNUSED int set_up(void **state)
{
    (void)state;
    plain_rules = (struct jwt_rules){.keys = {main_key}, .key_count = 1};
    audience_rules = issuer_rules = leeway_rules = uid_rules = subscription_rules = plain_rules;
    audience_rules.audience = "roost";
    issuer_rules.issuer = "https://id.example";
    leeway_rules.leeway_s = 30;
    uid_rules.user_id_claim = "uid";
    subscription_rules.subscription = true;
    kid_rules = (struct jwt_rules){.key_count = 6};
    kid_rules.keys[0] = main_key;
    kid_rules.keys[1] = key_of("previous, good until one second ago", NULL, NOW - 1);
    kid_rules.keys[2] = key_of("previous, good until this very second", NULL, NOW);
    kid_rules.keys[3] = key_of("named a", "a", 0);
    kid_rules.keys[4] = key_of("named b, but over", "b", NOW - 1);
    kid_rules.keys[5] = key_of("named a, the next one", "a", 0);
    named_rules = (struct jwt_rules){.key_count = 1};
    named_rules.keys[0] = key_of(SECRET, "a", 0);
    return 0;
}

/* ---- making tokens by another way than jwt.c's ---- */

static UNUSED size_t base64url(char *out, const void *bytes, size_t len)
{
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const uint8_t *in = bytes;
    size_t n = 0;
    for (size_t bit = 0; bit < len * 8; bit += 6) {
        unsigned pair = (unsigned)(in[bit / 8] << 8 | (bit / 8 + 1 < len ? in[bit / 8 + 1] : 0));
        out[n++] = set[pair >> (10 - bit % 8) & 63];
    }
    return n;
}

/* Appends '.' and the signature of what is there. */
static UNUSED size_t sign(char *token, size_t len, const char *secret)
{
    uint8_t mac[32];
    mbedtls_md_hmac(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), (const uint8_t *)secret,
                    strlen(secret), (const uint8_t *)token, len, mac);
    token[len] = '.';
    return len + 1 + base64url(token + len + 1, mac, sizeof mac);
}

static UNUSED size_t make(char *token, const char *header, const char *payload, size_t payload_len,
                          const char *secret)
{
    size_t len = base64url(token, header, strlen(header));
    token[len++] = '.';
    len += base64url(token + len, payload, payload_len);
    return sign(token, len, secret);
}

static UNUSED enum jwt_verdict verify(const struct jwt_rules *rules, const char *token, size_t len)
{
    char *copy = guard_copy(token, len);
    enum jwt_verdict verdict =
        jwt_verify(rules, copy, len, NOW, &claims, scratch, sizeof scratch, &why);
    guard_free(copy, len);
    static const struct jwt_claims nothing;
    assert_true((verdict == JWT_OK) == (why == NULL));
    if (verdict == JWT_INVALID) assert_memory_equal(&claims, &nothing, sizeof claims);
    return verdict;
}

static UNUSED void str_is(struct jwt_str s, const char *want)
{
    assert_int_equal(s.len, strlen(want));
    assert_memory_equal(s.p, want, s.len);
}

#endif
