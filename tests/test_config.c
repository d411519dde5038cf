/* The option table, and the way from file, environment and flags to a struct config. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "config_table.h"

#define SECRET "0123456789abcdef0123456789abcdef"
#define ARGS_MAX 16

static char root[] = "/tmp/roost-config-XXXXXX";

static int setup(void **state)
{
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int teardown(void **state)
{
    (void)state;
    static const char *const names[] = {"c.json", "secret", "empty", "cert.pem", "key.pem"};
    char path[256];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", root, names[i]);
        unlink(path);
    }
    return rmdir(root);
}

/* ---- values ---- */

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms; /* -1: refused */
    } rows[] = {
        {"0", 0},
        {"0s", 0},
        {"25s", 25000},
        {"300ms", 300},
        {"720h", 2592000000},
        {"1h30m", 5400000},
        {"1.5h", 5400000},
        {"0.25s", 250},
        {"2d", 172800000},
        {"1m1s1ms", 61001},
        {"0.001s", 1},
        {"1.0000000009s", 1000},
        {"", -1},
        {"25", -1},
        {"s", -1},
        {"-1s", -1},
        {"1 s", -1},
        {"25S", -1},
        {"1.s", -1},
        {".5s", -1},
        {"1us", -1},
        {"1s ", -1},
        {"1s2", -1},
        {"1.5", -1},
        {"1e3s", -1},
        {"99999999999999999999s", -1},
        {"9223372036854775807h", -1},
        {"9223372036854775807ms1ms", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t ms = -1;
        const char *why = config_parse_duration(&ms, rows[i].text);
        if (!!why != (rows[i].ms == -1))
            fail_msg("%s: %s", rows[i].text, why ? why : "taken");
        assert_int_equal(ms, rows[i].ms);
    }
}

static void sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes;
    } rows[] = {
        {"0", 0},
        {"131072", 131072},
        {"128KiB", 131072},
        {"128kib", 131072},
        {"1 MiB", 1048576},
        {"64GiB", 68719476736},
        {"5B", 5},
        {"", -1},
        {"KiB", -1},
        {"1KB", -1},
        {"1k", -1},
        {"-1", -1},
        {"1.5MiB", -1},
        {"1MiB2", -1},
        {"99999999999999999999", -1},
        {"9223372036854775807KiB", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t bytes = -1;
        const char *why = config_parse_size(&bytes, rows[i].text);
        if (!!why != (rows[i].bytes == -1))
            fail_msg("%s: %s", rows[i].text, why ? why : "taken");
        assert_int_equal(bytes, rows[i].bytes);
    }
}

static void duration_text(void **state)
{
    (void)state;
    static const struct {
        int64_t ms;
        const char *text;
    } rows[] = {{0, "0s"},        {1, "1ms"},      {1000, "1s"},    {25000, "25s"},
                {90000, "90s"},   {60000, "1m"},   {3600000, "1h"}, {172800000, "48h"},
                {5400000, "90m"}, {1500, "1500ms"}};
    char out[CONFIG_NUMBER_MAX];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t back;
        assert_string_equal(config_format_duration(out, rows[i].ms), rows[i].text);
        assert_null(config_parse_duration(&back, out));
        assert_int_equal(back, rows[i].ms);
    }
}

