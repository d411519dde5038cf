/* api.h - the HTTP API for backends: POST /api/METHOD (protocol.md section 7). api.c is HTTP,
 * api/methods.c what the methods do. Worker only. */
#ifndef API_H
#define API_H

#include "conn.h"

enum api_scope {                       /* what a key is for; one bit a kind of method */
                 API_PUBLISH = 1 << 0, /* publish, broadcast */
                 API_READ = 1 << 1,    /* what changes nothing */
                 API_MANAGE = 1 << 2,  /* what acts on connections and histories */
                 API_ALL = API_PUBLISH | API_READ | API_MANAGE,
};

#define API_KEY_NAME 64
#define API_KEYS_MAX 16
struct api_key {
    const char *name; /* for the log; cut to API_KEY_NAME - 1 bytes */
    const uint8_t *bytes;
    size_t len;
    enum api_scope scope;
};

struct api_options { /* a part of the settings (settings.h) */
    /* the keys that are accepted; without any every call is refused unless insecure */
    const struct api_key *keys;
    size_t key_count;
    bool insecure;           /* no key is asked for */
    bool transport_errors;   /* errors by the status as well, unless a request says otherwise */
    bool audit_publications; /* publish and broadcast are told to the log as well */
    int64_t max_body_bytes;
    size_t channel_max_length;
};

/* api_init: o is of the first settings; node_name is copied, NULL: the host's name. Before workers
 * start. */
void api_init(const struct api_options *o, const char *node_name);

/* api_head answers a request head for /api/..., or returns how much body is accepted; api_request
 * handles the whole request. The caller is whose key it shows. */
int64_t api_head(struct conn *c, const struct http_request *r);
void api_request(struct conn *c, const struct http_request *r, const char *body, size_t len);

struct api_caller {
    enum api_scope scope;    /* 0: nobody whom we know */
    char name[API_KEY_NAME]; /* for the log */
};

/* The same for a caller who has come in another way than by a key, and for a method that another
 * path names. Who may come in is asked before each of the two: it may have changed in between. */
int64_t api_head_as(struct conn *c, const struct http_request *r, struct http_str method,
                    const struct api_caller *who);
void api_request_as(struct conn *c, const struct http_request *r, struct http_str method,
                    const struct api_caller *who, const char *body, size_t len);

/* api_method_name: the i-th method, NULL behind the last. Any thread. */
const char *api_method_name(unsigned i);

/* api_may_all: does r show a key of scope all? *who is whose it is; answers 401 or 403 if not. */
bool api_may_all(struct conn *c, const struct http_request *r, struct api_caller *who);

/* api_is_post answers 405 to any other request. */
bool api_is_post(struct conn *c, const struct http_request *r);

/* api_ended is of struct app's ended: nobody waits for an answer any more. While one is yet to come
 * (conn_http_later), c->channel is where whoever makes it keeps the connection: set to NULL here.
 */
void api_ended(struct conn *c);

#endif
