/* SPDX-License-Identifier: Apache-2.0
 * TLS: with OpenSSL as a client of this process, and with curl. */
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "support/tls_files.h"
#include "unit/net/echo.h"

static char cert[256], key[256];

static void make_files(const char *name) {
    snprintf(cert, sizeof cert, "%s/cert.pem", test_tmpdir());
    snprintf(key, sizeof key, "%s/key.pem", test_tmpdir());
    TRUE_(tls_files_make(cert, key, name, 10));
}

static Echo *start(HttpConfig c) {
    make_files("first");
    c.tls_cert = cert;
    c.tls_key = key;
    return echo_start(c);
}

/* One client; s is NULL when the handshake failed. */
typedef struct Client {
    int fd;
    SSL_CTX *ctx;
    SSL *s;
} Client;

static Client dial(int port, int max_version, const char *alpn) {
    Client c = {.fd = hc_connect(port), .ctx = SSL_CTX_new(TLS_client_method())};
    SSL_CTX_set_security_level(c.ctx, 0); /* the server is to refuse, not this side */
    SSL_CTX_set_min_proto_version(c.ctx, 0);
    if (max_version) SSL_CTX_set_max_proto_version(c.ctx, max_version);
    c.s = SSL_new(c.ctx);
    SSL_set_fd(c.s, c.fd);
    if (alpn) SSL_set_alpn_protos(c.s, (const unsigned char *)alpn, (unsigned)strlen(alpn));
    if (SSL_connect(c.s) == 1) return c;
    SSL_free(c.s);
    c.s = NULL;
    return c;
}

static void hang_up(Client *c) {
    SSL_free(c->s);
    SSL_CTX_free(c->ctx);
    close(c->fd);
}

/* Send, read up to the end of a small answer. */
static const char *ask(Client *c, const char *text) {
    static char buf[8192];
    int n = 0;
    buf[0] = '\0';
    if (SSL_write(c->s, text, (int)strlen(text)) <= 0) return buf;
    while (n < (int)sizeof buf - 1) {
        int k = SSL_read(c->s, buf + n, (int)sizeof buf - 1 - n);
        if (k <= 0) break;
        buf[n += k] = '\0';
        const char *len = strstr(buf, "Content-Length: "), *end = strstr(buf, "\r\n\r\n");
        if (len && end && n >= (int)(end + 4 - buf) + atoi(len + 16)) break;
    }
    return buf;
}

