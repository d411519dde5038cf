#include "metrics.h"

#include <stdarg.h>
#include <stdbool.h>
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
    [HISTOGRAM_TURN] = {"loop_lag_seconds",
                        "Time from a wake-up of a worker to its next look at the sockets"},
    [HISTOGRAM_FANOUT] =
        {"fanout_seconds",
         "Time from a publication to its hand-over to all subscribers of a worker"},
};

void metric_observe(struct metrics *m, enum histogram id, uint64_t us)
{
    unsigned i = us <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(us - 1);
    if (i > METRIC_BUCKETS) i = METRIC_BUCKETS;
    _Atomic uint64_t *cell = &m->histogram[id].bucket[i];
    atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    cell = &m->histogram[id].sum_us;
    atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + us,
                          memory_order_relaxed);
}

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

void metrics_add_family(struct metrics_text *t, const char *name, const char *type,
                        const char *help)
{
    metrics_add(t, "# HELP roost_%s %s\n# TYPE roost_%s %s\n", name, help, name, type);
}

void metrics_add_gauge(struct metrics_text *t, const char *name, const char *help, uint64_t value)
{
    metrics_add_family(t, name, "gauge", help);
    metrics_add(t, "roost_%s %llu\n", name, (unsigned long long)value);
}

static void add_spans(struct metrics_text *t, const struct metrics_process *p)
{
    metrics_add_family(t, "spans_total", "counter",
                       "Spans of traces: sent, dropped for want of room, refused or not delivered");
    metrics_add(t, "roost_spans_total{result=\"sent\"} %llu\n", (unsigned long long)p->spans_sent);
    metrics_add(t, "roost_spans_total{result=\"dropped\"} %llu\n",
                (unsigned long long)p->spans_dropped);
    metrics_add(t, "roost_spans_total{result=\"failed\"} %llu\n",
                (unsigned long long)p->spans_failed);
}

static uint64_t sum(const struct metrics *const *workers, size_t count, enum metric id)
{
    uint64_t v = 0;
    for (size_t w = 0; w < count; w++) v += metric_get(workers[w], id);
    return v;
}

static void add_cells(struct metrics_text *t, const struct metrics *const *workers, size_t count)
{
    for (int id = 0; id < METRIC_COUNT; id++) {
        const struct row *r = &table[id];
        if (r->help[0]) /* rows of one family follow its first, which has the help */
            metrics_add_family(t, r->name, r->type == METRIC_COUNTER ? "counter" : "gauge",
                               r->help);
        unsigned long long v = sum(workers, count, (enum metric)id);
        if (r->labels[0])
            metrics_add(t, "roost_%s{%s} %llu\n", r->name, r->labels, v);
        else
            metrics_add(t, "roost_%s %llu\n", r->name, v);
    }
}

static void add_per_worker(struct metrics_text *t, const struct metrics *const *workers,
                           size_t count)
{
    metrics_add_family(t, "worker_connections", "gauge", "WebSocket connections open, by worker");
    for (size_t w = 0; w < count; w++)
        metrics_add(t, "roost_worker_connections{worker=\"%zu\"} %llu\n", w,
                    (unsigned long long)metric_get(workers[w], METRIC_CONNECTIONS));
    metrics_add_family(t, "worker_publications_total", "counter", "Publications made, by worker");
    for (size_t w = 0; w < count; w++)
        metrics_add(t, "roost_worker_publications_total{worker=\"%zu\"} %llu\n", w,
                    (unsigned long long)metric_get(workers[w], METRIC_PUBLISHED));
}

static void add_histogram(struct metrics_text *t, const struct metrics *const *workers,
                          size_t count, enum histogram id)
{
    const char *name = histograms[id].name;
    metrics_add_family(t, name, "histogram", histograms[id].help);
    unsigned long long total = 0, sum_us = 0;
    for (unsigned b = 0; b <= METRIC_BUCKETS; b++) {
        for (size_t w = 0; w < count; w++)
            total +=
                atomic_load_explicit(&workers[w]->histogram[id].bucket[b], memory_order_relaxed);
        if (b < METRIC_BUCKETS)
            metrics_add(t, "roost_%s_bucket{le=\"%g\"} %llu\n", name, (double)(1ull << b) / 1e6,
                        total);
    }
    for (size_t w = 0; w < count; w++)
        sum_us += atomic_load_explicit(&workers[w]->histogram[id].sum_us, memory_order_relaxed);
    metrics_add(t, "roost_%s_bucket{le=\"+Inf\"} %llu\nroost_%s_sum %g\nroost_%s_count %llu\n",
                name, total, name, (double)sum_us / 1e6, name, total);
}

int64_t metrics_render(char *out, size_t cap, const struct metrics *const *workers, size_t count,
                       const struct metrics_process *process)
{
    struct metrics_text t = {.p = out, .cap = cap};
    metrics_add_family(&t, "build_info", "gauge", "Version of this binary");
    metrics_add(&t, "roost_build_info{version=\"%s\"} 1\n", process->version);
    metrics_add_gauge(&t, "start_time_seconds", "When the process started, Unix time",
                      (uint64_t)process->start_time_s);
    metrics_add_gauge(&t, "workers", "Worker threads", count);
    metrics_add_gauge(&t, "draining",
                      "1 while the server stops: roost_connections says who is left",
                      process->draining ? 1 : 0);
    metrics_add_gauge(&t, "channels", "Channels that exist", process->channels);
    metrics_add_gauge(&t, "history_bytes", "Bytes of publications in histories",
                      process->history_bytes);
    metrics_add_gauge(&t, "memory_used_bytes", "Bytes of workers' objects",
                      process->memory_used_bytes);
    metrics_add_gauge(&t, "memory_mapped_bytes", "Bytes mapped for workers' objects",
                      process->memory_mapped_bytes);
    metrics_add_gauge(&t, "queue_budget_bytes", "client.total_queue_max_size; 0 = no limit",
                      process->queue_budget_bytes);
    add_spans(&t, process);
    add_cells(&t, workers, count);
    add_per_worker(&t, workers, count);
    for (int id = 0; id < HISTOGRAM_COUNT; id++)
        add_histogram(&t, workers, count, (enum histogram)id);
    return t.full ? -1 : (int64_t)t.len;
}
