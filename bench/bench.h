/* bench.h - the load generator `roost bench`: what its modes share.
 *
 * One thread, one epoll, thousands of dial connections. Every message is verified: opcode, length,
 * bytes, sequence number. The figures are work per second of CPU time of the server's process. */
#ifndef BENCH_H
#define BENCH_H

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
    const char *token, *cacert, *channel;
    unsigned connections, window, ramp;
    size_t size;
    double seconds, warm_s;
    uint64_t count; /* messages after which to stop; 0 = by time alone */
    bool json, insecure, quiet, close_handshake;
    pid_t server_pid;
    struct target_options target;
};

enum bench_phase { BENCH_OPENING, BENCH_WARMING, BENCH_MEASURING, BENCH_DRAINING };

struct bench_counts {
    uint64_t messages, bytes; /* verified and inside the measured time */
    uint64_t opened, resumed; /* connections; inside the measured time for connect */
    uint64_t pings;
    uint64_t damaged; /* wrong opcode, length or bytes */
    uint64_t refused; /* could not be opened */
    uint64_t closed;  /* were open, and ended without our wish */
};

#define BENCH_HEAD 16 /* of a message: sequence number, time in ns; then bytes of the pattern */
#define BENCH_SIZE_MAX (16u << 20)

struct bench;

struct bench_conn {
    struct bench *bench;
    struct dial *dial;
    struct order order; /* of what is received */
    uint64_t sent;      /* messages, for echo */
    int64_t began_ns;   /* of the opening */
    size_t at;          /* bytes of the message that is being received */
    int fd;             /* in the epoll set; -1 = none */
    unsigned index;
    short wants;
    bool open, bad;
    bool leaving; /* our Close is sent */
    uint8_t head[BENCH_HEAD];
};

struct bench_mode {
    const char *name, *what; /* "messages" */
    unsigned connections, size;
    bool latency;
    /* target writes the request's path and query for connection i. */
    void (*target)(const struct bench *b, unsigned i, char *out, size_t cap);
    void (*message)(struct bench_conn *c, uint64_t seq, int64_t sent_ns); /* whole and undamaged */
    void (*run)(struct bench *b);                                         /* all of it */
};

struct bench {
    struct bench_options o;
    const struct bench_mode *mode;
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
    struct order_faults faults;
    struct histogram latency;
    uint8_t *message; /* head and pattern, o.size bytes, that are sent */
    /* results */
    double measured_s, server_cpu_s, client_cpu_s;
    int64_t pss_before, pss_after;
    char failure[256]; /* why there is no result */
    /* marks of a measurement under way */
    int64_t began_ns, began_server_ns, began_client_ns;
    void *state; /* the mode's */
};

extern const struct bench_mode bench_idle, bench_connect, bench_echo, bench_fanout;

/* bench_stop becomes true at SIGINT and SIGTERM. */
extern volatile bool bench_stop;

int64_t bench_clock_ns(void); /* CLOCK_MONOTONIC */

/* ---- load.c: connections ---- */

/* load_open opens o.connections connections, o.ramp at a time. false with b->failure set. */
bool load_open(struct bench *b);
/* load_begin begins to open connection c (again). */
bool load_begin(struct bench_conn *c);
/* load_turn waits up to timeout_ms for events and handles them. */
void load_turn(struct bench *b, int timeout_ms);
/* load_flush sends what was queued outside of load_turn's own step for c. */
void load_flush(struct bench_conn *c);
/* load_send sends the next message (seq, now) on c. False when the connection is gone. */
bool load_send(struct bench_conn *c, uint64_t seq);
void load_close_all(struct bench *b);
/* load_drop resets a connection: no TIME_WAIT on either side holds its port. */
void load_drop(struct bench_conn *c);

/* load_measure runs turns for warm_s and then for `seconds`, or until `count` messages, and takes
 * CPU time and clock at both ends. each (may be NULL) is called after every turn. */
void load_measure(struct bench *b, void (*each)(struct bench *b));

/* ---- report.c ---- */

void report_progress(struct bench *b, const char *what, uint64_t n);
void report_progress_end(struct bench *b);
void report_print(const struct bench *b);
bool report_faultless(const struct bench *b);

#endif
