/* The way from file, environment and flags to a struct config. */
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
#include "conn.h"

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
    for (; flags && *flags; flags++) argv[argc++] = *flags;
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
    if (l.outcome != CONFIG_LOADED) fail_msg("%s", l.text);
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
    assert_string_equal(l.c.token.user_id_claim, "sub");
    assert_int_equal(l.c.tls_cert_files.count, 0);
    assert_int_equal(l.c.client_channel_limit, 128);
    assert_int_equal(l.c.history_max_publication_limit, 300);
    assert_int_equal(l.c.recovery_max_publication_limit, 300);
    assert_int_equal(l.c.history_max_bytes, 256 << 20);
    assert_int_equal(l.c.history_meta_ttl_ms, 2592000000);
    assert_int_equal(l.c.stale_close_delay_ms, 10000);
    assert_int_equal(l.c.expired_sub_close_delay_ms, 25000);
    assert_string_equal(l.c.websocket_path, "/connection/websocket");
    assert_false(l.c.subscription_token_enabled);
    assert_string_equal(l.c.subscription_token.user_id_claim, "sub");
    assert_int_equal(l.c.api_errors, CONFIG_API_ERRORS_REPLY);
    struct namespace_rules rules;
    config_namespace_rules(&l.c, &rules);
    assert_int_equal(rules.count, 1);
    assert_string_equal(rules.items[0].name, "");
    unload(&l);
}

static void dev_defaults(void **state)
{
    (void)state;
    struct load l = load(NULL, NULL, FLAGS("--dev"));
    if (l.outcome != CONFIG_LOADED) fail_msg("%s", l.text);
    assert_int_equal(l.c.listen.count, 2);
    assert_int_equal(l.c.listen.items[0].scheme, CONFIG_WSS);
    assert_int_equal(l.c.listen.items[0].port, 8443);
    assert_int_equal(l.c.listen.items[1].port, 8080);
    assert_string_equal(l.c.allowed_origins.items[0], "http://localhost");
    assert_int_equal(l.c.token.secret.len, 0); /* serve --dev puts its own there */
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
    struct load l = load(file, environment,
                         FLAGS("--workers=4", "--listen", "ws://127.0.0.1:2", "--listen",
                               "unix:/tmp/x", "--echo", "--client.insecure=no", "--token-query",
                               "true", "--max-message", "64MiB"));
    if (l.outcome != CONFIG_LOADED) fail_msg("%s", l.text);
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
    assert_true(l.c.token_query);
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
    if (l.outcome != CONFIG_LOADED) fail_msg("%s", l.text);
    assert_int_equal(l.c.token.secret.len, 32);
    assert_memory_equal(l.c.token.secret.bytes, SECRET, 33);
    assert_int_equal(l.c.token.previous.len, 35);
    assert_int_equal(l.c.token.previous_until_s, 1800000000);
    assert_int_equal(l.c.token.keys.count, 2);
    assert_string_equal(l.c.token.keys.items[1].kid, "b");
    assert_int_equal(l.c.token.keys.items[1].secret.len, 33);
    assert_memory_equal(l.c.token.keys.items[1].secret.bytes, "from-a-file", 11);
    assert_int_equal(l.c.api_key.len, 32);
    unload(&l);

    /* a flag's file wins over the file's value, and a variable's list over the file's */
    snprintf(key_env, sizeof key_env, "ROOST_CLIENT_TOKEN_KEYS=[{\"kid\":\"c\",\"secret\":\"%s\"}]",
             SECRET);
    char *environment[] = {key_env, NULL};
    l = load(file, environment, FLAGS("--token-secret-file", path));
    if (l.outcome != CONFIG_LOADED) fail_msg("%s", l.text);
    assert_int_equal(l.c.token.secret.len, 33);
    assert_int_equal(l.c.token.keys.count, 1);
    assert_string_equal(l.c.token.keys.items[0].kid, "c");
    unload(&l);
}

