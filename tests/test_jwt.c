/* Tests of jwt.c: tokens with the right verdict (RFC 7515, 7519, 8725, protocol.md section 5).
 * Every token ends at an unreadable page; unless a row says otherwise its signature is good, made
 * here by mbedTLS's own HMAC, so that only the reason under test can refuse it. */
#include "../jwt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <mbedtls/md.h>

#include "guard.h"

#define NOW 1700000000
#define SECRET "0123456789abcdef0123456789abcdef"

static const struct jwt_key main_key = {.secret = (const uint8_t *)SECRET, .secret_len = 32};
static struct jwt_rules plain_rules, audience_rules, issuer_rules, leeway_rules, uid_rules,
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

static int set_up(void **state)
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

static size_t base64url(char *out, const void *bytes, size_t len)
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
static size_t sign(char *token, size_t len, const char *secret)
{
    uint8_t mac[32];
    mbedtls_md_hmac(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), (const uint8_t *)secret,
                    strlen(secret), (const uint8_t *)token, len, mac);
    token[len] = '.';
    return len + 1 + base64url(token + len + 1, mac, sizeof mac);
}

static size_t make(char *token, const char *header, const char *payload, size_t payload_len,
                   const char *secret)
{
    size_t len = base64url(token, header, strlen(header));
    token[len++] = '.';
    len += base64url(token + len, payload, payload_len);
    return sign(token, len, secret);
}

static enum jwt_verdict verify(const struct jwt_rules *rules, const char *token, size_t len)
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

static void str_is(struct jwt_str s, const char *want)
{
    assert_int_equal(s.len, strlen(want));
    assert_memory_equal(s.p, want, s.len);
}

/* ---- example vectors ---- */

static void test_rfc7515_a1(void **state)
{
    (void)state;
    static const char token[] =
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQog"
        "Imh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_"
        "wW1gFWFOEjXk";
    static const char k[] =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    uint8_t secret[64];
    assert_int_equal(jwt_base64url_decode(secret, k, sizeof k - 1), 64);
    struct jwt_rules rules = {.keys = {{.secret = secret, .secret_len = 64}}, .key_count = 1};
    rules.issuer = "joe";
    for (int64_t late = -1; late <= 0; late++) {
        enum jwt_verdict v = jwt_verify(&rules, token, sizeof token - 1, 1300819380 + late, &claims,
                                        scratch, sizeof scratch, &why);
        assert_int_equal(v, late < 0 ? JWT_OK : JWT_EXPIRED);
        assert_int_equal(claims.exp_s, 1300819380);
        assert_true(claims.has_exp && !claims.has_nbf && claims.sub.len == 0);
    }
}

static void test_protocol_vector(void **state)
{
    (void)state;
    static const char token[] = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiJ9."
                                "79CVgMIG_JB921dVUeJDWNJubJojFodH3-XtC_1C408";
    struct jwt_key key = key_of("secret", NULL, 0);
    struct jwt_rules rules = {.keys = {key}, .key_count = 1};
    assert_int_equal(verify(&rules, token, sizeof token - 1), JWT_OK);
    char made[256];
    assert_int_equal(jwt_make(made, sizeof made, &key, "{\"sub\":\"42\"}", 12), sizeof token - 1);
    assert_string_equal(made, token);
    rules.keys[0] = key_of("Secret", NULL, 0);
    assert_int_equal(verify(&rules, token, sizeof token - 1), JWT_INVALID);
    rules.key_count = 0;
    assert_int_equal(verify(&rules, token, sizeof token - 1), JWT_INVALID);
}

/* ---- the table ---- */

#define H "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define S "{\"sub\":\"alice\""
#define C S ",\"channel\":\"news\""
#define OK JWT_OK, NULL
#define BAD(text) JWT_INVALID, text
#define LATE(text) JWT_EXPIRED, text
#define EXPIRED LATE("token has expired")
#define EARLY LATE("token is not valid yet")

struct row {
    const struct jwt_rules *rules;
    const char *header, *payload;
    enum jwt_verdict verdict;
    const char *why;
    const char *secret; /* NULL = SECRET */
};

