/* The tests of test_backpressure.c with every flush in a batch. */
#define ENGINE_BATCH_FROM 1
#include "test_backpressure.c"
