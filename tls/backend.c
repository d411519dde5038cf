/* Which backend a session gets, and the test at the start that decides for each suite. */
#include "tls.h"
#include "tls/internal.h"

#include <stdlib.h>
#include <string.h>

#include <mbedtls/platform.h>

/* Written by the main thread before any worker runs, read by all. */
static enum tls_backend chosen;
static bool refused[2][AEADS]; /* 1.2, 1.3: have not stood the test */

void tls_backend_set(enum tls_backend b)
{
    chosen = b;
}

bool tls_backend_may(enum record_version version, enum aead suite)
{
    return chosen != TLS_BACKEND_MBEDTLS && !refused[version - RECORD_TLS12][suite];
}

const char *tls_backend_in_use(void)
{
    static char text[160];
    if (chosen == TLS_BACKEND_MBEDTLS) return "attached (mbedTLS)";
    int n = snprintf(text, sizeof text, "detached (%s)", aead_kernel());
    for (int v = 0; v < 2; v++)
        for (int s = 0; s < AEADS; s++)
            if (refused[v][s] && n < (int)sizeof text)
                n += snprintf(text + n, sizeof text - (size_t)n, ", attached: TLS 1.%d %s", v + 2,
                              aead_text((enum aead)s));
    return text;
}

/* ---- the test ---- */

struct talk { /* a detached server's session and an attached client's */
    struct tls *server, *client;
    uint8_t plain[RECORD_PLAIN_MAX], sealed[RECORD_PLAIN_MAX + TLS_OVERHEAD];
    uint8_t opened[TLS_OPEN_ROOM + RECORD_PLAIN_MAX];
};

/* say sends len bytes and looks at what arrives. */
static bool say(struct talk *k, struct tls *from, struct tls *to, size_t len)
{
    struct iovec pieces[2] = {{k->plain, len / 3}, {k->plain + len / 3, len - len / 3}};
    uint8_t reply[TLS_REPLY_ROOM];
    size_t used, sealed, opened, reply_len;
    random_bytes(k->plain, len);
    if (tls_seal(from, pieces, 2, &used, k->sealed, sizeof k->sealed, &sealed) != IO_DONE ||
        used != len)
        return false;
    return tls_open(to, k->sealed, sealed, &used, k->opened, sizeof k->opened, &opened, reply,
                    sizeof reply, &reply_len) == IO_WANT_READ &&
           used == sealed && opened == len && memcmp(k->opened, k->plain, len) == 0;
}

static bool talk(struct talk *k)
{
    static const size_t sizes[] = {1, 15, 16, 300, 4096, 16000}; /* mbedTLS pads in 1.3 */
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (!say(k, k->client, k->server, sizes[i]) || !say(k, k->server, k->client, sizes[i]))
            return false;
    return say(k, k->server, k->client, RECORD_PLAIN_MAX);
}

enum verdict { STANDS, FAILS, NOT_OFFERED };

/* judge: a session of one suite (mbedTLS's number). That a handshake fails is not the records'
 * fault: it is for another kind of certificate, or memory is out. */
static enum verdict judge(struct tls_server *s, struct tls_client *c, int id, struct talk *k,
                          struct mem_pool *pool)
{
    int only[] = {id, 0};
    enum verdict v = NOT_OFFERED;
    mbedtls_ssl_conf_ciphersuites(&c->conf, only);
    k->server = tls_accept(s);
    k->client = tls_connect(c, "localhost");
    if (k->server && k->client && tls_shake_hands(k->client, k->server)) {
        k->server = tls_detach(k->server, pool);
        v = k->server->detached && talk(k) ? STANDS : FAILS;
    }
    tls_free(k->server);
    tls_free(k->client);
    return v;
}

static void say_which(char *err, size_t err_len, int id)
{
    tls_say(err, err_len,
            "the detached records of %s fail their test: sessions of it stay with mbedTLS, at "
            "about 40 KiB each; please report this",
            mbedtls_ssl_get_ciphersuite_name(id));
}

/* try_suites returns how many of the suites that s offers fail. */
static unsigned try_suites(struct tls_server *s, struct tls_client *c, struct talk *k,
                           struct mem_pool *pool, char *err, size_t err_len)
{
    unsigned fail = 0;
    for (const int *id = s->current->conf.ciphersuite_list; *id; id++) {
        const int minor = *id >> 8 == 0x13 ? 3 : 2; /* RFC 8446 appendix B.4 */
        enum aead suite;
        if (!tls_suite_of(*id, &suite)) continue;
        tls_client_set_version(c, minor);
        tls_client_keep_sessions(c, false);
        if (aead_self_test(suite) && judge(s, c, *id, k, pool) != FAILS) continue;
        refused[minor - 2][suite] = true;
        say_which(err, err_len, *id);
        fail++;
    }
    return fail;
}

unsigned tls_backend_try(struct tls_server *s, char *err, size_t err_len)
{
    unsigned fail = 0;
    tls_say(err, err_len, "%s", "");
    memset(refused, 0, sizeof refused);
    if (chosen == TLS_BACKEND_MBEDTLS) return 0;
    struct mem_pool *pool = mem_pool_new();
    struct talk *k = mbedtls_calloc(1, sizeof *k);
    struct tls_client *c = tls_client_new(NULL, true, err, err_len);
    if (pool && k && c) fail = try_suites(s, c, k, pool, err, err_len);
    tls_client_delete(c);
    mbedtls_free(k);
    mem_pool_delete(pool);
    return fail;
}
