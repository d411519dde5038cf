/* Tests of what command.h's JSON codec writes (protocol.md sections 1.2, 1.3, 2 and 3; the numbers
 * of section 10). Each reply and push is written into every capacity from none to enough, with an
 * unreadable page behind it. */
#include "../command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "guard.h"

#define TEXT(s) ((struct text){s, sizeof(s) - 1})
#define COUNT(a) (sizeof(a) / sizeof *(a))

static const struct client_info info_a = {
    TEXT("42"), TEXT("66fd"), TEXT("{\"name\":\"A\"}"), {NULL, 0}};
static const struct client_info info_plain = {TEXT("42"), TEXT("66fd"), {NULL, 0}, {NULL, 0}};
static const struct client_info info_none = {{NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}};
static const struct client_info info_all = {TEXT("\"\n"), TEXT("c"), TEXT("1"), TEXT("[\n]")};

static void publications(struct json_out *o, int from, int to)
{
    for (int n = from; n <= to; n++) {
        char digit = (char)('0' + n);
        struct publication_view p = {.data = {&digit, 1}, .offset = (uint64_t)n};
        reply_json_publication(o, n == from, &p);
    }
}

static void connect_plain(struct json_out *o)
{
    reply_json_connect_begin(o, 1,
                             &(struct connect_result){
                                 .client = TEXT("5e7ddd00-b366-46e2-8ae8-4dc370767688"),
                                 .version = TEXT("0.1.0"),
                                 .ping_s = 25,
                                 .pong = true,
                             });
    reply_json_connect_end(o, false);
}

static void connect_expires(struct json_out *o)
{
    reply_json_connect_begin(o, 1,
                             &(struct connect_result){
                                 .client = TEXT("19276482-9d36-4950-8d27-4a4ec2b4675b"),
                                 .version = TEXT("0.1.0"),
                                 .expires = true,
                                 .ttl_s = 3600,
                                 .ping_s = 25,
                                 .pong = true,
                             });
    reply_json_connect_end(o, false);
}

static void connect_all(struct json_out *o)
{
    reply_json_connect_begin(o, 1,
                             &(struct connect_result){
                                 .client = TEXT("c"),
                                 .data = TEXT("{\n}"),
                                 .expires = true,
                                 .time_ms = 1700000000123,
                             });
    reply_json_connect_end(o, false);
}

static void connect_subs(struct json_out *o)
{
    struct subscribe_result r = {.recoverable = true,
                                 .positioned = true,
                                 .epoch = TEXT("0e69feb8"),
                                 .offset = 1,
                                 .was_recovering = true,
                                 .recovered = true};
    struct connect_result c = {.client = TEXT("c"), .ping_s = 25, .pong = true};
    reply_json_connect_begin(o, 2, &c);
    reply_json_connect_sub_begin(o, true, TEXT("ss"));
    reply_json_result_begin(o, &r);
    publications(o, 2, 2);
    reply_json_result_end(o, true);
    reply_json_connect_end(o, true);
}

static void connect_two_subs(struct json_out *o)
{
    struct subscribe_result r = {.expires = true};
    reply_json_connect_begin(o, 2, &(struct connect_result){0});
    reply_json_connect_sub_begin(o, true, TEXT("a\"b"));
    reply_json_result_begin(o, &r);
    reply_json_result_end(o, false);
    reply_json_connect_sub_begin(o, false, TEXT("c"));
    reply_json_result_begin(o, &(struct subscribe_result){0});
    publications(o, 1, 2);
    reply_json_result_end(o, true);
    reply_json_connect_end(o, true);
}

static void subscribe_plain(struct json_out *o)
{
    reply_json_subscribe_begin(o, 2, &(struct subscribe_result){0});
    reply_json_subscribe_end(o, false);
}

static void subscribe_position(struct json_out *o)
{
    reply_json_subscribe_begin(o, 2,
                               &(struct subscribe_result){
                                   .recoverable = true,
                                   .positioned = true,
                                   .epoch = TEXT("kQzXhbTe"),
                                   .offset = 41,
                               });
    reply_json_subscribe_end(o, false);
}

