/* SPDX-License-Identifier: Apache-2.0
 * Untrusted files of data/: docs.jsonl, meta.json, and any text that is asked for its signature. */
#include "data/internal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok) {
    if (!ok) abort();
}

static void read_docs(Slice in) {
    DocReader *r = NULL;
    Err e = {0};
    Slice path, text;
    bool more = true;
    if (data_docs_open_bytes(&r, in, "fuzz", &e) != OK) return;
    while (more) {
        if (data_docs_next(r, &more, &path, &text, &e) != OK) {
            must(e.msg[0] != 0);
            break;
        }
        if (more) must(data_count_chars(text) <= text.n && path.n <= in.n);
    }
    data_docs_close(r);
}

static void read_meta(Slice in) {
    Meta m, again;
    Err e = {0};
    StrBuf b = {0};
    if (data__meta_parse(&m, in, &e) != OK) {
        must(e.msg[0] != 0);
        return;
    }
    must(m.eot >= 0 && m.eot < m.n_vocab && m.count.n_tok[0] > 0);
    data__meta_format(&m, &b);
    must(data__meta_parse(&again, (Slice){b.p, b.n}, &e) == OK && again.n_vocab == m.n_vocab);
    sb_deinit(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Slice in = {(const char *)data, size};
    Sig sig;
    read_docs(in);
    read_meta(in);
    data__sig(&sig, in);
    must(data__sig_similarity(&sig, &sig) == 1.0);
    return 0;
}
