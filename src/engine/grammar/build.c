/* SPDX-License-Identifier: Apache-2.0
 * Tree to automaton. Built from the back: build(node, next) gives the state from which `node` and then whatever
 * `next` stands for is read, so sequences need no patching and optional tails are shared.
 *
 * A rule is written in place where it is used, because states of one frame are what becomes deterministic;
 * it is called, with a stack entry at run time, where it is on a cycle of rules, marked so, or where writing in
 * place would take too many states (then everything is called).
 *
 * Code points become bytes by the usual splitting of ranges at UTF-8's borders, ends shared. */
#include "engine/grammar/internal.h"

#include "base/clock.h"

typedef struct Tail { /* edges already made within one set: (lo, hi, to) -> state */
    uint8_t lo, hi;
    uint32_t to, state;
} Tail;

typedef struct Builder {
    Comp *c;
    Nfa *n;
    const Where *at; /* the innermost repetition or rule being written */
    int depth;
    uint32_t budget; /* states */
    uint64_t steps;  /* nodes gone over: those without a state cost time too */
    bool over;
    Tail *tail; /* owned scratch */
    uint32_t n_tail, cap_tail;
    NfaEdge *open; /* owned scratch: edges of words not yet complete */
    uint32_t n_open, cap_open;
    uint32_t *base; /* owned scratch: per depth of a word, where its edges begin in open */
    uint32_t cap_base;
} Builder;

static uint32_t build(Builder *b, const Node *k, uint32_t next);

static void nomem(Builder *b) {
    if (b->c->st == OK) b->c->st = err_set(b->c->e, ERR_NOMEM, "grammar: automaton");
}

static bool stopped(const Builder *b) { return b->over || b->c->st != OK; }

static uint32_t new_state(Builder *b, NfaKind kind, uint32_t x, uint32_t y) {
    Nfa *n = b->n;
    if (stopped(b)) return 0;
    if (n->n >= b->budget) {
        b->over = true;
        return 0;
    }
    if (n->n % 4096 == 0 && clock_now_ns() > b->c->deadline_ns) {
        grammar__fail(b->c, b->at, ERR_TIMEOUT, "takes over %d ms to compile",
                      b->c->lim.compile_ms);
        return 0;
    }
    if (!grammar__grow((void **)&n->s, &n->cap, (size_t)n->n + 1, sizeof *n->s)) {
        nomem(b);
        return 0;
    }
    n->s[n->n] = (NfaState){(uint8_t)kind, 0, x, y};
    return n->n++;
}

static uint32_t byte_state(Builder *b, const NfaEdge *e, uint32_t n_edges) {
    Nfa *n = b->n;
    uint32_t off = n->n_edges;
    if (stopped(b)) return 0;
    if (!grammar__grow((void **)&n->edge, &n->cap_edges, (size_t)off + n_edges, sizeof *e)) {
        nomem(b);
        return 0;
    }
    if (n_edges) memcpy(n->edge + off, e, n_edges * sizeof *e);
    n->n_edges += n_edges;
    return new_state(b, NFA_BYTE, off, n_edges);
}

/* An empty move to n places, of which the caller sets those after the first two. */
static uint32_t eps_state(Builder *b, uint32_t n_to, uint32_t x, uint32_t y) {
    Nfa *n = b->n;
    uint32_t off = n->n_eps;
    if (stopped(b)) return 0;
    if (!grammar__grow((void **)&n->eps, &n->cap_eps, (size_t)off + n_to, sizeof *n->eps)) {
        nomem(b);
        return 0;
    }
    n->n_eps += n_to;
    n->eps[off] = x;
    if (n_to > 1) n->eps[off + 1] = y;
    return new_state(b, NFA_EPS, off, n_to);
}

/* ---- sets ---- */

static uint32_t tail_state(Builder *b, uint8_t lo, uint8_t hi, uint32_t to, uint32_t from) {
    for (uint32_t i = from; i < b->n_tail; i++) {
        Tail *t = &b->tail[i];
        if (t->lo == lo && t->hi == hi && t->to == to) return t->state;
    }
    NfaEdge e = {lo, hi, to};
    uint32_t s = byte_state(b, &e, 1);
    if (!grammar__grow((void **)&b->tail, &b->cap_tail, (size_t)b->n_tail + 1, sizeof *b->tail)) {
        nomem(b);
        return 0;
    }
    if (b->n_tail < 4096) b->tail[b->n_tail++] = (Tail){lo, hi, to, s};
    return s;
}