static void centrifugo_listener(void **state)
{
    (void)state;
    static const char file[] = "{\"http_server\":{\"port\":9001,\"internal_address\":\"::1\","
                               "\"internal_port\":9002},\"client\":{\"insecure\":true}}";
    char url[CONFIG_URL_MAX];
    struct load l = load(file, NULL, NULL);
    if (l.outcome != CONFIG_LOADED) fail_msg("%s", l.text);
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
#define BYTES_64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define NAMESPACE(members) "{\"channel\":{\"namespaces\":[{\"name\":\"chat\"," members "}]}}"
#define PERSONAL(options, more)                                                                    \
    "{" OK_TOKEN ",\"client.subscribe_to_user_personal_channel\":{" options                        \
    "},\"channel\":{\"namespaces\":[{\"name\":\"ab\",\"allow_subscribe_for_client\":true}]" more   \
    "}}"

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
    {.flags = {"--websocket.control_frames_per_second", "251"}, .said = "must be between"},
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
    {"{" OK_TOKEN ",\"channel\":{\"without_namespace\":{\"allow_tags_filter\":true}}}",
     .is_warning = true,
     .said = "channel.without_namespace.allow_tags_filter is not supported yet"},
    {"{" OK_TOKEN
     ",\"channel\":{\"namespaces\":[{\"name\":\"chat\",\"allowed_delta_types\":[\"fossil\"]}]}}",
     .is_warning = true, .said = "channel.namespaces[0].allowed_delta_types is not supported yet"},
    {.flags = {"--anonymous", "--trace", "http://127.0.0.1:4318"},
     .said = "trace: must begin with otlp+http://"},
    {.flags = {"--anonymous", "--trace",
               "otlp+http://user:a-password@127.0.0.1:4318"}, /* and not shown */
     .said = "--trace: trace: a user name or password in the URL is not supported"},
    {.flags = {"--anonymous", "--trace", "elastic+https://host:0"}, .said = "from 1 to 65535"},
    {"{\"websocket\":{\"compression\":\"much\"}}", .said = "must be true or false"},
    /* sections have names as well */
    {"{\"clinet\":{}}", .said = "unknown key clinet; did you mean client?"},
    {"{\"client\":{\"tokn\":{}}}", .said = "unknown key client.tokn; did you mean client.token?"},
    {"{\"client\":{\"pign_interval\":1}}", .said = "did you mean client.ping_interval?"},
    {"{\"logs\":{\"level\":\"info\"}}", .said = "unknown key logs; did you mean log?"},
    /* namespaces, keys */
    {"{\"channel\":{\"namespaces\":[{\"name\":\"chat\",\"presense\":1}]}}",
     .said = "unknown option \"presense\"; the nearest is presence"},
    {"{\"channel\":{\"namespaces\":[{\"name\":\"a\"}]}}", .said = "two or more letters"},
    {"{\"channel\":{\"namespaces\":[{}]}}", .said = "two or more letters"},
    {"{\"channel\":{\"namespaces\":[{\"name\":\"ab\"},{\"name\":\"ab\"}]}}",
     .said = "\"ab\" is there twice"},
    {"{" OK_TOKEN ",\"http_api\":{\"key\":\"0123456789abcdef\",\"keys\":[{\"name\":\"a\","
     "\"key\":\"0123456789abcdef\",\"scope\":\"read\"}]}}",
     .said = "\"a\" is http_api.key as well"},
    {"{" OK_TOKEN ",\"http_api\":{\"keys\":[{\"name\":\"a\",\"key\":\"0123456789abcdef\","
     "\"scope\":\"read\"},{\"name\":\"b\",\"key\":\"0123456789abcdef\",\"scope\":\"all\"}]}}",
     .said = "\"b\" has the same key as another one"},
    {"{" OK_TOKEN ",\"http_api\":{\"keys\":[{\"name\":\"a\",\"key\":\"0123456789abcdef\","
     "\"scope\":\"write\"}]}}",
     .said = "scope must be publish, read or all"},
    {"{" OK_TOKEN ",\"http_api\":{\"keys\":[{\"name\":\"a\",\"key\":\"0123456789abcdef\"}]}}",
     .said = "a key needs its scope"},
    {"{" OK_TOKEN ",\"http_api\":{\"keys\":[{\"name\":\"a\",\"secret\":\"x\",\"scope\":\"all\"}]}}",
     .said = "a key has name, key or key_file, and scope"},
    {"{\"channel\":{\"namespaces\":{}}}", .said = "must be a list of objects"},
    {"{\"channel\":{\"namespaces\":[1]}}", .said = "channel.namespaces[0] must be an object"},
    {NAMESPACE("\"history_size\":true"), .said = "[0].history_size must be a number"},
    {NAMESPACE("\"history_size\":-1"),
     .said = "[0].history_size is \"-1\": must be a whole number"},
    {NAMESPACE("\"history_ttl\":60"), .said = "[0].history_ttl is \"60\": the unit is missing"},
    {NAMESPACE("\"force_recovery_mode\":\"all\""), .said = "must be one of: \"\", stream, cache"},
    {NAMESPACE("\"slow_policy\":\"drop\""),
     .said = "must be one of: close, drop-oldest, keep-latest, skip-and-recover"},
    {NAMESPACE("\"presence\":1"), .said = "[0].presence must be true or false"},
    {NAMESPACE("\"history_size\":10"),
     .said = "channel.namespaces[0].history_size needs history_ttl as well"},
    {NAMESPACE("\"history_ttl\":\"60s\""),
     .said = "channel.namespaces[0].history_ttl needs history_size as well"},
    {"{\"channel\":{\"without_namespace\":{\"history_size\":10}}}",
     .said = ":1:49: channel.without_namespace.history_size needs history_ttl as well"},
    {NAMESPACE("\"history_size\":1,\"history_ttl\":\"2m\",\"history_meta_ttl\":\"1m\""),
     .said = "[0].history_ttl must not be longer than history_meta_ttl"},
    {"{\"channel\":{\"history_meta_ttl\":\"1m\",\"without_namespace\":{\"history_size\":1,"
     "\"history_ttl\":\"2m\"}}}",
     .said = "without_namespace.history_ttl must not be longer than history_meta_ttl"},
    {NAMESPACE("\"force_recovery\":true"),
     .said = "[0].force_recovery needs history_size and history_ttl"},
    {NAMESPACE("\"channel_regex\":\"(\""),
     .said = "[0].channel_regex is no POSIX extended regular expression: "},
    {"{" OK_TOKEN ",\"channel\":{\"without_namespace\":{\"slow_policy\":\"skip-and-recover\"}}}",
     .is_warning = true,
     .said = "without_namespace.slow_policy is skip-and-recover, but without history"},
    {"{\"channel\":{\"user_boundary\":\"12345678\"}}",
     .said = "channel.user_boundary has more than 7 bytes"},
    {PERSONAL("\"enabled\":true,\"personal_channel_namespace\":\"nope\"", ""),
     .said = "personal_channel_namespace: there is no namespace \"nope\""},
    {PERSONAL("\"enabled\":true,\"personal_channel_namespace\":\"ab\"",
              ",\"namespace_boundary\":\"\""),
     .said = "there is no namespace \"ab\""},
    {PERSONAL("\"enabled\":true", ",\"user_boundary\":\"\""),
     .said = "personal_channel.enabled needs channel.user_boundary"},
    {PERSONAL("\"personal_channel_namespace\":\"ab\"", ""), .is_warning = true,
     .said = "has no effect without client.subscribe_to_user_personal_channel.enabled"},
    {PERSONAL("\"single_connection\":true", ""), .is_warning = true,
     .said = "single_connection has no effect without client.subscribe_to_user_personal_channel"},
    {PERSONAL("\"enabled\":true,\"personal_channel_namespace\":\"ab\"", ""), .is_warning = true,
     .said = "clients may subscribe to personal channels of others"},
    {"{" OK_TOKEN ",\"engine\":{\"type\":\"redis\"}}", .is_warning = true,
     .said = "engine.type is not supported yet"},
    {"{" OK_TOKEN ",\"uni_sse\":{\"enabled\":true}}", .is_warning = true,
     .said = "uni_sse.enabled is not supported yet"},
    {"{" OK_TOKEN ",\"http_api\":{\"handler_prefix\":\"/x\"}}", .is_warning = true,
     .said = "http_api.handler_prefix is not supported yet"},
    {NAMESPACE("\"allow_tags_filter\":true"),
     .said = "channel.namespaces[0].allow_tags_filter is not supported yet"},
    {"{" OK_TOKEN ",\"client.user_id_http_header\":\"x\"}", .is_warning = true,
     .said = "client.user_id_http_header"},
    {.flags = {"--websocket.handler_prefix", "ws"},
     .said = "websocket.handler_prefix is \"ws\": must be a path"},
    {.flags = {"--websocket.handler_prefix", "/"}, .said = "must be a path"},
    {.flags = {"--websocket.handler_prefix", "/a/"}, .said = "must be a path"},
    {.flags = {"--websocket.handler_prefix", "/a?b"}, .said = "must be a path"},
    {.environment = "ROOST_CLIENT_SUBSCRIPTION_TOKEN_ENABLED=true",
     .said = "subscription_token.enabled needs client.subscription_token.hmac_secret_key"},
    {"{" OK_TOKEN "}", .environment = "ROOST_CLIENT_SUBSCRIPTION_TOKEN_HMAC_SECRET_KEY=" SECRET,
     .is_warning = true, .said = "has no effect without client.subscription_token.enabled"},
    {"{\"client\":{\"subscription_token\":{\"hmac_secret_key\":\"short\"}}}",
     .said = "the subscription token secret has 5 bytes and needs 32"},
    {"{\"client\":{\"subscription_token\":{\"keys\":[{\"kid\":\"a\",\"secret\":\"short\"}]}}}",
     .said = "client.subscription_token.keys: the secret of \"a\" has 5 bytes"},
    {"{\"client\":{\"subscription_token\":{\"user_id_claim\":\"\"}}}",
     .said = "client.subscription_token.user_id_claim must not be empty"},
    {"{\"http_api\":{\"error_mode\":\"http\"}}", .said = "must be one of: \"\", transport"},
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
    {"{" OK_TOKEN ",\"admin\":{\"enabled\":true}}",
     .said = "C:1:95: admin.enabled needs admin.password or admin.password_file"},
    {"{" OK_TOKEN ",\"admin\":{\"enabled\":true,\"password\":\"eleven char\"}}", .is_warning = true,
     .said = "the console's password has only 11 bytes"},
    {"{" OK_TOKEN ",\"admin\":{\"password\":\"a password of some length\"}}", .is_warning = true,
     .said = "there is a password, but no console without admin.enabled"},
    {"{" OK_TOKEN ",\"admin\":{\"enabled\":true,\"password\":\"a password of some length\","
     "\"password_file\":\"x\"}}",
     .said = "admin.password and admin.password_file: give one of them"},
    {"{" OK_TOKEN ",\"admin\":{\"enabled\":true,\"password_file\":\"/nonexistent/p\"}}",
     .said = "the file /nonexistent/p can not be read"},
    {"{" OK_TOKEN ",\"admin\":{\"enabled\":true,\"password\":\"" BYTES_64 BYTES_64 BYTES_64 BYTES_64
         BYTES_64 BYTES_64 BYTES_64 BYTES_64 "x\"}}",
     .said = "the console's password has more than 512 bytes"},
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
        for (size_t k = 0; k < 6; k++) flags[k] = (char *)(uintptr_t)w->flags[k];
        struct load l = load(w->file, environment, flags);
        expand_place(said, sizeof said, w->said);
        bool said_it = strstr(l.text, said) && (l.outcome == CONFIG_LOADED) == w->is_warning;
        if (!said_it) print_error("row %zu: \"%s\" is not in: %s", i, said, l.text);
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
        "{\"channel\":{\"namespaces\":[{\"name\":\"chat\"},{\"name\":\"ab\",\"history_size\":5,"
        "\"history_ttl\":\"60s\",\"channel_regex\":\"^\\\\.\",\"force_recovery_mode\":\"stream\"}],"
        "\"without_namespace\":{\"join_leave\":true,\"slow_policy\":\"keep-latest\"}},"
        "\"log\":{\"file\":\"a\\\"b\\n\"}}",
        NULL,
        FLAGS("--anonymous", "--listen", "ws://[::1]:5", "--listen", "unix:/tmp/x",
              "--allowed-origin", "https://*.test", "--max-connection-age=90m",
              "--raw.slow_policy=drop-oldest"));
    if (l.outcome != CONFIG_LOADED) fail_msg("%s", l.text);
    char *first = printed(&l.c);
    struct load again = load(first, NULL, NULL);
    if (again.outcome != CONFIG_LOADED) fail_msg("%s", again.text);
    char *second = printed(&again.c);
    assert_string_equal(first, second);
    assert_non_null(strstr(first, "\"slow_policy\": \"drop-oldest\""));
    free(first);
    free(second);
    unload(&l);
    unload(&again);
}

