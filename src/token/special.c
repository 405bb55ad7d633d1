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

/* ---- the longest first ---- */

typedef struct Seen {
    size_t n; /* bytes */
    int32_t id;
} Seen;

static int by_length(const void *a, const void *b) {
    const Seen *x = a, *y = b;
    if (x->n != y->n) return x->n > y->n ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* The special tokens that occur at all, the longest first: owned by the caller, NULL when memory is out. */
static Seen *find_seen(const Fragments *f, size_t *n) {
    const Specials *s = &f->t->specials;
    bool *met = mem_new_n(bool, s->n);
    Seen *seen = mem_new_n(Seen, s->n);
    *n = 0;
    for (size_t i = 0; met && seen && i < f->text.n; i++) {
        uint32_t at = s->starts[(uint8_t)f->text.p[i]] ? child_of(s, 0, (uint8_t)f->text.p[i]) : 0;
        for (size_t k = i + 1; at; k++) {
            int32_t id = s->node[at].id;
            if (counts(f, id) && !met[at]) seen[(*n)++] = (Seen){f->t->sym.text[id].n, id};
            met[at] = true;
            at = k < f->text.n ? child_of(s, at, (uint8_t)f->text.p[k]) : 0;
        }
    }
    mem_free(met);
    if (seen && met) {
        qsort(seen, *n, sizeof *seen, by_length);
        return seen;
    }
    mem_free(seen);
    return NULL;
}

typedef struct FragmentList {
    Fragment *v; /* owned */
    size_t n, cap;
    bool failed;
} FragmentList;

static void list_push(FragmentList *l, Slice text, int32_t id) {
    if (text.n == 0 || l->failed) return;
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 16;
        Fragment *v = mem_realloc_n(l->v, cap, sizeof *v);
        l->failed = !v;
        if (!v) return;
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = (Fragment){text, id};
}

/* Text between tokens, with every occurrence of token id cut out. */
static void list_cut(FragmentList *to, const Tokenizer *t, Slice text, int32_t id) {
    Slice what = t->sym.text[id];
    for (const char *at; text.n && (at = memmem(text.p, text.n, what.p, what.n));) {
        size_t b = (size_t)(at - text.p);
        list_push(to, trim_before(t, (Slice){text.p, b}, id), -1);
        list_push(to, (Slice){at, what.n}, id);
        b = skip_after(t, text, b + what.n, id);
        text = (Slice){text.p + b, text.n - b};
    }
    list_push(to, text, -1);
}

bool tok__fragments_init(Fragments *f) {
    f->next = -1;
    if (f->t->leftmost || !f->t->specials.overlap) return true;
    size_t n_seen;
    Seen *seen = find_seen(f, &n_seen);
    FragmentList all = {0}, next = {0};
    list_push(&all, f->text, -1);
    for (size_t k = 0; seen && k < n_seen && !all.failed; k++) {
        next.n = 0;
        for (size_t i = 0; i < all.n; i++) {
            if (all.v[i].id >= 0) list_push(&next, all.v[i].text, all.v[i].id);
            else list_cut(&next, f->t, all.v[i].text, seen[k].id);
        }
        FragmentList swap = all;
        all = next;
        next = swap;
    }
    bool ok = seen && !all.failed && !next.failed;
    mem_free(seen);
    mem_free(next.v);
    f->ordered = all.v;
    f->n = all.n;
    return ok;
}

void tok__fragments_deinit(Fragments *f) { mem_free(f->ordered); }

bool tok__fragments_next(Fragments *f, Fragment *out) {
    if (!f->ordered) return next_leftmost(f, out);
    if (f->i == f->n) return false;
    *out = f->ordered[f->i++];
    return true;
}
