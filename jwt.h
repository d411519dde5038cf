/* jwt.h - JSON Web Tokens, HS256 only (RFC 7515, 7519, 8725): verify, read the claims, make.
 *
 * Verification allocates nothing outside the caller's scratch and reads no clock. Any thread. */
#ifndef JWT_H
#define JWT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JWT_TOKEN_MAX 16384
#define JWT_KEYS_MAX 8
#define JWT_SUB_MAX 255 /* bytes of a user id */

struct jwt_key {
    const uint8_t *secret; /* an empty one never verifies anything */
    size_t secret_len;
    const char *kid; /* NULL: a key without a name, tried for tokens whose kid is absent or unknown
                        to us as well */
    int64_t until_s; /* wall clock, 0 = no end: the previous key's end date */
};

/* The keys and rules against which tokens are verified; immutable while in use; the caller owns the
 * memory pointed to. */
struct jwt_rules {
    struct jwt_key keys[JWT_KEYS_MAX];
    size_t key_count;
    const char *audience;      /* NULL = any */
    const char *issuer;        /* NULL = any */
    const char *user_id_claim; /* NULL = "sub" */
    int64_t leeway_s;          /* >= 0 */
    bool subscription; /* false: connection tokens, which must not have the claim channel; true:
                          subscription tokens, which must (protocol.md 5.2, 5.3), so that neither
                          passes for the other */
};

enum jwt_verdict {
    JWT_OK,
    JWT_INVALID, /* structure, algorithm, signature, claims of a wrong type, audience, issuer, crit
                  */
    JWT_EXPIRED, /* a good signature, but exp is past or nbf in the future */
};

#define JWT_PATTERNS_MAX 64
struct jwt_str { /* decoded, in the scratch; not terminated */
    const char *p;
    size_t len;
};

/* A subscription token's claim override: -1 absent, else false or true instead of the namespace's
 * option. */
struct jwt_override {
    int8_t presence, join_leave, force_push_join_leave, force_recovery, force_positioning;
};

#define JWT_SUBS_MAX 128
struct jwt_sub { /* a channel that the server subscribes the client to (protocol.md 5.2) */
    struct jwt_str channel;
    struct jwt_str info, data; /* JSON; p NULL = absent */
    struct jwt_override override;
};

/* What a token says. Strings live in the scratch given to jwt_verify. info and data are JSON as it
 * was sent, white space in it and all, or what b64info and b64data decode to, which win. */
struct jwt_claims {
    struct jwt_str sub;          /* user id, without control characters; len 0 = anonymous */
    int64_t exp_s, nbf_s, iat_s; /* wall clock, rounded so that a token never lives longer than it
                                    says; 0 = absent */
    bool has_exp, has_nbf, has_iat;
    /* roost: {"pub":[..],"sub":[..]} (design.md 3.2): exact names or a trailing '*'; absent = deny
     */
    struct jwt_str pub[JWT_PATTERNS_MAX], sub_to[JWT_PATTERNS_MAX];
    size_t pub_count, sub_to_count;
    struct jwt_str kid;
    bool has_expire_at;
    int64_t expire_at_s; /* when the connection or subscription ends instead of at exp; 0 = never */
    struct jwt_str info; /* of the connection, or of the client in the channel; p NULL = absent */
    /* of a connection token: from subs, or if that is absent or empty from channels, then without
     * options; no channel twice */
    struct jwt_sub subs[JWT_SUBS_MAX];
    size_t subs_count;
    /* of a subscription token */
    struct jwt_str channel, client; /* client: id of the connection; len 0 = any */
    struct jwt_str data;            /* p NULL = absent */
    struct jwt_override override;
    /* raw text of the claims */
    struct jwt_str payload_json;
};

/* jwt_verify checks token (len bytes) by rules at wall-clock now_s. Order: size, three strict
 * base64url parts, header is a JSON object with alg exactly HS256 and no crit, claims are a JSON
 * object without duplicate members and with right types, signature (constant time), aud, iss,
 * channel, then nbf and exp; so a forged expired token is invalid. iat and jti are checked for
 * their type only, as protocol.md 5.1 says. null is absent in what protocol.md 5 adds to RFC 7519,
 * but for channel; claims of the other kind of token are not looked at. Fills *claims whenever the
 * signature is good (JWT_OK and JWT_EXPIRED), else zeroes it. *why (NULL with JWT_OK) is a static
 * text for the log that never holds any part of the token. scratch: at least JWT_SCRATCH bytes,
 * 8-byte aligned; holds no secret. */
#define JWT_SCRATCH (64u * 1024)
#define JWT_WHY_SIGNATURE "signature does not verify" /* *why when all before was right */
enum jwt_verdict jwt_verify(const struct jwt_rules *rules, const char *token, size_t len,
                            int64_t now_s, struct jwt_claims *claims, void *scratch,
                            size_t scratch_len, const char **why);

/* jwt_pattern_match: does name match pattern (exact, or a prefix when it ends in '*')?
 * jwt_may: does it match one of them? */
bool jwt_pattern_match(struct jwt_str pattern, const char *name, size_t len);
bool jwt_may(const struct jwt_str *patterns, size_t count, const char *name, size_t len);

/* jwt_make signs claims_json (an object's text) with key and writes the token with a NUL; returns
 * its length or -1 (too large, or no secret). */
int64_t jwt_make(char *out, size_t cap, const struct jwt_key *key, const char *claims_json,
                 size_t len);

/* base64url without padding (RFC 4648 section 5), strict: one text for each value, so no padding,
 * no white space, unused bits zero. Decoding writes at most len * 3 / 4 bytes and returns how many,
 * or -1; encoding writes JWT_BASE64URL_LEN(len) characters, no NUL, and returns that. */
#define JWT_BASE64URL_LEN(len) (((len)*4 + 2) / 3)
int64_t jwt_base64url_decode(uint8_t *out, const char *text, size_t len);
size_t jwt_base64url_encode(char *out, const uint8_t *bytes, size_t len);

#endif
