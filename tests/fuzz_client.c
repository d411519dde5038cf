/* What an SDK client sends in one message: libFuzzer. The first byte says whether it has connected
 * before; then everything is allowed. Whatever comes in, what comes out is lines of JSON, and
 * nothing stays behind. */
#include "fuzz_server.h"
#include "guard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MESSAGE_MAX 60000
#define ANSWER_MAX (4u << 20)

/* check_lines: protocol.md 1.2: no empty line, none at the end. */
static void check_lines(const char *p, size_t len)
{
    const char *const last = p + len;
    for (;;) {
        const char *end = memchr(p, '\n', (size_t)(last - p));
        size_t n = (size_t)((end ? end : last) - p);
        if (!n || !json_check(p, n, JSON_LONE_SURROGATES, NULL, NULL)) abort();
        if (!end) return;
        p = end + 1;
    }
}

static void check_answers(const uint8_t *got, size_t len)
{
    static const char end_of_head[] = "\r\n\r\n";
    const uint8_t *at = memmem(got, len, end_of_head, 4), *const last = got + len;
    if (!at) return; /* was refused */
    for (at += 4; at < last;) {
        struct ws_head h;
        int n = ws_head_parse(&h, at, (size_t)(last - at));
        if (n <= 0 || h.payload_len > (uint64_t)(last - at - n)) return; /* more than was read */
        if (h.opcode == WS_TEXT) check_lines((const char *)at + n, (size_t)h.payload_len);
        at += (size_t)n + (size_t)h.payload_len;
    }
}

static void send_message(int fd, const uint8_t *text, size_t len)
{
    static uint8_t frame[MESSAGE_MAX + WS_HEAD_MAX];
    const struct ws_head h = {.opcode = WS_TEXT, .fin = true, .masked = true, .payload_len = len};
    size_t n = ws_head_write(frame, &h);
    memcpy(frame + n, text, len); /* the key is 0 */
    if (write(fd, frame, n + len) != (ssize_t)(n + len)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char hello[] = FUZZ_UPGRADE FUZZ_CONNECT;
    static uint8_t got[ANSWER_MAX];
    size_t len = 0;
    if (size < 1 || size > MESSAGE_MAX) return 0;
    static const struct jwt_rules rules = {
        .keys = {{.secret = (const uint8_t *)"secret", .secret_len = 6}}, .key_count = 1};
    if (!server.worker_count)
        set_up((struct client_options){.connect_rules = &rules,
                                       .subscribe_rules = &rules,
                                       .insecure = true,
                                       .personal = "",
                                       .limits = {.commands = 200, .free = 20}});
    const bool connected = data[0] & 1;
    struct worker *w = server.workers[data[0] >> 1 & 1];
    const int fd = join(w, hello, connected ? sizeof hello - 1 : sizeof FUZZ_UPGRADE - 1);
    turns(2);
    send_message(fd, data + 1, size - 1);
    for (unsigned i = 0; i < 20; i++) {
        turns(1);
        ssize_t n = read(fd, got + len, sizeof got - len);
        if (n > 0) len += (size_t)n;
    }
    check_answers(got, len);
    close(fd);
    for (unsigned i = 0; i < 100 && w->conns.count; i++) turns(1);
    if (w->conns.count) abort();
    return 0;
}
