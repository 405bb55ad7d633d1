/* SPDX-License-Identifier: Apache-2.0
 * The syntax tree and the compilation it belongs to: nodes from an arena, counted against the limit, a sticky
 * failure that says where. Builders simplify as they go, so that the automaton has no states for nothing. */
#include "engine/grammar/internal.h"

#include <stdlib.h>

#include "base/clock.h"

static const GrammarLimits defaults = {.source_bytes = 256 << 10,
                                       .n_nodes = 200000,
                                       .n_states = 500000,
                                       .depth = 128,
                                       .compile_ms = 2000,
                                       .stack_depth = 256,
                                       .state_bytes = 16 << 20,
                                       .mask_bytes = 16 << 20,
                                       .mask_work = 4000000};

static void fill_limits(GrammarLimits *l) {
    if (!l->source_bytes) l->source_bytes = defaults.source_bytes;
    if (!l->n_nodes) l->n_nodes = defaults.n_nodes;
    if (!l->n_states) l->n_states = defaults.n_states;
    if (l->depth <= 0) l->depth = defaults.depth;
    l->depth = MIN(l->depth, 256);
    if (l->compile_ms <= 0) l->compile_ms = defaults.compile_ms;
    if (l->stack_depth <= 0) l->stack_depth = defaults.stack_depth;
    if (!l->state_bytes) l->state_bytes = defaults.state_bytes;
    if (!l->mask_bytes) l->mask_bytes = defaults.mask_bytes;
    if (!l->mask_work) l->mask_work = defaults.mask_work;
}

void grammar__comp_init(Comp *c, const GrammarLimits *limits, Slice text, Err *e) {
    *c = (Comp){.lim = limits ? *limits : defaults, .text = text, .e = e};
    fill_limits(&c->lim);
    arena_init(&c->arena, 64 << 10);
    c->deadline_ns = clock_now_ns() + (uint64_t)c->lim.compile_ms * 1000000;
}

void grammar__comp_deinit(Comp *c) {
    mem_free(c->rules);
    c->rules = NULL;
    arena_deinit(&c->arena);
}

/* ---- failures and places ---- */

static void put_line_column(StrBuf *b, Slice text, size_t at) {
    size_t line = 1, column = 1;
    for (size_t i = 0; i < at && i < text.n; i++) {
        if (text.p[i] == '\n') line++, column = 1;
        else column++;
    }
    sb_printf(b, "%zu:%zu", line, column);
}

static void put_member(StrBuf *b, Slice key) {
    size_t max = 40;
    for (size_t i = 0; i < key.n && i < max; i++) {
        char c = key.p[i];
        if (c == '~') sb_puts(b, "~0");
        else if (c == '/') sb_puts(b, "~1");
        else sb_put_quoted(b, (Slice){&key.p[i], 1}, 8);
    }
    if (key.n > max) sb_puts(b, "...");
}

void grammar__put_where(StrBuf *b, const Comp *c, const Where *w) {
    const Where *chain[256];
    int n = 0;
    if (c->text.p) {
        put_line_column(b, c->text, w ? w->at : 0);
        return;
    }
    sb_putc(b, '#');
    for (; w && w->up && n < 256; w = w->up) chain[n++] = w; /* the root has no name */
    while (n-- > 0) {
        sb_putc(b, '/');
        if (chain[n]->key.p) put_member(b, chain[n]->key);
        else sb_printf(b, "%zu", chain[n]->at);
    }
}

Status grammar__fail(Comp *c, const Where *at, Status code, const char *fmt, ...) {
    StrBuf b = {0};
    va_list ap;
    if (c->st != OK) return c->st;
    grammar__put_where(&b, c, at);
    sb_puts(&b, ": ");
    va_start(ap, fmt);
    sb_vprintf(&b, fmt, ap);
    va_end(ap);
    c->st = b.failed ? err_set(c->e, ERR_NOMEM, "grammar") : err_set(c->e, code, "%s", sb_str(&b));
    sb_deinit(&b);
    return c->st;
}

bool grammar__failed(Comp *c) {
    if (c->st != OK) return true;
    if (!arena_ok(&c->arena)) c->st = err_set(c->e, ERR_NOMEM, "grammar: syntax tree");
    return c->st != OK;
}

const Where *grammar__where(Comp *c, const Where *up, Slice key, size_t at) {
    Where *w = arena_new(&c->arena, Where);
    if (!w) return up;
    *w = (Where){up, key, at};
    return w;
}

/* ---- nodes ---- */

static Node dummy; /* stands in after a failure; never written */

static Node *node(Comp *c, NodeKind kind) {
    if (grammar__failed(c)) return &dummy;
    if (++c->n_nodes > c->lim.n_nodes) {
        grammar__fail(c, NULL, ERR_FULL, "more than %u nodes", c->lim.n_nodes);
        return &dummy;
    }
    if (c->n_nodes % 1024 == 0 && clock_now_ns() > c->deadline_ns) {
        grammar__fail(c, NULL, ERR_TIMEOUT, "takes over %d ms to compile", c->lim.compile_ms);
        return &dummy;
    }
    Node *k = arena_new(&c->arena, Node);
    if (!k) return &dummy;
    k->kind = kind;
    return k;
}

static bool is_real(const Node *k) { return k != &dummy; }

