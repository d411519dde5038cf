/* The tests of test_pubsub_clients.c with every flush in a batch. */
#define ENGINE_BATCH_FROM 1
#include "test_pubsub_clients.c"
