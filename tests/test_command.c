/* Tests of what command.h's JSON codec reads (protocol.md sections 1.2, 1.3 and 2; the numbers of
 * section 10). Every line and every scratch ends at an unreadable page, and every line is fed cut
 * at every byte. */
#include "../command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "guard.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

static jsmntok_t tokens[COMMAND_TOKENS];
static char dump[65536];

/* ---- commands ---- */

static struct json_out dump_out;

static void dump_word(const char *word)
{
    if (dump_out.len > 0) json_puts(&dump_out, " ");
    json_puts(&dump_out, word);
}

static void dump_number(const char *name, int64_t n)
{
    if (n == 0) return;
    dump_word(name);
    json_put_int(&dump_out, n);
}

static void dump_text(const char *name, struct text t)
{
    assert_true((t.p == NULL) == (t.len == 0));
    if (t.len == 0) return;
    dump_word(name);
    json_put(&dump_out, t.p, t.len);
}

static void dump_position(struct position p)
{
    if (p.offset > 0) {
        dump_word("offset=");
        json_put_uint(&dump_out, p.offset);
    }
    dump_text("epoch=", p.epoch);
}

/* What is not zero of a command, in one line. */
static void dump_command(const struct command *c)
{
    dump_out = (struct json_out){.p = dump, .cap = sizeof dump - 1};
    dump_word(c->method == COMMAND_PONG ? "pong" : command_method_name(c->method));
    dump_number("", c->id);
    if (c->method == COMMAND_PONG) goto done;
    dump_text("channel=", c->channel);
    dump_text("token=", c->token);
    dump_text("data=", c->data);
    dump_text("name=", c->name);
    dump_text("version=", c->version);
    dump_text("subs=", c->subs);
    dump_text("delta=", c->delta);
    dump_text("method=", c->rpc_method);
    if (c->has_since) dump_word("since");
    dump_position(c->position);
    if (c->recover) dump_word("recover");
    if (c->positioned) dump_word("positioned");
    if (c->recoverable) dump_word("recoverable");
    if (c->join_leave) dump_word("join_leave");
    if (c->has_tags_filter) dump_word("tf");
    if (c->reverse) dump_word("reverse");
    dump_number("flag=", c->flag);
    dump_number("type=", c->type);
    dump_number("limit=", c->limit);
done:
    assert_false(dump_out.full);
    dump[dump_out.len] = 0;
}