static void push_open(Builder *b, uint8_t lo, uint8_t hi, uint32_t to) {
    if (!grammar__grow((void **)&b->open, &b->cap_open, (size_t)b->n_open + 1, sizeof *b->open)) {
        nomem(b);
        return;
    }
    b->open[b->n_open++] = (NfaEdge){lo, hi, to};
}

static int encode(uint8_t out[4], uint32_t cp) {
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    int n = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, cp >>= 6) out[i] = (uint8_t)(0x80 | (cp & 0x3f));
    out[0] = (uint8_t)(lead[n] | cp);
    return n;
}

/* lo..hi have encodings of one length that differ in a block of whole bytes only. */
static void put_block(Builder *b, uint32_t lo, uint32_t hi, uint32_t next) {
    uint8_t x[4], y[4];
    int n = encode(x, lo);
    encode(y, hi);
    for (int i = n - 1; i > 0; i--) next = tail_state(b, x[i], y[i], next, 0);
    push_open(b, x[0], y[0], next);
}

static void put_range(Builder *b, uint32_t lo, uint32_t hi, uint32_t next) {
    static const uint32_t last[] = {0x7f, 0x7ff, 0xffff};
    if (stopped(b)) return;
    for (int i = 0; i < 3; i++)
        if (lo <= last[i] && hi > last[i]) {
            put_range(b, lo, last[i], next);
            put_range(b, last[i] + 1, hi, next);
            return;
        }
    for (int i = 1; lo > 0x7f && i < 4; i++) {
        uint32_t m = ((uint32_t)1 << (6 * i)) - 1;
        uint32_t cut = (lo & m) != 0 ? lo | m : (hi & m) != m ? (hi & ~m) - 1 : UINT32_MAX;
        if ((lo & ~m) == (hi & ~m) || cut == UINT32_MAX) continue;
        put_range(b, lo, cut, next);
        put_range(b, cut + 1, hi, next);
        return;
    }
    put_block(b, lo, hi, next);
}

static uint32_t build_set(Builder *b, const CharSet *s, uint32_t next) {
    uint32_t from = b->n_open;
    b->n_tail = 0;
    for (uint32_t i = 0; i < s->n; i++) put_range(b, s->r[i].lo, s->r[i].hi, next);
    uint32_t state = stopped(b) ? 0 : byte_state(b, b->open + from, b->n_open - from);
    b->n_open = from;
    return state;
}

/* ---- words: a trie, made while going through the sorted list ---- */

/* The node at this depth is complete: make its state, give it to its parent as an edge. */
static uint32_t close_word_node(Builder *b, uint32_t depth, const Slice *w, uint32_t next) {
    uint32_t from = b->base[depth], state = next;
    if (b->n_open > from) {
        state = byte_state(b, b->open + from, b->n_open - from);
        if (w->n == depth) state = eps_state(b, 2, state, next);
    }
    b->n_open = from;
    return state;
}

static uint32_t common(Slice x, Slice y) {
    uint32_t i = 0;
    while (i < x.n && i < y.n && x.p[i] == y.p[i]) i++;
    return i;
}

static uint32_t build_words(Builder *b, const Node *k, uint32_t next) {
    size_t longest = 0;
    uint32_t state = next, depth = 0;
    for (uint32_t i = 0; i < k->n; i++) longest = MAX(longest, k->words[i].n);
    /* base[d]: edges of the node at depth d; ends[d] as a word is seen: the first word that is as long */
    if (!grammar__grow((void **)&b->base, &b->cap_base, 2 * (longest + 1), sizeof *b->base)) {
        nomem(b);
        return 0;
    }
    b->base[0] = b->n_open;
    uint32_t *ends = b->base + longest + 1;
    ends[0] = 0;
    for (uint32_t i = 0; i < k->n && !stopped(b); i++) {
        Slice w = k->words[i], none = {NULL, 0};
        for (; depth < w.n; depth++) {
            b->base[depth + 1] = b->n_open;
            ends[depth + 1] = 0;
        }
        ends[depth] = 1; /* sorted: a word comes before those it begins */
        uint32_t keep = common(w, i + 1 < k->n ? k->words[i + 1] : none);
        for (; depth > keep; depth--) {
            Slice at = {w.p, ends[depth] ? depth : SIZE_MAX};
            uint8_t c = (uint8_t)w.p[depth - 1];
            state = close_word_node(b, depth, &at, next);
            push_open(b, c, c, state);
        }
    }
    if (stopped(b)) return 0;
    Slice at = {NULL, ends[0] ? 0 : SIZE_MAX};
    return close_word_node(b, 0, &at, next);
}

