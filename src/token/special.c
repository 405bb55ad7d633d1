/* SPDX-License-Identifier: Apache-2.0
 *
 * Special tokens written out in a text. A trie of their bytes with sibling lists; positions that cannot
 * start one are skipped by a table. Two rules: leftmost first, the longest where several start together
 * (tokenizer.json); and the longest first wherever it stands (GGUF), which differs only where one token
 * may begin inside of another (runs of spaces do).
 */
#include <stdlib.h>

#include "text/utf8.h"
#include "token/internal.h"

static uint32_t child_of(const Specials *s, uint32_t node, uint8_t byte) {
    uint32_t i = s->node[node].child;
    while (i && s->node[i].byte != byte) i = s->node[i].sibling;
    return i;
}

static bool grow(Specials *s, size_t n) {
    if (n <= s->cap) return true;
    size_t cap = MAX(n, 2 * s->cap);
    TrieNode *node = mem_realloc_n(s->node, cap, sizeof *node);
    if (!node) return false;
    s->node = node;
    s->cap = cap;
    return true;
}

bool tok__specials_add(Specials *s, Slice text, int32_t id) {
    if (!grow(s, s->n + 1 + text.n)) return false;
    if (s->n == 0) s->node[s->n++] = (TrieNode){.id = -1};
    uint32_t at = 0;
    for (size_t i = 0; i < text.n; i++) {
        uint8_t b = (uint8_t)text.p[i];
        uint32_t next = child_of(s, at, b);
        if (!next) {
            next = (uint32_t)s->n++;
            s->node[next] = (TrieNode){.id = -1, .sibling = s->node[at].child, .byte = b};
            s->node[at].child = next;
        }
        at = next;
    }
    s->node[at].id = id;
    s->starts[(uint8_t)text.p[0]] = true;
    return true;
}

void tok__specials_deinit(Specials *s) { mem_free(s->node); }

/* ---- may they overlap? ---- */

/* True if text, without its first bytes, begins like a special token or holds one. */
static bool meets_another(const Specials *s, Slice text) {
    for (size_t from = 1; from < text.n; from++) {
        uint32_t at = 0;
        size_t i = from;
        while (i < text.n && (at = child_of(s, at, (uint8_t)text.p[i])) && s->node[at].id < 0) i++;
        if (i == text.n || at) return true;
    }
    return false;
}

void tok__specials_close(Specials *s, const Tokenizer *t) {
    int n_starts = 0;
    for (int b = 0; b < 256; b++) {
        if (s->starts[b]) s->only_start = b;
        n_starts += s->starts[b];
    }
    if (n_starts != 1) s->only_start = -1;
    for (int32_t id = 0; id < t->n_vocab && s->n && !s->overlap; id++) {
        bool in = tok__is_special(t, id);
        s->overlap = t->flags[id] & TOK_LSTRIP || (in && meets_another(s, t->sym.text[id]));
    }
}

/* ---- finding ---- */

static bool counts(const Fragments *f, int32_t id) {
    if (id < 0 || f->control) return id >= 0;
    return f->t->type[id] == TOK_USER_DEFINED && !(f->t->flags[id] & TOK_NAMED);
}

/* The longest special token at the start of text, or -1. */
static int32_t longest_at(const Fragments *f, Slice text) {
    const Specials *s = &f->t->specials;
    int32_t best = -1;
    uint32_t at = 0;
    for (size_t i = 0; i < text.n; i++) {
        at = child_of(s, at, (uint8_t)text.p[i]);
        if (!at) break;
        if (counts(f, s->node[at].id)) best = s->node[at].id;
    }
    return best;
}

/* The length of white space at p; in a GGUF file's tokens only ASCII has any. */
static size_t space_at(const Tokenizer *t, const char *p, size_t n) {
    uint32_t cp;
    if (n == 0) return 0;
    size_t len = (size_t)utf8_decode(&cp, p, n);
    bool is = len > 0 && (len == 1 || t->leftmost) && ucd_class(cp) & UCD_SPACE;
    return is ? len : 0;
}

