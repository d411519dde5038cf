/* jwt.c: what is read from a good token, how much of it there may be, and tokens that it makes. */
#include "jwt_tokens.h"

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

static char p[2 * JWT_TOKEN_MAX];

static void test_caps_of_texts(void **state)
{
    (void)state;
    verify_payload(p, fill(p, "{\"sub\":\"", "", 0, "\"}"), JWT_OK, NULL);
    size_t len = (size_t)sprintf(p, "{\"sub\":\"%0255d\"}", 0);
    verify_payload(p, len, JWT_OK, NULL);
    assert_int_equal(claims.sub.len, 255);
    len = (size_t)sprintf(p, "{\"sub\":\"%0256d\"}", 0);
    verify_payload(p, len, JWT_INVALID, "user id is too long");
    len = (size_t)sprintf(p, "{\"sub\":\"\\u0061%0255d\"}", 0);
    verify_payload(p, len, JWT_INVALID, "user id is too long");
}

static void test_caps_of_lists(void **state)
{
    (void)state;
    size_t len = fill(p, "{\"roost\":{\"sub\":[", "\"chat:*\"", JWT_PATTERNS_MAX, "]}}");
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
}

/* What passes through may have any number of values; names may not. */
static void test_caps_of_values(void **state)
{
    (void)state;
    verify_payload(p, fill(p, "{\"info\":[", "1", 5000, "]}"), JWT_OK, NULL);
    size_t len = (size_t)sprintf(p, "{");
    for (int i = 0; i < 513; i++) len += (size_t)sprintf(p + len, "%s\"%d\":1", i ? "," : "", i);
    len += (size_t)sprintf(p + len, "}");
    verify_payload(p, len, JWT_INVALID, "token is not JSON");
    verify_payload(p,
                   fill(p, "{\"x\":",
                        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", 1, ""),
                   JWT_INVALID, "token is not JSON");
}

/* All of it escapes: the scratch must hold text and decoded strings. */
static void test_all_escapes(void **state)
{
    (void)state;
    size_t len = (size_t)sprintf(p, "{\"channel\":\"");
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
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_caps_of_texts),
        cmocka_unit_test(test_caps_of_lists),
        cmocka_unit_test(test_caps_of_values),
        cmocka_unit_test(test_all_escapes),
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
