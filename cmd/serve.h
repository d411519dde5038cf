/* cmd/serve.h - the server as `roost serve` holds it, between cmd/serve.c (configuration, start and
 * end), cmd/serve_wire.c (the modules), cmd/serve_set.c (what each is given of a configuration),
 * cmd/serve_listen.c (workers and listeners), cmd/serve_run.c (signals, watchdog, stop) and
 * cmd/serve_reload.c. Nobody else includes it. Main thread. */
#ifndef CMD_SERVE_H
#define CMD_SERVE_H

#include "api.h"
#include "client.h"
#include "config.h"
#include "conn.h"
#include "console.h"
#include "dev.h"
#include "emf.h"
#include "heartbeat.h"
#include "jwt.h"
#include "namespace.h"
#include "privileges.h"
#include "pubsub.h"
#include "raw.h"
#include "route.h"
#include "tls.h"
#include "user_limit.h"

/* A configuration and what the modules are given of it (settings.h). Once it is published workers
 * read all of it but config, which is main's. */
struct serve_set {
    struct config config;
    struct settings settings; /* its parts are the members below */
    struct conn_options conn;
    struct namespace_rules namespaces;
    struct pubsub_options pubsub;
    struct heartbeat_settings heartbeat;
    struct raw_options raw;
    struct jwt_rules connect_rules, subscribe_rules; /* client's */
    struct client_options client;
    struct api_key api_keys[API_KEYS_MAX]; /* api's */
    struct api_options api;
    struct route_options route;
    struct console_options console;
};

struct serve { /* everything that lives as long as the server */
    struct serve_set *set;
    struct serve_set *old; /* the one before, until every worker has let go of it; or NULL */
    bool reload_again;     /* SIGHUP came meanwhile */
    char changed[512];     /* for the log: keys */
    struct dev_state dev;
    struct server server;
    struct app app;
    struct worker_ops ops;
    struct tls_server *tls;
    uint64_t certificates; /* mark of their files when they were last looked at */
    int64_t look_at_ms;    /* when that is done again */
    char urls[LISTENERS_MAX][CONFIG_URL_MAX];
    size_t url_count;
    const char *wss_url, *ws_url; /* of the dev banner */
    struct unix_listener {
        int fd;
        char path[CONFIG_URL_MAX]; /* "": taken away already */
        dev_t
            dev; /* of the file that we made: somebody else may have put another one there since */
        ino_t ino;
    } unixes[LISTENERS_MAX];
    size_t unix_count;
    uint64_t turns[WORKERS_MAX]; /* of each worker when the watchdog last looked */
    int64_t watch_at_ms;         /* when it looks again */
    struct emf emf;
    int argc; /* to read the configuration again */
    char **argv;
    int signal_fd;
    struct privileges user; /* of --user */
    int pid_fd;             /* -1: the pid file is not ours */
};

/* Each answers -1 to go on, or the exit status. */
int serve_wire(struct serve *s);
int serve_make_workers(struct serve *s);
int serve_listen(struct serve *s);

/* serve_set_make fills set from its configuration, which is good; before is the set whose place it
 * will take, or NULL. Returns NULL, or a text that says why it can not be. serve_set_free also
 * frees one that is not made, and NULL. */
const char *serve_set_make(struct serve_set *set, const struct serve_set *before);
void serve_set_free(struct serve_set *set);

/* serve_publish makes s->set the one that workers take at their next turn. */
void serve_publish(struct serve *s);

/* serve_fill_dev gives c what --dev makes by itself. */
void serve_fill_dev(const struct serve *s, struct config *c);

/* serve_files lists c's certificates; serve_files_mark is another number when one of the files is
 * another one, or has changed. */
size_t serve_files(const struct config *c, struct tls_files files[static TLS_PAIRS_MAX]);
uint64_t serve_files_mark(const struct config *c);

/* serve_ticket_keys reads the files of http_server.tls.ticket_key: tls_ticket_keys. */
int serve_ticket_keys(const struct config *c, char *err, size_t err_len);

/* serve_close_unix takes the files of Unix sockets away and refuses further connections. */
void serve_close_unix(struct serve *s);

/* serve_reload reads the configuration and the certificates again, all or nothing. serve_reloading
 * goes on with that: workers may not have taken the new set yet; returns whether it has to be
 * called again soon. serve_look_at_certificates reads them again if their files have changed, now
 * and then. */
void serve_reload(struct serve *s);
bool serve_reloading(struct serve *s);
#define SERVE_LOOK_MS 2000 /* how often, about */
void serve_look_at_certificates(struct serve *s);
void serve_note_certificates(struct serve *s); /* their end, for /metrics */

int serve_open_signals(void); /* a descriptor, or -1 with errno */

/* serve_until_stop waits for a signal to stop, doing what the others ask for; serve_drain then
 * closes everybody and ends the workers' threads. */
void serve_until_stop(struct serve *s);
void serve_drain(struct serve *s);
void serve_last_figures(struct serve *s); /* of --emf, once no worker runs */

/* serve_say writes "roost: what: why" and returns 1. */
int serve_say(const char *what, const char *why);

#endif
