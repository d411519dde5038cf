/* trace/otlp.h - spans as OTLP in JSON (OpenTelemetry protocol 1.x, ExportTraceServiceRequest):
 * what is posted to a collector's /v1/traces.
 *
 * Pure functions: no I/O, no clock, no globals. Any thread. */
#ifndef TRACE_OTLP_H
#define TRACE_OTLP_H

#include "json.h"
#include "trace.h"

#define TRACE_OTLP_PATH "/v1/traces"
#define TRACE_OTLP_TYPE "application/json"

/* trace_otlp_write appends a whole request with count spans; TRACE_OTLP_MAX(count) bytes are room
 * enough, else o->full. */
#define TRACE_OTLP_MAX(count) (4096 + (size_t)(count)*3072)
void trace_otlp_write(struct json_out *o, const struct trace_resource *r,
                      const struct trace_span *spans, size_t count);

/* trace_otlp_rejected reads the answer to a request that was taken: how many of its spans were not
 * (partialSuccess.rejectedSpans); 0 if it says nothing of the kind. */
uint64_t trace_otlp_rejected(const char *body, size_t len);

#endif
