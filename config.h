/* config.h - what an operator can set: one table drives the configuration file, the environment,
 * the flags, --help, `roost check` and docs/options.md.
 *
 * Order: defaults < file (--config FILE, JSON) < environment (ROOST_...) < flags. Main thread; what
 * it points to does not change and any thread may read it until config_free.
 * Durations are milliseconds (*_ms), sizes are bytes (*_bytes). */
#ifndef CONFIG_H
#define CONFIG_H

#include "log.h"
#include "namespace.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- values ---- */

enum config_scheme { CONFIG_WS, CONFIG_WSS, CONFIG_UNIX };

#define CONFIG_HOST_MAX 64  /* an address literal and a NUL */
#define CONFIG_PATH_MAX 108 /* sun_path */

struct config_url { /* a listener: ws://HOST:PORT, wss://HOST:PORT or unix:/path */
    enum config_scheme scheme;
    bool ipv6;                  /* host is an IPv6 literal */
    bool loopback;              /* 127.0.0.0/8, ::1 or a Unix socket: not reachable from outside */
    uint16_t port;              /* 0: the kernel chooses */
    char host[CONFIG_HOST_MAX]; /* without brackets; localhost has become 127.0.0.1 */
    char path[CONFIG_PATH_MAX]; /* CONFIG_UNIX only */
};

struct config_urls {
    struct config_url *items;
    size_t count;
};

struct config_strings {
    char **items;
    size_t count;
};

struct config_secret { /* bytes of a key; wiped by config_free. len 0: not set */
    uint8_t *bytes;    /* a NUL follows, not counted */
    size_t len;
};

/* What a key of the HTTP API is for. */
enum config_scope { CONFIG_SCOPE_NONE, CONFIG_SCOPE_PUBLISH, CONFIG_SCOPE_READ, CONFIG_SCOPE_ALL };

struct config_key { /* one of client.token.keys, or of http_api.keys */
    char *kid;      /* or name */
    struct config_secret secret;
    enum config_scope scope; /* of http_api.keys; not said: CONFIG_SCOPE_NONE */
};

struct config_keys {
    struct config_key *items;
    size_t count;
};

/* What happens to a subscriber whose out queue is full. */
enum config_slow_policy { CONFIG_SLOW_CLOSE, CONFIG_SLOW_DROP_OLDEST, CONFIG_SLOW_KEEP_LATEST };

/* Tokens of connections (client.token) or of subscriptions (client.subscription_token). */
struct config_token {
    struct config_secret secret;   /* hmac_secret_key or its file; dev fills it if empty */
    struct config_secret previous; /* hmac_previous_secret_key or its file */
    int64_t previous_until_s;      /* wall clock, 0 = no end */
    struct config_keys keys;       /* named keys (kid) */
    char *audience;                /* "" = any */
    char *issuer;                  /* "" = any */
    char *user_id_claim;           /* never "" */
    int64_t leeway_ms;             /* for exp, nbf, iat */
    /* values that secret and previous were made from; use those */
    struct config_secret secret_value, previous_value;
    char *secret_file, *previous_file;
};

enum config_recovery { CONFIG_RECOVERY_DEFAULT, CONFIG_RECOVERY_STREAM, CONFIG_RECOVERY_CACHE };

struct config_namespace { /* one of channel.namespaces, or channel.without_namespace */
    char *name;           /* NULL: without_namespace */
    /* as it is written; what is in effect is in the table of config_namespace_rules */
    struct channel_options options;
    int64_t history_size;
    enum config_recovery recovery_mode;
    char *channel_regex;
};

struct config_namespaces {
    struct config_namespace *items;
    size_t count;
};

enum config_send_batch { CONFIG_BATCH_AUTO, CONFIG_BATCH_OFF };
enum config_tls_backend { CONFIG_TLS_AUTO, CONFIG_TLS_DETACHED, CONFIG_TLS_MBEDTLS };
enum config_log_format { CONFIG_LOG_TEXT, CONFIG_LOG_JSON };

/* How the API says that a call failed: in the body of a 200, or by the status as well. */
enum config_api_errors { CONFIG_API_ERRORS_REPLY, CONFIG_API_ERRORS_TRANSPORT };

/* A size that is to be found from what the machine has ("auto"). */
#define CONFIG_AUTOMATIC (-1)

/* ---- the configuration: strings and lists belong to it, absent strings are "" ---- */

