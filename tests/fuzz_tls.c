#include "../tls/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Hostile bytes before, in and after a handshake. The first byte of the input says what the others
 * are (see enum), how they are cut and the version. Whatever they are: no fault, no endless loop,
 * no answer outside the contract of tls.h, nothing lost. */

enum target {
    TO_SERVER,   /* what a server receives first */
    TO_CLIENT,   /* what a client receives behind its hello */
    IN_BETWEEN,  /* damage to a handshake that is all right: place (2 bytes), change, and so on */
    ESTABLISHED, /* what a server receives in an established session */
};

struct stream {
    uint8_t bytes[64 * 1024];
    size_t len, total;
};

static const uint8_t *damage;
static size_t damage_len;
static size_t piece_max;

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) abort();                                                                         \
    } while (0)

static void put(struct stream *s, const uint8_t *bytes, size_t len, size_t way)
{
    if (len > sizeof s->bytes - s->len) len = sizeof s->bytes - s->len;
    memcpy(s->bytes + s->len, bytes, len);
    for (size_t i = 0; i + 3 <= damage_len; i += 3) {
        size_t at = (size_t)(damage[i] & 0x7f) << 8 | damage[i + 1];
        if (damage[i] >> 7 == way && at >= s->total && at - s->total < len)
            s->bytes[s->len + at - s->total] ^= damage[i + 2];
    }
    s->len += len;
    s->total += len;
}

/* lend gives a piece of its own, so that a byte read behind it is noticed. */
static uint8_t *lend(struct stream *s, size_t *len)
{
    *len = s->len < piece_max ? s->len : piece_max;
    uint8_t *piece = malloc(*len);
    CHECK(piece || *len == 0);
    if (*len > 0) memcpy(piece, s->bytes, *len);
    return piece;
}

static void taken(struct stream *s, uint8_t *piece, size_t used)
{
    free(piece);
    s->len -= used;
    memmove(s->bytes, s->bytes + used, s->len);
}

static enum io shake(struct tls *t, struct stream *in, struct stream *out, size_t way)
{
    uint8_t sent[TLS_OUT_MAX];
    size_t len, used, out_len;
    uint8_t *piece = lend(in, &len);
    enum io answer = tls_handshake(t, piece, len, &used, sent, sizeof sent, &out_len);

    CHECK(used <= len && out_len <= sizeof sent);
    if (answer == IO_WANT_READ) CHECK(used == len);
    CHECK((answer == IO_CLOSED) == (*tls_why(t) != '\0'));
    taken(in, piece, used);
    put(out, sent, out_len, way);
    return answer;
}

static void read_all(struct tls *t, struct stream *in)
{
    uint8_t plain[1000], sent[TLS_OUT_MAX];
    enum io answer;

    do {
        size_t len, used, n, out_len;
        uint8_t *piece = lend(in, &len);
        answer =
            tls_open(t, piece, len, &used, plain, sizeof plain, &n, sent, sizeof sent, &out_len);
        CHECK(used <= len && n <= sizeof plain && out_len <= sizeof sent);
        if (answer == IO_WANT_READ) CHECK(used == len);
        if (answer == IO_CLOSED) CHECK(n == 0);
        CHECK(answer != IO_WANT_WRITE);
        taken(in, piece, used);
    } while (answer == IO_DONE || (answer == IO_WANT_READ && in->len > 0));
}

static bool handshake(struct tls *client, struct tls *server, struct stream *up,
                      struct stream *down)
{
    enum io at_client = IO_WANT_READ, at_server = IO_WANT_READ;

    for (int idle = 0; idle < 2;) {
        size_t before = up->total + down->total + up->len + down->len;
        if (at_client == IO_WANT_READ) at_client = shake(client, down, up, 0);
        if (at_server == IO_WANT_READ) at_server = shake(server, up, down, 1);
        idle = up->total + down->total + up->len + down->len == before ? idle + 1 : 0;
    }
    return at_client == IO_DONE && at_server == IO_DONE;
}

static struct tls_server *server_new(void)
{
    char dir[] = "/tmp/roost-fuzz-XXXXXX", cert[64], key[64], err[256];

    CHECK(mkdtemp(dir));
    snprintf(cert, sizeof cert, "%s/c", dir);
    snprintf(key, sizeof key, "%s/k", dir);
    CHECK(tls_make_certificate(cert, key) == 0);
    struct tls_server *s = tls_server_new(&(struct tls_files){cert, key}, 1, err, sizeof err);
    CHECK(s);
    unlink(cert);
    unlink(key);
    rmdir(dir);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tls_server *s;
    static struct tls_client *c;
    static struct stream up, down;
    char err[256];

    if (!s) s = server_new();
    if (!c) c = tls_client_new(NULL, true, err, sizeof err);
    if (size < 1 || size > sizeof up.bytes / 2) return 0;
    int mode = *data++;
    size--;
    enum target target = (enum target)(mode & 3);
    piece_max = mode & 4 ? 1 : mode & 8 ? 100 : sizeof up.bytes;
    tls_client_set_version(c, mode & 16 ? 2 : 3);
    tls_client_keep_sessions(c, false);

    int64_t live = tls_memory().live;
    struct tls *server = tls_accept(s), *client = tls_connect(c, "localhost");
    up.len = up.total = down.len = down.total = damage_len = 0;
    CHECK(server && client);
    if (target == TO_SERVER) {
        put(&up, data, size, 0);
        while (up.len > 0 && shake(server, &up, &down, 1) == IO_WANT_READ) continue;
    } else if (target == TO_CLIENT) {
        CHECK(shake(client, &down, &up, 0) == IO_WANT_READ);
        put(&down, data, size, 1);
        while (down.len > 0 && shake(client, &down, &up, 0) == IO_WANT_READ) continue;
    } else if (target == IN_BETWEEN) {
        damage = data;
        damage_len = size;
        if (handshake(client, server, &up, &down)) read_all(client, &down);
    } else {
        CHECK(handshake(client, server, &up, &down));
        put(&up, data, size, 0);
        read_all(server, &up);
    }
    tls_free(server);
    tls_free(client);
    CHECK(tls_memory().live == live);
    return 0;
}