TEST(requests_over_tls) {
    Echo *e = start((HttpConfig){.hsts_s = 500});
    Client c = dial(e->port, 0, NULL);
    TRUE_(c.s != NULL);
    EQ_STR(SSL_get_version(c.s), "TLSv1.3");
    for (int i = 0; i < 5; i++) {
        const char *got = ask(&c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
        TRUE_(str_starts_with(got, "HTTP/1.1 200 OK\r\n"));
        TRUE_(str_ends_with(got, "\r\n\r\nhello"));
        TRUE_(strstr(got, "Strict-Transport-Security: max-age=500\r\n") != NULL);
    }
    TRUE_(str_ends_with(ask(&c, GET("/secure")), "yes"));
    const char *last = ask(&c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    TRUE_(str_starts_with(last, "HTTP/1.1 200"));
    char b;
    EQ(SSL_read(c.s, &b, 1), 0);
    EQ(SSL_get_error(c.s, 0), SSL_ERROR_ZERO_RETURN); /* it said goodbye: nothing was cut off */
    hang_up(&c);
    echo_stop(e);
}

TEST(versions_ciphers_and_protocols) {
    Echo *e = start((HttpConfig){0});
    Client c = dial(e->port, TLS1_2_VERSION, NULL);
    TRUE_(c.s != NULL);
    TRUE_(str_starts_with(SSL_get_cipher_name(c.s), "ECDHE-"));
    hang_up(&c);
    c = dial(e->port, TLS1_1_VERSION, NULL);
    TRUE_(c.s == NULL);
    hang_up(&c);
    const unsigned char *p = NULL;
    unsigned n = 0;
    c = dial(e->port, 0, "\x02h2\x08http/1.1");
    TRUE_(c.s != NULL);
    SSL_get0_alpn_selected(c.s, &p, &n);
    EQ(n, 8);
    EQ_MEM(p, "http/1.1", 8);
    hang_up(&c);
    c = dial(e->port, 0, "\x02h2");
    TRUE_(c.s == NULL);
    hang_up(&c);
    c = dial(e->port, TLS1_2_VERSION, NULL); /* a renegotiation is refused */
    TRUE_(c.s != NULL);
    SSL_renegotiate(c.s);
    TRUE_(SSL_do_handshake(c.s) != 1 || ask(&c, GET("/"))[0] == '\0' ||
          SSL_renegotiate_pending(c.s));
    hang_up(&c);
    echo_stop(e);
}

TEST(what_is_not_tls_is_closed) {
    Echo *e = start((HttpConfig){.limits = {.header_timeout_ms = 300}});
    int plain = hc_connect(e->port), silent = hc_connect(e->port);
    hc_ask(plain, &rep, GET("/"));
    EQ(rep.status, 0);
    TRUE_(hc_closed(plain, 2000));
    TRUE_(hc_closed(silent, 2000)); /* a handshake that does not begin */
    close(plain);
    close(silent);
    Client c = dial(e->port, 0, NULL);
    TRUE_(str_starts_with(ask(&c, GET("/")), "HTTP/1.1 200"));
    hang_up(&c);
    EQ(atomic_load(&e->n_served), 1);
    echo_stop(e);
}

static int g_reload; /* loop's thread, then read after set_done */
static _Atomic int reload_done;

static void reload(Echo *e) {
    Err why = {0};
    g_reload = (int)http_reload(e->http, &(HttpLimits){0}, NULL, NULL, &why);
    atomic_fetch_add(&reload_done, 1);
}

static int reload_now(Echo *e) {
    int before = atomic_load(&reload_done);
    http_wake(e->http);
    for (int i = 0; i < 5000 && atomic_load(&reload_done) == before; i++) usleep(1000);
    return g_reload;
}

static const char *name_seen(Echo *e) {
    static char name[64];
    Client c = dial(e->port, 0, NULL);
    name[0] = '\0';
    X509 *x = c.s ? SSL_get1_peer_certificate(c.s) : NULL;
    if (x) X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, name, sizeof name);
    X509_free(x);
    hang_up(&c);
    return name;
}

TEST(reload_takes_new_files_and_keeps_the_old_when_they_are_bad) {
    Echo *e = start((HttpConfig){0});
    e->on_wake = reload;
    EQ_STR(name_seen(e), "first");
    Client old = dial(e->port, 0, NULL);
    TRUE_(tls_files_make(cert, key, "second", 10));
    EQ(reload_now(e), OK);
    EQ_STR(name_seen(e), "second");
    TRUE_(str_starts_with(ask(&old, GET("/")), "HTTP/1.1 200")); /* goes on as it began */
    hang_up(&old);
    char other[256];
    snprintf(other, sizeof other, "%s/other.pem", test_tmpdir());
    TRUE_(tls_files_make(cert, other, "third", 10)); /* the key does not fit */
    EQ(reload_now(e), ERR_FORMAT);
    EQ_STR(name_seen(e), "second");
    EQ(unlink(cert), 0);
    EQ(reload_now(e), ERR_NOT_FOUND);
    EQ_STR(name_seen(e), "second");
    TRUE_(tls_files_make(cert, key, "fourth", 10));
    EQ(reload_now(e), OK);
    EQ_STR(name_seen(e), "fourth");
    echo_stop(e);
}

static void spill(const char *path, const char *text) {
    FILE *f = fopen(path, "wb");
    TRUE_(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

TEST(bad_files_are_named) {
    HttpServer *s = NULL;
    make_files("x");
    HttpConfig c = {.host = "127.0.0.1", .tls_cert = cert, .tls_key = "/nowhere/key.pem"};
    FAILS(ERR_NOT_FOUND, http_new(&s, &c, TERR));
    TRUE_(strstr(test_err.msg, "/nowhere/key.pem") != NULL);
    c.tls_key = NULL;
    FAILS(ERR_ARG, http_new(&s, &c, TERR));
    c.tls_key = cert; /* a certificate is no key */
    FAILS(ERR_FORMAT, http_new(&s, &c, TERR));
    TRUE_(strstr(test_err.msg, "key") != NULL);
    c.tls_key = key;
    c.tls_cert = key;
    FAILS(ERR_FORMAT, http_new(&s, &c, TERR));
    char bad[256];
    snprintf(bad, sizeof bad, "%s/bad.pem", test_tmpdir());
    c.tls_cert = bad;
    static const char *const texts[] = {
        "", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n"};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        spill(bad, texts[i]);
        FAILS(ERR_FORMAT, http_new(&s, &c, TERR));
        TRUE_(strstr(test_err.msg, "bad.pem") != NULL);
    }
    StrBuf both = {0}; /* a good one with rubbish behind it */
    OK_(io_read_file(&both, cert, 1 << 16, TERR));
    sb_puts(&both, texts[2]);
    spill(bad, sb_str(&both));
    FAILS(ERR_FORMAT, http_new(&s, &c, TERR));
    sb_deinit(&both);
    /* an encrypted key fails; nobody is asked for the password at the terminal */
    char cmd[1024];
    snprintf(cmd, sizeof cmd, "openssl ec -in %s -aes128 -passout pass:x -out %s 2>/dev/null", key,
             bad);
    if (system(cmd) == 0) {
        c.tls_cert = cert;
        c.tls_key = bad;
        FAILS(ERR_FORMAT, http_new(&s, &c, TERR));
    }
}

TEST(an_expired_certificate_is_used_with_a_warning) {
    HttpServer *s = NULL;
    make_files("x");
    TRUE_(tls_files_make(cert, key, "old", -5));
    HttpConfig c = {.host = "127.0.0.1", .tls_cert = cert, .tls_key = key};
    log_set_level(LOG_ERROR);
    OK_(http_new(&s, &c, TERR));
    log_set_level(LOG_WARN);
    http_free(s);
}

/* Much data both ways, and clients that leave at any moment. */
TEST(large_bodies_and_sudden_ends) {
    enum { N = 3 << 20 };
    Echo *e = start((HttpConfig){.limits = {.max_body_bytes = N}});
    char *big = mem_alloc_n(1, N), *got = mem_alloc_n(1, N + 4096);
    for (int i = 0; i < N; i++) big[i] = (char)('a' + i % 23);
    Client c = dial(e->port, 0, NULL);
    char head[128];
    int n =
        snprintf(head, sizeof head, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", N);
    EQ(SSL_write(c.s, head, n), n);
    EQ(SSL_write(c.s, big, N), N);
    int total = 0;
    while (total < N + 4096) {
        int k = SSL_read(c.s, got + total, N + 4096 - total);
        if (k <= 0) break;
        total += k;
        const char *end = memmem(got, (size_t)total, "\r\n\r\n", 4);
        if (end && total - (int)(end + 4 - got) == N) break;
    }
    const char *body = memmem(got, (size_t)total, "\r\n\r\n", 4);
    TRUE_(body && total - (int)(body + 4 - got) == N);
    EQ_MEM(body + 4, big, N);
    hang_up(&c);
    for (int i = 0; i < 20; i++) {
        c = dial(e->port, 0, NULL);
        TRUE_(SSL_write(c.s, head, i % 3 ? n : 10) > 0);
        if (i % 3 == 2) SSL_write(c.s, big, 50000);
        if (i % 2) hc_reset(dup(c.fd));
        hang_up(&c);
    }
    for (int i = 0; i < 20; i++) { /* in the middle of a handshake */
        int fd = hc_connect(e->port);
        hc_send_n(fd, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", (size_t)(i % 11));
        if (i % 2) hc_reset(fd);
        else close(fd);
    }
    c = dial(e->port, 0, NULL);
    TRUE_(str_starts_with(ask(&c, GET("/")), "HTTP/1.1 200"));
    hang_up(&c);
    mem_free(big);
    mem_free(got);
    echo_stop(e);
}

TEST(curl_agrees) {
    if (system("command -v curl >/dev/null") != 0) SKIP("no curl");
    Echo *e = start((HttpConfig){0});
    char cmd[1024], out[256] = "";
    snprintf(cmd, sizeof cmd,
             "curl -sS --max-time 20 --cacert %s -d hello https://localhost:%d/ 2>&1", cert,
             e->port);
    FILE *p = popen(cmd, "r");
    TRUE_(p != NULL);
    size_t n = fread(out, 1, sizeof out - 1, p);
    out[n] = '\0';
    EQ(pclose(p), 0);
    EQ_STR(out, "hello");
    snprintf(cmd, sizeof cmd,
             "curl -s --max-time 20 --cacert %s --tls-max 1.1 https://localhost:%d/ 2>&1", cert,
             e->port);
    NE(system(cmd), 0);
    echo_stop(e);
}