static void subscribe_recovered(struct json_out *o)
{
    reply_json_subscribe_begin(o, 4,
                               &(struct subscribe_result){
                                   .recoverable = true,
                                   .positioned = true,
                                   .epoch = TEXT("6934fc15"),
                                   .offset = 1,
                                   .was_recovering = true,
                                   .recovered = true,
                               });
    publications(o, 2, 3);
    reply_json_subscribe_end(o, true);
}

static void subscribe_not_recovered(struct json_out *o)
{
    reply_json_subscribe_begin(o, 4,
                               &(struct subscribe_result){
                                   .recoverable = true,
                                   .positioned = true,
                                   .epoch = TEXT("newepoch"),
                                   .offset = 4,
                                   .was_recovering = true,
                               });
    reply_json_subscribe_end(o, false);
}

static void subscribe_expires(struct json_out *o)
{
    reply_json_subscribe_begin(o, 4294967295,
                               &(struct subscribe_result){
                                   .expires = true,
                                   .ttl_s = 600,
                                   .data = TEXT("[1,\n2]\n"),
                               });
    reply_json_subscribe_end(o, false);
}

static void unsubscribe(struct json_out *o)
{
    reply_json_empty(o, 10, COMMAND_UNSUBSCRIBE);
}

static void publish(struct json_out *o)
{
    reply_json_empty(o, 3, COMMAND_PUBLISH);
}

static void presence(struct json_out *o)
{
    reply_json_presence_begin(o, 4);
    reply_json_presence_entry(o, true, &info_a);
    reply_json_presence_end(o);
}

static void presence_empty(struct json_out *o)
{
    reply_json_presence_begin(o, 4);
    reply_json_presence_end(o);
}

static void presence_two(struct json_out *o)
{
    reply_json_presence_begin(o, 4);
    reply_json_presence_entry(o, true, &info_none);
    reply_json_presence_entry(o, false, &info_all);
    reply_json_presence_end(o);
}

static void stats(struct json_out *o)
{
    reply_json_presence_stats(o, 5, 1, 1);
}

static void stats_zero(struct json_out *o)
{
    reply_json_presence_stats(o, 5, 0, 0);
}

static void history(struct json_out *o)
{
    struct publication_view p = {.data = TEXT("{\"t\":\"hi\"}"), .offset = 1};
    reply_json_history_begin(o, 6);
    reply_json_publication(o, true, &p);
    reply_json_history_end(o, true, TEXT("kQzXhbTe"), 1);
}

static void history_position(struct json_out *o)
{
    reply_json_history_begin(o, 6);
    reply_json_history_end(o, false, (struct text){NULL, 0}, 0);
}

static void history_all(struct json_out *o)
{
    struct publication_view p = {.data = TEXT("\n1\n"),
                                 .offset = UINT64_MAX,
                                 .info = &info_all,
                                 .tags = TEXT("{\"a\":\n\"b\"}")};
    reply_json_history_begin(o, 6);
    reply_json_publication(o, true, &p);
    reply_json_publication(o, false, &p);
    reply_json_history_end(o, true, TEXT("e"), UINT64_MAX);
}

static void refresh(struct json_out *o)
{
    reply_json_refresh(o, 2, COMMAND_REFRESH, true, 3600);
}

static void refresh_for_good(struct json_out *o)
{
    reply_json_refresh(o, 2, COMMAND_REFRESH, false, 3600);
}

static void sub_refresh(struct json_out *o)
{
    reply_json_refresh(o, 3, COMMAND_SUB_REFRESH, true, 600);
}

static void refresh_now(struct json_out *o)
{
    reply_json_refresh(o, 3, COMMAND_REFRESH, true, 0);
}

static void error_final(struct json_out *o)
{
    reply_json_error(o, 3, 109, "token expired", false);
}

static void error_temporary(struct json_out *o)
{
    reply_json_error(o, 3, 100, "internal server error", true);
}

static void push_pub(struct json_out *o)
{
    struct publication_view p = {
        .data = TEXT("{\"t\":\"hi\"}"), .info = &info_a, .tags = TEXT("{\"k\":\"v\"}")};
    push_json_pub(o, TEXT("news"), &p);
    push_json_pub_end(o, 42);
}

