/* SPDX-License-Identifier: Apache-2.0
 * What must hold of an automaton before anything runs on it: an end can be reached (states from which none can
 * are left out for good, so a text that was allowed so far can always be finished), and no rule calls itself
 * before a byte is read (so following empty moves and calls always ends). And the classes of bytes that no edge
 * tells apart. */
#include "engine/grammar/internal.h"

/* ---- cycles ---- */

/* Drop what has degree 0, and lower the degree of what it is connected to, again and again. */
static void strip(uint32_t n, uint32_t *degree, bool *on, const uint32_t *off,
                  const uint32_t *other, uint32_t *ready) {
    uint32_t n_ready = 0;
    for (uint32_t i = 0; i < n; i++)
        if (on[i] && degree[i] == 0) on[i] = false, ready[n_ready++] = i;
    while (n_ready) {
        uint32_t r = ready[--n_ready];
        for (uint32_t i = off[r]; i < off[r + 1]; i++) {
            uint32_t o = other[i];
            if (on[o] && --degree[o] == 0) on[o] = false, ready[n_ready++] = o;
        }
    }
}

/* from: the references of `to` turned round; r_off has n + 1 zeroed entries. */
static void turn(uint32_t *r_off, uint32_t *from, const uint32_t *off, const uint32_t *to,
                 uint32_t n) {
    for (uint32_t i = 0; i < off[n]; i++) r_off[to[i] + 1]++;
    for (uint32_t i = 0; i < n; i++) r_off[i + 1] += r_off[i];
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t i = off[r]; i < off[r + 1]; i++) from[r_off[to[i]]++] = r;
    for (uint32_t i = n; i > 0; i--) r_off[i] = r_off[i - 1];
    r_off[0] = 0;
}

bool grammar__cycles(bool *on, uint32_t n, const uint32_t *off, const uint32_t *to) {
    uint32_t *r_off = mem_new_n(uint32_t, (size_t)n + 1), *from = mem_new_n(uint32_t, off[n]);
    uint32_t *degree = mem_new_n(uint32_t, n), *ready = mem_new_n(uint32_t, n);
    bool ok = r_off && from && degree && ready;
    if (ok) {
        turn(r_off, from, off, to, n);
        for (uint32_t i = 0; i < n; i++) {
            on[i] = true;
            degree[i] = off[i + 1] - off[i];
        }
        strip(n, degree, on, r_off, from, ready); /* those that lead to no cycle */
        for (uint32_t i = 0; i < n; i++) {
            degree[i] = 0;
            for (uint32_t j = r_off[i]; j < r_off[i + 1]; j++) degree[i] += on[from[j]];
        }
        strip(n, degree, on, off, to, ready); /* those that none leads to */
    }
    mem_free(r_off);
    mem_free(from);
    mem_free(degree);
    mem_free(ready);
    return ok;
}

/* ---- from where an end can be reached ---- */

typedef struct Back {             /* for each state, those that lead to it */
    uint32_t *off, *from, *ready; /* owned */
    uint8_t *need;                /* owned: how many more of its successors must be good */
} Back;

static void back_deinit(Back *b) {
    mem_free(b->off);
    mem_free(b->from);
    mem_free(b->ready);
    mem_free(b->need);
}

/* Successors of state s by number, with `bytes` those of byte edges too. */
static uint32_t successor(const Nfa *n, uint32_t s, uint32_t i, bool bytes) {
    const NfaState *x = &n->s[s];
    if (x->kind == NFA_CALL) return i == 0 ? n->start[x->a] : i == 1 ? x->b : UINT32_MAX;
    if (i >= x->b || x->kind == NFA_FINAL || (x->kind == NFA_BYTE && !bytes)) return UINT32_MAX;
    return x->kind == NFA_EPS ? n->eps[x->a + i] : n->edge[x->a + i].to;
}

static bool back_init(Back *b, const Nfa *n, bool bytes) {
    size_t total = (size_t)n->n_edges + n->n_eps + 2 * (size_t)n->n;
    b->off = mem_new_n(uint32_t, (size_t)n->n + 2);
    b->from = mem_new_n(uint32_t, total);
    b->ready = mem_new_n(uint32_t, n->n);
    b->need = mem_new_n(uint8_t, n->n);
    if (!b->off || !b->from || !b->ready || !b->need) return false;
    for (uint32_t s = 0; s < n->n; s++)
        for (uint32_t i = 0, to; (to = successor(n, s, i, bytes)) != UINT32_MAX; i++)
            b->off[to + 2]++;
    for (uint32_t s = 0; s <= n->n; s++) b->off[s + 1] += b->off[s];
    for (uint32_t s = 0; s < n->n; s++) {
        b->need[s] = n->s[s].kind == NFA_CALL ? 2 : 1;
        for (uint32_t i = 0, to; (to = successor(n, s, i, bytes)) != UINT32_MAX; i++)
            b->from[b->off[to + 1]++] = s;
    }
    return true;
}

