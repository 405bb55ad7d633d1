/* SPDX-License-Identifier: Apache-2.0
 *
 * Text -> ids: special tokens are cut out, the rest goes chunk by chunk through a cache of recent
 * chunks, the vocabulary (a whole word is most often one token) and at last the merges. The cache needs
 * no copies: it points at the place in this text and in this output where the chunk came up before.
 */
#include "token/internal.h"

enum {
    CACHE_BITS = 12,
    CACHE_MIN_TEXT = 4096, /* below, filling the cache costs more than it saves */
    CACHE_MAX_CHUNK = 64
};

typedef struct Cached {
    Slice chunk; /* borrowed from the text; empty: free */
    size_t at;   /* of its ids in the output */
    size_t n_ids;
} Cached;

typedef struct Encoder {
    const Tokenizer *t;
    TokBuf *out;
    Cached *cache;    /* owned; NULL for a short text */
    RegexScratch *sc; /* owned; NULL where the pattern is scanned by hand */
    BpeScratch bpe;
    bool failed;
} Encoder;

void tokbuf_push(TokBuf *b, int32_t id) {
    if (UNLIKELY(b->n == b->cap)) {
        size_t cap = b->cap ? 2 * b->cap : 64;
        int32_t *v = b->failed ? NULL : mem_realloc_n(b->v, cap, sizeof *v);
        if (!v) {
            b->failed = true;
            return;
        }
        b->v = v;
        b->cap = cap;
    }
    b->v[b->n++] = id;
}

void tokbuf_deinit(TokBuf *b) {
    mem_free(b->v);
    *b = (TokBuf){0};
}

static void encode_bytes(Encoder *x, Slice s) {
    for (size_t i = 0; i < s.n; i++) tokbuf_push(x->out, x->t->byte_id[(uint8_t)s.p[i]]);
}

static void encode_new(Encoder *x, Slice chunk) {
    int32_t id =
        chunk.n == 1 ? x->t->byte_id[(uint8_t)chunk.p[0]] : tok__idmap_find(&x->t->by_piece, chunk);
    if (id >= 0 && x->t->whole[id]) {
        tokbuf_push(x->out, id);
    } else if (!tok__bpe(x->t, &x->bpe, chunk, x->out)) {
        x->failed = true;
    }
}

static void encode_cached(Encoder *x, Slice chunk) {
    Cached *c = &x->cache[tok__hash(chunk, 0) >> (64 - CACHE_BITS)];
    if (tok__same(c->chunk, chunk)) {
        for (size_t i = 0; i < c->n_ids; i++) tokbuf_push(x->out, x->out->v[c->at + i]);
        return;
    }
    size_t at = x->out->n;
    encode_new(x, chunk);
    *c = (Cached){chunk, at, x->out->n - at};
}

static void encode_chunk(Encoder *x, Slice chunk) {
    for (; chunk.n > TOK_MAX_CHUNK; chunk.p += TOK_MAX_CHUNK, chunk.n -= TOK_MAX_CHUNK) {
        encode_new(x, (Slice){chunk.p, TOK_MAX_CHUNK});
    }
    if (x->cache && chunk.n <= CACHE_MAX_CHUNK) {
        encode_cached(x, chunk);
    } else {
        encode_new(x, chunk);
    }
}

/* Text without special tokens. */
static void encode_plain(Encoder *x, Slice text) {
    Chunks c = {.pre = x->t->pre, .re = x->t->re, .sc = x->sc, .text = text};
    Slice chunk = {0};
    for (ChunkKind k;
         !x->failed && !x->out->failed && (k = tok__chunk_next(&c, &chunk)) != CHUNK_END;) {
        if (k == CHUNK_TEXT) {
            encode_chunk(x, chunk);
        } else {
            encode_bytes(x, chunk);
        }
    }
}

static void encode_all(Encoder *x, Slice text, bool parse_special) {
    size_t pos = 0, at;
    int32_t id;
    while (tok__specials_find(x->t, text, pos, parse_special, &at, &id)) {
        encode_plain(x, (Slice){text.p + pos, at - pos});
        tokbuf_push(x->out, id);
        pos = at + x->t->text[id].n;
        if (x->failed || x->out->failed) return;
    }
    encode_plain(x, (Slice){text.p + pos, text.n - pos});
}

Status tok_encode(const Tokenizer *t, Slice text, bool parse_special, TokBuf *out, Err *e) {
    size_t n_before = out->n;
    Encoder x = {.t = t, .out = out};
    if (text.n == 0) return OK;
    if (t->re) TRY(regex_scratch_new(&x.sc, t->re, e));
    if (text.n >= CACHE_MIN_TEXT) {
        x.cache = mem_new_n(Cached, (size_t)1 << CACHE_BITS);
        x.failed = !x.cache;
    }
    if (!x.failed) encode_all(&x, text, parse_special);
    mem_free(x.cache);
    regex_scratch_free(x.sc);
    tok__bpe_deinit(&x.bpe);
    if (!x.failed && !out->failed) return OK;
    out->n = n_before;
    return err_set(e, ERR_NOMEM, "tokens of %zu bytes: out of memory", text.n);
}
