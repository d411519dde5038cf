/* console.c where the clock matters, and each way of getting in that is none. */
#include "engine.h"

#include "../console.h"
#include "../jwt.h"
#include "../log.h"

#define PASSWORD "a password of some length"
#define POST(path, headers) "POST " path " HTTP/1.1\r\nHost: localhost\r\n" headers
#define LOGIN "/admin/login"
#define HEADER "X-Roost-Console: 1\r\n"

static struct jwt_rules rules;

static void open_console(enum console_access access)
{
    engine_open(&(struct engine_options){.workers = 1});
    route_init(&(struct route_options){.dev = access == CONSOLE_LOOPBACK});
    rules = (struct jwt_rules){
        .keys = {{.secret = (const uint8_t *)"0123456789abcdef0123456789abcdef", .secret_len = 32}},
        .key_count = 1};
    console_init(&(struct console_options){.access = access,
                                           .client_path = "/connection/websocket",
                                           .tokens = access == CONSOLE_LOOPBACK ? &rules : NULL});
    if (access == CONSOLE_PASSWORD) console_set_password(PASSWORD, sizeof PASSWORD - 1);
}

static void close_console(void)
{
    console_close();
    engine_close();
}

/* say sends bytes to c at now_ms; the status of what has been answered by then, its text in *text;
 * 0: nothing yet. */
static int say(struct conn *c, int fd, char *bytes, int64_t now_ms, char text[static 16384])
{
    struct worker *w = engine.server.workers[0];
    w->now_ms = now_ms;
    conn_input(c, (uint8_t *)bytes, strlen(bytes));
    engine.ops.flush(w);
    engine.ops.end(w);
    const ssize_t got = read(fd, text, 16383);
    text[got > 0 ? got : 0] = 0;
    return got > 0 ? atoi(text + sizeof "HTTP/1.1 " - 1) : 0;
}

struct asked { /* a connection of a test */
    int fd;
    struct conn *conn;
};

static struct asked dial(void)
{
    struct worker *w = engine.server.workers[0];
    const int fd = engine_connect(w);
    return (struct asked){fd, w->conns.items[w->conns.count - 1]};
}

static void hang_up(struct asked a)
{
    close(a.fd);
    engine_turns(2);
}

/* ask sends one request at now_ms and gives the answer's status; its text is in *text. */
static int ask(const char *head, const char *body, int64_t now_ms, char text[static 16384])
{
    char request[16384];
    const struct asked a = dial();
    snprintf(request, sizeof request, "%sContent-Length: %zu\r\n\r\n%s", head, strlen(body), body);
    const int status = say(a.conn, a.fd, request, now_ms, text);
    assert_int_not_equal(status, 0);
    hang_up(a);
    return status;
}

static int try_login(const char *password, int64_t now_ms, char text[static 16384])
{
    char body[1024];
    snprintf(body, sizeof body, "{\"password\":\"%s\"}", password);
    return ask(POST(LOGIN, HEADER), body, now_ms, text);
}

/* token_of finds the token in an answer and ends it there. */
static const char *token_of(char *text)
{
    char *token = strstr(text, "{\"token\":\"");
    assert_non_null(token);
    token += sizeof "{\"token\":\"" - 1;
    *strchrnul(token, '"') = 0;
    return token;
}

static int call(const char *scheme, const char *token, char text[static 16384])
{
    char head[2048];
    snprintf(head, sizeof head, "%sAuthorization: %s %.1500s\r\n",
             POST("/admin/api/channels", HEADER), scheme, token);
    return ask(head, "{}", 1000, text);
}

