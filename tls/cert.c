#include "tls.h"
#include "tls/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <mbedtls/oid.h>
#include <mbedtls/platform.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/sha256.h>

enum { MAX_PEM_BYTES = 4 * 1024 * 1024 }; /* the system's bundles have about 220 KiB */

/* ---- reading --------------------------------------------------------------------------------- */

struct text {
    char *bytes; /* ends with a NUL, as mbedTLS wants PEM */
    size_t len;  /* without it */
};

static void text_free(struct text *text)
{
    if (text->bytes) mbedtls_platform_zeroize(text->bytes, text->len);
    mbedtls_free(text->bytes);
    text->bytes = NULL;
}

static int read_all(int fd, struct text *text)
{
    struct stat st;

    if (fstat(fd, &st) == -1) return -1;
    if (S_ISDIR(st.st_mode)) {
        errno = EISDIR;
        return -1;
    }
    /* One byte more than a regular file has shows that it grew; a pipe has no size. */
    size_t cap = S_ISREG(st.st_mode) && st.st_size < MAX_PEM_BYTES ? (size_t)st.st_size + 1
                                                                   : MAX_PEM_BYTES + 1;
    text->bytes = mbedtls_calloc(1, cap + 1);
    if (!text->bytes) {
        errno = ENOMEM;
        return -1;
    }
    while (text->len < cap) {
        ssize_t n = read(fd, text->bytes + text->len, cap - text->len);
        if (n == -1 && errno == EINTR) continue;
        if (n == -1) return -1;
        if (n == 0) return 0;
        text->len += (size_t)n;
    }
    errno = EFBIG;
    return -1;
}

static int read_pem(struct text *text, const char *what, const char *file, char *err,
                    size_t err_len)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);

    *text = (struct text){0};
    if (fd == -1 || read_all(fd, text) == -1) {
        tls_say(err, err_len, "%s file %s: %s", what, file, strerror(errno));
    } else if (text->len == 0) {
        tls_say(err, err_len, "%s file %s is empty", what, file);
    } else if (strlen(text->bytes) != text->len || !strstr(text->bytes, "-----BEGIN ")) {
        tls_say(err, err_len,
                "%s file %s is not PEM: it has no -----BEGIN line (if it is DER: openssl %s "
                "-inform DER -in %s -out %s.pem)",
                what, file, strcmp(what, "key") == 0 ? "pkey" : "x509", file, file);
    } else {
        close(fd);
        return 0;
    }
    if (fd != -1) close(fd);
    text_free(text);
    return -1;
}

static int load_chain(mbedtls_x509_crt *chain, const char *file, char *err, size_t err_len)
{
    struct text text;

    if (read_pem(&text, "certificate", file, err, err_len) == -1) return -1;
    int ret = 0;
    if (!strstr(text.bytes, "-----BEGIN CERTIFICATE-----"))
        tls_say(err, err_len, "certificate file %s holds no certificate%s", file,
                strstr(text.bytes, "PRIVATE KEY-----") ? " but a key: are the two exchanged?" : "");
    else
        ret = mbedtls_x509_crt_parse(chain, (unsigned char *)text.bytes, text.len + 1);
    bool none = !chain->raw.p;
    text_free(&text);
    if (ret > 0)
        tls_say(err, err_len, "certificate file %s: %d of its certificates can not be read", file,
                ret);
    else if (ret < 0)
        tls_say(err, err_len, "certificate file %s: %s", file, tls_text(ret));
    return ret == 0 && !none ? 0 : -1;
}

static int load_key(mbedtls_pk_context *key, const char *file, char *err, size_t err_len)
{
    struct text text;
    int ret = -1;

    if (read_pem(&text, "key", file, err, err_len) == -1) return -1;
    if (strstr(text.bytes, "BEGIN ENCRYPTED PRIVATE KEY") ||
        strstr(text.bytes, "Proc-Type: 4,ENCRYPTED")) {
        tls_say(err, err_len,
                "key file %s is encrypted; roost can not ask for a password: openssl pkey -in %s "
                "-out plain.key",
                file, file);
    } else if (!strstr(text.bytes, "PRIVATE KEY-----")) {
        tls_say(err, err_len, "key file %s holds no private key", file);
    } else {
        ret = mbedtls_pk_parse_key(key, (unsigned char *)text.bytes, text.len + 1, NULL, 0,
                                   tls_random, NULL);
        if (ret != 0)
            tls_say(err, err_len, "key file %s: %s (RSA and ECDSA keys work, Ed25519 ones do not)",
                    file, tls_text(ret));
    }
    text_free(&text);
    return ret == 0 ? 0 : -1;
}

