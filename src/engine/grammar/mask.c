/* SPDX-License-Identifier: Apache-2.0
 * Masks: which tokens keep the text on its way.
 *
 * Going over the trie with a row of moves per state costs a few nanoseconds per node, and whole subtrees are left
 * out as soon as a byte leads nowhere. What remains expensive are states where nearly everything goes, such
 * as the inside of a string. Their masks depend on the L alone as long as the rule does not end: so the mask
 * of an L is computed once, with a list of the places (escapes) where the rule ends or calls within a token, and
 * for another stack only the subtrees below those places are gone over, with the states of that stack.
 *
 * An L with too many escapes (a rule that may end after every letter) is gone over with D as a whole.
 * Masks of L and of D are kept in one list, the least recently used goes first. */
#include "base/clock.h"
#include "engine/grammar/internal.h"

enum {
    MAX_ESCAPES = 8192,
    WIDE = 4096,    /* nodes: an L that took more has its mask kept */
    MAX_PARTS = 16, /* a D of more is gone over as a whole */
    MIN_SLOTS = 4
};

static void allow_all(const GrammarVocab *v, uint32_t *bits, int32_t tok) {
    for (const int32_t *p = v->same + (-1 - tok); *p >= 0; p++)
        bits[*p >> 5] |= (uint32_t)1 << (*p & 31);
}

/* Every node sets a bit, those without a token one past the mask: cheaper than asking. */
static inline void allow(const GrammarVocab *v, uint32_t *bits, int32_t tok) {
    if (UNLIKELY(tok < 0)) allow_all(v, bits, tok);
    else bits[tok >> 5] |= (uint32_t)1 << (tok & 31);
}

static bool failed(const Auto *a) { return a->nomem || a->full; }

static void charge(Auto *a, uint64_t n) {
    a->work += n;
    if (a->work > a->max_work) a->full = true;
}

/* ---- over the trie ---- */

/* Allow all tokens below node i. */
static void allow_below(const GrammarVocab *v, uint32_t *bits, uint32_t i) {
    const int32_t *p = v->order + v->upto[i + 1], *end = v->order + v->upto[v->end[i]];
    for (; p < end; p++) bits[*p >> 5] |= (uint32_t)1 << (*p & 31);
}

/* Whether L reads all that is below node i, being plain characters only, without an escape. */
static bool reads_below(Auto *a, const GrammarVocab *v, uint32_t i, uint32_t l) {
    uint32_t most = v->plain[i], known = a->l.v[l].run;
    if (most == GRAMMAR_NOT_PLAIN || most == 0) return false;
    return (known ? known - 1 : grammar__auto_run(a, l)) >= most;
}

/* The same of a D that has one member only. */
static bool d_reads_below(Auto *a, const GrammarVocab *v, uint32_t i, uint32_t d) {
    const Set *s = &a->d.v[d];
    return v->plain[i] != GRAMMAR_NOT_PLAIN && s->n == 3 &&
           reads_below(a, v, i, a->d.items[s->off + 1]);
}

/* Allow the tokens below the node that D can read. */
static bool walk_d(Grammar *g, uint32_t d, uint32_t node, uint32_t *bits) {
    const GrammarVocab *v = g->m.v;
    const uint32_t n_cls = g->nfa.n_cls, last = v->end[node];
    const uint32_t *row = g->a.d.row;
    uint32_t *stack = g->m.stack, n_seen = 0;
    if (!d || !(g->a.d.v[d].flags & ST_BYTES)) return !failed(&g->a);
    stack[v->depth[node]] = d;
    for (uint32_t i = node + 1; i < last; n_seen++) {
        uint32_t from = stack[v->depth[i] - 1], c = g->nfa.cls[v->byte[i]];
        uint32_t to = row[(size_t)from * n_cls + c];
        if (UNLIKELY(to == GRAMMAR_UNKNOWN)) {
            grammar__auto_step(&g->a, from, c);
            if (failed(&g->a)) return false;
            row = g->a.d.row;
            to = row[(size_t)from * n_cls + c];
        }
        if (to == 0) {
            i = v->end[i];
            continue;
        }
        allow(v, bits, v->tok[i]);
        stack[v->depth[i]] = to & GRAMMAR_ID;
        if (d_reads_below(&g->a, v, i, to & GRAMMAR_ID)) {
            allow_below(v, bits, i);
            n_seen += (v->end[i] - i) / 8;
            i = v->end[i];
        } else {
            i = to & GRAMMAR_LEAF ? v->end[i] : i + 1;
        }
    }
    charge(&g->a, n_seen);
    return !failed(&g->a);
}

