#include "trace/export.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "collector.h"
#include "dial.h"
#include "log.h"
#include "tls.h"
#include "trace/elastic.h"
#include "trace/otlp.h"

#define BATCH 512      /* spans of one request */
#define GATHER_MS 1000 /* how long the first of them waits for others */
#define LOOK_MS 20     /* how often the rings are looked into: they hold 4096 spans */
#define ATTEMPTS 4     /* to send a batch to a collector that says "later" */
#define CONNECT_MS 3000
#define POST_MS 10000 /* the default of OpenTelemetry's exporters */
#define FLUSH_MS 2000 /* at the end */
#define JOIN_S 5      /* a resolver may block longer than that: then the thread is left to itself */

_Static_assert(TRACE_OTLP_MAX(BATCH) == TRACE_ELASTIC_MAX(BATCH), "one buffer for both");

static struct exporter {
    struct traces *traces;
    struct collector *collector;
    enum trace_format format;
    struct trace_resource resource;
    char instance[256], host[256];
    pthread_t thread;
    bool runs;
    _Atomic bool stopping;         /* release by main, acquire by the thread */
    _Atomic uint64_t sent, failed; /* relaxed; written by the thread */
    _Atomic double sample;         /* relaxed; written by main */
    bool complained;
    struct trace_span spans[BATCH];
    struct json_out text;
    struct collector_answer answer;
} * exporter;

/* ---- where to ---- */

const char *trace_target_parse(struct trace_target *t, const char *text)
{
    static const struct {
        const char *prefix, *as;
        enum trace_format format;
    } schemes[] = {{"otlp+http://", "ws://", TRACE_OTLP},
                   {"otlp+https://", "wss://", TRACE_OTLP},
                   {"elastic+http://", "ws://", TRACE_ELASTIC},
                   {"elastic+https://", "wss://", TRACE_ELASTIC}};
    char url[2 * URL_PATH_MAX];
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        const size_t n = strlen(schemes[i].prefix);
        if (strncasecmp(text, schemes[i].prefix, n) != 0) continue;
        t->format = schemes[i].format;
        if (snprintf(url, sizeof url, "%s%s", schemes[i].as, text + n) >= (int)sizeof url)
            return "the URL is too long";
        return url_parse(&t->url, url);
    }
    return "must begin with otlp+http://, otlp+https://, elastic+http:// or elastic+https://";
}

/* ---- sending ---- */

static bool is_stopping(const struct exporter *e)
{
    return atomic_load_explicit(&e->stopping, memory_order_acquire);
}

static void count(_Atomic uint64_t *cell, uint64_t n)
{
    uint64_t v = atomic_load_explicit(cell, memory_order_relaxed);
    atomic_store_explicit(cell, v + n, memory_order_relaxed);
}

/* complain once, until it goes well again. */
static void complain(struct exporter *e, const char *why, int status)
{
    if (!e->complained)
        log_event(LOG_WARN, "traces do not reach the collector", LOG_STR("problem", why),
                  LOG_I64("status", status));
    e->complained = true;
}

static void went_well(struct exporter *e)
{
    if (e->complained) log_event(LOG_INFO, "traces reach the collector again");
    e->complained = false;
}

/* encode: the buffer has room for whatever a batch may hold (tests/test_trace_formats.c). */
static void encode(struct exporter *e, size_t n)
{
    e->text.len = 0;
    e->text.full = false;
    e->resource.sample = atomic_load_explicit(&e->sample, memory_order_relaxed);
    if (e->format == TRACE_OTLP)
        trace_otlp_write(&e->text, &e->resource, e->spans, n);
    else
        trace_elastic_write(&e->text, &e->resource, e->spans, n);
    assert(!e->text.full);
}

static bool says_later(int status)
{
    return status == 429 || status == 502 || status == 503 || status == 504;
}

static int64_t pause_ms(unsigned failures, int64_t asked_ms)
{
    uint64_t random;
    random_bytes(&random, sizeof random);
    const int64_t ms = dial_retry_ms(failures, random);
    return asked_ms > ms ? asked_ms : ms;
}

static void taken(struct exporter *e, size_t n)
{
    uint64_t rejected = 0;
    if (e->format == TRACE_OTLP) rejected = trace_otlp_rejected(e->answer.body, e->answer.len);
    if (rejected > n) rejected = n;
    count(&e->sent, n - rejected);
    count(&e->failed, rejected);
    if (rejected)
        complain(e, "some spans were rejected", e->answer.status);
    else
        went_well(e);
}

/* send_batch posts a batch, again if it is told to. Returns whether the collector is there and took
 * it or refused it for good. */