static const struct {
    const char *section, *line, *want;
} commands[] = {
    {"1.2", "{\"connect\":{\"token\":\"eyJ...\"},\"id\":1}", "connect 1 token=eyJ..."},
    {"1.2", "{\"subscribe\":{\"channel\":\"news\",\"flag\":1},\"id\":2}",
     "subscribe 2 channel=news flag=1"},
    {"2.1",
     "{\"connect\":{\"token\":\"eyJ...\",\"data\":{\"d\":1},\"name\":\"js\",\"version\":\"1.2\","
     "\"headers\":{\"x-a\":\"b\"}},\"id\":1}",
     "connect 1 token=eyJ... data={\"d\":1} name=js version=1.2"},
    {"2.1", "{\"connect\":{},\"id\":1}", "connect 1"},
    {"2.1",
     "{\"connect\":{\"subs\":{\"ss\":{\"recover\":true,\"offset\":1,\"epoch\":\"0e69feb8\"}}},"
     "\"id\":2}",
     "connect 2 subs={\"ss\":{\"recover\":true,\"offset\":1,\"epoch\":\"0e69feb8\"}}"},
    {"2.2",
     "{\"subscribe\":{\"channel\":\"r\",\"flag\":1,\"recover\":true,\"offset\":1,"
     "\"epoch\":\"6934fc15\"},\"id\":4}",
     "subscribe 4 channel=r offset=1 epoch=6934fc15 recover flag=1"},
    {"2.2",
     "{\"subscribe\":{\"channel\":\"c\",\"token\":\"t\",\"data\":[],\"positioned\":true,"
     "\"recoverable\":true,\"join_leave\":true,\"delta\":\"fossil\",\"tf\":{\"op\":\"and\","
     "\"nodes\":[]},\"flag\":3,\"type\":1,\"phase\":2,\"cursor\":\"\",\"limit\":9,\"asc\":true},"
     "\"id\":5}",
     "subscribe 5 channel=c token=t data=[] delta=fossil positioned recoverable join_leave tf "
     "flag=3 type=1"},
    {"2.3", "{\"unsubscribe\":{\"channel\":\"news\"},\"id\":10}", "unsubscribe 10 channel=news"},
    {"2.4", "{\"publish\":{\"channel\":\"news\",\"data\":{\"t\":\"hi\"}},\"id\":3}",
     "publish 3 channel=news data={\"t\":\"hi\"}"},
    {"2.4", "{\"publish\":{\"channel\":\"m\",\"type\":1,\"key\":\"k\",\"removed\":true},\"id\":3}",
     "publish 3 channel=m type=1"},
    {"2.5", "{\"presence\":{\"channel\":\"news\"},\"id\":4}", "presence 4 channel=news"},
    {"2.5", "{\"presence_stats\":{\"channel\":\"news\"},\"id\":5}",
     "presence_stats 5 channel=news"},
    {"2.6", "{\"history\":{\"channel\":\"news\",\"limit\":10},\"id\":6}",
     "history 6 channel=news limit=10"},
    {"2.6",
     "{\"history\":{\"channel\":\"news\",\"since\":{\"offset\":3,\"epoch\":\"kQzXhbTe\"},"
     "\"limit\":5,\"reverse\":true},\"id\":7}",
     "history 7 channel=news since offset=3 epoch=kQzXhbTe reverse limit=5"},
    {"2.6", "{\"history\":{\"channel\":\"a\",\"since\":{}},\"id\":7}", "history 7 channel=a since"},
    {"2.6", "{\"history\":{\"channel\":\"a\",\"since\":null,\"limit\":-1},\"id\":7}",
     "history 7 channel=a limit=-1"},
    {"2.7", "{\"rpc\":{\"method\":\"echo\",\"data\":{\"a\":1}},\"id\":8}",
     "rpc 8 data={\"a\":1} method=echo"},
    {"2.7", "{\"send\":{\"data\":{\"x\":1}}}", "send data={\"x\":1}"},
    {"2.7", "{\"send\":{\"data\":{\"x\":1}},\"id\":4}", "send 4 data={\"x\":1}"},
    {"2.8", "{\"refresh\":{\"token\":\"eyJ\",\"client\":\"\"},\"id\":2}", "refresh 2 token=eyJ"},
    {"2.9", "{\"sub_refresh\":{\"channel\":\"$p\",\"token\":\"eyJ\",\"type\":0},\"id\":3}",
     "sub_refresh 3 channel=$p token=eyJ"},

    /* pongs: whatever has no id and is not send */
    {"1.4", "{}", "pong"},
    {"1.4", "{\"id\":0}", "pong"},
    {"1.4", "{\"id\":null,\"foo\":[]}", "pong"},
    {"10.7", "{\"connect\":{}}", "pong"},
    {"10.7", "{\"id\":0,\"connect\":{}}", "pong"},
    {"1.4", "{\"publish\":{\"channel\":\"a\",\"data\":1}}", "pong"},

    /* the envelope */
    {"10.2", "{\"connect\":{},\"id\":7}", "connect 7"},
    {"10.18", "{\"id\":1,\"connect\":{}}\r", "connect 1"},
    {"10.20", "{\"id\":3,\"presence_stats\":{\"channel\":\"pres:a\"},\"zzz\":1}",
     "presence_stats 3 channel=pres:a"},
    {"10.24", "{\"id\":4294967295,\"publish\":{\"channel\":\"a\",\"data\":1}}",
     "publish 4294967295 channel=a data=1"},
    {"1.3", "{\"sub_refresh\":{},\"refresh\":{},\"send\":{},\"rpc\":{},\"id\":1}", "rpc 1"},
    {"1.3", "{\"publish\":{},\"unsubscribe\":{},\"id\":1}", "unsubscribe 1"},
    {"1.3", "{\"id\":1,\"connect\":{},\"subscribe\":{\"channel\":\"a\"}}", "connect 1"},
    {"1.3", "{\"id\":1,\"ping\":{},\"history\":{},\"presence\":{}}", "presence 1"},
    {"1.2", "{\"id\":1,\"connect\":null,\"history\":{\"channel\":\"a\"}}", "history 1 channel=a"},
    {"1.2", " { \"id\" : 1 , \"publish\" : { \"channel\" : \"a\" , \"data\" : [ 1 ] } } ",
     "publish 1 channel=a data=[ 1 ]"},
    {"1.2", "{\"\\u0069d\":1,\"re\\u0066resh\":{\"t\\u006fken\":\"x\"}}", "refresh 1 token=x"},

    /* fields: null and "" are absent, unknown ones and what they hold are ignored */
    {"1.2",
     "{\"id\":2,\"subscribe\":{\"channel\":\"a\",\"token\":null,\"recover\":null,\"epoch\":null,"
     "\"offset\":null,\"positioned\":null,\"delta\":null,\"tf\":null,\"flag\":null,"
     "\"type\":null}}",
     "subscribe 2 channel=a"},
    {"1.3", "{\"id\":2,\"subscribe\":{\"channel\":\"\",\"token\":\"\",\"delta\":\"\"}}",
     "subscribe 2"},
    {"1.2", "{\"id\":1,\"connect\":{\"subs\":null,\"data\":null}}", "connect 1 data=null"},
    {"1.2", "{\"id\":1,\"connect\":{\"zzz\":[{\"a\":[]}],\"zzz\":{},\"yyy\":\"\\ud800\"}}",
     "connect 1"},
    {"1.2", "{\"id\":1,\"history\":{\"since\":{\"zzz\":{},\"offset\":18446744073709551615}}}",
     "history 1 since offset=18446744073709551615"},
    {"2.2",
     "{\"id\":1,\"subscribe\":{\"flag\":-9223372036854775808,\"type\":-2147483648,"
     "\"offset\":18446744073709551615}}",
     "subscribe 1 offset=18446744073709551615 flag=-9223372036854775808 type=-2147483648"},
    {"1.2", "{\"id\":1,\"history\":{\"limit\":2147483647}}", "history 1 limit=2147483647"},
    {"1.2", "{\"id\":1,\"publish\":{\"channel\":\"a\\\"\\u00e9\\ud83d\\ude00\\/\",\"data\":1}}",
     "publish 1 channel=a\"\xc3\xa9\xf0\x9f\x98\x80/ data=1"},
    {"1.2",
     "{\"id\":1,\"subscribe\":{\"channel\":\"\\u0061\",\"token\":\"\\u0062\\u0063\","
     "\"epoch\":\"\\u0064\"}}",
     "subscribe 1 channel=a token=bc epoch=d"},

    /* 10.72: payloads are not looked into */
    {"10.70", "{\"id\":1,\"publish\":{\"channel\":\"a\"}}", "publish 1 channel=a"},
    {"10.72", "{\"id\":1,\"publish\":{\"data\":null}}", "publish 1 data=null"},
    {"10.72", "{\"id\":1,\"publish\":{\"data\":\"s\"}}", "publish 1 data=\"s\""},
    {"10.72", "{\"id\":1,\"publish\":{\"data\":\"\"}}", "publish 1 data=\"\""},
    {"10.72", "{\"id\":1,\"publish\":{\"data\":5}}", "publish 1 data=5"},
    {"10.72", "{\"id\":1,\"publish\":{\"data\":[]}}", "publish 1 data=[]"},
    {"10.72", "{\"id\":1,\"publish\":{\"data\":1e400}}", "publish 1 data=1e400"},
    {"10.72", "{\"id\":1,\"publish\":{\"data\":{\"a\":1,\"a\":2}}}",
     "publish 1 data={\"a\":1,\"a\":2}"},
    {"10.72", "{\"id\":1,\"publish\":{\"data\":\"\\u2028\"}}", "publish 1 data=\"\\u2028\""},
    {"10.72", "{\"id\":1,\"publish\":{\"data\":[\"\\ud800\", \"\\/\", -0.10 ]}}",
     "publish 1 data=[\"\\ud800\", \"\\/\", -0.10 ]"},
};

