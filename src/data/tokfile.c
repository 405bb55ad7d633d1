/* SPDX-License-Identifier: Apache-2.0
 * Tokenizers as files of their own: a GGUF file with metadata and no tensors. Reading takes the
 * tokenizer of any GGUF file, a model's too. */
#include "data/internal.h"

Status data_tokenizer_load(Tokenizer **out, const char *path, Err *e) {
    return tok_open(out, path, e);
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
