/* SPDX-License-Identifier: Apache-2.0
 * States met while reading, made deterministic as they are met.
 *
 * Within one call of a rule, sets of automaton states are turned into one state (L), as in any lazy subset
 * construction. Calls are what makes it more than that: all calls of L to rules that go on with the same set
 * afterwards become one pair (callee L, return L), so alternatives share a stack as long as they can. The whole
 * state of a text is D, the set of (L, stack) it may be in, again interned, with a row of moves of its own. In a
 * grammar that is deterministic, as JSON is, D has one or two members.
 *
 * A call in last position pushes nothing, so recursion to the right needs no stack. Every operation is counted
 * against a.max_work; one that fails leaves only states that are correct, if unused. */
#include <stdlib.h>

#include "engine/grammar/internal.h"

enum { MAX_PAIRS = 512 };

static bool nomem(Auto *a) {
    a->nomem = true;
    return false;
}

static bool spend(Auto *a, uint64_t n) {
    a->work += n;
    if (a->work > a->max_work) a->full = true;
    return !a->nomem && !a->full;
}

/* ---- interning ---- */

static uint32_t hash(const uint32_t *v, uint32_t n) {
    uint64_t h = 0x9e3779b97f4a7c15u + n;
    for (uint32_t i = 0; i < n; i++) {
        h = (h ^ v[i]) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    return (uint32_t)h;
}

static bool reindex(Table *t) {
    uint32_t cap = t->cap_index ? 2 * t->cap_index : 256;
    uint32_t *index = mem_new_n(uint32_t, cap);
    if (!index) return false;
    for (uint32_t i = 1; i < t->n; i++) {
        uint32_t at = t->v[i].hash & (cap - 1);
        while (index[at]) at = (at + 1) & (cap - 1);
        index[at] = i;
    }
    mem_free(t->index);
    t->index = index;
    t->cap_index = cap;
    return true;
}

static bool table_room(Auto *a, Table *t, uint32_t n_items) {
    uint32_t cap = t->cap;
    if (!grammar__grow((void **)&t->v, &cap, (size_t)t->n + 1, sizeof *t->v)) return nomem(a);
    if (cap != t->cap) {
        if (grammar__auto_bytes(a) > a->max_bytes) {
            a->full = true;
            return false;
        }
        uint32_t *row = mem_realloc_n(t->row, (size_t)cap * a->nfa->n_cls, sizeof *row);
        if (!row) return nomem(a);
        t->row = row;
        t->cap = cap;
    }
    if (!grammar__grow((void **)&t->items, &t->cap_items, (size_t)t->n_items + n_items,
                       sizeof *t->items))
        return nomem(a);
    return t->n * 2 < t->cap_index || reindex(t) || nomem(a);
}

/* The id of this list; *fresh if it was made. 0 on failure. */
static uint32_t intern(Auto *a, Table *t, const uint32_t *v, uint32_t n, bool *fresh) {
    uint32_t h = hash(v, n), mask = t->cap_index - 1, at;
    *fresh = false;
    for (at = h & mask; t->cap_index && t->index[at]; at = (at + 1) & mask) {
        const Set *s = &t->v[t->index[at]];
        if (s->hash == h && s->n == n && memcmp(t->items + s->off, v, n * sizeof *v) == 0)
            return t->index[at];
    }
    if (!table_room(a, t, n)) return 0;
    for (at = h & (t->cap_index - 1); t->index[at];) at = (at + 1) & (t->cap_index - 1);
    t->index[at] = t->n;
    t->v[t->n] = (Set){.off = t->n_items, .n = n, .hash = h};
    memcpy(t->items + t->n_items, v, n * sizeof *v);
    t->n_items += n;
    memset(t->row + (size_t)t->n * a->nfa->n_cls, 0xff, a->nfa->n_cls * sizeof *t->row);
    *fresh = true;
    return t->n++;
}

static bool table_init(Auto *a, Table *t) {
    if (!table_room(a, t, 1)) return false;
    t->v[0] = (Set){0};
    memset(t->row, 0, a->nfa->n_cls * sizeof *t->row);
    t->n = 1;
    return true;
}

static void table_deinit(Table *t) {
    mem_free(t->v);
    mem_free(t->row);
    mem_free(t->items);
    mem_free(t->index);
    *t = (Table){0};
}

/* ---- stacks ---- */

static bool reindex_stacks(Auto *a) {
    uint32_t cap = a->cap_p_index ? 2 * a->cap_p_index : 256;
    uint32_t *index = mem_new_n(uint32_t, cap);
    if (!index) return nomem(a);
    for (uint32_t i = 1; i < a->n_p; i++) {
        uint32_t at = hash(&a->p[i].ret, 2) & (cap - 1);
        while (index[at]) at = (at + 1) & (cap - 1);
        index[at] = i;
    }
    mem_free(a->p_index);
    a->p_index = index;
    a->cap_p_index = cap;
    return true;
}

/* Stack `up` with a return to L on it. 0: too deep (a->cut) or failed. */
static uint32_t push(Auto *a, uint32_t ret, uint32_t up) {
    Frame f = {ret, up, a->p[up].depth + 1};
    uint32_t h = hash(&f.ret, 2);
    uint32_t at = h & (a->cap_p_index - 1);
    if (f.depth > a->max_depth) {
        a->cut = true;
        return 0;
    }
    for (; a->p_index[at]; at = (at + 1) & (a->cap_p_index - 1)) {
        const Frame *p = &a->p[a->p_index[at]];
        if (p->ret == ret && p->up == up) return a->p_index[at];
    }
    if (!grammar__grow((void **)&a->p, &a->cap_p, (size_t)a->n_p + 1, sizeof *a->p)) {
        nomem(a);
        return 0;
    }
    a->p[a->n_p] = f;
    a->p_index[at] = a->n_p++;
    if (a->n_p * 2 > a->cap_p_index && !reindex_stacks(a)) return 0;
    return a->n_p - 1;
}

/* ---- L ---- */

static int by_u32(const void *x, const void *y) {
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    return (a > b) - (a < b);
}

static int by_u64(const void *x, const void *y) {
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

/* v[n] = x; a short list of numbers is kept sorted by hand. */
static void sort_u32(uint32_t *v, uint32_t n) {
    if (n > 16) {
        qsort(v, n, sizeof *v, by_u32);
        return;
    }
    for (uint32_t i = 1; i < n; i++) {
        uint32_t x = v[i], k = i;
        for (; k && v[k - 1] > x; k--) v[k] = v[k - 1];
        v[k] = x;
    }
}

static void follow(Auto *a, uint32_t s, uint32_t *n_todo) {
    if (!a->nfa->s[s].live || a->mark[s] == a->epoch) return;
    a->mark[s] = a->epoch;
    if (!grammar__grow((void **)&a->todo, &a->cap_todo, (size_t)*n_todo + 1, sizeof *a->todo)) {
        nomem(a);
        return;
    }
    a->todo[(*n_todo)++] = s;
}

/* All that from[n] reach by empty moves into a->tmp, sorted; returns how many. */
static uint32_t closure(Auto *a, const uint32_t *from, uint32_t n) {
    uint32_t n_todo = 0, n_tmp = 0;
    if (++a->epoch == 0) {
        memset(a->mark, 0, a->nfa->n * sizeof *a->mark);
        a->epoch = 1;
    }
    for (uint32_t i = 0; i < n; i++) follow(a, from[i], &n_todo);
    while (n_todo && spend(a, 1)) {
        uint32_t id = a->todo[--n_todo];
        const NfaState *s = &a->nfa->s[id];
        for (uint32_t i = 0; s->kind == NFA_EPS && i < s->b; i++)
            follow(a, a->nfa->eps[s->a + i], &n_todo);
        if (s->kind == NFA_EPS) continue;
        if (!grammar__grow((void **)&a->tmp, &a->cap_tmp, (size_t)n_tmp + 1, sizeof *a->tmp)) {
            nomem(a);
            return 0;
        }
        a->tmp[n_tmp++] = id;
    }
    sort_u32(a->tmp, n_tmp);
    return n_tmp;
}

static void set_l_flags(Auto *a, Set *s) {
    for (uint32_t i = 0; i < s->n; i++) {
        static const uint32_t flag[] = {
            [NFA_BYTE] = ST_BYTES, [NFA_CALL] = ST_CALLS, [NFA_FINAL] = ST_FINAL, [NFA_EPS] = 0};
        s->flags |= flag[a->nfa->s[a->l.items[s->off + i]].kind];
    }
}

/* L of the states from[n]; 0 if none of them leads anywhere, or on failure. */
static uint32_t l_of(Auto *a, const uint32_t *from, uint32_t n) {
    bool fresh;
    uint32_t m = closure(a, from, n);
    if (m == 0 || a->nomem || a->full) return 0;
    uint32_t l = intern(a, &a->l, a->tmp, m, &fresh);
    if (fresh) set_l_flags(a, &a->l.v[l]);
    return l;
}

static uint32_t l_entry(const Auto *a, uint32_t l) {
    uint32_t f = a->l.v[l].flags;
    if (l == 0) return 0;
    return l | (f & (ST_FINAL | ST_CALLS) ? GRAMMAR_OUT : 0) | (f & ST_BYTES ? 0 : GRAMMAR_LEAF);
}

/* Where byte b takes the states of l, into a->from. */
static uint32_t moves(Auto *a, uint32_t l, uint8_t b) {
    const Nfa *n = a->nfa;
    uint32_t count = 0;
    const Set *set = &a->l.v[l];
    for (uint32_t i = 0; i < set->n; i++) {
        const NfaState *s = &n->s[a->l.items[set->off + i]];
        if (s->kind != NFA_BYTE) continue;
        for (uint32_t k = 0; k < s->b; k++) {
            const NfaEdge *e = &n->edge[s->a + k];
            if (b < e->lo || b > e->hi) continue;
            if (!grammar__grow((void **)&a->from, &a->cap_from, (size_t)count + 1,
                               sizeof *a->from)) {
                nomem(a);
                return 0;
            }
            a->from[count++] = e->to;
        }
        a->work += s->b / 8;
    }
    spend(a, set->n);
    return count;
}

bool grammar__auto_row(Auto *a, uint32_t l) {
    enum { FEW = 8 };
    const Nfa *n = a->nfa;
    uint32_t last[FEW], n_last = 0, to = 0; /* neighbours mostly go the same way */
    for (uint32_t c = 0; c < n->n_cls; c++) {
        uint32_t m = moves(a, l, n->rep[c]);
        bool same =
            m == n_last && m <= FEW && (m == 0 || memcmp(last, a->from, m * sizeof *last) == 0);
        if (!same || m == 0) to = m ? l_of(a, a->from, m) : 0;
        if (a->nomem || a->full) return false;
        n_last = m;
        if (m && m <= FEW) memcpy(last, a->from, m * sizeof *last);
        a->l.row[(size_t)l * n->n_cls + c] = l_entry(a, to);
    }
    a->l.v[l].flags |= ST_ROW;
    return true;
}

/* ---- calls ---- */

/* Group keys[n], sorted: the low words of those with equal high words into a->from, then their L. */
static uint32_t group(Auto *a, const uint64_t *keys, uint32_t n, uint32_t *i, bool starts) {
    uint32_t count = 0, high = (uint32_t)(keys[*i] >> 32);
    for (; *i < n && (uint32_t)(keys[*i] >> 32) == high; (*i)++) {
        uint32_t low = (uint32_t)keys[*i];
        if (!grammar__grow((void **)&a->from, &a->cap_from, (size_t)count + 1, sizeof *a->from)) {
            nomem(a);
            return 0;
        }
        a->from[count++] = starts ? a->nfa->start[low] : low;
    }
    return l_of(a, a->from, count);
}

static bool put_call(Auto *a, uint32_t callee, uint32_t ret) {
    if (!grammar__grow((void **)&a->calls, &a->cap_calls, (size_t)a->n_calls + 2, sizeof *a->calls))
        return nomem(a);
    a->calls[a->n_calls++] = callee;
    a->calls[a->n_calls++] = ret;
    return true;
}

bool grammar__auto_expand(Auto *a, uint32_t l) {
    const Nfa *n = a->nfa;
    uint32_t n_keys = 0, n_sorted = 0, first = a->n_calls;
    Set s = a->l.v[l];
    for (uint32_t i = 0; i < s.n; i++) {
        const NfaState *x = &n->s[a->l.items[s.off + i]];
        if (x->kind != NFA_CALL) continue;
        if (!grammar__grow((void **)&a->keys, &a->cap_keys, (size_t)n_keys + 1, sizeof *a->keys))
            return nomem(a);
        a->keys[n_keys++] = (uint64_t)x->a << 32 | x->b;
    }
    if (n_keys > 0) qsort(a->keys, n_keys, sizeof *a->keys, by_u64);
    for (uint32_t i = 0; i < n_keys;) {
        uint32_t rule = (uint32_t)(a->keys[i] >> 32);
        uint32_t ret = group(a, a->keys, n_keys, &i, false);
        if (!ret || !grammar__grow((void **)&a->sorted, &a->cap_sorted, (size_t)n_sorted + 1,
                                   sizeof *a->sorted))
            return ret ? nomem(a) : false;
        a->sorted[n_sorted++] = (uint64_t)ret << 32 | rule;
    }
    if (n_sorted > 0) qsort(a->sorted, n_sorted, sizeof *a->sorted, by_u64);
    for (uint32_t i = 0; i < n_sorted;) {
        uint32_t ret = (uint32_t)(a->sorted[i] >> 32);
        uint32_t callee = group(a, a->sorted, n_sorted, &i, true);
        if (!callee || !put_call(a, callee, ret)) {
            a->n_calls = first;
            return false;
        }
    }
    a->l.v[l].call = first;
    a->l.v[l].n_calls = (a->n_calls - first) / 2;
    a->l.v[l].flags |= ST_EXPANDED;
    return true;
}

/* ---- runs of plain characters ---- */

/* The one L that every byte from lo to hi leads to, with nothing else to see there; 0 if there is no such one. */
static uint32_t step_all(Auto *a, uint32_t l, int lo, int hi) {
    const uint8_t *cls = a->nfa->cls;
    if (!l || (!(a->l.v[l].flags & ST_ROW) && !grammar__auto_row(a, l))) return 0;
    const uint32_t *row = a->l.row + (size_t)l * a->nfa->n_cls;
    uint32_t to = row[cls[lo]];
    for (int b = lo + 1; b <= hi; b++)
        if (cls[b] != cls[b - 1] && row[cls[b]] != to) return 0;
    return to & GRAMMAR_OUT ? 0 : to & GRAMMAR_ID;
}

/* Where any plain character leads, or 0. */
static uint32_t step_plain(Auto *a, uint32_t l) {
    uint32_t to = step_all(a, l, ' ', '!');
    if (!to || step_all(a, l, '#', '[') != to || step_all(a, l, ']', '~') != to) return 0;
    for (int i = 0; i < GRAMMAR_N_FORMS; i++) {
        const Utf8Form *f = &grammar__forms[i];
        uint32_t at = l;
        for (int k = 0; k < f->n; k++) at = step_all(a, at, f->lo[k], f->hi[k]);
        if (at != to) return 0;
    }
    return to;
}

uint32_t grammar__auto_run(Auto *a, uint32_t l) {
    enum { MOST = 255 };
    uint32_t chain[MOST], n = 0, run = MOST;
    while (n < MOST) {
        if (a->l.v[l].run) {
            run = a->l.v[l].run - 1;
            break;
        }
        uint32_t to = step_plain(a, l);
        if (a->nomem || a->full) return 0;
        chain[n++] = l;
        if (!to) run = 0;
        if (!to || to == l) break;
        l = to;
    }
    bool first = run == 0 && n && a->l.v[l].run == 0;
    while (n-- > 0) {
        if (run < MOST && !first) run++;
        first = false;
        a->l.v[chain[n]].run = run + 1;
    }
    return run;
}

/* ---- D ---- */

static void add(Auto *a, uint32_t l, uint32_t p) {
    uint64_t key = (uint64_t)l << 32 | p;
    for (uint32_t i = 0; i < a->n_pairs; i++)
        if (a->pairs[i] == key) return;
    spend(a, 1 + a->n_pairs / 8);
    if (a->n_pairs == MAX_PAIRS) {
        a->full = true;
        return;
    }
    if (!grammar__grow((void **)&a->pairs, &a->cap_pairs, (size_t)a->n_pairs + 1,
                       sizeof *a->pairs)) {
        nomem(a);
        return;
    }
    a->pairs[a->n_pairs++] = key;
}

/* Add what (l, p) can become without a byte. Returns ST_FINAL if that is the end of the text. */
static uint32_t add_out(Auto *a, uint32_t l, uint32_t p) {
    uint32_t flags = a->l.v[l].flags, end = 0;
    if (flags & ST_FINAL) {
        if (p) add(a, a->p[p].ret, a->p[p].up);
        else end = ST_FINAL;
    }
    if (!(flags & ST_CALLS)) return end;
    if (!(flags & ST_EXPANDED) && !grammar__auto_expand(a, l)) return end;
    for (uint32_t i = 0; i < a->l.v[l].n_calls && !a->nomem && !a->full; i++) {
        uint32_t callee = a->calls[a->l.v[l].call + 2 * i];
        uint32_t ret = a->calls[a->l.v[l].call + 2 * i + 1];
        bool last = !(a->l.v[ret].flags & (ST_BYTES | ST_CALLS));
        uint32_t q = last ? p : push(a, ret, p);
        if (last || q) add(a, callee, q);
    }
    return end;
}

/* Follow everything in a->pairs, keep those that read bytes, intern. `flags` so far. */
static uint32_t d_of(Auto *a, uint32_t flags) {
    bool fresh;
    uint32_t n = 0;
    uint32_t *v;
    for (uint32_t i = 0; i < a->n_pairs && !a->nomem && !a->full; i++)
        flags |= add_out(a, (uint32_t)(a->pairs[i] >> 32), (uint32_t)a->pairs[i]);
    if (a->nomem || a->full) return 0;
    for (uint32_t i = 0; i < a->n_pairs; i++)
        if (a->l.v[a->pairs[i] >> 32].flags & ST_BYTES) a->pairs[n++] = a->pairs[i];
    if (n > 1) qsort(a->pairs, n, sizeof *a->pairs, by_u64);
    if (n) flags |= ST_BYTES;
    if (a->cut) flags |= ST_CUT;
    if (!(flags & (ST_BYTES | ST_FINAL))) return 0;
    if (!grammar__grow((void **)&a->from, &a->cap_from, 2 * (size_t)n + 1, sizeof *a->from)) {
        nomem(a);
        return 0;
    }
    v = a->from;
    v[0] = flags;
    for (uint32_t i = 0; i < n; i++) {
        v[1 + 2 * i] = (uint32_t)(a->pairs[i] >> 32);
        v[2 + 2 * i] = (uint32_t)a->pairs[i];
    }
    uint32_t d = intern(a, &a->d, v, 2 * n + 1, &fresh);
    if (fresh) a->d.v[d].flags = flags;
    return d;
}

uint32_t grammar__auto_step(Auto *a, uint32_t d, uint32_t cls) {
    size_t at = (size_t)d * a->nfa->n_cls + cls;
    if (a->d.row[at] != GRAMMAR_UNKNOWN) return a->d.row[at] & GRAMMAR_ID;
    Set s = a->d.v[d];
    a->n_pairs = 0;
    a->cut = false;
    for (uint32_t i = 1; i < s.n; i += 2) {
        uint32_t l = a->d.items[s.off + i], p = a->d.items[s.off + i + 1];
        if (!(a->l.v[l].flags & ST_ROW) && !grammar__auto_row(a, l)) return 0;
        uint32_t to = a->l.row[(size_t)l * a->nfa->n_cls + cls] & GRAMMAR_ID;
        if (to) add(a, to, p);
    }
    uint32_t to = a->n_pairs ? d_of(a, 0) : 0;
    if (a->nomem || a->full) return 0;
    a->d.row[at] = to && !(a->d.v[to].flags & ST_BYTES) ? to | GRAMMAR_LEAF : to;
    return to;
}

uint32_t grammar__auto_out(Auto *a, uint32_t l, uint32_t p) {
    a->n_pairs = 0;
    a->cut = false;
    uint32_t flags = add_out(a, l, p);
    return d_of(a, flags);
}

/* ---- life ---- */

Status grammar__auto_init(Auto *a, const Nfa *nfa, const GrammarLimits *lim, Err *e) {
    *a = (Auto){.nfa = nfa, .max_depth = (uint32_t)lim->stack_depth, .max_work = UINT64_MAX};
    a->max_bytes = 4 * lim->state_bytes + ((size_t)1 << 20);
    a->mark = mem_new_n(uint32_t, nfa->n);
    bool ok = a->mark && table_init(a, &a->l) && table_init(a, &a->d) && reindex_stacks(a) &&
              grammar__grow((void **)&a->p, &a->cap_p, 1, sizeof *a->p);
    if (!ok) {
        grammar__auto_deinit(a);
        return err_set(e, ERR_NOMEM, "grammar: states");
    }
    a->p[0] = (Frame){0};
    a->n_p = 1;
    a->max_work = lim->mask_work;
    return OK;
}

void grammar__auto_deinit(Auto *a) {
    table_deinit(&a->l);
    table_deinit(&a->d);
    mem_free(a->p);
    mem_free(a->p_index);
    mem_free(a->calls);
    mem_free(a->mark);
    mem_free(a->todo);
    mem_free(a->tmp);
    mem_free(a->from);
    mem_free(a->pairs);
    mem_free(a->keys);
    mem_free(a->sorted);
    *a = (Auto){0};
}

static size_t table_bytes(const Auto *a, const Table *t) {
    return (size_t)t->cap * (sizeof *t->v + a->nfa->n_cls * sizeof *t->row) +
           ((size_t)t->cap_items + t->cap_index) * sizeof(uint32_t);
}

size_t grammar__auto_bytes(const Auto *a) {
    return table_bytes(a, &a->l) + table_bytes(a, &a->d) + a->cap_p * sizeof *a->p +
           ((size_t)a->cap_p_index + a->cap_calls + a->nfa->n) * sizeof(uint32_t);
}

void grammar__auto_begin(Auto *a) {
    a->work = 0;
    a->nomem = a->full = a->cut = false;
}

Status grammar__auto_status(const Auto *a, const GrammarLimits *lim, Err *e) {
    if (a->nomem) return err_set(e, ERR_NOMEM, "grammar: states");
    if (!a->full) return OK;
    if (a->work > a->max_work)
        return err_set(e, ERR_FULL, "grammar: too ambiguous, over %llu steps for one token",
                       (unsigned long long)lim->mask_work);
    return err_set(e, ERR_FULL, "grammar: too ambiguous, over %d meanings or %zu bytes of states",
                   (int)MAX_PAIRS, a->max_bytes);
}

/* The start; made on first use and after shrinking. */
uint32_t grammar__auto_start(Auto *a) {
    a->n_pairs = 0;
    a->cut = false;
    uint32_t l = l_of(a, &a->nfa->start[0], 1);
    if (!l) return 0;
    add(a, l, 0);
    return d_of(a, 0);
}

/* ---- shrinking ---- */

static uint32_t move_l(Auto *to, const Auto *from, uint32_t l) {
    const Set *s = &from->l.v[l];
    bool fresh;
    uint32_t id = intern(to, &to->l, from->l.items + s->off, s->n, &fresh);
    if (fresh) set_l_flags(to, &to->l.v[id]);
    return id;
}

/* From the bottom up. */
static uint32_t move_p(Auto *to, const Auto *from, uint32_t p) {
    uint32_t up = 0;
    for (uint32_t depth = 1; depth <= from->p[p].depth && !to->nomem && !to->full; depth++) {
        uint32_t f = p;
        while (from->p[f].depth > depth) f = from->p[f].up;
        up = push(to, move_l(to, from, from->p[f].ret), up);
    }
    return up;
}

static uint32_t move_d(Auto *to, const Auto *from, uint32_t d) {
    const Set *s = &from->d.v[d];
    const uint32_t *v = from->d.items + s->off;
    to->n_pairs = 0;
    to->cut = (v[0] & ST_CUT) != 0;
    for (uint32_t i = 1; i < s->n; i += 2) {
        uint32_t l = move_l(to, from, v[i]);
        add(to, l, move_p(to, from, v[i + 1]));
    }
    return d_of(to, v[0] & ST_FINAL);
}

Status grammar__auto_shrink(Auto *a, uint32_t *d, size_t n, const GrammarLimits *lim, Err *e) {
    Auto b;
    Status st = grammar__auto_init(&b, a->nfa, lim, e);
    if (st != OK) return st;
    uint32_t *id = mem_new_n(uint32_t, n);
    if (!id) st = err_set(e, ERR_NOMEM, "grammar: states");
    b.max_work = UINT64_MAX;
    for (size_t i = 0; st == OK && i < n; i++) {
        if (d[i]) id[i] = move_d(&b, a, d[i]);
        st = grammar__auto_status(&b, lim, e);
    }
    b.max_work = lim->mask_work;
    if (st == OK) {
        if (n) memcpy(d, id, n * sizeof *d);
        Auto old = *a;
        *a = b;
        b = old;
    }
    mem_free(id);
    grammar__auto_deinit(&b);
    return st;
}

/* ---- invariants ---- */

static const char *check_table(const Auto *a, const Table *t) {
    for (uint32_t i = 1; i < t->n; i++) {
        bool fresh;
        if (t->v[i].off + t->v[i].n > t->n_items) return "items past the end";
        for (uint32_t c = 0; c < a->nfa->n_cls; c++) {
            uint32_t r = t->row[(size_t)i * a->nfa->n_cls + c];
            if (r != GRAMMAR_UNKNOWN && (r & GRAMMAR_ID) >= t->n) return "a move to nowhere";
        }
        if (intern((Auto *)(uintptr_t)a, (Table *)(uintptr_t)t, t->items + t->v[i].off, t->v[i].n,
                   &fresh) != i)
            return "a state twice";
    }
    return NULL;
}

Status grammar__auto_check(const Auto *a, Err *e) {
    const char *bad = check_table(a, &a->l);
    if (!bad) bad = check_table(a, &a->d);
    for (uint32_t i = 1; i < a->n_p && !bad; i++) {
        const Frame *f = &a->p[i];
        if (f->ret == 0 || f->ret >= a->l.n || f->up >= i) bad = "a bad stack entry";
        else if (f->depth != a->p[f->up].depth + 1) bad = "a stack with a wrong depth";
    }
    for (uint32_t i = 1; i < a->d.n && !bad; i++) {
        const Set *s = &a->d.v[i];
        for (uint32_t k = 1; k < s->n && !bad; k += 2) {
            const uint32_t *v = a->d.items + s->off + k;
            if (v[0] >= a->l.n || v[1] >= a->n_p) bad = "a state of unknown parts";
            else if (!(a->l.v[v[0]].flags & ST_BYTES)) bad = "a part that reads nothing";
        }
    }
    return bad ? err_set(e, ERR_INTERNAL, "grammar: %s", bad) : OK;
}
