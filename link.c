#include "link.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

#define HANDSHAKE_TIMEOUT_MS 10000
#define CLOSE_TIMEOUT_MS 2000
#define PING_TIMEOUT_MS 25000 /* the server's own interval, unless its pings teach us another */
#define PONG_TIMEOUT_MS 10000
#define PING_SLACK_MS 1000
#define STABLE_MS 10000 /* a connection that lived this long makes the back-off begin anew */
#define REFUSALS_MAX 3  /* of tokens, each newer than the one before, in a row */

struct link {
    struct link_hub *hub;
    const struct link_handler *handler;
    void *user;
    char *channel, *target;
    struct dial *dial, *next; /* the connection, and the one that shall take its place */
    enum link_state state;
    bool failed, closed_cleanly, opened_once, ping_sent, changed_over;
    unsigned failures;   /* attempts in a row */
    unsigned refusals;   /* of tokens, in a row */
    unsigned generation; /* of the token that dial was opened with */
    unsigned next_generation;
    int64_t due_ms;      /* of the state: next attempt, or when to give up */
    int64_t next_due_ms; /* when to give up on next, or to begin with it */
    int64_t opened_ms;
    int64_t heard_ms;         /* last sign of life */
    int64_t ping_ms;          /* last ping of the server, 0 = none */
    int64_t ping_interval_ms; /* longest gap between two pings seen */
    uint8_t *message;         /* pieces of an unfinished message */
    size_t message_len, message_cap;
};

__attribute__((format(printf, 2, 3))) static void note(const struct link *l, const char *format,
                                                       ...)
{
    va_list ap;
    if (l->hub->quiet && !l->failed) return;
    fprintf(stderr, "roost: %s: ", l->channel);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
}

static void drop_dial(struct link *l)
{
    if (l->dial && l->handler->lost) l->handler->lost(l, l->dial);
    dial_free(l->dial);
    l->dial = NULL;
    l->message_len = 0;
}

static void finish(struct link *l)
{
    dial_free(l->next);
    l->next = NULL;
    drop_dial(l);
    l->state = LINK_FINISHED;
}

static void fail(struct link *l, const char *why)
{
    l->failed = true;
    note(l, "%s", why);
    finish(l);
}

/* ---- what an end means ---- */

enum verdict { TRY_AGAIN, NEW_TOKEN, GIVE_UP };

static enum verdict judge_status(int status)
{
    if (status == 401 || status == 403) return NEW_TOKEN;
    if (status == 408 || status == 429 || status >= 500) return TRY_AGAIN;
    return GIVE_UP; /* 404: no such namespace; 3xx: redirects are not followed; 400, 426: not a
                       server for us */
}

/* Codes of the server (design.md 5.1); 4500-4999 end for good in the Centrifuge protocol, 4000-4499
 * do not; 4401 is a refused token, 4403 one without permission. */
static enum verdict judge_close(const struct dial_end *end)
{
    const int code = end->code;
    if (code == WS_CLOSE_POLICY && end->for_rate) return TRY_AGAIN;
    if (code == 4401 || code == 4403 || code == 3005 || code == 3500) return NEW_TOKEN;
    if (code == WS_CLOSE_POLICY || code == WS_CLOSE_TOO_LARGE || code == WS_CLOSE_PROTOCOL ||
        code == WS_CLOSE_UNSUPPORTED || code == WS_CLOSE_BAD_DATA)
        return GIVE_UP;
    if ((code > 3500 && code < 4000) || (code >= 4500 && code < 5000)) return GIVE_UP;
    return TRY_AGAIN;
}

static enum verdict judge(const struct link *l, const struct dial_end *end)
{
    switch (end->kind) {
    case DIAL_END_HTTP: return judge_status(end->code);
    case DIAL_END_CLOSE: return judge_close(end);
    case DIAL_END_TLS:
    case DIAL_END_PROTOCOL: return l->opened_once ? TRY_AGAIN : GIVE_UP;
    case DIAL_END_LOCAL: return GIVE_UP;
    case DIAL_END_NONE:
    case DIAL_END_NETWORK: return TRY_AGAIN;
    }
    return GIVE_UP;
}

