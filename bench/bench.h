/* bench.h - the load generator `roost bench`: what its modes and dialects share.
 *
 * One thread, one epoll, thousands of dial connections. A mode (run_*.c) says what they do, a
 * dialect (dialect_*.c) how that is said to the server. Every message is verified: opcode, length,
 * bytes, sequence number. The figures are work per second of CPU time of the server's process. */
#ifndef BENCH_H
#define BENCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "dial.h"
#include "histogram.h"
#include "jwt.h"
#include "order.h"

/* ---- target.c: the server under test ---- */

struct target_options {
    const char *bare; /* start this program instead of our own server */
    bool tls;
    unsigned workers;
    bool clients;     /* Centrifuge clients may subscribe, and publish where they have */
    unsigned history; /* publications that channels keep, with positions; 0 = none */
    const char *const *arguments; /* further ones for `roost serve` */
    size_t argument_count;
};

struct target {
    pid_t pid;       /* whose CPU time and memory count, its children's included; 0 = not known */
    bool started;    /* by us: target_stop ends it */
    char url[256];   /* where it listens, with the path of nothing yet */
    char dir[64];    /* its log, certificate and key */
    char secret[65]; /* of tokens; "" = not known */
};

/* target_start starts a server and waits until it listens (10 s at most). 0, or -1 having said why.
 */
int target_start(struct target *t, const struct target_options *o);
void target_stop(struct target *t); /* SIGTERM, then SIGKILL; removes its files */

/* What all processes of the target used so far; -1 when it is not known. */
int64_t target_cpu_ns(const struct target *t);
int64_t target_pss_bytes(const struct target *t);

/* ---- options and counters ---- */

struct bench_options {
    const char *url; /* NULL = start one */
    const char *token, *cacert;
    const char *channel; /* its name */
    unsigned connections, window, ramp;
    unsigned established; /* storm: connections that are there before */
    size_t size;
    double seconds, warm_s;
    double leave_s; /* idle: after all have left, when memory is looked at again; < 0 = not */
    uint64_t count; /* messages after which to stop; 0 = by time alone */
    uint64_t rate;  /* messages, or publications, a second; 0 = the next when one is back */
    bool json, insecure, resume, quiet, close_handshake;
    bool no_subscribe; /* a Centrifuge client connects and no more */
    pid_t server_pid;
    struct target_options target;
};

#define BENCH_WINDOW_MAX 1024

enum bench_phase { BENCH_OPENING, BENCH_WARMING, BENCH_MEASURING, BENCH_DRAINING };

struct bench_counts {
    uint64_t messages, bytes; /* verified and inside the measured time */
    uint64_t opened, resumed; /* connections; inside the measured time for connect */
    uint64_t pings;
    uint64_t damaged;    /* wrong opcode, length or bytes */
    uint64_t refused;    /* could not be opened */
    uint64_t closed;     /* were open, and ended without our wish */
    uint64_t unanswered; /* publish commands without a reply, those with an error as well */
};

#define BENCH_HEAD 16 /* of a message: sequence number, time in ns; then bytes of the pattern */
#define BENCH_SIZE_MAX (16u << 20)
#define BENCH_CHANNEL_MAX 255 /* bytes of a channel's name, the number of a connection included */

struct bench;

struct bench_client {              /* of the Centrifuge dialect */
    struct order offsets, answers; /* of publications; of publish commands, by their id */
    uint64_t offset_base;          /* the offset before the first publication; */
    bool offset_known;             /* false: as the first one says */
    bool positioned;               /* every publication must have an offset */
    bool pong;                     /* pings are answered */
    uint8_t awaited;               /* bits: replies without which it is not open */
    uint64_t commands;             /* publish commands sent */
    uint8_t *part; /* of a message that did not come in one piece; part_cap bytes of storage */
    size_t part_len, part_cap;
};

struct bench_conn {
    struct bench *bench;
    struct dial *dial;
    struct order order; /* of what is received */
    uint64_t sent;      /* messages, for echo */
    uint64_t due;       /* messages, sent or not, at a rate */
    int64_t began_ns;   /* of the opening */
    size_t at;          /* bytes of the message that is being received */
    int fd;             /* in the epoll set; -1 = none */
    unsigned index;
    short wants;
    bool open, bad;
    bool leaving; /* our Close is sent */
    uint8_t head[BENCH_HEAD];
    struct bench_client client;
};

/* Who publishes decides about channels: one for all, or with EACH one for every connection. */
enum bench_publishers { BENCH_NOBODY, BENCH_THE_FIRST, BENCH_EACH_TO_ITSELF };

struct bench_mode {
    const char *name, *what; /* "messages" */
    unsigned connections, size;
    bool latency;
    enum bench_publishers publishers;
    const struct bench_dialect *dialect; /* unless another one is asked for */
    void (*message)(struct bench_conn *c, uint64_t seq, int64_t sent_ns); /* whole and undamaged */
    void (*run)(struct bench *b);                                         /* all of it */
    /* NULL, or: c could not be opened; true if it will be tried again */
    bool (*refused)(struct bench_conn *c);
    void (*opened)(struct bench_conn *c); /* NULL, or: c is open */
};