static void urls(void **state)
{
    (void)state;
    static const struct {
        const char *text, *shown; /* shown NULL: refused */
        bool loopback;
    } rows[] = {
        {"ws://127.0.0.1:8080", "ws://127.0.0.1:8080", true},
        {"ws://127.9.9.9:1", "ws://127.9.9.9:1", true},
        {"wss://0.0.0.0:8443", "wss://0.0.0.0:8443", false},
        {"wss://[::]:443", "wss://[::]:443", false},
        {"ws://[::1]:0", "ws://[::1]:0", true},
        {"ws://[2001:db8::5]:65535/", "ws://[2001:db8::5]:65535", false},
        {"ws://localhost:80", "ws://127.0.0.1:80", true},
        {"ws://LOCALHOST:80", "ws://127.0.0.1:80", true},
        {"unix:/run/roost.sock", "unix:/run/roost.sock", true},
        {"unix:///run/roost.sock", "unix:/run/roost.sock", true},
        {"unix:roost.sock", "unix:roost.sock", true},
        {"", NULL, false},
        {"unix:", NULL, false},
        {"127.0.0.1:80", NULL, false},
        {"http://127.0.0.1:80", NULL, false},
        {"WS://127.0.0.1:80", NULL, false},
        {"ws://127.0.0.1", NULL, false},
        {"ws://127.0.0.1:", NULL, false},
        {"ws://127.0.0.1:65536", NULL, false},
        {"ws://127.0.0.1:99999999999999999999", NULL, false},
        {"ws://127.0.0.1:-1", NULL, false},
        {"ws://127.0.0.1:80/path", NULL, false},
        {"ws://127.0.0.1:80?a", NULL, false},
        {"ws://127.0.0:80", NULL, false},
        {"ws://256.0.0.1:80", NULL, false},
        {"ws://example.com:80", NULL, false},
        {"ws://:80", NULL, false},
        {"ws://*:80", NULL, false},
        {"ws://::1:80", NULL, false},
        {"ws://[::1:80", NULL, false},
        {"ws://[::1]80", NULL, false},
        {"ws://[::1]", NULL, false},
        {"ws://[127.0.0.1]:80", NULL, false},
        {"ws://[fe80::1%eth0]:80", NULL, false},
        {"ws://[]:80", NULL, false},
        {"ws://user@127.0.0.1:80", NULL, false},
        {"ws://111111111111111111111111111111111111111111111111111111111111111111111:80", NULL,
         false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct config_url url;
        char out[CONFIG_URL_MAX];
        const char *why = config_parse_url(&url, rows[i].text);
        if (!!why != !rows[i].shown)
            fail_msg("%s: %s", rows[i].text, why ? why : "taken");
        if (why)
            continue;
        assert_string_equal(config_url_format(out, &url), rows[i].shown);
        assert_int_equal(url.loopback, rows[i].loopback);
    }
}

static void long_unix_path(void **state)
{
    (void)state;
    char text[5 + CONFIG_PATH_MAX + 1] = "unix:";
    struct config_url url;
    memset(text + 5, 'a', CONFIG_PATH_MAX);
    assert_non_null(config_parse_url(&url, text));
    text[5 + CONFIG_PATH_MAX - 1] = '\0';
    assert_null(config_parse_url(&url, text));
}

/* ---- the table itself ---- */

static void table_is_sound(void **state)
{
    (void)state;
    char why[OPTION_WHY_MAX], env[OPTION_NAME_MAX];
    struct config c;
    memset(&c, 0, sizeof c);
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        assert_true(strlen(o->key) + sizeof "ROOST_" < OPTION_NAME_MAX);
        assert_ptr_equal(option_find(o->key), o); /* no key twice */
        option_env(env, o);
        assert_ptr_equal(option_find_env(env, strlen(env)),
                         o); /* and no two that share a variable */
        if (o->flag)
            assert_ptr_equal(option_find_flag(o->flag, strlen(o->flag)), o);
        assert_ptr_equal(option_find_flag(o->key, strlen(o->key)), o);
        assert_false(option_is_section(o->key)); /* a key is a value or a section */
        assert_true((o->field == OPTION_NO_FIELD) == (o->group == GROUP_PLANNED));
        assert_true(o->help || o->group == GROUP_PLANNED);
        assert_true(o->kind != OPTION_CHOICE || o->choices);
        if (o->initial && !option_add(&c, o, o->initial, strlen(o->initial), why))
            fail_msg("%s: %s", o->key, why);
    }
    config_free(&c);
}

/* protocol.md appendix B and section 6.2, the flags of design.md section 2, and what the code
 * reads. */
