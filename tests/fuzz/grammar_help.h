/* SPDX-License-Identifier: Apache-2.0
 * What the grammar fuzzers do with a grammar that was accepted: generate by the data's own bytes and hold every
 * mask to its definition. */
#ifndef INGOT_FUZZ_GRAMMAR_HELP_H
#define INGOT_FUZZ_GRAMMAR_HELP_H

#include <stdlib.h>

#include "engine/grammar/grammar.h"

enum { FUZZ_V = 256 + 9, FUZZ_END = FUZZ_V - 1 };

static Slice fuzz_piece(int i) {
    static char byte[256];
    static const char *const more[] = {"\"", "{\"", "\":", "aa", "aaaa", "\",\"", "\xc3\xa9", "12"};
    if (i >= FUZZ_END) return (Slice){"", 0};
    if (i >= 256) return slice_of(more[i - 256]);
    byte[i] = (char)i;
    return (Slice){&byte[i], 1};
}

static GrammarVocab *fuzz_vocab(void) {
    static GrammarVocab *v;
    Slice s[FUZZ_V];
    bool end[FUZZ_V] = {0};
    if (v) return v;
    for (int i = 0; i < FUZZ_V; i++) s[i] = fuzz_piece(i);
    end[FUZZ_END] = true;
    if (grammar_vocab_from_pieces(&v, s, end, FUZZ_V, NULL) != OK) abort();
    return v;
}

static const GrammarLimits fuzz_limits = {.source_bytes = 20000,
                                          .n_nodes = 20000,
                                          .n_states = 20000,
                                          .stack_depth = 20,
                                          .state_bytes = 1 << 18,
                                          .mask_bytes = 1 << 14,
                                          .mask_work = 200000};

/* A mask says of each token what trying it says; a failure of the work limit may differ. */
static void fuzz_check(const GrammarState *s, const uint32_t *mask) {
    GrammarState t = {0};
    for (int i = 0; i < FUZZ_V; i += i < 250 ? 7 : 1) {
        bool got = mask[i / 32] >> (i % 32) & 1;
        if (grammar_state_copy(&t, s, NULL) != OK) abort();
        Status st = grammar_accept(&t, i, NULL);
        if ((st == OK) != got && st != ERR_FULL) abort();
    }
    grammar_state_deinit(&t);
}

static void fuzz_generate(Grammar *g, const uint8_t *data, size_t size) {
    uint32_t mask[(FUZZ_V + 31) / 32];
    GrammarState s;
    Err e = {0};
    if (grammar_state_init(&s, g, fuzz_vocab(), &e) != OK) {
        if (!e.msg[0]) abort();
        return;
    }
    for (size_t step = 0; step < 24; step++) {
        int i = size ? data[step * 31 % size] : 0, tries = 0;
        if (grammar_mask(&s, mask, &e) != OK) {
            if (!e.msg[0]) abort();
            break;
        }
        if (step % 8 == 0) fuzz_check(&s, mask);
        for (; !(mask[i / 32] >> (i % 32) & 1) && tries < FUZZ_V; tries++) i = (i + 1) % FUZZ_V;
        if (tries == FUZZ_V) abort(); /* a mask of nothing is an error, not a mask */
        if (grammar_accept(&s, i, &e) == ERR_ARG) abort();
        if (grammar_is_done(&s)) break;
    }
    if (grammar_check(g, &e) != OK) abort();
    grammar_state_deinit(&s);
}

typedef Status (*FuzzMake)(Grammar **, Slice, const GrammarLimits *, Err *);

static int fuzz_one(FuzzMake make, const uint8_t *data, size_t size) {
    Grammar *g = NULL;
    Err e = {0};
    if (make(&g, (Slice){(const char *)data, size}, &fuzz_limits, &e) != OK) {
        if (!e.msg[0] || g) abort();
        return 0;
    }
    fuzz_generate(g, data, size);
    grammar_free(g);
    return 0;
}

#endif
