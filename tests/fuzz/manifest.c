/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a manifest. One that is read has plain names, each once and in order, and is written as a text that is
 * read as the same again. */
#include "trust/manifest.h"

#include <stdlib.h>

#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const Manifest *m) {
    Manifest n;
    StrBuf one = {0}, two = {0};
    Sha256 a, b;
    if (m->n_files < 1 || trust_check_tag(m->tag, NULL) != OK) abort();
    for (size_t i = 0; i < m->n_files; i++) {
        if (trust_check_name(m->file[i].name, NULL) != OK) abort();
        if (trust_manifest_find(m, m->file[i].name) != &m->file[i]) abort();
        if (m->file[i].name.p[0] == '/' || memmem(m->file[i].name.p, m->file[i].name.n, "/../", 4))
            abort();
    }
    trust_manifest_format(&one, m);
    if (trust_manifest_parse(&n, (Slice){sb_str(&one), one.n}, NULL) != OK) abort();
    trust_manifest_format(&two, &n);
    if (one.n != two.n || memcmp(one.p, two.p, one.n) != 0) abort();
    if (trust_manifest_fingerprint(&a, m, NULL) != OK) abort();
    if (trust_manifest_fingerprint(&b, &n, NULL) != OK) abort();
    if (memcmp(&a, &b, sizeof a) != 0) abort();
    trust_manifest_deinit(&n);
    sb_deinit(&one);
    sb_deinit(&two);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Manifest m;
    Err e = {0};
    size_t live = mem_live_bytes();
    Status st = trust_manifest_parse(&m, (Slice){(const char *)data, size}, &e);
    if (st == OK) {
        check(&m);
        trust_manifest_deinit(&m);
    } else if (!e.msg[0] || strchr(e.msg, '\n')) {
        abort();
    }
    if (mem_live_bytes() != live) abort();
    return 0;
}
