/* console.h - the console's side of HTTP: its page, who may use it, and the API's methods for it.
 *
 *     GET  /, /app.js, ...      the page (web.h); tells nothing about the server
 *     GET  /admin/settings      what the page must know before anybody has signed in
 *     POST /admin/login         {"password": TEXT}: a session, a token for some hours
 *     POST /admin/api/METHOD    as POST /api/METHOD, with Authorization: Bearer SESSION
 *     GET  /admin/trace?...     as GET /debug/trace, with Authorization as above
 *     POST /admin/token         --dev: makes a token for clients of the claims in the body
 *
 * Every POST, and the trace, must have the header X-Roost-Console: a page of another origin can
 * send that to us only after a preflight request, which nobody answers. There is no cookie, so
 * nothing is sent without the page's doing. With --dev nobody signs in; instead Host must be of
 * loopback, so that a foreign name that points here (DNS rebinding) is refused. Which listeners
 * serve it is route.c's matter. Worker only, but for what is said. */
#ifndef CONSOLE_H
#define CONSOLE_H

#include "conn.h"
#include "jwt.h"

enum console_access {
    CONSOLE_OFF,      /* the page says how to switch it on */
    CONSOLE_PASSWORD, /* for who has signed in */
    CONSOLE_LOOPBACK, /* for everybody whose Host is of loopback, as long as there is no password */
};

struct console_options { /* a part of the settings (settings.h) */
    enum console_access access;
    const char *client_path;        /* of the Centrifuge protocol; NULL: not served */
    const struct jwt_rules *tokens; /* tokens are made with its first key; NULL: none are made */
};

/* console_init: of the first settings; borrows what o points to; before workers start.
 * console_close wipes secrets; no worker runs. */
void console_init(const struct console_options *o);
void console_close(void);

/* console_set_password: another one than before ends all sessions. Keeps a hash. Any thread. */
#define CONSOLE_PASSWORD_MAX 512 /* bytes */
void console_set_password(const void *bytes, size_t len);

/* console_has: is the path of the console? Then console_head answers the request's head, or returns
 * how much body is accepted; console_request handles the whole request. */
bool console_has(struct http_str path);
int64_t console_head(struct conn *c, const struct http_request *r);
void console_request(struct conn *c, const struct http_request *r, const char *body, size_t len);

#endif
