/* worker.h - a thread with its listeners, reactor, memory, timers and mailbox; and the turn that it
 * repeats.
 *
 * A worker touches only its own memory; what crosses workers is a post in a mailbox. What is done
 * with a connection, a post or a timer is said by a table of functions (struct worker_ops), so that
 * this module knows no connection. Threads: struct server is filled before workers start and then
 * only its _Atomic fields change. A struct worker belongs to its thread, apart from mailbox,
 * metrics (readers), stop and reactor_wake. */
#ifndef WORKER_H
#define WORKER_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel.h"
#include "mailbox.h"
#include "mem.h"
#include "metrics.h"
#include "reactor.h"
#include "settings.h"
#include "wheel.h"

#define WORKERS_MAX 64 /* a channel's interested workers are bits of a uint64_t */

struct conn;
struct tls_server;
struct trace;
struct worker;
struct app;

/* A listening socket of one worker. TCP: its own, by SO_REUSEPORT; Unix and inherited: shared with
 * EPOLLEXCLUSIVE. */
struct listener {
    int fd;
    bool shared;            /* the descriptor is one for all workers */
    bool kept;              /* somebody else keeps it open: what waits is for the next server */
    bool local;             /* loopback or Unix socket */
    bool admin;             /* of --admin-listen */
    bool clients;           /* of --listen */
    struct tls_server *tls; /* NULL = plain */
};
#define LISTENERS_MAX 32
_Static_assert(LISTENERS_MAX == KERNEL_LISTENERS, "a place for each");

struct peer_address {   /* of an accepted socket */
    struct in6_addr ip; /* IPv4 as ::ffff:a.b.c.d; zero for a Unix socket */
    uint16_t port;      /* host order */
};

struct worker_ops {
    /* a socket was accepted: takes over fd */
    void (*accepted)(struct worker *w, const struct listener *l, int fd,
                     const struct peer_address *from);
    void (*event)(struct conn *c, uint32_t epoll_events);
    void (*ready)(struct worker *w);        /* connections with work left over from earlier */
    int (*idle_ms)(const struct worker *w); /* how long there is nothing to do unless something
                                               comes; 0 = there is */
    void (*posts)(struct worker *w,
                  struct post *oldest); /* may be NULL: then only what is left of earlier ones */
    void (*timer)(struct wheel_timer *t, void *worker);
    void (*flush)(struct worker *w);  /* write what the turn has queued */
    void (*second)(struct worker *w); /* NULL, or: about once a second, if there are turns */
    void (*end)(struct worker *w);    /* free what the turn has closed */
    void (*stopping)(
        struct worker *w); /* once, when a stop was asked for; listeners are closed already */
    int (*draining)(struct worker *w);    /* in each turn of a drain: closes what is due; how long
                                             until more is */
    int (*rebalancing)(struct worker *w); /* the same while rebalance.left is not 0 */
    void (*gone)(struct worker *w); /* NULL, or: give back what is w's; its thread has ended */
};

/* conn_vector: connections of one worker, in an array mapped once for as many as there can be
 * descriptors: pushing neither fails nor moves. */
struct conn_vector {
    struct conn **items;
    uint32_t count;
};

struct worker_options {
    int64_t accepts_per_turn;
    int64_t receive_buffer_bytes;
    uint64_t mailbox_max_bytes;
};

enum worker_stop { WORKER_RUNS, WORKER_DRAINS, WORKER_ENDS };