static const struct row rows[] = {
    {&plain_rules, H, S "}", OK, NULL},
    {&plain_rules, H, "{}", OK, NULL},
    {&plain_rules, "{\"alg\":\"HS256\"}", S "}", OK, NULL},
    {&plain_rules, "{\"typ\":7,\"alg\":\"HS256\",\"cty\":\"x\",\"x\":{\"a\":[]}}", S "}", OK, NULL},
    {&plain_rules, "{\"al\\u0067\":\"\\u0048S256\"}", S "}", OK, NULL},
    {&plain_rules, H, " {\"sub\" :\n\"alice\" }\t", OK, NULL},
    /* alg: RFC 8725 sections 2.1, 3.1 */
    {&plain_rules, "{\"alg\":\"none\"}", S "}", BAD("alg is not HS256"), NULL},
    {&plain_rules, "{\"alg\":\"None\"}", S "}", BAD("alg is not HS256"), NULL},
    {&plain_rules, "{\"alg\":\"HS384\"}", S "}", BAD("alg is not HS256"), NULL},
    {&plain_rules, "{\"alg\":\"RS256\"}", S "}", BAD("alg is not HS256"), NULL},
    {&plain_rules, "{\"alg\":\"hs256\"}", S "}", BAD("alg is not HS256"), NULL},
    {&plain_rules, "{\"alg\":\"HS256 \"}", S "}", BAD("alg is not HS256"), NULL},
    {&plain_rules, "{\"alg\":\"HS256\\u0000\"}", S "}", BAD("alg is not HS256"), NULL},
    {&plain_rules, "{\"alg\":\"\"}", S "}", BAD("alg is not HS256"), NULL},
    {&plain_rules, "{\"alg\":256}", S "}", BAD("alg is not HS256"), NULL},
    {&plain_rules, "{\"alg\":null}", S "}", BAD("alg is not HS256"), NULL},
    {&plain_rules, "{\"alg\":[\"HS256\"]}", S "}", BAD("alg is not HS256"), NULL},
    {&plain_rules, "{\"typ\":\"JWT\"}", S "}", BAD("alg is not HS256"), NULL},
    {&plain_rules, "{\"ALG\":\"HS256\"}", S "}", BAD("alg is not HS256"), NULL},
    /* crit: RFC 7515 section 4.1.11 */
    {&plain_rules, "{\"alg\":\"HS256\",\"crit\":[\"b64\"],\"b64\":false}", S "}",
     BAD("crit is not supported"), NULL},
    {&plain_rules, "{\"alg\":\"HS256\",\"crit\":[]}", S "}", BAD("crit is not supported"), NULL},
    {&plain_rules, "{\"alg\":\"HS256\",\"crit\":null}", S "}", BAD("crit is not supported"), NULL},
    {&plain_rules, "{\"alg\":\"HS256\",\"\\u0063rit\":[]}", S "}", BAD("crit is not supported"),
     NULL},
    /* names twice: RFC 7515 section 4, RFC 7519 section 4 */
    {&plain_rules, "{\"alg\":\"HS256\",\"alg\":\"HS256\"}", S "}", BAD("token has a name twice"),
     NULL},
    {&plain_rules, "{\"alg\":\"HS256\",\"al\\u0067\":\"none\"}", S "}",
     BAD("token has a name twice"), NULL},
    {&plain_rules, "{\"al\\u0067\":\"none\",\"alg\":\"HS256\"}", S "}",
     BAD("token has a name twice"), NULL},
    {&plain_rules, H, S ",\"sub\":\"bob\"}", BAD("token has a name twice"), NULL},
    {&plain_rules, H, S ",\"s\\u0075b\":\"bob\"}", BAD("token has a name twice"), NULL},
    {&plain_rules, H, S ",\"x\":1,\"x\":1}", BAD("token has a name twice"), NULL},
    {&plain_rules, H, S ",\"info\":{\"a\":1,\"a\":2}}", OK, NULL}, /* passed through, not read */
    /* shape */
    {&plain_rules, "{\"alg\":\"HS256\"} ", S "}", OK, NULL},
    {&plain_rules, "{ \"alg\":\"HS256\"}", S "}", BAD("token does not start like a JWT"), NULL},
    {&plain_rules, "[\"HS256\"]", S "}", BAD("token does not start like a JWT"), NULL},
    {&plain_rules, "{\"alg\":\"HS256\",}", S "}", BAD("token is not JSON"), NULL},
    {&plain_rules, "{\"alg\":\"HS256\"}x", S "}", BAD("token is not JSON"), NULL},
    {&plain_rules, "{\"alg\":\"HS256\"", S "}", BAD("token is not JSON"), NULL},
    {&plain_rules, "{\"alg\":\"HS256\",\"x\":\"\xff\"}", S "}", BAD("token is not JSON"), NULL},
    {&plain_rules, H, "", BAD("token is not JSON"), NULL},
    {&plain_rules, H, "[]", BAD("token is not a JSON object"), NULL},
    {&plain_rules, H, "[" S "}]", BAD("token is not a JSON object"), NULL},
    {&plain_rules, H, "\"alice\"", BAD("token is not a JSON object"), NULL},
    {&plain_rules, H, "42", BAD("token is not a JSON object"), NULL},
    {&plain_rules, H, "null", BAD("token is not a JSON object"), NULL},
    {&plain_rules, H, S "}{}", BAD("token is not JSON"), NULL},
    {&plain_rules, H, S ",}", BAD("token is not JSON"), NULL},
    {&plain_rules, H, S ",\"exp\":0001}", BAD("token is not JSON"), NULL},
    {&plain_rules, H, "{\"sub\":\"\\ud800\"}", BAD("token is not JSON"), NULL},
    {&plain_rules, H, "{\"sub\":\"\xc0\xaf\"}", BAD("token is not JSON"), NULL},
    /* sub */
    {&plain_rules, H, "{\"sub\":\"\"}", OK, NULL},
    {&plain_rules, H, "{\"sub\":\"z\xc3\xbcrich \\ud83d\\ude00\"}", OK, NULL},
    {&plain_rules, H, "{\"sub\":42}", BAD("user id is not a string"), NULL},
    {&plain_rules, H, "{\"sub\":null}", BAD("user id is not a string"), NULL},
    {&plain_rules, H, "{\"sub\":[\"alice\"]}", BAD("user id is not a string"), NULL},
    {&plain_rules, H, "{\"sub\":{}}", BAD("user id is not a string"), NULL},
    {&plain_rules, H, "{\"sub\":true}", BAD("user id is not a string"), NULL},
    {&plain_rules, H, "{\"sub\":\"al\\u0000ice\"}", BAD("user id has a control character"), NULL},
    {&plain_rules, H, "{\"sub\":\"alice\\n\"}", BAD("user id has a control character"), NULL},
    {&plain_rules, H, "{\"sub\":\"\\u001b[2J\"}", BAD("user id has a control character"), NULL},
    {&plain_rules, H, "{\"sub\":\"\x7f\"}", BAD("user id has a control character"), NULL},
    /* another claim as user id */
    {&uid_rules, H, "{\"uid\":\"alice\",\"sub\":\"x\"}", OK, NULL},
    {&uid_rules, H, "{\"uid\":42}", BAD("user id is not a string"), NULL},
    {&uid_rules, H, "{\"uid\":\"alice\",\"sub\":42}", BAD("sub is not a string"), NULL},
    /* exp: RFC 7519 section 4.1.4 */
    {&plain_rules, H, S ",\"exp\":1700000001}", OK, NULL},
    {&plain_rules, H, S ",\"exp\":1700000000}", EXPIRED, NULL},
    {&plain_rules, H, S ",\"exp\":1699999999}", EXPIRED, NULL},
    {&plain_rules, H, S ",\"exp\":1700000000.9}", EXPIRED,
     NULL}, /* may be over within this second */
    {&plain_rules, H, S ",\"exp\":1700000001.5}", OK, NULL},
    {&plain_rules, H, S ",\"exp\":17000000015e-1}", OK, NULL},
    {&plain_rules, H, S ",\"exp\":1.7e9}", EXPIRED, NULL},
    {&plain_rules, H, S ",\"exp\":0}", EXPIRED, NULL},
    {&plain_rules, H, S ",\"exp\":-1}", EXPIRED, NULL},
    {&plain_rules, H, S ",\"exp\":1e300}", OK, NULL},
    {&plain_rules, H, S ",\"exp\":-1e300}", EXPIRED, NULL},
    {&plain_rules, H, S ",\"exp\":1e-300}", EXPIRED, NULL},
    {&plain_rules, H, S ",\"exp\":9223372036854775808}", OK, NULL},
    {&plain_rules, H, S ",\"exp\":-9223372036854775809}", EXPIRED, NULL},
    {&plain_rules, H, S ",\"exp\":18446744073709551617}", OK, NULL},
    {&plain_rules, H, S ",\"exp\":\"1700000001\"}", BAD("exp is not a number"), NULL},
    {&plain_rules, H, S ",\"exp\":null}", BAD("exp is not a number"), NULL},
    {&plain_rules, H, S ",\"exp\":true}", BAD("exp is not a number"), NULL},
    {&plain_rules, H, S ",\"exp\":[1700000001]}", BAD("exp is not a number"), NULL},
    {&plain_rules, H, S ",\"\\u0065xp\":1}", EXPIRED, NULL},
    /* nbf: section 4.1.5 */
    {&plain_rules, H, S ",\"nbf\":1700000000}", OK, NULL},
    {&plain_rules, H, S ",\"nbf\":1700000001}", EARLY, NULL},
    {&plain_rules, H, S ",\"nbf\":1700000000.1}", EARLY, NULL},
    {&plain_rules, H, S ",\"nbf\":1699999999.9}", OK, NULL},
    {&plain_rules, H, S ",\"nbf\":-5}", OK, NULL},
    {&plain_rules, H, S ",\"nbf\":1e300}", EARLY, NULL},
    {&plain_rules, H, S ",\"nbf\":-1e300}", OK, NULL},
    {&plain_rules, H, S ",\"nbf\":\"now\"}", BAD("nbf is not a number"), NULL},
    {&plain_rules, H, S ",\"nbf\":1700000001,\"exp\":1}", EARLY, NULL},
    /* leeway of 30 s */
    {&leeway_rules, H, S ",\"exp\":1699999971}", OK, NULL},
    {&leeway_rules, H, S ",\"exp\":1699999970}", EXPIRED, NULL},
    {&leeway_rules, H, S ",\"exp\":1699999970.9}", EXPIRED, NULL},
    {&leeway_rules, H, S ",\"nbf\":1700000030}", OK, NULL},
    {&leeway_rules, H, S ",\"nbf\":1700000030.1}", EARLY, NULL},
    /* iat, jti: types only */
    {&plain_rules, H, S ",\"iat\":1800000000,\"jti\":\"x\"}", OK, NULL},
    {&plain_rules, H, S ",\"iat\":\"x\"}", BAD("iat is not a number"), NULL},
    {&plain_rules, H, S ",\"jti\":1}", BAD("jti is not a string"), NULL},
    /* aud: section 4.1.3 */
    {&plain_rules, H, S ",\"aud\":\"anyone\"}", OK, NULL},
    {&plain_rules, H, S ",\"aud\":7}", BAD("aud is neither a string nor an array of strings"),
     NULL},
    {&plain_rules, H, S ",\"aud\":null}", BAD("aud is neither a string nor an array of strings"),
     NULL},
    {&plain_rules, H, S ",\"aud\":{}}", BAD("aud is neither a string nor an array of strings"),
     NULL},
    {&plain_rules, H, S ",\"aud\":[\"roost\",7]}",
     BAD("aud is neither a string nor an array of strings"), NULL},
    {&audience_rules, H, S ",\"aud\":\"roost\"}", OK, NULL},
    {&audience_rules, H, S ",\"aud\":\"ro\\u006fst\"}", OK, NULL},
    {&audience_rules, H, S ",\"aud\":[\"a\",\"roost\"]}", OK, NULL},
    {&audience_rules, H, S ",\"aud\":\"roos\"}", BAD("token is for another audience"), NULL},
    {&audience_rules, H, S ",\"aud\":\"roost2\"}", BAD("token is for another audience"), NULL},
    {&audience_rules, H, S ",\"aud\":[]}", BAD("token is for another audience"), NULL},
    {&audience_rules, H, S ",\"aud\":[[\"roost\"]]}",
     BAD("aud is neither a string nor an array of strings"), NULL},
    {&audience_rules, H, S "}", BAD("token is for another audience"), NULL},
    {&audience_rules, H, S ",\"exp\":1,\"aud\":\"x\"}", BAD("token is for another audience"), NULL},
    /* iss: section 4.1.1 */
    {&plain_rules, H, S ",\"iss\":7}", BAD("iss is not a string"), NULL},
    {&issuer_rules, H, S ",\"iss\":\"https:\\/\\/id.example\"}", OK, NULL},
    {&issuer_rules, H, S ",\"iss\":\"https://id.example/\"}", BAD("token is by another issuer"),
     NULL},
    {&issuer_rules, H, S ",\"iss\":[\"https://id.example\"]}", BAD("iss is not a string"), NULL},
    {&issuer_rules, H, S "}", BAD("token is by another issuer"), NULL},
    /* channel: protocol.md 5.2, 5.3 */
    {&plain_rules, H, S ",\"channel\":\"news\"}", BAD("a subscription token can not connect"),
     NULL},
    {&plain_rules, H, S ",\"channel\":null}", BAD("channel is not a string"), NULL},
    {&subscription_rules, H, S ",\"channel\":\"news\"}", OK, NULL},
    {&subscription_rules, H, S "}", BAD("token names no channel to subscribe to"), NULL},
    /* protocol.md 5.2, connection tokens */
    {&plain_rules, H, S ",\"info\":{\"a\":[1]},\"expire_at\":0,\"channels\":[\"a\"],\"meta\":7}",
     OK, NULL},
    {&plain_rules, H,
     S ",\"info\":null,\"b64info\":null,\"expire_at\":null,\"channels\":null,\"subs\":null}", OK,
     NULL},
    {&plain_rules, H, S ",\"data\":1,\"b64data\":2,\"client\":3,\"override\":4}", OK,
     NULL},                                                          /* of the other kind */
    {&plain_rules, H, S ",\"b64info\":\"eyJhIjoxfQ==\"}", OK, NULL}, /* {"a":1} */
    {&plain_rules, H, S ",\"b64info\":\"eyJhIjoxfQ\"}", BAD("b64info or b64data is not base64"),
     NULL},
    {&plain_rules, H, S ",\"b64info\":\"eyJhIjoxfQ=\"}", BAD("b64info or b64data is not base64"),
     NULL},
    {&plain_rules, H, S ",\"b64info\":\"====\"}", BAD("b64info or b64data is not base64"), NULL},
    {&plain_rules, H, S ",\"b64info\":\"MTIz\\n\"}", BAD("b64info or b64data is not base64"), NULL},
    {&plain_rules, H, S ",\"b64info\":\"Pz8_\"}", BAD("b64info or b64data is not base64"), NULL},
    {&plain_rules, H, S ",\"b64info\":\"AAEC\"}", BAD("b64info or b64data is not JSON inside"),
     NULL},
    {&plain_rules, H, S ",\"b64info\":\"MSAy\"}", BAD("b64info or b64data is not JSON inside"),
     NULL}, /* 1 2 */
    {&plain_rules, H, S ",\"b64info\":7}", BAD("b64info or b64data is not a string"), NULL},
    {&plain_rules, H, S ",\"expire_at\":\"0\"}", BAD("expire_at is not a whole number"), NULL},
    {&plain_rules, H, S ",\"expire_at\":1.5}", BAD("expire_at is not a whole number"), NULL},
    {&plain_rules, H, S ",\"expire_at\":1e300}", BAD("expire_at is not a whole number"), NULL},
    {&plain_rules, H, S ",\"expire_at\":true}", BAD("expire_at is not a whole number"), NULL},
    {&plain_rules, H, S ",\"expire_at\":1,\"exp\":1700000001}", OK, NULL}, /* not the token's end */
    {&plain_rules, H, S ",\"channels\":[]}", OK, NULL},
    {&plain_rules, H, S ",\"channels\":\"a\"}", BAD("channels is not an array"), NULL},
    {&plain_rules, H, S ",\"channels\":{}}", BAD("channels is not an array"), NULL},
    {&plain_rules, H, S ",\"channels\":[1]}",
     BAD("channels or subs name a channel that is not text"), NULL},
    {&plain_rules, H, S ",\"channels\":[\"a\",null]}",
     BAD("channels or subs name a channel that is not text"), NULL},
    {&plain_rules, H, S ",\"channels\":[1],\"subs\":{\"a\":{}}}",
     BAD("channels or subs name a channel that is not text"), NULL},
    {&plain_rules, H, S ",\"subs\":{}}", OK, NULL},
    {&plain_rules, H, S ",\"subs\":{\"a\":null,\"b\":{\"x\":1}}}", OK, NULL},
    {&plain_rules, H, S ",\"subs\":[]}", BAD("subs is not an object"), NULL},
    {&plain_rules, H, S ",\"subs\":{\"a\":1}}", BAD("subs has a value that is no object"), NULL},
    {&plain_rules, H, S ",\"subs\":{\"a\":{},\"\\u0061\":{}}}", BAD("subs has a name twice"), NULL},
    {&plain_rules, H, S ",\"subs\":{\"a\":{\"info\":1,\"info\":2}}}", BAD("subs has a name twice"),
     NULL},
    {&plain_rules, H, S ",\"subs\":{\"a\":{\"b64data\":\"?\"}}}",
     BAD("b64info or b64data is not base64"), NULL},
    {&plain_rules, H, S ",\"subs\":{\"a\":{\"override\":[]}}}", BAD("override is not an object"),
     NULL},
    /* protocol.md 5.3, subscription tokens */
    {&subscription_rules, H, C "}", OK, NULL},
    {&subscription_rules, H, C ",\"client\":null,\"data\":null,\"b64data\":null,\"override\":null}",
     OK, NULL},
    {&subscription_rules, H, C ",\"channels\":1,\"subs\":2}", OK, NULL}, /* of the other kind */
    {&subscription_rules, H, C ",\"client\":7}", BAD("client is not a string"), NULL},
    {&subscription_rules, H, C ",\"b64data\":7}", BAD("b64info or b64data is not a string"), NULL},
    {&subscription_rules, H, C ",\"b64info\":\"x\"}", BAD("b64info or b64data is not base64"),
     NULL},
    {&subscription_rules, H, C ",\"expire_at\":[]}", BAD("expire_at is not a whole number"), NULL},
    {&subscription_rules, H, C ",\"override\":true}", BAD("override is not an object"), NULL},
    {&subscription_rules, H, C ",\"override\":{\"presence\":true}}",
     BAD("override has a flag that is not {\"value\":bool}"), NULL},
    {&subscription_rules, H, C ",\"override\":{\"presence\":{\"value\":1}}}",
     BAD("override has a flag that is not {\"value\":bool}"), NULL},
    {&subscription_rules, H, C ",\"override\":{\"join_leave\":{},\"join_leave\":{}}}",
     BAD("override has a name twice"), NULL},
    {&subscription_rules, H,
     C ",\"override\":{\"more\":7,\"presence\":{\"value\":null},\"join_leave\":null}}", OK, NULL},
    /* roost: design.md 3.2 */
    {&plain_rules, H, S ",\"roost\":{}}", OK, NULL},
    {&plain_rules, H, S ",\"roost\":{\"pub\":[],\"sub\":[],\"more\":1}}", OK, NULL},
    {&plain_rules, H, S ",\"roost\":null}", BAD("roost is not an object"), NULL},
    {&plain_rules, H, S ",\"roost\":[]}", BAD("roost is not an object"), NULL},
    {&plain_rules, H, S ",\"roost\":{\"pub\":\"*\"}}", BAD("roost pub or sub is not an array"),
     NULL},
    {&plain_rules, H, S ",\"roost\":{\"sub\":null}}", BAD("roost pub or sub is not an array"),
     NULL},
    {&plain_rules, H, S ",\"roost\":{\"sub\":[7]}}", BAD("roost pattern is not a string"), NULL},
    {&plain_rules, H, S ",\"roost\":{\"sub\":[[\"*\"]]}}", BAD("roost pattern is not a string"),
     NULL},
    {&plain_rules, H, S ",\"roost\":{\"sub\":[],\"su\\u0062\":[\"*\"]}}",
     BAD("roost has a name twice"), NULL},
    /* keys */
    {&plain_rules, H, S "}", BAD("signature does not verify"), "another secret"},
    {&plain_rules, H, S ",\"exp\":1}", BAD("signature does not verify"),
     "another secret"}, /* forged */
    {&plain_rules, "{\"alg\":\"HS256\",\"kid\":\"x\"}", S "}", OK, NULL},
    {&plain_rules, "{\"alg\":\"HS256\",\"kid\":\"\"}", S "}", OK, NULL},
    {&plain_rules, "{\"alg\":\"HS256\",\"kid\":7}", S "}", BAD("kid is not a string"), NULL},
    {&plain_rules, "{\"alg\":\"HS256\",\"kid\":null}", S "}", BAD("kid is not a string"), NULL},
    {&kid_rules, H, S "}", OK, NULL},
    {&kid_rules, H, S "}", BAD("signature does not verify"), "previous, good until one second ago"},
    {&kid_rules, H, S "}", OK, "previous, good until this very second"},
    {&kid_rules, H, S "}", BAD("signature does not verify"), "named a"},
    {&kid_rules, "{\"alg\":\"HS256\",\"kid\":\"a\"}", S "}", OK, "named a"},
    {&kid_rules, "{\"alg\":\"HS256\",\"kid\":\"\\u0061\"}", S "}", OK, "named a, the next one"},
    {&kid_rules, "{\"alg\":\"HS256\",\"kid\":\"a\"}", S "}", BAD("signature does not verify"),
     NULL},
    {&kid_rules, "{\"alg\":\"HS256\",\"kid\":\"a\\u0000\"}", S "}",
     BAD("signature does not verify"), "named a"},
    {&kid_rules, "{\"alg\":\"HS256\",\"kid\":\"b\"}", S "}", BAD("signature does not verify"),
     "named b, but over"},
    {&kid_rules, "{\"alg\":\"HS256\",\"kid\":\"b\"}", S "}", BAD("signature does not verify"),
     NULL},
    {&kid_rules, "{\"alg\":\"HS256\",\"kid\":\"c\"}", S "}", OK, NULL},
    {&kid_rules, "{\"alg\":\"HS256\",\"kid\":\"c\"}", S "}", BAD("signature does not verify"),
     "named a"},
    {&named_rules, "{\"alg\":\"HS256\",\"kid\":\"a\"}", S "}", OK, NULL},
    {&named_rules, H, S "}", BAD("signature does not verify"), NULL},
    {&named_rules, "{\"alg\":\"HS256\",\"kid\":\"c\"}", S "}", BAD("signature does not verify"),
     NULL},
};

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *r = &rows[i];
        char token[2048];
        size_t len =
            make(token, r->header, r->payload, strlen(r->payload), r->secret ? r->secret : SECRET);
        enum jwt_verdict verdict = verify(r->rules, token, len);
        if (verdict != r->verdict || (r->why && strcmp(why, r->why) != 0))
            fail_msg("%s %s: verdict %d, %s", r->header, r->payload, verdict, why ? why : "fine");
        if (verdict != JWT_INVALID) str_is(claims.payload_json, r->payload);
    }
}

