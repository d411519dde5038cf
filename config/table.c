/* config/table.c - the rows, and finding one by key, flag or variable. */
#include "config/table.h"

#include "client.h"
#include "conn.h"

#include <ctype.h>
#include <string.h>

#define FIELD(name) .field = offsetof(struct config, name)
#define PLANNED .group = GROUP_PLANNED, .field = OPTION_NO_FIELD

#define KIB 1024
#define MIB (1024 * KIB)
#define GIB ((int64_t)1024 * MIB)
#define SECOND 1000
#define HOUR (3600 * SECOND)
#define DAY ((int64_t)24 * HOUR)
#define YEARS (3660 * DAY)

static const char *const slow_policies[] = {
    [CONFIG_SLOW_CLOSE] = "close",
    [CONFIG_SLOW_DROP_OLDEST] = "drop-oldest",
    [CONFIG_SLOW_KEEP_LATEST] = "keep-latest",
    NULL,
};
static const char *const namespace_slow_policies[] = {
    [SLOW_CLOSE] = "close",
    [SLOW_DROP_OLDEST] = "drop-oldest",
    [SLOW_KEEP_LATEST] = "keep-latest",
    [SLOW_RECOVER] = "skip-and-recover",
    NULL,
};
static const char *const log_levels[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug", NULL,
};
static const char *const send_batches[] = {
    [CONFIG_BATCH_AUTO] = "auto", [CONFIG_BATCH_OFF] = "off", NULL};
static const char *const tls_backends[] = {
    [CONFIG_TLS_AUTO] = "auto",
    [CONFIG_TLS_DETACHED] = "detached",
    [CONFIG_TLS_MBEDTLS] = "mbedtls",
    NULL,
};
static const char *const log_formats[] = {
    [CONFIG_LOG_TEXT] = "text",
    [CONFIG_LOG_JSON] = "json",
    NULL,
};
static const char *const error_modes[] = {
    [CONFIG_API_ERRORS_REPLY] = "",
    [CONFIG_API_ERRORS_TRANSPORT] = "transport",
    NULL,
};
static const char *const recovery_modes[] = {
    [CONFIG_RECOVERY_DEFAULT] = "",
    [CONFIG_RECOVERY_STREAM] = "stream",
    [CONFIG_RECOVERY_CACHE] = "cache",
    NULL,
};
static const char *const data_formats[] = {
    [DATA_DEFAULT] = "",
    [DATA_JSON] = "json",
    [DATA_JSON_OBJECT] = "json_object",
    [DATA_BINARY] = "binary",
    NULL,
};
static const char *const engines[] = {"memory", "redis", "nats", NULL};

const char *const option_group_titles[GROUP_COUNT] = {
    [GROUP_LISTEN] = "Listening",
    [GROUP_ACCESS] = "Who may connect",
    [GROUP_API] = "HTTP API",
    [GROUP_CONSOLE] = "Console",
    [GROUP_CONNECTION] = "Life of a connection",
    [GROUP_LIMIT] = "Limits",
    [GROUP_CHANNEL] = "Channels",
    [GROUP_NAMESPACE] = "Options of channels",
    [GROUP_OBSERVE] = "Logs, metrics, process",
    [GROUP_WORKER] = "Work of one turn of a worker",
    [GROUP_PLANNED] = "Known, not supported yet",
};

/* protocol.md section 6.2: once for channels without a namespace, once inside channel.namespaces.
 * p is a key's prefix, at(member) where a member of struct config_namespace lies. */
#define NAMESPACE_ROW(k, f, t) .key = (k), .group = GROUP_NAMESPACE, .kind = (t), .field = (f)
#define NAMESPACE_FLAG(k, f, h)                                                                    \
    {                                                                                              \
        NAMESPACE_ROW(k, f, OPTION_BOOL), .initial = "false", .help = (h)                          \
    }
#define NAMESPACE_TIME(k, f, i, m, h)                                                              \
    {                                                                                              \
        NAMESPACE_ROW(k, f, OPTION_DURATION), .initial = (i), .max = (m), .help = (h)              \
    }
#define NAMESPACE_WORD(k, f, i, c, h)                                                              \
    {                                                                                              \
        NAMESPACE_ROW(k, f, OPTION_CHOICE), .initial = (i), .choices = (c), .help = (h)            \
    }
