/* SPDX-License-Identifier: Apache-2.0
 * Signing folders and files, and everything that may happen to them afterwards. */
#include "trust/trust.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "test.h"

static SignKey *key, *pub;
static const TrustOpts opts = {.n_threads = 2};
static char dir[300];

static const char *in_dir(const char *name) {
    static char path[4][700];
    static int i;
    i = (i + 1) % 4;
    snprintf(path[i], sizeof path[i], "%s/%s", dir, name);
    return path[i];
}

static void put_file(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    TRUE_(f != NULL);
    fputs(text, f);
    fclose(f);
}

/* A folder of its own for each case, and a pair of keys for all. */
static void begin(const char *name) {
    char a[300], b[300];
    snprintf(dir, sizeof dir, "%s/%s", test_tmpdir(), name);
    mkdir(dir, 0777);
    mkdir(in_dir("sub"), 0777);
    put_file(in_dir("weights"), "0123456789");
    put_file(in_dir("sub/config"), "{}");
    if (key) return;
    snprintf(a, sizeof a, "%s/k.key", test_tmpdir());
    snprintf(b, sizeof b, "%s/k.pub", test_tmpdir());
    OK_(sign_keygen(a, b, TERR));
    OK_(sign_load_private(&key, a, TERR));
    OK_(sign_load_public(&pub, b, TERR));
}

static Status sign_as(const char *target, const char *tag, const char *licence, Err *e) {
    Manifest m = {.tag = slice_of(tag),
                  .created = slice_of("2026-01-31T12:00:00Z"),
                  .licence = slice_of(licence)};
    arena_init(&m.mem, 256);
    Status st = trust_sign(&m, target, key, &opts, e);
    trust_manifest_deinit(&m);
    return st;
}

static Status verify(const char *target) {
    size_t live = mem_live_bytes();
    Status st = trust_verify(NULL, target, pub, &opts, TERR);
    EQ(mem_live_bytes(), live);
    return st;
}

static void refused(const char *target, const char *words) {
    TRUE_(verify(target) != OK);
    if (!strstr(test_err.msg, words)) FAIL("\"%s\" lacks \"%s\"", test_err.msg, words);
}

TEST(a_signed_folder_verifies_until_it_changes) {
    Manifest m;
    begin("folder");
    refused(dir, "nothing is signed");
    OK_(sign_as(dir, "a-v1.0.0", "mit", TERR));
    OK_(trust_verify(&m, dir, pub, &opts, TERR));
    EQ(m.n_files, 2);
    TRUE_(slice_eq_str(m.file[0].name, "sub/config"));
    EQ(m.file[1].size, 10);
    trust_manifest_deinit(&m);
    put_file(in_dir("weights"), "0123456780");
    refused(dir, "weights: not the file that was signed");
    put_file(in_dir("weights"), "012345678");
    refused(dir, "weights: 9 bytes, 10 were signed");
    put_file(in_dir("weights"), "0123456789");
    OK_(verify(dir));
    put_file(in_dir("chat_template.jinja"), "{{ 1 }}");
    refused(dir, "chat_template.jinja: not in the manifest");
    unlink(in_dir("chat_template.jinja"));
    rename(in_dir("sub/config"), in_dir("sub/config2"));
    refused(dir, "sub/config2: not in the manifest");
    unlink(in_dir("sub/config2"));
    refused(dir, "file \"sub/config\" is missing");
}

static void edit(const char *path, char from, char to) {
    StrBuf b = {0};
    OK_(io_read_file(&b, path, 1 << 20, TERR));
    char *p = memchr(b.p, from, b.n);
    TRUE_(p != NULL);
    *p = to;
    FILE *f = fopen(path, "w");
    fwrite(b.p, 1, b.n, f);
    fclose(f);
    sb_deinit(&b);
}

TEST(signature_and_manifest_belong_together) {
    begin("sig");
    OK_(sign_as(dir, "a-v1.0.0", "mit", TERR));
    edit(in_dir("manifest.json"), 'm', 'M');
    refused(dir, "manifest.sig: the signature is not one of key");
    unlink(in_dir("manifest.json"));
    OK_(sign_as(dir, "a-v1.0.0", "mit", TERR));
    OK_(verify(dir));
    put_file(in_dir("manifest.sig"), "short");
    refused(dir, "manifest.sig: 5 bytes, a signature has 64");
    unlink(in_dir("manifest.sig"));
    refused(dir, "manifest.sig");
    OK_(sign_as(dir, "a-v1.0.0", "mit", TERR)); /* the same again: signed again */
    OK_(verify(dir));
    SignKey *other = NULL;
    char a[300], b[300];
    snprintf(a, sizeof a, "%s/o.key", test_tmpdir());
    snprintf(b, sizeof b, "%s/o.pub", test_tmpdir());
    OK_(sign_keygen(a, b, TERR));
    OK_(sign_load_public(&other, b, TERR));
    FAILS(ERR_FORMAT, trust_verify(NULL, dir, other, &opts, TERR));
    sign_key_free(other);
}