/* A configuration of Centrifugo that spells out what is so anyhow gets no warning for it: those
 * that are left name what will be missed. */
static void what_is_so_anyhow(void **state)
{
    (void)state;
    static const char file[] =
        "{" OK_TOKEN
        ",\"http_server\":{\"tls\":{\"enabled\":false,\"cert_pem\":\"\",\"key_pem\":\"\","
        "\"client_ca_pem\":\"\"}},\"client.channel_position_check_delay\":\"40s\","
        "\"client.presence_update_interval\":\"27s\",\"client.user_id_http_header\":\"\","
        "\"http_api\":{\"handler_prefix\":\"/api\",\"error_mode\":\"\"},"
        "\"websocket\":{\"disabled\":false,\"compression\":false,\"compression_min_size\":0,"
        "\"compression_level\":1},\"uni_sse\":{\"enabled\":false,"
        "\"handler_prefix\":\"/connection/uni_sse\"},\"uni_http_stream\":{\"enabled\":false},"
        "\"uni_websocket\":{\"enabled\":false},\"prometheus\":{\"handler_prefix\":\"/metrics\"},"
        "\"health\":{\"handler_prefix\":\"/health\"},\"engine\":{\"type\":\"memory\","
        "\"redis\":{\"user\":\"\",\"password\":\"\",\"tls\":{\"enabled\":false}}},"
        "\"channel\":{\"without_namespace\":{\"allow_tags_filter\":false},"
        "\"namespaces\":[{\"name\":\"ab\",\"allow_tags_filter\":false}]}}";
    struct load l = load(file, NULL, NULL);
    assert_int_equal(l.outcome, CONFIG_LOADED);
    assert_string_equal(l.text, "");
    assert_int_equal(l.c.tls_cert_files.count + l.c.tls_key_files.count, 0);
    unload(&l);
}