/* ---- the other nodes ---- */

static uint32_t build_bytes(Builder *b, Slice s, uint32_t next) {
    for (size_t i = s.n; i-- > 0 && !stopped(b);) {
        NfaEdge e = {(uint8_t)s.p[i], (uint8_t)s.p[i], next};
        next = byte_state(b, &e, 1);
    }
    return next;
}

static uint32_t build_alt(Builder *b, const Node *k, uint32_t next) {
    uint32_t s = eps_state(b, k->n, 0, 0);
    for (uint32_t i = 0; i < k->n && !stopped(b); i++) {
        uint32_t to = build(b, k->kid[i], next);
        if (!stopped(b)) b->n->eps[b->n->s[s].a + i] = to;
    }
    return s;
}

/* s goes to `to` by its first move. */
static void point(Builder *b, uint32_t s, uint32_t to) {
    if (!stopped(b)) b->n->eps[b->n->s[s].a] = to;
}

static uint32_t build_repeat(Builder *b, const Node *k, uint32_t next) {
    const Where *at = b->at;
    uint32_t cur = next;
    if (k->where) b->at = k->where;
    if (k->max == GRAMMAR_INF) {
        cur = eps_state(b, 2, next, next);
        point(b, cur, build(b, k->kid[0], cur));
    }
    for (int64_t i = k->max; i > k->min && !stopped(b); i--)
        cur = eps_state(b, 2, build(b, k->kid[0], cur), next);
    for (int64_t i = 0; i < k->min && !stopped(b); i++) {
        uint32_t one = build(b, k->kid[0], cur);
        if (one == cur) break; /* of the empty text, any number is one */
        cur = one;
    }
    if (!stopped(b)) b->at = at;
    return cur;
}

/* From the last member to the first: where to go if none came before (first) or some did (rest). */
static uint32_t build_members(Builder *b, const Node *k, uint32_t next) {
    uint32_t rest = next, first = next;
    if (k->more) {
        rest = eps_state(b, 2, next, next);
        uint32_t one = build(b, k->more, rest);
        point(b, rest, build(b, k->sep, one));
        first = eps_state(b, 2, one, next);
    }
    for (uint32_t i = k->n; i-- > 0 && !stopped(b);) {
        uint32_t one = build(b, k->kid[i], rest);
        uint32_t after = build(b, k->sep, one);
        rest = k->needed[i] ? after : eps_state(b, 2, after, rest);
        first = k->needed[i] ? one : eps_state(b, 2, one, first);
    }
    return first;
}

static uint32_t build_ref(Builder *b, const Node *k, uint32_t next) {
    enum { MAX_INLINE_DEPTH = 256 };
    Rule *r = &b->c->rules[k->rule];
    if (!r->called && b->depth > MAX_INLINE_DEPTH) r->called = true;
    if (r->called) return new_state(b, NFA_CALL, k->rule, next);
    const Where *at = b->at;
    if (!at) b->at = k->where;
    uint32_t s = build(b, r->body, next);
    if (!stopped(b)) b->at = at;
    return s;
}

static uint32_t build_kind(Builder *b, const Node *k, uint32_t next) {
    switch (k->kind) {
    case NODE_EMPTY: return next;
    case NODE_FAIL: return byte_state(b, NULL, 0);
    case NODE_BYTES: return build_bytes(b, k->bytes, next);
    case NODE_SET: return build_set(b, &k->set, next);
    case NODE_WORDS: return build_words(b, k, next);
    case NODE_ALT: return build_alt(b, k, next);
    case NODE_REPEAT: return build_repeat(b, k, next);
    case NODE_MEMBERS: return build_members(b, k, next);
    case NODE_REF: return build_ref(b, k, next);
    case NODE_SEQ: break;
    }
    for (uint32_t i = k->n; i-- > 0 && !stopped(b);) next = build(b, k->kid[i], next);
    return next;
}