/* ---- the text as sent ---- */

#define HB "eyJhbGciOiJIUzI1NiJ9" /* {"alg":"HS256"} */
#define PB "eyJzdWIiOiI0MiJ9"     /* {"sub":"42"} */

static const struct {
    const char *text; /* what is signed */
    enum jwt_verdict verdict;
} texts[] = {
    {HB "." PB, JWT_OK},
    /* base64url: RFC 7515 section 2, no padding, white space or other characters */
    {HB "=." PB, JWT_INVALID},
    {HB "." PB "=", JWT_INVALID},
    {HB "." PB "==", JWT_INVALID},
    {HB "." PB "====", JWT_INVALID},
    {HB "." PB " ", JWT_INVALID},
    {HB "." PB "\n", JWT_INVALID},
    {" " HB "." PB, JWT_INVALID},
    {HB " ." PB, JWT_INVALID},
    {HB ".eyJzdW IiOiI0MiJ9", JWT_INVALID},
    {HB ".eyJ4IjoiPz8_Pj4-In0", JWT_OK},      /* {"x":"???>>>"} */
    {HB ".eyJ4IjoiPz8/Pj4+In0", JWT_INVALID}, /* the same in RFC 4648 section 4 */
    {HB ".eyJ4IjoiPz8_Pj4+In0", JWT_INVALID},
    {HB ".eyJ4IjoxfQ", JWT_OK},      /* {"x":1}: 4 unused bits */
    {HB ".eyJ4IjoxfR", JWT_INVALID}, /* and one of them set */
    {HB ".eyJ4IjoxfX", JWT_INVALID},
    {HB ".eyJ4IjoxMn0", JWT_OK},      /* {"x":12}: 2 unused bits */
    {HB ".eyJ4IjoxMn1", JWT_INVALID}, /* and one of them set */
    {HB ".eyJ4IjoxMn2", JWT_INVALID},
    {HB "." PB "A", JWT_INVALID}, /* 4n + 1 characters */
    {HB "." PB "\x80", JWT_INVALID},
    {HB "." PB "*", JWT_INVALID},
    /* parts */
    {HB, JWT_INVALID},
    {HB ".", JWT_INVALID},
    {"." PB, JWT_INVALID},
    {HB ".." PB, JWT_INVALID},
    {HB "." PB ".", JWT_INVALID},
    {HB "." PB "." PB, JWT_INVALID},
    {HB "." HB "." PB "." PB, JWT_INVALID}, /* five, as a JWE */
    {".", JWT_INVALID},
    {"", JWT_INVALID},
    {"eyJ", JWT_INVALID},
    {"Bearer " HB "." PB, JWT_INVALID},
};