#define NAMESPACE_ROWS(p, at)                                                                      \
    NAMESPACE_FLAG(p "presence", at(options.presence), "Keep a list of who is subscribed."),       \
        NAMESPACE_FLAG(p "join_leave", at(options.join_leave),                                     \
                       "Tell who comes and goes, to subscribers that ask for it."),                \
        NAMESPACE_FLAG(p "force_push_join_leave", at(options.force_push_join_leave),               \
                       "With join_leave: tell it to every subscriber."),                           \
        {NAMESPACE_ROW(p "history_size", at(history_size), OPTION_INT), .initial = "0",            \
         .max = INT32_MAX,                                                                         \
         .help = "How many publications are kept, for history and recovery; needs history_ttl."},  \
        NAMESPACE_TIME(p "history_ttl", at(options.history_ttl_ms), "0", YEARS,                    \
                       "How long they are kept after the latest; needs history_size."),            \
        NAMESPACE_TIME(                                                                            \
            p "history_meta_ttl", at(options.history_meta_ttl_ms), "0", YEARS,                     \
            "How long epoch and offset outlive the last use. 0: channel.history_meta_ttl."),       \
        NAMESPACE_FLAG(p "force_positioning", at(options.force_positioning),                       \
                       "A subscriber that lost a publication is told so, and comes back."),        \
        NAMESPACE_FLAG(p "allow_positioning", at(options.allow_positioning),                       \
                       "The same for subscribers that ask for it."),                               \
        NAMESPACE_FLAG(p "force_recovery", at(options.force_recovery),                             \
                       "A subscriber that comes back gets what it missed; needs history."),        \
        NAMESPACE_FLAG(p "allow_recovery", at(options.allow_recovery),                             \
                       "The same for subscribers that ask for it."),                               \
        NAMESPACE_WORD(p "force_recovery_mode", at(recovery_mode), "", recovery_modes,             \
                       "What it gets: all that it missed (stream, also if empty), or the latest "  \
                       "publication only (cache)."),                                               \
        {p "allowed_delta_types", .kind = OPTION_STRINGS, PLANNED},                                \
        {p "allow_tags_filter", .kind = OPTION_BOOL, PLANNED, .initial = "false"},                 \
        NAMESPACE_FLAG(p "allow_subscribe_for_client", at(options.subscribe_for_client),           \
                       "Clients with a user id may subscribe without a subscription token."),      \
        NAMESPACE_FLAG(p "allow_subscribe_for_anonymous", at(options.subscribe_for_anonymous),     \
                       "Adds those without a user id to allow_subscribe_for_client."),             \
        NAMESPACE_FLAG(p "allow_publish_for_client", at(options.publish_for_client),               \
                       "Clients with a user id may publish."),                                     \
        NAMESPACE_FLAG(p "allow_publish_for_subscriber", at(options.publish_for_subscriber),       \
                       "Subscribers with a user id may publish."),                                 \
        NAMESPACE_FLAG(p "allow_publish_for_anonymous", at(options.publish_for_anonymous),         \
                       "Adds those without a user id to the two above."),                          \
        NAMESPACE_FLAG(p "allow_presence_for_client", at(options.presence_for_client),             \
                       "Clients with a user id may ask who is subscribed."),                       \
        NAMESPACE_FLAG(p "allow_presence_for_subscriber", at(options.presence_for_subscriber),     \
                       "Subscribers with a user id may ask who is subscribed."),                   \
        NAMESPACE_FLAG(p "allow_presence_for_anonymous", at(options.presence_for_anonymous),       \
                       "Adds those without a user id to the two above."),                          \
        NAMESPACE_FLAG(p "allow_history_for_client", at(options.history_for_client),               \
                       "Clients with a user id may ask for history."),                             \
        NAMESPACE_FLAG(p "allow_history_for_subscriber", at(options.history_for_subscriber),       \
                       "Subscribers with a user id may ask for history."),                         \
        NAMESPACE_FLAG(p "allow_history_for_anonymous", at(options.history_for_anonymous),         \
                       "Adds those without a user id to the two above."),                          \
        NAMESPACE_FLAG(p "allow_user_limited_channels", at(options.user_limited_channels),         \
                       "A name that ends in #USER or #USER,USER is for these users only."),        \
        {NAMESPACE_ROW(p "channel_regex", at(channel_regex), OPTION_STRING),                       \
         .help =                                                                                   \
             "What a name must match behind its namespace: a POSIX extended regular expression "   \
             "of bytes, anywhere in it unless ^ and $ say otherwise. Empty: any ASCII text."},     \
        NAMESPACE_WORD(p "publication_data_format", at(options.data_format), "", data_formats,     \
                       "What SDK clients may publish. json: any JSON; json_object: a JSON "        \
                       "object; binary: nothing as well, which is null. Empty: as json."),         \
        NAMESPACE_WORD(                                                                            \
            p "slow_policy", at(options.slow_policy), "close", namespace_slow_policies,            \
            "A subscriber that does not read fast enough is closed with 3008, loses the oldest "   \
            "messages waiting for it or all but the latest, or must come back and recover.")

#define IN_CONFIG(member) offsetof(struct config, without_namespace.member)
#define IN_NAMESPACE(member) offsetof(struct config_namespace, member)

const struct option namespace_option_table[] = {NAMESPACE_ROWS("", IN_NAMESPACE)};
const size_t namespace_option_count =
    sizeof namespace_option_table / sizeof namespace_option_table[0];

#define TLS_ROWS(p)                                                                                \
    {p "enabled", .kind = OPTION_BOOL, PLANNED, .initial = "false"},                               \
        {p "server_ca_pem", .kind = OPTION_STRING, PLANNED},                                       \
        {p "cert_pem", .kind = OPTION_STRING, PLANNED},                                            \
        {p "key_pem", .kind = OPTION_STRING, PLANNED},                                             \
        {p "server_name", .kind = OPTION_STRING, PLANNED},                                         \
    {                                                                                              \
        p "insecure_skip_verify", .kind = OPTION_BOOL, PLANNED, .initial = "false"                 \
    }

