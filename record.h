/* record.h - TLS records without a TLS library's session: RFC 8446 section 5 (TLS 1.3) and RFC 5246
 * section 6.2.3.3 with RFC 5288 and RFC 7905 (TLS 1.2, AEAD suites only), after the handshake.
 *
 * A struct record is what two ends share after a handshake: traffic keys and sequence numbers, as
 * plain bytes without pointers, of a size that goes by version and suite. It may be moved, written
 * down and read back by another process. The expanded key of a record is made anew for each in
 * scratch memory of the thread, which records of all connections share.
 *
 * Who reads and writes sockets is the caller; records come and go whole. Nothing is
 * allocated here, but by HKDF when keys are made or updated.
 * Threads: a record belongs to one thread at a time. Sizes are bytes. */
#ifndef RECORD_H
#define RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "aead.h"

enum record_version { RECORD_TLS12 = 2, RECORD_TLS13 = 3 };
enum record_direction { RECORD_IN, RECORD_OUT };

struct record; /* record_size bytes, 8-byte aligned */

#define RECORD_STATE_MAX 208u   /* of TLS 1.3 with AES-256; 144 with AES-128, 64 in TLS 1.2 */
#define RECORD_PLAIN_MAX 16384u /* of one record: RFC 8446 section 5.1 */
#define RECORD_HEADER 5u
#define RECORD_MAX (RECORD_HEADER + RECORD_PLAIN_MAX + 256u) /* a whole one, as received */
#define RECORD_OVERHEAD                                                                            \
    64u /* that a record takes beside its plain bytes, at most, with room for a KeyUpdate of ours  \
           in front of it; padding apart */
#define RECORD_REPLY_MAX 128u /* what record_open may have to say */

struct record_keys { /* of a fresh handshake, for record_init; the caller wipes it */
    enum record_version version;
    enum aead suite;
    bool client; /* whose end this is: a client ignores NewSessionTicket messages */
    /* by enum record_direction. 1.3: the application traffic secrets (32 bytes, 48 with
     * AEAD_AES_256_GCM). 1.2: not used. */
    uint8_t secret[2][48];
    /* 1.2: write key (16 or 32 bytes) and the implicit part of the nonce (4 bytes; ChaCha20: 12) of
     * the key block (RFC 5246 section 6.3). 1.3: not used. */
    uint8_t key[2][32], iv[2][12];
    uint64_t seq[2]; /* of the next record */
};

size_t record_size(enum record_version version, enum aead suite);

/* record_init fills r (record_size bytes); false: HKDF failed. */
bool record_init(struct record *r, const struct record_keys *k);
void record_wipe(struct record *r);

/* record_valid: may these bytes, read back from elsewhere, be used as a record? For len bytes of
 * which the size must be right for what they say they are. */
bool record_valid(const void *bytes, size_t len);

/* record_length tells from the first bytes of a record, RECORD_HEADER are enough, how many it has
 * in all, header included; 0: that needs more bytes; -1: it is longer than a record may be
 * (record_open of the header alone then says so). */
int record_length(const struct record *r, const uint8_t *bytes, size_t len);

enum record_got {
    RECORD_DATA,    /* n plain bytes, possibly 0 */
    RECORD_NOTHING, /* something between the two ends that is not for the layer above */
    RECORD_CLOSED,  /* close_notify; whatever comes behind it is not looked at */
    RECORD_FAILED,  /* why says it; the alert is in reply. Nothing can be opened or sealed any more
                     */
};

/* record_open opens one whole record of len bytes; the plain bytes are put into plain, which has
 * room for RECORD_MAX bytes (all of which may be written to) and may be record itself. *n = how
 * many there are. reply has room for RECORD_REPLY_MAX bytes; *reply_len of them are to be sent, in
 * front of whatever is sealed later: an alert, an answer to a KeyUpdate. *why: static text, if
 * RECORD_FAILED. */
enum record_got record_open(struct record *r, const uint8_t *record, size_t len, uint8_t *plain,
                            size_t *n, uint8_t *reply, size_t *reply_len, const char **why);

/* record_seal puts up to RECORD_PLAIN_MAX of the bytes that count pieces describe into one record
 * in out (cap >= RECORD_OVERHEAD + 1; as many as fit), which must not overlap with them; *used of
 * them are taken. A KeyUpdate of ours may come in front of it. Returns the bytes to be sent, wholly
 * and in order; 0: nothing can be sealed any more (failed, said goodbye, sequence numbers are used
 * up). */
size_t record_seal(struct record *r, const struct iovec *pieces, unsigned count, size_t *used,
                   uint8_t *out, size_t cap);

/* record_goodbye puts close_notify into out (RECORD_OVERHEAD bytes), once; nothing can be sealed
 * afterwards. Returns its length; 0: it was said, or the record has failed. */
size_t record_goodbye(struct record *r, uint8_t *out);

/* record_alert_text says what a fatal alert (RFC 8446 section 6) from the peer means. Static text.
 */
const char *record_alert_text(int description);

#endif
