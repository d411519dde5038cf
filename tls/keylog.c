/* SSLKEYLOGFILE, for a debugger of the protocol (Wireshark), in the NSS key log format
 * (draft-ietf-tls-keylogfile). In builds of VARIANT=debug only: whoever has these lines reads
 * everything. The others do not have this code, and do not look at the variable. */
#include "tls/internal.h"

#ifdef ROOST_KEYLOG
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <mbedtls/platform_util.h>

#define LINE_MAX_BYTES 256 /* a label, 32 and at most 48 bytes in hex */

static int fd = -1;

static void open_file(void)
{
    const char *path = getenv("SSLKEYLOGFILE");
    if (!path || !*path) return;
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd == -1)
        log_event(LOG_ERROR, "SSLKEYLOGFILE can not be opened", LOG_STR("why", strerror(errno)),
                  LOG_STR("file", path));
    else
        log_event(LOG_WARN,
                  "this is a debug build: the secrets of all TLS sessions are written down",
                  LOG_STR("file", path));
}

static const char *label_of(mbedtls_ssl_key_export_type type)
{
    switch (type) {
    case MBEDTLS_SSL_KEY_EXPORT_TLS12_MASTER_SECRET: return "CLIENT_RANDOM";
    case MBEDTLS_SSL_KEY_EXPORT_TLS1_3_CLIENT_EARLY_SECRET: return "CLIENT_EARLY_TRAFFIC_SECRET";
    case MBEDTLS_SSL_KEY_EXPORT_TLS1_3_EARLY_EXPORTER_SECRET: return "EARLY_EXPORTER_SECRET";
    case MBEDTLS_SSL_KEY_EXPORT_TLS1_3_CLIENT_HANDSHAKE_TRAFFIC_SECRET:
        return "CLIENT_HANDSHAKE_TRAFFIC_SECRET";
    case MBEDTLS_SSL_KEY_EXPORT_TLS1_3_SERVER_HANDSHAKE_TRAFFIC_SECRET:
        return "SERVER_HANDSHAKE_TRAFFIC_SECRET";
    case MBEDTLS_SSL_KEY_EXPORT_TLS1_3_CLIENT_APPLICATION_TRAFFIC_SECRET:
        return "CLIENT_TRAFFIC_SECRET_0";
    case MBEDTLS_SSL_KEY_EXPORT_TLS1_3_SERVER_APPLICATION_TRAFFIC_SECRET:
        return "SERVER_TRAFFIC_SECRET_0";
    }
    return NULL;
}

static size_t put_hex(char *to, const uint8_t *bytes, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        to[2 * i] = digits[bytes[i] >> 4];
        to[2 * i + 1] = digits[bytes[i] & 15];
    }
    return 2 * len;
}

void tls_keylog(mbedtls_ssl_key_export_type type, const uint8_t client_random[32],
                const uint8_t *secret, size_t len)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const char *label = label_of(type);
    char line[LINE_MAX_BYTES];
    pthread_once(&once, open_file);
    if (fd == -1 || !label || len > 48) return;
    size_t n = (size_t)snprintf(line, sizeof line, "%s ", label);
    n += put_hex(line + n, client_random, 32);
    line[n++] = ' ';
    n += put_hex(line + n, secret, len);
    line[n++] = '\n';
    if (write(fd, line, n) == -1) /* one call, so that workers' lines do not mix */
        log_limited(1, LOG_WARN, "SSLKEYLOGFILE", LOG_STR("why", strerror(errno)));
    mbedtls_platform_zeroize(line, sizeof line);
}
#endif