/* Within a group: what a newcomer needs first. */
const struct option option_table[] = {
    /* ---- listening ---- */
    {"listen", "listen", "URL", GROUP_LISTEN, OPTION_URLS, FIELD(listen),
     .help = "Where clients connect: wss://HOST:PORT, ws://HOST:PORT or unix:/path; HOST is an "
             "address like 0.0.0.0 or [::1], or localhost; port 0 lets the kernel choose. May be "
             "given several times. Without it ws://127.0.0.1:8080; with --dev also "
             "wss://127.0.0.1:8443.",
     .restart = true},
    {"http_server.tls.cert_pem", "cert", "FILE", GROUP_LISTEN, OPTION_STRINGS,
     FIELD(tls_cert_files),
     .help =
         "Certificate chain for wss:// listeners, a PEM file, the server's own first. May be given "
         "several times: a client is shown the one with the name it asks for (SNI, wildcards too), "
         "else the first. Read again by itself when a file changes."},
    {"http_server.tls.key_pem", "key", "FILE", GROUP_LISTEN, OPTION_STRINGS, FIELD(tls_key_files),
     .help = "Private key of the certificate, a PEM file; of several, in the same order."},
    {"dev", "dev", NULL, GROUP_LISTEN, OPTION_BOOL, FIELD(dev), .initial = "false",
     .help = "Try it out: loopback only, with a certificate, token secret and API key of its own, "
             "made once and kept, and a console without a password.",
     .restart = true},
    {"config", "config", "FILE", GROUP_LISTEN, OPTION_STRING, FIELD(config_file),
     .help = "Configuration file, JSON. Flags win over ROOST_ variables, which win over the file.",
     .restart = true},
    {"workers", "workers", "N", GROUP_LISTEN, OPTION_INT, FIELD(workers), .initial = "0", .max = 64,
     .help = "Worker threads. 0: one for each CPU that this process may use.", .restart = true},
    {"admin_listen", "admin-listen", "URL", GROUP_LISTEN, OPTION_URLS, FIELD(admin_listen),
     .help = "A listener for the HTTP API, metrics and the console; they then leave the listeners "
             "of clients. May be given several times.",
     .restart = true},
    {"echo", "echo", NULL, GROUP_LISTEN, OPTION_BOOL, FIELD(echo), .initial = "false",
     .help = "Serve /echo, which sends every message back: for conformance suites and benchmarks."},
    {"http_server.tls.ticket_key", NULL, "FILE", GROUP_LISTEN, OPTION_STRINGS,
     FIELD(tls_ticket_key_files),
     .help =
         "A file of 48 or 80 random bytes (openssl rand 80), from which the keys of session "
         "tickets follow: sessions resume after a restart, and on every host that has it. The "
         "first "
         "seals; a second opens what it has sealed before. Read again when they change. Without: "
         "keys of this process alone, new ones each 12 hours."},
    {"http_server.tls.backend", "tls-backend", NULL, GROUP_LISTEN, OPTION_CHOICE,
     FIELD(tls_backend), .initial = "auto", .choices = tls_backends,
     .help =
         "Who seals and opens TLS records once a handshake is over. detached: roost itself, with "
         "some 200 bytes a connection. mbedtls: the library, with about 40 KiB. auto: detached, "
         "but mbedtls for a cipher suite that fails its test at the start.",
     .restart = true},
    {"http_server.tls.max_handshakes", NULL, "N", GROUP_LISTEN, OPTION_INT,
     FIELD(tls_max_handshakes), .initial = "1024", .min = 1, .max = 1 << 20,
     .help = "TLS handshakes under way at once, each about 40 KiB; a connection that would be "
             "one more is closed."},
    {"http_server.address", NULL, "HOST", GROUP_LISTEN, OPTION_STRING, FIELD(server_address),
     .help = "Centrifugo's way to say listen: used with http_server.port and "
             "http_server.tls.enabled if listen is not given.",
     .restart = true},
    {"http_server.port", NULL, "PORT", GROUP_LISTEN, OPTION_INT, FIELD(server_port), .initial = "0",
     .max = 65535, .help = "See http_server.address; 8000 if only the address is given.",
     .restart = true},
    {"http_server.internal_address", NULL, "HOST", GROUP_LISTEN, OPTION_STRING,
     FIELD(server_internal_address), .help = "The same for admin_listen.", .restart = true},
    {"http_server.internal_port", NULL, "PORT", GROUP_LISTEN, OPTION_INT,
     FIELD(server_internal_port), .initial = "0", .max = 65535,
     .help = "See http_server.internal_address.", .restart = true},
    {"http_server.tls.enabled", NULL, NULL, GROUP_LISTEN, OPTION_BOOL, FIELD(server_tls),
     .initial = "false", .help = "Makes http_server.address and .port a wss:// listener.",
     .restart = true},

    /* ---- who may connect ---- */
    {"client.token.hmac_secret_key", NULL, "SECRET", GROUP_ACCESS, OPTION_SECRET,
     FIELD(token.secret_value),
     .help = "Secret of the HS256 tokens that clients show, 32 bytes or more, as text. Better in "
             "ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY or a file than in a command line."},
    {"client.token.hmac_secret_key_file", "token-secret-file", "FILE", GROUP_ACCESS, OPTION_STRING,
     FIELD(token.secret_file),
     .help = "File that holds the token secret; a line break at its end is not part of it."},
    {"client.allowed_origins", "allowed-origin", "PATTERN", GROUP_ACCESS, OPTION_STRINGS,
     FIELD(allowed_origins),
     .help = "Web pages that may connect: their origin, in lower case, * stands for any "
             "characters: https://*.example.com. May be given several times. None: no browser may "
             "connect; programs that send no Origin header may."},
    {"client.allow_anonymous_connect_without_token", "anonymous", NULL, GROUP_ACCESS, OPTION_BOOL,
     FIELD(anonymous), .initial = "false", .help = "Clients may connect without a token."},
    {"token_query", "token-query", NULL, GROUP_ACCESS, OPTION_BOOL, FIELD(token_query),
     .initial = "false",
     .help = "Accept a token in the URL as ?token=. Proxies and browsers keep URLs: use a header "
             "or Sec-WebSocket-Protocol where you can."},
    {"client.token.audience", NULL, "TEXT", GROUP_ACCESS, OPTION_STRING, FIELD(token.audience),
     .help = "A token's aud must be or hold this. Empty: not looked at."},
    {"client.token.issuer", NULL, "TEXT", GROUP_ACCESS, OPTION_STRING, FIELD(token.issuer),
     .help = "A token's iss must be this. Empty: not looked at."},
    {"client.token.user_id_claim", NULL, "NAME", GROUP_ACCESS, OPTION_STRING,
     FIELD(token.user_id_claim), .initial = "sub", .help = "The claim that names the user."},
    {"client.token.leeway", NULL, NULL, GROUP_ACCESS, OPTION_DURATION, FIELD(token.leeway_ms),
     .initial = "0", .max = HOUR,
     .help = "How far the clocks of token makers may differ from ours, for exp and nbf."},
    {"client.token.hmac_previous_secret_key", NULL, "SECRET", GROUP_ACCESS, OPTION_SECRET,
     FIELD(token.previous_value),
     .help = "The secret before the last change: tokens made with it are still good."},
    {"client.token.hmac_previous_secret_key_file", NULL, "FILE", GROUP_ACCESS, OPTION_STRING,
     FIELD(token.previous_file), .help = "The same from a file."},
    {"client.token.hmac_previous_secret_key_valid_until", NULL, "SECONDS", GROUP_ACCESS, OPTION_INT,
     FIELD(token.previous_until_s), .initial = "0", .max = INT64_MAX / 1000,
     .help = "When the previous secret ends, in seconds since 1970. 0: never."},
    {"client.token.keys", NULL, "JSON", GROUP_ACCESS, OPTION_KEYS, FIELD(token.keys),
     .help = "More secrets, for tokens that name theirs by kid: a list of "
             "{\"kid\": NAME, \"secret\": TEXT} or {\"kid\": NAME, \"secret_file\": FILE}."},
    {"client.disallow_anonymous_connection_tokens", NULL, NULL, GROUP_ACCESS, OPTION_BOOL,
     FIELD(no_anonymous_tokens), .initial = "false",
     .help = "Refuse tokens whose sub is empty or absent."},
    {"client.insecure", NULL, NULL, GROUP_ACCESS, OPTION_BOOL, FIELD(insecure), .initial = "false",
     .help = "No token is asked for and everything is allowed. For a closed network only."},

    {"client.subscription_token.enabled", NULL, NULL, GROUP_ACCESS, OPTION_BOOL,
     FIELD(subscription_token_enabled), .initial = "false",
     .help = "Subscription tokens have secrets and rules of their own, those below; else the ones "
             "of client.token are for both."},
    {"client.subscription_token.hmac_secret_key", NULL, "SECRET", GROUP_ACCESS, OPTION_SECRET,
     FIELD(subscription_token.secret_value), .help = "This and what follows: as in client.token."},
    {"client.subscription_token.hmac_secret_key_file", NULL, "FILE", GROUP_ACCESS, OPTION_STRING,
     FIELD(subscription_token.secret_file), .help = "The same from a file."},
    {"client.subscription_token.hmac_previous_secret_key", NULL, "SECRET", GROUP_ACCESS,
     OPTION_SECRET, FIELD(subscription_token.previous_value),
     .help = "The secret before the last change."},
    {"client.subscription_token.hmac_previous_secret_key_file", NULL, "FILE", GROUP_ACCESS,
     OPTION_STRING, FIELD(subscription_token.previous_file), .help = "The same from a file."},
    {"client.subscription_token.hmac_previous_secret_key_valid_until", NULL, "SECONDS",
     GROUP_ACCESS, OPTION_INT, FIELD(subscription_token.previous_until_s), .initial = "0",
     .max = INT64_MAX / 1000, .help = "When the previous secret ends. 0: never."},
    {"client.subscription_token.keys", NULL, "JSON", GROUP_ACCESS, OPTION_KEYS,
     FIELD(subscription_token.keys), .help = "More secrets, with a kid."},
    {"client.subscription_token.audience", NULL, "TEXT", GROUP_ACCESS, OPTION_STRING,
     FIELD(subscription_token.audience), .help = "What aud must be or hold. Empty: not looked at."},
    {"client.subscription_token.issuer", NULL, "TEXT", GROUP_ACCESS, OPTION_STRING,
     FIELD(subscription_token.issuer), .help = "What iss must be. Empty: not looked at."},
    {"client.subscription_token.user_id_claim", NULL, "NAME", GROUP_ACCESS, OPTION_STRING,
     FIELD(subscription_token.user_id_claim), .initial = "sub",
     .help = "The claim that names the user."},
    {"client.subscription_token.leeway", NULL, NULL, GROUP_ACCESS, OPTION_DURATION,
     FIELD(subscription_token.leeway_ms), .initial = "0", .max = HOUR,
     .help = "How far clocks may differ."},

    /* ---- HTTP API ---- */
    {"http_api.key", NULL, "SECRET", GROUP_API, OPTION_SECRET, FIELD(api_key_value),
     .help = "Key that a backend shows in X-API-Key. Without one the API is off."},
    {"http_api.key_file", "api-key-file", "FILE", GROUP_API, OPTION_STRING, FIELD(api_key_file),
     .help = "File that holds the API key."},
    {"http_api.keys", NULL, "JSON", GROUP_API, OPTION_KEYS, FIELD(api_keys),
     .help = "More keys, for one purpose each: a list of {name, key or key_file, scope}; scope is "
             "publish, read or all. The log names the key of each call that changes something."},
    {"http_api.audit_publications", NULL, NULL, GROUP_API, OPTION_BOOL,
     FIELD(api_audit_publications), .initial = "false",
     .help = "The log tells of each publish and broadcast as well."},
    {"http_api.disabled", NULL, NULL, GROUP_API, OPTION_BOOL, FIELD(api_disabled),
     .initial = "false", .help = "No HTTP API, key or not."},
    {"http_api.insecure", NULL, NULL, GROUP_API, OPTION_BOOL, FIELD(api_insecure),
     .initial = "false", .help = "The API asks for no key. For a closed network only."},
    {"http_api.max_body_size", NULL, NULL, GROUP_API, OPTION_SIZE, FIELD(api_max_body_bytes),
     .initial = "1MiB", .min = KIB, .max = 64 * MIB, .help = "Longer request bodies are refused."},
    {"http_api.idempotency_max_entries", NULL, "N", GROUP_API, OPTION_INT,
     FIELD(api_idempotency_max_entries), .initial = "1000000", .min = 64, .max = 1 << 26,
     .help = "Publish calls with an idempotency_key whose results are remembered, for 300 s each, "
             "in about 60 bytes; beyond it the oldest are forgotten.",
     .restart = true},

    {"http_api.error_mode", NULL, NULL, GROUP_API, OPTION_CHOICE, FIELD(api_errors), .initial = "",
     .choices = error_modes,
     .help = "How a call that failed is answered: 200 with an error in the body, or with a status "
             "that fits (transport)."},

    /* ---- console ---- */
    {"admin.enabled", NULL, NULL, GROUP_CONSOLE, OPTION_BOOL, FIELD(console), .initial = "false",
     .help = "Serve the console, for who has the password: on admin_listen or, without one, on "
             "loopback and Unix sockets. With --dev it is there in any case."},
    {"admin.password", NULL, "SECRET", GROUP_CONSOLE, OPTION_SECRET, FIELD(console_password_value),
     .help = "Its password, 12 characters or more. With --dev it may be left out: then nobody is "
             "asked for it."},
    {"admin.password_file", NULL, "FILE", GROUP_CONSOLE, OPTION_STRING,
     FIELD(console_password_file), .help = "The same from a file."},

    /* ---- life of a connection ---- */
    {"client.ping_interval", "ping-interval", NULL, GROUP_CONNECTION, OPTION_DURATION,
     FIELD(ping_interval_ms), .initial = "25s", .max = DAY,
     .help = "A ping goes out this often, or a little earlier. 0: none, and dead peers are only "
             "noticed by TCP."},
    {"client.pong_timeout", "pong-timeout", NULL, GROUP_CONNECTION, OPTION_DURATION,
     FIELD(pong_timeout_ms), .initial = "8s", .min = 1, .max = DAY,
     .help = "A peer that has not answered a ping by then is closed with 3012. Must be less than "
             "client.ping_interval."},
    {"client.connection_max_age", "max-connection-age", NULL, GROUP_CONNECTION, OPTION_DURATION,
     FIELD(connection_max_age_ms), .initial = "1h", .max = 366 * DAY,
     .help = "A connection is closed at this age, up to a fifth earlier, and its client comes "
             "back. 0: never. Raw clients miss what is published in between."},
    {"client.expired_close_delay", NULL, NULL, GROUP_CONNECTION, OPTION_DURATION,
     FIELD(expired_close_delay_ms), .initial = "25s", .max = DAY,
     .help = "Grace between a token's end and the close with 3005."},
    {"client.expired_sub_close_delay", NULL, NULL, GROUP_CONNECTION, OPTION_DURATION,
     FIELD(expired_sub_close_delay_ms), .initial = "25s", .max = DAY,
     .help = "Grace between the end of a subscription and its unsubscribe with 2501."},
    {"client.stale_close_delay", NULL, NULL, GROUP_CONNECTION, OPTION_DURATION,
     FIELD(stale_close_delay_ms), .initial = "10s", .min = 1, .max = HOUR,
     .help = "A client of the client protocol that has not connected by then is closed with 3502."},
    {"client.connect_include_server_time", NULL, NULL, GROUP_CONNECTION, OPTION_BOOL,
     FIELD(connect_include_server_time), .initial = "false",
     .help = "Tell the time in the reply to connect."},
    {"websocket.handler_prefix", NULL, "PATH", GROUP_CONNECTION, OPTION_STRING,
     FIELD(websocket_path), .initial = "/connection/websocket",
     .help = "Where the client protocol is spoken."},
    {"http_server.proxy_protocol_from", NULL, "CIDR", GROUP_LISTEN, OPTION_STRINGS,
     FIELD(proxy_protocol_from),
     .help =
         "Balancers that say by the PROXY protocol (version 1 or 2) who is behind them: addresses "
         "or "
         "blocks such as 10.0.0.0/8. From these every connection must begin with its header, from "
         "others none may."},
    {"http_server.trusted_proxies", NULL, "CIDR", GROUP_LISTEN, OPTION_STRINGS,
     FIELD(trusted_proxies),
     .help =
         "Proxies whose X-Forwarded-For is believed: the last address in it that is not a trusted "
         "proxy's is the client's."},
    {"http_server.reuse_port", NULL, NULL, GROUP_LISTEN, OPTION_BOOL, FIELD(reuse_port),
     .initial = "false",
     .help =
         "Listen also on a port that another roost with this option listens on: the new server is "
         "started, then the old one stopped.",
     .restart = true},
    {"http_server.handshake_timeout", NULL, NULL, GROUP_CONNECTION, OPTION_DURATION,
     FIELD(handshake_timeout_ms), .initial = "5s", .min = 1, .max = HOUR,
     .help = "For the TLS handshake and the request head in all."},
    {"http_server.idle_timeout", NULL, NULL, GROUP_CONNECTION, OPTION_DURATION,
     FIELD(http_idle_timeout_ms), .initial = "60s", .min = 1, .max = HOUR,
     .help = "For the next request on a kept-alive HTTP connection."},
    {"websocket.close_timeout", NULL, NULL, GROUP_CONNECTION, OPTION_DURATION,
     FIELD(close_timeout_ms), .initial = "5s", .min = 1, .max = HOUR,
     .help = "For the peer's Close after ours; then the connection is cut."},
    {"shutdown.timeout", NULL, NULL, GROUP_CONNECTION, OPTION_DURATION, FIELD(shutdown_timeout_ms),
     .initial = "30s", .min = 1, .max = DAY,
     .help = "After SIGTERM and the delay, connections are closed politely within this time."},
    {"shutdown.delay", NULL, NULL, GROUP_CONNECTION, OPTION_DURATION, FIELD(shutdown_delay_ms),
     .initial = "0", .max = HOUR,
     .help =
         "After SIGTERM, /readyz says 503 for so long while everything is served as before: until "
         "a balancer sends no more."},
    {"shutdown.close_rate", NULL, NULL, GROUP_CONNECTION, OPTION_INT, FIELD(shutdown_close_rate),
     .initial = "1000", .max = 10000000,
     .help = "Connections closed a second when the server stops, those not in use first; more if "
             "four fifths of shutdown.timeout would not be enough. 0: all at once."},

    /* ---- limits ---- */
    {"websocket.message_size_limit", "max-message", "BYTES", GROUP_LIMIT, OPTION_SIZE,
     FIELD(max_message_bytes), .initial = "131072", .min = 1, .max = 64 * MIB,
     .help = "Longest message a client may send, 64 MiB at most; a longer one ends the connection "
             "with 1009."},
    {"client.connection_limit", NULL, "N", GROUP_LIMIT, OPTION_INT, FIELD(connection_limit),
     .initial = "0", .max = INT32_MAX,
     .help = "Connections in all; more are answered with 503. 0: what file descriptors allow."},
    {"client.user_connection_limit", NULL, "N", GROUP_LIMIT, OPTION_INT,
     FIELD(user_connection_limit), .initial = "0", .max = INT32_MAX,
     .help =
         "Connections of one user; more are closed with 3504, after which SDKs do not come back "
         "by themselves, or answered with 429. Those without a user id are not counted, nor, "
         "with single_connection, SDK clients. 0: no limit."},
    {"client.ip_connection_limit", NULL, "N", GROUP_LIMIT, OPTION_INT, FIELD(ip_connection_limit),
     .initial = "0", .max = INT32_MAX,
     .help =
         "Connections of one IPv4 address or one /64 of IPv6, whatever they are used for, loopback "
         "among them; more are answered with 429, or closed before a TLS handshake. Not counted: "
         "Unix sockets, those that come by admin_listen, and proxies themselves, whose clients are "
         "(http_server.proxy_protocol_from, http_server.trusted_proxies). 0: no limit."},
    {"client.connection_rate_limit", NULL, "N", GROUP_LIMIT, OPTION_INT,
     FIELD(connection_rate_limit), .initial = "0", .max = INT32_MAX,
     .help = "Opening handshakes a second in all, shared out evenly to the workers; more are "
             "answered with 429 before their token is looked at. 0: no limit."},
    {"client.queue_max_size", NULL, NULL, GROUP_LIMIT, OPTION_SIZE, FIELD(queue_max_bytes),
     .initial = "1MiB", .min = KIB, .max = GIB,
     .help = "What may wait to be sent to one client, 64 bytes more a message; raw.slow_policy, or "
             "its namespace's "
             "slow_policy, says what happens beyond. An empty queue takes one message of any "
             "allowed size."},
    {"client.total_queue_max_size", NULL, NULL, GROUP_LIMIT, OPTION_SIZE, FIELD(queues_max_bytes),
     .initial = "auto", .automatic = true, .max = 1024 * GIB,
     .help =
         "What may wait to be sent to all clients together, unsent bytes in the kernel included; "
         "beyond it the slowest are closed with 3008, and if that does not help newcomers are "
         "refused with 503. auto: a quarter of the memory there is, 64 MiB at least. 0: no "
         "limit."},
    {"client.unauthenticated_max_size", NULL, NULL, GROUP_LIMIT, OPTION_SIZE,
     FIELD(unauthenticated_max_bytes), .initial = "64MiB", .min = 64 * KIB, .max = 64 * GIB,
     .help = "Kept in all for connections whose token has not been verified yet; beyond it they "
             "are refused with 503."},
    {"client.unfinished_max_size", NULL, NULL, GROUP_LIMIT, OPTION_SIZE,
     FIELD(unfinished_max_bytes), .initial = "256MiB", .min = 64 * KIB, .max = 64 * GIB,
     .help = "Kept in all of messages that have not come to their end, and of API calls; who needs "
             "more is closed with 1011, or refused with 503."},
    {"websocket.control_frames_per_second", NULL, "N", GROUP_LIMIT, OPTION_INT,
     FIELD(control_frames_per_second), .initial = "100", .min = 1,
     .max = 250, /* a byte counts them */
     .help = "Of one client; above it, it is read no further for a while. At most 250."},
    {"channel.max_length", NULL, "N", GROUP_LIMIT, OPTION_INT, FIELD(channel_max_length),
     .initial = "255", .min = 1, .max = 255, .help = "Bytes of a channel's name."},
    {"client.channel_limit", NULL, "N", GROUP_LIMIT, OPTION_INT, FIELD(client_channel_limit),
     .initial = "128", .min = 1, .max = 65536,
     .help = "Channels that one client may be subscribed to."},
    {"client.command_rate_limit", NULL, "N", GROUP_LIMIT, OPTION_INT, FIELD(command_rate_limit),
     .initial = "0", .max = CLIENT_RATE_MAX,
     .help = "Commands a second that one SDK client may send, as many at once; more are refused "
             "with error 111, and who goes on is closed with 3013. It should be above "
             "client.channel_limit: an SDK that comes back subscribes to all at once. 0: no "
             "limit."},
    {"client.publication_rate_limit", NULL, "N", GROUP_LIMIT, OPTION_INT,
     FIELD(publication_rate_limit), .initial = "0", .max = CLIENT_RATE_MAX,
     .help = "The same for its publications, which are commands as well."},
    {"client.byte_rate_limit", NULL, NULL, GROUP_LIMIT, OPTION_SIZE, FIELD(byte_rate_limit),
     .initial = "0", .max = GIB,
     .help = "Bytes a second that one connection may send, fragments, control frames and the heads "
             "of frames among them, without TLS; as many at once, or one message of the largest "
             "size (websocket.message_size_limit) if that is more. Beyond: raw connections are "
             "closed with 1008, SDK clients with 3013, after which they come back. 0: no limit.",
     .restart = true},
    {"raw.message_rate_limit", NULL, "N", GROUP_LIMIT, OPTION_INT, FIELD(raw_message_rate_limit),
     .initial = "0", .max = CLIENT_RATE_MAX,
     .help = "Messages a second that one raw connection may send, as many at once; beyond, it is "
             "closed with 1008. 0: no limit.",
     .restart = true},
    {"client.history_max_publication_limit", NULL, "N", GROUP_LIMIT, OPTION_INT,
     FIELD(history_max_publication_limit), .initial = "300", .min = 1, .max = 65536,
     .help = "Publications that a client gets at once when it asks for history."},
    {"client.recovery_max_publication_limit", NULL, "N", GROUP_LIMIT, OPTION_INT,
     FIELD(recovery_max_publication_limit), .initial = "300", .min = 1, .max = 65536,
     .help = "Publications that a client may have missed and still recover."},
    {"channel.history_max_size", NULL, NULL, GROUP_LIMIT, OPTION_SIZE, FIELD(history_max_bytes),
     .initial = "256MiB", .min = MIB, .max = 1024 * GIB,
     .help =
         "All histories together; beyond it the oldest publications of those that were not used "
         "for longest go."},
    {"channel.limit", NULL, "N", GROUP_LIMIT, OPTION_INT, FIELD(channel_limit),
     .initial = "1000000", .min = 1, .max = (int64_t)1 << 40,
     .help =
         "Channels that may exist at once. Histories that nobody uses make way for new ones; when "
         "there is none, connections for new channels get 503."},

    /* ---- channels ---- */
    {"raw.slow_policy", NULL, NULL, GROUP_CHANNEL, OPTION_CHOICE, FIELD(raw_slow_policy),
     .initial = "close", .choices = slow_policies,
     .help = "A raw client that does not read fast enough is closed with 3008, or loses the oldest "
             "messages waiting for it, or all but the latest."},
    {"channel.namespaces", NULL, "JSON", GROUP_CHANNEL, OPTION_NAMESPACES, FIELD(namespaces),
     .help = "Namespaces: the part of a channel's name before a colon. A list of {\"name\": NAME}; "
             "its other members are listed below, in Options of channels."},
    {"channel.history_meta_ttl", NULL, NULL, GROUP_CHANNEL, OPTION_DURATION,
     FIELD(history_meta_ttl_ms), .initial = "720h", .min = SECOND, .max = YEARS,
     .help = "How long a channel's epoch and offset outlive its last use."},
    {"channel.private_prefix", NULL, "TEXT", GROUP_CHANNEL, OPTION_STRING, FIELD(private_prefix),
     .initial = "$",
     .help = "A name that begins so needs a subscription token. This and the three below: up to "
             "seven bytes; empty: off."},
    {"channel.namespace_boundary", NULL, "TEXT", GROUP_CHANNEL, OPTION_STRING,
     FIELD(namespace_boundary), .initial = ":", .help = "Ends the namespace in a name."},
    {"channel.user_boundary", NULL, "TEXT", GROUP_CHANNEL, OPTION_STRING, FIELD(user_boundary),
     .initial = "#", .help = "Begins the list of users in a name."},
    {"channel.user_separator", NULL, "TEXT", GROUP_CHANNEL, OPTION_STRING, FIELD(user_separator),
     .initial = ",", .help = "Between two users in a name."},

    {"client.subscribe_to_user_personal_channel.enabled", NULL, NULL, GROUP_CHANNEL, OPTION_BOOL,
     FIELD(personal_channel), .initial = "false",
     .help = "Every client with a user id is subscribed to #USER when it connects."},
    {"client.subscribe_to_user_personal_channel.personal_channel_namespace", NULL, "NAME",
     GROUP_CHANNEL, OPTION_STRING, FIELD(personal_namespace),
     .help = "To NAME:#USER instead, a namespace of channel.namespaces."},
    {"client.subscribe_to_user_personal_channel.single_connection", NULL, NULL, GROUP_CHANNEL,
     OPTION_BOOL, FIELD(single_connection), .initial = "false",
     .help = "With enabled: a client that connects closes the other ones of its user with 3504, "
             "after which SDKs do not come back by themselves. client.user_connection_limit then "
             "counts raw connections only."},

    /* ---- options of channels ---- */
    NAMESPACE_ROWS("channel.without_namespace.", IN_CONFIG),

    /* ---- logs, metrics, process ---- */
    {"log.level", "log-level", NULL, GROUP_OBSERVE, OPTION_CHOICE, FIELD(log_level),
     .initial = "info", .choices = log_levels, .help = "What is logged: this and all before it."},
    {"log.format", "log-format", NULL, GROUP_OBSERVE, OPTION_CHOICE, FIELD(log_format),
     .initial = "text", .choices = log_formats,
     .help =
         "text: logfmt, ts=... level=... msg=... and so on; json: an object a line with the same "
         "names.",
     .restart = true},
    {"node.name", NULL, "NAME", GROUP_OBSERVE, OPTION_STRING, FIELD(node_name),
     .help = "What this server is called in the API's info. Empty: the host's name.",
     .restart = true},
    {"log.file", NULL, "FILE", GROUP_OBSERVE, OPTION_STRING, FIELD(log_file),
     .help = "Where logs go, opened anew on SIGHUP. Empty: standard error.", .restart = true},
    {"prometheus.enabled", NULL, NULL, GROUP_OBSERVE, OPTION_BOOL, FIELD(metrics),
     .initial = "true",
     .help = "Serve /metrics: on admin_listen or, without one, on loopback and Unix sockets, and "
             "with --dev."},
    {"prometheus.public", NULL, NULL, GROUP_OBSERVE, OPTION_BOOL, FIELD(metrics_public),
     .initial = "false", .help = "Serve /metrics on every listener."},
    {"prometheus.centrifugo_names", NULL, NULL, GROUP_OBSERVE, OPTION_BOOL, FIELD(centrifugo_names),
     .initial = "false",
     .help = "In /metrics, what Centrifugo counts too by its names as well, for its Grafana "
             "dashboard."},
    {"trace", "trace", "URL", GROUP_OBSERVE, OPTION_STRING, FIELD(trace),
     .help = "Where traces are sent: otlp+http://HOST:4318 (OpenTelemetry, JSON) or "
             "elastic+http://HOST:8200 (Elastic APM), or with +https. Empty: nowhere.",
     .restart = true},
    {"trace_sample", "trace-sample", "P", GROUP_OBSERVE, OPTION_FRACTION, FIELD(trace_sample),
     .initial = "0.01", .help = "Which part of opening handshakes and messages is traced, 0 to 1."},
    {"trace_authorization", NULL, NULL, GROUP_OBSERVE, OPTION_SECRET, FIELD(trace_authorization),
     .help = "What traces are sent with as Authorization: \"Bearer ...\" or \"ApiKey ...\".",
     .restart = true},
    {"emf", "emf", NULL, GROUP_OBSERVE, OPTION_DURATION, FIELD(emf_ms), .initial = "0", .max = DAY,
     .help = "How often figures for CloudWatch are written to standard output (embedded metric "
             "format), a second at least. 0 = never.",
     .restart = true},
    {"health.enabled", NULL, NULL, GROUP_OBSERVE, OPTION_BOOL, FIELD(health), .initial = "true",
     .help = "Serve /healthz, /readyz and /health."},
    {"pid_file", NULL, "FILE", GROUP_OBSERVE, OPTION_STRING, FIELD(pid_file),
     .help = "Where the process id is written.", .restart = true},
    {"user", "user", "NAME", GROUP_OBSERVE, OPTION_STRING, FIELD(user),
     .help = "Go on as this user, or NAME:GROUP, once ports are bound and secrets and certificates "
             "are read; for a server that root starts. Empty: as whoever starts it.",
     .restart = true},

    /* ---- work of one turn ---- */
    {"worker.accepts_per_turn", NULL, "N", GROUP_WORKER, OPTION_INT, FIELD(worker_accepts_per_turn),
     .initial = "64", .min = 1, .max = 65536, .help = "Connections accepted from one listener.",
     .restart = true},
    {"worker.send_batch", "send-batch", NULL, GROUP_WORKER, OPTION_CHOICE, FIELD(worker_send_batch),
     .initial = "auto", .choices = send_batches,
     .help =
         "Where many connections have something to be sent, hand up to 256 sends to the kernel "
         "by one system call, through io_uring (Linux 6.1, unless it is forbidden: as containers "
         "often do). off: one by one, always.",
     .restart = true},
    {"worker.handshake_time", NULL, NULL, GROUP_WORKER, OPTION_DURATION,
     FIELD(worker_handshake_time_ms), .initial = "4ms", .min = 1, .max = SECOND,
     .help =
         "Time for TLS handshakes, as it is measured: a full one takes some 0.2 ms with a P-256 "
         "certificate and 3 ms with RSA, one that is resumed 0.1 ms or less. When it is used up, "
         "the others wait for the next turn, behind those who are connected already.",
     .restart = true},
    {"worker.reads_per_turn", NULL, "N", GROUP_WORKER, OPTION_INT, FIELD(worker_reads_per_turn),
     .initial = "16", .min = 1, .max = 65536, .help = "Reads from one connection.",
     .restart = true},
    {"worker.receive_buffer", NULL, NULL, GROUP_WORKER, OPTION_SIZE,
     FIELD(worker_receive_buffer_bytes), .initial = "256KiB", .min = 16 * KIB, .max = 64 * MIB,
     .help = "The worker's one receive buffer.", .restart = true},
    {"worker.fanout_slice", NULL, "N", GROUP_WORKER, OPTION_INT, FIELD(worker_fanout_slice),
     .initial = "512", .min = 1, .max = INT32_MAX,
     .help = "Subscribers of one channel served before others get their turn.", .restart = true},
    {"worker.mailbox_max_size", NULL, NULL, GROUP_WORKER, OPTION_SIZE,
     FIELD(worker_mailbox_max_bytes), .initial = "64MiB", .min = MIB, .max = 64 * GIB,
     .help = "Publications that may wait for one worker; beyond it a channel's subscribers there "
             "are told that they missed something.",
     .restart = true},

    /* ---- known, not supported yet ---- */
    {"http_server.tls.client_ca_pem", .kind = OPTION_STRING, PLANNED},
    {"client.channel_position_check_delay", .kind = OPTION_DURATION, PLANNED, .initial = "40s"},
    {"client.presence_update_interval", .kind = OPTION_DURATION, PLANNED, .initial = "27s"},
    {"client.user_id_http_header", .kind = OPTION_STRING, PLANNED},
    {"http_api.handler_prefix", .kind = OPTION_STRING, PLANNED, .initial = "/api"},
    {"websocket.disabled", .kind = OPTION_BOOL, PLANNED, .initial = "false"},
    {"websocket.compression", .kind = OPTION_BOOL, PLANNED, .initial = "false"},
    {"websocket.compression_min_size", .kind = OPTION_SIZE, PLANNED, .initial = "0"},
    {"websocket.compression_level", .kind = OPTION_INT, PLANNED, .initial = "1", .max = 9},
    {"websocket.write_timeout", .kind = OPTION_DURATION, PLANNED},
    {"uni_sse.enabled", .kind = OPTION_BOOL, PLANNED, .initial = "false"},
    {"uni_sse.handler_prefix", .kind = OPTION_STRING, PLANNED, .initial = "/connection/uni_sse"},
    {"uni_http_stream.enabled", .kind = OPTION_BOOL, PLANNED, .initial = "false"},
    {"uni_http_stream.handler_prefix", .kind = OPTION_STRING, PLANNED,
     .initial = "/connection/uni_http_stream"},
    {"uni_websocket.enabled", .kind = OPTION_BOOL, PLANNED, .initial = "false"},
    {"uni_websocket.handler_prefix", .kind = OPTION_STRING, PLANNED,
     .initial = "/connection/uni_websocket"},
    {"admin.secret", .kind = OPTION_SECRET, PLANNED},
    {"admin.handler_prefix", .kind = OPTION_STRING, PLANNED},
    {"prometheus.handler_prefix", .kind = OPTION_STRING, PLANNED, .initial = "/metrics"},
    {"health.handler_prefix", .kind = OPTION_STRING, PLANNED, .initial = "/health"},
    {"engine.type", .kind = OPTION_CHOICE, PLANNED, .initial = "memory", .choices = engines},
    {"engine.redis.address", .kind = OPTION_STRINGS, PLANNED},
    {"engine.redis.prefix", .kind = OPTION_STRING, PLANNED},
    {"engine.redis.user", .kind = OPTION_STRING, PLANNED},
    {"engine.redis.password", .kind = OPTION_SECRET, PLANNED},
    {"engine.redis.db", .kind = OPTION_INT, PLANNED},
    TLS_ROWS("engine.redis.tls."),
};
const size_t option_count = sizeof option_table / sizeof option_table[0];