/* Parses the first len bytes of line with nothing readable behind them, a scratch of exactly len
 * bytes, and dumps it. Gives what the parser did. */
static int parse(const char *line, size_t len, uint32_t token_count)
{
    char *copy = guard_copy(line, len), *scratch = guard_copy(NULL, len);
    struct command c;
    int r = command_json_parse(&c, copy, len, scratch, len, tokens, token_count);
    if (r == 0) dump_command(&c);
    guard_free(copy, len);
    guard_free(scratch, len);
    return r;
}

static void test_commands(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(commands); i++) {
        const char *line = commands[i].line;
        size_t len = strlen(line), whole = (size_t)(strrchr(line, '}') - line) + 1;
        for (size_t cut = 0; cut < whole; cut++)
            assert_int_equal(parse(line, cut, COMMAND_TOKENS), -1);
        if (parse(line, len, COMMAND_TOKENS) != 0 || strcmp(dump, commands[i].want) != 0)
            fail_msg("%s: %s\ngave: %s\nnot:  %s", commands[i].section, line, dump,
                     commands[i].want);
    }
}

static const struct {
    const char *section, *line;
} bad[] = {
    {"10.13", "{\"id\":1,\"connect\":{}"},
    {"10.13", "hello"},
    {"10.13", "{\"id\":1,\"connect\":{},}"},
    {"10.13", "{\"id\":1,\"publish\":{\"data\":tru}}"},
    {"10.13", "{\"id\":1,\"publish\":{\"data\":[1 2]}}"},
    {"10.13", "{\"id\":1,\"publish\":{\"data\":\"\xff\"}}"},
    {"10.15", ""},
    {"10.16", "\n"},
    {"10.16", "\r"},
    {"1.2", "{\"id\":1,\"connect\":{}}\n{}"},
    {"1.2", "{\"id\":1,\"connect\":{}}{}"},
    {"1.2", "{\"id\":1,\"connect\":{}} 1"},
    {"1.2", "[]"},
    {"1.2", "null"},
    {"1.2", "5"},
    {"1.2", "\"\""},
    {"1.2", "[{\"id\":1,\"connect\":{}}]"},

    /* id */
    {"10.22", "{\"id\":3}"},
    {"10.22", "{\"id\":3,\"connect\":null}"},
    {"10.21", "{\"id\":3,\"foo\":{}}"},
    {"2.10", "{\"ping\":{},\"id\":9}"},
    {"10.23", "{\"id\":\"3\",\"publish\":{\"channel\":\"a\",\"data\":1}}"},
    {"10.24", "{\"id\":4294967296,\"publish\":{}}"},
    {"1.3", "{\"id\":18446744073709551617,\"publish\":{}}"},
    {"1.3", "{\"id\":1e400,\"publish\":{}}"},
    {"1.3", "{\"id\":-1,\"publish\":{}}"},
    {"1.3", "{\"id\":1.5,\"publish\":{}}"},
    {"1.3", "{\"id\":0.5,\"send\":{}}"},
    {"1.3", "{\"id\":true,\"publish\":{}}"},
    {"1.3", "{\"id\":[1],\"publish\":{}}"},
    {"1.3", "{\"id\":{},\"publish\":{}}"},
    {"1.3", "{\"id\":1,\"ID\":2}"},
    {"1.3", "{\"id\":1,\"Connect\":{}}"},
    {"1.3", "{\"id\":1,\"connect\\u0000\":{}}"},

    /* there twice */
    {"1.3", "{\"id\":1,\"connect\":{},\"id\":2}"},
    {"1.3", "{\"id\":1,\"connect\":{},\"i\\u0064\":1}"},
    {"1.3", "{\"id\":null,\"id\":1,\"connect\":{}}"},
    {"1.3", "{\"id\":1,\"publish\":{},\"publish\":{}}"},
    {"1.3", "{\"id\":1,\"publish\":{\"channel\":\"a\",\"channel\":\"b\"}}"},
    {"1.3", "{\"id\":1,\"publish\":{\"data\":1,\"\\u0064ata\":2}}"},
    {"1.3", "{\"id\":1,\"history\":{\"since\":{\"offset\":1,\"offset\":1}}}"},

    /* wrong types */
    {"1.2", "{\"id\":1,\"connect\":5}"},
    {"1.2", "{\"id\":1,\"connect\":[]}"},
    {"1.2", "{\"id\":1,\"connect\":\"\"}"},
    {"1.2", "{\"connect\":false}"},
    {"1.2", "{\"id\":1,\"connect\":{},\"publish\":1}"},
    {"1.2", "{\"id\":1,\"connect\":{\"token\":1}}"},
    {"1.2", "{\"id\":1,\"connect\":{\"token\":{}}}"},
    {"1.2", "{\"id\":1,\"connect\":{\"subs\":[]}}"},
    {"1.2", "{\"id\":1,\"connect\":{\"subs\":\"a\"}}"},
    {"1.2", "{\"id\":1,\"connect\":{\"name\":[]}}"},
    {"1.2", "{\"id\":1,\"connect\":{\"version\":1}}"},
    {"1.2", "{\"id\":1,\"subscribe\":{\"channel\":1}}"},
    {"1.2", "{\"id\":1,\"subscribe\":{\"channel\":[\"a\"]}}"},
    {"1.2", "{\"id\":1,\"subscribe\":{\"channel\":\"\\ud800\"}}"},
    {"1.2", "{\"id\":1,\"subscribe\":{\"recover\":1}}"},
    {"1.2", "{\"id\":1,\"subscribe\":{\"recover\":\"true\"}}"},
    {"1.2", "{\"id\":1,\"subscribe\":{\"epoch\":5}}"},
    {"1.2", "{\"id\":1,\"subscribe\":{\"offset\":-1}}"},
    {"1.2", "{\"id\":1,\"subscribe\":{\"offset\":1.5}}"},
    {"1.2", "{\"id\":1,\"subscribe\":{\"offset\":\"1\"}}"},
    {"1.2", "{\"id\":1,\"subscribe\":{\"offset\":18446744073709551616}}"},
    {"1.2", "{\"id\":1,\"subscribe\":{\"positioned\":0}}"},
    {"1.2", "{\"id\":1,\"subscribe\":{\"recoverable\":{}}}"},
    {"1.2", "{\"id\":1,\"subscribe\":{\"join_leave\":[]}}"},
    {"1.2", "{\"id\":1,\"subscribe\":{\"delta\":true}}"},
    {"1.2", "{\"id\":1,\"subscribe\":{\"tf\":[]}}"},
    {"1.2", "{\"id\":1,\"subscribe\":{\"tf\":1}}"},
    {"1.2", "{\"id\":1,\"subscribe\":{\"flag\":9223372036854775808}}"},
    {"1.2", "{\"id\":1,\"subscribe\":{\"type\":2147483648}}"},
    {"1.2", "{\"id\":1,\"publish\":{\"type\":-2147483649}}"},
    {"1.2", "{\"id\":1,\"unsubscribe\":{\"channel\":{}}}"},
    {"1.2", "{\"id\":1,\"presence\":{\"channel\":0}}"},
    {"1.2", "{\"id\":1,\"presence_stats\":{\"channel\":true}}"},
    {"1.2", "{\"id\":1,\"history\":{\"limit\":0.5}}"},
    {"1.2", "{\"id\":1,\"history\":{\"since\":5}}"},
    {"1.2", "{\"id\":1,\"history\":{\"since\":[]}}"},
    {"1.2", "{\"id\":1,\"history\":{\"since\":{\"offset\":\"3\"}}}"},
    {"1.2", "{\"id\":1,\"history\":{\"since\":{\"epoch\":{}}}}"},
    {"1.2", "{\"id\":1,\"history\":{\"reverse\":1}}"},
    {"1.2", "{\"id\":1,\"rpc\":{\"method\":null,\"method\":\"a\"}}"},
    {"1.2", "{\"id\":1,\"rpc\":{\"method\":[]}}"},
    {"1.2", "{\"id\":1,\"refresh\":{\"token\":1}}"},
    {"1.2", "{\"id\":1,\"sub_refresh\":{\"token\":[]}}"},
    {"1.2", "{\"send\":[]}"},
    {"1.4", "{\"publish\":{\"channel\":1}}"}, /* no id, and no pong either */
};

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        for (size_t cut = 0; cut <= strlen(bad[i].line); cut++)
            if (parse(bad[i].line, cut, COMMAND_TOKENS) != -1 && cut == strlen(bad[i].line))
                fail_msg("%s: %s\nis taken as %s", bad[i].section, bad[i].line, dump);
}