/* ---- checking -------------------------------------------------------------------------------- */

static int check_strength(const mbedtls_x509_crt *leaf, const char *file, char *err, size_t err_len)
{
    size_t bits = mbedtls_pk_get_bitlen(&leaf->pk);
    mbedtls_pk_type_t type = mbedtls_pk_get_type(&leaf->pk);

    if (type == MBEDTLS_PK_RSA && bits >= 2048) return 0;
    if (type == MBEDTLS_PK_ECKEY && bits >= 256) return 0;
    tls_say(err, err_len,
            "certificate file %s: a key of type %s with %zu bits is not accepted; use P-256 (or "
            "RSA with 2048 bits or more)",
            file, mbedtls_pk_get_name(&leaf->pk), bits);
    return -1;
}

static int check_purpose(const mbedtls_x509_crt *leaf, const char *file, char *err, size_t err_len)
{
    if (mbedtls_x509_crt_check_extended_key_usage(leaf, MBEDTLS_OID_SERVER_AUTH,
                                                  MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH)) == 0 &&
        mbedtls_x509_crt_check_key_usage(leaf, MBEDTLS_X509_KU_DIGITAL_SIGNATURE) == 0)
        return 0;
    tls_say(err, err_len,
            "certificate file %s: its key usage does not allow a server's handshake (it needs "
            "digitalSignature and serverAuth)",
            file);
    return -1;
}

int tls_load_pair(mbedtls_x509_crt *chain, mbedtls_pk_context *key, const char *cert_file,
                  const char *key_file, char *err, size_t err_len)
{
    if (load_chain(chain, cert_file, err, err_len) == -1) return -1;
    if (load_key(key, key_file, err, err_len) == -1) return -1;
    if (check_strength(chain, cert_file, err, err_len) == -1) return -1;
    if (check_purpose(chain, cert_file, err, err_len) == -1) return -1;
    if (mbedtls_pk_check_pair(&chain->pk, key, tls_random, NULL) == 0) return 0;
    tls_say(err, err_len,
            "the key in %s does not belong to the first certificate in %s (the server's own "
            "certificate must come first, the CA's after it)",
            key_file, cert_file);
    return -1;
}

/* ---- names ----------------------------------------------------------------------------------- */

static bool is_dns_name(const mbedtls_x509_sequence *s)
{
    return (s->buf.tag & MBEDTLS_ASN1_TAG_VALUE_MASK) == MBEDTLS_X509_SAN_DNS_NAME;
}

void tls_names_hash(const mbedtls_x509_crt *leaf, uint8_t hash[static 32])
{
    mbedtls_sha256_context c;
    mbedtls_sha256_init(&c);
    mbedtls_sha256_starts(&c, 0);
    const mbedtls_x509_sequence *s = &leaf->subject_alt_names;
    const bool has_names = s->buf.p;
    for (; s && s->buf.p; s = s->next) {
        const uint8_t head[3] = {(uint8_t)s->buf.tag, (uint8_t)(s->buf.len >> 8),
                                 (uint8_t)s->buf.len};
        mbedtls_sha256_update(&c, head, sizeof head);
        mbedtls_sha256_update(&c, s->buf.p, s->buf.len);
    }
    if (!has_names) /* an old one: its subject */
        mbedtls_sha256_update(&c, leaf->subject_raw.p, leaf->subject_raw.len);
    mbedtls_sha256_finish(&c, hash);
    mbedtls_sha256_free(&c);
}

static bool same_name(const char *a, const char *b, size_t len)
{
    return strncasecmp(a, b, len) == 0;
}

