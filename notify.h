/* notify.h - tells a service manager how the server is: sd_notify(3) without its library.
 *
 * Main thread. */
#ifndef NOTIFY_H
#define NOTIFY_H

#include <stdint.h>

/* notify_open reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID from the environment and takes
 * them out of it. Without a manager nothing is sent, which is no error. */
void notify_open(void);
void notify_close(void);

/* notify sends lines such as READY=1, STATUS=... or STOPPING=1; it never waits. */
__attribute__((format(printf, 1, 2))) void notify(const char *format, ...);

/* notify_watchdog_ms: how often WATCHDOG=1 must be sent at least, 0 = never. */
int64_t notify_watchdog_ms(void);

#endif