static bool send_batch(struct exporter *e, size_t n)
{
    char err[256];
    int64_t asked_ms = -1;
    bool there = true;
    encode(e, n);
    for (unsigned attempt = 0; there && attempt < ATTEMPTS; attempt++) {
        if (attempt) collector_wait(e->collector, pause_ms(attempt - 1, asked_ms));
        if (collector_post(e->collector, e->text.p, e->text.len, &e->answer, err, sizeof err) ==
            -1) {
            complain(e, err, 0);
            there = false;
        } else if (e->answer.status / 100 == 2) {
            taken(e, n);
            return true;
        } else {
            complain(e, "the collector refuses them", e->answer.status);
            if (!says_later(e->answer.status)) break;
            asked_ms = e->answer.retry_after_ms;
            if (is_stopping(e)) break;
        }
    }
    count(&e->failed, n);
    return there;
}

/* gather waits for a batch: full, or with what has come in GATHER_MS since the first. */
static size_t gather(struct exporter *e)
{
    size_t n = 0;
    int64_t since_ms = 0;
    while (n < BATCH) {
        const bool last = is_stopping(e);
        n += traces_take(e->traces, e->spans + n, BATCH - n);
        if (n && !since_ms) since_ms = clock_ms();
        if (last || n == BATCH || (n && clock_ms() - since_ms >= GATHER_MS)) break;
        collector_wait(e->collector, LOOK_MS);
    }
    return n;
}

static void *export(void *arg)
{
    struct exporter *e = arg;
    unsigned failures = 0;
    for (;;) {
        const bool last = is_stopping(e);
        const size_t n = gather(e);
        if (!n && last) return NULL;
        if (!n) continue;
        failures = send_batch(e, n) ? 0 : failures + 1;
        if (failures) collector_wait(e->collector, pause_ms(failures - 1, -1));
    }
}

/* ---- beginning and end ---- */

static void free_exporter(struct exporter *e)
{
    if (!e) return;
    collector_delete(e->collector);
    traces_delete(e->traces);
    free(e->text.p);
    free(e);
}

static struct exporter *new_exporter(const struct trace_export_options *o)
{
    struct exporter *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    e->format = o->target.format;
    e->text.cap = TRACE_OTLP_MAX(BATCH);
    e->text.p = malloc(e->text.cap);
    e->traces = traces_new(o->workers, o->sample);
    atomic_init(&e->sample, o->sample);
    if (gethostname(e->host, sizeof e->host - 1) == -1) *e->host = 0;
    snprintf(e->instance, sizeof e->instance, "%s", *o->instance ? o->instance : e->host);
    e->resource =
        (struct trace_resource){.version = ROOST_VERSION, .instance = e->instance, .host = e->host};
    if (e->text.p && e->traces) return e;
    free_exporter(e);
    return NULL;
}

int trace_export_open(const struct trace_export_options *o, char *err, size_t err_len)
{
    const bool otlp = o->target.format == TRACE_OTLP;
    struct exporter *e = new_exporter(o);
    snprintf(err, err_len, "out of memory");
    if (!e) return -1;
    e->collector = collector_new(
        &(struct collector_options){.url = &o->target.url,
                                    .path = otlp ? TRACE_OTLP_PATH : TRACE_ELASTIC_PATH,
                                    .content_type = otlp ? TRACE_OTLP_TYPE : TRACE_ELASTIC_TYPE,
                                    .user_agent = "roost/" ROOST_VERSION,
                                    .authorization = o->authorization,
                                    .connect_ms = CONNECT_MS,
                                    .total_ms = POST_MS},
        err, err_len);
    if (!e->collector) {
        free_exporter(e);
        return -1;
    }
    exporter = e;
    return 0;
}

struct trace *trace_export_worker(unsigned worker)
{
    return exporter ? traces_worker(exporter->traces, worker) : NULL;
}

int trace_export_start(void)
{
    if (!exporter) return 0;
    errno = pthread_create(&exporter->thread, NULL, export, exporter);
    exporter->runs = errno == 0;
    return exporter->runs ? 0 : -1;
}

void trace_export_set_sample(double sample)
{
    if (!exporter) return;
    traces_set_sample(exporter->traces, sample);
    atomic_store_explicit(&exporter->sample, sample, memory_order_relaxed);
}

void trace_export_stop(void)
{
    struct exporter *e = exporter;
    struct timespec until;
    if (!e) return;
    exporter = NULL;
    if (e->runs) {
        atomic_store_explicit(&e->stopping, true, memory_order_release);
        collector_hurry(e->collector, clock_ms() + FLUSH_MS);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += JOIN_S;
        if (pthread_timedjoin_np(e->thread, NULL, &until)) { /* it still uses e */
            log_event(LOG_WARN, "what was left of the traces is given up");
            return;
        }
    }
    free_exporter(e);
}

void trace_export_totals(struct trace_totals *t)
{
    const struct exporter *e = exporter;
    *t = (struct trace_totals){0};
    if (!e) return;
    t->sent = atomic_load_explicit(&e->sent, memory_order_relaxed);
    t->failed = atomic_load_explicit(&e->failed, memory_order_relaxed);
    t->dropped = traces_dropped(e->traces);
}
