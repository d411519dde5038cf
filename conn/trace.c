/* conn/trace.c - what a connection does, as spans (trace.h). */
#include "trace.h"
#include "conn.h"

bool conn_trace_parent(const struct http_request *r, struct trace_parent *p)
{
    const struct http_str *v = http_header(r, "traceparent", 0);
    /* several are none: nobody knows which one is meant */
    return v && !http_header(r, "traceparent", 1) && trace_parent_parse(p, v->p, v->len);
}

void conn_trace_handshake(struct conn *c, const struct http_request *r)
{
    struct trace_parent parent;
    const bool has_parent = conn_trace_parent(r, &parent);
    struct trace_span *s =
        trace_begin(c->worker->trace, TRACE_CONNECTION, has_parent ? &parent : NULL);
    if (!s) return;
    s->conn = conn_key(c);
    s->since_accept_ms = (worker_tick(c->worker) - c->opened) * WORKER_TICK_MS;
    trace_name(s, r->path.p, r->path.len, true);
}

void conn_trace_answered(struct conn *c)
{
    /* upgraded and closed at once: a browser can not see the status of a refusal */
    trace_end(c->worker->trace, c->state == CONN_CLOSING ? c->close_code : 0);
}

static void begin_message(struct conn *c, size_t len)
{
    static const char *const via[] = {
        [CONN_ECHO] = "echo", [CONN_RAW] = "raw", [CONN_CLIENT] = "client"};
    struct trace_span *s = trace_begin(c->worker->trace, TRACE_MESSAGE, NULL);
    if (!s) return;
    s->conn = conn_key(c);
    s->via = via[c->protocol];
    s->bytes = len;
}

void conn_trace_message(struct conn *c, enum ws_opcode opcode, uint8_t *payload, size_t len)
{
    begin_message(c, len);
    c->worker->server->app->handlers[c->protocol].message(c, opcode, payload, len);
    trace_end(c->worker->trace, c->state == CONN_OPEN ? 0 : c->close_code);
}
