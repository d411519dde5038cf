#include "auth.h"

#include <string.h>
#include <strings.h>

static bool find_bearer(const struct http_request *r, struct http_str *token)
{
    static const char scheme[] = "bearer ";
    const size_t n = sizeof scheme - 1;
    struct http_str a = r->authorization;
    if (!a.p || a.len <= n || strncasecmp(a.p, scheme, n) != 0) return false;
    *token = (struct http_str){a.p + n, a.len - n};
    while (token->len && token->p[0] == ' ') token->p++, token->len--;
    return true;
}

/* The list may be spread over several header lines (RFC 9110 section 5.3). */
static bool find_subprotocol(const struct http_request *r, struct http_str *token)
{
    const struct http_str *line;
    struct http_str element;
    bool offered = false;
    for (size_t n = 0; (line = http_header(r, "Sec-WebSocket-Protocol", n)); n++) {
        struct http_str rest = *line;
        while (http_list_next(&rest, &element)) {
            if (offered) {
                *token = element;
                return true;
            }
            offered = http_str_is(element, AUTH_SUBPROTOCOL);
        }
    }
    *token = (struct http_str){"", 0};
    return offered;
}

void auth_check(const struct auth_options *o, const struct http_request *r, int64_t now_s,
                void *scratch, size_t scratch_len, struct auth *out)
{
    struct http_str token = {0};
    memset(out, 0, sizeof *out);
    bool found = find_bearer(r, &token);
    if (!found) found = out->by_subprotocol = find_subprotocol(r, &token);
    if (!found && o->token_query) found = http_query_get(r->query, "token", &token);
    if (!found) {
        out->everything = o->insecure;
        out->verdict = o->anonymous || o->insecure ? AUTH_OK : AUTH_MISSING;
        out->why = "no token: send Authorization: Bearer TOKEN";
        return;
    }
    const char *why = "";
    out->has_token = true;
    out->token = token;
    switch (jwt_verify(&o->rules, token.p, token.len, now_s, &out->claims, scratch, scratch_len,
                       &why)) {
    case JWT_OK: out->verdict = AUTH_OK; break;
    case JWT_EXPIRED: out->verdict = AUTH_EXPIRED; break;
    case JWT_INVALID: out->verdict = AUTH_INVALID; break;
    }
    out->why = why;
    if (out->verdict == AUTH_OK && o->no_anonymous_tokens && out->claims.sub.len == 0) {
        out->verdict = AUTH_INVALID;
        out->why = "the token has no subject";
    }
    if (out->verdict == AUTH_OK) out->everything = o->insecure;
}