/* Without the white space that token id eats on the left of it, at the end of text. */
static Slice trim_before(const Tokenizer *t, Slice text, int32_t id) {
    while (t->flags[id] & TOK_LSTRIP && text.n > 0) {
        size_t b = text.n - 1;
        while (b > 0 && ((uint8_t)text.p[b] & 0xc0) == 0x80) b--;
        if (space_at(t, text.p + b, text.n - b) != text.n - b) break;
        text.n = b;
    }
    return text;
}

/* Where text goes on after token id, which ended at pos. */
static size_t skip_after(const Tokenizer *t, Slice text, size_t pos, int32_t id) {
    size_t len;
    while (t->flags[id] & TOK_RSTRIP && (len = space_at(t, text.p + pos, text.n - pos))) pos += len;
    return pos;
}

/* Where a special token may start, at or after i; most sets start with one and the same byte. */
static size_t skip_to_start(const Specials *s, Slice text, size_t i) {
    if (s->only_start >= 0) {
        const char *at = memchr(text.p + i, s->only_start, text.n - i);
        return at ? (size_t)(at - text.p) : text.n;
    }
    while (i < text.n && !s->starts[(uint8_t)text.p[i]]) i++;
    return i;
}

/* Leftmost first: the text up to the next token, then the token. */
static bool next_leftmost(Fragments *f, Fragment *out) {
    if (f->next >= 0) {
        *out = (Fragment){{f->text.p + f->pos, f->t->sym.text[f->next].n}, f->next};
        f->pos = skip_after(f->t, f->text, f->pos + out->text.n, f->next);
        f->next = -1;
        return true;
    }
    if (f->pos == f->text.n) return false;
    size_t i = f->pos;
    if (f->t->specials.n == 0) i = f->text.n;
    for (; i < f->text.n && f->next < 0; i += f->next < 0) {
        i = skip_to_start(&f->t->specials, f->text, i);
        if (i == f->text.n) break;
        f->next = longest_at(f, (Slice){f->text.p + i, f->text.n - i});
    }
    out->id = -1;
    out->text = (Slice){f->text.p + f->pos, i - f->pos};
    if (f->next >= 0) out->text = trim_before(f->t, out->text, f->next);
    f->pos = i;
    return true;
}

/* ---- the longest first ----
 *
 * Of all places where a special token stands, the longest token comes first, of equally long ones the lower id, of one
 * token the leftmost place. It is cut out, with the white space it eats, and what overlaps a cut is none any more. A
 * heap gives the places in that order, each with the longest token that begins there; where a cut made that one too
 * long, the place comes again with what still fits. So a text costs its places, however many tokens there are. */

/* A place in the text and what begins there. */
typedef struct Spot {
    size_t n; /* bytes of the token */
    int32_t id;
    size_t at;
} Spot;

typedef struct Cutter {
    const Fragments *f;
    bool *cut;  /* owned; [f->text.n] bytes that belong to a token, or that one ate */
    Spot *heap; /* owned; [n_heap] the first in order on top */
    size_t n_heap;
    Fragment *v; /* owned; [n] */
    size_t n, cap;
} Cutter;

static bool before(const Spot *a, const Spot *b) {
    if (a->n != b->n) return a->n > b->n;
    if (a->id != b->id) return a->id < b->id;
    return a->at < b->at;
}

static void heap_down(Cutter *c, size_t i) {
    Spot x = c->heap[i];
    for (size_t k; (k = 2 * i + 1) < c->n_heap; i = k) {
        if (k + 1 < c->n_heap && before(&c->heap[k + 1], &c->heap[k])) k++;
        if (!before(&c->heap[k], &x)) break;
        c->heap[i] = c->heap[k];
    }
    c->heap[i] = x;
}

