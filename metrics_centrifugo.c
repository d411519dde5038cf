/* metrics_centrifugo.c - what Centrifugo counts as well, by the names that its Grafana dashboard
 * (13039) asks for. Only what is really counted here: docs/operations.md says what is not, and
 * where a figure means something else. */
#include "metrics_text.h"

#define PREFIX "centrifugo_"

static void one(struct metrics_text *t, const char *name, const char *labels, const char *type,
                const char *help, uint64_t value)
{
    metrics_family(t, name, type, help);
    metrics_add(t, "%s%s %llu\n", name, labels, (unsigned long long)value);
}

static void node(struct metrics_text *t, const struct metrics_process *p)
{
    static const char publications[] = "{type=\"publication\"}";
    metrics_family(t, PREFIX "node_build", "gauge", "Version of this server, which is roost");
    metrics_add(t, PREFIX "node_build{version=\"%s\"} 1\n", p->version);
    one(t, PREFIX "node_num_nodes", "", "gauge", "Servers that this one knows of: itself", 1);
    one(t, PREFIX "node_num_clients", "", "gauge", "WebSocket connections open, raw ones too",
        metrics_value(t, METRIC_CONNECTIONS));
    one(t, PREFIX "node_num_subscriptions", "", "gauge", "Subscriptions held",
        metrics_value(t, METRIC_SUBSCRIPTIONS));
    one(t, PREFIX "node_num_channels", "", "gauge", "Channels with a subscriber", p->used_channels);
    one(t, PREFIX "node_messages_sent_count", publications, "counter", "Publications made here",
        metrics_value(t, METRIC_PUBLISHED));
    one(t, PREFIX "node_messages_received_count", publications, "counter",
        "Publications that came from the broker, which is inside this server",
        metrics_value(t, METRIC_PUBLISHED));
    one(t, PREFIX "node_client_connection_limit", "", "counter",
        "Opening handshakes refused for the connection limit",
        metrics_value(t, METRIC_REFUSED_LIMIT));
    metrics_family(t, PREFIX "node_broadcast_duration_seconds", "histogram",
                   "From a publication to its hand-over to all subscribers of a worker");
    metrics_histogram(t, PREFIX "node_broadcast_duration_seconds", "type=\"publication\"",
                      HISTOGRAM_FANOUT);
}

static void by_name(struct metrics_text *t, const char *name, size_t cells)
{
    for (unsigned i = 1; i < METRIC_CLIENT_NAMES; i++)
        metrics_add(t, "%s{transport=\"websocket\",client_name=\"%s\"} %llu\n", name,
                    metrics_client_name(i),
                    (unsigned long long)metrics_sum(t, cells + i * sizeof(uint64_t)));
}

static void by_code(struct metrics_text *t, const char *name, const char *labels)
{
    char label[METRIC_LABEL];
    for (unsigned i = 0; i < METRIC_CLOSE_CODES; i++) {
        unsigned long long n = metrics_sum(t, METRICS_CELL(closes) + i * sizeof(uint64_t));
        if (n)
            metrics_add(t, "%s{%scode=\"%s\"} %llu\n", name, labels, metrics_close_code(i, label),
                        n);
    }
}

static void reply_errors(struct metrics_text *t)
{
    char label[METRIC_LABEL];
    metrics_family(t, PREFIX "client_num_reply_errors", "counter", "Errors in replies to commands");
    for (unsigned i = 0; i < METRIC_COMMANDS * METRIC_ERROR_CODES; i++) {
        unsigned long long n = metrics_sum(t, METRICS_CELL(reply_errors) + i * sizeof(uint64_t));
        if (n)
            metrics_add(t, PREFIX "client_num_reply_errors{method=\"%s\",code=\"%s\"} %llu\n",
                        command_method_name(i / METRIC_ERROR_CODES),
                        metrics_error_code(i % METRIC_ERROR_CODES, label), n);
    }
}

static void recoveries(struct metrics_text *t)
{
    static const struct {
        const char *labels;
        enum metric id;
    } rows[] = {{"recovered=\"yes\",has_recovered_publications=\"yes\"", METRIC_RECOVERED},
                {"recovered=\"yes\",has_recovered_publications=\"no\"", METRIC_RECOVERED_NOTHING},
                {"recovered=\"no\",has_recovered_publications=\"no\"", METRIC_UNRECOVERED}};
    metrics_family(t, PREFIX "client_recover", "counter", "Recoveries by how they went");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        metrics_add(t, PREFIX "client_recover{%s} %llu\n", rows[i].labels,
                    (unsigned long long)metrics_value(t, rows[i].id));
}

static void clients(struct metrics_text *t)
{
    metrics_family(t, PREFIX "client_connections_inflight", "gauge", "SDK clients connected");
    by_name(t, PREFIX "client_connections_inflight", METRICS_CELL(clients));
    metrics_family(t, PREFIX "client_connections_accepted", "counter", "SDK clients that came");
    by_name(t, PREFIX "client_connections_accepted", METRICS_CELL(clients_accepted));
    recoveries(t);
    metrics_family(t, PREFIX "client_num_server_disconnects", "counter",
                   "Connections that this server began to close");
    by_code(t, PREFIX "client_num_server_disconnects", "");
    reply_errors(t);
}

static void transport(struct metrics_text *t)
{
    static const char labels[] = "{transport=\"websocket\"}";
    one(t, PREFIX "transport_messages_sent", labels, "counter", "WebSocket messages queued",
        metrics_value(t, METRIC_MESSAGES_OUT));
    one(t, PREFIX "transport_messages_sent_size", labels, "counter",
        "Bytes written to sockets, with all framing, HTTP and TLS",
        metrics_value(t, METRIC_BYTES_OUT));
    one(t, PREFIX "transport_messages_received", labels, "counter", "WebSocket messages received",
        metrics_value(t, METRIC_MESSAGES_IN));
    one(t, PREFIX "transport_messages_received_size", labels, "counter",
        "Bytes read from sockets, with all framing, HTTP and TLS",
        metrics_value(t, METRIC_BYTES_IN));
    metrics_family(t, PREFIX "transport_outgoing_close_count", "counter",
                   "Close frames that began the end of a connection");
    by_code(t, PREFIX "transport_outgoing_close_count", "transport=\"websocket\",");
}

static void api(struct metrics_text *t, const struct metrics_process *p)
{
    static const char name[] = PREFIX "api_command_duration_seconds";
    const char *method;
    metrics_family(t, name, "summary", "Calls of the HTTP API by method; no quantiles");
    for (unsigned i = 0; (method = p->api_method(i)); i++) {
        unsigned long long us = metrics_sum(t, METRICS_CELL(api[i].us));
        metrics_add(t, "%s_sum{protocol=\"http\",method=\"%s\"} %llu.%06llu\n", name, method,
                    us / 1000000, us % 1000000);
        metrics_add(t, "%s_count{protocol=\"http\",method=\"%s\"} %llu\n", name, method,
                    (unsigned long long)metrics_sum(t, METRICS_CELL(api[i].calls)));
    }
}

void metrics_centrifugo(struct metrics_text *t, const struct metrics_process *process)
{
    node(t, process);
    clients(t);
    transport(t);
    api(t, process);
}
