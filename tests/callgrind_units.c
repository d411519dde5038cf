/* callgrind_units MODE N ROUNDS: runs one thing ROUNDS times inside measured(), whose instructions
 * tests/callgrind_units.sh counts with callgrind. Prints how many operations that were. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "mailbox.h"
#include "mem.h"
#include "wheel.h"

#define START (UINT32_MAX - 1000) /* the tick wraps on the way */
#define TICKS_AN_HOUR 450000u     /* of 8 ms */
#define PING_TICKS 3125u          /* 25 s */

static struct wheel wheel;
static struct wheel_timer *timers;
static struct mem_pool *pool;
static uint32_t n, rounds;
static uint64_t operations;

static uint32_t scatter(uint32_t i) /* a permutation with no pattern in it */
{
    return i * 2654435761u;
}

static void fire_once(struct wheel_timer *t, void *arg)
{
    (void)t;
    ++*(uint64_t *)arg;
}

static void fire_again(struct wheel_timer *t, void *arg)
{
    ++*(uint64_t *)arg;
    wheel_arm(&wheel, t, wheel.now + PING_TICKS);
}

static void arm_all(uint32_t from, uint32_t width)
{
    for (uint32_t i = 0; i < n; i++)
        wheel_arm(&wheel, &timers[i], START + from + scatter(i) % width);
}

/* Ticks in which nothing is due, deadlines 1 to 2 hours ahead. */
static void idle_ticks(void)
{
    uint64_t fired = 0;
    for (uint32_t i = 1; i <= rounds; i++) wheel_advance(&wheel, START + i, 0, fire_once, &fired);
    operations = rounds;
    if (fired) exit(1);
}

/* Every timer fires once in 25 s and arms itself again. */
static void pings(void)
{
    for (uint32_t i = 1; i <= rounds; i++)
        wheel_advance(&wheel, START + i, 0, fire_again, &operations);
}

static void arms(void)
{
    arm_all(0, PING_TICKS);
    operations = n;
}

static void allocs(void)
{
    mem_alloc(pool, n); /* so that its chunk never becomes empty */
    for (uint32_t i = 0; i < rounds; i++) mem_free(pool, mem_alloc(pool, n), n);
    operations = rounds;
}

static void frames(void)
{
    frame_new(pool, n);
    for (uint32_t i = 0; i < rounds; i++) frame_unref(frame_new(pool, n), 1);
    operations = rounds;
}

static void posts(void)
{
    static struct mailbox box;
    static struct post post[16];
    for (uint32_t i = 0; i < rounds; i += 16) {
        for (int k = 0; k < 16; k++) mailbox_push(&box, &post[k], &post[k]);
        for (struct post *p = mailbox_take(&box); p; p = p->next) operations++;
    }
}

static const struct {
    const char *name;
    void (*run)(void);
    uint32_t from, width; /* deadlines armed before, if width is not 0 */
} modes[] = {
    {"idle", idle_ticks, TICKS_AN_HOUR, TICKS_AN_HOUR},
    {"ping", pings, 1, PING_TICKS},
    {"arm", arms, 0, 0},
    {"alloc", allocs, 0, 0},
    {"frame", frames, 0, 0},
    {"post", posts, 0, 0},
};

__attribute__((noinline)) void measured(void (*run)(void));
void measured(void (*run)(void))
{
    run();
}

int main(int argc, char **argv)
{
    if (argc != 4) return 2;
    n = (uint32_t)strtoul(argv[2], NULL, 10);
    rounds = (uint32_t)strtoul(argv[3], NULL, 10);
    timers = calloc(n, sizeof *timers);
    pool = mem_pool_new();
    if (!timers || !pool) return 1;
    wheel_init(&wheel, START);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (strcmp(modes[i].name, argv[1])) continue;
        if (modes[i].width) arm_all(modes[i].from, modes[i].width);
        measured(modes[i].run);
        printf("%llu\n", (unsigned long long)operations);
        return 0;
    }
    return 2;
}