static void test_wrong_passwords_are_limited(void **state)
{
    (void)state;
    char text[16384];
    open_console(CONSOLE_PASSWORD);
    for (int i = 0; i < 20; i++) /* right ones are not counted */
        assert_int_equal(try_login(PASSWORD, 1000, text), 200);
    for (int i = 0; i < 10; i++) assert_int_equal(try_login("wrong", 1000, text), 401);
    assert_int_equal(try_login("wrong", 1000, text), 429);
    assert_non_null(strstr(text, "Retry-After: "));
    assert_int_equal(try_login(PASSWORD, 1000, text), 429); /* or guessing would go on */
    assert_int_equal(try_login(PASSWORD, 6999, text), 429);
    assert_int_equal(try_login(PASSWORD, 7000, text), 200);
    assert_int_equal(try_login("wrong", 7000, text), 401); /* one each six seconds */
    assert_int_equal(try_login("wrong", 7000, text), 429);
    for (int i = 0; i < 10; i++) /* a long silence gives no more than ten */
        assert_int_equal(try_login("wrong", 100000000, text), 401);
    assert_int_equal(try_login("wrong", 100000000, text), 429);
    assert_int_equal(try_login("wrong", 99999990, text), 429); /* a clock a turn behind */
    assert_int_equal(engine_metric(METRIC_REFUSED_CONSOLE), 10 + 3 + 2 + 10 + 2);
    close_console();
}

static void test_passwords(void **state)
{
    (void)state;
    char text[16384], longest[CONSOLE_PASSWORD_MAX + 2];
    static const char *const wrong[] = {"", "a password of some lengt",
                                        "a password of some length ", "A password of some length"};
    open_console(CONSOLE_PASSWORD);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(try_login(wrong[i], 1000, text), 401);
    assert_int_equal(try_login("a\\u0020password of some length", 1000, text), 200);
    memset(longest, 'x', sizeof longest);
    longest[CONSOLE_PASSWORD_MAX] = 0;
    console_set_password(longest, CONSOLE_PASSWORD_MAX);
    assert_int_equal(try_login(longest, 1000, text), 200);
    assert_int_equal(try_login(PASSWORD, 1000, text), 401);
    console_set_password(NULL, 0); /* none: nobody gets in */
    assert_int_equal(try_login("", 1000, text), 401);
    assert_int_equal(try_login(longest, 1000, text), 401);
    longest[CONSOLE_PASSWORD_MAX] = 'x';
    longest[CONSOLE_PASSWORD_MAX + 1] = 0;
    assert_int_equal(try_login(longest, 1000, text), 400); /* no room for it */
    close_console();
}

static void test_bodies_of_login(void **state)
{
    (void)state;
    char text[16384], much[4096];
    static const char *const bad[] = {"",
                                      "x",
                                      "[]",
                                      "{}",
                                      "{\"password\":1}",
                                      "{\"password\":\"\\ud800\"}",
                                      "{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5}",
                                      "password=a password of some length"};
    open_console(CONSOLE_PASSWORD);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ask(POST(LOGIN, HEADER), bad[i], 1000, text), 400);
    memset(much, ' ', sizeof much);
    much[sizeof much - 1] = 0;
    assert_int_equal(ask(POST(LOGIN, HEADER), much, 1000, text), 413);
    assert_int_equal(try_login(PASSWORD, 1000, text), 200); /* none of these was a wrong password */
    close_console();
}

static void test_sessions(void **state)
{
    (void)state;
    char text[16384], session[1024];
    open_console(CONSOLE_PASSWORD);
    assert_int_equal(try_login(PASSWORD, 1000, text), 200);
    snprintf(session, sizeof session, "%s", token_of(text));
    assert_int_equal(call("Bearer", session, text), 200);
    assert_non_null(strstr(text, "{\"result\":{\"channels\":{}}}"));

    /* it ends after eight hours */
    uint8_t claims[256];
    const char *dot = strchr(session, '.') + 1;
    const int64_t n = jwt_base64url_decode(claims, dot, (size_t)(strchr(dot, '.') - dot));
    assert_in_range(n, 8, 200);
    claims[n] = 0;
    const long long left = atoll((char *)claims + sizeof "{\"exp\":" - 1) - (long long)time(NULL);
    assert_in_range(left, 8 * 3600 - 5, 8 * 3600);

    session[strlen(session) - 2] ^= 1;
    assert_int_equal(call("Bearer", session, text), 401);
    assert_int_equal(call("Bearer", "x", text), 401);
    assert_int_equal(call("Bearer", "", text), 401);
    assert_int_equal(call("Basic", PASSWORD, text), 401);
    assert_int_equal(ask(POST("/admin/api/channels", HEADER), "{}", 1000, text), 401);
    session[strlen(session) - 2] ^= 1;
    assert_int_equal(call("Bearer", session, text), 200);

    console_set_password(PASSWORD, sizeof PASSWORD - 1); /* read again, and the same */
    assert_int_equal(call("Bearer", session, text), 200);
    console_set_password("another one", 11);
    assert_int_equal(call("Bearer", session, text), 401);
    close_console();
}