/* The longest token at a place that ends before the next cut; id -1: none. */
static Spot spot_at(const Cutter *c, size_t at) {
    const Fragments *f = c->f;
    const Specials *s = &f->t->specials;
    Spot x = {0, -1, at};
    uint32_t node = 0;
    for (size_t i = at; i < f->text.n && !c->cut[i]; i++) {
        node = child_of(s, node, (uint8_t)f->text.p[i]);
        if (!node) break;
        if (counts(f, s->node[node].id)) x = (Spot){i + 1 - at, s->node[node].id, at};
    }
    return x;
}

static bool find_spots(Cutter *c) {
    const Fragments *f = c->f;
    size_t cap = 0;
    for (size_t i = 0; i < f->text.n; i++) {
        Spot x = f->t->specials.starts[(uint8_t)f->text.p[i]] ? spot_at(c, i) : (Spot){.id = -1};
        if (x.id < 0) continue;
        if (c->n_heap == cap) {
            Spot *heap = mem_realloc_n(c->heap, cap ? 2 * cap : 64, sizeof *heap);
            if (!heap) return false;
            c->heap = heap;
            cap = cap ? 2 * cap : 64;
        }
        c->heap[c->n_heap++] = x;
    }
    for (size_t i = c->n_heap / 2; i-- > 0;) heap_down(c, i);
    return true;
}

static bool push(Cutter *c, size_t from, size_t to, int32_t id) {
    if (from == to) return true;
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 16;
        Fragment *v = mem_realloc_n(c->v, cap, sizeof *v);
        if (!v) return false;
        c->v = v;
        c->cap = cap;
    }
    c->v[c->n++] = (Fragment){{c->f->text.p + from, to - from}, id};
    return true;
}

/* A token, and the white space that it eats of the text beside it, up to other cuts. */
static bool cut_out(Cutter *c, const Spot *x) {
    const Fragments *f = c->f;
    size_t from = x->at, to = x->at + x->n;
    if (f->t->flags[x->id] & TOK_LSTRIP)
        while (from > 0 && !c->cut[from - 1] && space_at(f->t, f->text.p + from - 1, 1)) from--;
    if (f->t->flags[x->id] & TOK_RSTRIP)
        while (to < f->text.n && !c->cut[to] && space_at(f->t, f->text.p + to, 1)) to++;
    for (size_t i = from; i < to; i++) c->cut[i] = true;
    return push(c, x->at, x->at + x->n, x->id);
}

static int by_place(const void *a, const void *b) {
    const Fragment *x = a, *y = b;
    return (x->text.p > y->text.p) - (x->text.p < y->text.p);
}

/* What lies between the tokens, as fragments too; all in the order of the text. */
static bool add_text(Cutter *c) {
    size_t n = c->f->text.n;
    for (size_t i = 0, from; i < n; i++) {
        for (from = i; i < n && !c->cut[i];) i++;
        if (!push(c, from, i, -1)) return false;
    }
    if (c->n > 0) qsort(c->v, c->n, sizeof *c->v, by_place);
    return true;
}

static bool cut_all(Cutter *c) {
    c->cut = mem_new_n(bool, MAX(c->f->text.n, 1));
    if (!c->cut || !find_spots(c)) return false;
    while (c->n_heap > 0) {
        Spot top = c->heap[0], now = spot_at(c, top.at);
        if (now.n == top.n && !cut_out(c, &top)) return false;
        c->heap[0] = now.n == top.n || now.id < 0 ? c->heap[--c->n_heap] : now;
        heap_down(c, 0);
    }
    return add_text(c);
}

bool tok__fragments_init(Fragments *f) {
    f->next = -1;
    if (f->t->leftmost || !f->t->specials.overlap) return true;
    Cutter c = {.f = f};
    bool ok = cut_all(&c);
    mem_free(c.cut);
    mem_free(c.heap);
    f->ordered = c.v;
    f->n = c.n;
    return ok;
}

void tok__fragments_deinit(Fragments *f) { mem_free(f->ordered); }

bool tok__fragments_next(Fragments *f, Fragment *out) {
    if (!f->ordered) return next_leftmost(f, out);
    if (f->i == f->n) return false;
    *out = f->ordered[f->i++];
    return true;
}
