/* settings.h - what may change while the server runs: sets of options, whole and never written to,
 * of which a thread uses one at a time.
 *
 * A set has a part for each module that has such options: a struct of that module's header, which
 * it alone reads. Who replaces a set makes another one beside it, checks it, and stores the
 * pointer for all (struct server's settings); each worker takes it at the beginning of a turn and
 * keeps to it until the next turn, so nobody sees a half of each, and no message waits for a lock.
 * When every worker has said that it took the new set, none can hold a pointer into the old one,
 * and it is freed: whoever keeps such a pointer over the end of a turn keeps the generation beside
 * it, and looks again when that is another (pubsub's channels). Rejected: a lock that readers take
 * (two locked instructions a message), a pause of all workers (as long as the longest turn), and a
 * count of readers in each set (a cache line that all write). Threads: as said at each. */
#ifndef SETTINGS_H
#define SETTINGS_H

#include <stdint.h>

enum settings_part {
    SETTINGS_CONN,       /* struct conn_options */
    SETTINGS_NAMESPACES, /* struct namespace_rules */
    SETTINGS_PUBSUB,     /* struct pubsub_options */
    SETTINGS_HEARTBEAT,  /* struct heartbeat_settings */
    SETTINGS_RAW,        /* struct raw_options */
    SETTINGS_CLIENT,     /* struct client_options */
    SETTINGS_API,        /* struct api_options */
    SETTINGS_ROUTE,      /* struct route_options */
    SETTINGS_CONSOLE,    /* struct console_options */
    SETTINGS_PARTS
};

struct settings {
    uint64_t generation; /* greater than that of the set before; 0: settings_first */
    const void *of[SETTINGS_PARTS];
};

/* settings_first is what every thread begins with; its parts are what the modules' init functions
 * were given. Main thread, before others start. */
extern struct settings settings_first;

/* settings_now is the calling thread's set. A worker's is stored by worker.c, once a turn. */
extern _Thread_local const struct settings *settings_now;

static inline const void *settings_of(enum settings_part part)
{
    return settings_now->of[part];
}

#endif
