/* Session tickets: which keys seal and open them. Random ones, of this process; or from files, so
 * that a ticket opens after a restart and on other hosts as well. */
#include "tls.h"
#include "tls/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mbedtls/md.h>
#include <mbedtls/platform.h>
#include <mbedtls/platform_util.h>

/* ---- keys from files ---- */

enum { SHORT = 48, LONG = 80 }; /* bytes of a file, as nginx takes them */

/* Main thread; read when settings are made. */
static struct file_key {
    uint8_t bytes[LONG];
    size_t len;
} file_keys[TLS_TICKET_KEYS_MAX];
static size_t file_key_count;

static int read_key(struct file_key *k, const char *file, char *err, size_t err_len)
{
    uint8_t more;
    const int fd = open(file, O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd == -1 ? -1 : read(fd, k->bytes, sizeof k->bytes);
    const bool longer = n == LONG && read(fd, &more, 1) == 1;
    if (fd == -1 || n == -1)
        tls_say(err, err_len, "can not read the ticket key %s: %s", file, strerror(errno));
    if (fd != -1) close(fd);
    if (n == -1) return -1;
    k->len = (size_t)n;
    if ((n == SHORT || n == LONG) && !longer) return 0;
    tls_say(err, err_len,
            "the ticket key %s has not 48 or 80 bytes: openssl rand 80 > %s makes one", file, file);
    return -1;
}

static void warn_key(const char *file, char *err, size_t err_len)
{
    struct stat st;
    if (stat(file, &st) == 0 && st.st_mode & S_IROTH)
        tls_say(err, err_len,
                "the ticket key %s can be read by everybody, and so can be what its tickets open: "
                "chmod o-r %s",
                file, file);
}

int tls_ticket_keys(const char *const *files, size_t count, char *err, size_t err_len)
{
    struct file_key fresh[TLS_TICKET_KEYS_MAX] = {0};
    int rc = 0;
    tls_say(err, err_len, "%s", "");
    for (size_t i = 0; i < count && rc == 0; i++) rc = read_key(&fresh[i], files[i], err, err_len);
    for (size_t i = 0; i < count && rc == 0; i++) warn_key(files[i], err, err_len);
    if (rc == 0) {
        memcpy(file_keys, fresh, sizeof file_keys);
        file_key_count = count;
    }
    mbedtls_platform_zeroize(fresh, sizeof fresh);
    return rc;
}

/* take_file_key makes a context seal with a key of its own that follows from the file's, and that
 * no other version and no other names have. */
static int take_file_key(mbedtls_ssl_ticket_context *ctx, const struct file_key *k,
                         const char *version, const uint8_t names[static 32])
{
    uint8_t label[8 + 32], key[32], name[32];
    const mbedtls_md_info_t *md = mbedtls_md_info_from_type(MBEDTLS_MD_SHA256);
    memset(label, 0, sizeof label);
    memcpy(label, version, strlen(version));
    memcpy(label + 8, names, 32);
    int ret = mbedtls_md_hmac(md, k->bytes, k->len, label, sizeof label, key);
    label[7] = 'n';
    if (ret == 0) ret = mbedtls_md_hmac(md, k->bytes, k->len, label, sizeof label, name);
    if (ret == 0)
        ret = mbedtls_ssl_ticket_rotate(ctx, name, MBEDTLS_SSL_TICKET_KEY_NAME_BYTES, key,
                                        sizeof key, TLS_TICKET_LIFETIME_S);
    mbedtls_platform_zeroize(key, sizeof key);
    return ret;
}

/* take_file_keys: the first last, since the newest seals. */
static bool take_file_keys(struct tls_tickets *t, const uint8_t names[static 32])
{
    for (size_t i = file_key_count; i-- > 0;)
        if (take_file_key(&t->v12, &file_keys[i], "1.2", names) != 0 ||
            take_file_key(&t->v13, &file_keys[i], "1.3", names) != 0)
            return false;
    t->from_files = file_key_count > 0;
    return true;
}

/* hold_on keeps mbedTLS from replacing a file's key by a random one when it is 12 hours old: when
 * to do that is its owner's decision. */
static void hold_on(mbedtls_ssl_ticket_context *ctx)
{
    if (mbedtls_mutex_lock(&ctx->mutex) != 0) return;
    for (size_t i = 0; i < sizeof ctx->keys / sizeof ctx->keys[0]; i++)
        ctx->keys[i].generation_time = mbedtls_time(NULL);
    (void)mbedtls_mutex_unlock(&ctx->mutex);
}

/* ---- the callbacks ---- */

/* CVE-2026-93831: mbedTLS up to 3.6.7 takes a ticket of 1.3 in a 1.2 handshake, where the secret in
 * it means something else. So each version has keys of its own: a ticket of the other one is as
 * foreign as a forged one. They are of one set of names as well: a ticket for one of our names
 * opens no other. */
static mbedtls_ssl_ticket_context *ticket_keys(mbedtls_ssl_protocol_version version)
{
    struct tls_tickets *keys = tls_now()->pair->tickets;
    return version == MBEDTLS_SSL_VERSION_TLS1_3 ? &keys->v13 : &keys->v12;
}

int tls_ticket_write(void *ctx, const mbedtls_ssl_session *session, unsigned char *start,
                     const unsigned char *end, size_t *len, uint32_t *lifetime_s)
{
    (void)ctx;
    *lifetime_s = 0; /* mbedTLS sends it even if the rest fails */
    if (tls_now()->pair->tickets->from_files) hold_on(ticket_keys(session->tls_version));
    return mbedtls_ssl_ticket_write(ticket_keys(session->tls_version), session, start, end, len,
                                    lifetime_s);
}

int tls_ticket_parse(void *ctx, mbedtls_ssl_session *session, unsigned char *buf, size_t len)
{
    (void)ctx;
    mbedtls_ssl_protocol_version now = tls_now_version();
    if (tls_now()->pair->tickets->from_files) hold_on(ticket_keys(now));
    int ret = mbedtls_ssl_ticket_parse(ticket_keys(now), session, buf, len);

    if (ret == 0 && session->tls_version != now) ret = MBEDTLS_ERR_SSL_INVALID_MAC;
    /* CVE-2026-115491: what a refused ticket has loaded is ours to free. */
    if (ret != 0) mbedtls_ssl_session_free(session);
    return ret;
}

void tls_tickets_unref(struct tls_tickets *k)
{
    if (!k || atomic_fetch_sub(&k->refs, 1) != 1) return;
    mbedtls_ssl_ticket_free(&k->v12);
    mbedtls_ssl_ticket_free(&k->v13);
    mbedtls_free(k);
}

static struct tls_tickets *new_tickets(void)
{
    struct tls_tickets *k = mbedtls_calloc(1, sizeof *k);
    if (!k) return NULL;
    atomic_init(&k->refs, 1);
    mbedtls_ssl_ticket_init(&k->v12);
    mbedtls_ssl_ticket_init(&k->v13);
    if (mbedtls_ssl_ticket_setup(&k->v12, tls_random, NULL, MBEDTLS_CIPHER_AES_256_GCM,
                                 TLS_TICKET_LIFETIME_S) == 0 &&
        mbedtls_ssl_ticket_setup(&k->v13, tls_random, NULL, MBEDTLS_CIPHER_AES_256_GCM,
                                 TLS_TICKET_LIFETIME_S) == 0)
        return k;
    tls_tickets_unref(k);
    return NULL;
}

/* tls_tickets_for gives p the keys of a pair with the same names in old, or new ones. */
bool tls_tickets_for(struct tls_pair *p, const struct tls_settings *old)
{
    uint8_t names[32], others[32];
    tls_names_hash(&p->chain, names);
    for (size_t i = 0; old && !file_key_count && i < old->count; i++) {
        tls_names_hash(&old->pairs[i].chain, others);
        if (memcmp(names, others, sizeof names) != 0 || old->pairs[i].tickets->from_files) continue;
        p->tickets = old->pairs[i].tickets;
        atomic_fetch_add(&p->tickets->refs, 1);
        return true;
    }
    p->tickets = new_tickets();
    return p->tickets && take_file_keys(p->tickets, names);
}
