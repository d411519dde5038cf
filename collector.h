/* collector.h - the HTTP/1.1 client of a thread that may block: requests to one server, plain or
 * TLS, over a connection that is kept (RFC 9112).
 *
 * Every wait has a deadline, and the answer's size a cap. Name look-ups block for as long as the
 * resolver does. Threads: all by one thread, but for collector_hurry (any). */
#ifndef COLLECTOR_H
#define COLLECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "url.h"

struct collector;

struct collector_options {        /* borrowed for the call */
    const struct url *url;        /* URL_WS: http, URL_WSS: https */
    const char *path;             /* behind the URL's own */
    const char *content_type;     /* static */
    const char *user_agent;       /* static */
    const char *authorization;    /* the header's value, or "" */
    const char *method;           /* static; NULL: POST */
    const char *ca_file;          /* of trust anchors; NULL: the system's */
    int64_t connect_ms, total_ms; /* of one request; total_ms all in all */
};

/* collector_new connects to nobody yet. NULL with a line in err: memory, or no trust anchors. */
struct collector *collector_new(const struct collector_options *o, char *err, size_t err_len);
void collector_delete(struct collector *c); /* wipes; c may be NULL */

#define COLLECTOR_BODY_MAX 8192
struct collector_answer {
    int status;
    int64_t retry_after_ms; /* -1: not said in seconds */
    size_t len;
    char body[COLLECTOR_BODY_MAX]; /* its beginning; the rest is not read */
};

/* collector_post sends body and waits for the answer. 0, or -1 with a line in err that names no
 * secret: no answer came. A kept connection that turns out to be over is made anew, once. */
int collector_post(struct collector *c, const char *body, size_t len, struct collector_answer *a,
                   char *err, size_t err_len);

struct collector_taker {                                    /* who reads an answer as it comes */
    bool (*take)(const char *bytes, size_t len, void *arg); /* false: no more is wanted */
    void *arg;
    int64_t silence_ms; /* how long nothing may come */
};

/* collector_follow makes the request without a body, over a new connection, and gives t each piece
 * of the answer's body as it comes, if its status is 200 and it comes in chunks; with another
 * status a has the beginning of what was said. total_ms is for all up to the end of the answer's
 * head, from there on silence_ms from one piece to the next. It ends when the answer does, or take
 * returns false: 0; or -1 as above: silence, a hang-up before the end, no chunks. */
int collector_follow(struct collector *c, const struct collector_taker *t,
                     struct collector_answer *a, char *err, size_t err_len);

/* collector_wait sleeps for ms or until collector_hurry. */
void collector_wait(struct collector *c, int64_t ms);

/* collector_hurry ends every wait of now and later at until_ms (CLOCK_MONOTONIC), once. */
void collector_hurry(struct collector *c, int64_t until_ms);

#endif