static bool put_escape(MaskCache *m, uint32_t node, uint32_t l) {
    if (m->n_esc == MAX_ESCAPES) return false;
    m->esc[m->n_esc++] = (Escape){node, l};
    return true;
}

/* The mask of L into m->bits, m->esc. False: failed, or (no failure) it has too many escapes. */
static bool walk_l(Grammar *g, uint32_t l, uint32_t *n_nodes) {
    MaskCache *m = &g->m;
    const GrammarVocab *v = m->v;
    const uint32_t n_cls = g->nfa.n_cls;
    const uint32_t *row = g->a.l.row;
    uint32_t *stack = m->stack, n_seen = 0;
    memset(m->bits, 0, (v->words + 1) * sizeof *m->bits);
    m->n_esc = 0;
    stack[0] = l;
    for (uint32_t i = 1; i < v->n; n_seen++) {
        uint32_t from = stack[v->depth[i] - 1];
        uint32_t to = row[(size_t)from * n_cls + g->nfa.cls[v->byte[i]]];
        if (UNLIKELY(to == GRAMMAR_UNKNOWN)) {
            if (!grammar__auto_row(&g->a, from)) return false;
            row = g->a.l.row;
            continue;
        }
        if (to == 0) {
            i = v->end[i];
            continue;
        }
        bool leaf = (to & GRAMMAR_LEAF) != 0; /* then whether it lives is for the stack to say */
        if (!leaf) allow(v, m->bits, v->tok[i]);
        stack[v->depth[i]] = to & GRAMMAR_ID;
        if ((to & GRAMMAR_OUT) && (leaf || v->end[i] > i + 1) &&
            !put_escape(m, i, to & GRAMMAR_ID)) {
            charge(&g->a, n_seen);
            return false;
        }
        if (reads_below(&g->a, v, i, to & GRAMMAR_ID)) {
            allow_below(v, m->bits, i);
            n_seen += (v->end[i] - i) / 8;
            i = v->end[i];
        } else {
            i = to & GRAMMAR_LEAF ? v->end[i] : i + 1;
        }
        row = g->a.l.row;
    }
    charge(&g->a, n_seen);
    *n_nodes = n_seen;
    return !failed(&g->a);
}

/* ---- kept masks ---- */

static uint32_t *slot_of(Grammar *g, const MaskSlot *s) {
    return s->is_l ? &g->a.l.v[s->owner].slot : &g->a.d.v[s->owner].slot;
}

static void drop(Grammar *g, MaskSlot *s) {
    if (s->owner) *slot_of(g, s) = 0;
    s->owner = 0;
    mem_free(s->esc);
    g->m.esc_bytes -= s->n_esc * sizeof *s->esc;
    s->esc = NULL;
    s->n_esc = 0;
}

static MaskSlot *coldest(MaskCache *m) {
    MaskSlot *best = m->n ? &m->slot[0] : NULL;
    for (uint32_t i = 1; i < m->n; i++)
        if (m->slot[i].used_at < best->used_at) best = &m->slot[i];
    return best;
}

static MaskSlot *new_slot(MaskCache *m) {
    if (!grammar__grow((void **)&m->slot, &m->cap, (size_t)m->n + 1, sizeof *m->slot)) return NULL;
    uint32_t *bits = mem_new_n(uint32_t, m->v->words);
    if (!bits) return NULL;
    m->slot[m->n] = (MaskSlot){.bits = bits};
    return &m->slot[m->n++];
}

/* An empty entry; NULL when memory is out, and then nothing is kept, which is no failure. */
static MaskSlot *take_slot(Grammar *g) {
    MaskCache *m = &g->m;
    size_t one = m->v->words * sizeof(uint32_t);
    MaskSlot *s = NULL;
    if (m->n < MIN_SLOTS || (m->n + 1) * one + m->esc_bytes <= g->lim.mask_bytes) s = new_slot(m);
    if (s) return s;
    s = coldest(m);
    if (s) drop(g, s);
    return s;
}