struct config {
    /* listeners */
    struct config_urls listen;
    struct config_urls admin_listen; /* API, metrics and console, if any; then not on listen */
    bool reuse_port;                 /* another server may listen on the same ports */
    struct config_strings proxy_protocol_from, trusted_proxies; /* blocks of addresses */
    struct config_strings tls_cert_files;                       /* PEM chains */
    struct config_strings tls_key_files;                        /* the key of each */
    struct config_strings tls_ticket_key_files;                 /* the first seals */
    enum config_tls_backend tls_backend;
    int64_t tls_max_handshakes; /* in flight at once, whole process */
    char *config_file;          /* as given by --config, "" = none */
    int64_t workers;            /* 0: as many as the CPUs this process may use */
    bool dev;
    bool echo;        /* the path /echo */
    bool token_query; /* a token in ?token= is accepted */

    /* handshake, keep-alive, closing */
    int64_t handshake_timeout_ms; /* TLS and request head in all */
    int64_t http_idle_timeout_ms; /* between two requests of a keep-alive connection */
    int64_t close_timeout_ms;     /* for the peer's Close, RFC 6455 section 7.1.1 */

    /* who may connect */
    struct config_strings allowed_origins; /* glob patterns, protocol.md section 9 */
    struct config_token token;             /* connections: client.token */
    bool subscription_token_enabled;       /* else client.token is for subscriptions as well */
    struct config_token subscription_token;
    bool anonymous;           /* client.allow_anonymous_connect_without_token */
    bool no_anonymous_tokens; /* client.disallow_anonymous_connection_tokens */
    bool insecure;            /* no token needed and everything allowed */

    /* a connection's life */
    int64_t ping_interval_ms;
    int64_t pong_timeout_ms;
    int64_t expired_close_delay_ms;     /* grace after a token's exp */
    int64_t connection_max_age_ms;      /* 0 = off */
    int64_t stale_close_delay_ms;       /* for the first connect command */
    int64_t expired_sub_close_delay_ms; /* grace after a subscription's end */
    bool connect_include_server_time;   /* in the reply to connect */

    /* limits */
    int64_t max_message_bytes;
    int64_t queue_max_bytes;               /* one connection's out queue */
    int64_t queues_max_bytes;              /* all out queues; 0 = no limit, or CONFIG_AUTOMATIC */
    int64_t unfinished_max_bytes;          /* kept for all of messages that are not whole */
    int64_t unauthenticated_max_bytes;     /* kept for all connections without a verified token */
    int64_t connection_limit;              /* whole process; 0 = what descriptors allow */
    int64_t user_connection_limit;         /* 0 = off */
    int64_t byte_rate_limit;               /* of a connection, a second; 0 = off */
    int64_t raw_message_rate_limit;        /* the same */
    int64_t ip_connection_limit;           /* of an IPv4 address or an IPv6 /64; 0 = off */
    int64_t connection_rate_limit;         /* opening handshakes a second, whole process; 0 = off */
    int64_t control_frames_per_second;     /* of one connection, before it is read no further */
    int64_t channel_max_length;            /* bytes of a name */
    int64_t channel_limit;                 /* channels of the process */
    int64_t client_channel_limit;          /* subscriptions of one connection */
    int64_t command_rate_limit;            /* a second, of one SDK client; 0 = off */
    int64_t publication_rate_limit;        /* the same for its publications */
    int64_t history_max_publication_limit; /* in the reply to one history command */
    int64_t recovery_max_publication_limit; /* that a recovery gives back; more: not recovered */
    int64_t history_max_bytes;              /* of all histories */

    /* channels */
    enum config_slow_policy raw_slow_policy;
    struct config_namespace without_namespace;
    struct config_namespaces namespaces;
    int64_t history_meta_ttl_ms; /* where a namespace does not say it */
    char *private_prefix, *namespace_boundary, *user_boundary, *user_separator; /* "" = off */
    bool personal_channel;    /* client.subscribe_to_user_personal_channel.enabled */
    char *personal_namespace; /* "" = none */
    bool single_connection;   /* of a user, with personal_channel */

    /* client protocol */
    char *websocket_path; /* websocket.handler_prefix */

    /* HTTP API */
    bool api_disabled;
    bool api_insecure; /* no key asked for */
    struct config_secret api_key;
    struct config_keys api_keys; /* more of them, each with a name and a scope */
    bool api_audit_publications; /* publish and broadcast are told to the log as well */
    int64_t api_max_body_bytes;
    int64_t api_idempotency_max_entries;
    enum config_api_errors api_errors;

    /* the console */
    bool console;
    struct config_secret console_password;

    /* observation */
    bool metrics;        /* /metrics at all */
    bool metrics_public; /* also on the listeners of clients */
    bool centrifugo_names;
    bool health; /* /healthz, /readyz */
    enum log_level log_level;
    enum config_log_format log_format;
    int64_t emf_ms; /* between two lines for CloudWatch on standard output, 0 = none */
    char *trace;    /* where spans are sent: trace_target_parse; "" = nowhere */
    double trace_sample;
    struct config_secret trace_authorization;
    char *node_name; /* "" = the host's name */
    char *log_file;  /* "" = standard error */
    char *pid_file;  /* "" = none */
    char *user;      /* to go on as, NAME[:GROUP]; "" = as whoever starts it */

