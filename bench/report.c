#include "bench.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "json.h"

#define PROGRESS_NS 500000000

static const double quantiles[] = {0.5, 0.9, 0.99, 0.999, 1};
static const char *const quantile_names[] = {"p50", "p90", "p99", "p99.9", "max"};
#define QUANTILES (sizeof quantiles / sizeof quantiles[0])

/* ---- progress ---- */

static bool on_terminal(const struct bench *b)
{
    return !b->o.quiet && isatty(STDERR_FILENO);
}

void report_progress(struct bench *b, const char *what, uint64_t n)
{
    if (b->now_ns - b->progress_ns < PROGRESS_NS || !on_terminal(b)) return;
    b->progress_ns = b->now_ns;
    fprintf(stderr, "\r%s: %u open, %llu %s\033[K", b->mode->name, b->open, (unsigned long long)n,
            what);
}

void report_progress_end(struct bench *b)
{
    if (b->progress_ns && on_terminal(b)) fprintf(stderr, "\r\033[K");
}

/* ---- derived figures; -1 = not known ---- */

static double per(double n, double d)
{
    return d > 0 ? n / d : -1;
}

static double bytes_per_connection(const struct bench *b)
{
    if (b->pss_before <= 0 || b->pss_after <= 0 || b->pss_connections == 0) return -1;
    return (double)(b->pss_after - b->pss_before) / b->pss_connections;
}

static uint64_t sum(const struct order_faults *f)
{
    return f->lost + f->doubled + f->reordered;
}

bool report_faultless(const struct bench *b)
{
    const struct bench_counts *n = &b->counts;
    return !*b->failure && !n->damaged && !n->refused && !n->closed && !n->unanswered &&
           !sum(&b->faults) && !sum(&b->offset_faults) && !b->answer_faults.doubled;
}

/* ---- for people ---- */

/* 1234567.8 as 1,234,568 */
static const char *grouped(char out[static 40], double value)
{
    char digits[32];
    if (value < 0) return "-";
    int n = snprintf(digits, sizeof digits, "%.0f", value);
    char *to = out;
    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0) *to++ = ',';
        *to++ = digits[i];
    }
    *to = 0;
    return out;
}

static void row(const char *name, double value, const char *note)
{
    char text[40];
    printf("  %-28s %14s%s%s\n", name, grouped(text, value), *note ? "  " : "", note);
}

static void print_cpu(const struct bench *b)
{
    if (b->server_cpu_s >= 0)
        printf("  %-28s %14.2f  of %.2f s; the client used %.2f s\n", "server CPU seconds",
               b->server_cpu_s, b->measured_s, b->client_cpu_s);
}

static void print_latency(const struct bench *b)
{
    if (b->latency.total == 0) return;
    printf("  %-28s", "latency, ms");
    for (size_t i = 0; i < QUANTILES; i++)
        printf(" %s %.3f", quantile_names[i],
               (double)histogram_quantile(&b->latency, quantiles[i]) / 1e6);
    putchar('\n');
}

/* What the latency is, and what is not in it. */
static void print_loop(const struct bench *b)
{
    if (!b->mode->publishers || b->storm) return;
    if (!b->o.rate)
        puts("    closed loop: a server that stalls is asked less, which the latency does not show "
             "(--rate)");
    else
        printf("    open loop: from when each of %llu a second was due\n",
               (unsigned long long)b->o.rate);
    if (b->unsent)
        row("due, and not sent in time", (double)b->unsent,
            "the window was full, or the client too slow");
}

static void print_span(const char *name, const struct histogram *h)
{
    printf("  %-28s", name);
    for (size_t i = 0; i < QUANTILES; i++)
        printf(" %s %.3f", quantile_names[i], (double)histogram_quantile(h, quantiles[i]) / 1e6);
    putchar('\n');
}

static double storm_s(const struct storm *s)
{
    return s->done_ns ? (double)(s->done_ns - s->go_ns) / 1e9 : -1;
}

static void print_storm(const struct bench *b)
{
    const struct storm *s = b->storm;
    if (!s) return;
    row("served of the storm", s->open, "");
    row("refused, and tried again", (double)s->refused, "");
    printf("  %-28s %14.3f  s\n", "until all were served", storm_s(s));
    print_span("a client was served, ms", &s->served);
    printf("  %u established clients:\n", b->o.established);
    print_span("latency before, ms", &s->before);
    print_span("latency during, ms", &s->during);
    print_span("latency after, ms", &s->after);
}

static void print_memory(const struct bench *b)
{
    char name[64];
    if (b->pss_after <= 0) return;
    row("server memory before, bytes", (double)b->pss_before, "PSS");
    row("server memory with them", (double)b->pss_after, "PSS");
    row("bytes per connection", bytes_per_connection(b), "");
    if (b->pss_left > 0) {
        snprintf(name, sizeof name, "still held, %g s after", b->o.leave_s);
        row(name, (double)(b->pss_left - b->pss_before), "all had left");
    }
    row("pings answered", (double)b->counts.pings, "");
}

static void print_faults(const struct bench *b)
{
    printf(
        "  lost %llu, doubled %llu, out of order %llu, damaged %llu, refused %llu, closed %llu\n",
        (unsigned long long)b->faults.lost, (unsigned long long)b->faults.doubled,
        (unsigned long long)b->faults.reordered, (unsigned long long)b->counts.damaged,
        (unsigned long long)b->counts.refused, (unsigned long long)b->counts.closed);
    if (b->dialect == &dialect_centrifuge)
        printf(
            "  offsets out of line %llu, publish commands unanswered %llu, answered again %llu\n",
            (unsigned long long)sum(&b->offset_faults), (unsigned long long)b->counts.unanswered,
            (unsigned long long)b->answer_faults.doubled);
    if (*b->failure) printf("  FAILED: %s\n", b->failure);
}