/* ---- token ---- */

/* new_token gets a token to replace the one that l's connection was opened with. Returns NULL, or
 * why there is none ("": nothing to add to the server's own words). */
static const char *new_token(struct link *l, char *err, size_t err_len)
{
    struct credentials *c = &l->hub->credentials;
    if (c->generation != l->generation) return NULL; /* another link fetched it meanwhile */
    if (!c->renewable && *c->token) return "";
    if (!c->renewable) return "give a token: --token, --token-file, --token-cmd or ROOST_TOKEN";
    if (l->refusals >= REFUSALS_MAX) return "new tokens are refused as well";
    int rc = credentials_load(c, time(NULL), err, err_len);
    if (rc == -1) return err;
    return rc == 0 ? "and the token is still the same one" : NULL;
}

/* renew_early asks for a new token when the old one is near its end; the hub's links take turns to
 * be first. */
static void renew_early(struct link *l)
{
    struct credentials *c = &l->hub->credentials;
    char err[300];
    int64_t now_s = time(NULL);
    if (c->renew_at_s == 0 || now_s < c->renew_at_s) return;
    if (credentials_load(c, now_s, err, sizeof err) == -1) {
        int64_t left = credentials_exp(c->token) - now_s;
        c->renew_at_s = now_s + (left > 100 ? left / 10 : 10);
        note(l, "can not renew the token: %s", err);
    }
}

/* ---- attempts ---- */

static void wait_for_retry(struct link *l, int64_t now_ms, int64_t least_s)
{
    uint64_t random;
    random_bytes(&random, sizeof random);
    int64_t ms = dial_retry_ms(l->failures, random);
    /* The server's own wish counts, within reason; the jitter comes on top. */
    if (least_s > 0) ms += (least_s < 120 ? least_s : 120) * 1000;
    l->failures++;
    l->state = LINK_WAITING;
    l->due_ms = now_ms + ms;
    note(l, "retry in %.1f s", (double)ms / 1000);
}

/* "shutdown, come back in 7 s" (design.md 5.1) */
static int64_t hint_s(const struct dial_end *end)
{
    const char *at = strstr(end->text, "come back in ");
    long s = at ? strtol(at + strlen("come back in "), NULL, 10) : 0;
    if (end->retry_after_s > 0) return end->retry_after_s;
    return s > 0 && s < 3600 ? s : 0;
}

/* decide says whether the link goes on after end. *why is what to add to the server's words. */
static bool decide(struct link *l, const struct dial_end *end, const char **why, char *err,
                   size_t err_len)
{
    *why = NULL;
    switch (judge(l, end)) {
    case TRY_AGAIN: return true;
    case NEW_TOKEN:
        *why = new_token(l, err, err_len);
        l->refusals++;
        return *why == NULL;
    case GIVE_UP: return false;
    }
    return false;
}

static void ended(struct link *l, int64_t now_ms)
{
    struct dial_end end = *dial_end(l->dial);
    char err[300];
    const char *why, *lost = l->state == LINK_OPEN ? "lost: " : "";
    if (l->state == LINK_OPEN && now_ms - l->opened_ms > STABLE_MS) l->failures = 0;
    drop_dial(l);
    l->failed = !decide(l, &end, &why, err, sizeof err);
    note(l, "%s%s", lost, end.text);
    if (why && *why) note(l, "%s", why);
    if (l->failed)
        finish(l);
    else
        wait_for_retry(l, now_ms, hint_s(&end));
}

static void message_piece(struct link *l, const struct ws_event *ev)
{
    if (ev->first && ev->last) {
        l->handler->message(l, (enum ws_opcode)ev->opcode, ev->payload, ev->len);
        return;
    }
    if (ev->first) l->message_len = 0;
    size_t need = l->message_len + ev->len; /* bounded by the dial_peer's max_message_bytes */
    if (need > l->message_cap) {
        size_t cap = need + need / 2 + 1024;
        uint8_t *p = realloc(l->message, cap);
        if (!p) {
            dial_close(l->dial, WS_CLOSE_TOO_LARGE, "out of memory");
            return;
        }
        l->message = p;
        l->message_cap = cap;
    }
    if (ev->len) memcpy(l->message + l->message_len, ev->payload, ev->len);
    l->message_len = need;
    if (!ev->last) return;
    l->handler->message(l, (enum ws_opcode)ev->opcode, l->message, l->message_len);
    l->message_len = 0;
}