static void known_names(void **state)
{
    (void)state;
    static const char *const keys[] = {
        "http_server.address",
        "http_server.port",
        "http_server.internal_address",
        "http_server.internal_port",
        "listen",
        "http_server.tls.enabled",
        "http_server.tls.cert_pem",
        "http_server.tls.key_pem",
        "http_server.tls.client_ca_pem",
        "log.level",
        "log.file",
        "client.allowed_origins",
        "client.token.hmac_secret_key",
        "client.token.hmac_previous_secret_key",
        "client.token.hmac_previous_secret_key_valid_until",
        "client.token.audience",
        "client.token.issuer",
        "client.token.user_id_claim",
        "client.subscription_token.enabled",
        "client.subscription_token.hmac_secret_key",
        "client.subscription_token.hmac_previous_secret_key",
        "client.subscription_token.hmac_previous_secret_key_valid_until",
        "client.subscription_token.audience",
        "client.subscription_token.issuer",
        "client.subscription_token.user_id_claim",
        "client.allow_anonymous_connect_without_token",
        "client.disallow_anonymous_connection_tokens",
        "client.insecure",
        "client.ping_interval",
        "client.pong_timeout",
        "client.expired_close_delay",
        "client.expired_sub_close_delay",
        "client.stale_close_delay",
        "client.channel_limit",
        "client.queue_max_size",
        "client.connection_limit",
        "client.user_connection_limit",
        "client.connection_rate_limit",
        "client.connect_include_server_time",
        "client.history_max_publication_limit",
        "client.recovery_max_publication_limit",
        "client.channel_position_check_delay",
        "client.presence_update_interval",
        "client.user_id_http_header",
        "client.subscribe_to_user_personal_channel.enabled",
        "client.subscribe_to_user_personal_channel.personal_channel_namespace",
        "client.subscribe_to_user_personal_channel.single_connection",
        "channel.namespaces",
        "channel.history_meta_ttl",
        "channel.max_length",
        "channel.private_prefix",
        "channel.namespace_boundary",
        "channel.user_boundary",
        "channel.user_separator",
        "http_api.disabled",
        "http_api.handler_prefix",
        "http_api.key",
        "http_api.error_mode",
        "http_api.insecure",
        "websocket.disabled",
        "websocket.handler_prefix",
        "websocket.compression",
        "websocket.compression_min_size",
        "websocket.compression_level",
        "websocket.message_size_limit",
        "websocket.write_timeout",
        "uni_sse.enabled",
        "uni_sse.handler_prefix",
        "uni_http_stream.enabled",
        "uni_http_stream.handler_prefix",
        "uni_websocket.enabled",
        "uni_websocket.handler_prefix",
        "admin.enabled",
        "admin.password",
        "admin.handler_prefix",
        "prometheus.enabled",
        "prometheus.handler_prefix",
        "health.enabled",
        "health.handler_prefix",
        "engine.type",
        "engine.redis.address",
        "engine.redis.prefix",
        "engine.redis.user",
        "engine.redis.password",
        "engine.redis.db",
        "engine.redis.tls.enabled",
        "node.name",
        "shutdown.timeout",
        "pid_file",
    };
    static const char *const namespaces[] = {
        "presence",
        "join_leave",
        "force_push_join_leave",
        "history_size",
        "history_ttl",
        "history_meta_ttl",
        "force_positioning",
        "allow_positioning",
        "force_recovery",
        "allow_recovery",
        "force_recovery_mode",
        "allowed_delta_types",
        "allow_tags_filter",
        "allow_subscribe_for_client",
        "allow_subscribe_for_anonymous",
        "allow_publish_for_client",
        "allow_publish_for_subscriber",
        "allow_publish_for_anonymous",
        "allow_presence_for_client",
        "allow_presence_for_subscriber",
        "allow_presence_for_anonymous",
        "allow_history_for_client",
        "allow_history_for_subscriber",
        "allow_history_for_anonymous",
        "allow_user_limited_channels",
        "channel_regex",
        "publication_data_format",
    };
    static const char *const flags[] = {
        "config",
        "token-query",
        "trace",
        "trace-sample",
        "listen",
        "cert",
        "key",
        "workers",
        "echo",
        "max-message",
        "admin-listen",
        "dev",
        "allowed-origin",
        "token-secret-file",
        "anonymous",
        "ping-interval",
        "max-connection-age",
    };
    char key[OPTION_NAME_MAX];
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!option_find(keys[i]))
            fail_msg("%s is not in the table", keys[i]);
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (!option_find_flag(flags[i], strlen(flags[i])))
            fail_msg("--%s is missing", flags[i]);
    for (size_t i = 0; i < sizeof namespaces / sizeof *namespaces; i++) {
        snprintf(key, sizeof key, "channel.without_namespace.%s", namespaces[i]);
        if (!option_find(key))
            fail_msg("%s is not in the table", key);
        assert_string_equal(option_nearest_namespace_key(namespaces[i]), namespaces[i]);
    }
}

/* ---- loading ---- */

struct load {
    struct config c;
    struct config_report report;
    enum config_outcome outcome;
    char *text; /* the report as printed */
};

static struct load load(const char *file, char *const *environment, char *const *flags)
{
    struct load l = {0};
    char path[256], *none[] = {NULL};
    char *argv[ARGS_MAX] = {"serve"};
    int argc = 1;
    size_t len;
    if (file) {
        write_file("c.json", file);
        snprintf(path, sizeof path, "%s/c.json", root);
        argv[argc++] = "--config";
        argv[argc++] = path;
    }
    for (; flags && *flags; flags++)
        argv[argc++] = *flags;
    l.outcome = config_load(&l.c, argc, argv, environment ? environment : none, &l.report);
    FILE *f = open_memstream(&l.text, &len);
    config_report_print(&l.report, f);
    fclose(f);
    return l;
}

static void unload(struct load *l)
{
    config_free(&l->c);
    config_report_free(&l->report);
    free(l->text);
}

#define FLAGS(...) ((char *[]){__VA_ARGS__, NULL})