static void keep(Grammar *g, uint32_t owner, bool is_l, const uint32_t *bits) {
    MaskCache *m = &g->m;
    Escape *esc = NULL;
    if (is_l && m->n_esc) {
        esc = mem_new_n(Escape, m->n_esc);
        if (!esc) return;
        memcpy(esc, m->esc, m->n_esc * sizeof *esc);
    }
    MaskSlot *s = take_slot(g);
    if (!s) {
        mem_free(esc);
        return;
    }
    memcpy(s->bits, bits, m->v->words * sizeof *bits);
    s->esc = esc;
    s->n_esc = esc ? m->n_esc : 0;
    m->esc_bytes += s->n_esc * sizeof *esc;
    s->owner = owner;
    s->is_l = is_l;
    s->used_at = ++m->tick;
    *slot_of(g, s) = (uint32_t)(s - m->slot) + 1;
}

/* ---- putting together ---- */

/* What lies below the escapes, with the stack p. */
static bool walk_escapes(Grammar *g, const Escape *esc, uint32_t n, uint32_t p, uint32_t *bits) {
    uint32_t known[8] = {0}, d[8] = {0};
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = esc[i].l % 8;
        if (known[k] != esc[i].l) {
            d[k] = grammar__auto_out(&g->a, esc[i].l, p);
            if (failed(&g->a)) return false;
            known[k] = esc[i].l;
        }
        if (d[k]) allow(g->m.v, bits, g->m.v->tok[esc[i].node]);
        if (!walk_d(g, d[k], esc[i].node, bits)) return false;
    }
    return true;
}

/* Or the tokens of (l, p) into bits. False: failed, or L has no mask of its own. */
static bool add_part(Grammar *g, uint32_t l, uint32_t p, uint32_t *bits) {
    MaskCache *m = &g->m;
    uint32_t n_nodes = 0, slot = g->a.l.v[l].slot;
    const uint32_t *mine = m->bits;
    const Escape *esc = m->esc;
    uint32_t n_esc;
    if (slot) {
        MaskSlot *s = &m->slot[slot - 1];
        s->used_at = ++m->tick;
        mine = s->bits;
        esc = s->esc;
        n_esc = s->n_esc;
    } else {
        if (!walk_l(g, l, &n_nodes)) {
            g->a.l.v[l].flags |= ST_NO_LOCAL;
            return false;
        }
        n_esc = m->n_esc;
        if (n_nodes > WIDE) keep(g, l, true, m->bits);
    }
    for (size_t i = 0; i < m->v->words; i++) bits[i] |= mine[i];
    return walk_escapes(g, esc, n_esc, p, bits);
}

static bool add_parts(Grammar *g, uint32_t d, uint32_t *bits) {
    const Set s = g->a.d.v[d];
    bool whole = s.n / 2 > MAX_PARTS;
    for (uint32_t i = 1; i < s.n && !whole; i += 2)
        whole = (g->a.l.v[g->a.d.items[s.off + i]].flags & ST_NO_LOCAL) != 0;
    for (uint32_t i = 1; i < s.n && !whole; i += 2) {
        const uint32_t *pair = g->a.d.items + s.off + i;
        if (add_part(g, pair[0], pair[1], bits)) continue;
        if (failed(&g->a)) return false;
        whole = true;
    }
    return !whole || walk_d(g, d, 0, bits);
}

static bool any(const uint32_t *bits, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (bits[i]) return true;
    return false;
}

