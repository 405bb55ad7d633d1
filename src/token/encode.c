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
    Cached *cache;                    /* owned; NULL for a short text */
    RegexScratch *sc[TOK_MAX_PASSES]; /* owned; NULL where a pass is scanned by hand */
    BpeScratch bpe;
    Arena texts; /* changed before they were cut: the cache points there too */
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

static void encode_new(Encoder *x, Slice chunk) {
    const Tokenizer *t = x->t;
    int32_t id =
        chunk.n == 1 ? t->single[(uint8_t)chunk.p[0]] : tok__idmap_find(&t->by_piece, chunk);
    if (id >= 0 && t->whole[id]) {
        tokbuf_push(x->out, id);
    } else if (!tok__bpe(t, &x->bpe, chunk, x->out)) {
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
    while (chunk.n > TOK_MAX_CHUNK) {
        size_t n = TOK_MAX_CHUNK;
        while (((uint8_t)chunk.p[n] & 0xc0) == 0x80) n--; /* between characters */
        encode_new(x, (Slice){chunk.p, n});
        chunk.p += n;
        chunk.n -= n;
    }
    if (x->cache && chunk.n <= CACHE_MAX_CHUNK) {
        encode_cached(x, chunk);
    } else {
        encode_new(x, chunk);
    }
}

/* text in its normal form and with the space that belongs in front of it. Only what changes is copied. */
static Status prepare(Encoder *x, Slice *text, bool first, Err *e) {
    const Tokenizer *t = x->t;
    StrBuf b = {0};
    bool space = t->prefix == PREFIX_SPACE ||
                 (t->prefix == PREFIX_SPACE_IF_NONE && tok__scan_space_len(text->p, text->n) == 0);
    space = space && (first || !t->prefix_first);
    if (!space && t->form == UTF_AS_IS) return OK;
    if (space) sb_putc(&b, ' ');
    Status st = ucd_normalize(&b, *text, t->form, e);
    if (st == OK) {
        *text = (Slice){arena_dup(&x->texts, b.p, b.n), b.n};
        x->failed = !arena_ok(&x->texts);
    }
    sb_deinit(&b);
    return st;
}

/* Text without special tokens, not empty. */
static Status encode_plain(Encoder *x, Slice text, bool first, Err *e) {
    Chunks c;
    Slice chunk = {0};
    TRY(prepare(x, &text, first, e));
    if (x->failed) return OK;
    tok__chunks_init(&c, x->t->pass, x->t->n_pass, x->sc, text);
    for (ChunkKind k;
         !x->failed && !x->out->failed && (k = tok__chunk_next(&c, &chunk)) != CHUNK_END;) {
        if (k == CHUNK_TEXT) {
            encode_chunk(x, chunk);
        } else {
            tok__put_bytes(x->t, chunk, x->out);
        }
    }
    return OK;
}

static Status encode_all(Encoder *x, Slice text, bool parse_special, Err *e) {
    Fragments f = {.t = x->t, .text = text, .control = parse_special};
    Fragment part = {.id = -1};
    Status st = OK;
    x->failed = !tok__fragments_init(&f);
    while (st == OK && !x->failed && !x->out->failed && tok__fragments_next(&f, &part)) {
        if (part.id >= 0) {
            tokbuf_push(x->out, part.id);
        } else if (part.text.n > 0) {
            st = encode_plain(x, part.text, part.text.p == text.p, e);
        }
    }
    tok__fragments_deinit(&f);
    return st;
}

static Status new_scratches(Encoder *x, Err *e) {
    for (int i = 0; i < x->t->n_pass; i++) {
        if (x->t->pass[i].re) TRY(regex_scratch_new(&x->sc[i], x->t->pass[i].re, e));
    }
    return OK;
}

Status tok_encode(const Tokenizer *t, Slice text, bool parse_special, TokBuf *out, Err *e) {
    size_t n_before = out->n;
    Encoder x = {.t = t, .out = out};
    if (text.n == 0) return OK;
    arena_init(&x.texts, 4096);
    Status st = new_scratches(&x, e);
    if (st == OK && text.n >= CACHE_MIN_TEXT) {
        x.cache = mem_new_n(Cached, (size_t)1 << CACHE_BITS);
        x.failed = !x.cache;
    }
    if (st == OK && !x.failed) st = encode_all(&x, text, parse_special, e);
    if (st == OK && (x.failed || out->failed))
        st = err_set(e, ERR_NOMEM, "tokens of %zu bytes: out of memory", text.n);
    if (st != OK) out->n = n_before;
    for (int i = 0; i < t->n_pass; i++) regex_scratch_free(x.sc[i]);
    mem_free(x.cache);
    arena_deinit(&x.texts);
    tok__bpe_deinit(&x.bpe);
    return st;
}