/* By its value, not by how it is written; and so in a variable or a flag. */
static void what_is_so_in_other_words(void **state)
{
    (void)state;
    static const char file[] =
        "{" OK_TOKEN ",\"engine\":{\"type\":\"memory\",\"redis\":{\"db\":0,\"address\":[]}},"
        "\"websocket\":{\"write_timeout\":\"0s\",\"compression_min_size\":\"0B\","
        "\"compression\":\"no\",\"compression_level\":\"01\"},"
        "\"client.channel_position_check_delay\":\"40000ms\","
        "\"client.presence_update_interval\":\"0.45m\","
        "\"channel\":{\"without_namespace\":{\"allowed_delta_types\":[],"
        "\"allow_tags_filter\":\"off\"},"
        "\"namespaces\":[{\"name\":\"ab\",\"allowed_delta_types\":[]}]}}";
    struct load l = load(file, (char *[]){"ROOST_ENGINE_REDIS_DB=00", NULL},
                         FLAGS("--websocket.write_timeout=0ms", "--engine.redis.address="));
    assert_int_equal(l.outcome, CONFIG_LOADED);
    assert_string_equal(l.text, "");
    unload(&l);
}

/* count_of: how often word stands in text. */
static unsigned count_of(const char *text, const char *word)
{
    unsigned n = 0;
    while ((text = strstr(text, word)) != NULL) {
        text += strlen(word);
        n++;
    }
    return n;
}