/* good[s]: FINAL can be reached, through calls that themselves can end. False: no memory. */
static bool reach(uint8_t *good, const Nfa *n, bool bytes) {
    Back b = {0};
    uint32_t n_ready = 0;
    bool ok = back_init(&b, n, bytes);
    if (ok) {
        good[0] = 1;
        b.ready[n_ready++] = 0;
    }
    while (n_ready) {
        uint32_t s = b.ready[--n_ready];
        for (uint32_t i = b.off[s]; i < b.off[s + 1]; i++) {
            uint32_t f = b.from[i];
            if (good[f] || --b.need[f]) continue;
            good[f] = 1;
            b.ready[n_ready++] = f;
        }
    }
    back_deinit(&b);
    return ok;
}

/* ---- left recursion ---- */

typedef struct Left {
    const Nfa *n;
    const uint8_t *empty; /* [n->n] whether FINAL can be reached with no byte */
    uint32_t *seen;       /* owned [n->n] rule + 1 that saw it last */
    uint32_t *ready;      /* owned [n->n] */
    uint32_t *off, *to;   /* owned: rules each rule calls before any byte */
    uint32_t n_to, cap_to;
} Left;

static void see(Left *l, uint32_t *n_ready, uint32_t s, uint32_t rule) {
    if (l->seen[s] == rule + 1) return;
    l->seen[s] = rule + 1;
    l->ready[(*n_ready)++] = s;
}

static bool calls_of(Left *l, uint32_t rule) {
    uint32_t n_ready = 0;
    if (l->n->start[rule] != UINT32_MAX) see(l, &n_ready, l->n->start[rule], rule);
    while (n_ready) {
        const NfaState *s = &l->n->s[l->ready[--n_ready]];
        for (uint32_t i = 0; s->kind == NFA_EPS && i < s->b; i++)
            see(l, &n_ready, l->n->eps[s->a + i], rule);
        if (s->kind != NFA_CALL) continue;
        if (!grammar__grow((void **)&l->to, &l->cap_to, (size_t)l->n_to + 1, sizeof *l->to))
            return false;
        l->to[l->n_to++] = s->a;
        if (l->empty[l->n->start[s->a]]) see(l, &n_ready, s->b, rule);
    }
    return true;
}

static Status refuse_left_recursion(const Nfa *n, const uint8_t *empty, Comp *c) {
    Left l = {.n = n, .empty = empty};
    bool *on = mem_new_n(bool, n->n_rules);
    l.seen = mem_new_n(uint32_t, n->n);
    l.ready = mem_new_n(uint32_t, n->n);
    l.off = mem_new_n(uint32_t, (size_t)n->n_rules + 1);
    bool ok = on && l.seen && l.ready && l.off;
    for (uint32_t i = 0; ok && i < n->n_rules; i++) {
        ok = calls_of(&l, i);
        l.off[i + 1] = l.n_to;
    }
    ok = ok && grammar__cycles(on, n->n_rules, l.off, l.to);
    if (!ok) c->st = err_set(c->e, ERR_NOMEM, "grammar: automaton");
    for (uint32_t i = 0; ok && i < n->n_rules && c->st == OK; i++) {
        const Rule *r = &c->rules[i];
        if (on[i] && c->text.p) {
            grammar__fail(c, r->where, ERR_UNSUPPORTED, "rule \"%.*s\" is left-recursive",
                          (int)MIN(r->name.n, (size_t)60), r->name.p);
        } else if (on[i]) {
            grammar__fail(c, r->where, ERR_UNSUPPORTED, "refers to itself with nothing in between");
        }
    }
    mem_free(on);
    mem_free(l.seen);
    mem_free(l.ready);
    mem_free(l.off);
    mem_free(l.to);
    return c->st;
}

/* ---- the rest ---- */

static void find_classes(Nfa *n) {
    bool begins[257] = {true};
    for (uint32_t i = 0; i < n->n_edges; i++) {
        begins[n->edge[i].lo] = true;
        begins[n->edge[i].hi + 1] = true;
    }
    n->n_cls = 0;
    for (int b = 0; b < 256; b++) {
        if (begins[b]) n->rep[n->n_cls++] = (uint8_t)b;
        n->cls[b] = (uint8_t)(n->n_cls - 1);
    }
}

Status grammar__analyse(Nfa *n, Comp *c) {
    uint8_t *live = mem_new_n(uint8_t, n->n), *empty = mem_new_n(uint8_t, n->n);
    if (!live || !empty || !reach(live, n, true) || !reach(empty, n, false)) {
        c->st = err_set(c->e, ERR_NOMEM, "grammar: automaton");
    } else if (refuse_left_recursion(n, empty, c) == OK && !live[n->start[0]]) {
        grammar__fail(c, c->rules[0].where, ERR_UNSUPPORTED, "no text can ever fulfil this");
    } else if (c->st == OK) {
        for (uint32_t s = 0; s < n->n; s++) n->s[s].live = live[s];
        find_classes(n);
    }
    mem_free(live);
    mem_free(empty);
    return c->st;
}