Node *grammar__empty(Comp *c) { return node(c, NODE_EMPTY); }
Node *grammar__none(Comp *c) { return node(c, NODE_FAIL); }

Node *grammar__bytes(Comp *c, Slice s) {
    Node *k = node(c, s.n ? NODE_BYTES : NODE_EMPTY);
    if (is_real(k) && s.n) k->bytes = (Slice){arena_dup(&c->arena, s.p, s.n), s.n};
    return k;
}

Node *grammar__str(Comp *c, const char *s) { return grammar__bytes(c, slice_of(s)); }

Node *grammar__set(Comp *c, CharSet s) {
    Node *k = node(c, s.n ? NODE_SET : NODE_FAIL);
    if (is_real(k)) k->set = s;
    return k;
}

Node *grammar__chars(Comp *c, const char *p) {
    SetBuild b = {0};
    while (*p) {
        bool range = p[1] == '-' && p[2];
        grammar__set_add(c, &b, (uint8_t)p[0], (uint8_t)p[range ? 2 : 0]);
        p += range ? 3 : 1;
    }
    return grammar__set(c, grammar__set_take(c, &b, false));
}

static Node *with_kids(Comp *c, NodeKind kind, Node *const *kids, size_t n) {
    Node *k = node(c, kind);
    if (!is_real(k)) return k;
    k->kid = arena_new_n(&c->arena, Node *, n);
    if (!k->kid) return &dummy;
    memcpy(k->kid, kids, n * sizeof *kids);
    k->n = (uint32_t)n;
    return k;
}

Node *grammar__seq(Comp *c, Node *const *kids, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (kids[i]->kind == NODE_FAIL) return kids[i];
    if (n == 0) return grammar__empty(c);
    return n == 1 ? kids[0] : with_kids(c, NODE_SEQ, kids, n);
}

Node *grammar__alt(Comp *c, Node *const *kids, size_t n) {
    NodeList keep = {0};
    for (size_t i = 0; i < n; i++)
        if (kids[i]->kind != NODE_FAIL) grammar__push(c, &keep, kids[i]);
    Node *k = keep.n == 0   ? grammar__none(c)
              : keep.n == 1 ? keep.v[0]
                            : with_kids(c, NODE_ALT, keep.v, keep.n);
    mem_free(keep.v);
    return k;
}

Node *grammar__repeat(Comp *c, Node *kid, int64_t min, int64_t max, const Where *at) {
    if (max == 0 || kid->kind == NODE_EMPTY) return grammar__empty(c);
    if (min == 1 && max == 1) return kid;
    if (kid->kind == NODE_FAIL) return min == 0 ? grammar__empty(c) : kid;
    Node *k = with_kids(c, NODE_REPEAT, &kid, 1);
    if (!is_real(k)) return k;
    k->min = min;
    k->max = max;
    k->where = at;
    return k;
}

static int by_bytes(const void *x, const void *y) {
    const Slice *a = x, *b = y;
    size_t n = MIN(a->n, b->n);
    int d = n ? memcmp(a->p, b->p, n) : 0;
    return d ? d : (a->n > b->n) - (a->n < b->n);
}

Node *grammar__words(Comp *c, const Slice *w, size_t n) {
    Node *k = node(c, n ? NODE_WORDS : NODE_FAIL);
    if (!is_real(k) || !n) return k;
    k->words = arena_new_n(&c->arena, Slice, n);
    if (!k->words) return &dummy;
    for (size_t i = 0; i < n; i++) {
        k->words[i] = (Slice){arena_dup(&c->arena, w[i].p, w[i].n), w[i].n};
        if (!k->words[i].p) return &dummy;
    }
    qsort(k->words, n, sizeof *k->words, by_bytes);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || !slice_eq(k->words[i], k->words[k->n - 1])) k->words[k->n++] = k->words[i];
    return k;
}

Node *grammar__ref(Comp *c, uint32_t rule, const Where *at) {
    Node *k = node(c, NODE_REF);
    if (!is_real(k)) return k;
    k->rule = rule;
    k->where = at;
    return k;
}

uint32_t grammar__rule(Comp *c, Slice name, const Where *at) {
    if (grammar__failed(c)) return 0;
    if (!grammar__grow((void **)&c->rules, &c->cap_rules, (size_t)c->n_rules + 1,
                       sizeof *c->rules)) {
        c->st = err_set(c->e, ERR_NOMEM, "grammar: rules");
        return 0;
    }
    c->rules[c->n_rules] = (Rule){.name = name, .where = at};
    return c->n_rules++;
}

void grammar__push(Comp *c, NodeList *l, Node *k) {
    if (grammar__failed(c)) return;
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 8;
        Node **v = mem_realloc_n(l->v, cap, sizeof *v);
        if (!v) {
            c->st = err_set(c->e, ERR_NOMEM, "grammar: syntax tree");
            return;
        }
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = k;
}

bool grammar__grow(void **p, uint32_t *cap, size_t need, size_t size) {
    if (need <= *cap) return true;
    size_t want = MAX((size_t)*cap * 2, MAX(need, (size_t)16));
    if (want > UINT32_MAX / 2) return false;
    void *q = mem_realloc_n(*p, want, size);
    if (!q) return false;
    *p = q;
    *cap = (uint32_t)want;
    return true;
}
