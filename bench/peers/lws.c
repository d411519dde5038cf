/* libwebsockets (the distribution's) as a peer: /echo sends back; any other path is a channel.
 *
 * lws.c PORT [CERT KEY]. One service thread. Each connection has a queue of counted messages; one
 * is written at each WRITEABLE callback, which is how this library wants it. Channels are found by
 * comparing paths along one list, as there is one in these runs. */
#include <libwebsockets.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE 64 /* messages under way to one connection, more than any run has */

struct message {
    unsigned users;
    size_t len;
    enum lws_write_protocol type;
    unsigned char bytes[]; /* LWS_PRE in front of them */
};

struct session {
    struct lws *wsi;
    struct session *next, **link; /* of all */
    char path[64];
    struct message *building; /* of fragments */
    struct message *queue[QUEUE];
    unsigned head, count;
};

static struct session *all;
static volatile sig_atomic_t over;

static void end(int signal)
{
    (void)signal;
    over = 1;
}

static void let_go(struct message *m)
{
    if (--m->users == 0) free(m);
}

static void enqueue(struct session *s, struct message *m)
{
    if (s->count == QUEUE) {
        lws_set_timeout(s->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
        return;
    }
    m->users++;
    s->queue[(s->head + s->count++) % QUEUE] = m;
    lws_callback_on_writable(s->wsi);
}

static int receive(struct session *s, const void *in, size_t len)
{
    const size_t have = s->building ? s->building->len : 0;
    struct message *m = realloc(s->building, sizeof *m + LWS_PRE + have + len);
    if (!m) return -1;
    if (!s->building) m->len = 0;
    s->building = m;
    memcpy(m->bytes + LWS_PRE + have, in, len);
    m->len = have + len;
    if (!lws_is_final_fragment(s->wsi) || lws_remaining_packet_payload(s->wsi)) return 0;
    m->type = lws_frame_is_binary(s->wsi) ? LWS_WRITE_BINARY : LWS_WRITE_TEXT;
    m->users = 1;
    s->building = NULL;
    if (strcmp(s->path, "/echo") == 0)
        enqueue(s, m);
    else
        for (struct session *t = all; t; t = t->next)
            if (strcmp(t->path, s->path) == 0) enqueue(t, m);
    let_go(m);
    return 0;
}

static int write_one(struct session *s)
{
    if (!s->count) return 0;
    struct message *m = s->queue[s->head];
    s->head = (s->head + 1) % QUEUE;
    s->count--;
    /* the library writes the header in front of the bytes: the same one for everybody */
    const int n = lws_write(s->wsi, m->bytes + LWS_PRE, m->len, m->type);
    const int failed = n < (int)m->len;
    let_go(m);
    if (s->count) lws_callback_on_writable(s->wsi);
    return failed ? -1 : 0;
}

static void open_session(struct session *s, struct lws *wsi)
{
    memset(s, 0, sizeof *s);
    s->wsi = wsi;
    lws_hdr_copy(wsi, s->path, sizeof s->path, WSI_TOKEN_GET_URI);
    s->next = all;
    s->link = &all;
    if (all) all->link = &s->next;
    all = s;
}

static void close_session(struct session *s)
{
    if (!s->link) return;
    *s->link = s->next;
    if (s->next) s->next->link = s->link;
    while (s->count--) {
        let_go(s->queue[s->head]);
        s->head = (s->head + 1) % QUEUE;
    }
    free(s->building);
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len)
{
    switch ((int)reason) {
    case LWS_CALLBACK_ESTABLISHED: open_session(user, wsi); return 0;
    case LWS_CALLBACK_CLOSED: close_session(user); return 0;
    case LWS_CALLBACK_RECEIVE: return receive(user, in, len);
    case LWS_CALLBACK_SERVER_WRITEABLE: return write_one(user);
    default: return 0;
    }
}

int main(int argc, char **argv)
{
    static const struct lws_protocols protocols[] = {
        {"any", callback, sizeof(struct session), 64 * 1024, 0, NULL, 0}, {0}};
    if (argc != 2 && argc != 4) return 2;
    struct lws_context_creation_info info = {.port = (int)strtol(argv[1], NULL, 10),
                                             .iface = "127.0.0.1",
                                             .protocols = protocols,
                                             .vhost_name = "localhost",
                                             .gid = (gid_t)-1,
                                             .uid = (uid_t)-1};
    if (argc == 4) {
        info.ssl_cert_filepath = argv[2];
        info.ssl_private_key_filepath = argv[3];
        info.options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
    }
    signal(SIGTERM, end);
    lws_set_log_level(LLL_ERR, NULL);
    struct lws_context *context = lws_create_context(&info);
    if (!context) return 1;
    puts("ready");
    fflush(stdout);
    while (!over && lws_service(context, 0) >= 0) {
    }
    lws_context_destroy(context);
    return 0;
}
