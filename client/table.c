/* A client's subscriptions by channel.
 *
 * An array with open addressing, three quarters full at most: 8 to 16 bytes a subscription, as much
 * as a list would take, and a command finds its channel in the same time whether there is one or
 * client.channel_limit, whose upper bound is 65536. What is taken out leaves no hole: those behind
 * it that do not lie where their hash says move up. The array only grows, and goes with the last
 * one. */
#include "client.h"

#include "hash.h"
#include "tls.h"

static struct hash_key key;

void client_table_init(void)
{
    random_bytes(&key, sizeof key);
}

static uint32_t hash_of(struct text channel)
{
    return (uint32_t)hash_bytes(&key, channel.p, channel.len);
}

void client_table_close(struct worker *w, struct client *k)
{
    mem_free(w->pool, k->places, k->cap * sizeof(*k->places));
    k->places = NULL;
    k->cap = 0;
}

struct text client_channel(const struct subscription *sub)
{
    struct text t;
    t.p = pubsub_name(pubsub_shared(sub->local), &t.len);
    return t;
}

struct subscription *client_find(const struct client *k, const char *name, size_t len)
{
    const struct text channel = text_of(name, len);
    if (!k->cap) return NULL;
    const uint32_t hash = hash_of(channel), mask = k->cap - 1;
    for (uint32_t i = hash & mask; k->places[i]; i = (i + 1) & mask)
        if (k->places[i]->hash == hash && client_same(client_channel(k->places[i]), channel))
            return k->places[i];
    return NULL;
}

static void put(struct subscription **places, uint32_t cap, struct subscription *sub)
{
    uint32_t i = sub->hash & (cap - 1);
    while (places[i]) i = (i + 1) & (cap - 1);
    places[i] = sub;
}

bool client_table_reserve(struct worker *w, struct client *k)
{
    if ((k->count + 1) * 4 <= k->cap * 3) return true;
    const uint32_t cap = k->cap ? k->cap * 2 : 2;
    struct subscription **places = mem_zalloc(w->pool, cap * sizeof(*places));
    if (!places) return false;
    for (uint32_t i = 0; i < k->cap; i++)
        if (k->places[i]) put(places, cap, k->places[i]);
    mem_free(w->pool, k->places, k->cap * sizeof(*places));
    k->places = places;
    k->cap = cap;
    return true;
}

void client_table_add(struct client *k, struct subscription *sub)
{
    sub->hash = hash_of(client_channel(sub));
    put(k->places, k->cap, sub);
    k->count++;
}

void client_table_remove(struct worker *w, struct client *k, const struct subscription *sub)
{
    const uint32_t mask = k->cap - 1;
    uint32_t hole = sub->hash & mask;
    while (k->places[hole] != sub) hole = (hole + 1) & mask;
    for (uint32_t i = (hole + 1) & mask; k->places[i]; i = (i + 1) & mask) {
        if (!hash_fills(hole, i, k->places[i]->hash, mask)) continue;
        k->places[hole] = k->places[i];
        hole = i;
    }
    k->places[hole] = NULL;
    if (--k->count == 0) client_table_close(w, k);
}
