/* trace/elastic.h - spans as Elastic APM's intake takes them (intake v2, NDJSON): what is posted to
 * an APM server's /intake/v2/events. (Its OTLP takes protobuf alone.)
 *
 * Pure functions: no I/O, no clock, no globals. Any thread. */
#ifndef TRACE_ELASTIC_H
#define TRACE_ELASTIC_H

#include "json.h"
#include "trace.h"

#define TRACE_ELASTIC_PATH "/intake/v2/events"
#define TRACE_ELASTIC_TYPE "application/x-ndjson"

/* trace_elastic_write appends the line of metadata and one for each of count spans: Connection and
 * Message are transactions of these types, PUBLISH is a span. TRACE_ELASTIC_MAX(count) bytes are
 * room enough, else o->full. */
#define TRACE_ELASTIC_MAX(count) (4096 + (size_t)(count)*3072)
void trace_elastic_write(struct json_out *o, const struct trace_resource *r,
                         const struct trace_span *spans, size_t count);

#endif
