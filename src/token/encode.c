/* SPDX-License-Identifier: Apache-2.0
 *
 * Text -> ids: special tokens are cut out, the rest goes chunk by chunk through two caches of recent
 * chunks, the vocabulary (a whole word is most often one token) and at last the merges.
 */
#include "token/internal.h"

enum {
    CACHE_MIN_BITS = 8,
    CACHE_MAX_BITS = 15,
    CACHE_MIN_TEXT = 1024, /* below, filling the cache costs more than it saves */
    CACHE_CHUNK = 16,      /* bytes, as two words */
    CACHE_IDS = 3,
    FAR_BITS = 12,
    FAR_MAX_CHUNK = 64
};

/* A short chunk and its ids: nothing else of memory is read where it is met again. */
typedef struct Near {
    uint64_t lo, hi; /* its bytes, then zeros */
    int32_t id[CACHE_IDS];
    uint8_t n_bytes, n_ids; /* 0: free */
} Near;

/* A longer chunk, or one of more ids: where in this text and in this output it came up before. */
typedef struct Far {
    Slice chunk; /* borrowed from the text; empty: free */
    size_t at;   /* of its ids in the output */
    size_t n_ids;
} Far;

typedef struct Encoder {
    const Tokenizer *t;
    TokBuf *out;
    Near *near; /* owned; NULL for a short text */
    Far *far;   /* owned; with near */
    int near_shift;
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

/* Up to 16 bytes as two words; left: bytes that may be read. */
static inline void load_words(uint64_t w[2], const char *p, size_t n, size_t left) {
    char buf[CACHE_CHUNK] = {0};
    if (LIKELY(left >= CACHE_CHUNK)) {
        memcpy(w, p, CACHE_CHUNK);
        if (n < 8) w[0] &= ((uint64_t)1 << 8 * n) - 1;
        if (n <= 8) w[1] = 0;
        else if (n < 16) w[1] &= ((uint64_t)1 << 8 * (n - 8)) - 1;
    } else {
        memcpy(buf, p, n);
        memcpy(w, buf, CACHE_CHUNK);
    }
}

static inline void push_few(TokBuf *out, const int32_t *id, size_t n) {
    if (LIKELY(out->cap - out->n >= CACHE_IDS)) {
        memcpy(out->v + out->n, id, CACHE_IDS * sizeof *id);
        out->n += n;
        return;
    }
    for (size_t i = 0; i < n; i++) tokbuf_push(out, id[i]);
}

/* A chunk of at most CACHE_CHUNK bytes on its way to its slot. */
typedef struct Probe {
    Slice chunk;
    uint64_t w[2];
    Near *slot;
} Probe;

/* left: bytes from the start of chunk that may be read. */
static inline Probe probe(const Encoder *x, Slice chunk, size_t left) {
    Probe q = {.chunk = chunk};
    load_words(q.w, chunk.p, chunk.n, left);
    uint64_t h = (q.w[0] ^ q.w[1] * 0x9e3779b97f4a7c15u) + chunk.n;
    h = (h ^ h >> 32) * 0xd6e8feb86659fd93u;
    q.slot = &x->near[h >> x->near_shift];
    __builtin_prefetch(q.slot);
    return q;
}

static inline void encode_near(Encoder *x, const Probe *q) {
    Near *c = q->slot;
    if (LIKELY(c->lo == q->w[0] && c->hi == q->w[1] && c->n_bytes == q->chunk.n)) {
        push_few(x->out, c->id, c->n_ids);
        return;
    }
    size_t at = x->out->n;
    encode_new(x, q->chunk);
    size_t n = x->out->n - at;
    if (n == 0 || n > CACHE_IDS || x->out->failed) return;
    *c = (Near){.lo = q->w[0], .hi = q->w[1], .n_bytes = (uint8_t)q->chunk.n, .n_ids = (uint8_t)n};
    memcpy(c->id, x->out->v + at, n * sizeof *c->id);
}

static void encode_far(Encoder *x, Slice chunk) {
    Far *c = &x->far[tok__hash(chunk, 0) >> (64 - FAR_BITS)];
    if (tok__same(c->chunk, chunk)) {
        for (size_t i = 0; i < c->n_ids; i++) tokbuf_push(x->out, x->out->v[c->at + i]);
        return;
    }
    size_t at = x->out->n;
    encode_new(x, chunk);
    *c = (Far){chunk, at, x->out->n - at};
}

static NOINLINE void encode_long(Encoder *x, Slice chunk) {
    while (chunk.n > TOK_MAX_CHUNK) {
        size_t n = TOK_MAX_CHUNK;
        while (((uint8_t)chunk.p[n] & 0xc0) == 0x80) n--; /* between characters */
        encode_new(x, (Slice){chunk.p, n});
        chunk.p += n;
        chunk.n -= n;
    }
    if (x->far && chunk.n <= FAR_MAX_CHUNK) encode_far(x, chunk);
    else encode_new(x, chunk);
}

static void encode_chunk(Encoder *x, Slice chunk, size_t left) {
    if (!x->near || chunk.n > CACHE_CHUNK) {
        encode_long(x, chunk);
        return;
    }
    Probe q = probe(x, chunk, left);
    encode_near(x, &q);
}

/* One pass by hand over well-formed text: the common case, without stages. The next chunk is found while
 * the slot of this one is on its way from memory. */
static void encode_scanned(Encoder *x, Slice text) {
    TokScanFn scan = x->t->pass[0].scan;
    Probe waiting = {0};
    for (size_t i = 0, end; i < text.n && !x->failed && !x->out->failed; i = end) {
        end = scan(text.p, text.n, i);
        Slice chunk = {text.p + i, end - i};
        bool near = x->near && chunk.n <= CACHE_CHUNK;
        Probe next = near ? probe(x, chunk, text.n - i) : (Probe){0};
        if (waiting.slot) encode_near(x, &waiting);
        if (!near) encode_long(x, chunk);
        waiting = next;
    }
    if (waiting.slot && !x->failed) encode_near(x, &waiting);
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
    Status st = OK;
    if (t->form != UTF_AS_IS) st = ucd_normalize(&b, *text, t->form, e);
    else sb_put(&b, text->p, text->n);
    if (st == OK) st = sb_check(&b, e);
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
    bool simple = x->t->n_pass == 1 && x->t->pass[0].scan;
    tok__chunks_init(&c, x->t->pass, simple ? 0 : x->t->n_pass, x->sc, text);
    for (ChunkKind k;
         !x->failed && !x->out->failed && (k = tok__chunk_next(&c, &chunk)) != CHUNK_END;) {
        if (k == CHUNK_TEXT && simple) {
            encode_scanned(x, chunk);
        } else if (k == CHUNK_TEXT) {
            encode_chunk(x, chunk, (size_t)(text.p + text.n - chunk.p));
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

/* As large as the text is likely to fill. */
static void new_caches(Encoder *x, size_t n_bytes) {
    int bits = CACHE_MIN_BITS;
    while (bits < CACHE_MAX_BITS && (size_t)16 << bits < n_bytes) bits++;
    x->near = mem_new_n(Near, (size_t)1 << bits);
    x->far = mem_new_n(Far, (size_t)1 << FAR_BITS);
    x->near_shift = 64 - bits;
    x->failed = !x->near || !x->far;
}

Status tok_encode(const Tokenizer *t, Slice text, bool parse_special, TokBuf *out, Err *e) {
    size_t n_before = out->n;
    Encoder x = {.t = t, .out = out};
    if (text.n == 0) return OK;
    arena_init(&x.texts, 4096);
    Status st = new_scratches(&x, e);
    if (st == OK && text.n >= CACHE_MIN_TEXT) new_caches(&x, text.n);
    if (st == OK && !x.failed) st = encode_all(&x, text, parse_special, e);
    if (st == OK && (x.failed || out->failed))
        st = err_set(e, ERR_NOMEM, "tokens of %zu bytes: out of memory", text.n);
    if (st != OK) out->n = n_before;
    for (int i = 0; i < t->n_pass; i++) regex_scratch_free(x.sc[i]);
    mem_free(x.near);
    mem_free(x.far);
    arena_deinit(&x.texts);
    tok__bpe_deinit(&x.bpe);
    return st;
}
