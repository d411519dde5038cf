/* metrics.h - a worker's counters and histograms, and their sum as text for Prometheus (format
 * 0.0.4 or OpenMetrics 1.0.0).
 *
 * One worker writes its own struct metrics, anyone reads: every cell is relaxed, a reader may be a
 * turn behind. No lock, no atomic read-modify-write on the message path. */
#ifndef METRICS_H
#define METRICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "command.h"

/* name, Prometheus name behind roost_, type, labels, help */
#define METRICS_TABLE(X)                                                                           \
    X(ACCEPTED, "connections_accepted_total", COUNTER, "", "Sockets accepted")                     \
    X(SOCKETS, "sockets_open", GAUGE, "", "Accepted sockets that are open, in whatever state")     \
    X(CONNECTIONS, "connections_open", GAUGE, "", "WebSocket connections open")                    \
    X(UPGRADED, "connections_upgraded_total", COUNTER, "", "Opening handshakes done")              \
    X(CLOSED, "connections_closed_total", COUNTER, "", "WebSocket connections ended")              \
    X(MESSAGES_IN, "messages_received_total", COUNTER, "", "Data messages received")               \
    X(MESSAGES_OUT, "messages_sent_total", COUNTER, "", "Data messages queued to be sent")         \
    X(BYTES_IN, "bytes_received_total", COUNTER, "", "Bytes read from sockets")                    \
    X(BYTES_OUT, "bytes_sent_total", COUNTER, "", "Bytes taken by sockets")                        \
    X(PUBLISHED, "publications_total", COUNTER, "", "Publications made on this node")              \
    X(OUTDATED, "publications_outdated_total", COUNTER, "",                                        \
      "Publications not made since their version was not newer")                                   \
    X(DELIVERIES, "deliveries_total", COUNTER, "", "Publications queued to subscribers")           \
    X(SUBSCRIPTIONS, "subscriptions", GAUGE, "", "Subscriptions held")                             \
    X(PINGS, "pings_sent_total", COUNTER, "", "Heartbeat pings sent")                              \
    X(BEATS, "heartbeat_messages_total", COUNTER, "", "Messages sent to who asked by ?heartbeat")  \
    X(HTTP_REQUESTS, "http_requests_total", COUNTER, "",                                           \
      "Requests answered other than by upgrade")                                                   \
    X(API_REQUESTS, "api_requests_total", COUNTER, "", "HTTP API calls with a good key")           \
    X(REFUSED_BAD_REQUEST, "refused_total", COUNTER, "reason=\"bad_request\"",                     \
      "Refusals by reason")                                                                        \
    X(REFUSED_TOKEN, "refused_total", COUNTER, "reason=\"token\"", "")                             \
    X(REFUSED_TOKEN_EXPIRED, "refused_total", COUNTER, "reason=\"token_expired\"", "")             \
    X(REFUSED_PERMISSION, "refused_total", COUNTER, "reason=\"permission\"", "")                   \
    X(REFUSED_ORIGIN, "refused_total", COUNTER, "reason=\"origin\"", "")                           \
    X(REFUSED_LIMIT, "refused_total", COUNTER, "reason=\"connection_limit\"", "")                  \
    X(REFUSED_USER, "refused_total", COUNTER, "reason=\"user_connection_limit\"", "")              \
    X(REFUSED_ADDRESS, "refused_total", COUNTER, "reason=\"ip_connection_limit\"", "")             \
    X(REFUSED_RATE, "refused_total", COUNTER, "reason=\"connection_rate\"", "")                    \
    X(REFUSED_MEMORY, "refused_total", COUNTER, "reason=\"memory\"", "")                           \
    X(REFUSED_DESCRIPTORS, "refused_total", COUNTER, "reason=\"descriptors\"", "")                 \
    X(REFUSED_TLS_LIMIT, "refused_total", COUNTER, "reason=\"tls_handshakes\"", "")                \
    X(REFUSED_UNAUTHENTICATED, "refused_total", COUNTER, "reason=\"unauthenticated_bytes\"", "")   \
    X(REFUSED_UNFINISHED, "refused_total", COUNTER, "reason=\"unfinished_bytes\"", "")             \
    X(REFUSED_PROXY, "refused_total", COUNTER, "reason=\"proxy_header\"", "")                      \
    X(REFUSED_CHANNELS, "refused_total", COUNTER, "reason=\"channels\"", "")                       \
    X(REFUSED_QUEUES, "refused_total", COUNTER, "reason=\"queue_budget\"", "")                     \
    X(REFUSED_CLIENT_CHANNELS, "refused_total", COUNTER, "reason=\"client_channels\"", "")         \
    X(REFUSED_CONSOLE, "refused_total", COUNTER, "reason=\"console_password\"", "")                \
    X(ACCEPT_RESTS, "accept_rests_total", COUNTER, "",                                             \
      "Times a worker stopped accepting for want of a descriptor")                                 \
    X(TLS_HANDSHAKES, "tls_handshakes_total", COUNTER, "result=\"full\"",                          \
      "TLS handshakes by result")                                                                  \
    X(TLS_RESUMED, "tls_handshakes_total", COUNTER, "result=\"resumed\"", "")                      \
    X(TLS_FAILED, "tls_handshakes_total", COUNTER, "result=\"failed\"", "")                        \
    X(TLS_IN_FLIGHT, "tls_handshakes_in_flight", GAUGE, "", "TLS handshakes begun and not ended")  \
    X(SEND_BATCHES, "send_batches_total", COUNTER, "", "Batches of sends submitted by io_uring")   \
    X(SENDS_BATCHED, "sends_batched_total", COUNTER, "", "Sends in them")                          \
    X(TLS_DETACHED, "tls_sessions_detached", GAUGE, "",                                            \
      "TLS connections whose records roost does itself, from some 200 bytes each")                 \
    X(TIMED_OUT_HANDSHAKE, "timeouts_total", COUNTER, "what=\"handshake\"",                        \
      "Deadlines that passed")                                                                     \
    X(TIMED_OUT_IDLE, "timeouts_total", COUNTER, "what=\"http_idle\"", "")                         \
    X(TIMED_OUT_PONG, "timeouts_total", COUNTER, "what=\"pong\"", "")                              \
    X(TIMED_OUT_CLOSE, "timeouts_total", COUNTER, "what=\"close\"", "")                            \
    X(TIMED_OUT_TOKEN, "timeouts_total", COUNTER, "what=\"token\"", "")                            \
    X(TIMED_OUT_AGE, "timeouts_total", COUNTER, "what=\"age\"", "")                                \
    X(SLOW_CLOSED, "slow_total", COUNTER, "action=\"close\"", "Slow consumers by what was done")   \
    X(SLOW_DROPPED, "slow_total", COUNTER, "action=\"drop\"", "")                                  \
    X(HISTORY_EVICTED, "history_evicted_total", COUNTER, "",                                       \
      "Publications that left a history because all together were too large")                      \
    X(REBALANCED, "rebalanced_total", COUNTER, "", "Connections closed by calls of rebalance")     \
    X(REBALANCE_LEFT, "rebalance_left", GAUGE, "", "Connections that a rebalance is yet to close") \
    X(WATCHERS, "watchers", GAUGE, "", "Clients of /debug/trace")                                  \
    X(WATCH_LINES, "watch_lines_total", COUNTER, "", "Lines given to clients of /debug/trace")     \
    X(WATCH_LEFT_OUT, "watch_left_out_total", COUNTER, "",                                         \
      "Lines not given to them: above their rate, or not read in time")                            \
    X(SUPERSEDED, "superseded_total", COUNTER, "",                                                 \
      "Connections closed because their user has a newer one")                                     \
    X(RECOVERED, "recoveries_total", COUNTER, "result=\"recovered\"",                              \
      "Subscriptions that asked for what they had missed: got it, had missed nothing, or it was "  \
      "not there any more")                                                                        \
    X(RECOVERED_NOTHING, "recoveries_total", COUNTER, "result=\"nothing_missed\"", "")             \
    X(UNRECOVERED, "recoveries_total", COUNTER, "result=\"failed\"", "")                           \
    X(REPLY_TOO_LARGE, "replies_too_large_total", COUNTER, "",                                     \
      "Recoveries, histories and presences not given to a client for their size")                  \
    X(TOO_LARGE, "messages_too_large_total", COUNTER, "",                                          \
      "Messages of too many bytes or fragments, whose connections were closed with 1009")          \
    X(RATE_COMMANDS, "rate_limited_total", COUNTER, "what=\"command\"",                            \
      "Commands above a client's rate, clients closed for going on; connections closed for "       \
      "theirs")                                                                                    \
    X(RATE_PUBLICATIONS, "rate_limited_total", COUNTER, "what=\"publication\"", "")                \
    X(RATE_BYTES, "rate_limited_total", COUNTER, "what=\"bytes\"", "")                             \
    X(RATE_MESSAGES, "rate_limited_total", COUNTER, "what=\"message\"", "")                        \
    X(RATE_CLOSED, "rate_limited_total", COUNTER, "what=\"close\"", "")                            \
    X(IDEMPOTENCY_KEYS, "idempotency_keys", GAUGE, "",                                             \
      "Publish calls with an idempotency key whose result is remembered")                          \
    X(IDEMPOTENCY_REPEATS, "idempotency_repeats_total", COUNTER, "",                               \
      "Publish calls answered with the result of an earlier one")                                  \
    X(IDEMPOTENCY_EVICTED, "idempotency_evicted_total", COUNTER, "",                               \
      "Results forgotten early because there were too many")                                       \
    X(LOST, "posts_lost_total", COUNTER, "", "Publications a worker's full mailbox did not take")  \
    X(CONTROL_THROTTLED, "control_floods_total", COUNTER, "",                                      \
      "Times a connection was paused for its control frames")                                      \
    X(PAUSED_REPLIES, "pauses_total", COUNTER, "what=\"replies\"",                                 \
      "Times a connection was read no further for a while")                                        \
    X(PAUSED_SHARE, "pauses_total", COUNTER, "what=\"share\"", "")                                 \
    X(QUEUED_BYTES, "queued_bytes", GAUGE, "", "Bytes in out queues")                              \
    X(WAITING_QUEUES, "queue_budget_used_bytes", GAUGE, "in=\"queues\"",                           \
      "What waits for clients that are slow, as client.total_queue_max_size counts it")            \
    X(WAITING_KERNEL, "queue_budget_used_bytes", GAUGE, "in=\"kernel\"", "")                       \
    X(SHED, "shed_total", COUNTER, "",                                                             \
      "Connections closed because too much waited in all queues together")                         \
    X(TURNS, "turns_total", COUNTER, "", "Turns of the event loop")