/* A NUL byte is one like any other in a text, and no end of a line. */
static void test_nul(void **state)
{
    (void)state;
    static const char line[] = "{\"id\":1,\"subscribe\":{\"channel\":\"a\\u0000b\"}}\0";
    char scratch[64];
    struct command c;
    assert_int_equal(command_json_parse(&c, line, sizeof line - 2, scratch, sizeof scratch, tokens,
                                        COMMAND_TOKENS),
                     0);
    assert_int_equal(c.channel.len, 3);
    assert_memory_equal(c.channel.p, "a\0b", 3);
    assert_int_equal(parse(line, sizeof line - 1, COMMAND_TOKENS), -1);
}

/* A payload of any size is one token, wherever it stands; a line of too many members is refused. */
static void test_storage(void **state)
{
    (void)state;
    static char line[300000];
    static const char *const around[][2] = {
        {"{\"id\":1,\"publish\":{\"channel\":\"a\",\"data\":[", "0]}}"},
        {"{\"id\":1,\"zzz\":[", "0],\"publish\":{\"channel\":\"a\",\"data\":[0]}}"},
        {"{\"id\":1,\"publish\":{\"zzz\":[", "0],\"channel\":\"a\",\"data\":[0]}}"},
        {"{\"id\":1,\"publish\":{", "\"channel\":\"a\",\"data\":[0]}}"},
    };
    for (size_t i = 0; i < COUNT(around); i++) {
        size_t len = (size_t)sprintf(line, "%s", around[i][0]);
        for (int n = 0; n < 20000; n++)
            len += (size_t)sprintf(line + len, i == 3 ? "\"z\":0," : "0,");
        len += (size_t)sprintf(line + len, "%s", around[i][1]);
        assert_int_equal(parse(line, len, COMMAND_TOKENS), i == 3 ? -1 : 0);
    }
}