struct server { /* the process */
    struct worker_options options;
    const struct worker_ops *ops;
    const struct app *app; /* what the layers above do; conn.h */
    /* what workers take at the beginning of a turn; NULL: settings_first stays. Main stores it with
     * release, and frees the one before when worker_all_took says so */
    const struct settings *_Atomic settings;
    struct worker *workers[WORKERS_MAX];
    unsigned worker_count;
    const char *listener_urls[LISTENERS_MAX]; /* of worker.listeners; borrowed */
    unsigned listener_count;
    uint32_t conns_max;   /* per worker: the descriptor limit */
    uint32_t sockets_max; /* of the process: descriptors that are not in use for anything else */
    int64_t started_ms, started_s;
    const char *tls_backend; /* who does TLS records, static text; NULL: there is no TLS */
    /* relaxed counters that several workers write: once per connection, never per message */
    _Atomic int64_t connections;           /* WebSocket connections open */
    _Atomic int64_t tls_in_flight;         /* TLS handshakes begun and not ended */
    _Atomic int64_t unauthenticated_bytes; /* kept for connections without a verified token */
    _Atomic int64_t unfinished_bytes;      /* kept of messages, and of bodies with a good key */
    _Atomic int64_t over_since_ms;         /* conn/shed.c: too much waits in out queues; 0 = not */
    _Atomic bool crowded;                  /* and shedding did not help: newcomers are refused */
    _Atomic bool draining; /* readyz says 503, and answers end their connections; set by main */
    _Atomic bool closing;  /* newcomers are refused, and then closed who is there; set by main */
    _Atomic uint64_t reloads, reloads_failed; /* written by main */
    _Atomic int64_t reloaded_s;               /* wall clock of the last that went well; 0 = none */
    _Atomic uint64_t certificate_reads, certificate_reads_failed; /* again, by main */
    _Atomic int64_t certificates_end_s; /* of the first; 0 = there are none; by main */
    /* set by main before it stops workers: how many connections there are, and how many of them a
     * second are closed, in all */
    uint32_t drain_from, drain_rate;
    _Atomic int running;   /* worker threads; release by the one that ends */
    _Atomic int undrained; /* those that may still have connections; they all end together, so that
                              errands come back */
    int done_fd;           /* eventfd, -1 = none: written when the last thread ends */
};

struct drain {       /* of one worker */
    uint32_t cursor; /* connections below it have not been looked at in this pass */
    bool busy_too;   /* the second pass: those in use as well */
    int64_t credit;  /* in thousandths of a connection */
    int64_t rate;    /* thousandths of a connection a millisecond: connections a second */
    int64_t at_ms;   /* of credit */
};

struct rebalance {        /* of one worker; conn/rebalance.c */
    uint32_t left;        /* connections to be closed yet; 0 = nothing is under way */
    uint32_t newest;      /* id of the youngest connection when it began */
    uint32_t cursor;      /* as in struct drain */
    uint32_t rank;        /* the oldest so many with this prefix are chosen */
    uint32_t prefix;      /* upper bits of the age of the youngest that is chosen */
    uint32_t bits;        /* how many these are; 32: all are known, and it closes */
    int64_t credit;       /* in millionths of a connection */
    int64_t rate;         /* thousandths of a connection a second */
    int64_t at_ms;        /* of credit */
    uint32_t counts[256]; /* connections with the prefix, by the next bits of their age */
};

