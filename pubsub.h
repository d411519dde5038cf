/* pubsub.h - channels and subscriptions: publish on any worker, hand over on every worker that has subscribers.
 *
 * A channel has a shared half (name, seq, which workers are interested) in a table of shards, a mutex each, and a local half on each
 * worker that uses it (its subscribers, in a dense array). Publish takes the next seq under the shard's lock and pushes one post to each
 * interested worker, its own included; each worker drains its mailbox once a turn and hands the posts to its subscribers, in
 * slices. design.md section 3.1 says why nothing is lost, doubled or out of order. Cost: publish one short critical section and a
 * compare-and-swap a worker; subscribe and unsubscribe O(1); a subscription 16 bytes.
 * Rejected: a channel owned by one worker (two hops a publication, a pending state for each subscribe).
 * Threads: worker only, each call with the calling worker's own connections and local halves. */
#ifndef PUBSUB_H
#define PUBSUB_H

#include "conn.h"

struct channel; /* shared half */
struct local;   /* a worker's half */

struct pubsub_options {
    uint32_t slice;           /* subscribers of a channel served before others get a turn */
    int64_t channels_max;     /* in the process */
    enum slow_policy policy;  /* of raw subscribers */
};

/* pubsub_open makes the table, pubsub_worker_open a worker's half; 0 or -1 with errno. The close functions: no thread runs any more.
 * Main thread. */
int pubsub_open(const struct pubsub_options *o, unsigned worker_count);
void pubsub_close(void);
int pubsub_worker_open(struct worker *w);
void pubsub_worker_close(struct worker *w);

/* pubsub_attach gives w's half of the channel of that name, made if need be, with one more holder; NULL with errno ENOMEM, or
 * ENOSPC when channels_max exist. pubsub_detach lets go; the channel ends with its last holder. */
struct local *pubsub_attach(struct worker *w, const char *name, size_t len);
void pubsub_detach(struct local *l);

/* pubsub_subscribe makes c hear what is published from now on; its place is kept in c->sub_index. 0, or -1 when memory is out.
 * pubsub_unsubscribe: O(1), also while a publication is being handed out. c->channel is l and stays. */
int pubsub_subscribe(struct conn *c, struct local *l);
void pubsub_unsubscribe(struct conn *c);
bool pubsub_is_subscribed(const struct conn *c);

/* pubsub_publish sends frame, a message ready for raw subscribers (one reference is taken over), to the channel. publisher: conn_key of the one that
 * sent it, or PUBSUB_NOBODY. 0, or -1 when memory is out (frame is let go). By local half, or by name. */
#define PUBSUB_NOBODY UINT64_MAX
int pubsub_publish(struct worker *w, struct local *l, struct frame *frame, uint64_t publisher);
int pubsub_publish_name(struct worker *w, const char *name, size_t len, struct frame *frame,
                        uint64_t publisher);

const char *pubsub_name(const struct local *l, size_t *len);
uint64_t pubsub_channel_count(void); /* any thread */

/* struct worker_ops' posts and idle_ms. */
void pubsub_posts(struct worker *w, struct post *oldest);
int pubsub_idle_ms(const struct worker *w);

#endif