static void defaults(void **state)
{
    (void)state;
    char url[CONFIG_URL_MAX];
    struct load l = load(NULL, NULL, FLAGS("--anonymous"));
    if (l.outcome != CONFIG_LOADED)
        fail_msg("%s", l.text);
    assert_string_equal(l.text, "");
    assert_int_equal(l.c.listen.count, 1);
    assert_string_equal(config_url_format(url, &l.c.listen.items[0]), "ws://127.0.0.1:8080");
    assert_true(l.c.anonymous);
    assert_int_equal(l.c.max_message_bytes, 131072);
    assert_int_equal(l.c.ping_interval_ms, 25000);
    assert_int_equal(l.c.pong_timeout_ms, 8000);
    assert_int_equal(l.c.connection_max_age_ms, 3600000);
    assert_int_equal(l.c.handshake_timeout_ms, 5000);
    assert_int_equal(l.c.queue_max_bytes, 1 << 20);
    assert_int_equal(l.c.raw_slow_policy, CONFIG_SLOW_CLOSE);
    assert_int_equal(l.c.log_level, LOG_INFO);
    assert_string_equal(l.c.token_user_id_claim, "sub");
    assert_string_equal(l.c.tls_cert_file, "");
    unload(&l);
}

static void dev_defaults(void **state)
{
    (void)state;
    struct load l = load(NULL, NULL, FLAGS("--dev"));
    if (l.outcome != CONFIG_LOADED)
        fail_msg("%s", l.text);
    assert_int_equal(l.c.listen.count, 2);
    assert_int_equal(l.c.listen.items[0].scheme, CONFIG_WSS);
    assert_int_equal(l.c.listen.items[0].port, 8443);
    assert_int_equal(l.c.listen.items[1].port, 8080);
    assert_string_equal(l.c.allowed_origins.items[0], "http://localhost");
    assert_int_equal(l.c.token_secret.len, 0); /* serve --dev puts its own there */
    unload(&l);
}

/* file < environment < flags, lists replaced whole, not merged. */
static void layers(void **state)
{
    (void)state;
    static const char file[] =
        "{\"client\": {\"ping_interval\": \"10s\", \"pong_timeout\": \"4s\",\n"
        "  \"allowed_origins\": [\"https://file.test\", \"https://b.test\"],\n"
        "  \"allow_anonymous_connect_without_token\": true},\n"
        " \"websocket.message_size_limit\": \"1MiB\", \"workers\": 2,\n"
        " \"listen\": [\"ws://127.0.0.1:1\"], \"prometheus\": {\"enabled\": false},\n"
        " \"log\": {\"level\": \"debug\"}, \"raw\": {\"slow_policy\": \"keep-latest\"}}";
    char *environment[] = {"ROOST_CLIENT_PONG_TIMEOUT=3s",
                           "ROOST_WORKERS=3",
                           "PATH=/bin",
                           "ROOST_CLIENT_ALLOWED_ORIGINS=https://x.test,https://y.test z*",
                           "ROOST_CLIENT_PING_INTERVAL=",
                           "ROOST_PORT=tcp://10.0.0.1:80",
                           "ROOST_SERVICE_HOST=10.0.0.1",
                           "ROOST_TOKEN=abc",
                           NULL};
    struct load l =
        load(file, environment,
             FLAGS("--workers=4", "--listen", "ws://127.0.0.1:2", "--listen", "unix:/tmp/x",
                   "--echo", "--client.insecure=no", "--max-message", "64MiB"));
    if (l.outcome != CONFIG_LOADED)
        fail_msg("%s", l.text);
    assert_string_equal(l.text, "");
    assert_int_equal(l.c.ping_interval_ms, 10000);
    assert_int_equal(l.c.pong_timeout_ms, 3000);
    assert_int_equal(l.c.workers, 4);
    assert_int_equal(l.c.max_message_bytes, 64 << 20);
    assert_int_equal(l.c.listen.count, 2);
    assert_int_equal(l.c.listen.items[0].port, 2);
    assert_string_equal(l.c.listen.items[1].path, "/tmp/x");
    assert_int_equal(l.c.allowed_origins.count, 3);
    assert_string_equal(l.c.allowed_origins.items[2], "z*");
    assert_true(l.c.echo);
    assert_true(l.c.anonymous);
    assert_false(l.c.insecure);
    assert_false(l.c.metrics);
    assert_int_equal(l.c.log_level, LOG_DEBUG);
    assert_int_equal(l.c.raw_slow_policy, CONFIG_SLOW_KEEP_LATEST);
    unload(&l);
}

