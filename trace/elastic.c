#include "trace/elastic.h"

#include <stdio.h>
#include <string.h>

static void put_text(struct json_out *o, const char *key, const char *text)
{
    json_puts(o, key);
    json_put_string(o, text, strlen(text));
}

static void put_number(struct json_out *o, const char *key, uint64_t n)
{
    json_puts(o, key);
    json_put_uint(o, n);
}

static void put_id(struct json_out *o, const char *key, uint64_t id)
{
    char hex[TRACE_HEX];
    trace_hex(hex, id);
    json_puts(o, key);
    json_put_string(o, hex, sizeof hex);
}

static void put_metadata(struct json_out *o, const struct trace_resource *r)
{
    put_text(o, "{\"metadata\":{\"service\":{\"name\":\"roost\",\"version\":", r->version);
    put_text(o, ",\"language\":{\"name\":\"C\"},\"node\":{\"configured_name\":", r->instance);
    put_text(o, "},\"agent\":{\"name\":\"roost\",\"version\":", r->version);
    put_text(o, "}},\"system\":{\"detected_hostname\":", r->host);
    json_puts(o, "}}}\n");
}

/* put_common writes what transactions and spans have alike: duration in ms, timestamp in us. */
static void put_common(struct json_out *o, const struct trace_span *s, const char *name)
{
    char number[40];
    const int64_t us = (s->end_ns - s->start_ns) / 1000;
    put_id(o, "\"id\":", s->id);
    char hex[2 * TRACE_HEX];
    trace_hex(hex, s->trace_id[0]);
    trace_hex(hex + TRACE_HEX, s->trace_id[1]);
    json_puts(o, ",\"trace_id\":");
    json_put_string(o, hex, sizeof hex);
    if (s->parent) put_id(o, ",\"parent_id\":", s->parent);
    put_text(o, ",\"name\":", name);
    snprintf(number, sizeof number, "%lld.%03d", (long long)(us / 1000), (int)(us % 1000));
    json_puts(o, ",\"duration\":");
    json_puts(o, number);
    put_number(o, ",\"timestamp\":", (uint64_t)s->start_ns / 1000);
    json_puts(o, trace_failed(s) ? ",\"outcome\":\"failure\"" : ",\"outcome\":\"success\"");
}

static void put_queue(struct json_out *o, const struct trace_span *s)
{
    if (!s->name_len) return;
    json_puts(o, "\"message\":{\"queue\":{\"name\":");
    json_put_string(o, s->name, s->name_len);
    json_puts(o, "}},");
}

static void put_request(struct json_out *o, const struct trace_span *s)
{
    json_puts(o, "\"request\":{\"method\":\"GET\",\"url\":{\"pathname\":");
    json_put_string(o, s->name, s->name_len);
    put_number(o, "}},\"response\":{\"status_code\":", s->result >= 1000 ? 101 : s->result);
    json_puts(o, "},");
}

static void put_tags(struct json_out *o, const struct trace_span *s)
{
    if (s->kind == TRACE_CONNECTION)
        put_number(o, "\"tags\":{\"since_accept_ms\":", s->since_accept_ms);
    else
        put_number(o, "\"tags\":{\"bytes\":", s->bytes);
    if (s->via) put_text(o, ",\"protocol\":", s->via);
    if (s->conn != TRACE_NO_CONN) {
        put_number(o, ",\"worker\":", s->conn >> 32);
        put_number(o, ",\"conn\":", s->conn & UINT32_MAX);
    }
    json_puts(o, "}");
}

static void put_result(struct json_out *o, const struct trace_span *s)
{
    json_puts(o, ",\"result\":\"");
    if (s->result)
        json_put_uint(o, s->result);
    else
        json_puts(o, "ok");
    json_puts(o, "\"");
}

static void put_transaction(struct json_out *o, const struct trace_resource *r,
                            const struct trace_span *s)
{
    const bool handshake = s->kind == TRACE_CONNECTION;
    const char *type = handshake ? "Connection" : "Message";
    char rate[16];
    json_puts(o, "{\"transaction\":{");
    put_common(o, s, type);
    put_text(o, ",\"type\":", type);
    put_result(o, s);
    put_number(o, ",\"sampled\":true,\"span_count\":{\"started\":", s->children);
    json_puts(o, "}");
    if (!s->parent) { /* with a parent it is the parent's rate that counts */
        snprintf(rate, sizeof rate, "%.4g", r->sample);
        json_puts(o, ",\"sample_rate\":");
        json_puts(o, rate);
    }
    json_puts(o, ",\"context\":{");
    if (handshake)
        put_request(o, s);
    else
        put_queue(o, s);
    put_tags(o, s);
    json_puts(o, "}}}\n");
}

static void put_span(struct json_out *o, const struct trace_span *s)
{
    json_puts(o, "{\"span\":{");
    put_common(o, s, "PUBLISH");
    put_id(o, ",\"transaction_id\":", s->parent);
    json_puts(o, ",\"type\":\"messaging\",\"subtype\":\"roost\",\"action\":\"send\",\"context\":{");
    put_queue(o, s);
    put_tags(o, s);
    json_puts(o, "}}}\n");
}

void trace_elastic_write(struct json_out *o, const struct trace_resource *r,
                         const struct trace_span *spans, size_t count)
{
    put_metadata(o, r);
    for (size_t i = 0; i < count; i++) {
        if (spans[i].kind == TRACE_PUBLISH)
            put_span(o, &spans[i]);
        else
            put_transaction(o, r, &spans[i]);
    }
}