    /* stopping */
    int64_t shutdown_delay_ms; /* not ready, but serving still */
    int64_t shutdown_timeout_ms;
    int64_t shutdown_close_rate; /* connections a second, whole process; 0 = all at once */

    /* the work of one turn of a worker */
    int64_t worker_accepts_per_turn; /* connections accepted from a listener */
    enum config_send_batch worker_send_batch;
    int64_t worker_handshake_time_ms;    /* for TLS handshakes in a turn */
    int64_t worker_reads_per_turn;       /* recv calls for one connection */
    int64_t worker_receive_buffer_bytes; /* the worker's one receive buffer */
    int64_t worker_fanout_slice;         /* subscribers served before others get a turn */
    int64_t worker_mailbox_max_bytes;    /* posts waiting for one worker */

    /* values that other options were made from; use the fields above */
    struct config_secret api_key_value, console_password_value;
    char *api_key_file, *console_password_file;
    char *server_address, *server_internal_address;
    int64_t server_port, server_internal_port;
    bool server_tls;

    struct namespace_item *namespace_items; /* for config_namespace_rules */
    size_t namespace_item_count;
};

/* ---- loading ---- */

struct config_note {
    bool is_error; /* else a warning */
    char *text;    /* one line: place, what is wrong, what would be right. Never a secret */
};

struct config_report { /* zero is the start */
    struct config_note *notes;
    size_t count;
    size_t errors;
};

enum config_outcome {
    CONFIG_LOADED,
    CONFIG_WRONG,    /* the report has errors: print it, exit 2 */
    CONFIG_HELP,     /* --help was asked for: config_help(stdout, false), exit 0 */
    CONFIG_HELP_ALL, /* --help-all */
};

/* config_load fills *c, whatever it was, from defaults, file, environment and flags, and checks it.
 * argv[0] is the subcommand's name; every other element must belong to a flag. What is wrong goes
 * to *report, everything that is wrong at once. environment is NAME=value strings up to NULL
 * (environ). *c must be given to config_free whatever the outcome. Keeps no pointer to its
 * arguments, so that SIGHUP can load again from the same ones. */
enum config_outcome config_load(struct config *c, int argc, char *const *argv,
                                char *const *environment, struct config_report *report);
void config_free(struct config *c); /* wipes secrets */

/* config_report_print writes "roost: error: ..." and "roost: warning: ..." lines. */
void config_report_print(const struct config_report *report, FILE *to);
void config_report_free(struct config_report *report);

/* config_secret_set replaces *s by a copy of len bytes (the old ones are wiped); config_string_set
 * replaces a string. For --dev, which makes a secret, a key and a certificate of its own. */
void config_secret_set(struct config_secret *s, const void *bytes, size_t len);
void config_string_set(char **s, const char *text);
void config_strings_add(struct config_strings *list, const char *text);
void config_strings_swap(struct config_strings *a, struct config_strings *b);

/* config_namespace_rules fills *out with the table for namespace_init: the options of channels that
 * are in effect. c must be loaded without an error; all that *out points to belongs to c. */
void config_namespace_rules(const struct config *c, struct namespace_rules *out);

/* config_changed writes the keys of the options that are different in another configuration, parted
 * by spaces, as many as fit into cap (> 16) bytes, and returns how many there are. restart: of
 * those that only a restart changes; else of the others. Values are not shown. config_swap_fixed
 * swaps the values of those that only a restart changes. */
size_t config_changed(const struct config *from, const struct config *to, bool restart, char *out,
                      size_t cap);
void config_swap_fixed(struct config *a, struct config *b);

/* config_parse_url reads a listener's URL. Returns NULL, or a static text that says what is wrong.
 */
const char *config_parse_url(struct config_url *url, const char *text);
/* config_url_format writes ws://127.0.0.1:8080; returns out. */
#define CONFIG_URL_MAX 128
char *config_url_format(char out[static CONFIG_URL_MAX], const struct config_url *url);

/* config_parse_duration reads 25s, 300ms, 1h30m, 1.5h, 2d or 0; config_parse_size 131072, 128KiB,
 * 1MiB or 1GiB. Both return NULL or a static text that says what is wrong. */
const char *config_parse_duration(int64_t *ms, const char *text);
const char *config_parse_size(int64_t *bytes, const char *text);

/* ---- printing ---- */

void config_help(FILE *to, bool all);                     /* option lines of --help */
void config_print_json(FILE *to, const struct config *c); /* effective, secrets as "***" */
void config_print_markdown(FILE *to);                     /* docs/options.md */

#endif