static void secrets(void **state)
{
    (void)state;
    char path[256], file[1024], key_env[1024];
    snprintf(path, sizeof path, "%s/secret", root);
    write_file("secret", "from-a-file-0123456789-0123456789\r\n");
    snprintf(
        file, sizeof file,
        "{\"client\":{\"token\":{\"hmac_secret_key\":\"%s\",\n"
        "\"hmac_previous_secret_key\":\"%sold\",\n"
        "\"hmac_previous_secret_key_valid_until\":1800000000,\n"
        "\"keys\":[{\"kid\":\"a\",\"secret\":\"%sa\"},{\"kid\":\"b\",\"secret_file\":\"%s\"}]}},"
        "\"http_api\":{\"key\":\"%s\"}}",
        SECRET, SECRET, SECRET, path, SECRET);
    struct load l = load(file, NULL, NULL);
    if (l.outcome != CONFIG_LOADED)
        fail_msg("%s", l.text);
    assert_int_equal(l.c.token_secret.len, 32);
    assert_memory_equal(l.c.token_secret.bytes, SECRET, 33);
    assert_int_equal(l.c.token_previous.len, 35);
    assert_int_equal(l.c.token_previous_until_s, 1800000000);
    assert_int_equal(l.c.token_keys.count, 2);
    assert_string_equal(l.c.token_keys.items[1].kid, "b");
    assert_int_equal(l.c.token_keys.items[1].secret.len, 33);
    assert_memory_equal(l.c.token_keys.items[1].secret.bytes, "from-a-file", 11);
    assert_int_equal(l.c.api_key.len, 32);
    unload(&l);

    /* a flag's file wins over the file's value, and a variable's list over the file's */
    snprintf(key_env, sizeof key_env, "ROOST_CLIENT_TOKEN_KEYS=[{\"kid\":\"c\",\"secret\":\"%s\"}]",
             SECRET);
    char *environment[] = {key_env, NULL};
    l = load(file, environment, FLAGS("--token-secret-file", path));
    if (l.outcome != CONFIG_LOADED)
        fail_msg("%s", l.text);
    assert_int_equal(l.c.token_secret.len, 33);
    assert_int_equal(l.c.token_keys.count, 1);
    assert_string_equal(l.c.token_keys.items[0].kid, "c");
    unload(&l);
}

static void centrifugo_listener(void **state)
{
    (void)state;
    static const char file[] = "{\"http_server\":{\"port\":9001,\"internal_address\":\"::1\","
                               "\"internal_port\":9002},\"client\":{\"insecure\":true}}";
    char url[CONFIG_URL_MAX];
    struct load l = load(file, NULL, NULL);
    if (l.outcome != CONFIG_LOADED)
        fail_msg("%s", l.text);
    assert_string_equal(config_url_format(url, &l.c.listen.items[0]), "ws://0.0.0.0:9001");
    assert_string_equal(config_url_format(url, &l.c.admin_listen.items[0]), "ws://[::1]:9002");
    assert_non_null(strstr(l.text, "warning")); /* insecure, and open to the network */
    unload(&l);
}

/* Each row is wrong (or warned of) in one way; the report must have the text. C stands for the
 * configuration file's name. */
struct wrong {
    const char *file, *environment, *flags[6];
    const char *said;
    bool is_warning;
};

