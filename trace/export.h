/* trace/export.h - sends spans to a collector: a thread of its own takes them out of the workers'
 * rings, gathers up to 512 or for a second, and posts them (OTLP in JSON, or Elastic APM's intake).
 *
 * What the collector refuses is counted as failed; 429, 502, 503 and 504 are tried again, later and
 * later, a few times. While it is away the rings fill, and then spans are dropped and counted: no
 * worker waits for it. Threads: main, but for trace_export_totals (any). */
#ifndef TRACE_EXPORT_H
#define TRACE_EXPORT_H

#include <stddef.h>
#include <stdint.h>

#include "trace.h"
#include "url.h"

enum trace_format { TRACE_OTLP, TRACE_ELASTIC };

struct trace_target {
    enum trace_format format;
    struct url url;
};

/* trace_target_parse reads otlp+http://HOST[:PORT][/PATH], elastic+https://..., and so on. NULL, or
 * a static text that says what is wrong. */
const char *trace_target_parse(struct trace_target *t, const char *text);

struct trace_export_options { /* borrowed for the call */
    struct trace_target target;
    const char *authorization; /* the value of that header; "" = none */
    const char *instance;      /* the node's name; "" = the host's */
    double sample;             /* 0 to 1 */
    unsigned workers;
};

/* trace_export_open makes the tracers; without it trace_export_worker gives NULL. -1 with a line in
 * err. trace_export_start begins to send; -1 with errno. trace_export_stop, when no worker runs any
 * more, sends what is left, for two seconds at most, and frees everything. */
int trace_export_open(const struct trace_export_options *o, char *err, size_t err_len);
struct trace *trace_export_worker(unsigned worker);
int trace_export_start(void);
void trace_export_set_sample(double sample); /* from now on; no effect while it is off */
void trace_export_stop(void);

struct trace_totals {
    uint64_t sent, dropped, failed; /* dropped: by workers; failed: taken, but the collector has
                                       not got them */
};
void trace_export_totals(struct trace_totals *t); /* zero while it is off */

#endif
