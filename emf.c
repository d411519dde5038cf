#include "emf.h"

#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define HIGH_RESOLUTION_MS 60000 /* below: StorageResolution 1, which costs the same to write */

/* ---- a line ---- */

static void put_names(struct json_out *o, int64_t interval_ms)
{
    static const struct {
        const char *name, *unit;
    } all[] = {{"OpenConnections", "Count"},
               {"NewConnections", "Count"},
               {"Messages", "Count"},
               {"BytesOut", "Bytes"},
               {"SlowDropped", "Count"}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        json_puts(o, i ? ",{\"Name\":\"" : "{\"Name\":\"");
        json_puts(o, all[i].name);
        json_puts(o, "\",\"Unit\":\"");
        json_puts(o, all[i].unit);
        json_puts(o, "\",\"StorageResolution\":");
        json_put_int(o, interval_ms < HIGH_RESOLUTION_MS ? 1 : 60);
        json_puts(o, "}");
    }
}

static void put_value(struct json_out *o, const char *key, uint64_t n)
{
    json_puts(o, key);
    json_put_uint(o, n);
}

void emf_line(struct json_out *o, const struct emf_figures *f, const char *host, int64_t at_ms,
              int64_t interval_ms)
{
    json_puts(o, "{\"_aws\":{\"Timestamp\":");
    json_put_int(o, at_ms);
    /* by service alone: its average is what one server has, which is what scaling goes by */
    json_puts(o, ",\"CloudWatchMetrics\":[{\"Namespace\":\"roost\",\"Dimensions\":[[\"Service\"],"
                 "[\"Service\",\"Host\"]],\"Metrics\":[");
    put_names(o, interval_ms);
    json_puts(o, "]}]},\"Service\":\"roost\",\"Host\":");
    json_put_string(o, host, strlen(host));
    put_value(o, ",\"OpenConnections\":", f->open);
    put_value(o, ",\"NewConnections\":", f->opened);
    put_value(o, ",\"Messages\":", f->messages);
    put_value(o, ",\"BytesOut\":", f->bytes_out);
    put_value(o, ",\"SlowDropped\":", f->dropped);
    json_puts(o, "}\n");
}

/* ---- when ---- */

void emf_begin(struct emf *e, int64_t interval_ms, const char *host, int64_t now_ms)
{
    *e = (struct emf){.interval_ms = interval_ms, .next_ms = now_ms + interval_ms};
    snprintf(e->host, sizeof e->host, "%s", host);
    if (!*host && gethostname(e->host, sizeof e->host - 1) == -1) *e->host = 0;
}

int64_t emf_left_ms(const struct emf *e, int64_t now_ms)
{
    if (!e->interval_ms) return INT64_MAX;
    return e->next_ms > now_ms ? e->next_ms - now_ms : 0;
}

static struct emf_figures figures(const struct metrics *const *workers, size_t count)
{
    struct emf_figures f = {0};
    for (size_t i = 0; i < count; i++) {
        const struct metrics *m = workers[i];
        f.open += metric_get(m, METRIC_CONNECTIONS);
        f.opened += metric_get(m, METRIC_UPGRADED);
        f.messages += metric_get(m, METRIC_MESSAGES_IN) + metric_get(m, METRIC_MESSAGES_OUT);
        f.bytes_out += metric_get(m, METRIC_BYTES_OUT);
        f.dropped += metric_get(m, METRIC_SLOW_CLOSED) + metric_get(m, METRIC_SLOW_DROPPED);
    }
    return f;
}

/* write_line: main must not wait for a reader who does not read. A pipe that is writable takes
 * PIPE_BUF bytes, which a line has not. */
static bool write_line(int fd, const char *text, size_t len)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    return poll(&p, 1, 0) == 1 && p.revents & POLLOUT && write(fd, text, len) == (ssize_t)len;
}

void emf_tell(struct emf *e, const struct metrics *const *workers, size_t count, int fd,
              int64_t now_ms, bool last)
{
    struct timespec at;
    char text[EMF_LINE_MAX];
    struct json_out o = {.p = text, .cap = sizeof text};
    if (!e->interval_ms || (!last && now_ms < e->next_ms)) return;
    while (e->next_ms <= now_ms) e->next_ms += e->interval_ms;
    const struct emf_figures now = figures(workers, count);
    const struct emf_figures added = {.open = now.open,
                                      .opened = now.opened - e->told.opened,
                                      .messages = now.messages - e->told.messages,
                                      .bytes_out = now.bytes_out - e->told.bytes_out,
                                      .dropped = now.dropped - e->told.dropped};
    clock_gettime(CLOCK_REALTIME, &at);
    emf_line(&o, &added, e->host, (int64_t)at.tv_sec * 1000 + at.tv_nsec / 1000000, e->interval_ms);
    if (!o.full && write_line(fd, text, o.len)) e->told = now;
}
