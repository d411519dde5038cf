#include "metrics_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct row {
    const char *name, *labels, *help;
    enum metric_type type;
};

static const struct row table[METRIC_COUNT] = {
#define X(id, name_, type_, labels_, help_)                                                        \
    [METRIC_##id] = {.name = name_, .labels = labels_, .help = help_, .type = METRIC_##type_},
    METRICS_TABLE(X)
#undef X
};

static const struct {
    const char *name, *help;
} histograms[HISTOGRAM_COUNT] = {
    [HISTOGRAM_TURN] = {"roost_loop_lag_seconds",
                        "Time from a wake-up of a worker to its next look at the sockets"},
    [HISTOGRAM_FANOUT] =
        {"roost_fanout_seconds",
         "Time from a publication to its hand-over to all subscribers of a worker"},
};

void metric_observe(struct metrics *m, enum histogram id, uint64_t us)
{
    unsigned i = us <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(us - 1);
    if (i > METRIC_BUCKETS) i = METRIC_BUCKETS;
    metric_cell_add(&m->histogram[id].bucket[i], 1);
    metric_cell_add(&m->histogram[id].sum_us, us);
}

/* ---- the text ---- */

void metrics_add(struct metrics_text *t, const char *format, ...)
{
    if (t->full) return;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(t->p + t->len, t->cap - t->len, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= t->cap - t->len)
        t->full = true;
    else
        t->len += (size_t)n;
}

void metrics_family(struct metrics_text *t, const char *name, const char *type, const char *help)
{
    static const char total[] = "_total";
    size_t len = strlen(name);
    if (t->openmetrics && strcmp(type, "counter") == 0) {
        const bool has_total = len > sizeof total && strcmp(name + len - 6, total) == 0;
        if (has_total)
            len -= sizeof total - 1;
        else
            type = "unknown";
    }
    metrics_add(t, "# HELP %.*s %s\n# TYPE %.*s %s\n", (int)len, name, help, (int)len, name, type);
}

void metrics_add_family(struct metrics_text *t, const char *name, const char *type,
                        const char *help)
{
    char full[80];
    snprintf(full, sizeof full, "roost_%s", name);
    metrics_family(t, full, type, help);
}

void metrics_add_gauge(struct metrics_text *t, const char *name, const char *help, uint64_t value)
{
    metrics_add_family(t, name, "gauge", help);
    metrics_add(t, "roost_%s %llu\n", name, (unsigned long long)value);
}

void metrics_add_end(struct metrics_text *t)
{
    if (t->openmetrics) metrics_add(t, "# EOF\n");
}

uint64_t metrics_sum(const struct metrics_text *t, size_t cell)
{
    uint64_t v = 0;
    for (size_t w = 0; w < t->count; w++) {
        const void *at = (const char *)t->workers[w] + cell;
        /* acquire: what is asked for first is read first */
        v += atomic_load_explicit((const _Atomic uint64_t *)at, memory_order_acquire);
    }
    return v;
}

uint64_t metrics_value(const struct metrics_text *t, enum metric id)
{
    if (id == METRIC_UPGRADED) return t->opened;
    if (id == METRIC_CLOSED) return t->closed;
    if (id == METRIC_CONNECTIONS) return t->opened - t->closed;
    return metrics_sum(t, METRICS_CELL(value) + (size_t)id * sizeof(uint64_t));
}

void metrics_histogram(struct metrics_text *t, const char *name, const char *labels,
                       enum histogram id)
{
    const size_t at = METRICS_CELL(histogram) + (size_t)id * sizeof t->workers[0]->histogram[0];
    const char *comma = *labels ? "," : "";
    unsigned long long total = 0;
    for (unsigned b = 0; b <= METRIC_BUCKETS; b++) {
        total += metrics_sum(t, at + b * sizeof(uint64_t)); /* the buckets are its first member */
        if (b < METRIC_BUCKETS)
            metrics_add(t, "%s_bucket{%s%sle=\"%.9g\"} %llu\n", name, labels, comma,
                        (double)(1ull << b) / 1e6, total);
    }
    const unsigned long long us = metrics_sum(t, at + (METRIC_BUCKETS + 1) * sizeof(uint64_t));
    const char *open = *labels ? "{" : "", *close = *labels ? "}" : "";
    metrics_add(t, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, labels, comma, total);
    metrics_add(t, "%s_sum%s%s%s %llu.%06llu\n", name, open, labels, close, us / 1000000,
                us % 1000000);
    metrics_add(t, "%s_count%s%s%s %llu\n", name, open, labels, close, total);
}

/* ---- what is shown ---- */

static void add_spans(struct metrics_text *t, const struct metrics_process *p)
{
    metrics_family(t, "roost_spans_total", "counter",
                   "Spans of traces: sent, dropped for want of room, refused or not delivered");
    metrics_add(t, "roost_spans_total{result=\"sent\"} %llu\n", (unsigned long long)p->spans_sent);
    metrics_add(t, "roost_spans_total{result=\"dropped\"} %llu\n",
                (unsigned long long)p->spans_dropped);
    metrics_add(t, "roost_spans_total{result=\"failed\"} %llu\n",
                (unsigned long long)p->spans_failed);
}

static void add_reloads(struct metrics_text *t, const struct metrics_process *p)
{
    metrics_family(t, "roost_reload_total", "counter",
                   "Times the configuration was read again (SIGHUP)");
    metrics_add(t, "roost_reload_total{result=\"ok\"} %llu\n", (unsigned long long)p->reloads);
    metrics_add(t, "roost_reload_total{result=\"failed\"} %llu\n",
                (unsigned long long)p->reloads_failed);
    metrics_add_gauge(t, "config_generation",
                      "Number of the configuration in force, from 1 at the start", p->generation);
    metrics_add_gauge(t, "reload_success_timestamp_seconds",
                      "When the last reload went well, Unix time; 0: there was none",
                      (uint64_t)p->reloaded_s);
}

static void add_certificates(struct metrics_text *t, const struct metrics_process *p)
{
    if (p->certificates_end_s <= 0) return;
    metrics_family(t, "roost_certificate_reads_total", "counter",
                   "Times certificates were read again, by SIGHUP or because a file has changed");
    metrics_add(t, "roost_certificate_reads_total{result=\"ok\"} %llu\n",
                (unsigned long long)p->certificate_reads);
    metrics_add(t, "roost_certificate_reads_total{result=\"failed\"} %llu\n",
                (unsigned long long)p->certificate_reads_failed);
    metrics_add_gauge(t, "certificate_not_after_seconds",
                      "When the first of the certificates in use ends, Unix time",
                      (uint64_t)p->certificates_end_s);
}

static void add_process(struct metrics_text *t, const struct metrics_process *p)
{
    metrics_family(t, "roost_build_info", "gauge", "Version of this binary");
    metrics_add(t, "roost_build_info{version=\"%s\"} 1\n", p->version);
    if (p->tls_backend) {
        metrics_family(t, "roost_tls_backend_info", "gauge", "Who seals and opens TLS records");
        metrics_add(t, "roost_tls_backend_info{records=\"%s\"} 1\n", p->tls_backend);
    }
    metrics_add_gauge(t, "start_time_seconds", "When the process started, Unix time",
                      (uint64_t)p->start_time_s);
    metrics_add_gauge(t, "workers", "Worker threads", t->count);
    metrics_add_gauge(t, "unfinished_bytes",
                      "Kept of messages and API calls that have not come to their end",
                      p->unfinished_bytes);
    metrics_add_gauge(t, "draining",
                      "1 while the server stops: roost_connections_open says who is left",
                      p->draining ? 1 : 0);
    metrics_add_gauge(t, "channels", "Channels that exist", p->channels);
    metrics_add_gauge(t, "history_bytes", "Bytes of publications in histories", p->history_bytes);
    metrics_add_gauge(t, "memory_used_bytes", "Bytes of workers' objects", p->memory_used_bytes);
    metrics_add_gauge(t, "memory_mapped_bytes", "Bytes mapped for workers' objects",
                      p->memory_mapped_bytes);
    metrics_add_gauge(t, "resident_memory_bytes", "Resident memory of the process",
                      p->resident_bytes);
    metrics_add_gauge(t, "queue_budget_bytes", "client.total_queue_max_size; 0 = no limit",
                      p->queue_budget_bytes);
    metrics_family(t, "roost_cpu_seconds_total", "counter", "CPU time of the process");
    metrics_add(t, "roost_cpu_seconds_total %llu.%06llu\n", (unsigned long long)p->cpu_us / 1000000,
                (unsigned long long)p->cpu_us % 1000000);
    add_spans(t, p);
    add_reloads(t, p);
    add_certificates(t, p);
}

static void add_cells(struct metrics_text *t)
{
    char name[64];
    for (int id = 0; id < METRIC_COUNT; id++) {
        const struct row *r = &table[id];
        snprintf(name, sizeof name, "roost_%s", r->name);
        if (r->help[0]) /* rows of one family follow its first, which has the help */
            metrics_family(t, name, r->type == METRIC_COUNTER ? "counter" : "gauge", r->help);
        unsigned long long v = metrics_value(t, (enum metric)id);
        if (r->labels[0])
            metrics_add(t, "%s{%s} %llu\n", name, r->labels, v);
        else
            metrics_add(t, "%s %llu\n", name, v);
    }
}

static void add_per_worker(struct metrics_text *t)
{
    metrics_family(t, "roost_worker_connections", "gauge", "WebSocket connections open, by worker");
    for (size_t w = 0; w < t->count; w++)
        metrics_add(t, "roost_worker_connections{worker=\"%zu\"} %llu\n", w,
                    (unsigned long long)metric_get(t->workers[w], METRIC_CONNECTIONS));
    metrics_family(t, "roost_worker_publications_total", "counter", "Publications made, by worker");
    for (size_t w = 0; w < t->count; w++)
        metrics_add(t, "roost_worker_publications_total{worker=\"%zu\"} %llu\n", w,
                    (unsigned long long)metric_get(t->workers[w], METRIC_PUBLISHED));
}

/* look_at_connections: who is closed was opened before, so closed ones are read first. */
static void look_at_connections(struct metrics_text *t)
{
    t->closed = metrics_sum(t, METRICS_CELL(value[METRIC_CLOSED]));
    t->opened = metrics_sum(t, METRICS_CELL(value[METRIC_UPGRADED]));
    if (t->opened < t->closed) t->opened = t->closed; /* stores may be seen the other way round */
}

int64_t metrics_render(char *out, size_t cap, const struct metrics *const *workers, size_t count,
                       const struct metrics_process *process, const struct metrics_form *form)
{
    struct metrics_text t = {
        .p = out, .cap = cap, .openmetrics = form->openmetrics, .workers = workers, .count = count};
    look_at_connections(&t);
    add_process(&t, process);
    add_cells(&t);
    add_per_worker(&t);
    metrics_series(&t, process);
    for (int id = 0; id < HISTOGRAM_COUNT; id++) {
        metrics_family(&t, histograms[id].name, "histogram", histograms[id].help);
        metrics_histogram(&t, histograms[id].name, "", (enum histogram)id);
    }
    if (form->centrifugo) metrics_centrifugo(&t, process);
    return t.full ? -1 : (int64_t)t.len;
}