/* RFC 6125 section 6.4.3: a star stands for the whole first label, and for one. */
int tls_names_fit(const mbedtls_x509_crt *leaf, const char *name, size_t len)
{
    const char *dot = memchr(name, '.', len);
    int fit = 0;
    for (const mbedtls_x509_sequence *s = &leaf->subject_alt_names; s && s->buf.p; s = s->next) {
        const char *p = (const char *)s->buf.p;
        if (!is_dns_name(s)) continue;
        if (s->buf.len == len && same_name(p, name, len)) return 2;
        if (s->buf.len > 2 && p[0] == '*' && p[1] == '.' && dot && dot > name &&
            s->buf.len - 1 == len - (size_t)(dot - name) && same_name(p + 1, dot, s->buf.len - 1))
            fit = 1;
    }
    return fit;
}

void tls_warn_pair(const mbedtls_x509_crt *chain, const char *cert_file, const char *key_file,
                   char *err, size_t err_len)
{
    struct stat st;

    if (mbedtls_x509_time_is_past(&chain->valid_to))
        tls_say(err, err_len, "the certificate in %s expired on %d-%02d-%02d", cert_file,
                chain->valid_to.year, chain->valid_to.mon, chain->valid_to.day);
    else if (mbedtls_x509_time_is_future(&chain->valid_from))
        tls_say(err, err_len, "the certificate in %s is not valid before %d-%02d-%02d", cert_file,
                chain->valid_from.year, chain->valid_from.mon, chain->valid_from.day);
    else if (stat(key_file, &st) == 0 && st.st_mode & S_IROTH)
        tls_say(err, err_len, "key file %s can be read by everybody: chmod o-r %s", key_file,
                key_file);
}

int tls_load_trust(mbedtls_x509_crt *trust, const char *file, char *err, size_t err_len)
{
    struct text text;

    if (read_pem(&text, "CA", file, err, err_len) == -1) return -1;
    bool none = !strstr(text.bytes, "-----BEGIN CERTIFICATE-----");
    /* A system's bundle may hold a certificate of a kind that we do not read; the others serve. */
    int ret = mbedtls_x509_crt_parse(trust, (unsigned char *)text.bytes, text.len + 1);
    text_free(&text);
    if (ret >= 0 && trust->raw.p) return 0;
    tls_say(err, err_len, "CA file %s: %s", file,
            none      ? "it holds no certificate"
            : ret < 0 ? tls_text(ret)
                      : "no certificate in it can be read");
    return -1;
}

/* ---- making ---------------------------------------------------------------------------------- */

enum { PEM_MAX = 2048 }; /* a P-256 certificate has some 700 bytes */

static int describe(mbedtls_x509write_cert *crt)
{
    static const unsigned char loopback4[] = {127, 0, 0, 1};
    static const unsigned char loopback6[16] = {[15] = 1};
    mbedtls_x509_san_list names[] = {
        {.node = {.type = MBEDTLS_X509_SAN_DNS_NAME,
                  .san.unstructured_name = {.p = (unsigned char *)"localhost", .len = 9}},
         .next = &names[1]},
        {.node = {.type = MBEDTLS_X509_SAN_IP_ADDRESS,
                  .san.unstructured_name = {.p = (unsigned char *)loopback4, .len = 4}},
         .next = &names[2]},
        {.node = {.type = MBEDTLS_X509_SAN_IP_ADDRESS,
                  .san.unstructured_name = {.p = (unsigned char *)loopback6, .len = 16}}},
    };
    mbedtls_asn1_sequence server_auth = {.buf = {.tag = MBEDTLS_ASN1_OID,
                                                 .p = (unsigned char *)MBEDTLS_OID_SERVER_AUTH,
                                                 .len = MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH)}};
    unsigned char serial[16];

    random_bytes(serial, sizeof serial);
    serial[0] = (unsigned char)((serial[0] & 0x7f) | 0x40); /* positive, RFC 5280 4.1.2.2 */
    int ret = mbedtls_x509write_crt_set_serial_raw(crt, serial, sizeof serial);
    if (ret == 0) ret = mbedtls_x509write_crt_set_subject_name(crt, "CN=localhost,O=roost dev");
    if (ret == 0) ret = mbedtls_x509write_crt_set_issuer_name(crt, "CN=localhost,O=roost dev");
    if (ret == 0) ret = mbedtls_x509write_crt_set_basic_constraints(crt, 0, -1);
    if (ret == 0) ret = mbedtls_x509write_crt_set_key_usage(crt, MBEDTLS_X509_KU_DIGITAL_SIGNATURE);
    if (ret == 0) ret = mbedtls_x509write_crt_set_ext_key_usage(crt, &server_auth);
    if (ret == 0) ret = mbedtls_x509write_crt_set_subject_alternative_name(crt, names);
    return ret;
}

