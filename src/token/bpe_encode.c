/* SPDX-License-Identifier: Apache-2.0
 *
 * Merging one chunk: the pair of lowest rank first, the leftmost on ties, until no pair has a merge. What
 * is merged are symbols: tokens, texts that only lead to tokens, and characters no token knows (negative).
 * Words are a few bytes long, so a scan over an array of ranks is fastest; a chunk of more than SHORT
 * bytes (a megabyte of one letter is legal) takes a linked list and a heap of (rank, position): at most
 * 3 n pushes, so O(n log n).
 */
#include "text/utf8.h"
#include "token/internal.h"

enum { SHORT = 64, NONE = -1 };

/* Long chunks. */
struct BpeSym {
    int32_t id, prev, next; /* next NONE: the last one */
    uint32_t rank;          /* of the pair it starts; TOK_NO_RANK: none, or the symbol is gone */
    int32_t merged;         /* what that pair becomes */
};

void tok__bpe_deinit(BpeScratch *s) {
    mem_free(s->sym);
    mem_free(s->heap);
}

/* ---- symbols ---- */

/* A character that is no symbol of the vocabulary is this one; nothing merges with it. */
static int32_t sym_of_char(uint32_t cp) { return -2 - (int32_t)cp; }

/* The symbol that begins at p, and its length in bytes. */
static inline int32_t start_sym(const Tokenizer *t, const char *p, size_t n, size_t *len) {
    int32_t sym = t->start[(uint8_t)*p];
    *len = 1;
    if (!t->chars) return sym;
    if ((uint8_t)*p < 0x80) return sym >= 0 ? sym : sym_of_char(*p == ' ' ? 0x2581 : (uint8_t)*p);
    uint32_t cp = 0xfffd;
    *len = MAX((size_t)utf8_decode(&cp, p, n), (size_t)1);
    sym = tok__idmap_find(&t->sym.map, (Slice){p, *len});
    return sym >= 0 ? sym : sym_of_char(cp);
}

void tok__put_bytes(const Tokenizer *t, Slice s, TokBuf *out) {
    bool unknown = false;
    for (size_t i = 0; i < s.n; i++) {
        int32_t id = t->byte_id[(uint8_t)s.p[i]];
        if (id >= 0) tokbuf_push(out, id);
        unknown |= id < 0;
    }
    if (unknown && t->unk >= 0) tokbuf_push(out, t->unk);
}

/* What is left over and no token of text: as bytes. */
static NOINLINE void put_odd(const Tokenizer *t, int32_t sym, TokBuf *out) {
    char buf[4];
    if (sym < 0) {
        tok__put_bytes(t, (Slice){buf, (size_t)utf8_encode(buf, (uint32_t)(-2 - sym))}, out);
        return;
    }
    Slice s = t->sym.text[sym];
    if (t->chars) {
        tok__put_bytes(t, s, out);
        return;
    }
    uint32_t cp;
    for (size_t i = 0, len; i < s.n; i += len) {
        len = (size_t)utf8_decode(&cp, s.p + i, s.n - i);
        int b = len ? tok__char_byte(cp) : -1;
        if (b < 0) return;
        buf[0] = (char)b;
        tok__put_bytes(t, (Slice){buf, 1}, out);
    }
}

static inline void put_sym(const Tokenizer *t, int32_t sym, TokBuf *out) {
    if (LIKELY(!t->odd) || (sym >= 0 && sym < t->n_vocab && tok__is_text(t, sym))) {
        tokbuf_push(out, sym);
    } else {
        put_odd(t, sym, out);
    }
}

/* ---- short chunks ---- */

/* A symbol, and the pair it starts. */
typedef struct Cell {
    uint32_t rank;
    int32_t id, merged;
} Cell;

typedef struct Row {
    int n;
    Cell c[SHORT]; /* n - 1 pairs */
} Row;

static inline void row_rank(const Tokenizer *t, Row *r, int i) {
    Merge m = tok__merges_find(&t->merges, r->c[i].id, r->c[i + 1].id);
    r->c[i].rank = m.rank;
    r->c[i].merged = m.id;
}

static inline int row_best(const Row *r) {
    int best = 0;
    for (int i = 1; i < r->n - 1; i++) {
        if (r->c[i].rank < r->c[best].rank) best = i;
    }
    return best;
}

