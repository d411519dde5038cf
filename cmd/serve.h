/* cmd/serve.h - the server as `roost serve` holds it, between cmd/serve.c (configuration, start and
 * end), cmd/serve_wire.c (what each module is given of the configuration), cmd/serve_listen.c
 * (workers and listeners) and cmd/serve_run.c (signals, reload, watchdog, stop). Nobody else
 * includes it. Main thread. */
#ifndef CMD_SERVE_H
#define CMD_SERVE_H

#include "config.h"
#include "conn.h"
#include "dev.h"
#include "emf.h"
#include "jwt.h"
#include "namespace.h"
#include "privileges.h"
#include "tls.h"

struct serve { /* everything that lives as long as the server */
    struct config config;
    struct dev_state dev;
    struct server server;
    struct app app;
    struct worker_ops ops;
    struct tls_server *tls;
    uint64_t certificates; /* mark of their files when they were last looked at */
    int64_t look_at_ms;    /* when that is done again */
    struct jwt_rules connect_rules, subscribe_rules;
    struct namespace_rules namespaces;
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

/* serve_set_api_keys makes c's keys those that are accepted; 0, or -1 when memory is out. */
int serve_set_api_keys(const struct config *c);

/* serve_files lists c's certificates; serve_files_mark is another number when one of the files is
 * another one, or has changed. */
size_t serve_files(const struct config *c, struct tls_files files[static TLS_PAIRS_MAX]);
uint64_t serve_files_mark(const struct config *c);

/* serve_close_unix takes the files of Unix sockets away and refuses further connections. */
void serve_close_unix(struct serve *s);

int serve_open_signals(void); /* a descriptor, or -1 with errno */

/* serve_until_stop waits for a signal to stop, doing what the others ask for; serve_drain then
 * closes everybody and ends the workers' threads. */
void serve_until_stop(struct serve *s);
void serve_drain(struct serve *s);
void serve_last_figures(struct serve *s); /* of --emf, once no worker runs */

/* serve_say writes "roost: what: why" and returns 1. */
int serve_say(const char *what, const char *why);

#endif