static int set_validity(mbedtls_x509write_cert *crt)
{
    char from[16], to[16]; /* YYYYMMDDhhmmss */
    struct tm tm;
    time_t day = 24 * 3600, begin = time(NULL) - day, end = begin + 3652 * day;

    if (!gmtime_r(&begin, &tm) || strftime(from, sizeof from, "%Y%m%d%H%M%S", &tm) != 14) return -1;
    if (!gmtime_r(&end, &tm) || strftime(to, sizeof to, "%Y%m%d%H%M%S", &tm) != 14) return -1;
    return mbedtls_x509write_crt_set_validity(crt, from, to);
}

static int sign_certificate(mbedtls_pk_context *key, unsigned char *pem)
{
    mbedtls_x509write_cert crt;

    mbedtls_x509write_crt_init(&crt);
    mbedtls_x509write_crt_set_version(&crt, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&crt, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&crt, key);
    mbedtls_x509write_crt_set_issuer_key(&crt, key);
    int ret = describe(&crt);
    if (ret == 0) ret = set_validity(&crt);
    if (ret == 0) ret = mbedtls_x509write_crt_pem(&crt, pem, PEM_MAX, tls_random, NULL);
    mbedtls_x509write_crt_free(&crt);
    return ret;
}

static int make_pair(unsigned char *cert_pem, unsigned char *key_pem)
{
    mbedtls_pk_context key;

    mbedtls_pk_init(&key);
    int ret = mbedtls_pk_setup(&key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    if (ret == 0)
        ret = mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(key), tls_random, NULL);
    if (ret == 0) ret = mbedtls_pk_write_key_pem(&key, key_pem, PEM_MAX);
    if (ret == 0) ret = sign_certificate(&key, cert_pem);
    mbedtls_pk_free(&key);
    return ret;
}

static int write_all(int fd, const char *p, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n == -1 && errno == EINTR) continue;
        if (n == -1) return -1;
        p += n;
        len -= (size_t)n;
    }
    return fsync(fd);
}

/* A whole file appears under its name or nothing does; link() refuses a name that is taken, which
 * rename() would overwrite. */
static int write_new_file(const char *file, const char *text)
{
    char temporary[4096];
    int n = snprintf(temporary, sizeof temporary, "%s.%ld.new", file, (long)getpid());
    if (n < 0 || (size_t)n >= sizeof temporary) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd == -1) return -1;
    int ret = write_all(fd, text, strlen(text));
    if (close(fd) == -1) ret = -1;
    if (ret == 0) ret = link(temporary, file);
    int why = errno;
    unlink(temporary);
    errno = why;
    return ret;
}

int tls_make_certificate(const char *cert_file, const char *key_file)
{
    unsigned char cert_pem[PEM_MAX], key_pem[PEM_MAX];

    if (access(cert_file, F_OK) == 0 || access(key_file, F_OK) == 0) {
        errno = EEXIST;
        return -1;
    }
    int ret = tls_start() == 0 ? make_pair(cert_pem, key_pem) : -1;
    if (ret != 0) {
        errno = ENOMEM; /* nothing else can go wrong with constants */
        ret = -1;
    } else {
        ret = write_new_file(key_file, (char *)key_pem);
        if (ret == 0 && write_new_file(cert_file, (char *)cert_pem) == -1) {
            int why = errno;
            unlink(key_file);
            errno = why;
            ret = -1;
        }
    }
    mbedtls_platform_zeroize(key_pem, sizeof key_pem);
    return ret;
}