/* ---- finding a row ---- */

const struct option *option_find(const char *key)
{
    for (size_t i = 0; i < option_count; i++)
        if (strcmp(option_table[i].key, key) == 0) return &option_table[i];
    return NULL;
}

static bool is_text(const char *text, const char *p, size_t len)
{
    return text && strlen(text) == len && memcmp(text, p, len) == 0;
}

const struct option *option_find_flag(const char *name, size_t len)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        if (is_text(o->flag, name, len) || is_text(o->key, name, len)) return o;
    }
    return NULL;
}

char *option_env(char out[static OPTION_NAME_MAX], const struct option *o)
{
    size_t n = 0;
    for (const char *p = "ROOST_"; *p; p++) out[n++] = *p;
    for (const char *p = o->key; *p && n < OPTION_NAME_MAX - 1; p++)
        out[n++] = *p == '.' ? '_' : (char)toupper((unsigned char)*p);
    out[n] = '\0';
    return out;
}

const struct option *option_find_env(const char *name, size_t len)
{
    char env[OPTION_NAME_MAX];
    for (size_t i = 0; i < option_count; i++)
        if (is_text(option_env(env, &option_table[i]), name, len)) return &option_table[i];
    return NULL;
}

bool option_is_section(const char *key)
{
    size_t len = strlen(key);
    for (size_t i = 0; i < option_count; i++) {
        const char *k = option_table[i].key;
        if (strncmp(k, key, len) == 0 && k[len] == '.') return true;
    }
    return false;
}

