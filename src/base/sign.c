/* SPDX-License-Identifier: Apache-2.0
 * Ed25519 is OpenSSL's. What is here: files and their modes, and that nothing ever asks a terminal for a password. */
#include "base/sign.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "base/sha.h"

enum { KEY_FILE_MAX = 64 << 10, RAW = 32 };

struct SignKey {
    EVP_PKEY *pkey; /* owned */
    uint8_t raw[RAW];
};

static Status openssl_failed(const char *what, Err *e) {
    return err_set(e, ERR_INTERNAL, "%s failed in openssl", what);
}

/* ---- files of keys ---- */

/* PEM would ask on the terminal for the password of an encrypted key. */
static int no_password(char *buf, int size, int write, void *u) {
    (void)buf;
    (void)size;
    (void)write;
    (void)u;
    return -1;
}

static Status take_key(SignKey **out, EVP_PKEY *pkey, Err *e) {
    SignKey *k = mem_new(SignKey);
    size_t n = RAW;
    if (!k) return err_set(e, ERR_NOMEM, "no memory for a key");
    if (EVP_PKEY_get_raw_public_key(pkey, k->raw, &n) != 1 || n != RAW) {
        mem_free(k);
        return openssl_failed("reading a key", e);
    }
    k->pkey = pkey;
    *out = k;
    return OK;
}

static Status parse_key(SignKey **out, const StrBuf *text, bool is_private, const char *path,
                        Err *e) {
    const char *kind = is_private ? "private" : "public";
    BIO *b = BIO_new_mem_buf(text->p ? text->p : "", (int)text->n);
    EVP_PKEY *pkey = NULL;
    if (!b) return err_set(e, ERR_NOMEM, "no memory for a key");
    pkey = is_private ? PEM_read_bio_PrivateKey(b, NULL, no_password, NULL)
                      : PEM_read_bio_PUBKEY(b, NULL, no_password, NULL);
    BIO_free(b);
    ERR_clear_error(); /* what other kinds of keys were tried is nobody's business */
    Status st = OK;
    if (!pkey) st = err_set(e, ERR_FORMAT, "%s: no %s key in PEM", path, kind);
    else if (!EVP_PKEY_is_a(pkey, "ED25519"))
        st = err_set(e, ERR_FORMAT, "%s: the %s key is no Ed25519 key", path, kind);
    if (st == OK) st = take_key(out, pkey, e);
    if (st != OK) EVP_PKEY_free(pkey);
    return st;
}

static void wipe(StrBuf *text) {
    if (text->p) OPENSSL_cleanse(text->p, text->cap);
    sb_deinit(text);
}

static Status load_key(SignKey **out, const char *path, bool is_private, Err *e) {
    StrBuf text = {0};
    struct stat s;
    if (is_private && stat(path, &s) == 0 && (s.st_mode & 077) != 0)
        return err_set(e, ERR_IO, "%s: others may read or write it (mode %03o): chmod 600", path,
                       (unsigned)(s.st_mode & 0777));
    Status st = io_read_file(&text, path, KEY_FILE_MAX, e);
    if (st == OK) st = parse_key(out, &text, is_private, path, e);
    wipe(&text);
    return st;
}

Status sign_load_private(SignKey **out, const char *path, Err *e) {
    return load_key(out, path, true, e);
}

Status sign_load_public(SignKey **out, const char *path, Err *e) {
    return load_key(out, path, false, e);
}

void sign_key_free(SignKey *k) {
    if (!k) return;
    EVP_PKEY_free(k->pkey);
    mem_free(k);
}

const char *sign_key_id(char buf[SIGN_ID + 1], const SignKey *k) {
    Sha256 d = {{0}};
    char hex[65];
    if (sha_256(&d, k->raw, RAW, NULL) != OK) d = (Sha256){{0}};
    memcpy(buf, sha_hex(hex, &d), SIGN_ID);
    buf[SIGN_ID] = 0;
    return buf;
}

/* ---- making a pair ---- */

/* A file that was not there, with this mode whatever the umask adds. */
static Status create(const char *path, int mode, const char *p, size_t n, Err *e) {
    bool fault = fault_hit(FAULT_IO);
    int fd = fault ? -1 : open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fault) errno = EIO;
    if (fd < 0) return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    bool ok = !fault_hit(FAULT_IO) && write(fd, p, n) == (ssize_t)n && fsync(fd) == 0;
    ok &= close(fd) == 0;
    if (ok) return OK;
    unlink(path);
    return err_set(e, ERR_IO, "%s: the key could not be written", path);
}

static Status write_key(EVP_PKEY *pkey, const char *path, bool is_private, Err *e) {
    BIO *b = BIO_new(is_private ? BIO_s_secmem() : BIO_s_mem());
    char *p = NULL;
    if (!b) return err_set(e, ERR_NOMEM, "no memory for a key");
    int rc = is_private ? PEM_write_bio_PrivateKey(b, pkey, NULL, NULL, 0, NULL, NULL)
                        : PEM_write_bio_PUBKEY(b, pkey);
    long n = rc == 1 ? BIO_get_mem_data(b, &p) : 0;
    Status st = n > 0 ? create(path, is_private ? 0600 : 0644, p, (size_t)n, e)
                      : openssl_failed("writing a key", e);
    BIO_free(b);
    return st;
}

Status sign_keygen(const char *private_path, const char *public_path, Err *e) {
    EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    if (!pkey) return openssl_failed("making a key", e);
    Status st = write_key(pkey, private_path, true, e);
    if (st == OK) {
        st = write_key(pkey, public_path, false, e);
        if (st != OK) unlink(private_path);
    }
    EVP_PKEY_free(pkey);
    return st;
}

/* ---- signatures ---- */

Status sign_make(uint8_t sig[SIGN_BYTES], const SignKey *k, Slice data, Err *e) {
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    uint8_t out[SIGN_BYTES];
    size_t n = sizeof out;
    bool ok = c && EVP_DigestSignInit(c, NULL, NULL, NULL, k->pkey) == 1 &&
              EVP_DigestSign(c, out, &n, (const uint8_t *)data.p, data.n) == 1 && n == sizeof out;
    EVP_MD_CTX_free(c);
    if (!ok) return openssl_failed("signing", e);
    memcpy(sig, out, sizeof out);
    return OK;
}

bool sign_check(const SignKey *k, Slice data, const uint8_t sig[SIGN_BYTES]) {
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    bool ok = c && EVP_DigestVerifyInit(c, NULL, NULL, NULL, k->pkey) == 1 &&
              EVP_DigestVerify(c, sig, SIGN_BYTES, (const uint8_t *)data.p, data.n) == 1;
    EVP_MD_CTX_free(c);
    return ok;
}