static uint32_t build(Builder *b, const Node *k, uint32_t next) {
    if (stopped(b)) return 0;
    if (++b->steps > 16 * (uint64_t)b->budget) {
        b->over = true;
        return 0;
    }
    b->depth++;
    uint32_t s = build_kind(b, k, next);
    b->depth--;
    return s;
}

/* ---- which rules are called ---- */

typedef struct Refs {
    uint32_t *to; /* owned */
    uint32_t n, cap;
    bool nomem;
} Refs;

/* A node may have several parents: each is gone over once per rule. */
static void collect(Refs *r, Node *k, uint32_t rule) {
    if (k->seen == rule + 1) return;
    k->seen = rule + 1;
    if (k->kind == NODE_REF) {
        if (!grammar__grow((void **)&r->to, &r->cap, (size_t)r->n + 1, sizeof *r->to)) {
            r->nomem = true;
            return;
        }
        r->to[r->n++] = k->rule;
    }
    if (k->kind == NODE_WORDS) return;
    for (uint32_t i = 0; i < k->n && !r->nomem; i++) collect(r, k->kid[i], rule);
    if (k->sep) collect(r, k->sep, rule);
    if (k->more) collect(r, k->more, rule);
}

/* Rules on a cycle, or between two cycles, are called. ERR_NOMEM. */
static Status mark_called(Comp *c) {
    uint32_t n = c->n_rules;
    Refs refs = {0};
    uint32_t *off = mem_new_n(uint32_t, (size_t)n + 1);
    bool *on = mem_new_n(bool, n);
    bool ok = off && on;
    for (uint32_t i = 0; ok && i < n; i++) {
        collect(&refs, c->rules[i].body, i);
        off[i + 1] = refs.n;
        ok = !refs.nomem;
    }
    ok = ok && grammar__cycles(on, n, off, refs.to);
    for (uint32_t i = 0; ok && i < n; i++) c->rules[i].called = c->rules[i].must_call || on[i];
    if (!ok && c->st == OK) c->st = err_set(c->e, ERR_NOMEM, "grammar: rules");
    mem_free(refs.to);
    mem_free(off);
    mem_free(on);
    return c->st;
}

/* ---- the whole ---- */

static void reset(Nfa *n) { n->n = n->n_edges = n->n_eps = 0; }

/* State 0, rule 0, then rules as they are called. Depth of writing in place may turn rules into called ones on
 * the way, so the list is gone through until nothing is added. */
static void build_rules(Builder *b) {
    Comp *c = b->c;
    bool more = true;
    reset(b->n);
    b->over = false;
    b->steps = 0;
    new_state(b, NFA_FINAL, 0, 0);
    for (uint32_t i = 0; i < c->n_rules; i++) b->n->start[i] = UINT32_MAX;
    c->rules[0].called = true;
    while (more && !stopped(b)) {
        more = false;
        for (uint32_t i = 0; i < c->n_rules && !stopped(b); i++) {
            if (!c->rules[i].called || b->n->start[i] != UINT32_MAX) continue;
            b->at = NULL;
            b->depth = 0;
            b->n->start[i] = build(b, c->rules[i].body, 0);
            more = true;
        }
    }
}

Status grammar__build(Nfa *out, Comp *c) {
    Builder b = {.c = c, .n = out};
    *out = (Nfa){.n_rules = c->n_rules};
    if (grammar__failed(c)) return c->st;
    out->start = mem_new_n(uint32_t, c->n_rules);
    if (!out->start) nomem(&b);
    if (c->st == OK && mark_called(c) == OK) {
        b.budget = MIN(c->lim.n_states, 100000);
        build_rules(&b);
        if (b.over) { /* too much written in place: call, and take what the limit gives */
            for (uint32_t i = 0; i < c->n_rules; i++) c->rules[i].called = true;
            b.budget = c->lim.n_states;
            build_rules(&b);
        }
        if (b.over) {
            grammar__fail(c, b.at, ERR_FULL, "this repetition or rule makes more than %u states",
                          c->lim.n_states);
        }
    }
    mem_free(b.tail);
    mem_free(b.open);
    mem_free(b.base);
    if (c->st != OK) grammar__nfa_deinit(out);
    return c->st;
}

void grammar__nfa_deinit(Nfa *n) {
    mem_free(n->s);
    mem_free(n->edge);
    mem_free(n->eps);
    mem_free(n->start);
    *n = (Nfa){0};
}