/* The gap between two pings is the server's interval or, by its jitter, a little less. */
static void ping_seen(struct link *l)
{
    int64_t now_ms = clock_ms();
    int64_t gap = l->ping_ms ? now_ms - l->ping_ms : 0;
    if (gap > l->ping_interval_ms) l->ping_interval_ms = gap;
    l->ping_ms = now_ms;
}

static void on_event(struct dial *d, const struct ws_event *ev, void *user)
{
    struct link *l = user;
    if (d != l->dial || l->state == LINK_CLOSING) return;
    if (ev->kind == WS_EVENT_DATA)
        message_piece(l, ev);
    else if (ev->opcode == WS_PING)
        ping_seen(l);
    else if (ev->opcode == WS_PONG && l->handler->pong)
        l->handler->pong(l, ev->payload, ev->len);
}

static struct dial *dial_channel(struct link *l, bool hold)
{
    static const struct dial_handler handler = {.event = on_event};
    const struct credentials *c = &l->hub->credentials;
    const struct dial_request request = {.target = l->target,
                                         .token = *c->token ? c->token : NULL,
                                         .hold = hold,
                                         .handler = &handler,
                                         .user = l};
    return dial_new(l->hub->loop, &l->hub->peer, &request);
}

static void begin(struct link *l, int64_t now_ms)
{
    char err[300];
    bool no_such_name = false;
    if (dial_resolve(&l->hub->peer, err, sizeof err, &no_such_name) == -1) {
        note(l, "%s", err);
        if (no_such_name && !l->opened_once)
            fail(l, "is the host name right?");
        else
            wait_for_retry(l, now_ms, 0);
        return;
    }
    renew_early(l);
    l->generation = l->hub->credentials.generation;
    l->dial = dial_channel(l, false);
    if (!l->dial) {
        fail(l, "out of memory");
        return;
    }
    l->state = LINK_CONNECTING;
    l->due_ms = now_ms + HANDSHAKE_TIMEOUT_MS;
    if (dial_state(l->dial) == DIAL_CLOSED) ended(l, now_ms);
}

static void link_opened(struct link *l, int64_t now_ms)
{
    const char *version = dial_tls_version(l->dial);
    l->state = LINK_OPEN;
    l->opened_once = true;
    l->refusals = 0;
    l->opened_ms = l->heard_ms = l->due_ms = now_ms; /* due: to see when silence will be one */
    l->ping_ms = 0;
    l->ping_sent = false;
    if (l->changed_over)
        note(l, "changed over to a new token");
    else
        note(l, "connected%s%s", *version ? ", " : "", version);
    l->changed_over = false;
    l->handler->opened(l);
}

/* ---- changing over to a connection with a new token ----
 * The slow part, TCP and TLS, is done beside the old connection. Then the old one is closed, its
 * Close awaited, and only then the upgrade sent: the server never has two subscriptions of ours, so
 * nothing comes twice, at the price of a gap of two round trips. (Both at once would need offsets
 * to tell what both delivered.) */

static void prepare_next(struct link *l, int64_t now_ms)
{
    if (l->next || now_ms < l->next_due_ms || l->generation == l->hub->credentials.generation)
        return;
    l->next_generation = l->hub->credentials.generation;
    l->next = dial_channel(l, true);
    l->next_due_ms = now_ms + HANDSHAKE_TIMEOUT_MS;
}

static void next_failed(struct link *l, int64_t now_ms)
{
    note(l, "a connection with the new token: %s; the old one stays", dial_end(l->next)->text);
    dial_free(l->next);
    l->next = NULL;
    l->next_due_ms = now_ms + DIAL_RETRY_MAX_MS / 4;
}

