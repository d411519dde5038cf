/* client*.c on workers without threads: a session in which each allocation fails once. The peer is
 * the other end of a socket pair. */
#include "engine.h"

#include "../client.h"
#include "../jwt.h"
#include "../user_limit.h"
#include "../worker_errand.h"

#define SECRET "0123456789abcdef0123456789abcdef"

static struct jwt_rules rules = {
    .keys = {{.secret = (const uint8_t *)SECRET, .secret_len = sizeof SECRET - 1}}, .key_count = 1};
static const struct channel_options everything = {
    .presence = true,
    .join_leave = true,
    .force_push_join_leave = true,
    .history_size = 5,
    .history_ttl_ms = 60000,
    .history_meta_ttl_ms = 60000,
    .force_recovery = true,
    .subscribe_for_client = true,
    .publish_for_client = true,
    .presence_for_client = true,
    .history_for_client = true,
};

static void begin(size_t reply_max, bool single)
{
    engine_open(&(struct engine_options){
        .workers = 2, .channel = everything, .bus = {.missed = client_missed}});
    engine.app.handlers[CONN_CLIENT] = client_handler;
    engine.app.heartbeat = client_fired;
    route_init(&(struct route_options){.client_path = "/c", .echo = true});
    user_limit_open(5);
    client_init(&(struct client_options){.connect_rules = &rules,
                                         .subscribe_rules = &rules,
                                         .channel_limit = 16,
                                         .channel_max_length = 255,
                                         .reply_max = reply_max,
                                         .history_max = 10,
                                         .recovery_max = 10,
                                         .limits = {.commands = 1000, .free = 16},
                                         .personal = "",
                                         .single_connection = single,
                                         .stale_ms = 10000,
                                         .version = "test"});
}

static void end(void)
{
    for (unsigned i = 0; i < 2; i++) worker_errands_abandon(engine.server.workers[i]);
    user_limit_close();
    engine_close();
}

static void turns(int fd, char *got, size_t cap, size_t *len)
{
    for (unsigned i = 0; i < 8; i++) {
        engine_turns(1);
        ssize_t n = recv(fd, got + *len, cap - 1 - *len, 0);
        if (n > 0) *len += (size_t)n;
    }
    got[*len] = 0;
    for (size_t i = 0; i < *len; i++) /* a frame's head may hold one */
        if (!got[i]) got[i] = ' ';
}

/* say sends a message, and takes in what comes. */
static void say(int fd, const char *text, char *got, size_t cap, size_t *len)
{
    static uint8_t frame[8192];
    size_t size = masked_frame(frame, WS_TEXT, true, text, strlen(text));
    (void)!send(fd, frame, size, MSG_NOSIGNAL); /* it may have been closed */
    turns(fd, got, cap, len);
}

static int hello(struct worker *w, char *got, size_t cap, size_t *len)
{
    const int fd = engine_connect(w);
    const char *head = UPGRADE("/c");
    (void)!send(fd, head, strlen(head), MSG_NOSIGNAL); /* what fails may be the accept */
    turns(fd, got, cap, len);
    return fd;
}

static void all_leave(void)
{
    for (unsigned i = 0; i < 50 && engine.server.connections; i++) engine_turns(1);
    assert_int_equal(engine.server.connections, 0);
}

/* ---- by a backend ---- */

struct asked { /* of each client of the user */
    const struct client_grant *grant;
    uint32_t code;
};

static void grant_one(struct conn *c, void *arg)
{
    struct asked *a = arg;
    a->code = client_grant(c, a->grant);
}

static void extend_one(struct conn *c, void *arg)
{
    bool *done = arg;
    *done = client_extend(c, 0, text_of("{\"b\":2}", 7));
}

static bool extend(struct worker *w)
{
    bool done = false;
    const struct user *u = users_find(w, "u", 1);
    if (u) users_each(w, u, extend_one, &done);
    return done;
}

/* grant subscribes the clients of user u; the last one's code. */
static uint32_t grant(struct worker *w, struct client_grant g)
{
    struct asked a = {.grant = &g};
    const struct user *u = users_find(w, "u", 1);
    g.override = (struct jwt_override){-1, -1, -1, -1, -1};
    if (u) users_each(w, u, grant_one, &a);
    return a.code;
}

/* backend subscribes the client to where something is missed, and extends it. What failed is not
 * told to the client as done. */
static void backend(struct worker *w, int fd, char *got, size_t cap, size_t *len)
{
    const struct client_grant g = {
        .channel = {"g", 1}, .info = {"{\"i\":1}", 7}, .data = {"{\"d\":1}", 7}, .recover = true};
    const uint32_t code = grant(w, g);
    turns(fd, got, cap, len);
    assert_true(code == 0 || code == 100);
    if (code) assert_null(strstr(got, "\"channel\":\"g\",\"subscribe\""));
    const bool extended = extend(w);
    turns(fd, got, cap, len);
    if (!extended) assert_null(strstr(got, "\"push\":{\"refresh\""));
}