enum metric_type { METRIC_COUNTER, METRIC_GAUGE };

enum metric {
#define X(id, name, type, labels, help) METRIC_##id,
    METRICS_TABLE(X)
#undef X
        METRIC_COUNT
};

/* Histograms in seconds: bucket i counts values up to 2^i microseconds, i = 0 .. METRIC_BUCKETS -
 * 1; beyond: +Inf only. */
#define METRIC_BUCKETS 24
enum histogram {
    HISTOGRAM_TURN,   /* how long a turn took, i.e. how late the next event was looked at */
    HISTOGRAM_FANOUT, /* from publish to handed to every subscriber of a worker */
    HISTOGRAM_COUNT
};

/* Counters with labels of several values, of which those are shown that have been counted. What has
 * no place of its own is "other". */
enum {
    METRIC_CLOSE_CODES = 49,  /* 1000, 3000 and 3500, 16 each; other */
    METRIC_ERROR_CODES = 17,  /* from 100 on; other */
    METRIC_CLIENT_NAMES = 10, /* of SDKs; other */
    METRIC_API_METHODS = 24,
    METRIC_COMMANDS = COMMAND_SUB_REFRESH + 1,
};

struct metrics {
    _Atomic uint64_t
        value[METRIC_COUNT]; /* gauges may wrap below zero in one worker; the sum is right */
    struct {
        _Atomic uint64_t bucket[METRIC_BUCKETS + 1];
        _Atomic uint64_t sum_us;
    } histogram[HISTOGRAM_COUNT];
    _Atomic uint64_t closes[METRIC_CLOSE_CODES];
    _Atomic uint64_t reply_errors[METRIC_COMMANDS][METRIC_ERROR_CODES];
    _Atomic uint64_t clients[METRIC_CLIENT_NAMES], clients_accepted[METRIC_CLIENT_NAMES];
    struct {
        _Atomic uint64_t calls, errors, us;
    } api[METRIC_API_METHODS];
};