static void print_table(const struct bench *b)
{
    char name[64];
    printf("roost bench %s: %u connections", b->mode->name, b->o.connections);
    if (b->mode->message) printf(", %zu bytes, window %u", b->o.size, b->o.window);
    printf(", %s", b->dialect->name);
    if (b->o.no_subscribe) printf(", connect alone");
    if (b->o.target.history) printf(", history of %u", b->o.target.history);
    printf(", %s", b->o.url ? b->o.url : b->target.url);
    if (!b->o.url && b->o.target.bare)
        printf(" (%s)", b->o.target.bare);
    else if (!b->o.url)
        printf(" (own server, %u worker%s)", b->o.target.workers,
               b->o.target.workers == 1 ? "" : "s");
    putchar('\n');
    if (b->mode->latency) {
        row(b->mode->what, (double)b->counts.messages, "");
        snprintf(name, sizeof name, "%s per second", b->mode->what);
        row(name, per((double)b->counts.messages, b->measured_s), "");
        row("  per server-CPU-second", per((double)b->counts.messages, b->server_cpu_s), "");
    }
    if (b->mode == &bench_connect && b->peer.tls)
        printf("  %-28s %14llu  of %llu\n", "resumed by a ticket",
               (unsigned long long)b->counts.resumed, (unsigned long long)b->counts.opened);
    print_cpu(b);
    print_latency(b);
    print_loop(b);
    print_storm(b);
    print_memory(b);
    print_faults(b);
}

/* ---- for programs ---- */

static void number(const char *name, double value, int digits)
{
    if (value < 0)
        printf(",\"%s\":null", name);
    else
        printf(",\"%s\":%.*f", name, digits, value);
}

static void count(const char *name, uint64_t n)
{
    printf(",\"%s\":%llu", name, (unsigned long long)n);
}

static void text(const char *name, const char *value)
{
    char escaped[2048] = "";
    struct json_out o = {.p = escaped, .cap = sizeof escaped};
    json_put_string(&o, value, strlen(value));
    printf(",\"%s\":%.*s", name, (int)o.len, escaped);
}

static void span(const char *name, const struct histogram *h)
{
    printf(",\"%s\":{\"count\":%llu", name, (unsigned long long)h->total);
    for (size_t i = 0; i < QUANTILES; i++)
        printf(",\"%s\":%.4f", quantile_names[i],
               (double)histogram_quantile(h, quantiles[i]) / 1e6);
    printf("}");
}

static void storm(const struct bench *b)
{
    const struct storm *s = b->storm;
    printf(",\"storm\":{\"established\":%u", b->o.established);
    count("served", s->open);
    count("refused", s->refused);
    number("seconds", storm_s(s), 3);
    span("served_ms", &s->served);
    span("before_ms", &s->before);
    span("during_ms", &s->during);
    span("after_ms", &s->after);
    printf("}");
}

static void print_json(const struct bench *b)
{
    printf("{\"mode\":\"%s\",\"dialect\":\"%s\"", b->mode->name, b->dialect->name);
    text("url", b->o.url ? b->o.url : b->target.url);
    count("connections", b->o.connections);
    count("size", b->o.size);
    count("window", b->o.window);
    text("loop", b->o.rate ? "open" : "closed");
    count("rate", b->o.rate);
    count("unsent", b->unsent);
    count("history", b->o.target.history);
    printf(",\"subscribe\":%s", b->o.no_subscribe ? "false" : "true");
    if (!b->o.url && b->o.target.bare)
        text("bare", b->o.target.bare);
    else if (!b->o.url)
        count("workers", b->o.target.workers);
    number("seconds", b->measured_s, 3);
    count("messages", b->counts.messages);
    count("bytes", b->counts.bytes);
    count("opened", b->counts.opened);
    count("resumed", b->counts.resumed);
    count("pings", b->counts.pings);
    number("per_second", per((double)b->counts.messages, b->measured_s), 1);
    number("per_server_cpu_second", per((double)b->counts.messages, b->server_cpu_s), 1);
    number("server_cpu_s", b->server_cpu_s, 4);
    number("client_cpu_s", b->client_cpu_s, 4);
    number("pss_before_bytes", b->pss_before > 0 ? (double)b->pss_before : -1, 0);
    number("pss_after_bytes", b->pss_after > 0 ? (double)b->pss_after : -1, 0);
    number("bytes_per_connection", bytes_per_connection(b), 1);
    if (b->o.leave_s >= 0) number("pss_left_bytes", b->pss_left > 0 ? (double)b->pss_left : -1, 0);
    printf(",\"latency_ms\":{");
    for (size_t i = 0; i < QUANTILES; i++)
        printf("%s\"%s\":%.4f", i ? "," : "", quantile_names[i],
               (double)histogram_quantile(&b->latency, quantiles[i]) / 1e6);
    printf("}");
    if (b->storm) storm(b);
    count("lost", b->faults.lost);
    count("doubled", b->faults.doubled);
    count("reordered", b->faults.reordered);
    count("damaged", b->counts.damaged);
    count("refused", b->counts.refused);
    count("closed", b->counts.closed);
    count("offset_faults", sum(&b->offset_faults));
    count("unanswered", b->counts.unanswered);
    count("answered_again", b->answer_faults.doubled);
    if (*b->failure) text("failure", b->failure);
    printf(",\"ok\":%s}\n", report_faultless(b) ? "true" : "false");
}

void report_print(const struct bench *b)
{
    if (b->o.json)
        print_json(b);
    else
        print_table(b);
}
