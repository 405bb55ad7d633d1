/* SPDX-License-Identifier: Apache-2.0
 * What the grammar tests share: a small vocabulary with awkward pieces, questions to a grammar byte by byte and
 * token by token, and random walks. */
#ifndef INGOT_TEST_GRAMMAR_HELP_H
#define INGOT_TEST_GRAMMAR_HELP_H

#include "base/rng.h"
#include "engine/grammar/grammar.h"
#include "test.h"

/* All bytes, then these, then an end token, one without text, and one piece a second time. */
static const char *const help_pieces[] = {"\"",       "\"\"",
                                          "{\"",      "\":",
                                          "\": ",     "\": \"",
                                          "\",",      "\",\"",
                                          "\", \"",   "\"}",
                                          "\"]",      "}}",
                                          "]}",       "},",
                                          ",\"a",     "[[",
                                          "[{",       "]]",
                                          "{}",       "[]",
                                          " \"",      " {",
                                          " [",       "  ",
                                          "\n",       "\n\n",
                                          "\n  ",     " \n",
                                          "a",        "ab",
                                          "abc",      "aa",
                                          "aaaa",     "aaaaaaaa",
                                          "b\"",      "c\":",
                                          "x",        "the",
                                          " the",     "the cat",
                                          "true",     "false",
                                          "null",     "tru",
                                          "ue",       "12",
                                          "123",      "0",
                                          "00",       "0.",
                                          ".5",       "-1",
                                          "-",        "1e",
                                          "e+",       "10",
                                          "99",       "2024-",
                                          "-01",      "\\",
                                          "\\\"",     "\\u",
                                          "\\u00",    "\\n",
                                          "n\\",      "\xc3",
                                          "\xa9",     "\xc3\xa9",
                                          "\xe2\x82", "\xe2\x82\xac",
                                          "\xac\"",   "\xf0\x9f",
                                          "\x98\x80", "\xf0\x9f\x98\x80",
                                          "\xed\xa0", "\xc3\xa9\xc3",
                                          "@",        ".com",
                                          "name",     "\"name\"",
                                          "age",      "id\":1",
                                          "b",        "value",
                                          "x = ",     " + ",
                                          "(",        "))",
                                          "((",       ";",
                                          ";\n"};
enum {
    HELP_N = 256 + (int)COUNT_OF(help_pieces) + 3,
    HELP_END = HELP_N - 3,
    HELP_NO_TEXT = HELP_N - 2
};

static UNUSED Slice help_piece(int32_t i) {
    static char byte[256];
    if (i < 256) {
        byte[i] = (char)i;
        return (Slice){&byte[i], 1};
    }
    if (i < HELP_END) return slice_of(help_pieces[i - 256]);
    return slice_of(i == HELP_N - 1 ? "\"" : "");
}

static UNUSED GrammarVocab *help_vocab(void) {
    Slice s[HELP_N];
    bool end[HELP_N] = {0};
    GrammarVocab *v = NULL;
    for (int32_t i = 0; i < HELP_N; i++) s[i] = help_piece(i);
    end[HELP_END] = true;
    OK_(grammar_vocab_from_pieces(&v, s, end, HELP_N, TERR));
    return v;
}

/* Whether g accepts exactly this text. */
static UNUSED bool help_accepts(Grammar *g, const GrammarVocab *v, Slice text) {
    GrammarState s;
    OK_(grammar_state_init(&s, g, v, TERR));
    Err e = {0};
    Status st = OK;
    for (size_t i = 0; i < text.n && st == OK; i++)
        st = grammar_accept_bytes(&s, (Slice){text.p + i, 1}, &e);
    bool yes = st == OK && grammar_can_end(&s);
    if (st != OK) EQ(st, ERR_ARG);
    grammar_state_deinit(&s);
    return yes;
}

/* For every token: allowed exactly if a fresh state that went over prefix and the token's bytes is alive. */
static UNUSED void help_check_mask(Grammar *g, const GrammarVocab *v, const GrammarState *s,
                                   Slice prefix) {
    uint32_t mask[(HELP_N + 31) / 32];
    OK_(grammar_mask(s, mask, TERR));
    for (int32_t i = 0; i < HELP_N; i++) {
        GrammarState f;
        bool want = i == HELP_END && grammar_can_end(s), got = mask[i / 32] >> (i % 32) & 1;
        if (i != HELP_END && help_piece(i).n) {
            OK_(grammar_state_init(&f, g, v, TERR));
            OK_(grammar_accept_bytes(&f, prefix, TERR));
            want = grammar_accept_bytes(&f, help_piece(i), NULL) == OK;
            grammar_state_deinit(&f);
        }
        if (got != want)
            FAIL("after \"%.*s\": token %d \"%s\" is %s", (int)prefix.n, prefix.p, (int)i,
                 help_piece(i).p, got ? "allowed" : "not allowed");
    }
}

/* Generate by choosing among the allowed tokens; after `soft` tokens the end is taken as soon as it is allowed
 * and closing bytes are preferred. False if nothing came to an end in `hard` tokens. The text goes to out. */
static UNUSED bool help_walk(Grammar *g, const GrammarVocab *v, uint64_t seed, int soft, int hard,
                             StrBuf *out, bool exact) {
    uint32_t mask[(HELP_N + 31) / 32];
    GrammarState s;
    bool done = false;
    OK_(grammar_state_init(&s, g, v, TERR));
    sb_clear(out);
    for (int t = 0; t < hard && !done; t++) {
        int32_t allowed[HELP_N], n = 0, id;
        if (exact) help_check_mask(g, v, &s, (Slice){sb_str(out), out->n});
        OK_(grammar_mask(&s, mask, TERR));
        for (int32_t i = 0; i < HELP_N; i++)
            if (mask[i / 32] >> (i % 32) & 1) allowed[n++] = i;
        TRUE_(n > 0);
        id = allowed[(int)(rng_uniform(seed, 1, (uint64_t)t) * n)];
        if (t >= soft && (mask[HELP_END / 32] >> (HELP_END % 32) & 1)) id = HELP_END;
        else if (t >= soft && rng_uniform(seed, 2, (uint64_t)t) < 0.8) {
            static const char closing[] = "b]}\"";
            for (int k = 0; k < 4; k++)
                if (mask[closing[k] / 32] >> (closing[k] % 32) & 1) id = closing[k];
        }
        OK_(grammar_accept(&s, id, TERR));
        if (id == HELP_END) done = true;
        else sb_put(out, help_piece(id).p, help_piece(id).n);
    }
    OK_(grammar_check(g, TERR));
    grammar_state_deinit(&s);
    return done;
}

#endif