/* Who has no session is refused before the body has come, and who had one when the head came may
 * have none when the body does. */
static void test_head_and_body(void **state)
{
    (void)state;
    char text[16384], session[1024], head[2048], body[] = "{}";
    static const char *const paths[] = {"/admin/api/channels", "/admin/api/batch"};
    open_console(CONSOLE_PASSWORD);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct asked a = dial();
        snprintf(head, sizeof head,
                 "POST %s HTTP/1.1\r\nHost: x\r\n" HEADER "Content-Length: 2\r\n\r\n", paths[i]);
        assert_int_equal(say(a.conn, a.fd, head, 1000, text), 401);
        hang_up(a);

        console_set_password(PASSWORD, sizeof PASSWORD - 1);
        assert_int_equal(try_login(PASSWORD, 1000, text), 200);
        snprintf(session, sizeof session, "%s", token_of(text));
        a = dial();
        snprintf(head, sizeof head,
                 "POST %s HTTP/1.1\r\nHost: x\r\n" HEADER
                 "Authorization: Bearer %s\r\nContent-Length: 2\r\n\r\n",
                 paths[i], session);
        assert_int_equal(say(a.conn, a.fd, head, 1000, text), 0);
        console_set_password("another one", 11);
        assert_int_equal(say(a.conn, a.fd, body, 1000, text), 401);
        hang_up(a);
    }
    close_console();
}

/* A token made with the clients' secret is no session. */
static void test_foreign_tokens(void **state)
{
    (void)state;
    char text[16384], token[1024];
    static const struct jwt_key client = {
        .secret = (const uint8_t *)"0123456789abcdef0123456789abcdef", .secret_len = 32};
    open_console(CONSOLE_PASSWORD);
    assert_true(jwt_make(token, sizeof token, &client, "{\"exp\":9999999999}", 18) > 0);
    assert_int_equal(call("Bearer", token, text), 401);
    assert_int_equal(ask(POST("/admin/token", HEADER), "{}", 1000, text), 404);
    close_console();
}

