/* The body of an API call, for every method, on two workers with clients: libFuzzer. The first byte
 * says which method. Whatever comes in, the reply is JSON or an error, and nothing stays behind. */
#include "../api/methods.h"
#include "../worker_errand.h"
#include "fuzz_server.h"
#include "guard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned finished_calls;

static void finished(struct api_call *call, unsigned code)
{
    if (code == API_ABANDONED) abort();
    if (!code && !call->o.full &&
        !json_check(call->o.p, call->o.len, JSON_LONE_SURROGATES, NULL, NULL))
        abort();
    mem_free(call->w->pool, call->o.p, call->o.cap);
    finished_calls++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {
        "publish",     "broadcast", "subscribe",      "unsubscribe", "disconnect",
        "refresh",     "presence",  "presence_stats", "history",     "channels",
        "connections", "info",      "history_remove", "rpc",         "batch"};
    static jsmntok_t own[API_TOKENS], tokens[API_ELEMENT_TOKENS];
    static const char hello[] = FUZZ_UPGRADE FUZZ_CONNECT;
    static int fds[2] = {-1, -1};
    struct json doc;
    if (size < 1 || size > 65536) return 0;
    if (!server.worker_count) set_up((struct client_options){.anonymous = true});
    const char *name = names[data[0] % (sizeof names / sizeof *names)];
    char *text = guard_copy(data + 1, size - 1);
    for (unsigned i = 0; i < 2; i++) { /* a client on each worker, unless the last call left one */
        if (server.workers[i]->conns.count) continue;
        if (fds[i] != -1) close(fds[i]);
        fds[i] = join(server.workers[i], hello, sizeof hello - 1);
    }
    turns(2);
    struct api_call call = {.w = server.workers[0],
                            .doc = &doc,
                            .tokens = tokens,
                            .token_count = API_ELEMENT_TOKENS,
                            .channel_max_length = 255,
                            .scope = API_ALL,
                            .finished = finished};
    finished_calls = 0;
    if (json_parse(&doc, text, size - 1, own, API_TOKENS, 1, JSON_LONE_SURROGATES) == 0 &&
        json_type(&doc, 0) == JSON_OBJECT && json_unique(&doc, 0)) {
        api_begin(&call, 256);
        unsigned code = api_method_find(name, strlen(name))->run(&call);
        guard_free(text, size - 1); /* whoever waits must have copied what it needs */
        text = NULL;
        if (code != API_LATER) finished(&call, code ? 107 : 0);
        for (unsigned i = 0; i < 10000 && !finished_calls; i++) turns(1);
        if (!finished_calls) abort();
    }
    if (text) guard_free(text, size - 1);
    char sink[65536];
    for (unsigned i = 0; i < 2; i++) /* so that queues stay short */
        while (read(fds[i], sink, sizeof sink) > 0) {
        }
    turns(2);
    return 0;
}