TEST(a_tag_stands_for_one_content_for_ever) {
    StrBuf before = {0}, after = {0};
    begin("tag");
    OK_(sign_as(dir, "a-v1.0.0", "mit", TERR));
    OK_(io_read_file(&before, in_dir("manifest.json"), 1 << 20, TERR));
    FAILS(ERR_ARG, sign_as(dir, "a-v1.0.0", "gpl", TERR));
    TRUE_(strstr(test_err.msg, "tag a-v1.0.0 was signed here with other content") != NULL);
    put_file(in_dir("weights"), "changed");
    FAILS(ERR_ARG, sign_as(dir, "a-v1.0.0", "mit", TERR));
    OK_(io_read_file(&after, in_dir("manifest.json"), 1 << 20, TERR));
    EQ_STR(before.p, after.p);
    OK_(sign_as(dir, "a-v1.0.1", "mit", TERR));
    OK_(verify(dir));
    FAILS(ERR_ARG, sign_as(dir, "a-v1.0.0", "mit", TERR)); /* an earlier tag is taken, too */
    put_file(in_dir("weights"), "0123456789");
    OK_(sign_as(dir, "a-v1.0.0", "mit", TERR)); /* unless it says what it said */
    OK_(verify(dir));
    put_file(in_dir("weights"), "changed again");
    FAILS(ERR_ARG, sign_as(dir, "a-v1.0.1", "mit", TERR));
    FAILS(ERR_ARG, sign_as(dir, "latest", "mit", TERR));
    sb_deinit(&before);
    sb_deinit(&after);
}

/* ---- models ---- */

static void make_model(const char *path, uint32_t v) {
    GgufW *w = NULL;
    OK_(gguf_w_new(&w, path, 32, true, TERR));
    gguf_w_u32(w, "a.key", v);
    OK_(gguf_w_begin(w, TERR));
    OK_(gguf_w_end(w, TERR));
    gguf_w_free(w);
}

static Status check(const char *path) {
    Gguf *g = NULL;
    OK_(gguf_open(&g, path, TERR));
    Status st = trust_check_model(g, path, pub, &opts, TERR);
    gguf_close(g);
    return st;
}

TEST(a_model_beside_its_manifest_or_in_a_signed_folder) {
    begin("model");
    make_model(in_dir("m.gguf"), 1);
    FAILS(ERR_NOT_FOUND, check(in_dir("m.gguf")));
    OK_(sign_as(in_dir("m.gguf"), "m-v1.0.0", "mit", TERR));
    OK_(check(in_dir("m.gguf")));
    OK_(verify(in_dir("m.gguf")));
    /* another signed model under this name is not this model */
    make_model(in_dir("n.gguf"), 2);
    OK_(sign_as(in_dir("n.gguf"), "n-v1.0.0", "mit", TERR));
    rename(in_dir("n.gguf"), in_dir("m.gguf"));
    rename(in_dir("n.gguf.manifest.json"), in_dir("m.gguf.manifest.json"));
    rename(in_dir("n.gguf.manifest.sig"), in_dir("m.gguf.manifest.sig"));
    FAILS(ERR_FORMAT, check(in_dir("m.gguf")));
    TRUE_(strstr(test_err.msg, "m.gguf: not in the manifest") != NULL);
    unlink(in_dir("m.gguf.manifest.json"));
    unlink(in_dir("m.gguf.manifest.sig"));
    OK_(sign_as(dir, "dir-v1.0.0", "mit", TERR));
    OK_(check(in_dir("m.gguf")));
    OK_(trust_check_file(in_dir("weights"), pub, &opts, TERR));
    make_model(in_dir("m.gguf"), 3);
    FAILS(ERR_FORMAT, check(in_dir("m.gguf")));
}

/* What is mapped is what counts, not what the name leads to by now. */
TEST(the_mapped_bytes_are_checked) {
    Gguf *good = NULL, *evil = NULL;
    begin("toctou");
    make_model(in_dir("m.gguf"), 1);
    OK_(sign_as(in_dir("m.gguf"), "m-v1.0.0", "mit", TERR));
    OK_(gguf_open(&good, in_dir("m.gguf"), TERR));
    make_model(in_dir("m.gguf"), 2); /* put in place by rename: the old bytes stay mapped */
    OK_(gguf_open(&evil, in_dir("m.gguf"), TERR));
    make_model(in_dir("m.gguf"), 1);
    OK_(trust_check_model(good, in_dir("m.gguf"), pub, &opts, TERR));
    FAILS(ERR_FORMAT, trust_check_model(evil, in_dir("m.gguf"), pub, &opts, TERR));
    gguf_close(good);
    gguf_close(evil);
}

TEST(odd_targets) {
    begin("odd");
    FAILS(ERR_NOT_FOUND, sign_as(in_dir("none"), "a-v1.0.0", "mit", TERR));
    FAILS(ERR_IO, sign_as("/dev/null", "a-v1.0.0", "mit", TERR));
    mkdir(in_dir("empty"), 0777);
    FAILS(ERR_NOT_FOUND, sign_as(in_dir("empty"), "a-v1.0.0", "mit", TERR));
    put_file(in_dir("a\nb"), "x");
    FAILS(ERR_FORMAT, sign_as(dir, "a-v1.0.0", "mit", TERR));
    FALSE_(io_exists(in_dir("manifest.json")));
    unlink(in_dir("a\nb"));
    char deep[700] = "d";
    for (int i = 0; i < 6; i++) {
        mkdir(in_dir(deep), 0777);
        strcat(deep, "/d");
    }
    FAILS(ERR_FULL, sign_as(dir, "a-v1.0.0", "mit", TERR));
}