/* What asks for something is still named, and a list once, however long it is. */
static void what_is_not_so_anyhow(void **state)
{
    (void)state;
    static const char file[] =
        "{" OK_TOKEN
        ",\"engine\":{\"redis\":{\"db\":1,\"address\":[\"127.0.0.1:1\",\"127.0.0.1:2\"]}},"
        "\"websocket\":{\"write_timeout\":\"1s\",\"compression_min_size\":\"1B\"},"
        "\"client.channel_position_check_delay\":\"0s\","
        "\"channel\":{\"without_namespace\":{\"allowed_delta_types\":[\"fossil\",\"x\"]},"
        "\"namespaces\":[{\"name\":\"ab\",\"allowed_delta_types\":[\"fossil\"]}]}}";
    static const char *const said[] = {"engine.redis.db",
                                       "engine.redis.address",
                                       "websocket.write_timeout",
                                       "websocket.compression_min_size",
                                       "client.channel_position_check_delay",
                                       "channel.without_namespace.allowed_delta_types",
                                       "channel.namespaces[0].allowed_delta_types"};
    struct load l = load(file, NULL, NULL);
    assert_int_equal(l.outcome, CONFIG_LOADED);
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        char line[128];
        snprintf(line, sizeof line, "%s is not supported yet", said[i]);
        if (count_of(l.text, line) != 1) fail_msg("%s, once: %s", line, l.text);
    }
    assert_int_equal(count_of(l.text, "is not supported yet"), sizeof said / sizeof *said);
    unload(&l);

    l = load("{" OK_TOKEN "}",
             (char *[]){"ROOST_ENGINE_REDIS_ADDRESS=127.0.0.1:1,127.0.0.1:2", NULL}, NULL);
    assert_int_equal(count_of(l.text, "engine.redis.address is not supported yet"), 1);
    unload(&l);
}