bool option_is_list(const struct option *o)
{
    return o->kind == OPTION_STRINGS || o->kind == OPTION_URLS;
}

const char *option_argument(const struct option *o)
{
    if (o->argument) return o->argument;
    switch (o->kind) {
    case OPTION_BOOL: return "";
    case OPTION_INT: return "N";
    case OPTION_SIZE: return "BYTES";
    case OPTION_DURATION: return "TIME";
    case OPTION_FRACTION: return "P";
    case OPTION_CHOICE: return "WORD";
    case OPTION_STRING:
    case OPTION_STRINGS: return "TEXT";
    case OPTION_SECRET: return "SECRET";
    case OPTION_URLS: return "URL";
    case OPTION_KEYS:
    case OPTION_NAMESPACES: return "JSON";
    }
    return "";
}

/* ---- the nearest name ---- */

/* Levenshtein's distance by one row; long input is cut, which no known name comes near to. */
static size_t distance(const char *a, const char *b)
{
    size_t row[OPTION_NAME_MAX + 1];
    size_t len = strnlen(b, OPTION_NAME_MAX);
    for (size_t j = 0; j <= len; j++) row[j] = j;
    for (size_t i = 0; i < OPTION_NAME_MAX && a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < len; j++) {
            size_t best = diagonal + (a[i] != b[j]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j + 1] + 1 < best) best = row[j + 1] + 1;
            diagonal = row[j + 1];
            row[j + 1] = best;
        }
    }
    return row[len];
}

