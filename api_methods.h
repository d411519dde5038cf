/* api_methods.h - what the methods of the HTTP API do, apart from HTTP. Worker only. */
#ifndef API_METHODS_H
#define API_METHODS_H

#include "http.h"
#include "json.h"
#include "ops.h"

#define API_TOKENS 256          /* of a request's own members; their values are not opened */
#define API_ELEMENT_TOKENS 4096 /* of channels, tags or since */
#define API_BAD_REQUEST 400     /* a field has the wrong type: HTTP 400 instead of an error code */

struct api_call {
    struct worker *w;
    struct json *doc;  /* an object with unique members */
    jsmntok_t *tokens; /* at most API_ELEMENT_TOKENS, as many as the body can need */
    unsigned token_count;
    size_t channel_max_length;
    struct json_out o; /* the reply; grown by api_begin */
};

/* A method writes its result object to call->o and returns 0, an error code of protocol.md 4.1, or
 * API_BAD_REQUEST. */
typedef unsigned api_method(struct api_call *call);

api_method *api_method_find(struct http_str name); /* NULL: no such method */

/* api_begin makes room for need bytes more in call->o, whose memory is the pool's; when memory is
 * out o.full is set. */
void api_begin(struct api_call *call, size_t need);

const char *api_message(unsigned code); /* "unknown channel" */

#endif
