/* The tests of test_conn_tls.c with every flush in a batch. */
#define ENGINE_BATCH_FROM 1
#include "test_conn_tls.c"
