/* api/methods.h - what the methods of the HTTP API do, apart from HTTP: api/methods.c those on
 * channels, api/users.c those on the connections of users, api/rebalance.c those on
 * connections by their age, api/info.c what the server is doing,
 * api/batch.c several in one call. Worker only. */
#ifndef API_METHODS_H
#define API_METHODS_H

#include "api.h"
#include "http.h"
#include "json.h"
#include "ops.h"
#include "trace.h"
#include "users.h"

#define API_TOKENS 256          /* of a request's own members; their values are not opened */
#define API_ELEMENT_TOKENS 4096 /* of channels, tags or since */
#define API_BAD_REQUEST 400     /* a field has the wrong type: HTTP 400 instead of an error code */
#define API_LATER 1             /* other workers are asked first: call->finished will be called */
#define API_ABANDONED 2 /* to finished: the server has ended, nothing can be sent or asked */

struct api_call {
    struct worker *w;
    struct json *doc;  /* an object with unique members */
    jsmntok_t *tokens; /* at most API_ELEMENT_TOKENS, as many as the body can need */
    unsigned token_count;
    size_t channel_max_length;
    struct json_out o;    /* the reply; grown by api_begin */
    enum api_scope scope; /* of the caller's key */
    bool has_parent;
    struct trace_parent parent;                        /* the caller's span */
    char key_name[API_KEY_NAME], peer[CONN_PEER_TEXT]; /* for the log, if it is told */
    /* after API_LATER: the same code as a method would have returned. Frees the call. */
    void (*finished)(struct api_call *call, unsigned code);
};

/* A method writes its result object to call->o and returns 0, an error code of protocol.md 4.1, or
 * API_BAD_REQUEST; or API_LATER, and then keeps call, but not what doc and tokens point to. */
typedef unsigned api_run(struct api_call *call);

struct api_method {
    const char *name;
    api_run *run;
    enum api_scope scope; /* what a key must allow */
    bool changes;         /* and so is told to the log */
};

/* api_method_find returns NULL if there is no such method. api_permits: may a key of that scope
 * call m? */
const struct api_method *api_method_find(const char *name, size_t len);
bool api_permits(enum api_scope scope, const struct api_method *m);
unsigned api_method_index(const struct api_method *m); /* for metric_api */

/* api_run_method runs m; one that publishes is a Message to who traces. */
unsigned api_run_method(struct api_call *call, const struct api_method *m);

/* api_connection_id names an open connection: a client's id as presence shows it, "raw-0-17" for
 * another. */
#define API_ID_MAX 40
struct text api_connection_id(const struct conn *c, char out[static API_ID_MAX]);

void api_info_init(const char *node_name); /* before workers start; borrows */

api_run api_subscribe, api_unsubscribe, api_disconnect, api_refresh, api_connections, api_info,
    api_rebalance, api_batch;

/* api_begin makes room for need bytes more in call->o, whose memory is the pool's; when memory is
 * out o.full is set. */
void api_begin(struct api_call *call, size_t need);

const char *api_message(unsigned code);                /* "unknown channel" */
void api_put_error(struct json_out *o, unsigned code); /* "error":{...} */

/* api_audit tells the log who has called a method that changes something, and how it went: ok also
 * if other workers have yet to do their part. doc must still be there. */
void api_audit(const struct api_call *call, const struct api_method *m, unsigned code);

/* ---- fields, for the files above ---- */

/* api_optional gives a member of an object, or JSON_NONE if it is absent or null; false when it has
 * another type. The others leave *out alone then. */
bool api_optional(const struct json *doc, const char *name, enum json_type type, int *v);
bool api_optional_int(const struct json *doc, const char *name, int64_t *out);
bool api_optional_bool(const struct json *doc, const char *name, bool *out);

/* api_elements opens a member that is an array or an object; at most one at a time. */
bool api_elements(struct api_call *call, int v, struct json *sub);

struct api_channel {
    char bytes[PUBSUB_NAME_MAX];
    size_t len;
};
/* api_channel_name decodes v, a channel's name. Returns 0, or 107, or 102 if its namespace is
 * unknown; api_channel_field does for the member channel, or API_BAD_REQUEST. */
unsigned api_channel_name(const struct api_call *call, const struct json *doc, int v,
                          struct api_channel *name);
unsigned api_channel_field(const struct api_call *call, struct api_channel *name);

#endif