static void leave_old(struct link *l, int64_t now_ms)
{
    l->state = LINK_CHANGING;
    l->due_ms = now_ms + CLOSE_TIMEOUT_MS;
    dial_close(l->dial, WS_CLOSE_NORMAL, "token renewed");
}

static void take_next(struct link *l, int64_t now_ms)
{
    drop_dial(l);
    l->dial = l->next;
    l->next = NULL;
    l->next_due_ms = 0;
    l->generation = l->next_generation;
    l->changed_over = true;
    l->state = LINK_CONNECTING;
    l->due_ms = now_ms + HANDSHAKE_TIMEOUT_MS;
    dial_upgrade(l->dial);
}

static void check_next(struct link *l, int64_t now_ms)
{
    if (!l->next) return;
    if (dial_state(l->next) == DIAL_CONNECTING || dial_state(l->next) == DIAL_TLS_HANDSHAKE) {
        if (now_ms >= l->next_due_ms) dial_close(l->next, 0, "no answer");
    }
    if (dial_state(l->next) == DIAL_CLOSED) {
        next_failed(l, now_ms);
        return;
    }
    if (dial_state(l->next) == DIAL_READY && l->state == LINK_OPEN) leave_old(l, now_ms);
}

/* ---- events and time ---- */

size_t link_poll(const struct link *l, struct pollfd p[static LINK_FDS])
{
    size_t n = 0;
    struct dial *const both[] = {l->dial, l->next};
    for (size_t i = 0; i < 2; i++)
        if (both[i] && dial_fd(both[i]) != -1)
            p[n++] = (struct pollfd){.fd = dial_fd(both[i]), .events = dial_wants(both[i])};
    return n;
}

void link_ready(struct link *l, const struct pollfd *p, size_t count, int64_t now_ms)
{
    for (size_t i = 0; i < count; i++) {
        if (p[i].revents == 0) continue;
        if (l->dial && p[i].fd == dial_fd(l->dial)) {
            if (p[i].revents & POLLIN) {
                l->heard_ms = now_ms;
                l->ping_sent = false;
            }
            dial_step(l->dial, p[i].revents);
        } else if (l->next && p[i].fd == dial_fd(l->next)) {
            dial_step(l->next, p[i].revents);
        }
    }
}

/* A server that is silent for longer than its pings allow gets a ping of ours; if even that brings
 * no byte, it is dead. */
static void check_silence(struct link *l, int64_t now_ms)
{
    int64_t quiet_ms = l->hub->ping_timeout_ms ? l->hub->ping_timeout_ms : PING_TIMEOUT_MS;
    if (l->ping_interval_ms > quiet_ms) quiet_ms = l->ping_interval_ms;
    int64_t ask_at = l->heard_ms + quiet_ms + PING_SLACK_MS;
    if (now_ms >= ask_at && !l->ping_sent) {
        l->ping_sent = true;
        dial_send(l->dial, WS_PING, "", 0);
        dial_flush(l->dial);
    }
    l->due_ms = l->ping_sent ? ask_at + PONG_TIMEOUT_MS : ask_at;
    if (now_ms < ask_at + PONG_TIMEOUT_MS) return;
    note(l, "lost: the server is silent since %" PRId64 " s", (now_ms - l->heard_ms) / 1000);
    drop_dial(l);
    wait_for_retry(l, now_ms, 0);
}

static void tick_connecting(struct link *l, int64_t now_ms)
{
    enum dial_state state = dial_state(l->dial);
    if (state == DIAL_OPEN || state == DIAL_CLOSING) {
        link_opened(l, now_ms);
        return;
    }
    if (state != DIAL_CLOSED && now_ms >= l->due_ms) dial_close(l->dial, 0, "no answer in time");
    if (dial_state(l->dial) != DIAL_CLOSED) return;
    if (dial_end(l->dial)->kind != DIAL_END_LOCAL || now_ms < l->due_ms) {
        ended(l, now_ms);
        return;
    }
    note(l, "%s", dial_end(l->dial)->text); /* our own deadline, which is no reason to give up */
    drop_dial(l);
    wait_for_retry(l, now_ms, 0);
}

