#include "cmd/cmd.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "link.h"

/* Every message is in one of two queues: waiting, or sent and not confirmed yet. A ping behind the
 * messages is the confirmation: a server reads in order, so its pong says that it has read what was
 * sent before. When a connection is cut, what the socket had not wholly taken goes back to waiting
 * (the server can not have it), and the rest of the sent queue is uncertain: it is not sent again,
 * so that nothing is published twice, but counted and reported. */

#define MESSAGE_MAX_BYTES (64u << 20)
#define WAITING_MAX_BYTES (1u << 20)  /* read ahead from standard input */
#define QUEUED_MAX_BYTES (256u << 10) /* in the connection, not taken by the socket */
#define SENT_MAX_BYTES (16u << 20)    /* not confirmed */
#define PING_GAP_MS 100
#define PROGRESS_GAP_MS 500

struct message {
    struct message *next;
    int64_t end;   /* stream position behind it, once sent */
    uint64_t ping; /* number of the first ping behind it */
    size_t len;
    uint8_t bytes[];
};

struct queue {
    struct message *first, **last;
    size_t bytes;
};

struct pub {
    struct link_hub hub;
    struct link *link;
    enum ws_opcode opcode;
    const char *text; /* --message */
    bool eof;         /* of the input */
    bool failed;      /* something was not published */
    struct queue waiting, sent;
    uint8_t *input; /* the line, or with --binary the whole, that is being read */
    size_t input_len, input_cap;
    uint64_t line_number;
    uint64_t ping, pong; /* numbers of the last ones */
    int64_t ping_at_ms;
    uint64_t confirmed, uncertain;
    uint64_t confirmed_bytes;
    bool progress;
    int64_t progress_at_ms;
};

static void usage(FILE *to)
{
    fprintf(
        to,
        "usage: roost pub URL CHANNEL [options]\n"
        "Publishes each line of standard input as a text message.\n"
        "URL is wss://HOST[:PORT], ws://HOST[:PORT] or unix:/SOCKET.\n"
        "\n"
        "  --message TEXT         publish TEXT instead of standard input\n"
        "  --binary               publish the whole of standard input as one binary message\n"
        "%s"
        "\n"
        "It ends when the server has confirmed everything (a ping behind the messages, then the\n"
        "closing handshake). A lost connection is opened again after 0.5 to 20 s. A message that\n"
        "was under way when the connection was cut is sent again only if the server can not have "
        "it\n"
        "whole; else it is reported as uncertain, because it is never published twice.\n"
        "Status: 0 all published, 1 refused for good or something uncertain or not sent,\n"
        "2 wrong usage, 130 interrupted.\n",
        link_options_help);
}

/* ---- queues ---- */

static void queue_init(struct queue *q)
{
    q->first = NULL;
    q->last = &q->first;
    q->bytes = 0;
}

static void queue_push(struct queue *q, struct message *m)
{
    m->next = NULL;
    *q->last = m;
    q->last = &m->next;
    q->bytes += m->len;
}

static struct message *queue_pop(struct queue *q)
{
    struct message *m = q->first;
    q->first = m->next;
    if (!q->first) q->last = &q->first;
    q->bytes -= m->len;
    return m;
}

/* queue_join puts all of front before all of q; front is empty afterwards. */
static void queue_join(struct queue *q, struct queue *front)
{
    if (!front->first) return;
    *front->last = q->first;
    if (q->first) front->last = q->last;
    front->bytes += q->bytes;
    q->first = front->first;
    q->last = front->last;
    q->bytes = front->bytes;
    queue_init(front);
}

static bool add_message(struct pub *p, const uint8_t *bytes, size_t len)
{
    uint32_t utf8 = 0;
    p->line_number++;
    if (p->opcode == WS_TEXT && (!ws_utf8(&utf8, bytes, len) || !ws_utf8_done(utf8))) {
        fprintf(stderr,
                "roost: line %llu is not UTF-8 and can not be a text message; see --binary\n",
                (unsigned long long)p->line_number);
        p->failed = p->eof = true;
        return false;
    }
    struct message *m = malloc(sizeof *m + len);
    if (!m) {
        fprintf(stderr, "roost: out of memory\n");
        p->failed = p->eof = true;
        return false;
    }
    m->len = len;
    if (len) memcpy(m->bytes, bytes, len);
    queue_push(&p->waiting, m);
    return true;
}

/* ---- input ---- */

static void take_lines(struct pub *p)
{
    uint8_t *at = p->input, *end = p->input + p->input_len, *newline;
    while (!p->failed && (newline = memchr(at, '\n', (size_t)(end - at)))) {
        if (!add_message(p, at, (size_t)(newline - at))) return;
        at = newline + 1;
    }
    p->input_len = (size_t)(end - at);
    memmove(p->input, at, p->input_len);
}

