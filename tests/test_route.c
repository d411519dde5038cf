/* route.c where the clock matters: the rate of opening handshakes, by a clock of the test's own. */
#include "engine.h"

/* knock makes one opening handshake at now_ms; is it let in? */
static bool knock(struct worker *w, int64_t now_ms)
{
    char head[] = UPGRADE("/echo");
    int fd = engine_connect(w);
    struct conn *c = w->conns.items[w->conns.count - 1];
    w->now_ms = now_ms;
    conn_input(c, (uint8_t *)head, sizeof head - 1);
    bool in = c->state == CONN_OPEN;
    assert_true(in || c->state == CONN_HTTP); /* it may ask again */
    conn_drop(c, WS_CLOSE_ABNORMAL);
    w->dirty.count = 0;
    engine.ops.end(w);
    close(fd);
    return in;
}

/* let_in counts those that one worker lets in of one each step_ms in ms. */
static unsigned let_in(int64_t rate, unsigned workers, int64_t ms, int64_t step_ms)
{
    unsigned n = 0;
    engine_open(&(struct engine_options){.workers = workers});
    route_init(&(struct route_options){
        .auth = {.anonymous = true, .insecure = true}, .echo = true, .rate_limit = rate});
    struct worker *w = engine.server.workers[0];
    int64_t began = w->now_ms;
    for (int64_t at = 0; at < ms; at += step_ms) n += knock(w, began + at);
    assert_int_equal(engine_metric(METRIC_REFUSED_RATE) + n, (ms + step_ms - 1) / step_ms);
    engine_close();
    return n;
}

static void test_rate(void **state)
{
    (void)state;
    static const struct {
        int64_t rate, ms, step_ms;
        unsigned workers, least, most;
    } cases[] = {
        {0, 1000, 1, 1, 1000, 1000}, /* no limit */
        {100, 1000, 1, 1, 198, 200}, /* a second's worth at once, then one each 10 ms */
        {100, 1000, 1, 2, 98, 100},  /* its share */
        {100, 1000, 20, 1, 50, 50},  /* below the rate: all */
        {1, 10000, 1, 1, 10, 11},    /* single ones, under a flood: */
        {1, 10000, 1, 2, 5, 6},      /* a share of less than one a second is not rounded away */
        {3, 10000, 1, 2, 15, 17},
        {1, 40000, 7, 4, 10, 11},
        {1, 3200000, 1000, 64, 50, 51}, /* nothing is lost by rounding */
        {INT32_MAX, 1000, 1, 1, 1000, 1000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_in_range(let_in(cases[i].rate, cases[i].workers, cases[i].ms, cases[i].step_ms),
                        cases[i].least, cases[i].most);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
