/* SPDX-License-Identifier: Apache-2.0
 * Tokenizers as files of their own: a GGUF file with metadata and no tensors. Reading takes the
 * tokenizer of any GGUF file, a model's too. */
#include "data/internal.h"

Status data_tokenizer_load(Tokenizer **out, const char *path, Err *e) {
    Gguf *g = NULL;
    Err own = {0};
    TRY(gguf_open(&g, path, e));
    Status st = tok_load(out, g, &own);
    gguf_close(g);
    return st == OK ? OK : err_set(e, st, "%s: %s", path, own.msg);
}

Status data_tokenizer_save(const Tokenizer *t, const char *path, Err *e) {
    GgufW *w = NULL;
    TRY(gguf_w_new(&w, path, GGUF_DEFAULT_ALIGNMENT, data__can_replace(path), e));
    gguf_w_str(w, "general.type", slice_of("tokenizer"));
    tok_save(t, w);
    Status st = gguf_w_begin(w, e);
    if (st == OK) st = gguf_w_end(w, e);
    gguf_w_free(w);
    return st;
}