static void test_page_alone(void **state)
{
    (void)state;
    static const struct {
        const char *head, *body;
        int status;
    } cases[] = {
        {POST("/admin/api/channels", HEADER), "{}", 200},
        {POST("/admin/api/channels", ""), "{}", 403}, /* what another origin can send unasked */
        {"POST /admin/api/channels HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n" HEADER, "{}", 200},
        {"POST /admin/api/channels HTTP/1.1\r\nHost: [::1]\r\n" HEADER, "{}", 200},
        {"POST /admin/api/channels HTTP/1.1\r\nHost: evil.example\r\n" HEADER, "{}", 403},
        {"POST /admin/api/channels HTTP/1.1\r\nHost: localhost.evil\r\n" HEADER, "{}", 403},
        {"POST /admin/api/channels HTTP/1.1\r\nHost: 127.0.0.10\r\n" HEADER, "{}", 403},
        {"OPTIONS /admin/api/channels HTTP/1.1\r\nHost: localhost\r\n", "", 405},
        {"GET /admin/api/channels HTTP/1.1\r\nHost: localhost\r\n" HEADER, "", 405},
        {POST("/admin/api/nothing", HEADER), "{}", 404},
        {POST("/admin/api/", HEADER), "{}", 404},
        {POST("/admin/nothing", HEADER), "{}", 404},
        {POST("/admin/login", HEADER), "{\"password\":\"\"}", 404}, /* nobody signs in */
        {POST("/admin/token", HEADER), "{\"sub\":\"alice\"}", 200},
        {POST("/admin/token", ""), "{\"sub\":\"alice\"}", 403},
        {"POST /admin/token HTTP/1.1\r\nHost: evil.example\r\n" HEADER, "{}", 403},
        {"GET /admin/token HTTP/1.1\r\nHost: localhost\r\n" HEADER, "", 405},
        {POST("/admin/token", HEADER), "", 400},
        {POST("/admin/token", HEADER), "[]", 400},
        {POST("/admin/token", HEADER), "{\"sub\":1}", 400},
        {POST("/admin/token", HEADER), "{\"sub\":\"a\",\"exp\":1}", 200}, /* to see it refused */
        {POST("/admin/settings", HEADER), "", 405},
        {"GET /admin/settings HTTP/1.1\r\nHost: localhost\r\n", "", 200},
        {"GET / HTTP/1.1\r\nHost: evil.example\r\n", "", 200}, /* tells nothing of the server */
        {POST("/", HEADER), "", 405},
    };
    char text[16384];
    open_console(CONSOLE_LOOPBACK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (ask(cases[i].head, cases[i].body, 1000, text) != cases[i].status)
            fail_msg("case %zu: %.40s", i, text);
    close_console();
}

static void test_off(void **state)
{
    (void)state;
    char text[16384];
    open_console(CONSOLE_OFF);
    assert_int_equal(ask("GET / HTTP/1.1\r\nHost: x\r\n", "", 1000, text), 404);
    assert_non_null(strstr(text, "admin.password_file"));
    assert_int_equal(ask("GET /app.js HTTP/1.1\r\nHost: x\r\n", "", 1000, text), 404);
    assert_int_equal(ask("GET /admin/settings HTTP/1.1\r\nHost: x\r\n", "", 1000, text), 404);
    assert_int_equal(ask(POST("/admin/api/channels", HEADER), "{}", 1000, text), 404);
    assert_int_equal(try_login("", 1000, text), 404);
    close_console();
}

/* A password that goes with SIGHUP opens nothing. */
static void test_password_goes(void **state)
{
    (void)state;
    char text[16384];
    open_console(CONSOLE_PASSWORD);
    console_set_password("", 0);
    assert_int_equal(ask(POST("/admin/api/channels", HEADER), "{}", 1000, text), 401);
    assert_int_equal(try_login("", 1000, text), 401);
    assert_int_equal(try_login(PASSWORD, 1000, text), 401);
    close_console();
}

static void test_longest_claims(void **state)
{
    (void)state;
    char text[16384], body[4200];
    open_console(CONSOLE_LOOPBACK);
    static const char begin[] = "{\"info\":\"", end[] = "\"}";
    memset(body, 'x', sizeof body);
    memcpy(body, begin, sizeof begin - 1);
    memcpy(body + 4096 - 2, end, sizeof end);
    assert_int_equal(ask(POST("/admin/token", HEADER), body, 1000, text), 200);
    assert_in_range(strlen(token_of(text)), 4096 * 4 / 3, 7 * 1024);
    memset(body + 4096 - 2, 'x', 2);
    memcpy(body + 4096 - 1, end, sizeof end);
    assert_int_equal(ask(POST("/admin/token", HEADER), body, 1000, text), 413);
    close_console();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_passwords_are_limited),
        cmocka_unit_test(test_passwords),
        cmocka_unit_test(test_bodies_of_login),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_head_and_body),
        cmocka_unit_test(test_foreign_tokens),
        cmocka_unit_test(test_page_alone),
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_password_goes),
        cmocka_unit_test(test_longest_claims),
    };
    log_open(&(struct log_options){.level = LOG_ERROR});
    return cmocka_run_group_tests(tests, NULL, NULL);
}