#define OK_TOKEN "\"client\":{\"token\":{\"hmac_secret_key\":\"" SECRET "\"}}"
static const struct wrong wrongs[] = {
    /* the text */
    {"{\"a\":1,}", .said = "C:1:8: not valid JSON"},
    {"", .said = "C:1:1: not valid JSON"},
    {"[]", .said = "C:1:1: a configuration is one JSON object"},
    {"{\n  \"é\": 1, \"dev\": 5}", .said = "C:2:18: dev must be true or false"},
    /* names */
    {"{\"client\":{\"ping_intervall\":\"5s\"}}",
     .said = "C:1:12: unknown key client.ping_intervall; did you mean client.ping_interval?"},
    {"{\"ping_interval\":\"5s\"}", .said = "did you mean client.ping_interval?"},
    {"{\"clinet\":{\"insecure\":true}}", .said = "unknown key clinet"},
    {"{\"client\":true}", .said = "C:1:11: client must be an object"},
    {"{\"config\":\"x\"}", .said = "C:1:11: config names this file"},
    {"{\"dev\":true,\"dev\":true}", .said = "C:1:13: two members of the same name"},
    {"{\"log\":{\"level\":\"info\"},\"log.level\":\"info\"}",
     .said = "C:1:37: log.level is given twice, first at C:1:17"},
    {"{\"d\\u0000ev\":true}", .said = "unknown key"},
    {.flags = {"--lisen", "ws://127.0.0.1:1"},
     .said = "--lisen: there is no such option; did you "
             "mean --listen?"},
    {.flags = {"--queue-max-size=5"}, .said = "did you mean --client.queue_max_size?"},
    {.flags = {"stray"}, .said = "stray: what is this for?"},
    {.flags = {"--workers"}, .said = "--workers: its value is missing"},
    {.flags = {"--"}, .said = "--: there is no such option"},
    {.environment = "ROOST_CLIENT_PING_INTERVALL=5s",
     .flags = {"--anonymous"},
     .is_warning = true,
     .said = "ROOST_CLIENT_PING_INTERVALL: there is no such option; the nearest is "
             "ROOST_CLIENT_PING_INTERVAL"},
    /* values */
    {"{\"client\":{\"ping_interval\":25}}",
     .said = "C:1:28: client.ping_interval is \"25\": the unit is missing"},
    {"{\"client\":{\"ping_interval\":null}}",
     .said = "C:1:28: client.ping_interval must be a string"},
    {"{\"workers\":65}", .said = "C:1:12: workers is \"65\": must be between 0 and 64"},
    {"{\"workers\":1.5}", .said = "whole number"},
    {"{\"workers\":-1}", .said = "whole number"},
    {"{\"listen\":\"ws://example.com:80\"}", .said =
                                                 "C:1:11: listen is \"ws://example.com:80\": the "
                                                 "host must be"},
    {"{\"listen\":[\"ws://127.0.0.1:1\",2]}", .said = "C:1:31: listen[1] must be a string"},
    {"{\"log\":{\"level\":\"loud\"}}", .said = "must be one of: error, warn, info, debug"},
    {"{\"log\":{\"file\":\"a\\u0000b\"}}", .said = "NUL"},
    {"{\"websocket\":{\"message_size_limit\":67108865}}", .said = "must be between 1 and 64MiB"},
    {.flags = {"--max-message", "65MiB"},
     .said = "--max-message: websocket.message_size_limit is "
             "\"65MiB\": must be between 1 and 64MiB"},
    {.flags = {"--max-message", "0"}, .said = "must be between"},
    {.flags = {"--dev=maybe"}, .said = "--dev: dev is \"maybe\": must be true or false"},
    {.environment = "ROOST_ECHO=2", .said = "ROOST_ECHO: echo is \"2\": must be true or false"},
    {.environment = "ROOST_CHANNEL_NAMESPACES=[",
     .said = "ROOST_CHANNEL_NAMESPACES: not valid JSON"},
    {.environment = "ROOST_CONFIG=/nonexistent/c.json",
     .said = "/nonexistent/c.json: the configuration can not be read: No such file"},
    {.environment = "ROOST_LISTEN=ws://127.0.0.1:1 nonsense",
     .said = "ROOST_LISTEN: listen is "
             "\"nonsense\""},
    {.flags = {"--trace-sample", "1.5"}, .said = "must be a number from 0 to 1"},
    /* known, not supported yet */
    {"{" OK_TOKEN ",\"websocket\":{\"compression\":true}}", .is_warning = true,
     .said = "websocket.compression is not supported yet"},
    {"{" OK_TOKEN ",\"engine\":{\"redis\":{\"address\":[\"redis://127.0.0.1\"],\"tls\":{"
     "\"enabled\":true}}}}",
     .is_warning = true, .said = "engine.redis.tls.enabled is not supported yet"},
    {"{" OK_TOKEN ",\"channel\":{\"without_namespace\":{\"history_size\":10}}}", .is_warning = true,
     .said = "channel.without_namespace.history_size is not supported yet"},
    {"{" OK_TOKEN ",\"channel\":{\"namespaces\":[{\"name\":\"chat\",\"presence\":true}]}}",
     .is_warning = true, .said = "channel.namespaces[0].presence is not supported yet"},
    {.flags = {"--anonymous", "--trace", "http://127.0.0.1:4318"},
     .is_warning = true,
     .said = "--trace: trace is not supported yet"},
    {"{\"websocket\":{\"compression\":\"much\"}}", .said = "must be true or false"},
    /* namespaces, keys */
    {"{\"channel\":{\"namespaces\":[{\"name\":\"chat\",\"presense\":1}]}}",
     .said = "unknown option \"presense\"; the nearest is presence"},
    {"{\"channel\":{\"namespaces\":[{\"name\":\"a\"}]}}", .said = "two or more letters"},
    {"{\"channel\":{\"namespaces\":[{}]}}", .said = "two or more letters"},
    {"{\"channel\":{\"namespaces\":[{\"name\":\"ab\"},{\"name\":\"ab\"}]}}",
     .said = "\"ab\" is there twice"},
    {"{\"channel\":{\"namespaces\":{}}}", .said = "must be a list of objects"},
    {"{\"channel\":{\"namespaces\":[1]}}", .said = "channel.namespaces[0] must be an object"},
    {"{\"client\":{\"token\":{\"keys\":[{\"kid\":\"a\",\"secret\":\"short\"}]}}}",
     .said = "the secret of \"a\" has 5 bytes and needs 32"},
    {"{\"client\":{\"token\":{\"keys\":[{\"kid\":\"a\"}]}}}",
     .said = "the secret of \"a\" is missing"},
    {"{\"client\":{\"token\":{\"keys\":[{\"secret\":\"" SECRET "\"}]}}}",
     .said = "a key needs its kid"},
    {"{\"client\":{\"token\":{\"keys\":[{\"kid\":\"a\",\"secert\":\"x\"}]}}}",
     .said = "unknown member \"secert\""},
    /* combinations */
    {.said = "openssl rand -hex 32"},
    {"{\"client\":{\"token\":{\"hmac_secret_key\":\"short\"}}}",
     .said = "C:1:39: the token secret has 5 bytes and needs 32"},
    {.flags = {"--token-secret-file", "/nonexistent/s"},
     .said = "--token-secret-file: the file /nonexistent/s can not be read: No such file"},
    {.environment = "ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY_FILE=/dev/null", .said = "is empty"},
    {"{\"client\":{\"token\":{\"hmac_secret_key\":\"" SECRET "\",\"hmac_secret_key_file\":\"x\"}}}",
     .said = "give one of them"},
    {.flags = {"--anonymous", "--listen", "wss://127.0.0.1:1"},
     .said = "--listen: a wss:// listener needs --cert FILE and --key FILE"},
    {.flags = {"--anonymous", "--cert", "/nonexistent/c", "--listen", "wss://127.0.0.1:1"},
     .said = "--cert: a certificate needs its private key"},
    {.flags = {"--anonymous", "--key", "/nonexistent/k"}, .said = "needs its certificate"},
    {"{\"http_server\":{\"tls\":{\"cert_pem\":\"-----BEGIN CERTIFICATE-----\"}}}",
     .said = "must be the name of a PEM file"},
    {.flags = {"--dev", "--listen", "ws://0.0.0.0:80"}, .said = "--dev serves on loopback only"},
    {.flags = {"--anonymous", "--listen", "ws://127.0.0.1:5", "--listen", "ws://localhost:5"},
     .said = "ws://127.0.0.1:5 is listened on already"},
    {.flags = {"--anonymous", "--admin-listen", "ws://127.0.0.1:8080"},
     .said = "ws://127.0.0.1:8080 is listened on already"},
    {.flags = {"--anonymous", "--ping-interval", "5s"},
     .said =
         "--ping-interval: client.pong_timeout (8s) must be less than client.ping_interval (5s)"},
    {"{" OK_TOKEN ",\"http_api\":{\"key\":\"short\"}}", .is_warning = true,
     .said = "the API key has only 5 bytes"},
    {.flags = {"--anonymous", "--allowed-origin", "https://Example.com"},
     .is_warning = true,
     .said = "--allowed-origin: \"https://Example.com\" matches nothing"},
    {.flags = {"--anonymous", "--allowed-origin", "example.com"},
     .is_warning = true,
     .said = "like https://example.com"},
    {.flags = {"--anonymous", "--allowed-origin", "https://a.test/"},
     .is_warning = true,
     .said = "ends after its host and port"},
    {.flags = {"--client.token.hmac_secret_key", SECRET},
     .is_warning = true,
     .said = "seen by every user"},
    {"{\"client\":{\"insecure\":true},\"listen\":[\"ws://0.0.0.0:1\"]}", .is_warning = true,
     .said = "client.insecure: anybody"},
};