static void push_pub_plain(struct json_out *o)
{
    struct publication_view p = {
        .data = TEXT("{\n \"a\"\n:\r\n1}\n"), .offset = 7, .tags = TEXT("{ \n}")};
    push_json_pub(o, TEXT("a\x01\n\"\\\xe2\x80\xa8"), &p);
    push_json_pub_end(o, 0);
}

static void push_join(struct json_out *o)
{
    push_json_join(o, TEXT("news"), &info_plain);
}

static void push_leave(struct json_out *o)
{
    push_json_leave(o, TEXT("news"), &info_plain);
}

static void push_join_nobody(struct json_out *o)
{
    push_json_join(o, TEXT("news"), &info_none);
}

static void push_unsubscribe(struct json_out *o)
{
    push_json_unsubscribe(o, TEXT("news"), 2000, "server unsubscribe");
}

static void push_subscribe(struct json_out *o)
{
    push_json_subscribe(o, TEXT("personal:#42"),
                        &(struct subscribe_result){
                            .recoverable = true,
                            .positioned = true,
                            .epoch = TEXT("kQzXhbTe"),
                            .offset = 5,
                            .was_recovering = true,
                            .recovered = true,
                            .expires = true,
                        });
}

static void push_subscribe_plain(struct json_out *o)
{
    push_json_subscribe(o, TEXT("a"), &(struct subscribe_result){.data = TEXT("0")});
}

static void push_message(struct json_out *o)
{
    push_json_message(o, TEXT("{\"m\":1}"));
}

static void push_refresh(struct json_out *o)
{
    push_json_refresh(o, true, 60);
}

static void push_refresh_for_good(struct json_out *o)
{
    push_json_refresh(o, false, 60);
}

