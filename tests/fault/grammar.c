/* SPDX-License-Identifier: Apache-2.0
 *
 * The n-th allocation fails, for n = 1, 2, ... until none is left to fail: each time there are words, no leak,
 * and what was there goes on working.
 */
#include "base/fault.h"
#include "engine/grammar/grammar.h"
#include "test.h"

static const char *const schema =
    "{\"$ref\":\"#/$defs/"
    "t\",\"$defs\":{\"t\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"string\","
    "\"pattern\":\"^[a-c]+$\"},"
    "\"n\":{\"type\":\"number\",\"minimum\":0.5,\"maximum\":7},\"m\":{\"enum\":[1,\"x\"]},"
    "\"kids\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/"
    "t\"}}},\"required\":[\"v\"],\"additionalProperties\":{\"oneOf\":["
    "{\"type\":\"null\"},{\"type\":\"string\"}]}}}}";

/* Compile, go through a text, mask at each byte. */
static Status step(Err *e) {
    static const char text[] = "{\"v\":\"ab\", \"kids\": [{\"v\":\"c\"}]}";
    Slice pieces[300];
    char bytes[256];
    bool end[300] = {false};
    uint32_t mask[10];
    Grammar *g = NULL, *h = NULL;
    GrammarVocab *v = NULL;
    GrammarState s = {0}, t = {0};
    for (int i = 0; i < 256; i++) {
        bytes[i] = (char)i;
        pieces[i] = (Slice){&bytes[i], 1};
    }
    for (int i = 256; i < 300; i++) pieces[i] = slice_of("\"}");
    end[299] = true;
    Status st = grammar_vocab_from_pieces(&v, pieces, end, 300, e);
    if (st == OK) st = grammar_from_schema(&g, slice_of(schema), NULL, e);
    if (st == OK)
        st = grammar_from_gbnf(&h, slice_of("root ::= (\"a\" | x)+\nx ::= [b-d] x?"), NULL, e);
    if (st == OK) st = grammar_warm(g, v, 5, e);
    if (st == OK) st = grammar_state_init(&s, g, v, e);
    for (size_t i = 0; st == OK && i + 1 < sizeof text; i++) {
        st = grammar_mask(&s, mask, e);
        if (st == OK) st = grammar_accept(&s, (uint8_t)text[i], e);
        if (st == OK && i % 8 == 0) st = grammar_state_copy(&t, &s, e);
    }
    if (st == OK) TRUE_(grammar_can_end(&s));
    if (g) OK_(grammar_check(g, TERR));
    grammar_state_deinit(&s);
    grammar_state_deinit(&t);
    grammar_free(g);
    grammar_free(h);
    grammar_vocab_free(v);
    return st;
}

TEST(fault_grammar) {
    size_t live = mem_live_bytes();
    int n_survived = 0;
    for (uint64_t n = 1;; n++) {
        Err e = {0};
        fault_arm(FAULT_ALLOC, n);
        Status st = step(&e);
        bool fired = fault_fired(FAULT_ALLOC);
        fault_arm(FAULT_ALLOC, 0);
        if (mem_live_bytes() != live)
            FAIL("n = %d: %zu bytes more", (int)n, mem_live_bytes() - live);
        if (!fired) {
            EQ(st, OK);
            TRUE_(n > 100);
            break;
        }
        n_survived += st == OK; /* a mask that could not be kept */
        if (st != OK) EQ(st, ERR_NOMEM);
        if (st != OK && !e.msg[0]) FAIL("n = %d: no words", (int)n);
    }
    TRUE_(n_survived < 200);
}