static void test_texts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char token[512];
        size_t len = strlen(texts[i].text);
        memcpy(token, texts[i].text, len + 1);
        len = sign(token, len, SECRET);
        if (verify(&plain_rules, token, len) != texts[i].verdict)
            fail_msg("%s: %s", texts[i].text, why);
    }
}

/* Behind a good token: anything. */
static void test_trailing(void **state)
{
    (void)state;
    static const char *tails[] = {"=", ".", ".x", " ", "\n", "A", "AAAA", "\r\n", "&a=b"};
    char token[512];
    size_t len = make(token, H, S "}", strlen(S "}"), SECRET);
    assert_int_equal(verify(&plain_rules, token, len), JWT_OK);
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        memcpy(token + len, tails[i], strlen(tails[i]));
        assert_int_equal(verify(&plain_rules, token, len + strlen(tails[i])), JWT_INVALID);
    }
    assert_int_equal(verify(&plain_rules, token, len + 1), JWT_INVALID);
    token[len] = 0;
    assert_int_equal(verify(&plain_rules, token, len + 1), JWT_INVALID); /* a NUL byte */
    memmove(token + 1, token, len);
    token[0] = ' ';
    assert_int_equal(verify(&plain_rules, token, len + 1), JWT_INVALID);
}

/* Cut at every byte, and every byte of it changed in every bit. */
static void test_every_byte(void **state)
{
    (void)state;
    static const char payload[] =
        S ",\"exp\":1700003600,\"roost\":{\"pub\":[\"chat:*\"],\"sub\":[\"chat:*\"]}}";
    char token[512];
    size_t len = make(token, H, payload, sizeof payload - 1, SECRET);
    assert_int_equal(verify(&plain_rules, token, len), JWT_OK);
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(verify(&plain_rules, token, cut), JWT_INVALID);
    for (size_t i = 0; i < len; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            token[i] ^= (char)(1 << bit);
            assert_int_equal(verify(&plain_rules, token, len), JWT_INVALID);
            token[i] ^= (char)(1 << bit);
        }
    assert_int_equal(verify(&plain_rules, token, len), JWT_OK);
}

