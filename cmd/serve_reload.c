/* A reload: SIGHUP reads the configuration, the secrets and the certificates again.
 *
 * Everything that can fail comes first, beside what serves: reading and checking as `roost check`
 * does, making the new set, and last the certificates, which are replaced in one step or not at
 * all. What follows can not fail: the set's pointer is stored for all workers. When each has begun
 * a turn with it the old one is freed, and the reload is over; until then no other one begins. */
#include "cmd/serve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "notify.h"
#include "trace/export.h"

extern char **environ;

/* reopen_log: the file may have been renamed by a rotation. */
static void reopen_log(const struct config *c)
{
    if (log_open(&(struct log_options){.level = c->log_level,
                                       .file = c->log_file,
                                       .json = c->log_format == CONFIG_LOG_JSON}) == -1)
        log_event(LOG_ERROR, "SIGHUP: the log file can not be opened, the old one goes on",
                  LOG_STR("file", c->log_file), LOG_ERRNO(errno));
    else
        log_event(LOG_INFO, "SIGHUP: log opened anew", LOG_STR("file", c->log_file));
}

/* ---- certificates ---- */

static void add_one(_Atomic uint64_t *n)
{
    atomic_fetch_add_explicit(n, 1, memory_order_relaxed);
}

void serve_note_certificates(struct serve *s)
{
    atomic_store_explicit(&s->server.certificates_end_s, tls_server_not_after(s->tls),
                          memory_order_relaxed);
}

/* read_certificates: handshakes from now on see what is in c's files. What is wrong with them is
 * told to the log, and the old ones stay: false. */
static bool read_certificates(struct serve *s, const struct config *c)
{
    struct tls_files files[TLS_PAIRS_MAX];
    char err[512];
    const size_t count = serve_files(c, files);
    if (!s->tls || !count) return true;
    if (serve_ticket_keys(c, err, sizeof err) == -1 ||
        tls_server_reload(s->tls, files, count, err, sizeof err) == -1) {
        log_event(LOG_ERROR, "the old certificates stay", LOG_STR("problem", err));
        add_one(&s->server.certificate_reads_failed);
        return false;
    }
    serve_note_certificates(s);
    add_one(&s->server.certificate_reads);
    log_event(*err ? LOG_WARN : LOG_INFO, "certificates read again", LOG_U64("count", count),
              LOG_STR("problem", err));
    return true;
}

void serve_look_at_certificates(struct serve *s)
{
    const int64_t now_ms = clock_us() / 1000;
    if (!s->tls || now_ms < s->look_at_ms) return;
    s->look_at_ms = now_ms + SERVE_LOOK_MS;
    const uint64_t mark = serve_files_mark(&s->set->config);
    if (mark == s->certificates) return;
    s->certificates = mark; /* while one file is new and the other still old they do not fit: then
                               the next look finds them changed again */
    (void)read_certificates(s, &s->set->config);
}

/* ---- the configuration ---- */

static void tell(const struct config_report *report)
{
    for (size_t i = 0; i < report->count; i++)
        log_event(report->notes[i].is_error ? LOG_ERROR : LOG_WARN,
                  report->notes[i].is_error ? "SIGHUP: the configuration is wrong"
                                            : "SIGHUP: the configuration",
                  LOG_STR("problem", report->notes[i].text));
}

/* read_set gives a set with a good configuration, not yet made; NULL: it has been told why. */
static struct serve_set *read_set(const struct serve *s)
{
    struct config_report report = {0};
    struct serve_set *fresh = calloc(1, sizeof *fresh);
    if (!fresh) {
        log_event(LOG_ERROR, "SIGHUP: out of memory");
        return NULL;
    }
    const bool good =
        config_load(&fresh->config, s->argc, s->argv, environ, &report) == CONFIG_LOADED;
    tell(&report);
    config_report_free(&report);
    if (good) {
        if (fresh->config.dev && s->set->config.dev) serve_fill_dev(s, &fresh->config);
        return fresh;
    }
    serve_set_free(fresh);
    return NULL;
}

static bool same_urls(const struct config_urls *a, const struct config_urls *b)
{
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++)
        if (a->items[i].scheme != b->items[i].scheme || a->items[i].port != b->items[i].port ||
            strcmp(a->items[i].host, b->items[i].host) != 0 ||
            strcmp(a->items[i].path, b->items[i].path) != 0)
            return false;
    return true;
}