struct worker {
    /* read on every turn */
    struct server *server;
    unsigned index;
    enum worker_stop stopped; /* how far stop has been obeyed */
    struct drain drain;
    int drain_ms; /* until drain or rebalance has more to close, -1 = nothing is */
    struct rebalance rebalance;
    int64_t now_ms, now_us; /* monotonic; read once a turn */
    int64_t ahead_ms;       /* of it, the wall clock; worker_date_ms */
    int64_t ahead_at_us;    /* now_us of the turn that read it */
    uint64_t wake;          /* bits of workers whose mailbox was empty when this one pushed */
    struct mem_pool *pool;
    uint32_t batch_from;      /* connections with something to send, from which on it goes by
                                 batches; 0 = never; conn/batch.c */
    struct conn_batch *batch; /* NULL: none was needed yet */
    struct mem_pool *secrets; /* keys of TLS sessions: not in core dumps */
    struct wheel wheel;       /* ticks of WORKER_TICK_MS */
    struct metrics metrics;
    uint8_t *rx;     /* the one receive buffer: plain bytes, rx_size and RX_MARGIN more */
    uint8_t *cipher; /* received TLS bytes, rx_size; made when the first TLS connection comes */
    uint8_t *tx;     /* bytes on their way out: several frames or TLS records, tx_size */
    size_t rx_size, tx_size;
    struct conn_vector conns; /* all of them; a connection knows its slot */
    struct conn_vector dirty, ready, closed;
    struct conn_vector waiting; /* those whose socket took less than there was (conn/shed.c) */
    int64_t handshake_us;       /* spent on TLS handshakes in this turn */
    unsigned turned_away;       /* connections that are told that their address has too many */
    unsigned full_turns; /* turns in a row in which the kernel had more events than were taken */
    int64_t trim_at_ms;
    int64_t heap_used_ms; /* when malloc's heap was last used for something large: a TLS handshake,
                             40 KiB; 0 = not since it was trimmed */
    int64_t look_at_ms;   /* when what waits is looked at again, in a turn for that; 0 = in the next
                             one that comes */
    uint32_t sampled;     /* of waiting: who is asked next */
    int64_t sample_at_ms;
    uint32_t asked;                /* of conns: whose socket the kernel is asked about next */
    struct kernel_sockets sockets; /* what it said */
    bool congested;                /* some mailbox is half full: publishers are read later */
    bool trimming;                 /* there is memory to give back: do not sleep long */
    int64_t handshake_credit,
        credit_at_ms; /* for a rate limit of handshakes; when it was last refilled */
    uint64_t next_conn_id;
    int64_t date_until_ms; /* when date is old */
    char date[40];         /* "Date: Tue, 24 Nov 2026 06:00:00 GMT\r\n" */
    uint64_t random;       /* state of worker_random */
    struct trace *trace;   /* this worker's tracer; NULL: nothing is traced */
    void *watchers;        /* watch.h: who follows connections of this worker; NULL: nobody */
    void *pubsub;          /* this worker's half of the bus */
    void *users;           /* interned user names */
    struct listener listeners[LISTENERS_MAX];
    unsigned listener_count;
    uint32_t
        conns_max; /* what the vectors have room for: server.conns_max, unless memory was refused */
    uint32_t rest_conns;   /* how many connections there were when the listeners began to rest */
    int64_t rest_until_ms; /* no descriptor, not even a spare one: listeners are out of epoll; 0 =
                              they are not */
    int spare_fd;          /* given up for a moment to accept and close when descriptors run out */
    struct reactor reactor;
    pthread_t thread;
    _Atomic int stop;      /* enum worker_stop; written by main */
    _Atomic uint64_t took; /* generation of its settings; release: it has let go of older ones */
    struct mailbox mailbox;
    struct mailbox errands; /* worker_errand.h */
};

#define WORKER_TICK_MS 8
#define RX_MARGIN                                                                                  \
    (17u * 1024) /* a TLS record is opened into rx if it could be of the largest size */

/* worker_new makes a worker, not yet running, with its memory and reactor. NULL with errno.
 * worker_delete ends it; its thread is gone. Main thread. */
struct worker *worker_new(struct server *s, unsigned index);
void worker_delete(struct worker *w);

/* worker_listen adds a listening socket (taken over). 0 or -1 with errno. Before worker_start. */
int worker_listen(struct worker *w, const struct listener *l);

/* worker_start runs the turns in a thread of their own until worker_stop; 0 or -1 with errno. Main
 * thread. */
int worker_start(struct worker *w);

/* worker_stop asks for a drain (accept queues are emptied, ops->stopping is called, the thread ends
 * when no connection is left) or for the end at once. Any thread; worker_join waits for the thread.
 */
void worker_stop(struct worker *w, enum worker_stop how);
void worker_join(struct worker *w);

/* worker_turn does one turn; for tests that drive a worker without a thread. timeout_ms bounds the
 * sleep. */
void worker_turn(struct worker *w, int timeout_ms);

/* worker_all_took: has every worker of s begun a turn with the settings of that generation? Then
 * none holds a pointer into older ones. Main thread, while all of them run. */
bool worker_all_took(const struct server *s, uint64_t generation);

/* worker_wake_others wakes the workers noted in w->wake. */
void worker_wake_others(struct worker *w);

static inline uint32_t worker_tick(const struct worker *w)
{
    return (uint32_t)(w->now_ms / WORKER_TICK_MS);
}

/* worker_date_ms: the wall clock as of this turn, in ms since 1970. It may jump; what ends on a
 * date is compared with it, all else with now_ms. */
int64_t worker_date_ms(struct worker *w);

/* worker_arm sets t to fire in ms from now, rounded up to ticks. */
void worker_arm(struct worker *w, struct wheel_timer *t, int64_t in_ms);

/* worker_random: a fast generator for jitter; not for secrets. */
uint64_t worker_random(struct worker *w);

int64_t clock_us(void); /* monotonic */

#ifdef ROOST_FAULTS
extern _Atomic bool worker_wedge; /* the first worker makes no turn any more */
#endif

static inline void conn_vector_push(struct conn_vector *v, struct conn *c)
{
    v->items[v->count++] = c;
}

#endif