/* expand_place replaces a leading or inner "C:" by the file's name. */
static void expand_place(char *out, size_t cap, const char *said)
{
    size_t n = 0;
    for (const char *p = said; *p && n + 1 < cap; p++) {
        bool begins = p == said || p[-1] == ' ';
        if (begins && p[0] == 'C' && p[1] == ':') {
            n += (size_t)snprintf(out + n, cap - n, "%s/c.json", root);
        } else {
            out[n++] = *p;
        }
    }
    out[n] = '\0';
}

static void what_is_wrong_is_said(void **state)
{
    (void)state;
    size_t failed = 0;
    for (size_t i = 0; i < sizeof wrongs / sizeof *wrongs; i++) {
        const struct wrong *w = &wrongs[i];
        char said[512], *environment[] = {(char *)(uintptr_t)w->environment, NULL};
        char *flags[7] = {NULL};
        for (size_t k = 0; k < 6; k++)
            flags[k] = (char *)(uintptr_t)w->flags[k];
        struct load l = load(w->file, environment, flags);
        expand_place(said, sizeof said, w->said);
        bool said_it = strstr(l.text, said) && (l.outcome == CONFIG_LOADED) == w->is_warning;
        if (!said_it)
            print_error("row %zu: \"%s\" is not in: %s", i, said, l.text);
        failed += !said_it;
        unload(&l);
    }
    assert_int_equal(failed, 0);
}