struct bench_dialect {
    const char *name;
    const char *claims; /* of the tokens that are made, beside sub and exp; begins with a comma */
    bool token_in_command; /* and not in the request's header */
    size_t size_min;       /* of a message */
    /* target writes the request's path and query for connection i. */
    void (*target)(const struct bench *b, unsigned i, char *out, size_t cap);
    /* prepare (may be NULL) gets b->message ready, which holds o.size bytes of the pattern; 0 or
     * -1 with errno. */
    int (*prepare)(struct bench *b);
    /* upgraded: the opening handshake is answered; calls load_opened, now or once a reply allows
     * it. */
    void (*upgraded)(struct bench_conn *c);
    void (*piece)(struct bench_conn *c, const struct ws_event *ev); /* of a data message */
    /* send queues the next message (seq, b->now_ns). False when the connection is gone. */
    bool (*send)(struct bench_conn *c, uint64_t seq);
};

struct storm { /* shared by two processes: first what the established write, then what the storm
                  does */
    pid_t parent;
    int64_t go_ns; /* written before go */
    _Atomic bool go, stop;
    _Atomic int64_t done_ns; /* 0: not all are served; what is below is written before */
    struct histogram before, during, after; /* ns, by when a message was sent */
    uint64_t refused;                       /* attempts */
    uint64_t closed;                        /* that were served */
    unsigned open;
    struct histogram served; /* ns from go until a client was open */
    char failure[256];
};

struct bench {
    struct bench_options o;
    const struct bench_mode *mode;
    const struct bench_dialect *dialect;
    struct target target;
    struct dial_peer peer;
    struct dial_loop *loop;
    int epoll_fd;
    struct bench_conn *conns;
    unsigned next;    /* connection to be opened */
    unsigned opening; /* under way */
    unsigned open;
    enum bench_phase phase;
    int64_t now_ns, progress_ns;
    struct bench_counts counts;
    struct order_faults faults, offset_faults, answer_faults;
    struct histogram latency;
    uint8_t *message; /* head and pattern, o.size bytes, that are sent */
    char *line;       /* the dialect's, for a command around it */
    size_t line_cap;
    /* results */
    double measured_s, server_cpu_s, client_cpu_s;
    int64_t pss_before, pss_after, pss_left; /* pss_left: when all were gone; 0 = not taken */
    unsigned pss_connections;                /* that were open at pss_after */
    char failure[256];                       /* why there is no result */
    uint64_t unsent; /* that were due at a rate, and waited for others to come back */
    int64_t due_ns;  /* at a rate: when the next message is; 0 = there is no rate */
    /* marks of a measurement under way; ended_ns when it is over */
    int64_t ended_ns, began_ns, began_server_ns, began_client_ns;
    struct storm *storm; /* of that mode */
    void *state;         /* the mode's */
};

extern const struct bench_mode bench_idle, bench_connect, bench_echo, bench_fanout, bench_storm;
extern const struct bench_dialect dialect_raw, dialect_echo, dialect_centrifuge;

/* bench_stop becomes true at SIGINT and SIGTERM. */
extern volatile bool bench_stop;

int64_t bench_clock_ns(void); /* CLOCK_MONOTONIC */

/* bench_channel writes the name of connection i's channel. */
void bench_channel(const struct bench *b, unsigned i, char out[static BENCH_CHANNEL_MAX + 1]);

/* ---- load.c: connections ---- */

/* load_open opens o.connections connections, o.ramp at a time. false with b->failure set. */
bool load_open(struct bench *b);
/* load_begin begins to open connection c (again). */
bool load_begin(struct bench_conn *c);
/* load_turn waits up to timeout_ms for events and handles them. */
void load_turn(struct bench *b, int timeout_ms);
/* load_flush sends what was queued outside of load_turn's own step for c. */
void load_flush(struct bench_conn *c);
void load_close_all(struct bench *b);
/* load_drop resets a connection: no TIME_WAIT on either side holds its port. */
void load_drop(struct bench_conn *c);
/* load_leave does that, or begins a closing handshake if they were asked for. */
void load_leave(struct bench_conn *c);
/* load_run runs turns for so long, or until `count` messages. each (may be NULL) is called after
 * every turn. */
void load_run(struct bench *b, double seconds, void (*each)(struct bench *b));

/* load_measure does that for warm_s and then for `seconds`, and takes CPU time and clock at both
 * ends of the latter. */
void load_measure(struct bench *b, void (*each)(struct bench *b));
void load_mark_begin(struct bench *b); /* the two ends alone, for what is measured otherwise */
void load_mark_end(struct bench *b);

/* What dialects tell: c is open; it has got a message, whole and undamaged, of so many bytes. */
void load_opened(struct bench_conn *c);
void load_received(struct bench_conn *c, uint64_t seq, int64_t sent_ns, size_t len);
/* load_token gives the token of a connection: the one that was asked for, or one of its own, in
 * out; NULL if there is none. */
const char *load_token(const struct bench *b, char *out, size_t cap);
/* load_unanswered: publish commands that have no reply yet. */
uint64_t load_unanswered(const struct bench *b);

/* ---- report.c ---- */

void report_progress(struct bench *b, const char *what, uint64_t n);
void report_progress_end(struct bench *b);
void report_print(const struct bench *b);
bool report_faultless(const struct bench *b);

#endif
