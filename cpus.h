/* cpus.h - how many CPUs this process may use: the affinity mask and the cgroup's quota. Any
 * thread; reads files. */
#ifndef CPUS_H
#define CPUS_H

/* cpus_usable: at least 1. */
unsigned cpus_usable(void);

#endif