/* session connects by a token, does one of everything, and leaves. Returns whether all of it was
 * answered well. */
static bool session(struct worker *w, const char *token)
{
    static const char *const lines[] = {
        "{\"connect\":{\"token\":\"%s\",\"subs\":{\"a\":{\"recover\":true},\"b\":{}}},\"id\":1}",
        "{\"subscribe\":{\"channel\":\"d\",\"recover\":true},\"id\":2}\n"
        "{\"publish\":{\"channel\":\"d\",\"data\":{\"n\":1}},\"id\":3}\n"
        "{\"publish\":{\"channel\":\"g\",\"data\":{\"g\":1}},\"id\":9}\n"
        "{\"presence\":{\"channel\":\"d\"},\"id\":4}\n{\"presence_stats\":{\"channel\":\"d\"},"
        "\"id\":5}\n"
        "{\"history\":{\"channel\":\"d\",\"limit\":5},\"id\":6}",
        "{\"refresh\":{\"token\":\"%s\"},\"id\":7}\n{\"unsubscribe\":{\"channel\":\"d\"},\"id\":8}",
    };
    static char text[4096], got[64 * 1024];
    size_t len = 0;
    const int fd = hello(w, got, sizeof got, &len);
    for (unsigned i = 0; i < sizeof lines / sizeof *lines; i++) {
        snprintf(text, sizeof text, lines[i], token);
        say(fd, text, got, sizeof got, &len);
    }
    backend(w, fd, got, sizeof got, &len);
    say(fd, "{\"presence\":{\"channel\":\"g\"},\"id\":10}", got, sizeof got, &len);
    close(fd);
    all_leave();
    static const char *const wanted[] = {
        "{\"id\":1,\"connect\"",
        "\"u\":{\"recoverable\"",
        "\"recovered\":true",
        "{\"id\":2,\"subscribe\"",
        "{\"id\":3,\"publish\":{}",
        "{\"id\":4,\"presence\":{\"presence\":{\"",
        "{\"num_clients\":1",
        "\"data\":{\"n\":1}",
        "{\"id\":7,\"refresh\":{}",
        "{\"id\":8,\"unsubscribe\":{}",
        "{\"push\":{\"channel\":\"g\",\"subscribe\":{\"recoverable\":true",
        "\"data\":{\"d\":1}",
        "{\"push\":{\"channel\":\"g\",\"pub\":{\"data\":{\"g\":1}",
        "{\"push\":{\"refresh\":{}}}",
        "\"conn_info\":{\"b\":2},\"chan_info\":{\"i\":1}"};
    for (unsigned i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (!strstr(got, wanted[i])) return false;
    return true;
}

/* fail_each: single_connection, or the limit of a user, which it takes the place of. */
static void fail_each(bool single)
{
    char token[512];
    static const char claims[] = "{\"sub\":\"u\",\"info\":{\"a\":1},\"channels\":[\"a\",\"c\"]}";
    assert_true(jwt_make(token, sizeof token, &rules.keys[0], claims, sizeof claims - 1) > 0);
    uint64_t k = 0, failed;
    do {
        begin(CLIENT_REPLY_MAX, single);
        struct worker *w = engine.server.workers[k % 2];
        mem_fail_at(++k);
        const bool good = session(w, token);
        mem_fail_at(0);
        failed = mem_pool_stats(engine.server.workers[0]->pool).failed +
                 mem_pool_stats(engine.server.workers[1]->pool).failed;
        if (!failed) assert_true(good);
        assert_true(session(w, token)); /* and the next one is served */
        end();
    } while (failed);
    assert_true(k > 30);
    print_message("%llu allocations\n", (unsigned long long)k - 1);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    fail_each(true);
    fail_each(false);
}

/* A queue so short that it is flushed between two commands of a message: what fails then ends the
 * client, and the commands behind it are not for one that is gone. */
static void test_out_of_memory_between_commands(void **state)
{
    (void)state;
    static const char *const last[] = {"{\"publish\":{\"channel\":\"d\",\"data\":1},\"id\":9}",
                                       "{\"subscribe\":{\"channel\":\"e\"},\"id\":9}"};
    static const char presences[] =
        "{\"presence\":{\"channel\":\"d\"},\"id\":2}\n{\"presence\":{\"channel\":\"d\"},\"id\":3}\n"
        "{\"presence\":{\"channel\":\"d\"},\"id\":4}\n{\"presence\":{\"channel\":\"d\"},\"id\":5}"
        "\n";
    char token[512], text[4096], got[64 * 1024];
    static const char claims[] = "{\"sub\":\"u\",\"channels\":[\"d\"]}";
    assert_true(jwt_make(token, sizeof token, &rules.keys[0], claims, sizeof claims - 1) > 0);
    for (unsigned way = 0; way < 2; way++) {
        for (uint64_t k = 1; k < 30; k++) {
            size_t len = 0;
            begin(CLIENT_REPLY_MAX, false);
            engine.conn.queue_max_bytes = 900;
            const int fd = hello(engine.server.workers[0], got, sizeof got, &len);
            snprintf(text, sizeof text, "{\"connect\":{\"token\":\"%s\"},\"id\":1}", token);
            say(fd, text, got, sizeof got, &len);
            assert_non_null(strstr(got, "{\"id\":1,\"connect\""));
            snprintf(text, sizeof text, "%s%s", presences, last[way]);
            mem_fail_at(k);
            say(fd, text, got, sizeof got, &len);
            mem_fail_at(0);
            close(fd);
            all_leave();
            engine_turns(5); /* who lingers reads the end */
            end();
        }
    }
}

/* A presence and a history as large as a reply may be, and one entry more. */
static void test_reply_max(void **state)
{
    (void)state;
    enum { MANY = 8 };
    static char got[256 * 1024];
    static const char ask[] = "{\"presence\":{\"channel\":\"d\"},\"id\":3}\n"
                              "{\"history\":{\"channel\":\"d\",\"limit\":9},\"id\":4}";
    int fds[MANY];
    size_t len, small = 0, large = 0;
    begin(700, true);
    struct client_options open = *client_options();
    open.anonymous = open.insecure = true;
    client_init(&open);
    for (unsigned i = 0; i < MANY; i++) { /* each makes both longer */
        len = 0;
        fds[i] = hello(engine.server.workers[i % 2], got, sizeof got, &len);
        say(fds[i], "{\"connect\":{},\"id\":1}\n{\"subscribe\":{\"channel\":\"d\"},\"id\":2}", got,
            sizeof got, &len);
        say(fds[i],
            "{\"publish\":{\"channel\":\"d\",\"data\":\"0123456789012345678901234567890123456"
            "7890123456789012345678901234567890\"},\"id\":5}",
            got, sizeof got, &len);
        len = 0;
        say(fds[i], ask, got, sizeof got, &len);
        const bool presence = strstr(got, "\"id\":3,\"presence\""),
                   history = strstr(got, "\"id\":4,\"history\"");
        assert_int_equal(presence, !strstr(got, "\"id\":3,\"error\":{\"code\":106"));
        assert_int_equal(history, !strstr(got, "\"id\":4,\"error\":{\"code\":106"));
        small += (size_t)presence + history;
        large += (size_t)!presence + !history;
    }
    assert_true(small >= 4 && large >= 2);
    assert_int_equal(engine_metric(METRIC_REPLY_TOO_LARGE), large);
    /* a recovery, too */
    const int fd = hello(engine.server.workers[0], got, sizeof got, &len);
    len = 0;
    say(fd,
        "{\"connect\":{},\"id\":1}\n{\"subscribe\":{\"channel\":\"d\",\"recover\":true},\"id\":2}",
        got, sizeof got, &len);
    assert_non_null(strstr(got, "\"was_recovering\":true"));
    assert_null(strstr(got, "\"recovered\""));
    close(fd);
    for (unsigned i = 0; i < MANY; i++) close(fds[i]);
    all_leave();
    end();
}

/* A grant of what is missed is bounded by what its pushes need, each with the channel's name. */
static void test_grant_max(void **state)
{
    (void)state;
    enum { NAME = 200, MANY = 4 };
    static char got[64 * 1024], text[4096], name[NAME + 1];
    char token[512];
    size_t len = 0;
    assert_true(jwt_make(token, sizeof token, &rules.keys[0], "{\"sub\":\"u\"}", 11) > 0);
    memset(name, 'n', NAME);
    for (unsigned published = 1; published <= MANY; published++) {
        const bool fits = published == 1;
        begin(3500, true);
        struct worker *w = engine.server.workers[0];
        const int fd = hello(w, got, sizeof got, &len);
        snprintf(text, sizeof text, "{\"connect\":{\"token\":\"%s\"},\"id\":1}", token);
        say(fd, text, got, sizeof got, &len);
        for (unsigned i = 0; i < published; i++) {
            snprintf(text, sizeof text,
                     "{\"publish\":{\"channel\":\"%s\",\"data\":{\"n\":1}},\"id\":2}", name);
            say(fd, text, got, sizeof got, &len);
        }
        len = 0;
        const struct client_grant g = {.channel = {name, NAME}, .recover = true};
        assert_int_equal(grant(w, g), 0);
        turns(fd, got, sizeof got, &len);
        assert_non_null(strstr(got, "\"subscribe\":{"));
        assert_int_equal(fits, strstr(got, "\"pub\":{\"data\":{\"n\":1}") != NULL);
        assert_int_equal(engine_metric(METRIC_REPLY_TOO_LARGE), !fits);
        assert_int_equal(engine.server.connections, 1);
        close(fd);
        all_leave();
        end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_out_of_memory_between_commands),
        cmocka_unit_test(test_reply_max),
        cmocka_unit_test(test_grant_max),
    };
    return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
