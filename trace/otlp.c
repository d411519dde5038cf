/* The JSON mapping's own rules (opentelemetry-proto, docs/specification.md): ids are hex and not
 * base64, enums are numbers, 64-bit numbers are decimal strings, keys are lowerCamelCase. */
#include "trace/otlp.h"

#include <string.h>

enum { KIND_SERVER = 2, KIND_PRODUCER = 4, KIND_CONSUMER = 5, STATUS_ERROR = 2 };

static const struct {
    const char *name, *operation;
    int kind;
} kinds[] = {
    [TRACE_CONNECTION] = {"Connection", NULL, KIND_SERVER},
    [TRACE_MESSAGE] = {"Message", "receive", KIND_CONSUMER},
    [TRACE_PUBLISH] = {"PUBLISH", "send", KIND_PRODUCER},
};

/* ---- values ---- */

static void put_text(struct json_out *o, const char *text)
{
    json_put_string(o, text, strlen(text));
}

static void put_id(struct json_out *o, const char *key, const uint64_t *halves, size_t count)
{
    json_puts(o, key);
    for (size_t i = 0; i < count; i++) {
        char hex[TRACE_HEX];
        trace_hex(hex, halves[i]);
        json_put(o, hex, sizeof hex);
    }
    json_puts(o, "\",");
}

static void put_time(struct json_out *o, const char *key, int64_t ns)
{
    json_puts(o, key);
    json_put_int(o, ns);
    json_puts(o, "\",");
}

/* An attribute begins with a comma unless it is the first of its list. */
static void key(struct json_out *o, bool *first, const char *name, const char *type)
{
    json_puts(o, *first ? "{\"key\":\"" : ",{\"key\":\"");
    *first = false;
    json_puts(o, name);
    json_puts(o, "\",\"value\":{\"");
    json_puts(o, type);
    json_puts(o, "\":");
}

static void attribute(struct json_out *o, bool *first, const char *name, const char *text,
                      size_t len)
{
    key(o, first, name, "stringValue");
    json_put_string(o, text, len);
    json_puts(o, "}}");
}

static void attribute_text(struct json_out *o, bool *first, const char *name, const char *text)
{
    attribute(o, first, name, text, strlen(text));
}

static void attribute_int(struct json_out *o, bool *first, const char *name, uint64_t n)
{
    key(o, first, name, "intValue");
    json_puts(o, "\"");
    json_put_uint(o, n);
    json_puts(o, "\"}}");
}

/* ---- spans ---- */

static void put_handshake(struct json_out *o, bool *first, const struct trace_span *s)
{
    attribute_text(o, first, "http.request.method", "GET");
    attribute(o, first, "url.path", s->name, s->name_len);
    attribute_int(o, first, "roost.since_accept_ms", s->since_accept_ms);
    /* a browser sees no status: it is upgraded, and closed with a code that says why */
    attribute_int(o, first, "http.response.status_code", s->result >= 1000 ? 101 : s->result);
    if (s->result >= 1000) attribute_int(o, first, "roost.close_code", s->result);
}

static void put_messaging(struct json_out *o, bool *first, const struct trace_span *s)
{
    attribute_text(o, first, "messaging.system", "roost");
    attribute_text(o, first, "messaging.operation.type", kinds[s->kind].operation);
    if (s->name_len) attribute(o, first, "messaging.destination.name", s->name, s->name_len);
    attribute_int(o, first,
                  s->kind == TRACE_PUBLISH ? "messaging.message.envelope.size"
                                           : "messaging.message.body.size",
                  s->bytes);
    if (s->result) attribute_int(o, first, "roost.result", s->result);
}

static void put_attributes(struct json_out *o, const struct trace_span *s)
{
    bool first = true;
    json_puts(o, "\"attributes\":[");
    /* Elastic APM takes this as the transaction's type */
    if (s->kind != TRACE_PUBLISH) attribute_text(o, &first, "type", kinds[s->kind].name);
    if (s->kind == TRACE_CONNECTION)
        put_handshake(o, &first, s);
    else
        put_messaging(o, &first, s);
    if (s->via) attribute_text(o, &first, "roost.protocol", s->via);
    if (s->conn != TRACE_NO_CONN) {
        attribute_int(o, &first, "roost.worker", s->conn >> 32);
        attribute_int(o, &first, "roost.conn", s->conn & UINT32_MAX);
    }
    json_puts(o, "],");
}

static void put_span(struct json_out *o, const struct trace_span *s)
{
    json_puts(o, "{");
    put_id(o, "\"traceId\":\"", s->trace_id, 2);
    put_id(o, "\"spanId\":\"", &s->id, 1);
    if (s->parent) put_id(o, "\"parentSpanId\":\"", &s->parent, 1);
    json_puts(o, "\"name\":");
    put_text(o, kinds[s->kind].name);
    json_puts(o, ",\"kind\":");
    json_put_int(o, kinds[s->kind].kind);
    json_puts(o, ",");
    put_time(o, "\"startTimeUnixNano\":\"", s->start_ns);
    put_time(o, "\"endTimeUnixNano\":\"", s->end_ns);
    put_attributes(o, s);
    json_puts(o, "\"status\":{");
    if (trace_failed(s)) {
        json_puts(o, "\"code\":");
        json_put_int(o, STATUS_ERROR);
    }
    json_puts(o, "}}");
}

static void put_resource(struct json_out *o, const struct trace_resource *r)
{
    bool first = true;
    json_puts(o, "\"resource\":{\"attributes\":[");
    attribute_text(o, &first, "service.name", "roost");
    attribute_text(o, &first, "service.version", r->version);
    attribute_text(o, &first, "service.instance.id", r->instance);
    attribute_text(o, &first, "host.name", r->host);
    attribute_text(o, &first, "telemetry.sdk.name", "roost");
    attribute_text(o, &first, "telemetry.sdk.language", "c");
    attribute_text(o, &first, "telemetry.sdk.version", r->version);
    json_puts(o, "]},");
}

void trace_otlp_write(struct json_out *o, const struct trace_resource *r,
                      const struct trace_span *spans, size_t count)
{
    json_puts(o, "{\"resourceSpans\":[{");
    put_resource(o, r);
    json_puts(o, "\"scopeSpans\":[{\"scope\":{\"name\":\"roost\",\"version\":");
    put_text(o, r->version);
    json_puts(o, "},\"spans\":[");
    for (size_t i = 0; i < count; i++) {
        if (i) json_puts(o, ",");
        put_span(o, &spans[i]);
    }
    json_puts(o, "]}]}]}");
}

/* ---- the answer ---- */

uint64_t trace_otlp_rejected(const char *body, size_t len)
{
    jsmntok_t tokens[64];
    struct json doc;
    char digits[24];
    if (json_parse(&doc, body, len, tokens, sizeof tokens / sizeof *tokens, JSON_OPEN_ALL, 0) == -1)
        return 0;
    int v = json_member(&doc, json_member(&doc, 0, "partialSuccess"), "rejectedSpans");
    uint64_t n = 0;
    if (json_uint64(&doc, v, &n)) return n;
    const int64_t text = json_string(&doc, v, digits, sizeof digits); /* an int64: a string */
    for (int64_t i = 0; i < text; i++) {
        if (digits[i] < '0' || digits[i] > '9' || n > UINT64_MAX / 16) return 0;
        n = n * 10 + (uint64_t)(digits[i] - '0');
    }
    return n;
}
