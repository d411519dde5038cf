/* api.h - the HTTP API for backends: POST /api/METHOD (protocol.md section 7). api.c is HTTP,
 * api_methods.c what the methods do. Worker only. */
#ifndef API_H
#define API_H

#include "conn.h"

struct api_options {
    const uint8_t *key; /* NULL: no key is set, every call is refused unless insecure */
    size_t key_len;
    bool insecure;
    bool transport_errors; /* errors by the status as well, unless a request says otherwise */
    int64_t max_body_bytes;
    size_t channel_max_length;
};

void api_init(const struct api_options *o); /* before workers start */

/* api_head answers a request head for /api/..., or returns how much body is accepted; api_request
 * handles the whole request. */
int64_t api_head(struct conn *c, const struct http_request *r);
void api_request(struct conn *c, const struct http_request *r, const char *body, size_t len);

#endif