Status grammar__mask_of(Grammar *g, uint32_t d, uint32_t *mask, Err *e) {
    MaskCache *m = &g->m;
    uint32_t slot = g->a.d.v[d].slot;
    if (slot) {
        m->slot[slot - 1].used_at = ++m->tick;
        memcpy(mask, m->slot[slot - 1].bits, m->v->words * sizeof *mask);
        return OK;
    }
    memset(m->out, 0, (m->v->words + 1) * sizeof *m->out);
    if (!add_parts(g, d, m->out)) return grammar__auto_status(&g->a, &g->lim, e);
    uint32_t flags = g->a.d.v[d].flags;
    for (int32_t i = 0; (flags & ST_FINAL) && i < m->v->n_ends; i++)
        allow(m->v, m->out, m->v->ends[i]);
    memcpy(mask, m->out, m->v->words * sizeof *mask);
    if ((flags & ST_BYTES) && !any(mask, m->v->words)) {
        if (g->a.cut || (flags & ST_CUT))
            return err_set(e, ERR_FULL, "grammar: nested deeper than %d", g->lim.stack_depth);
        return err_set(e, ERR_NOT_FOUND, "grammar: no token of the vocabulary can follow");
    }
    keep(g, d, false, mask);
    return OK;
}

/* ---- ahead of time ---- */

Status grammar_warm(Grammar *g, const GrammarVocab *v, int max_ms, Err *e) {
    uint64_t stop = clock_now_ns() + (uint64_t)MAX(max_ms, 0) * 1000000;
    TRY(grammar__masks_bind(g, v, e));
    grammar__auto_begin(&g->a);
    grammar__auto_start(&g->a);
    size_t one = v->words * sizeof(uint32_t);
    for (uint32_t l = 1; l < g->a.l.n && clock_now_ns() < stop; l++) {
        uint32_t n_nodes = 0;
        grammar__auto_begin(&g->a);
        if (grammar__auto_bytes(&g->a) > g->lim.state_bytes / 2) break;
        if (g->m.n * one + g->m.esc_bytes > g->lim.mask_bytes / 2) break;
        if (!(g->a.l.v[l].flags & ST_ROW) && !grammar__auto_row(&g->a, l)) break;
        if (!(g->a.l.v[l].flags & ST_EXPANDED) && !grammar__auto_expand(&g->a, l)) break;
        if (!(g->a.l.v[l].flags & ST_BYTES) || g->a.l.v[l].slot) continue;
        if (walk_l(g, l, &n_nodes) && n_nodes > WIDE) keep(g, l, true, g->m.bits);
        else if (!failed(&g->a) && n_nodes == 0) g->a.l.v[l].flags |= ST_NO_LOCAL;
    }
    if (g->a.nomem) return err_set(e, ERR_NOMEM, "grammar: states");
    return OK; /* what does not fit is met, or refused, later */
}

/* ---- life ---- */

void grammar__masks_deinit(MaskCache *m) {
    for (uint32_t i = 0; i < m->n; i++) {
        mem_free(m->slot[i].bits);
        mem_free(m->slot[i].esc);
    }
    mem_free(m->slot);
    mem_free(m->bits);
    mem_free(m->out);
    mem_free(m->esc);
    mem_free(m->stack);
    *m = (MaskCache){0};
}

void grammar__masks_clear(Grammar *g) {
    for (uint32_t i = 0; i < g->m.n; i++) {
        drop(g, &g->m.slot[i]);
        g->m.slot[i].used_at = 0;
    }
}

Status grammar__masks_bind(Grammar *g, const GrammarVocab *v, Err *e) {
    MaskCache *m = &g->m;
    if (m->v == v) return OK;
    grammar__masks_clear(g);
    for (uint32_t l = 1; l < g->a.l.n; l++) g->a.l.v[l].flags &= ~(uint32_t)ST_NO_LOCAL;
    grammar__masks_deinit(m);
    m->bits = mem_new_n(uint32_t, v->words + 1);
    m->out = mem_new_n(uint32_t, v->words + 1);
    m->esc = mem_new_n(Escape, MAX_ESCAPES);
    m->stack = mem_new_n(uint32_t, (size_t)v->max_depth + 1);
    if (!m->bits || !m->out || !m->esc || !m->stack) {
        grammar__masks_deinit(m);
        return err_set(e, ERR_NOMEM, "grammar: masks");
    }
    m->v = v;
    return OK;
}

size_t grammar__masks_bytes(const MaskCache *m) {
    if (!m->v) return 0;
    return (m->n + (size_t)2) * (m->v->words + 1) * sizeof(uint32_t) + m->esc_bytes +
           MAX_ESCAPES * sizeof(Escape) + m->cap * sizeof(MaskSlot) +
           ((size_t)m->v->max_depth + 1) * sizeof(uint32_t);
}
