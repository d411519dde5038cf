/* metrics_series.c - counters whose labels have many values, each with a place in an array. */
#include "metrics_text.h"

#include <stdio.h>
#include <string.h>

/* What SDKs call themselves unless the application says otherwise; 0 is nobody. */
static const char *const client_names[METRIC_CLIENT_NAMES] = {
    NULL, "js", "go", "python", "java", "dart", "swift", "csharp", "none", "other",
};

/* Close codes that roost or the protocols name lie in three rows of 16. */
static const unsigned close_rows[] = {1000, 3000, 3500};

static unsigned close_place(unsigned code)
{
    for (unsigned row = 0; row < 3; row++)
        if (code - close_rows[row] < 16) return row * 16 + (code - close_rows[row]);
    return METRIC_CLOSE_CODES - 1;
}

void metric_close(struct metrics *m, unsigned code)
{
    metric_cell_add(&m->closes[close_place(code)], 1);
}

void metric_reply_error(struct metrics *m, enum command_method method, uint32_t code)
{
    unsigned place = code - 100 < METRIC_ERROR_CODES - 1 ? code - 100 : METRIC_ERROR_CODES - 1;
    metric_cell_add(&m->reply_errors[method][place], 1);
}

uint8_t metric_client_name(struct text name)
{
    if (!name.len) return METRIC_CLIENT_NAMES - 2;
    for (unsigned i = 1; i < METRIC_CLIENT_NAMES - 2; i++)
        if (strlen(client_names[i]) == name.len && memcmp(client_names[i], name.p, name.len) == 0)
            return (uint8_t)i;
    return METRIC_CLIENT_NAMES - 1;
}

void metric_client_came(struct metrics *m, uint8_t name)
{
    metric_cell_add(&m->clients_accepted[name], 1);
    metric_cell_add(&m->clients[name], 1);
}

void metric_client_left(struct metrics *m, uint8_t name)
{
    if (name) metric_cell_add(&m->clients[name], (uint64_t)0 - 1);
}

void metric_api(struct metrics *m, unsigned method, uint64_t us, bool failed)
{
    if (method >= METRIC_API_METHODS) return;
    metric_cell_add(&m->api[method].calls, 1);
    metric_cell_add(&m->api[method].us, us);
    if (failed) metric_cell_add(&m->api[method].errors, 1);
}

const char *metrics_close_code(unsigned i, char out[static METRIC_LABEL])
{
    if (i == METRIC_CLOSE_CODES - 1) return "other";
    snprintf(out, METRIC_LABEL, "%u", close_rows[i / 16] + i % 16);
    return out;
}

const char *metrics_error_code(unsigned i, char out[static METRIC_LABEL])
{
    if (i == METRIC_ERROR_CODES - 1) return "other";
    snprintf(out, METRIC_LABEL, "%u", 100 + i);
    return out;
}

const char *metrics_client_name(unsigned i)
{
    return client_names[i];
}

static void closes(struct metrics_text *t)
{
    char label[METRIC_LABEL];
    metrics_family(t, "roost_closes_sent_total", "counter",
                   "Close frames that began the end of a connection, by code");
    for (unsigned i = 0; i < METRIC_CLOSE_CODES; i++) {
        unsigned long long n = metrics_sum(t, METRICS_CELL(closes) + i * sizeof(uint64_t));
        if (n)
            metrics_add(t, "roost_closes_sent_total{code=\"%s\"} %llu\n",
                        metrics_close_code(i, label), n);
    }
}

static void reply_errors(struct metrics_text *t)
{
    char label[METRIC_LABEL];
    metrics_family(t, "roost_client_errors_total", "counter",
                   "Errors in replies to commands of SDK clients");
    for (unsigned i = 0; i < METRIC_COMMANDS * METRIC_ERROR_CODES; i++) {
        unsigned long long n = metrics_sum(t, METRICS_CELL(reply_errors) + i * sizeof(uint64_t));
        if (n)
            metrics_add(t, "roost_client_errors_total{method=\"%s\",code=\"%s\"} %llu\n",
                        command_method_name(i / METRIC_ERROR_CODES),
                        metrics_error_code(i % METRIC_ERROR_CODES, label), n);
    }
}

static void clients(struct metrics_text *t)
{
    metrics_family(t, "roost_clients", "gauge",
                   "SDK clients connected, by what they call themselves");
    for (unsigned i = 1; i < METRIC_CLIENT_NAMES; i++)
        metrics_add(
            t, "roost_clients{name=\"%s\"} %llu\n", client_names[i],
            (unsigned long long)metrics_sum(t, METRICS_CELL(clients) + i * sizeof(uint64_t)));
    metrics_family(t, "roost_clients_connected_total", "counter",
                   "Connect commands of SDK clients that succeeded");
    for (unsigned i = 1; i < METRIC_CLIENT_NAMES; i++)
        metrics_add(t, "roost_clients_connected_total{name=\"%s\"} %llu\n", client_names[i],
                    (unsigned long long)metrics_sum(t, METRICS_CELL(clients_accepted) +
                                                           i * sizeof(uint64_t)));
}

static void api(struct metrics_text *t, const struct metrics_process *process)
{
    const char *name;
    metrics_family(t, "roost_api_command_seconds", "summary",
                   "Calls of the HTTP API, from the whole request to its answer, by method");
    for (unsigned i = 0; (name = process->api_method(i)); i++) {
        unsigned long long us = metrics_sum(t, METRICS_CELL(api[i].us));
        metrics_add(t, "roost_api_command_seconds_sum{method=\"%s\"} %llu.%06llu\n", name,
                    us / 1000000, us % 1000000);
        metrics_add(t, "roost_api_command_seconds_count{method=\"%s\"} %llu\n", name,
                    (unsigned long long)metrics_sum(t, METRICS_CELL(api[i].calls)));
    }
    metrics_family(t, "roost_api_errors_total", "counter",
                   "Calls of the HTTP API that were answered with an error, by method");
    for (unsigned i = 0; (name = process->api_method(i)); i++)
        metrics_add(t, "roost_api_errors_total{method=\"%s\"} %llu\n", name,
                    (unsigned long long)metrics_sum(t, METRICS_CELL(api[i].errors)));
}

void metrics_series(struct metrics_text *t, const struct metrics_process *process)
{
    closes(t);
    reply_errors(t);
    clients(t);
    api(t, process);
}