/* A key that is right but for the section it stands in is as near as one wrong letter. */
static bool same_last_word(const char *a, const char *b)
{
    const char *x = strrchr(a, '.'), *y = strrchr(b, '.');
    return strcmp(x ? x + 1 : a, y ? y + 1 : b) == 0;
}

static const char *nearest(const struct option *table, size_t count, const char *key)
{
    const char *best = table[0].key;
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < count; i++) {
        size_t d = 2 * distance(key, table[i].key);
        if (d > 3 && same_last_word(key, table[i].key)) d = 3;
        if (d >= least) continue;
        least = d;
        best = table[i].key;
    }
    return best;
}

const char *option_nearest_namespace_key(const char *key)
{
    return nearest(namespace_option_table, namespace_option_count, key);
}

static void copy_name(char out[static OPTION_NAME_MAX], const char *name)
{
    size_t len = strnlen(name, OPTION_NAME_MAX - 1);
    memcpy(out, name, len);
    out[len] = '\0';
}

/* --queue-max-size for --client.queue_max_size: as near as one wrong letter. */
static bool is_last_word(const char *key, const char *flag)
{
    const char *dot = strrchr(key, '.');
    const char *word = dot ? dot + 1 : key;
    while (*word && (*word == *flag || (*word == '_' && *flag == '-'))) {
        word++;
        flag++;
    }
    return !*word && !*flag;
}