/* A report never shows a secret. */
static void secrets_stay_secret(void **state)
{
    (void)state;
    static const char file[] =
        "{\"client\":{\"token\":{\"hmac_secret_key\":\"hush\",\"hmac_previous_secret_key\":"
        "\"hush\","
        "\"keys\":[{\"kid\":\"a\",\"secret\":\"hush\"},{\"kid\":\"b\",\"secret\":[\"hush\"]}]}},"
        "\"http_api\":{\"key\":\"hush\"},\"admin\":{\"password\":\"hush\"}}";
    struct load l = load(file, NULL, NULL);
    assert_int_equal(l.outcome, CONFIG_WRONG);
    assert_null(strstr(l.text, "hush"));
    char *text;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    config_print_json(f, &l.c);
    fclose(f);
    assert_null(strstr(text, "hush"));
    assert_non_null(strstr(text, "\"hmac_secret_key\": \"***\""));
    free(text);
    unload(&l);
}

static void help(void **state)
{
    (void)state;
    struct load l = load(NULL, NULL, FLAGS("--bogus", "--help"));
    assert_int_equal(l.outcome, CONFIG_HELP);
    unload(&l);
    l = load(NULL, NULL, FLAGS("--help-all"));
    assert_int_equal(l.outcome, CONFIG_HELP_ALL);
    unload(&l);
    for (int all = 0; all < 2; all++) {
        char *text;
        size_t len;
        FILE *f = open_memstream(&text, &len);
        config_help(f, all);
        fclose(f);
        for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1)
            assert_true(end - line <= 100);
        assert_non_null(strstr(text, "--listen URL"));
        free(text);
    }
}

static char *printed(const struct config *c)
{
    char *text;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    config_print_json(f, c);
    fclose(f);
    return text;
}

/* What `roost check` prints is a configuration that means the same. */
static void print_and_load(void **state)
{
    (void)state;
    struct load l = load(
        "{\"channel\":{\"namespaces\":[{\"name\":\"chat\"}]},\"log\":{\"file\":\"a\\\"b\\n\"}}",
        NULL,
        FLAGS("--anonymous", "--listen", "ws://[::1]:5", "--listen", "unix:/tmp/x",
              "--allowed-origin", "https://*.test", "--max-connection-age=90m",
              "--raw.slow_policy=drop-oldest"));
    if (l.outcome != CONFIG_LOADED)
        fail_msg("%s", l.text);
    char *first = printed(&l.c);
    struct load again = load(first, NULL, NULL);
    if (again.outcome != CONFIG_LOADED)
        fail_msg("%s", again.text);
    char *second = printed(&again.c);
    assert_string_equal(first, second);
    assert_non_null(strstr(first, "\"slow_policy\": \"drop-oldest\""));
    free(first);
    free(second);
    unload(&l);
    unload(&again);
}

static void hostile_files(void **state)
{
    (void)state;
    static char text[300000];
    size_t n = (size_t)snprintf(text, sizeof text, "{");
    for (int i = 0; n < sizeof text - 40; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s\"unknown_%d\":1", i ? "," : "", i);
    snprintf(text + n, sizeof text - n, "}");
    struct load l = load(text, NULL, NULL);
    assert_int_equal(l.outcome, CONFIG_WRONG);
    assert_in_range(l.report.count, 1, 50);
    assert_true(l.report.errors > 10000);
    unload(&l);

    memset(text, '[', sizeof text - 1);
    l = load(text, NULL, NULL);
    assert_int_equal(l.outcome, CONFIG_WRONG);
    unload(&l);
}

/* docs/options.md is what the table prints; `./roost check --options-markdown > docs/options.md`.
 */
static void options_page_is_current(void **state)
{
    (void)state;
    static char page[256 * 1024];
    FILE *f = fopen("docs/options.md", "r");
    if (!f)
        fail_msg("docs/options.md can not be read; tests run in the project's root folder");
    page[fread(page, 1, sizeof page - 1, f)] = '\0';
    fclose(f);
    char *text;
    size_t len;
    f = open_memstream(&text, &len);
    config_print_markdown(f);
    fclose(f);
    if (strcmp(page, text) != 0)
        fail_msg("docs/options.md is old: ./roost check --options-markdown > docs/options.md");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations),
        cmocka_unit_test(sizes),
        cmocka_unit_test(duration_text),
        cmocka_unit_test(urls),
        cmocka_unit_test(long_unix_path),
        cmocka_unit_test(table_is_sound),
        cmocka_unit_test(known_names),
        cmocka_unit_test(defaults),
        cmocka_unit_test(dev_defaults),
        cmocka_unit_test(layers),
        cmocka_unit_test(secrets),
        cmocka_unit_test(centrifugo_listener),
        cmocka_unit_test(what_is_wrong_is_said),
        cmocka_unit_test(secrets_stay_secret),
        cmocka_unit_test(help),
        cmocka_unit_test(print_and_load),
        cmocka_unit_test(hostile_files),
        cmocka_unit_test(options_page_is_current),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