static const struct {
    const char *section;
    void (*write)(struct json_out *o);
    const char *want;
} lines[] = {
    {"1.2", connect_plain,
     "{\"id\":1,\"connect\":{\"client\":\"5e7ddd00-b366-46e2-8ae8-4dc370767688\","
     "\"version\":\"0.1.0\",\"ping\":25,\"pong\":true}}"},
    {"2.1", connect_expires,
     "{\"id\":1,\"connect\":{\"client\":\"19276482-9d36-4950-8d27-4a4ec2b4675b\","
     "\"version\":\"0.1.0\",\"expires\":true,\"ttl\":3600,\"ping\":25,\"pong\":true}}"},
    {"2.1", connect_all,
     "{\"id\":1,\"connect\":{\"client\":\"c\",\"expires\":true,\"ttl\":1,\"data\":{},"
     "\"time\":1700000000123}}"},
    {"2.1", connect_subs,
     "{\"id\":2,\"connect\":{\"client\":\"c\",\"ping\":25,\"pong\":true,\"subs\":{\"ss\":{"
     "\"recoverable\":true,\"positioned\":true,\"epoch\":\"0e69feb8\",\"offset\":1,"
     "\"was_recovering\":true,\"recovered\":true,\"publications\":[{\"data\":2,\"offset\":2}]}}}}"},
    {"2.1", connect_two_subs,
     "{\"id\":2,\"connect\":{\"subs\":{\"a\\\"b\":{\"expires\":true,\"ttl\":1},\"c\":{"
     "\"publications\":[{\"data\":1,\"offset\":1},{\"data\":2,\"offset\":2}]}}}}"},
    {"2.2", subscribe_plain, "{\"id\":2,\"subscribe\":{}}"},
    {"2.2", subscribe_position,
     "{\"id\":2,\"subscribe\":{\"recoverable\":true,\"positioned\":true,\"epoch\":\"kQzXhbTe\","
     "\"offset\":41}}"},
    {"2.2", subscribe_recovered,
     "{\"id\":4,\"subscribe\":{\"recoverable\":true,\"positioned\":true,\"epoch\":\"6934fc15\","
     "\"offset\":1,\"was_recovering\":true,\"recovered\":true,\"publications\":[{\"data\":2,"
     "\"offset\":2},{\"data\":3,\"offset\":3}]}}"},
    {"2.2", subscribe_not_recovered,
     "{\"id\":4,\"subscribe\":{\"recoverable\":true,\"positioned\":true,\"epoch\":\"newepoch\","
     "\"offset\":4,\"was_recovering\":true}}"},
    {"2.2", subscribe_expires,
     "{\"id\":4294967295,\"subscribe\":{\"expires\":true,\"ttl\":600,\"data\":[1,2]}}"},
    {"2.3", unsubscribe, "{\"id\":10,\"unsubscribe\":{}}"},
    {"2.4", publish, "{\"id\":3,\"publish\":{}}"},
    {"2.5", presence,
     "{\"id\":4,\"presence\":{\"presence\":{\"66fd\":{\"user\":\"42\",\"client\":\"66fd\","
     "\"conn_info\":{\"name\":\"A\"}}}}}"},
    {"2.5", presence_empty, "{\"id\":4,\"presence\":{\"presence\":{}}}"},
    {"10.84", presence_two,
     "{\"id\":4,\"presence\":{\"presence\":{\"\":{\"user\":\"\",\"client\":\"\"},\"c\":{\"user\":"
     "\"\\\"\\n\",\"client\":\"c\",\"conn_info\":1,\"chan_info\":[]}}}}"},
    {"2.5", stats, "{\"id\":5,\"presence_stats\":{\"num_clients\":1,\"num_users\":1}}"},
    {"1.3", stats_zero, "{\"id\":5,\"presence_stats\":{\"num_clients\":0,\"num_users\":0}}"},
    {"2.6", history,
     "{\"id\":6,\"history\":{\"publications\":[{\"data\":{\"t\":\"hi\"},\"offset\":1}],"
     "\"epoch\":\"kQzXhbTe\",\"offset\":1}}"},
    {"10.81", history_position,
     "{\"id\":6,\"history\":{\"publications\":[],\"epoch\":\"\",\"offset\":0}}"},
    {"3", history_all,
     "{\"id\":6,\"history\":{\"publications\":[{\"data\":1,\"offset\":18446744073709551615,"
     "\"info\":{\"user\":\"\\\"\\n\",\"client\":\"c\",\"conn_info\":1,\"chan_info\":[]},\"tags\":{"
     "\"a\":\"b\"}},{\"data\":1,\"offset\":18446744073709551615,\"info\":{\"user\":\"\\\"\\n\","
     "\"client\":\"c\",\"conn_info\":1,\"chan_info\":[]},\"tags\":{\"a\":\"b\"}}],\"epoch\":\"e\","
     "\"offset\":18446744073709551615}}"},
    {"2.8", refresh, "{\"id\":2,\"refresh\":{\"expires\":true,\"ttl\":3600}}"},
    {"2.8", refresh_for_good, "{\"id\":2,\"refresh\":{}}"},
    {"2.9", sub_refresh, "{\"id\":3,\"sub_refresh\":{\"expires\":true,\"ttl\":600}}"},
    {"2.1", refresh_now, "{\"id\":3,\"refresh\":{\"expires\":true,\"ttl\":1}}"},
    {"2.9", error_final, "{\"id\":3,\"error\":{\"code\":109,\"message\":\"token expired\"}}"},
    {"1.3", error_temporary,
     "{\"id\":3,\"error\":{\"code\":100,\"message\":\"internal server error\","
     "\"temporary\":true}}"},
    /* the specification's example but for the place of the offset, which is known last */
    {"3", push_pub,
     "{\"push\":{\"channel\":\"news\",\"pub\":{\"data\":{\"t\":\"hi\"},\"info\":{\"user\":\"42\","
     "\"client\":\"66fd\",\"conn_info\":{\"name\":\"A\"}},\"tags\":{\"k\":\"v\"},\"offset\":42}}}"},
    {"1.2", push_pub_plain,
     "{\"push\":{\"channel\":\"a\\u0001\\n\\\"\\\\\xe2\x80\xa8\",\"pub\":{\"data\":{ "
     "\"a\":\r1}}}}"},
    {"3", push_join,
     "{\"push\":{\"channel\":\"news\",\"join\":{\"info\":{\"user\":\"42\",\"client\":\"66fd\"}}}}"},
    {"3", push_leave,
     "{\"push\":{\"channel\":\"news\",\"leave\":{\"info\":{\"user\":\"42\","
     "\"client\":\"66fd\"}}}}"},
    {"3", push_join_nobody,
     "{\"push\":{\"channel\":\"news\",\"join\":{\"info\":{\"user\":\"\",\"client\":\"\"}}}}"},
    {"3", push_unsubscribe,
     "{\"push\":{\"channel\":\"news\",\"unsubscribe\":{\"code\":2000,"
     "\"reason\":\"server unsubscribe\"}}}"},
    {"3", push_subscribe,
     "{\"push\":{\"channel\":\"personal:#42\",\"subscribe\":{\"recoverable\":true,"
     "\"positioned\":true,\"epoch\":\"kQzXhbTe\",\"offset\":5}}}"},
    {"3", push_subscribe_plain, "{\"push\":{\"channel\":\"a\",\"subscribe\":{\"data\":0}}}"},
    {"3", push_message, "{\"push\":{\"message\":{\"data\":{\"m\":1}}}}"},
    {"3", push_refresh, "{\"push\":{\"refresh\":{\"expires\":true,\"ttl\":60}}}"},
    {"3", push_refresh_for_good, "{\"push\":{\"refresh\":{}}}"},
};