/* What channels may do, as the workers see it. */
static void namespaces(void **state)
{
    (void)state;
    static const char file[] =
        "{" OK_TOKEN ",\"channel\":{\"user_separator\":\";;\",\"private_prefix\":\"\","
        "\"history_meta_ttl\":\"2h\","
        "\"without_namespace\":{\"presence\":true,\"channel_regex\":\"^[a-z]+$\"},"
        "\"namespaces\":[{\"name\":\"chat\",\"history_size\":10,\"history_ttl\":\"5m\","
        "\"force_recovery\":true,\"force_recovery_mode\":\"cache\","
        "\"allow_publish_for_subscriber\":true,\"slow_policy\":\"skip-and-recover\","
        "\"publication_data_format\":\"json_object\",\"allow_user_limited_channels\":true},"
        "{\"name\":\"ab\",\"history_meta_ttl\":\"3h\",\"channel_regex\":\"x\"}]}}";
    struct load l = load(file, NULL, NULL);
    if (l.outcome != CONFIG_LOADED) fail_msg("%s", l.text);
    assert_string_equal(l.text, "");
    struct namespace_rules rules;
    config_namespace_rules(&l.c, &rules);
    assert_int_equal(rules.count, 3);
    assert_int_equal(rules.max_length, 255);
    assert_string_equal(rules.private_prefix, "");
    assert_string_equal(rules.namespace_boundary, ":");
    assert_string_equal(rules.user_boundary, "#");
    assert_string_equal(rules.user_separator, ";;");
    assert_false(rules.any_namespace);

    namespace_init(&rules);
    const struct channel_options *o = namespace_of("news", 4);
    assert_true(o && o->presence && o->has_regex && !channel_has_history(o));
    assert_int_equal(o->history_meta_ttl_ms, 7200000);
    assert_true(namespace_name_ok(o, "news", 4));
    assert_false(namespace_name_ok(o, "News", 4));

    o = namespace_of("chat:1", 6);
    assert_true(o && !o->presence && !o->has_regex && channel_has_history(o));
    assert_int_equal(o->history_size, 10);
    assert_int_equal(o->history_ttl_ms, 300000);
    assert_true(o->force_recovery && o->publish_for_subscriber && o->user_limited_channels);
    assert_false(o->allow_recovery || o->publish_for_client || o->publish_for_anonymous);
    assert_int_equal(o->recovery_mode, RECOVERY_CACHE);
    assert_int_equal(o->data_format, DATA_JSON_OBJECT);
    assert_int_equal(o->slow_policy, SLOW_RECOVER);

    o = namespace_of("ab:x", 4);
    assert_true(o && o->has_regex);
    assert_int_equal(o->history_meta_ttl_ms, 10800000);
    assert_null(namespace_of("other:x", 7));
    unload(&l);
}

