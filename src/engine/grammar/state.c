/* SPDX-License-Identifier: Apache-2.0
 * A compiled grammar and the places of sequences in it. A place is one number, the id of a D; the grammar knows
 * all of them (pins), so that states nobody is in can be dropped when they have become too many. */
#include "engine/grammar/internal.h"

/* ---- grammar ---- */

Status grammar__finish(Grammar **out, Comp *c) {
    Grammar *g = NULL;
    Nfa nfa = {0};
    if (!grammar__failed(c)) grammar__build(&nfa, c);
    if (c->st == OK) grammar__analyse(&nfa, c);
    if (c->st == OK) {
        g = mem_new(Grammar);
        if (!g) c->st = err_set(c->e, ERR_NOMEM, "grammar");
    }
    if (g) {
        g->nfa = nfa;
        nfa = (Nfa){0};
        g->lim = c->lim;
        c->st = grammar__auto_init(&g->a, &g->nfa, &g->lim, c->e);
    }
    Status st = c->st;
    grammar__comp_deinit(c);
    grammar__nfa_deinit(&nfa);
    if (st == OK) *out = g;
    else grammar_free(g);
    return st;
}

void grammar_free(Grammar *g) {
    if (!g) return;
    grammar__auto_deinit(&g->a);
    grammar__masks_deinit(&g->m);
    grammar__nfa_deinit(&g->nfa);
    mem_free(g->pins);
    mem_free(g);
}

size_t grammar_bytes(const Grammar *g) {
    return sizeof *g + g->nfa.cap * sizeof *g->nfa.s + g->nfa.cap_edges * sizeof *g->nfa.edge +
           ((size_t)g->nfa.cap_eps + g->nfa.n_rules + g->cap_pins) * sizeof(uint32_t) +
           grammar__auto_bytes(&g->a) + grammar__masks_bytes(&g->m);
}

/* Drop what no state is in, once there is too much and twice what was left last time. */
static Status tidy(Grammar *g, Err *e) {
    if (grammar__auto_bytes(&g->a) <= MAX(g->lim.state_bytes, 2 * g->kept_bytes)) return OK;
    grammar__masks_clear(g);
    TRY(grammar__auto_shrink(&g->a, g->pins, g->n_pins, &g->lim, e));
    g->kept_bytes = grammar__auto_bytes(&g->a);
    return OK;
}

static Status begin(Grammar *g, Err *e) {
    TRY(tidy(g, e));
    grammar__auto_begin(&g->a);
    return OK;
}

Status grammar_check(const Grammar *g, Err *e) {
    uint32_t n_live = 0;
    for (uint32_t i = 0; i < g->n_pins; i++) {
        n_live += g->pins[i] != 0;
        if (g->pins[i] >= g->a.d.n) return err_set(e, ERR_INTERNAL, "grammar: a pin to nowhere");
    }
    if (n_live != g->n_live) return err_set(e, ERR_INTERNAL, "grammar: pins are miscounted");
    for (uint32_t i = 0; i < g->m.n; i++) {
        const MaskSlot *s = &g->m.slot[i];
        if (!s->owner) continue;
        const Table *t = s->is_l ? &g->a.l : &g->a.d;
        if (s->owner >= t->n || t->v[s->owner].slot != i + 1)
            return err_set(e, ERR_INTERNAL, "grammar: a mask without an owner");
    }
    return grammar__auto_check(&g->a, e);
}

/* ---- states ---- */

static Status new_pin(Grammar *g, uint32_t *pin, Err *e) {
    uint32_t i = 0;
    if (g->n_live < g->n_pins)
        while (g->pins[i]) i++;
    else i = g->n_pins;
    if (!grammar__grow((void **)&g->pins, &g->cap_pins, (size_t)i + 1, sizeof *g->pins))
        return err_set(e, ERR_NOMEM, "grammar: state");
    if (i == g->n_pins) g->n_pins++;
    g->n_live++;
    *pin = i;
    return OK;
}

Status grammar_state_init(GrammarState *s, Grammar *g, const GrammarVocab *v, Err *e) {
    uint32_t pin;
    *s = (GrammarState){0};
    TRY(begin(g, e));
    uint32_t d = grammar__auto_start(&g->a);
    TRY(grammar__auto_status(&g->a, &g->lim, e));
    if (!d) return err_set(e, ERR_FULL, "grammar: nested deeper than %d", g->lim.stack_depth);
    TRY(new_pin(g, &pin, e));
    g->pins[pin] = d;
    *s = (GrammarState){.g = g, .v = v, .pin = pin};
    return OK;
}

Status grammar_state_copy(GrammarState *dst, const GrammarState *src, Err *e) {
    uint32_t pin = dst->pin;
    if (dst->g && dst->g != src->g) grammar_state_deinit(dst);
    if (!dst->g) TRY(new_pin(src->g, &pin, e));
    src->g->pins[pin] = src->g->pins[src->pin];
    *dst = *src;
    dst->pin = pin;
    return OK;
}

void grammar_state_deinit(GrammarState *s) {
    if (s->g) {
        s->g->pins[s->pin] = 0;
        s->g->n_live--;
    }
    *s = (GrammarState){0};
}

static uint32_t flags(const GrammarState *s) { return s->g->a.d.v[s->g->pins[s->pin]].flags; }

bool grammar_can_end(const GrammarState *s) { return s->ended || (flags(s) & ST_FINAL); }
bool grammar_is_done(const GrammarState *s) { return s->ended || !(flags(s) & ST_BYTES); }

Status grammar_mask(const GrammarState *s, uint32_t *mask, Err *e) {
    if (s->ended) { /* nothing but another end */
        memset(mask, 0, s->v->words * sizeof *mask);
        for (int32_t i = 0; i < s->v->n_ends; i++)
            mask[s->v->ends[i] >> 5] |= (uint32_t)1 << (s->v->ends[i] & 31);
        return OK;
    }
    TRY(begin(s->g, e));
    TRY(grammar__masks_bind(s->g, s->v, e));
    return grammar__mask_of(s->g, s->g->pins[s->pin], mask, e);
}

Status grammar_accept_bytes(GrammarState *s, Slice bytes, Err *e) {
    if (s->ended) return err_set(e, ERR_ARG, "grammar: the text has ended");
    TRY(begin(s->g, e));
    uint32_t d = s->g->pins[s->pin];
    for (size_t i = 0; i < bytes.n && d; i++)
        d = grammar__auto_step(&s->g->a, d, s->g->nfa.cls[(uint8_t)bytes.p[i]]);
    TRY(grammar__auto_status(&s->g->a, &s->g->lim, e));
    if (!d) return err_set(e, ERR_ARG, "grammar: the text is not allowed here");
    s->g->pins[s->pin] = d;
    return OK;
}

Status grammar_accept(GrammarState *s, int32_t token, Err *e) {
    const GrammarVocab *v = s->v;
    if (token < 0 || token >= v->n_vocab)
        return err_set(e, ERR_ARG, "grammar: token %d, not 0 to %d", (int)token,
                       (int)v->n_vocab - 1);
    if (v->is_end[token] && !grammar_can_end(s))
        return err_set(e, ERR_ARG, "grammar: end token %d, but the text is not complete",
                       (int)token);
    Slice text = {v->text + v->first[token], v->first[token + 1] - v->first[token]};
    if (!v->is_end[token] && !text.n)
        return err_set(e, ERR_ARG, "grammar: token %d has no text", (int)token);
    if (!v->is_end[token]) return grammar_accept_bytes(s, text, e);
    s->ended = true;
    return OK;
}