/* has_same_doors: secrets, keys and access are judged by where roost listens and by dev, which only
 * a restart changes. A configuration that was good with others need not be so with ours: without a
 * secret on loopback, say. So it is not taken. */
static bool has_same_doors(const struct config *ours, const struct config *fresh)
{
    return ours->dev == fresh->dev && same_urls(&ours->listen, &fresh->listen) &&
           same_urls(&ours->admin_listen, &fresh->admin_listen);
}

/* keep_fixed leaves fresh with the running values of what only a restart changes, and says so. */
static void keep_fixed(struct serve *s, struct serve_set *fresh)
{
    char keys[512];
    if (config_changed(&s->set->config, &fresh->config, true, keys, sizeof keys))
        log_event(LOG_WARN, "these options change with a restart only: the old values stay",
                  LOG_STR("keys", keys));
    config_swap_fixed(&s->set->config, &fresh->config);
}

/* make finishes fresh, and replaces the certificates. false: nothing has changed. */
static bool make(struct serve *s, struct serve_set *fresh)
{
    const uint64_t mark = serve_files_mark(&fresh->config);
    if (!has_same_doors(&s->set->config, &fresh->config)) {
        log_event(LOG_ERROR, "SIGHUP: the configuration is wrong",
                  LOG_STR("problem",
                          "listen, admin_listen or dev is another: that needs a restart, "
                          "and what else is in it is meant for it"));
        return false;
    }
    keep_fixed(s, fresh);
    const char *why = serve_set_make(fresh, s->set);
    if (why) log_event(LOG_ERROR, "SIGHUP: the configuration is wrong", LOG_STR("problem", why));
    if (!why && read_certificates(s, &fresh->config)) {
        s->certificates = mark;
        return true;
    }
    config_swap_fixed(&s->set->config, &fresh->config);
    return false;
}

/* put_in_force: from here on nothing fails. */
static void put_in_force(struct serve *s, struct serve_set *fresh)
{
    const struct config *c = &fresh->config;
    (void)config_changed(&s->set->config, c, false, s->changed, sizeof s->changed);
    log_set_level(c->log_level);
    trace_export_set_sample(c->trace_sample);
    user_limit_set(c->user_connection_limit);
    conn_address_limit_set(c->ip_connection_limit);
    s->old = s->set;
    s->set = fresh;
    serve_publish(s);
    console_set_password(c->console_password.bytes, c->console_password.len);
    for (unsigned i = 0; i < s->server.worker_count; i++)
        reactor_wake(&s->server.workers[i]->reactor);
}

static void reload_configuration(struct serve *s)
{
    notify("RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=reading the configuration again",
           (long long)clock_us());
    struct serve_set *fresh = read_set(s);
    if (fresh && make(s, fresh)) {
        put_in_force(s, fresh);
        return;
    }
    serve_set_free(fresh);
    add_one(&s->server.reloads_failed);
    log_event(LOG_ERROR, "reload failed: nothing has changed");
    notify("READY=1\nSTATUS=the last reload failed: see the log");
}

bool serve_reloading(struct serve *s)
{
    if (!s->old) return false;
    if (!worker_all_took(&s->server, s->set->settings.generation)) return true;
    serve_set_free(s->old);
    s->old = NULL;
    add_one(&s->server.reloads);
    atomic_store_explicit(&s->server.reloaded_s, (int64_t)time(NULL), memory_order_relaxed);
    log_event(LOG_INFO, "reloaded", LOG_U64("generation", s->set->settings.generation),
              LOG_STR("changed", s->changed));
    if (atomic_load_explicit(&s->server.draining, memory_order_relaxed)) return false;
    notify("READY=1\nSTATUS=serving with %u workers", s->server.worker_count);
    if (!s->reload_again) return false;
    s->reload_again = false;
    reload_configuration(s);
    return s->old != NULL;
}

void serve_reload(struct serve *s)
{
    reopen_log(&s->set->config);
    if (atomic_load_explicit(&s->server.draining, memory_order_relaxed))
        log_event(LOG_WARN, "SIGHUP: the server stops, and reads no configuration");
    else if (!s->old)
        reload_configuration(s);
    else if (!s->reload_again) {
        s->reload_again = true;
        log_event(LOG_INFO, "SIGHUP: put off until every worker has the configuration before");
    }
}
