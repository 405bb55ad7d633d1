/* SPDX-License-Identifier: Apache-2.0
 * TLS of the server: one context made from two PEM files, replaced whole by a reload; connections hold on to the one they
 * began with. TLS 1.2 with forward secrecy and authenticated ciphers, or 1.3; no compression, no renegotiation; HTTP/1.1 is
 * the one protocol, and a client that offers others only is refused in the handshake. */
#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "base/io.h"
#include "base/log.h"
#include "net/internal.h"

enum { MAX_PEM = 1 << 20, MAX_CHAIN = 10 };

static const char ciphers_1_2[] = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL";

/* The last word of OpenSSL's queue; the queue is empty afterwards. */
static Status fail(const char *path, const char *what, Err *e) {
    const char *why = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return err_set(e, ERR_FORMAT, "%s: %s: %s", path, what, why ? why : "not PEM");
}

static int no_password(char *buf, int size, int writing, void *ctx) {
    (void)buf;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1; /* never ask at the terminal */
}

static Status open_pem(BIO **out, StrBuf *text, const char *path, Err *e) {
    TRY(io_read_file(text, path, MAX_PEM, e));
    *out = BIO_new_mem_buf(sb_str(text), (int)text->n);
    return *out ? OK : err_set(e, ERR_NOMEM, "%s", path);
}

static void close_pem(BIO *bio, StrBuf *text) {
    BIO_free(bio);
    if (text->p) OPENSSL_cleanse(text->p, text->n);
    sb_deinit(text);
}

/* ---- certificate and key ---- */

/* The certificates behind the first one; the end of the file ends them. */
static Status add_chain(SSL_CTX *ctx, BIO *bio, const char *path, Err *e) {
    for (int n = 0;; n++) {
        X509 *x = PEM_read_bio_X509(bio, NULL, no_password, NULL);
        if (!x) {
            bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
            if (!end) return fail(path, "certificate", e);
            ERR_clear_error();
            return OK;
        }
        if (n == MAX_CHAIN || SSL_CTX_add0_chain_cert(ctx, x) != 1) {
            X509_free(x);
            return err_set(e, ERR_FORMAT, "%s: over %d certificates", path, MAX_CHAIN);
        }
    }
}

static void warn_of_dates(const X509 *x, const char *path) {
    if (X509_cmp_current_time(X509_get0_notAfter(x)) < 0)
        log_warn("%s: the certificate has expired", path);
    if (X509_cmp_current_time(X509_get0_notBefore(x)) > 0)
        log_warn("%s: the certificate is not valid yet", path);
}

static Status use_cert(SSL_CTX *ctx, const char *path, Err *e) {
    StrBuf text = {0};
    BIO *bio = NULL;
    Status st = open_pem(&bio, &text, path, e);
    X509 *x = st == OK ? PEM_read_bio_X509_AUX(bio, NULL, no_password, NULL) : NULL;
    if (st == OK && (!x || SSL_CTX_use_certificate(ctx, x) != 1)) st = fail(path, "certificate", e);
    if (st == OK) warn_of_dates(x, path);
    if (st == OK) st = add_chain(ctx, bio, path, e);
    X509_free(x);
    close_pem(bio, &text);
    return st;
}

static Status use_key(SSL_CTX *ctx, const char *path, Err *e) {
    StrBuf text = {0};
    BIO *bio = NULL;
    Status st = open_pem(&bio, &text, path, e);
    EVP_PKEY *k = st == OK ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    if (st == OK && (!k || SSL_CTX_use_PrivateKey(ctx, k) != 1)) st = fail(path, "key", e);
    if (st == OK && SSL_CTX_check_private_key(ctx) != 1) st = fail(path, "key", e);
    EVP_PKEY_free(k);
    close_pem(bio, &text);
    return st;
}

/* ---- the context ---- */

/* Of the client's protocols (length and name, one after the other) ours, or none. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                           const unsigned char *offered, unsigned n, void *ctx) {
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *found = NULL;
    (void)ssl;
    (void)ctx;
    int rc = SSL_select_next_proto(&found, out_n, ours, sizeof ours - 1, offered, n);
    if (rc != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = found;
    return SSL_TLSEXT_ERR_OK;
}

static bool set_rules(SSL_CTX *ctx) {
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF); /* lengths say what is whole */
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
    return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(ctx, ciphers_1_2) == 1;
}

Status http__tls_load(SSL_CTX **out, const char *cert, const char *key, Err *e) {
    if (!key) return err_set(e, ERR_ARG, "a TLS certificate without a key");
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx) return err_set(e, ERR_NOMEM, "tls");
    Status st = set_rules(ctx) ? OK : fail(cert, "tls", e);
    if (st == OK) st = use_cert(ctx, cert, e);
    if (st == OK) st = use_key(ctx, key, e);
    if (st != OK) {
        SSL_CTX_free(ctx);
        return st;
    }
    *out = ctx;
    return OK;
}

void http__tls_free(SSL_CTX *ctx) { SSL_CTX_free(ctx); }

Status http__tls_again(SSL_CTX **out, const HttpServer *s, Err *e) {
    *out = NULL;
    return s->tls ? http__tls_load(out, s->cfg.tls_cert, s->cfg.tls_key, e) : OK;
}

/* ---- one connection ---- */

struct bufferevent *http__tls_socket(HttpServer *s, evutil_socket_t fd) {
    SSL *ssl = SSL_new(s->tls);
    if (!ssl) return NULL;
    struct bufferevent *bev =
        bufferevent_openssl_socket_new(s->base, fd, ssl, BUFFEREVENT_SSL_ACCEPTING,
                                       BEV_OPT_CLOSE_ON_FREE);
    if (bev) bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
    return bev;
}

void http__tls_goodbye(struct bufferevent *bev) {
    SSL *ssl = bufferevent_openssl_get_ssl(bev);
    if (ssl && SSL_is_init_finished(ssl)) SSL_shutdown(ssl); /* one that cannot be sent is not */
    ERR_clear_error();
}