/* Each option of a namespace reaches its own field, and is printed so that it can be read again. */
static void every_namespace_option(void **state)
{
    (void)state;
    static const char *const flags[] = {
        "presence",
        "join_leave",
        "force_push_join_leave",
        "force_positioning",
        "allow_positioning",
        "force_recovery",
        "allow_recovery",
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
    };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        char file[512], said[128];
        snprintf(file, sizeof file,
                 "{" OK_TOKEN ",\"channel\":{\"namespaces\":[{\"name\":\"ab\",\"history_size\":7,"
                 "\"history_ttl\":\"7s\",\"%s\":true}]}}",
                 flags[i]);
        struct load l = load(file, NULL, NULL);
        if (l.outcome != CONFIG_LOADED) fail_msg("%s", l.text);
        struct channel_options o = l.c.namespaces.items[0].options;
        const bool fields[] = {
            o.presence,
            o.join_leave,
            o.force_push_join_leave,
            o.force_positioning,
            o.allow_positioning,
            o.force_recovery,
            o.allow_recovery,
            o.subscribe_for_client,
            o.subscribe_for_anonymous,
            o.publish_for_client,
            o.publish_for_subscriber,
            o.publish_for_anonymous,
            o.presence_for_client,
            o.presence_for_subscriber,
            o.presence_for_anonymous,
            o.history_for_client,
            o.history_for_subscriber,
            o.history_for_anonymous,
            o.user_limited_channels,
        };
        for (size_t j = 0; j < sizeof fields / sizeof *fields; j++)
            if (fields[j] != (i == j)) fail_msg("%s sets %s", flags[i], flags[j]);
        char *text = printed(&l.c);
        snprintf(said, sizeof said, ", \"%s\": true", flags[i]);
        if (!strstr(text, said)) fail_msg("%s is not in %s", said, text);
        free(text);
        unload(&l);
    }
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
    if (!f) fail_msg("docs/options.md can not be read; tests run in the project's root folder");
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
        cmocka_unit_test(defaults),
        cmocka_unit_test(dev_defaults),
        cmocka_unit_test(layers),
        cmocka_unit_test(secrets),
        cmocka_unit_test(centrifugo_listener),
        cmocka_unit_test(what_is_wrong_is_said),
        cmocka_unit_test(secrets_stay_secret),
        cmocka_unit_test(help),
        cmocka_unit_test(print_and_load),
        cmocka_unit_test(what_is_so_anyhow),
        cmocka_unit_test(what_is_so_in_other_words),
        cmocka_unit_test(what_is_not_so_anyhow),
        cmocka_unit_test(namespaces),
        cmocka_unit_test(every_namespace_option),
        cmocka_unit_test(hostile_files),
        cmocka_unit_test(options_page_is_current),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