/* Whatever storage is missing, the answer is -1, never a command with a field cut off. */
static void test_small_storage(void **state)
{
    (void)state;
    static const char line[] = "{\"history\":{\"channel\":\"\\u0061bc\",\"since\":{\"epoch\":"
                               "\"\\u0064ef\",\"offset\":3}},\"id\":7,\"zzz\":[1,2]}";
    size_t len = sizeof line - 1;
    uint32_t enough = 0;
    for (uint32_t n = 0; n < 40; n++) {
        int r = parse(line, len, n);
        if (r == 0 && enough == 0) enough = n;
        assert_int_equal(r, enough > 0 ? 0 : -1);
        if (r == 0) assert_string_equal(dump, "history 7 channel=abc since offset=3 epoch=def");
    }
    assert_in_range(enough, 12, 25);
    for (size_t n = 0; n < 8; n++) {
        char *scratch = guard_copy(NULL, n);
        struct command c;
        int r = command_json_parse(&c, line, len, scratch, n, tokens, COMMAND_TOKENS);
        assert_int_equal(r, n < 6 ? -1 : 0);
        guard_free(scratch, n);
    }
}

/* ---- connect's subs ---- */

static const struct {
    const char *subs, *want;
} subs[] = {
    {"null", "end"},
    {"{}", "end"},
    {"{ }", "end"},
    {"{\"ss\":{\"recover\":true,\"offset\":1,\"epoch\":\"0e69feb8\"}}",
     "ss recover offset=1 epoch=0e69feb8 end"},
    {" { \"a\" : { } , \"b\" : { \"offset\" : 2 } } ", "a b offset=2 end"},
    {"{\"a\":null,\"b\":{\"epoch\":\"\",\"recover\":null}}", "a b end"},
    {"{\"a\":{\"recover\":true},\"a\":{\"offset\":1}}", "a recover a offset=1 end"},
    {"{\"a}\\\"{,\":{\"zzz\":[{\"}\":\"]\"}],\"offset\":7},\"\\u0063\":{\"epoch\":\"\\u0064\"}}",
     "a}\"{, offset=7 c epoch=d end"},
    {"{\"a\":{\"offset\":18446744073709551615}}", "a offset=18446744073709551615 end"},
    {"{\"\":{}}", " end"},
    {"{\"\\\\\":{},\"\\\\\\\"\":{}}", "\\ \\\" end"},
    {"{\"a\":{},\"b\":5,\"c\":{}}", "a bad"},
    {"{\"a\":\"b\"}", "bad"},
    {"{\"a\":[{}]}", "bad"},
    {"{\"a\":true}", "bad"},
    {"{\"a\":{\"offset\":-1}}", "bad"},
    {"{\"a\":{\"offset\":1,\"offset\":1}}", "bad"},
    {"{\"a\":{\"epoch\":1}}", "bad"},
    {"{\"a\":{\"recover\":\"\"}}", "bad"},
    {"{\"\\ud800\":{}}", "bad"},
};

