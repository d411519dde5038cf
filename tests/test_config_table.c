/* Values of options, and the table itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "config/table.h"

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
        if (!!why != (rows[i].ms == -1)) fail_msg("%s: %s", rows[i].text, why ? why : "taken");
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
        if (!!why != (rows[i].bytes == -1)) fail_msg("%s: %s", rows[i].text, why ? why : "taken");
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
        if (!!why != !rows[i].shown) fail_msg("%s: %s", rows[i].text, why ? why : "taken");
        if (why) continue;
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
        if (o->flag) assert_ptr_equal(option_find_flag(o->flag, strlen(o->flag)), o);
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
static const char *const known_keys[] = {
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
    "admin.secret",
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

static void known_names(void **state)
{
    (void)state;
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
    for (size_t i = 0; i < sizeof known_keys / sizeof *known_keys; i++)
        if (!option_find(known_keys[i])) fail_msg("%s is not in the table", known_keys[i]);
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (!option_find_flag(flags[i], strlen(flags[i]))) fail_msg("--%s is missing", flags[i]);
    for (size_t i = 0; i < sizeof namespaces / sizeof *namespaces; i++) {
        snprintf(key, sizeof key, "channel.without_namespace.%s", namespaces[i]);
        if (!option_find(key)) fail_msg("%s is not in the table", key);
        assert_string_equal(option_nearest_namespace_key(namespaces[i]), namespaces[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations),      cmocka_unit_test(sizes),
        cmocka_unit_test(duration_text),  cmocka_unit_test(urls),
        cmocka_unit_test(long_unix_path), cmocka_unit_test(table_is_sound),
        cmocka_unit_test(known_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