static void tick_open(struct link *l, int64_t now_ms)
{
    if (dial_state(l->dial) == DIAL_CLOSED || dial_close_received(l->dial)) {
        dial_free(l->next);
        l->next = NULL;
        ended(l, now_ms);
        return;
    }
    renew_early(l);
    prepare_next(l, now_ms);
    check_next(l, now_ms);
    if (l->state == LINK_OPEN) check_silence(l, now_ms);
}

static void tick_changing(struct link *l, int64_t now_ms)
{
    check_next(l, now_ms);
    bool old_gone = dial_state(l->dial) == DIAL_CLOSED || dial_close_received(l->dial);
    if (!old_gone && now_ms < l->due_ms) return;
    if (l->next) {
        take_next(l, now_ms);
        return;
    }
    drop_dial(l);
    l->state = LINK_WAITING;
    l->due_ms = now_ms;
}

static void tick_closing(struct link *l, int64_t now_ms)
{
    l->closed_cleanly = dial_close_confirmed(l->dial);
    if (dial_close_received(l->dial) || dial_state(l->dial) == DIAL_CLOSED || now_ms >= l->due_ms)
        finish(l);
}

int64_t link_tick(struct link *l, int64_t now_ms)
{
    switch (l->state) {
    case LINK_WAITING:
        if (now_ms >= l->due_ms) begin(l, now_ms);
        break;
    case LINK_CONNECTING: tick_connecting(l, now_ms); break;
    case LINK_OPEN: tick_open(l, now_ms); break;
    case LINK_CHANGING: tick_changing(l, now_ms); break;
    case LINK_CLOSING: tick_closing(l, now_ms); break;
    case LINK_FINISHED: return INT64_MAX;
    }
    int64_t due = l->due_ms;
    const struct credentials *c = &l->hub->credentials;
    if (l->state == LINK_OPEN && (c->renew_at_s || l->next_due_ms > now_ms)) {
        /* The token's end is wall-clock time, which may jump: look again every second. */
        if (due > now_ms + 1000) due = now_ms + 1000;
    }
    return l->state == LINK_FINISHED ? INT64_MAX : due;
}

void link_close(struct link *l, int64_t now_ms)
{
    if (l->state == LINK_CLOSING || l->state == LINK_FINISHED) return;
    if (!l->dial || dial_state(l->dial) < DIAL_OPEN || dial_state(l->dial) == DIAL_CLOSED) {
        finish(l);
        return;
    }
    dial_free(l->next);
    l->next = NULL;
    l->state = LINK_CLOSING;
    l->due_ms = now_ms + CLOSE_TIMEOUT_MS;
    dial_close(l->dial, WS_CLOSE_NORMAL, "done");
}

/* ---- making one ---- */

struct link *link_new(struct link_hub *hub, const char *channel, const char *query,
                      const struct link_handler *handler, void *user)
{
    struct link *l = calloc(1, sizeof *l);
    char segment[4096];
    const struct url *u = &hub->peer.url;
    if (!l || url_encode_segment(segment, sizeof segment, channel, strlen(channel)) == -1) {
        free(l);
        return NULL;
    }
    l->hub = hub;
    l->handler = handler;
    l->user = user;
    l->channel = strdup(channel);
    if (asprintf(&l->target, "%s/raw/%s%s%s%s", u->path, segment, query, *u->query ? "&" : "",
                 u->query) == -1)
        l->target = NULL;
    if (l->channel && l->target) return l;
    link_free(l);
    return NULL;
}

void link_free(struct link *l)
{
    if (!l) return;
    dial_free(l->next);
    dial_free(l->dial);
    free(l->channel);
    free(l->target);
    free(l->message);
    free(l);
}

enum link_state link_state(const struct link *l)
{
    return l->state;
}

bool link_failed(const struct link *l)
{
    return l->failed;
}

void *link_user(const struct link *l)
{
    return l->user;
}

const char *link_channel(const struct link *l)
{
    return l->channel;
}

struct dial *link_dial(struct link *l)
{
    return l->state == LINK_OPEN ? l->dial : NULL;
}

bool link_closed_cleanly(const struct link *l)
{
    return l->closed_cleanly;
}
