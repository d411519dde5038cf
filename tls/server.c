/* A server's certificates: loaded, tried, chosen by name, replaced while sessions go on. */
#include "tls.h"
#include "tls/internal.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include <mbedtls/platform.h>

/* ---- names ----------------------------------------------------------------------------------- */

/* choose is mbedTLS's callback for SNI. Nobody is refused for asking for another name: a client
 * compares for itself. */
static int choose(void *ctx, mbedtls_ssl_context *ssl, const unsigned char *name, size_t len)
{
    struct tls_settings *s = ctx;
    int best = 0;
    size_t at = 0;
    for (size_t i = 0; i < s->count && best < 2; i++) {
        int fit = tls_names_fit(&s->pairs[i].chain, (const char *)name, len);
        if (fit <= best) continue;
        best = fit;
        at = i;
    }
    if (at == 0) return 0; /* what is shown anyway */
    tls_now()->pair = &s->pairs[at];
    return mbedtls_ssl_set_hs_own_cert(ssl, &s->pairs[at].chain, &s->pairs[at].key);
}

/* ---- settings -------------------------------------------------------------------------------- */

static void free_settings(struct tls_settings *s)
{
    mbedtls_ssl_config_free(&s->conf);
    for (size_t i = 0; i < s->count; i++) {
        tls_tickets_unref(s->pairs[i].tickets);
        mbedtls_pk_free(&s->pairs[i].key);
        mbedtls_x509_crt_free(&s->pairs[i].chain);
    }
    mbedtls_free(s);
}

struct tls_settings *tls_server_hold(struct tls_server *s)
{
    pthread_mutex_lock(&s->lock);
    struct tls_settings *current = s->current;
    current->refs++;
    pthread_mutex_unlock(&s->lock);
    return current;
}

void tls_server_let_go(struct tls_server *s, struct tls_settings *settings)
{
    pthread_mutex_lock(&s->lock);
    const bool last = --settings->refs == 0;
    pthread_mutex_unlock(&s->lock);
    if (last) free_settings(settings);
}

static int set_up_settings(struct tls_settings *s)
{
    int ret = tls_set_up(&s->conf, MBEDTLS_SSL_IS_SERVER);
    if (ret == 0) ret = mbedtls_ssl_conf_own_cert(&s->conf, &s->pairs[0].chain, &s->pairs[0].key);
    mbedtls_ssl_conf_session_tickets_cb(&s->conf, tls_ticket_write, tls_ticket_parse, NULL);
    return ret;
}

static struct tls_settings *new_settings(size_t count)
{
    struct tls_settings *s = mbedtls_calloc(1, sizeof *s + count * sizeof s->pairs[0]);
    if (!s) return NULL;
    mbedtls_ssl_config_init(&s->conf);
    s->refs = 1;
    s->count = count;
    for (size_t i = 0; i < count; i++) {
        mbedtls_x509_crt_init(&s->pairs[i].chain);
        mbedtls_pk_init(&s->pairs[i].key);
    }
    return s;
}

/* ---- a handshake with oneself ---------------------------------------------------------------- */

/* One turn of one end: takes what the other sent, leaves what it answers in *to. */
struct parcel {
    uint8_t bytes[TLS_OUT_MAX];
    size_t len;
};

static enum io take_turn(struct tls *t, struct parcel *from, struct parcel *to)
{
    size_t used;
    enum io answer =
        tls_handshake(t, from->bytes, from->len, &used, to->bytes, sizeof to->bytes, &to->len);

    from->len -= used;
    memmove(from->bytes, from->bytes + used, from->len);
    return answer;
}

/* hear_tickets: what a server of 1.3 says last comes behind the client's end of the handshake. */
static void hear_tickets(struct tls *client, struct parcel *from, struct parcel *plain)
{
    uint8_t reply[TLS_REPLY_ROOM];
    size_t used, n, reply_len;
    (void)tls_open(client, from->bytes, from->len, &used, plain->bytes, sizeof plain->bytes, &n,
                   reply, sizeof reply, &reply_len);
}

bool tls_shake_hands(struct tls *client, struct tls *server)
{
    struct parcel *box = mbedtls_calloc(2, sizeof *box); /* to the server, to the client */
    enum io at_client = IO_WANT_READ, at_server = IO_WANT_READ;

    /* A certificate chain longer than out takes several turns. */
    for (int turn = 0; box && turn < 16; turn++) {
        at_client = take_turn(client, &box[1], &box[0]);
        if (at_client == IO_CLOSED) break;
        at_server = take_turn(server, &box[0], &box[1]);
        if (at_server == IO_CLOSED || (at_client == IO_DONE && at_server == IO_DONE)) break;
    }
    if (at_client == IO_DONE && at_server == IO_DONE) hear_tickets(client, &box[1], &box[0]);
    mbedtls_free(box);
    return at_client == IO_DONE && at_server == IO_DONE;
}

