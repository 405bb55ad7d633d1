/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a vocabulary, GGUF or (where they begin with a brace) tokenizer.json. One that loads must
 * encode any text, every id in range; and where no step changes the text and every byte has a token, it
 * decodes to the same bytes, streaming or not. One that came from a tokenizer.json and is written as one again makes
 * the same ids.
 */
#include <stdlib.h>

#include "text/utf8.h"
#include "token/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_stream(const Tokenizer *t, const TokBuf *ids, const StrBuf *raw) {
    Detok d;
    StrBuf shown = {0}, want = {0};
    detok_init(&d, t);
    for (size_t i = 0; i < ids->n; i++) detok_push(&d, ids->v[i], &shown);
    detok_finish(&d, &shown);
    utf8_put_clean(&want, (Slice){raw->p, raw->n});
    if (!slice_eq((Slice){shown.p, shown.n}, (Slice){want.p, want.n})) abort();
    sb_deinit(&shown);
    sb_deinit(&want);
}

/* Nothing on the way in drops or changes anything. */
static bool keeps_text(const Tokenizer *t) {
    bool ok = !t->chars && t->prefix == PREFIX_NONE && t->form == UTF_AS_IS;
    for (int i = 0; i < t->n_pass; i++) ok &= t->pass[i].mode != SPLIT_REMOVED;
    for (int b = 0; b < 256; b++) ok &= t->byte_id[b] >= 0;
    for (int32_t i = 0; i < t->n_vocab; i++) ok &= t->flags[i] == 0;
    return ok;
}

static void check_text(const Tokenizer *t, Slice text, bool special) {
    TokBuf ids = {0};
    StrBuf back = {0};
    if (tok_encode(t, text, special, &ids, NULL) != OK) abort();
    if (tok_decode(t, ids.v, ids.n, &back, NULL) != OK) abort();
    if (!special && keeps_text(t) && !slice_eq(text, (Slice){back.p, back.n})) abort();
    if (t->prefix == PREFIX_NONE) check_stream(t, &ids, &back); /* else a text's first space goes */
    tokbuf_deinit(&ids);
    sb_deinit(&back);
}

static void ask(const Tokenizer *t) {
    for (int32_t i = -1; i <= tok_n_vocab(t); i++) {
        int32_t first = tok_find(t, tok_text(t, i));
        if (i >= 0 && i < tok_n_vocab(t) && (first < 0 || first > i)) abort();
        (void)tok_is_end(t, i);
        (void)tok_type(t, i);
    }
    if (tok_eot(t) >= tok_n_vocab(t) || tok_bos(t) >= tok_n_vocab(t)) abort();
}

static void same_ids(const Tokenizer *a, const Tokenizer *b, Slice text) {
    TokBuf x = {0}, y = {0};
    if (tok_encode(a, text, true, &x, NULL) != OK || tok_encode(b, text, true, &y, NULL) != OK)
        abort();
    if (x.n != y.n || (x.n && memcmp(x.v, y.v, x.n * sizeof *x.v) != 0)) abort();
    tokbuf_deinit(&x);
    tokbuf_deinit(&y);
}

static void check_written(const Tokenizer *t, Slice text) {
    StrBuf json = {0}, conf = {0};
    Tokenizer *u = NULL;
    Err e = {0};
    Status st = tok_format_json(&json, t, &e);
    if (st == OK) st = tok_format_json_config(&conf, t, 1, &e);
    if (st == OK)
        st = tok_load_json_for(&u, (Slice){json.p, json.n}, (Slice){conf.p, conf.n}, tok_n_vocab(t),
                               &e);
    if (st == OK && t->leftmost) same_ids(t, u, text);
    if (st != OK && !e.msg[0]) abort();
    tok_free(u);
    sb_deinit(&json);
    sb_deinit(&conf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char text[] =
        "the cat's 123 hats,  and\n\n the \xf0\x9f\x98\x80 <|endoftext|>\xff\xfe <think>"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    Gguf *g = NULL;
    Tokenizer *t = NULL;
    Err e = {0};
    Status st;
    if (size && data[0] == '{') {
        st = tok_load_json(&t, (Slice){(const char *)data, size}, (Slice){NULL, 0}, &e);
    } else {
        st = gguf_open_bytes(&g, data, size, &e);
        if (st == OK) st = tok_load(&t, g, &e);
        gguf_close(g);
    }
    if (st != OK) {
        if (!e.msg[0]) abort();
        return 0;
    }
    ask(t);
    check_text(t, (Slice){text, sizeof text - 1}, false);
    check_text(t, (Slice){text, sizeof text - 1}, true);
    check_text(t, (Slice){(const char *)data + size / 2, size - size / 2}, false);
    check_written(t, (Slice){text, sizeof text - 1});
    tok_free(t);
    return 0;
}
