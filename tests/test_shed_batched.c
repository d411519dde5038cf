/* The tests of test_shed.c with every flush in a batch. */
#define ENGINE_BATCH_FROM 1
#include "test_shed.c"
