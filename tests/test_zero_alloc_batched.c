/* link: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free,--wrap=aligned_alloc */
/* link: -Wl,--wrap=mmap */
/* The tests of test_zero_alloc.c with every flush in a batch. */
#define ENGINE_BATCH_FROM 1
#include "test_zero_alloc.c"