/* Walks subs and writes down what comes. */
static void dump_subs(const struct command *c)
{
    size_t at = 0, len = c->subs.len;
    char *scratch = guard_copy(NULL, len);
    struct position position;
    struct text channel;
    bool recover;
    int more = 1;
    dump_out = (struct json_out){.p = dump, .cap = sizeof dump - 1};
    for (int n = 0; more > 0 && n < 1000; n++) {
        more = command_json_sub(c, &at, &channel, &recover, &position, scratch, len);
        if (more <= 0) break;
        if (n > 0) json_puts(&dump_out, " ");
        json_put(&dump_out, channel.p, channel.len);
        if (recover) dump_word("recover");
        dump_position(position);
    }
    dump_word(more == 0 ? "end" : more == -1 ? "bad" : "endless");
    if (dump_out.len == 3 && at > 0 && more == 0) memcpy(dump, " end", dump_out.len = 4);
    dump[dump_out.len] = 0;
    guard_free(scratch, len);
}

static void test_subs(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(subs); i++) {
        char text[512];
        char scratch[512];
        size_t len = (size_t)snprintf(text, sizeof text, "{\"id\":1,\"connect\":{\"subs\":%s}}",
                                      subs[i].subs);
        char *line = guard_copy(text, len);
        struct command c;
        int r = command_json_parse(&c, line, len, scratch, sizeof scratch, tokens, COMMAND_TOKENS);
        assert_int_equal(r, 0);
        dump_subs(&c);
        if (strcmp(dump, subs[i].want) != 0)
            fail_msg("%s\ngave: %s\nnot:  %s", subs[i].subs, dump, subs[i].want);
        guard_free(line, len);
    }
}

/* The walk reads nothing beyond the text whatever is in it, also what the parser would refuse. */
static void test_subs_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(subs); i++)
        for (size_t cut = 1; cut < strlen(subs[i].subs); cut++) {
            char *copy = guard_copy(subs[i].subs, cut);
            struct command c = {.subs = {copy, cut}};
            dump_subs(&c);
            assert_null(strstr(dump, "endless"));
            guard_free(copy, cut);
        }
}

static void test_method_names(void **state)
{
    (void)state;
    static const char *const names[] = {
        "",        "connect",  "subscribe",      "unsubscribe",
        "publish", "presence", "presence_stats", "history",
        "rpc",     "send",     "refresh",        "sub_refresh",
    };
    for (size_t i = 0; i < COUNT(names); i++)
        assert_string_equal(command_method_name((enum command_method)i), names[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands),      cmocka_unit_test(test_bad),
        cmocka_unit_test(test_nul),           cmocka_unit_test(test_storage),
        cmocka_unit_test(test_small_storage), cmocka_unit_test(test_subs),
        cmocka_unit_test(test_subs_cut),      cmocka_unit_test(test_method_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
