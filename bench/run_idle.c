/* idle: what a connection costs that does nothing: the server's memory before and with all of them,
 * and its CPU time while they are held. Pings are answered. */
#include "bench.h"

#include <stdio.h>

static void target(const struct bench *b, unsigned i, char *out, size_t cap)
{
    (void)i;
    snprintf(out, cap, "%s/raw/%s?pub=0", b->peer.url.path, b->o.channel);
}

static void run(struct bench *b)
{
    b->pss_before = target_pss_bytes(&b->target);
    if (!load_open(b)) return;
    load_measure(b, NULL);
    b->pss_after = target_pss_bytes(&b->target);
}

const struct bench_mode bench_idle = {.name = "idle",
                                      .what = "pings",
                                      .connections = 15000,
                                      .size = 64,
                                      .target = target,
                                      .run = run};