static inline void metric_cell_add(_Atomic uint64_t *cell, uint64_t n)
{
    uint64_t v = atomic_load_explicit(cell, memory_order_relaxed);
    atomic_store_explicit(cell, v + n, memory_order_relaxed);
}

/* metric_add adds to a cell of the calling worker's own metrics. */
static inline void metric_add(struct metrics *m, enum metric id, uint64_t n)
{
    metric_cell_add(&m->value[id], n);
}

static inline void metric_sub(struct metrics *m, enum metric id, uint64_t n)
{
    metric_add(m, id, (uint64_t)0 - n);
}

static inline uint64_t metric_get(const struct metrics *m, enum metric id)
{
    return atomic_load_explicit(&m->value[id], memory_order_relaxed);
}

void metric_observe(struct metrics *m, enum histogram id, uint64_t us);

/* metric_close counts a Close that we began; metric_reply_error an error to a client's command. */
void metric_close(struct metrics *m, unsigned code);
void metric_reply_error(struct metrics *m, enum command_method method, uint32_t code);

/* metric_client_name gives the number of what an SDK calls itself in connect, never 0.
 * metric_client_came and metric_client_left take it; left takes 0 too, and does nothing then. */
uint8_t metric_client_name(struct text name);
void metric_client_came(struct metrics *m, uint8_t name);
void metric_client_left(struct metrics *m, uint8_t name);

