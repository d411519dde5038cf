/* trace.h - spans: how long a sampled part of the opening handshakes, messages and publications
 * takes, noted where it happens (W3C Trace Context; OpenTelemetry's words).
 *
 * A worker has a tracer of its own: it decides what is sampled, makes ids, and puts ended spans
 * into a ring that one other thread empties. When the ring is full the span is dropped and counted;
 * no worker ever waits. At most one span is under way in a worker, kept in its tracer; a
 * publication made meanwhile becomes its child, which ends when the last worker has handed it over.
 * Cost: 1.7 MB a worker; tracing off, a pointer that is NULL at each call site; not sampled, a
 * random number. Rejected: a span context passed down to publish, an argument more in every
 * function between. Names are bytes here, whatever they name. Threads: worker only, with its own
 * tracer; traces_take: one thread; traces_dropped: any; the rest: main thread. */
#ifndef TRACE_H
#define TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum trace_kind {
    TRACE_CONNECTION, /* an opening handshake */
    TRACE_MESSAGE,    /* one received, or a call of the API that publishes */
    TRACE_PUBLISH     /* until every worker with subscribers has handed it over */
};

#define TRACE_NAME_MAX 255
#define TRACE_NO_CONN UINT64_MAX

struct trace_span {
    uint64_t trace_id[2], id; /* as in W3C Trace Context: the greater half first; never 0 */
    uint64_t parent;          /* id of the parent, 0: a root */
    int64_t start_ns, end_ns; /* wall clock, since 1970 */
    const char *via;          /* static: "raw", "client", "echo", "api"; or NULL */
    uint64_t conn;            /* conn_key, or TRACE_NO_CONN */
    uint64_t bytes;           /* of a message's payload; of a publication as it is sent */
    uint32_t since_accept_ms; /* TRACE_CONNECTION: from the accept to the start, TLS included */
    uint32_t children;        /* publications that began in it */
    uint16_t result; /* HTTP status, close code, or error code of the API; 0: all is well */
    uint8_t kind;    /* enum trace_kind */
    uint8_t name_len;
    char name[TRACE_NAME_MAX]; /* path of a handshake, else channel; not terminated, UTF-8 */
};

/* trace_failed: is the result our fault: a status 5xx, an internal error's code? */
bool trace_failed(const struct trace_span *s);

/* trace_hex writes an id, or half a trace id, as digits; no NUL. */
#define TRACE_HEX 16
void trace_hex(char out[static TRACE_HEX], uint64_t id);

struct trace_resource { /* who made the spans; static texts */
    const char *version, *instance, *host;
    double sample;
};

/* ---- traceparent (W3C Trace Context section 3.2) ---- */

struct trace_parent {
    uint64_t trace_id[2], id;
    bool sampled;
};
#define TRACE_PARENT_LEN 55 /* of version 00 */
bool trace_parent_parse(struct trace_parent *p, const char *text, size_t len);

/* ---- all tracers ---- */

struct trace;  /* a worker's */
struct traces; /* of all workers */

#define TRACE_RING 4096    /* ended spans of one worker that may wait to be taken */
#define TRACE_FLIGHTS 1024 /* publications of one worker, sampled and not everywhere yet */

/* traces_new makes tracers that sample a part of what has no parent, 0 to 1. NULL with errno. */
struct traces *traces_new(unsigned workers, double sample);
void traces_delete(struct traces *all); /* nobody uses them any more; may be NULL */
/* traces_set_sample: from now on. Any thread. */
void traces_set_sample(struct traces *all, double sample);
struct trace *traces_worker(struct traces *all, unsigned worker);

/* traces_take moves up to max ended spans out of the rings and returns how many. */
size_t traces_take(struct traces *all, struct trace_span *out, size_t max);
uint64_t traces_dropped(const struct traces *all); /* for want of room in a ring or flight */

/* ---- a worker's: t is not NULL ---- */

/* trace_begin begins the span of what the worker does next, if it is sampled: as parent says or,
 * if it is NULL, by chance. Returns it, for the caller to add what is known, or NULL. */
struct trace_span *trace_begin(struct trace *t, enum trace_kind kind,
                               const struct trace_parent *parent);

/* trace_name names the span under way. Bytes that are not graphic ASCII become '?' if ascii. */
void trace_name(struct trace_span *s, const char *name, size_t len, bool ascii);

/* trace_about names the span under way, if there is one without a name. */
void trace_about(struct trace *t, const char *name, size_t len);

/* trace_result notes the result of the span under way, if there is one; trace_end ends it, with
 * another result unless that is 0. */
void trace_result(struct trace *t, unsigned result);
void trace_end(struct trace *t, unsigned result);

/* trace_publish begins a child of the span under way, which ends when trace_handed_over has been
 * told of holders in all, by whatever workers, each with its own tracer. NULL if nothing is under
 * way, or when there is no room (counted). */
struct trace_flight;
struct trace_flight *trace_publish(struct trace *t, const char *name, size_t len, uint64_t bytes,
                                   uint32_t holders);
void trace_handed_over(struct trace *t, struct trace_flight *f, uint32_t holders);

#endif