/* take_nearer keeps name in out if it is nearer than what was seen so far. */
static void take_nearer(char out[static OPTION_NAME_MAX], size_t *least, const char *name, size_t d)
{
    if (d >= *least) return;
    *least = d;
    copy_name(out, name);
}

/* A section, whose name is what stands before a dot, is a known name as well. */
const char *option_nearest_key(char out[static OPTION_NAME_MAX], const char *key)
{
    const char *best = nearest(option_table, option_count, key);
    size_t least = same_last_word(key, best) ? 3 : 2 * distance(key, best);
    copy_name(out, best);
    for (size_t i = 0; i < option_count; i++) {
        char section[OPTION_NAME_MAX];
        copy_name(section, option_table[i].key);
        for (char *dot; (dot = strrchr(section, '.'));) {
            *dot = '\0';
            take_nearer(out, &least, section, 2 * distance(key, section));
        }
    }
    return out;
}

const char *option_nearest_flag(char out[static OPTION_NAME_MAX], const char *flag)
{
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        if (o->flag) take_nearer(out, &least, o->flag, distance(flag, o->flag));
        size_t d = distance(flag, o->key);
        take_nearer(out, &least, o->key, d > 1 && is_last_word(o->key, flag) ? 1 : d);
    }
    return out;
}

const char *option_nearest_env(char out[static OPTION_NAME_MAX], const char *name)
{
    char env[OPTION_NAME_MAX];
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < option_count; i++) {
        option_env(env, &option_table[i]);
        take_nearer(out, &least, env, distance(name, env));
    }
    return out;
}