/* What a certificate and key are worth shows in a handshake: key usage, curve, signature. */
static int try_version(struct tls_server *s, size_t pair, int minor, const char *cert_file,
                       char *err, size_t err_len)
{
    int ret = -1;
    struct tls *at_server = NULL, *at_client = NULL;
    struct tls_client *c = tls_client_new(NULL, true, err, err_len);

    if (!c) return -1;
    tls_client_set_version(c, minor);
    at_server = tls_accept(s);
    at_client = tls_connect(c, "localhost");
    if (at_server && pair > 0) {
        const struct tls_pair *p = tls_attached(at_server)->pair = &s->current->pairs[pair];
        (void)mbedtls_ssl_set_hs_own_cert(&tls_attached(at_server)->ssl,
                                          (mbedtls_x509_crt *)&p->chain,
                                          (mbedtls_pk_context *)&p->key);
    }
    if (at_server && at_client && tls_shake_hands(at_client, at_server))
        ret = 0;
    else
        tls_say(err, err_len, "the certificate in %s does not work in a TLS 1.%d handshake: %s",
                cert_file, minor,
                !at_server || !at_client      ? "out of memory"
                : *tls_why(at_server) != '\0' ? tls_why(at_server)
                                              : tls_why(at_client));
    tls_free(at_client);
    tls_free(at_server);
    tls_client_delete(c);
    return ret;
}

/* load fills fresh settings from files and tries them, in a server of their own, before anybody is
 * served by them. old (may be NULL) gives its ticket keys. */
static struct tls_settings *load(const struct tls_files *files, size_t count,
                                 const struct tls_settings *old, char *err, size_t err_len)
{
    int ret = tls_start();
    struct tls_settings *s = ret == 0 ? new_settings(count) : NULL;
    char warning[512] = "";
    if (!s) {
        tls_say(err, err_len, "TLS can not start: %s", ret ? tls_text(ret) : "out of memory");
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        struct tls_pair *p = &s->pairs[i];
        if (tls_load_pair(&p->chain, &p->key, files[i].cert, files[i].key, err, err_len) == -1)
            goto fail;
        if (!tls_tickets_for(p, old)) {
            tls_say(err, err_len, "TLS can not start: out of memory");
            goto fail;
        }
        if (!*warning)
            tls_warn_pair(&p->chain, files[i].cert, files[i].key, warning, sizeof warning);
    }
    ret = set_up_settings(s);
    if (ret != 0) {
        tls_say(err, err_len, "TLS can not start: %s", tls_text(ret));
        goto fail;
    }
    struct tls_server trial = {.lock = PTHREAD_MUTEX_INITIALIZER, .current = s};
    for (size_t i = 0; i < count; i++)
        for (int minor = 3; minor >= 2; minor--)
            if (try_version(&trial, i, minor, files[i].cert, err, err_len) == -1) goto fail;
    if (count > 1)
        mbedtls_ssl_conf_sni(&s->conf, choose, s); /* not before: each was tried by itself */
    tls_say(err, err_len, "%s", warning);
    return s;
fail:
    free_settings(s);
    return NULL;
}

/* ---- server ---------------------------------------------------------------------------------- */

struct tls_server *tls_server_new(const struct tls_files *files, size_t count, char *err,
                                  size_t err_len)
{
    tls_say(err, err_len, "%s", "");
    struct tls_server *s = mbedtls_calloc(1, sizeof *s);
    if (!s) {
        tls_say(err, err_len, "TLS can not start: out of memory");
        return NULL;
    }
    pthread_mutex_init(&s->lock, NULL);
    s->current = load(files, count, NULL, err, err_len);
    if (s->current) return s;
    tls_server_delete(s);
    return NULL;
}

int tls_server_reload(struct tls_server *s, const struct tls_files *files, size_t count, char *err,
                      size_t err_len)
{
    tls_say(err, err_len, "%s", "");
    struct tls_settings *old = tls_server_hold(s), *fresh = load(files, count, old, err, err_len);
    if (fresh) {
        pthread_mutex_lock(&s->lock);
        s->current = fresh;
        pthread_mutex_unlock(&s->lock);
        tls_server_let_go(s, old); /* as the current one */
    }
    tls_server_let_go(s, old);
    return fresh ? 0 : -1;
}

static int64_t not_after(const mbedtls_x509_crt *c)
{
    const mbedtls_x509_time *t = &c->valid_to; /* UTC: RFC 5280 section 4.1.2.5 */
    struct tm tm = {.tm_year = t->year - 1900,
                    .tm_mon = t->mon - 1,
                    .tm_mday = t->day,
                    .tm_hour = t->hour,
                    .tm_min = t->min,
                    .tm_sec = t->sec};
    return (int64_t)timegm(&tm);
}

int64_t tls_server_not_after(struct tls_server *s)
{
    struct tls_settings *now = tls_server_hold(s);
    int64_t first = INT64_MAX;
    for (size_t i = 0; i < now->count; i++) {
        for (const mbedtls_x509_crt *c = &now->pairs[i].chain; c; c = c->next) {
            const int64_t end = not_after(c);
            if (end < first) first = end;
        }
    }
    tls_server_let_go(s, now);
    return first;
}

void tls_server_delete(struct tls_server *s)
{
    if (!s) return;
    if (s->current) tls_server_let_go(s, s->current);
    pthread_mutex_destroy(&s->lock);
    mbedtls_free(s);
}