static void test_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(lines); i++) {
        size_t want = strlen(lines[i].want);
        for (size_t cap = 0; cap <= want; cap++) {
            struct json_out o = {.p = guard_copy(NULL, cap), .cap = cap};
            lines[i].write(&o);
            assert_int_equal(o.full, cap < want);
            if (memcmp(o.p, lines[i].want, o.len) != 0 || (!o.full && o.len != want))
                fail_msg("%s: wrote: %.*s\nnot: %s", lines[i].section, (int)o.len, o.p,
                         lines[i].want);
            guard_free(o.p, cap);
        }
        assert_true(json_check(lines[i].want, want, 0, NULL, NULL));
    }
}

/* The end of a publication's push fits in PUSH_PUB_END bytes, in a buffer of its own as well. */
static void test_push_pub_end(void **state)
{
    (void)state;
    struct json_out o = {.p = guard_copy(NULL, PUSH_PUB_END), .cap = PUSH_PUB_END};
    push_json_pub_end(&o, UINT64_MAX);
    assert_false(o.full);
    assert_int_equal(o.len, strlen(",\"offset\":18446744073709551615}}}"));
    assert_memory_equal(o.p, ",\"offset\":18446744073709551615}}}", o.len);
    guard_free(o.p, PUSH_PUB_END);
}

/* 10.69, 10.72: what comes in by publish goes out by a push, byte for byte. */
static void test_round_trip(void **state)
{
    (void)state;
    static const char *const payloads[] = {
        "null",
        "\"s\"",
        "5",
        "[]",
        "1e400",
        "{\"a\":1,\"a\":2}",
        "\"\\u2028\"",
        "\"\xe2\x80\xa8\"",
        "{ \"b\" : 1.0 ,\t\"a\":-0, \"\\u0041\" : \"\\/\\ud800\" }",
        "\"\\n\"",
        "true",
    };
    for (size_t i = 0; i < COUNT(payloads); i++) {
        char line[256], scratch[256], out[256], want[256];
        size_t len = (size_t)sprintf(line, "{\"publish\":{\"channel\":\"c\",\"data\":%s},\"id\":1}",
                                     payloads[i]);
        size_t want_len = (size_t)sprintf(
            want, "{\"push\":{\"channel\":\"c\",\"pub\":{\"data\":%s}}}", payloads[i]);
        jsmntok_t tokens[COMMAND_TOKENS];
        struct command c;
        assert_int_equal(
            command_json_parse(&c, line, len, scratch, sizeof scratch, tokens, COMMAND_TOKENS), 0);
        struct json_out o = {.p = out, .cap = sizeof out};
        push_json_pub(&o, c.channel, &(struct publication_view){.data = c.data});
        push_json_pub_end(&o, 0);
        assert_int_equal(o.len, want_len);
        assert_memory_equal(o.p, want, want_len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_push_pub_end),
        cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