/* metric_api counts a call of the API's method number `method`, which took us microseconds. */
void metric_api(struct metrics *m, unsigned method, uint64_t us, bool failed);

/* ---- as text ---- */

struct metrics_text { /* appended to until it is full; then it is not to be used */
    char *p;
    size_t cap, len;
    bool full;
    bool openmetrics;                     /* names as OpenMetrics wants them */
    const struct metrics *const *workers; /* of metrics_render alone, as all below */
    size_t count;
    uint64_t opened, closed; /* WebSocket connections, looked at once */
};
/* name is without roost_; samples of a family come right behind metrics_add_family. */
__attribute__((format(printf, 2, 3))) void metrics_add(struct metrics_text *t, const char *format,
                                                       ...);
void metrics_add_family(struct metrics_text *t, const char *name, const char *type,
                        const char *help);
void metrics_add_gauge(struct metrics_text *t, const char *name, const char *help, uint64_t value);

/* metrics_add_end comes behind all families. */
void metrics_add_end(struct metrics_text *t);

/* metrics_render writes the sum of count workers' metrics as text, at most cap bytes, and returns
 * its length or -1 when it does not fit; metrics_add_end is still due. Any thread. METRICS_TEXT_MAX
 * is enough for 64 workers. */
#define METRICS_TEXT_MAX (160u * 1024) /* those of kernel.h included */
struct metrics_process {               /* what belongs to no worker */
    const char *version;
    const char *tls_backend; /* NULL: no TLS */
    bool draining;
    uint64_t channels, used_channels, history_bytes, memory_used_bytes, memory_mapped_bytes;
    uint64_t resident_bytes, cpu_us;
    uint64_t queue_budget_bytes; /* 0 = no limit */
    uint64_t spans_sent, spans_dropped, spans_failed;
    int64_t start_time_s;
    uint64_t unfinished_bytes;
    uint64_t certificate_reads, certificate_reads_failed;
    int64_t certificates_end_s;                   /* Unix time; 0 = there are none */
    uint64_t generation, reloads, reloads_failed; /* of the configuration */
    int64_t reloaded_s; /* wall clock of the last reload that went well; 0 = none */
    const char *(*api_method)(unsigned i); /* its name; NULL: there are no more */
};
struct metrics_form {
    bool openmetrics; /* OpenMetrics 1.0.0 instead of Prometheus' text 0.0.4 */
    bool centrifugo;  /* and what of it Centrifugo counts too by its names (metrics_centrifugo.c) */
};
int64_t metrics_render(char *out, size_t cap, const struct metrics *const *workers, size_t count,
                       const struct metrics_process *process, const struct metrics_form *form);

#endif