static bool input_room(struct pub *p)
{
    if (p->input_cap - p->input_len >= 65536) return true;
    if (p->input_len > MESSAGE_MAX_BYTES) {
        fprintf(stderr, "roost: a message is longer than %u MiB\n", MESSAGE_MAX_BYTES >> 20);
        return false;
    }
    size_t cap = p->input_cap * 2 + 65536;
    uint8_t *grown = realloc(p->input, cap);
    if (!grown) return false;
    p->input = grown;
    p->input_cap = cap;
    return true;
}

static void read_input(struct pub *p)
{
    if (!input_room(p)) {
        p->failed = p->eof = true;
        return;
    }
    ssize_t n = read(STDIN_FILENO, p->input + p->input_len, p->input_cap - p->input_len);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (n > 0) {
        p->input_len += (size_t)n;
        if (p->opcode == WS_TEXT) take_lines(p);
        return;
    }
    p->eof = true;
    if (n < 0) {
        fprintf(stderr, "roost: standard input: %s\n", strerror(errno));
        p->failed = true;
    } else if (p->input_len || p->opcode == WS_BINARY) {
        add_message(p, p->input, p->input_len);
    }
}

static bool wants_input(const struct pub *p)
{
    return !p->eof && p->waiting.bytes < WAITING_MAX_BYTES;
}

/* ---- sending and confirming ---- */

static void confirm(struct pub *p, struct message *m)
{
    p->confirmed++;
    p->confirmed_bytes += m->len;
    free(m);
}

static void send_ping(struct pub *p, struct dial *d, int64_t now_ms)
{
    uint8_t payload[8];
    bool due = now_ms >= p->ping_at_ms + PING_GAP_MS || (p->eof && !p->waiting.first);
    if (!p->sent.first || p->ping != p->pong || !due) return;
    uint64_t number = p->ping + 1;
    memcpy(payload, &number, sizeof payload);
    if (dial_send(d, WS_PING, payload, sizeof payload) < 0) return;
    p->ping = number;
    p->ping_at_ms = now_ms;
}

static void send_waiting(struct pub *p, int64_t now_ms)
{
    struct dial *d = link_dial(p->link);
    if (!d) return;
    while (p->waiting.first && dial_queued(d) < QUEUED_MAX_BYTES &&
           p->sent.bytes < SENT_MAX_BYTES) {
        struct message *m = p->waiting.first;
        int64_t end = dial_send(d, p->opcode, m->bytes, m->len);
        if (end < 0) break;
        m = queue_pop(&p->waiting);
        m->end = end;
        m->ping = p->ping + 1;
        queue_push(&p->sent, m);
    }
    send_ping(p, d, now_ms);
    dial_flush(d);
}

static void on_opened(struct link *l)
{
    struct pub *p = link_user(l);
    p->pong = p->ping; /* one that was under way on the connection before will not come */
}

static void on_message(struct link *l, enum ws_opcode opcode, const uint8_t *payload, size_t len)
{
    (void)l, (void)opcode, (void)payload, (void)len; /* ?sub=0: nothing is expected */
}

static void on_pong(struct link *l, const uint8_t *payload, size_t len)
{
    struct pub *p = link_user(l);
    uint64_t number;
    if (len != sizeof number) return; /* an answer to the link's own ping */
    memcpy(&number, payload, sizeof number);
    if (number <= p->pong || number > p->ping) return;
    p->pong = number;
    while (p->sent.first && p->sent.first->ping <= number) confirm(p, queue_pop(&p->sent));
}

static void on_lost(struct link *l, const struct dial *d)
{
    struct pub *p = link_user(l);
    struct queue again;
    queue_init(&again);
    while (p->sent.first) {
        struct message *m = queue_pop(&p->sent);
        if (m->end > dial_taken(d)) {
            queue_push(&again, m);
        } else if (dial_close_confirmed(d)) {
            confirm(p, m);
        } else {
            p->uncertain++;
            free(m);
        }
    }
    queue_join(&p->waiting, &again);
}

static const struct link_handler handler = {
    .opened = on_opened, .message = on_message, .pong = on_pong, .lost = on_lost};

/* ---- what is said ---- */

static void show_progress(struct pub *p, int64_t now_ms)
{
    if (!p->progress || now_ms < p->progress_at_ms + PROGRESS_GAP_MS) return;
    p->progress_at_ms = now_ms;
    fprintf(stderr, "\r%llu published, %.1f MB ", (unsigned long long)p->confirmed,
            (double)p->confirmed_bytes / 1e6);
}

static void sum_up(struct pub *p)
{
    uint64_t left = 0;
    for (const struct message *m = p->waiting.first; m; m = m->next) left++;
    if (p->progress && p->progress_at_ms) fputc('\n', stderr);
    if (p->uncertain)
        fprintf(stderr,
                "roost: %llu messages may be lost: the connection was cut before the server "
                "confirmed them\n",
                (unsigned long long)p->uncertain);
    if (left) fprintf(stderr, "roost: %llu messages were not sent\n", (unsigned long long)left);
    if (p->uncertain || left) p->failed = true;
    if (p->failed || !p->hub.quiet)
        fprintf(stderr, "roost: %llu messages published\n", (unsigned long long)p->confirmed);
}

