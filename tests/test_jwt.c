/* jwt.c: tokens with the right verdict (RFC 7515, 7519, 8725, protocol.md section 5). Unless a row
 * says otherwise its signature is good, so that only the reason under test can refuse it. */
#include "jwt_tokens.h"

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

#define PB "eyJzdWIiOiI0MiJ9" /* {"sub":"42"} */

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc7515_a1),     cmocka_unit_test(test_protocol_vector),
        cmocka_unit_test(test_table),          cmocka_unit_test(test_texts),
        cmocka_unit_test(test_trailing),       cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_signature_bits), cmocka_unit_test(test_clock_edges),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
