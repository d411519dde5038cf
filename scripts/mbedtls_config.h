/* mbedtls_config.h - what roost changes in mbedTLS 3.6's default configuration.
 *
 * Everything that includes an mbedTLS header must be compiled with
 *     -DMBEDTLS_USER_CONFIG_FILE='"roost_mbedtls_config.h"'
 * (the Makefile does), the name under which scripts/mbedtls.sh installs this file. */
#ifndef ROOST_MBEDTLS_CONFIG_H
#define ROOST_MBEDTLS_CONFIG_H

/* Added */
#define MBEDTLS_THREADING_C
#define MBEDTLS_THREADING_PTHREAD
#define MBEDTLS_PLATFORM_MEMORY /* count and pool allocations; tests make them fail */
#define MBEDTLS_ECDH_VARIANT_EVEREST_ENABLED
#define MBEDTLS_X509_REMOVE_INFO
#define MBEDTLS_PSA_ASSUME_EXCLUSIVE_BUFFERS /* no two threads ever share an input buffer */
#define MBEDTLS_MPI_WINDOW_SIZE 6
#define MBEDTLS_BLOCK_CIPHER_C /* GCM's key lies in its context: keying it anew allocates nothing */

#if defined(__x86_64__)
#define MBEDTLS_SHA256_PROCESS_ALT /* sha256_ni.c */
#elif defined(__aarch64__)
#define MBEDTLS_SHA256_USE_ARMV8_A_CRYPTO_IF_PRESENT
#endif

/* Datagram TLS */
#undef MBEDTLS_SSL_PROTO_DTLS
#undef MBEDTLS_SSL_DTLS_ANTI_REPLAY
#undef MBEDTLS_SSL_DTLS_CLIENT_PORT_REUSE
#undef MBEDTLS_SSL_DTLS_CONNECTION_ID
#undef MBEDTLS_SSL_DTLS_CONNECTION_ID_COMPAT
#undef MBEDTLS_SSL_DTLS_HELLO_VERIFY
#undef MBEDTLS_SSL_COOKIE_C
#undef MBEDTLS_TIMING_C

/* TLS options that nobody shall be able to negotiate. MAX_FRAGMENT_LENGTH would be a limit that our
 * own record layer had to honour; together with RENEGOTIATION it is CVE-2026-115488. */
#undef MBEDTLS_SSL_MAX_FRAGMENT_LENGTH
#undef MBEDTLS_SSL_RENEGOTIATION
#undef MBEDTLS_SSL_ENCRYPT_THEN_MAC
#undef MBEDTLS_SSL_CONTEXT_SERIALIZATION
#undef MBEDTLS_SSL_KEYING_MATERIAL_EXPORT
#undef MBEDTLS_SSL_CACHE_C

/* Key exchange: ECDHE with a certificate, and TLS 1.3 tickets with ECDHE; nothing else */
#undef MBEDTLS_KEY_EXCHANGE_PSK_ENABLED
#undef MBEDTLS_KEY_EXCHANGE_DHE_PSK_ENABLED
#undef MBEDTLS_KEY_EXCHANGE_ECDHE_PSK_ENABLED
#undef MBEDTLS_KEY_EXCHANGE_RSA_PSK_ENABLED
#undef MBEDTLS_KEY_EXCHANGE_RSA_ENABLED
#undef MBEDTLS_KEY_EXCHANGE_DHE_RSA_ENABLED
#undef MBEDTLS_KEY_EXCHANGE_ECDH_ECDSA_ENABLED
#undef MBEDTLS_KEY_EXCHANGE_ECDH_RSA_ENABLED
#undef MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_PSK_ENABLED
#undef MBEDTLS_DHM_C
#undef MBEDTLS_ECJPAKE_C

/* Curves: secp256r1, secp384r1, secp521r1 and curve25519 stay */
#undef MBEDTLS_ECP_DP_SECP192R1_ENABLED
#undef MBEDTLS_ECP_DP_SECP224R1_ENABLED
#undef MBEDTLS_ECP_DP_SECP192K1_ENABLED
#undef MBEDTLS_ECP_DP_SECP224K1_ENABLED
#undef MBEDTLS_ECP_DP_SECP256K1_ENABLED
#undef MBEDTLS_ECP_DP_BP256R1_ENABLED
#undef MBEDTLS_ECP_DP_BP384R1_ENABLED
#undef MBEDTLS_ECP_DP_BP512R1_ENABLED
#undef MBEDTLS_ECP_DP_CURVE448_ENABLED

/* Ciphers: AES-GCM and ChaCha20-Poly1305 stay */
#undef MBEDTLS_ARIA_C
#undef MBEDTLS_CAMELLIA_C
#undef MBEDTLS_CCM_C
#undef MBEDTLS_CIPHER_MODE_CBC
#undef MBEDTLS_CIPHER_MODE_CFB
#undef MBEDTLS_CIPHER_MODE_CTR
#undef MBEDTLS_CIPHER_MODE_OFB
#undef MBEDTLS_CIPHER_MODE_XTS
#undef MBEDTLS_CIPHER_PADDING_ONE_AND_ZEROS
#undef MBEDTLS_CIPHER_PADDING_PKCS7
#undef MBEDTLS_CIPHER_PADDING_ZEROS
#undef MBEDTLS_CIPHER_PADDING_ZEROS_AND_LEN
#undef MBEDTLS_CMAC_C
#undef MBEDTLS_DES_C
#undef MBEDTLS_NIST_KW_C
#undef MBEDTLS_PADLOCK_C

/* Hashes: SHA-1 (old certificate chains, the WebSocket handshake), SHA-256, SHA-384/512 stay */
#undef MBEDTLS_MD5_C
#undef MBEDTLS_RIPEMD160_C
#undef MBEDTLS_SHA224_C
#undef MBEDTLS_SHA3_C

/* Formats: PEM and DER keys and certificates stay, and writing them (`roost serve --dev`) */
#undef MBEDTLS_LMS_C
#undef MBEDTLS_PKCS12_C
#undef MBEDTLS_PKCS5_C
#undef MBEDTLS_PKCS7_C
#undef MBEDTLS_X509_CRL_PARSE_C
#undef MBEDTLS_X509_CSR_PARSE_C
#undef MBEDTLS_X509_CSR_WRITE_C

/* The rest of what a server does not need */
#undef MBEDTLS_DEBUG_C
#undef MBEDTLS_GENPRIME
#undef MBEDTLS_NET_C
#undef MBEDTLS_PK_RSA_ALT_SUPPORT
#undef MBEDTLS_PSA_CRYPTO_STORAGE_C
#undef MBEDTLS_PSA_ITS_FILE_C
#undef MBEDTLS_SELF_TEST
#undef MBEDTLS_VERSION_FEATURES

#if defined(MBEDTLS_USE_PSA_CRYPTO) || defined(MBEDTLS_SSL_VARIABLE_BUFFER_LENGTH) ||               \
    defined(MBEDTLS_SSL_RECORD_SIZE_LIMIT) || defined(MBEDTLS_SSL_EARLY_DATA)
#error "roost must not be built with these: see the comments above and docs/design.md"
#endif

#endif