static inline void row_merge(const Tokenizer *t, Row *r, int i) {
    r->c[i].id = r->c[i].merged;
    memmove(r->c + i + 1, r->c + i + 2, (size_t)(r->n - i - 2) * sizeof *r->c);
    r->n--;
    if (i > 0) row_rank(t, r, i - 1);
    if (i + 1 < r->n) row_rank(t, r, i);
}

static void bpe_short(const Tokenizer *t, Slice chunk, TokBuf *out) {
    Row r;
    r.n = 0;
    for (size_t i = 0, len; i < chunk.n; i += len)
        r.c[r.n++].id = start_sym(t, chunk.p + i, chunk.n - i, &len);
    for (int i = 0; i + 1 < r.n; i++) row_rank(t, &r, i);
    while (r.n > 1) {
        int i = row_best(&r);
        if (r.c[i].rank == TOK_NO_RANK) break;
        row_merge(t, &r, i);
    }
    for (int i = 0; i < r.n; i++) put_sym(t, r.c[i].id, out);
}

/* ---- long chunks: a binary min-heap of rank << 32 | position ---- */

static void heap_push(uint64_t *h, size_t *n, uint64_t x) {
    size_t i = (*n)++;
    for (; i > 0 && h[(i - 1) / 2] > x; i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
    h[i] = x;
}

static uint64_t heap_pop(uint64_t *h, size_t *n) {
    uint64_t top = h[0], x = h[--*n];
    size_t i = 0;
    for (;;) {
        size_t kid = 2 * i + 1;
        if (kid >= *n) break;
        if (kid + 1 < *n && h[kid + 1] < h[kid]) kid++;
        if (h[kid] >= x) break;
        h[i] = h[kid];
        i = kid;
    }
    h[i] = x;
    return top;
}

static bool reserve(BpeScratch *s, size_t n) {
    if (n <= s->cap) return true;
    tok__bpe_deinit(s);
    *s = (BpeScratch){.sym = mem_new_n(BpeSym, n), .heap = mem_new_n(uint64_t, 2 * n), .cap = n};
    if (s->sym && s->heap) return true;
    tok__bpe_deinit(s);
    *s = (BpeScratch){0};
    return false;
}

/* Look up the pair that starts at i and queue it. */
static void queue_pair(const Tokenizer *t, BpeScratch *s, size_t *n_heap, int32_t i) {
    BpeSym *a = &s->sym[i];
    Merge m = {UINT64_MAX, TOK_NO_RANK, -1};
    if (a->next != NONE) m = tok__merges_find(&t->merges, a->id, s->sym[a->next].id);
    a->rank = m.rank;
    a->merged = m.id;
    if (m.rank != TOK_NO_RANK) heap_push(s->heap, n_heap, (uint64_t)m.rank << 32 | (uint32_t)i);
}

static void merge_at(const Tokenizer *t, BpeScratch *s, size_t *n_heap, int32_t i) {
    BpeSym *a = &s->sym[i], *b = &s->sym[a->next];
    a->id = a->merged;
    a->next = b->next;
    b->rank = TOK_NO_RANK; /* what the heap still holds of b is stale */
    if (b->next != NONE) s->sym[b->next].prev = i;
    queue_pair(t, s, n_heap, i);
    if (a->prev != NONE) queue_pair(t, s, n_heap, a->prev);
}

static bool bpe_long(const Tokenizer *t, BpeScratch *s, Slice chunk, TokBuf *out) {
    if (!reserve(s, chunk.n)) return false;
    int32_t n = 0;
    size_t n_heap = 0;
    for (size_t i = 0, len; i < chunk.n; i += len) {
        int32_t id = start_sym(t, chunk.p + i, chunk.n - i, &len);
        s->sym[n] = (BpeSym){id, n - 1, n + 1, TOK_NO_RANK, -1};
        n++;
    }
    s->sym[n - 1].next = NONE;
    for (int32_t i = 0; i < n; i++) queue_pair(t, s, &n_heap, i);
    while (n_heap > 0) {
        uint64_t top = heap_pop(s->heap, &n_heap);
        int32_t i = (int32_t)(top & UINT32_MAX);
        if (s->sym[i].rank == (uint32_t)(top >> 32)) merge_at(t, s, &n_heap, i);
    }
    for (int32_t i = 0; i != NONE; i = s->sym[i].next) put_sym(t, s->sym[i].id, out);
    return true;
}

bool tok__bpe(const Tokenizer *t, BpeScratch *s, Slice chunk, TokBuf *out) {
    if (chunk.n > SHORT) return bpe_long(t, s, chunk, out);
    bpe_short(t, chunk, out);
    return true;
}
