#include "tls_pair.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

/* Certificates: the ones that --dev makes, and files that can not be used and what is said of them.
 */

static char dir[] = "/tmp/roost-cert-XXXXXX";

static const char *path(const char *name)
{
    static char paths[16][128];
    static unsigned next;
    char *p = paths[next++ % 16];
    sprintf(p, "%s/%s", dir, name);
    return p;
}

static void test_make_certificate(void **state)
{
    (void)state;
    struct stat st;
    const char *cert = path("dev.pem"), *key = path("dev.key");
    char err[256] = "x";

    assert_int_equal(tls_make_certificate(cert, key), 0);
    assert_int_equal(stat(cert, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(key, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    struct tls_server *s = tls_server_new(&(struct tls_files){cert, key}, 1, err, sizeof err);
    assert_string_equal(err, "");
    struct tls_client *c = tls_client_new(cert, false, err, sizeof err);
    static const char *const hosts[] = {"localhost", "127.0.0.1", "::1"};
    for (size_t i = 0; i < 3; i++) {
        struct pair *p = new_pair(c, s, hosts[i]);
        if (!handshake(p)) fail_msg("%s: %s", hosts[i], tls_why(p->client.t));
        free_pair(p);
    }
    struct pair *p = new_pair(c, s, "example.com");
    assert_false(handshake(p));
    free_pair(p);
    int days =
        s->current->pairs[0].chain.valid_to.year - s->current->pairs[0].chain.valid_from.year;
    assert_int_equal(days, 10);
    assert_int_equal(s->current->pairs[0].chain.ca_istrue, 0);
    tls_client_delete(c);
    tls_server_delete(s);

    /* Never overwritten, and nothing half is left when one of the two is there. */
    assert_int_equal(tls_make_certificate(cert, key), -1);
    assert_int_equal(errno, EEXIST);
    assert_int_equal(tls_make_certificate(cert, path("new.key")), -1);
    assert_int_equal(errno, EEXIST);
    assert_int_equal(access(path("new.key"), F_OK), -1);
    assert_int_equal(tls_make_certificate(path("new.pem"), key), -1);
    assert_int_equal(access(path("new.pem"), F_OK), -1);
    assert_int_equal(tls_make_certificate(path("no/new.pem"), path("new.key")), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(access(path("new.key"), F_OK), -1);
    unlink(cert);
    unlink(key);
    assert_int_equal(rmdir(dir), 0); /* no temporary file is left either */
    assert_int_equal(mkdir(dir, 0700), 0);
}

/* Two runs have different keys and serial numbers. */
static void test_certificates_differ(void **state)
{
    (void)state;
    char err[256];
    struct tls_server *s[2];
    const char *cert[2] = {path("a.pem"), path("b.pem")}, *key[2] = {path("a.key"), path("b.key")};

    for (int i = 0; i < 2; i++) {
        assert_int_equal(tls_make_certificate(cert[i], key[i]), 0);
        s[i] = tls_server_new(&(struct tls_files){cert[i], key[i]}, 1, err, sizeof err);
        assert_non_null(s[i]);
    }
    assert_memory_not_equal(s[0]->current->pairs[0].chain.serial.p,
                            s[1]->current->pairs[0].chain.serial.p,
                            s[0]->current->pairs[0].chain.serial.len);
    assert_memory_not_equal(s[0]->current->pairs[0].chain.pk_raw.p,
                            s[1]->current->pairs[0].chain.pk_raw.p,
                            s[0]->current->pairs[0].chain.pk_raw.len);
    for (int i = 0; i < 2; i++) {
        tls_server_delete(s[i]);
        unlink(cert[i]);
        unlink(key[i]);
    }
}

static const char encrypted_pkcs8[] =
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
static const char encrypted_sec1[] =
    "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
    "DEK-Info: AES-128-CBC,00\n\nAA==\n-----END EC PRIVATE KEY-----\n";
static const char ed25519[] = /* RFC 8410 section 10.3 */
    "-----BEGIN PRIVATE "
    "KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
    "-----END PRIVATE KEY-----\n";
static const char broken[] = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
static const char der[] = "\x30\x82\x01\x0a\x02\x82\x01\x01";

/* Made once by openssl: 1024 bits. */
static const char rsa1024_cert_pem[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIICHDCCAYWgAwIBAgIUVat3FHinyJ3c55I56cCvujCFjFcwDQYJKoZIhvcNAQEL\n"
    "BQAwFDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNDA0NTg0NVoYDzIxMjYx\n"
    "MDMxMDQ1ODQ1WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwgZ8wDQYJKoZIhvcNAQEB\n"
    "BQADgY0AMIGJAoGBAKJCrMpVxWIzCPz+U0UYRANCil2XA562LNoHDctug/NaMgAr\n"
    "2Ijl9SLc3oFxlruQyeujWfJq9FP2us1Sm/R+RurqobtL4HQnzP348ApFCVdCSFOX\n"
    "uDuGBOgBMKAJO5mOuWr5N+MSHO7SFVlbI/NNZrawVv5C812tI2El+ZkqtG/xAgMB\n"
    "AAGjaTBnMB0GA1UdDgQWBBT6WyHxErnk19RKqe+MwcM6S+nQSjAfBgNVHSMEGDAW\n"
    "gBT6WyHxErnk19RKqe+MwcM6S+nQSjAPBgNVHRMBAf8EBTADAQH/MBQGA1UdEQQN\n"
    "MAuCCWxvY2FsaG9zdDANBgkqhkiG9w0BAQsFAAOBgQAbu1NI57iUhmNyBktfD9+s\n"
    "oNw9voFPqL5spthV0Rc7QavFtuW/F+yLeUxFJhHUcFXC6a7mTTz0EjVVU2sYNbT7\n"
    "OvbXsjYpPI1fNWNTal7akfl3wzAiAZlRKAUaO877v3NwE+sLPxq/DtV558hKqFuQ\n"
    "YbRbB2XiTg10vpONMQfVrg==\n"
    "-----END CERTIFICATE-----\n";
static const char rsa1024_key_pem[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIICdwIBADANBgkqhkiG9w0BAQEFAASCAmEwggJdAgEAAoGBAKJCrMpVxWIzCPz+\n"
    "U0UYRANCil2XA562LNoHDctug/NaMgAr2Ijl9SLc3oFxlruQyeujWfJq9FP2us1S\n"
    "m/R+RurqobtL4HQnzP348ApFCVdCSFOXuDuGBOgBMKAJO5mOuWr5N+MSHO7SFVlb\n"
    "I/NNZrawVv5C812tI2El+ZkqtG/xAgMBAAECgYArW3Wge1rK6qg0MiE+DUXfOSCP\n"
    "8ZJeDn/dopTlDxrjI+7IbO7nZcsjDbHHFPsaE45hEL0wMbQn233+71wM8NEx952t\n"
    "AJjL558NFis23rNzYjPK51TdVgdA+2k/pTkUzjXS/djcWgcJKM0E2/lT333v/8IN\n"
    "ZN9Nd3Mx1FrMtx1iAQJBANBe4tuDy+OshmjtX0gKQSx9EJE5/nLEj90kwalr1+zi\n"
    "S9DSVX9VlbGTN4hZKyXlZ2siw7gqokBLXhAEfWN6P0kCQQDHWZU4BmaI91luNTug\n"
    "GwGnSjFv++PNIdXSRE9eZcWAeLoPjB0kzDahLZzWrYwH5w/rAb+lJVIwmxAwybR8\n"
    "HaNpAkEAqPsKRrMPekfDiPxXtPh7+jRCZ0P80d4OPW09kMPgjD7I9UReCbHCgAu/\n"
    "kVee4lC0GfJLfuM0SafVVHAPr8jH4QJBAIg6zeBVb2iWMAVCV5bYHc8mwpYWetxK\n"
    "DQb+K4cE4W0kE3Jge+ITtBl9RDroqlMUMiqVLVQ8JuiUbwIINVDEKFECQAu4EK/C\n"
    "up76bxAEo7ELv0IZmg9qpLutD8/0MTAdPS6kNcgQhIRo94bsmWQ7ElQarwv40J14\n"
    "1/oQI+acPVUHwiY=\n"
    "-----END PRIVATE KEY-----\n";

static void refuse(const char *cert, const char *key, const char *words)
{
    char err[512] = "";
    struct tls_memory before = tls_memory();
    struct tls_server *s = tls_server_new(&(struct tls_files){cert, key}, 1, err, sizeof err);

    if (s) fail_msg("accepted, expected: %s", words);
    if (!strstr(err, words)) fail_msg("%s; expected: %s", err, words);
    assert_null(strchr(err, '\n'));
    assert_int_equal(tls_memory().live, before.live);
    char tiny[8]; /* whatever is said fits */
    assert_null(tls_server_new(&(struct tls_files){cert, key}, 1, tiny, sizeof tiny));
    assert_int_equal(strlen(tiny), sizeof tiny - 1);
}

static void test_refused_files(void **state)
{
    (void)state;
    struct cert_files good, other, client_only;
    const char *file = path("file");

    make_files(&good, &(struct cert_spec){0});
    make_files(&other, &(struct cert_spec){.rsa = true});
    make_files(&client_only, &(struct cert_spec){.ext_usage = MBEDTLS_OID_CLIENT_AUTH});
    refuse(path("none"), good.key, "No such file");
    refuse(good.cert, path("none"), "No such file");
    refuse(dir, good.key, "Is a directory");
    refuse(good.cert, dir, "Is a directory");
    refuse(good.key, good.cert, "are the two exchanged?");
    refuse(good.cert, good.cert, "holds no private key");
    refuse(good.cert, other.key, "does not belong");
    refuse(other.cert, good.key, "does not belong");
    refuse(client_only.cert, client_only.key, "serverAuth");
    write_file(file, "", 0);
    refuse(file, good.key, "is empty");
    refuse(good.cert, file, "is empty");
    write_file(file, "hello\n", 6);
    refuse(file, good.key, "not PEM");
    refuse(good.cert, file, "not PEM");
    write_file(file, der, sizeof der - 1);
    refuse(file, good.key, "openssl x509 -inform DER");
    refuse(good.cert, file, "openssl pkey -inform DER");
    write_file(file, broken, sizeof broken - 1);
    refuse(file, good.key, "certificate");
    write_file(file, encrypted_pkcs8, sizeof encrypted_pkcs8 - 1);
    refuse(good.cert, file, "is encrypted");
    write_file(file, encrypted_sec1, sizeof encrypted_sec1 - 1);
    refuse(good.cert, file, "is encrypted");
    write_file(file, ed25519, sizeof ed25519 - 1);
    refuse(good.cert, file, "Ed25519");
    refuse("/dev/zero", good.key, "too large");
    unlink(file);
    remove_files(&good);
    remove_files(&other);
    remove_files(&client_only);
}

static void test_weak_keys(void **state)
{
    (void)state;
    struct cert_files curve384;
    mbedtls_ecp_group_id p384 = MBEDTLS_ECP_DP_SECP384R1;
    char err[256];

    make_files(&curve384, &(struct cert_spec){.curve = &p384});
    struct tls_server *s =
        tls_server_new(&(struct tls_files){curve384.cert, curve384.key}, 1, err, sizeof err);
    if (!s) fail_msg("P-384: %s", err);
    tls_server_delete(s);
    remove_files(&curve384);

    write_file(path("weak.pem"), rsa1024_cert_pem, sizeof rsa1024_cert_pem - 1);
    write_file(path("weak.key"), rsa1024_key_pem, sizeof rsa1024_key_pem - 1);
    refuse(path("weak.pem"), path("weak.key"), "1024 bits");
    unlink(path("weak.pem"));
    unlink(path("weak.key"));
}

static void test_warnings(void **state)
{
    (void)state;
    struct cert_files old, early, fine;
    char err[256];

    make_files(&old, &(struct cert_spec){.to = "20210203000000"});
    struct tls_server *s =
        tls_server_new(&(struct tls_files){old.cert, old.key}, 1, err, sizeof err);
    assert_non_null(s);
    assert_non_null(strstr(err, "expired on 2021-02-03"));
    tls_server_delete(s);
    remove_files(&old);

    make_files(&early, &(struct cert_spec){.from = "20490101000000"});
    s = tls_server_new(&(struct tls_files){early.cert, early.key}, 1, err, sizeof err);
    assert_non_null(s);
    assert_non_null(strstr(err, "not valid before 2049-01-01"));
    tls_server_delete(s);
    remove_files(&early);

    make_files(&fine, &(struct cert_spec){0});
    assert_int_equal(chmod(fine.key, 0604), 0);
    s = tls_server_new(&(struct tls_files){fine.cert, fine.key}, 1, err, sizeof err);
    assert_non_null(s);
    assert_non_null(strstr(err, "can be read by everybody"));
    tls_server_delete(s);
    assert_int_equal(chmod(fine.key, 0600), 0);
    s = tls_server_new(&(struct tls_files){fine.cert, fine.key}, 1, err, sizeof err);
    assert_string_equal(err, "");
    tls_server_delete(s);
    remove_files(&fine);
}

static void test_trust(void **state)
{
    (void)state;
    char err[256];
    struct cert_files files;

    assert_null(tls_client_new(path("none"), false, err, sizeof err));
    assert_non_null(strstr(err, "No such file"));
    make_files(&files, &(struct cert_spec){0});
    assert_null(tls_client_new(files.key, false, err, sizeof err));
    assert_non_null(strstr(err, "holds no certificate"));

    /* $SSL_CERT_FILE, as every other program has it. */
    setenv("SSL_CERT_FILE", files.cert, 1);
    struct tls_client *c = tls_client_new(NULL, false, err, sizeof err);
    assert_non_null(c);
    struct tls_server *s = new_server(&files);
    struct pair *p = new_pair(c, s, "localhost");
    assert_true(handshake(p));
    free_pair(p);
    tls_client_delete(c);
    setenv("SSL_CERT_FILE", path("none"), 1);
    assert_null(tls_client_new(NULL, false, err, sizeof err));
    c = tls_client_new(NULL, true, err, sizeof err); /* nothing is read */
    assert_non_null(c);
    tls_client_delete(c);
    unsetenv("SSL_CERT_FILE");

    char long_host[1000];
    memset(long_host, 'a', sizeof long_host);
    long_host[sizeof long_host - 1] = '\0';
    c = new_client(&files);
    assert_null(tls_connect(c, long_host));
    tls_client_delete(c);
    tls_server_delete(s);
    remove_files(&files);
}

/* Start-up without memory: a line says so, nothing is lost. */
static void test_out_of_memory(void **state)
{
    (void)state;
    struct cert_files files;
    char err[256];

    make_files(&files, &(struct cert_spec){0});
    uint64_t calls = tls_memory().calls;
    tls_server_delete(new_server(&files));
    tls_client_delete(new_client(&files));
    uint64_t allocations = (tls_memory().calls - calls) / 2;
    int64_t live = tls_memory().live;
    for (uint64_t k = 1; k <= allocations; k += 1 + (uint64_t)random() % (slow() ? 499 : 49)) {
        err[0] = '\0';
        tls_memory_fail_at(k);
        struct tls_server *s =
            tls_server_new(&(struct tls_files){files.cert, files.key}, 1, err, sizeof err);
        if (!s) assert_true(err[0] != '\0');
        struct tls_client *c = tls_client_new(files.cert, false, err, sizeof err);
        if (!c) assert_true(err[0] != '\0');
        if (k % 8 == 0 && tls_make_certificate(path("c.pem"), path("c.key")) == 0) {
            unlink(path("c.pem"));
            unlink(path("c.key"));
        }
        tls_memory_fail_at(0);
        tls_client_delete(c);
        tls_server_delete(s);
        int64_t lost = tls_memory().live - live; /* see test_tls_hostile.c */
        assert_true(lost >= 0 && lost <= 3);
        live += lost;
    }
    remove_files(&files);
}

static void test_random_bytes(void **state)
{
    (void)state;
    uint8_t a[1000] = {0}, b[1000] = {0};
    uint8_t seen[256] = {0};
    int values = 0;

    random_bytes(a, 0);
    random_bytes(a, sizeof a);
    random_bytes(b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    for (size_t i = 0; i < sizeof a; i++)
        if (!seen[a[i]]++) values++;
    assert_true(values > 200); /* 251 are expected */
}

static void test_library_version(void **state)
{
    (void)state;
    assert_int_equal(strncmp(tls_library_version(), "mbedTLS 3.6.", 12), 0);
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_make_certificate), cmocka_unit_test(test_certificates_differ),
        cmocka_unit_test(test_refused_files),    cmocka_unit_test(test_weak_keys),
        cmocka_unit_test(test_warnings),         cmocka_unit_test(test_trust),
        cmocka_unit_test(test_out_of_memory),    cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_library_version),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
