/* web.h - the files of the folder web/, carried inside the binary.
 *
 * The table is made at build time by scripts/embed.sh; its bytes are read-only and live as long as
 * the process. Any thread. */
#ifndef WEB_H
#define WEB_H

#include <stddef.h>
#include <stdint.h>

struct web_file {
    const char *path;         /* as in a request: "/index.html", "/icons/roost.svg" */
    const char *content_type; /* "text/html; charset=utf-8" */
    const uint8_t *data;
    size_t len;
    const char *etag; /* a quoted hash of the bytes, for ETag and If-None-Match */
};

/* web_files has web_file_count entries, sorted by path (byte order), and an empty one (path NULL)
 * behind the last. */
extern const struct web_file web_files[];
extern const size_t web_file_count;

#endif
