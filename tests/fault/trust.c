/* SPDX-License-Identifier: Apache-2.0
 * Every allocation and every I/O call of making keys, of signing and of verifying fails once: nothing is taken for
 * signed that is not, nothing stays allocated, and the next run does what this one did not. */
#include "trust/trust.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "test.h"

static const TrustOpts opts = {.n_threads = 2};
static char dir[300], key_path[320], pub_path[320];
static SignKey *key, *pub;

typedef Status (*Step)(Err *e);

static Status keygen(Err *e) {
    unlink(key_path);
    unlink(pub_path);
    Status st = sign_keygen(key_path, pub_path, e);
    if (st != OK && (io_exists(key_path) || io_exists(pub_path))) FAIL("half a pair is left");
    return st;
}

static Status load(Err *e) {
    SignKey *a = NULL, *b = NULL;
    Status st = sign_load_private(&a, key_path, e);
    if (st == OK) st = sign_load_public(&b, pub_path, e);
    sign_key_free(a);
    sign_key_free(b);
    return st;
}

static Status sign(Err *e) {
    Manifest m = {.tag = slice_of("a-v1.0.0"), .created = slice_of("2026-01-31T12:00:00Z")};
    arena_init(&m.mem, 256);
    Status st = trust_sign(&m, dir, key, &opts, e);
    trust_manifest_deinit(&m);
    return st;
}

static Status verify(Err *e) { return trust_verify(NULL, dir, pub, &opts, e); }

static void sweep(FaultKind kind, Step step, uint64_t at_least) {
    for (uint64_t n = 1; n < 1000; n++) {
        Err e = {0};
        size_t live = mem_live_bytes();
        fault_arm(kind, n);
        Status st = step(&e);
        bool fired = fault_fired(kind);
        fault_arm(kind, 0);
        EQ(mem_live_bytes(), live);
        if (!fired) {
            EQ(st, OK);
            TRUE_(n > at_least);
            return;
        }
        /* threads that do not start are done without */
        if (st != OK && !e.msg[0]) FAIL("fault %d: status %d without a message", (int)n, (int)st);
        if (st == OK && step != sign && step != verify) FAIL("fault %d: no failure", (int)n);
    }
    FAIL("no run without a fault in 1000");
}

static void put_file(const char *name, const char *text) {
    char path[400];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
}

TEST(keys_signatures_verdicts_with_faults) {
    char json[400];
    snprintf(dir, sizeof dir, "%s/model", test_tmpdir());
    snprintf(key_path, sizeof key_path, "%s/k.key", test_tmpdir());
    snprintf(pub_path, sizeof pub_path, "%s/k.pub", test_tmpdir());
    snprintf(json, sizeof json, "%s/manifest.json", dir);
    mkdir(dir, 0777);
    put_file("one", "1");
    put_file("two", "22");
    sweep(FAULT_IO, keygen, 3);
    OK_(keygen(TERR));
    sweep(FAULT_ALLOC, load, 3);
    sweep(FAULT_IO, load, 3);
    OK_(sign_load_private(&key, key_path, TERR));
    OK_(sign_load_public(&pub, pub_path, TERR));
    sweep(FAULT_ALLOC, sign, 10); /* anew each time: a failed one may have left the manifest */
    OK_(verify(TERR));
    unlink(json);
    sweep(FAULT_IO, sign, 10);
    sweep(FAULT_ALLOC, verify, 10);
    sweep(FAULT_IO, verify, 10);
    OK_(verify(TERR));
    /* with a changed file no fault makes it right */
    put_file("one", "2");
    for (uint64_t n = 1; n < 60; n++)
        for (int kind = 0; kind < 2; kind++) {
            fault_arm(kind ? FAULT_IO : FAULT_ALLOC, n);
            Status st = verify(TERR);
            fault_arm(kind ? FAULT_IO : FAULT_ALLOC, 0);
            TRUE_(st != OK);
        }
    sign_key_free(key);
    sign_key_free(pub);
}
