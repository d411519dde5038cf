#include "user_limit.h"

#include <errno.h>

#include "quota.h"
#include "tls.h"
#include "users.h"

static struct quota users;

void user_limit_open(int64_t limit)
{
    struct hash_key key;
    random_bytes(&key, sizeof key);
    quota_open(&users, limit, &key);
}

void user_limit_set(int64_t limit)
{
    quota_set(&users, limit);
}

void user_limit_close(void)
{
    quota_close(&users);
}

bool user_limit_enter(struct conn *c)
{
    if (!quota_is_on(&users) || !c->user->len) return true;
    const bool entered = quota_enter(&users, c->worker->pool, c->user->name, c->user->len);
    if (entered)
        c->flags |= CONN_USER_COUNTED;
    else if (errno == ENOSPC)
        conn_limit_met(c, METRIC_REFUSED_USER, "client.user_connection_limit");
    return entered;
}

void user_limit_leave(struct conn *c)
{
    if (!(c->flags & CONN_USER_COUNTED)) return;
    c->flags &= ~(uint32_t)CONN_USER_COUNTED;
    quota_leave(&users, c->worker->pool, c->user->name, c->user->len);
}