/* Each bit of the 32 bytes of the signature, not of its text. */
static void test_signature_bits(void **state)
{
    (void)state;
    char token[512];
    uint8_t mac[32];
    size_t len = make(token, H, S "}", strlen(S "}"), SECRET), at = len - 43;
    assert_int_equal(jwt_base64url_decode(mac, token + at, 43), 32);
    for (unsigned bit = 0; bit < 256; bit++) {
        mac[bit / 8] ^= (uint8_t)(1 << bit % 8);
        base64url(token + at, mac, sizeof mac);
        assert_int_equal(verify(&plain_rules, token, len), JWT_INVALID);
        assert_string_equal(why, "signature does not verify");
        mac[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    /* shorter and longer ones, good as far as they go, and none at all */
    base64url(token + at, mac, sizeof mac);
    for (size_t n = 0; n < 43; n++)
        assert_int_equal(verify(&plain_rules, token, at + n), JWT_INVALID);
    uint8_t longer[33] = {0};
    memcpy(longer, mac, 32);
    assert_int_equal(verify(&plain_rules, token, at + base64url(token + at, longer, 33)),
                     JWT_INVALID);
    base64url(token + at, mac, sizeof mac);
    assert_int_equal(verify(&plain_rules, token, len), JWT_OK);
}

/* ---- caps ---- */

/* A payload such that the token has exactly want bytes. */
static size_t make_long(char *token, size_t want)
{
    static char payload[JWT_TOKEN_MAX];
    size_t text = want - strlen(HB) - 1 - 1 - 43;
    size_t len = text * 3 / 4;
    memset(payload, ' ', len);
    memcpy(payload, "{\"sub\":\"alice\"}", 15);
    return make(token, "{\"alg\":\"HS256\"}", payload, len, SECRET);
}

static void test_size(void **state)
{
    (void)state;
    static char token[JWT_TOKEN_MAX + 64];
    size_t len = make_long(token, JWT_TOKEN_MAX);
    assert_int_equal(len, JWT_TOKEN_MAX);
    assert_int_equal(verify(&plain_rules, token, len), JWT_OK);
    len = make_long(token, JWT_TOKEN_MAX + 2);
    assert_true(len > JWT_TOKEN_MAX);
    assert_int_equal(verify(&plain_rules, token, len), JWT_INVALID);
    assert_string_equal(why, "token is too long");
}

static void verify_payload(const char *payload, size_t len, enum jwt_verdict verdict,
                           const char *reason)
{
    static char token[3 * JWT_TOKEN_MAX];
    size_t n = make(token, H, payload, len, SECRET);
    assert_int_equal(verify(&plain_rules, token, n), verdict);
    if (reason) assert_string_equal(why, reason);
}

static size_t fill(char *out, const char *head, const char *unit, size_t times, const char *tail)
{
    size_t len = (size_t)sprintf(out, "%s", head);
    for (size_t i = 0; i < times; i++) len += (size_t)sprintf(out + len, i ? ",%s" : "%s", unit);
    return len + (size_t)sprintf(out + len, "%s", tail);
}

static size_t numbered(char *out, const char *head, const char *unit, int times, const char *tail)
{
    size_t len = (size_t)sprintf(out, "%s", head);
    for (int i = 0; i < times; i++) {
        if (i) out[len++] = ',';
        len += (size_t)sprintf(out + len, unit, i);
    }
    return len + (size_t)sprintf(out + len, "%s", tail);
}

static void test_caps(void **state)
{
    (void)state;
    static char p[2 * JWT_TOKEN_MAX];
    verify_payload(p, fill(p, "{\"sub\":\"", "", 0, "\"}"), JWT_OK, NULL);
    size_t len = (size_t)sprintf(p, "{\"sub\":\"%0255d\"}", 0);
    verify_payload(p, len, JWT_OK, NULL);
    assert_int_equal(claims.sub.len, 255);
    len = (size_t)sprintf(p, "{\"sub\":\"%0256d\"}", 0);
    verify_payload(p, len, JWT_INVALID, "user id is too long");
    len = (size_t)sprintf(p, "{\"sub\":\"\\u0061%0255d\"}", 0);
    verify_payload(p, len, JWT_INVALID, "user id is too long");

    len = fill(p, "{\"roost\":{\"sub\":[", "\"chat:*\"", JWT_PATTERNS_MAX, "]}}");
    verify_payload(p, len, JWT_OK, NULL);
    assert_int_equal(claims.sub_to_count, JWT_PATTERNS_MAX);
    len = fill(p, "{\"roost\":{\"sub\":[", "\"chat:*\"", JWT_PATTERNS_MAX + 1, "]}}");
    verify_payload(p, len, JWT_INVALID, "roost has too many patterns");
    len = fill(p, "{\"roost\":{\"x\":[", "1", 3000, "]}}");
    verify_payload(p, len, JWT_INVALID, "roost has too many values");

    len = fill(p, "{\"channels\":[\"x\",", "\"x\"", 700, "]}");
    verify_payload(p, len, JWT_OK, NULL);
    assert_int_equal(claims.subs_count, 1);
    for (int over = 0; over < 2; over++) { /* 128 channels, and one more, in both ways to say it */
        enum jwt_verdict verdict = over ? JWT_INVALID : JWT_OK;
        const char *reason = over ? "token has too many channels" : NULL;
        len = numbered(p, "{\"channels\":[", "\"\\u0063%d\"", JWT_SUBS_MAX + over, "]}");
        verify_payload(p, len, verdict, reason);
        assert_int_equal(claims.subs_count, over ? 0 : JWT_SUBS_MAX);
        len =
            numbered(p, "{\"subs\":{",
                     "\"%d\":{\"info\":{\"a\":[1,2]},\"override\":{\"presence\":{\"value\":true}}}",
                     JWT_SUBS_MAX + over, "}}");
        verify_payload(p, len, verdict, reason);
        assert_int_equal(claims.subs_count, over ? 0 : JWT_SUBS_MAX);
        if (!over) str_is(claims.subs[127].info, "{\"a\":[1,2]}");
    }
    verify_payload(p, fill(p, "{\"channels\":[", "\"x\"", 1100, "]}"), JWT_INVALID,
                   "token has too many channels");
    verify_payload(p, fill(p, "{\"subs\":{\"a\":{\"info\":[", "1", 5000, "]}}}"), JWT_OK, NULL);

    /* what passes through may have any number of values; names may not */
    verify_payload(p, fill(p, "{\"info\":[", "1", 5000, "]}"), JWT_OK, NULL);
    len = (size_t)sprintf(p, "{");
    for (int i = 0; i < 513; i++) len += (size_t)sprintf(p + len, "%s\"%d\":1", i ? "," : "", i);
    len += (size_t)sprintf(p + len, "}");
    verify_payload(p, len, JWT_INVALID, "token is not JSON");
    verify_payload(p,
                   fill(p, "{\"x\":",
                        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", 1, ""),
                   JWT_INVALID, "token is not JSON");
    /* all of it escapes: the scratch must hold text and decoded strings */
    len = (size_t)sprintf(p, "{\"channel\":\"");
    for (int i = 0; i < 2000; i++) len += (size_t)sprintf(p + len, "\\u00e9");
    len += (size_t)sprintf(p + len, "\"}");
    static char token[3 * JWT_TOKEN_MAX];
    struct jwt_rules rules = subscription_rules;
    rules.user_id_claim = "channel"; /* decoded twice */
    size_t n = make(token, H, p, len, SECRET);
    assert_int_equal(verify(&subscription_rules, token, n), JWT_OK);
    assert_int_equal(claims.channel.len, 4000);
    assert_int_equal(verify(&rules, token, n), JWT_INVALID);
    assert_string_equal(why, "user id is too long");
    len = (size_t)sprintf(p, "{\"b64info\":\"\\u0049"); /* "aaa... */
    for (int i = 0; i < 1999; i++)
        len += (size_t)sprintf(p + len, "%s",
                               i % 4 == 3   ? "\\u0059"
                               : i % 4 == 2 ? "W"
                               : i % 4 == 1 ? "h"
                                            : "m");
    len += (size_t)sprintf(p + len, "\"}");
    verify_payload(p, len, JWT_INVALID, "b64info or b64data is not JSON inside");
}

/* Time far off and leeways that overflow. */
static void test_clock_edges(void **state)
{
    (void)state;
    static const struct {
        const char *payload;
        int64_t now_s, leeway_s;
        enum jwt_verdict verdict;
    } cases[] = {
        {"{\"exp\":1e300}", INT64_MAX, 0, JWT_EXPIRED},
        {"{\"exp\":1e300}", INT64_MAX - 1, 0, JWT_OK},
        {"{\"exp\":-1e300}", INT64_MIN, 0, JWT_EXPIRED},
        {"{\"exp\":-5}", INT64_MIN, INT64_MAX, JWT_OK},
        {"{\"exp\":1}", 0, INT64_MAX, JWT_OK},
        {"{\"nbf\":1e300}", INT64_MAX, INT64_MAX, JWT_OK},
        {"{\"nbf\":1e300}", 0, 0, JWT_EXPIRED},
        {"{\"nbf\":-1e300}", INT64_MIN + 1, 0, JWT_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char token[256];
        size_t len = make(token, H, cases[i].payload, strlen(cases[i].payload), SECRET);
        struct jwt_rules rules = plain_rules;
        rules.leeway_s = cases[i].leeway_s;
        enum jwt_verdict v =
            jwt_verify(&rules, token, len, cases[i].now_s, &claims, scratch, sizeof scratch, &why);
        if (v != cases[i].verdict)
            fail_msg("%s at %ld: %d", cases[i].payload, (long)cases[i].now_s, v);
    }
}

/* ---- what is read ---- */

static void test_claims(void **state)
{
    (void)state;
    static const char payload[] =
        "{\"sub\":\"\\u0061lice "
        "\xc3\xbc\",\"exp\":1700003600.7,\"nbf\":1699999990.2,\"iat\":1699999990.9,"
        "\"roost\":{\"sub\":[\"chat:*\",\"n\\u0065ws\"],\"pub\":[\"chat:1\"]},\"info\":{\"a\":[1,2]"
        "}}";
    char token[1024];
    size_t len = make(token, "{\"alg\":\"HS256\",\"kid\":\"k\\u0031\"}", payload,
                      sizeof payload - 1, SECRET);
    for (int late = 0; late < 2; late++) {
        int64_t now_s = late ? 1700003600 : NOW;
        enum jwt_verdict v =
            jwt_verify(&plain_rules, token, len, now_s, &claims, scratch, sizeof scratch, &why);
        assert_int_equal(v, late ? JWT_EXPIRED : JWT_OK);
        str_is(claims.sub, "alice \xc3\xbc");
        str_is(claims.kid, "k1");
        str_is(claims.payload_json, payload);
        assert_int_equal(claims.exp_s, 1700003600);
        assert_int_equal(claims.nbf_s, 1699999991);
        assert_int_equal(claims.iat_s, 1699999990);
        assert_true(claims.has_exp && claims.has_nbf && claims.has_iat);
        assert_int_equal(claims.sub_to_count, 2);
        str_is(claims.sub_to[0], "chat:*");
        str_is(claims.sub_to[1], "news");
        assert_int_equal(claims.pub_count, 1);
        str_is(claims.pub[0], "chat:1");
    }
}

#define SAID_NOTHING(s) assert_true((s).p == NULL && (s).len == 0)

static void read_token(const struct jwt_rules *rules, const char *payload)
{
    char token[2048];
    size_t len = make(token, H, payload, strlen(payload), SECRET);
    if (verify(rules, token, len) != JWT_OK) fail_msg("%s: %s", payload, why);
}

static void test_connection_claims(void **state)
{
    (void)state;
    read_token(&plain_rules, S "}");
    SAID_NOTHING(claims.info);
    assert_false(claims.has_expire_at);
    assert_int_equal(claims.subs_count, 0);

    read_token(&plain_rules, S ",\"info\": { \"a\" : \"\\u0062\" } ,\"expire_at\":0,"
                               "\"channels\":[\"a\",\"ch\\u0061t:1\",\"a\"],\"subs\":{}}");
    str_is(claims.info, "{ \"a\" : \"\\u0062\" }"); /* as sent */
    assert_true(claims.has_expire_at);
    assert_int_equal(claims.expire_at_s, 0);
    assert_int_equal(claims.subs_count, 2);
    str_is(claims.subs[0].channel, "a");
    str_is(claims.subs[1].channel, "chat:1");
    SAID_NOTHING(claims.subs[1].info);
    SAID_NOTHING(claims.subs[1].data);
    assert_int_equal(claims.subs[1].override.presence, -1);

    /* b64info wins, an empty one does not; subs win over channels */
    read_token(&plain_rules, S ",\"info\":1,\"b64info\":\"eyJhIjoiPz8+Pz8/In0=\",\"expire_at\":-5,"
                               "\"channels\":[\"x\"],\"subs\":{\"a\":{},\"b\":"
                               "{\"info\":\"i\",\"data\":[1, 2],\"b64data\":\"\","
                               "\"override\":{\"join_leave\":{\"value\":true},\"presence\":{},"
                               "\"force_recovery\":{\"value\":false}}}}}");
    str_is(claims.info, "{\"a\":\"?\?>?\?\?\"}");
    assert_int_equal(claims.expire_at_s, -5);
    assert_int_equal(claims.subs_count, 2);
    str_is(claims.subs[0].channel, "a");
    SAID_NOTHING(claims.subs[0].info);
    str_is(claims.subs[1].channel, "b");
    str_is(claims.subs[1].info, "\"i\"");
    str_is(claims.subs[1].data, "[1, 2]");
    const struct jwt_override *o = &claims.subs[1].override;
    assert_int_equal(o->presence, 0);
    assert_int_equal(o->join_leave, 1);
    assert_int_equal(o->force_push_join_leave, -1);
    assert_int_equal(o->force_recovery, 0);
    assert_int_equal(o->force_positioning, -1);
}

static void test_subscription_claims(void **state)
{
    (void)state;
    read_token(&subscription_rules, C "}");
    SAID_NOTHING(claims.info);
    SAID_NOTHING(claims.data);
    assert_int_equal(claims.client.len, 0);
    assert_int_equal(claims.override.presence, -1);
    assert_int_equal(claims.override.force_positioning, -1);

    read_token(
        &subscription_rules,
        C ",\"client\":\"c-\\u0031\",\"info\":\"x\",\"data\":{\"d\":null},\"expire_at\":1700000100,"
          "\"override\":{\"presence\":{\"value\":true},\"join_leave\":{\"value\":false},"
          "\"force_push_join_leave\":{\"value\":true},\"force_recovery\":{\"value\":true},"
          "\"force_positioning\":{\"value\":true}}}");
    str_is(claims.channel, "news");
    str_is(claims.client, "c-1");
    str_is(claims.info, "\"x\"");
    str_is(claims.data, "{\"d\":null}");
    assert_int_equal(claims.expire_at_s, 1700000100);
    const struct jwt_override *o = &claims.override;
    assert_int_equal(o->presence, 1);
    assert_int_equal(o->join_leave, 0);
    assert_int_equal(o->force_push_join_leave, 1);
    assert_int_equal(o->force_recovery, 1);
    assert_int_equal(o->force_positioning, 1);

    read_token(&subscription_rules,
               C ",\"b64info\":\"MQ==\",\"info\":2,\"data\":3,\"b64data\":\"NA==\"}");
    str_is(claims.info, "1");
    str_is(claims.data, "4");
}

static void test_patterns(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *name;
        bool match;
    } cases[] = {
        {"news", "news", true},
        {"news", "new", false},
        {"news", "newsx", false},
        {"chat:*", "chat:1", true},
        {"chat:*", "chat:", true},
        {"chat:*", "chat", false},
        {"chat:*", "Chat:1", false},
        {"*", "anything", true},
        {"*", "", true},
        {"", "", true},
        {"", "x", false},
        {"a*b", "a*b", true},
        {"a*b", "axb", false},
        {"a**", "a*", true},
        {"a**", "a", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct jwt_str pattern = {cases[i].pattern, strlen(cases[i].pattern)};
        if (jwt_pattern_match(pattern, cases[i].name, strlen(cases[i].name)) != cases[i].match)
            fail_msg("%s %s", cases[i].pattern, cases[i].name);
    }
    struct jwt_str list[] = {{"a", 1}, {"b*", 2}};
    assert_true(jwt_may(list, 2, "a", 1) && jwt_may(list, 2, "bcd", 3));
    assert_false(jwt_may(list, 2, "c", 1) || jwt_may(list, 1, "bcd", 3) ||
                 jwt_may(NULL, 0, "a", 1));
}

/* ---- make ---- */

static void test_make(void **state)
{
    (void)state;
    static char token[JWT_TOKEN_MAX + 1], big[JWT_TOKEN_MAX];
    struct jwt_key key = key_of(SECRET, "quote\" and \\", 0);
    int64_t len = jwt_make(token, sizeof token, &key, S "}", strlen(S "}"));
    assert_int_equal(len, strlen(token));
    struct jwt_rules rules = {.keys = {key}, .key_count = 1};
    assert_int_equal(verify(&rules, token, (size_t)len), JWT_OK);
    str_is(claims.kid, key.kid);
    for (size_t cap = 0; cap <= (size_t)len + 1; cap++) {
        char *out = guard_copy(NULL, cap);
        assert_int_equal(jwt_make(out, cap, &key, S "}", strlen(S "}")),
                         cap > (size_t)len ? len : -1);
        guard_free(out, cap);
    }
    key.kid = NULL;
    memset(big, ' ', sizeof big);
    memcpy(big, "{}", 2);
    for (size_t n = 12200; n < 12300; n++) {
        len = jwt_make(token, sizeof token, &key, big, n);
        if (len > 0) assert_int_equal(verify(&plain_rules, token, (size_t)len), JWT_OK);
        assert_true(len <= JWT_TOKEN_MAX && (len > 0) == (n <= 12227));
    }
    key.secret_len = 0;
    assert_int_equal(jwt_make(token, sizeof token, &key, "{}", 2), -1);
    rules = (struct jwt_rules){.keys = {key}, .key_count = 1};
    size_t n = make(token, H, S "}", strlen(S "}"), "");
    assert_int_equal(verify(&rules, token, n), JWT_INVALID);
}

/* Secrets shorter than, as long as and longer than SHA-256's block (RFC 2104 section 2). */
static void test_secret_lengths(void **state)
{
    (void)state;
    char secret[201], token[256], made[256];
    for (size_t n = 1; n <= 200; n++) {
        memset(secret, 'a' + (int)n % 26, n);
        secret[n] = 0;
        struct jwt_rules rules = {.keys = {key_of(secret, NULL, 0)}, .key_count = 1};
        size_t len = make(token, H, S "}", strlen(S "}"), secret);
        assert_int_equal(verify(&rules, token, len), JWT_OK);
        assert_int_equal(jwt_make(made, sizeof made, &rules.keys[0], S "}", strlen(S "}")), len);
        assert_memory_equal(made, token, len);
    }
}

static void test_base64url(void **state)
{
    (void)state;
    uint8_t bytes[64], back[64];
    char text[128], want[128];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 37 + 251);
    for (size_t n = 0; n <= sizeof bytes; n++) {
        size_t len = jwt_base64url_encode(text, bytes, n);
        assert_int_equal(len, JWT_BASE64URL_LEN(n));
        assert_int_equal(len, base64url(want, bytes, n));
        assert_memory_equal(text, want, len);
        char *in = guard_copy(text, len);
        uint8_t *out = guard_copy(NULL, len * 3 / 4);
        assert_int_equal(jwt_base64url_decode(out, in, len), n);
        assert_memory_equal(out, bytes, n);
        guard_free(in, len);
        guard_free(out, len * 3 / 4);
    }
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (unsigned c = 0; c < 256; c++) { /* every byte in every place */
        bool member = c && strchr(set, (int)c);
        for (unsigned place = 0; place < 4; place++) {
            memcpy(text, "AAAA", 4);
            text[place] = (char)c;
            assert_int_equal(jwt_base64url_decode(back, text, 4), member ? 3 : -1);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc7515_a1),
        cmocka_unit_test(test_protocol_vector),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_trailing),
        cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_signature_bits),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_caps),
        cmocka_unit_test(test_clock_edges),
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_connection_claims),
        cmocka_unit_test(test_subscription_claims),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_make),
        cmocka_unit_test(test_secret_lengths),
        cmocka_unit_test(test_base64url),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