/* ---- the loop ---- */

static bool all_done(const struct pub *p)
{
    return p->eof && !p->waiting.first && !p->sent.first;
}

enum { POLL_SIGNAL, POLL_STDIN, POLL_LINK };

/* Returns the signal that came, or 0. */
static int poll_once(struct pub *p, int signals, int64_t due_ms)
{
    struct pollfd fds[POLL_LINK + LINK_FDS];
    size_t n = link_poll(p->link, fds + POLL_LINK);
    int64_t wait_ms = due_ms - clock_ms();
    fds[POLL_SIGNAL] = (struct pollfd){.fd = signals, .events = POLLIN};
    fds[POLL_STDIN] = (struct pollfd){.fd = wants_input(p) ? STDIN_FILENO : -1, .events = POLLIN};
    if (wait_ms < 0) wait_ms = 0;
    if (wait_ms > PROGRESS_GAP_MS && p->progress) wait_ms = PROGRESS_GAP_MS;
    if (wait_ms > PING_GAP_MS && p->sent.first && p->ping == p->pong) wait_ms = PING_GAP_MS;
    if (wait_ms > 60000) wait_ms = 60000;
    if (poll(fds, POLL_LINK + n, (int)wait_ms) <= 0) return 0;
    if (fds[POLL_STDIN].revents) read_input(p);
    link_ready(p->link, fds + POLL_LINK, n, clock_ms());
    return fds[POLL_SIGNAL].revents ? link_signal(signals) : 0;
}

/* run publishes everything; returns 0, or 128 + the signal that came first. */
static int run(struct pub *p, int signals)
{
    int status = 0;
    while (link_state(p->link) != LINK_FINISHED) {
        int64_t due_ms = link_tick(p->link, clock_ms());
        if (link_state(p->link) == LINK_FINISHED) break;
        send_waiting(p, clock_ms());
        if (all_done(p)) link_close(p->link, clock_ms());
        show_progress(p, clock_ms());
        int signal = poll_once(p, signals, due_ms);
        if (signal == 0) continue;
        if (status) break; /* the second one */
        status = 128 + signal;
        p->eof = true;
        link_close(p->link, clock_ms());
    }
    if (link_failed(p->link)) p->failed = true;
    return status;
}

/* ---- options ---- */

enum { OPT_MESSAGE = LINK_OPT_END, OPT_BINARY, OPT_HELP };

static int parse(struct pub *p, int argc, char **argv, const char **channel)
{
    static const struct option options[] = {LINK_LONG_OPTIONS,
                                            {"message", required_argument, NULL, OPT_MESSAGE},
                                            {"binary", no_argument, NULL, OPT_BINARY},
                                            {"help", no_argument, NULL, OPT_HELP},
                                            {NULL, 0, NULL, 0}};
    int value;
    optind = 0;
    while ((value = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (value == OPT_HELP || value == 'h') {
            usage(stdout);
            return 0;
        }
        if (value == OPT_MESSAGE) {
            p->text = optarg;
        } else if (value == OPT_BINARY) {
            p->opcode = WS_BINARY;
        } else if (!link_option(&p->hub, value, optarg)) {
            return 2;
        }
    }
    if (argc - optind != 2) {
        fprintf(stderr, "usage: roost pub URL CHANNEL [options]; roost pub --help says more\n");
        return 2;
    }
    p->hub.url_text = argv[optind];
    *channel = argv[optind + 1];
    return -1;
}

static void give_up_queues(struct pub *p)
{
    while (p->waiting.first) free(queue_pop(&p->waiting));
    while (p->sent.first) free(queue_pop(&p->sent));
    free(p->input);
}

int cmd_pub(int argc, char **argv)
{
    static struct pub p = {.opcode = WS_TEXT};
    const char *channel;
    int status = parse(&p, argc, argv, &channel);
    if (status >= 0) return status;
    queue_init(&p.waiting);
    queue_init(&p.sent);
    int signals = link_signals();
    status = link_hub_open(&p.hub, &channel, 1);
    if (status == 0 && !(p.link = link_new(&p.hub, channel, "?sub=0", &handler, &p))) {
        fprintf(stderr, "roost: the channel name is too long\n");
        status = 2;
    }
    if (status == 0) {
        p.eof = p.text != NULL;
        p.progress = isatty(STDERR_FILENO) && !isatty(STDIN_FILENO) && !p.text && !p.hub.quiet;
        if (p.text) add_message(&p, (const uint8_t *)p.text, strlen(p.text));
        status = run(&p, signals);
        sum_up(&p);
        if (status == 0 && p.failed) status = 1;
    }
    give_up_queues(&p);
    link_free(p.link);
    link_hub_close(&p.hub);
    close(signals);
    return status;
}
