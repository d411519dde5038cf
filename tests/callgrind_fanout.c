/* callgrind_fanout raw|client N ROUNDS: hands one publication a round to N subscribers that have
 * nothing waiting, on a worker of connections without sockets. tests/callgrind_units.sh counts the
 * instructions inside measured(), from the mailbox to the out queues. Prints how many deliveries
 * that were. */
#include "engine.h"

static struct conn *conns;
static struct subscription *subs;
static uint32_t n;

static void missed(struct subscription *s)
{
    (void)s;
    abort();
}

static void join(struct worker *w, uint32_t i, bool client)
{
    fake_open(&conns[i], w, i + 1);
    struct local *l = pubsub_attach(w, "c", 1);
    subs[i] = (struct subscription){.conn = &conns[i]};
    int failed = !l       ? -1
                 : client ? pubsub_subscribe_client(&subs[i], l, NULL)
                          : pubsub_subscribe(&conns[i], l);
    if (failed) abort();
}

static void publish(struct worker *w, enum encoding e)
{
    static const uint8_t payload[128];
    struct channel *ch = pubsub_channel(w, "c", 1);
    struct publication *p = pubsub_publication(w, PUBLICATION_MESSAGE, PUBSUB_NOBODY);
    if (!ch || !p) abort();
    p->as[e].frame = conn_message_frame(w->pool, WS_BINARY, payload, sizeof payload);
    if (pubsub_publish(w, ch, p, NULL, NULL)) abort();
    pubsub_channel_unref(ch);
}

/* flush takes what was queued, as a socket with room would. */
static uint64_t flush(struct worker *w)
{
    uint64_t messages = 0;
    for (uint32_t i = 0; i < n; i++) {
        messages += conns[i].out ? conns[i].out->count : 0;
        metric_sub(&w->metrics, METRIC_QUEUED_BYTES, outq_bytes(conns[i].out));
        outq_free(w->pool, &conns[i].out);
        conns[i].flags &= ~(uint32_t)CONN_DIRTY;
    }
    w->dirty.count = 0;
    mem_pool_reclaim(w->pool);
    return messages;
}

__attribute__((noinline)) void measured(struct worker *w);
void measured(struct worker *w)
{
    do pubsub_posts(w, mailbox_take(&w->mailbox));
    while (engine_pending(w));
}

int main(int argc, char **argv)
{
    if (argc != 4) return 2;
    const bool client = strcmp(argv[1], "client") == 0;
    const unsigned long rounds = strtoul(argv[3], NULL, 10);
    uint64_t deliveries = 0;
    n = (uint32_t)strtoul(argv[2], NULL, 10);
    conns = calloc(n, sizeof *conns);
    subs = calloc(n, sizeof *subs);
    engine_open(&(struct engine_options){.bus = {.missed = missed}});
    struct worker *w = engine.server.workers[0];
    for (uint32_t i = 0; i < n; i++) join(w, i, client);
    for (unsigned long i = 0; i < rounds; i++) {
        publish(w, client ? ENCODING_JSON : ENCODING_RAW);
        measured(w);
        deliveries += flush(w);
    }
    if (deliveries != n * rounds) return 1;
    for (uint32_t i = 0; i < n; i++) {
        if (client) pubsub_unsubscribe_client(&subs[i]);
        fake_drop(&conns[i]);
    }
    w->dirty.count = w->closed.count = 0;
    engine_close();
    printf("%llu\n", (unsigned long long)deliveries);
    return 0;
}
