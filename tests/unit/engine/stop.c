/* SPDX-License-Identifier: Apache-2.0
 * Stop strings against a search in the whole text. */
#include "engine/stop.h"

#include <stdio.h>

#include "base/rng.h"
#include "support/vocab_build.h"
#include "test.h"
#include "text/utf8.h"

static uint8_t memory[2 * SAMPLE_MAX_STOPS * SAMPLE_MAX_STOP_BYTES];

static void init(SampleStop *s, const Slice *strs, int n, bool include) {
    OK_(sample_stop_check(strs, n, TERR));
    TRUE_(sample_stop_bytes(strs, n) <= sizeof memory);
    sample_stop_init(s, strs, n, include, memory);
}

/* Where the first match ends, the longest of those that end there. */
static size_t naive_end(int *which, Slice text, const Slice *strs, int n) {
    for (size_t end = 1; end <= text.n; end++) {
        *which = -1;
        for (int i = 0; i < n; i++) {
            if (strs[i].n > end || memcmp(text.p + end - strs[i].n, strs[i].p, strs[i].n) != 0)
                continue;
            if (*which < 0 || strs[i].n > strs[*which].n) *which = i;
        }
        if (*which >= 0) return end;
    }
    return text.n;
}

/* Bytes that may be part of a match yet: the longest end of text that a stop string begins with. */
static size_t naive_held(Slice text, const Slice *strs, int n) {
    size_t held = 0;
    for (int i = 0; i < n; i++)
        for (size_t k = held + 1; k <= MIN(text.n, strs[i].n); k++)
            if (memcmp(text.p + text.n - k, strs[i].p, k) == 0) held = k;
    return held;
}

static void feed(SampleStop *s, const char *piece, const char *want, bool hit) {
    StrBuf out = {0};
    bool got = sample_stop_push(s, slice_of(piece), &out);
    EQ_STR(sb_str(&out), want);
    EQ(got, hit);
    sb_deinit(&out);
}

TEST(one_string_in_pieces) {
    Slice strs[] = {slice_of("STOP")};
    SampleStop s;
    init(&s, strs, 1, false);
    feed(&s, "one ST", "one ", false);
    feed(&s, "", "", false);
    feed(&s, "ST", "ST", false);
    feed(&s, "O", "", false);
    feed(&s, "P and more", "", true);
    EQ(s.hit, 1);
    feed(&s, "nothing", "", true);
    StrBuf out = {0};
    sample_stop_finish(&s, &out);
    EQ_STR(sb_str(&out), "");
    sb_deinit(&out);
}

TEST(the_stop_string_is_shown_when_asked_for) {
    Slice strs[] = {slice_of("xx"), slice_of("END")};
    SampleStop s;
    init(&s, strs, 2, true);
    feed(&s, "a E", "a ", false);
    feed(&s, "N", "", false);
    feed(&s, "DING", "END", true);
    EQ(s.hit, 2);
}

TEST(what_is_held_comes_at_the_end) {
    Slice strs[] = {slice_of("abcabd"), slice_of("bcx")};
    SampleStop s;
    StrBuf out = {0};
    init(&s, strs, 2, false);
    feed(&s, "zabcab", "z", false);
    sample_stop_finish(&s, &out);
    EQ_STR(sb_str(&out), "abcab");
    EQ(s.hit, 0);
    sb_clear(&out);
    sample_stop_finish(&s, &out); /* once */
    EQ_STR(sb_str(&out), "");
    sb_deinit(&out);
}

TEST(first_end_wins_then_the_longest) {
    Slice strs[] = {slice_of("abcd"), slice_of("bc"), slice_of("abc"), slice_of("abc")};
    SampleStop s;
    init(&s, strs, 4, false);
    feed(&s, "xabcd", "x", true);
    EQ(s.hit, 3);
    init(&s, strs, 2, false);
    feed(&s, "xabcd", "xa", true);
    EQ(s.hit, 2);
}

/* users got answers shorter than min_tokens */
TEST(what_ends_while_muted_does_not_count) {
    Slice strs[] = {slice_of("abab"), slice_of("b0")};
    SampleStop s;
    init(&s, strs, 2, false);
    s.muted = true;
    feed(&s, "xab", "x", false);
    feed(&s, "ab", "ab", false); /* whole, and its end may begin another */
    s.muted = false;
    feed(&s, "a", "", false);
    feed(&s, "b", "", true);
    EQ(s.hit, 1);
    init(&s, strs, 2, false);
    s.muted = true;
    feed(&s, "abab", "ab", false);
    feed(&s, "abab", "abab", false);
    feed(&s, "b0b", "abb0", false); /* "ab" was held, "b" may be "b0" */
    s.muted = false;
    feed(&s, "0", "", true);
    EQ(s.hit, 2);
    init(&s, strs, 2, false);
    s.muted = true;
    feed(&s, "abab0", "abab0", false); /* what stands behind a string in memory is none of it */
    feed(&s, "0", "0", false);
    StrBuf out = {0};
    sample_stop_finish(&s, &out);
    EQ_STR(sb_str(&out), "");
    sb_deinit(&out);
}

TEST(no_strings_let_all_pass) {
    SampleStop s;
    init(&s, NULL, 0, false);
    EQ(sample_stop_bytes(NULL, 0), 0);
    feed(&s, "anything", "anything", false);
    SampleStop zeroed = {0};
    feed(&zeroed, "anything", "anything", false);
}

TEST(nul_bytes_are_bytes) {
    Slice strs[] = {{"\0\0\1", 3}};
    SampleStop s;
    StrBuf out = {0};
    init(&s, strs, 1, false);
    FALSE_(sample_stop_push(&s, (Slice){"a\0\0\0", 4}, &out));
    EQ(out.n, 2);
    TRUE_(sample_stop_push(&s, (Slice){"\1b", 2}, &out));
    EQ(out.n, 2);
    EQ_MEM(out.p, "a\0", 2);
    sb_deinit(&out);
}

TEST(limits) {
    static char text[SAMPLE_MAX_STOP_BYTES + 1];
    Slice many[SAMPLE_MAX_STOPS + 1];
    memset(text, 'x', sizeof text);
    for (size_t i = 0; i < COUNT_OF(many); i++) many[i] = slice_of("s");
    OK_(sample_stop_check(many, SAMPLE_MAX_STOPS, TERR));
    FAILS(ERR_ARG, sample_stop_check(many, SAMPLE_MAX_STOPS + 1, TERR));
    EQ_STR(test_err.msg, "17 stop strings, the limit is 16");
    FAILS(ERR_ARG, sample_stop_check(many, -1, TERR));
    many[3] = (Slice){text, SAMPLE_MAX_STOP_BYTES};
    OK_(sample_stop_check(many, 5, TERR));
    many[3].n++;
    FAILS(ERR_ARG, sample_stop_check(many, 5, TERR));
    EQ_STR(test_err.msg, "stop string 3 has 257 bytes, the limit is 256");
    many[2].n = 0;
    FAILS(ERR_ARG, sample_stop_check(many, 5, TERR));
    EQ_STR(test_err.msg, "stop string 2 is empty");
}

/* The longest strings there may be, and as many: 256 bytes fill every number that is kept of them. */
TEST(longest_strings) {
    static char text[SAMPLE_MAX_STOPS][SAMPLE_MAX_STOP_BYTES];
    Slice strs[SAMPLE_MAX_STOPS];
    for (int i = 0; i < SAMPLE_MAX_STOPS; i++) {
        memset(text[i], 'x', sizeof text[i]);
        text[i][SAMPLE_MAX_STOP_BYTES - 1] = (char)('A' + i);
        strs[i] = (Slice){text[i], SAMPLE_MAX_STOP_BYTES};
    }
    text[5][SAMPLE_MAX_STOP_BYTES - 1] = 'x';
    SampleStop s;
    StrBuf out = {0};
    init(&s, strs, SAMPLE_MAX_STOPS, false);
    for (int i = 0; i < SAMPLE_MAX_STOP_BYTES - 1; i++)
        FALSE_(sample_stop_push(&s, slice_of("x"), &out));
    EQ(out.n, 0);
    FALSE_(sample_stop_push(&s, slice_of("y"), &out));
    EQ(out.n, SAMPLE_MAX_STOP_BYTES);
    TRUE_(sample_stop_push(&s, (Slice){text[5], SAMPLE_MAX_STOP_BYTES}, &out));
    EQ(s.hit, 6);
    EQ(out.n, SAMPLE_MAX_STOP_BYTES);
    sb_deinit(&out);
}

typedef struct Dice {
    uint64_t seed, n;
} Dice;

static uint32_t roll(Dice *d, uint32_t sides) {
    uint32_t w[4];
    rng_philox(w, d->seed, 0, d->n++);
    return w[0] % sides;
}

static Slice random_text(Dice *d, char *buf, size_t n, uint32_t letters) {
    for (size_t i = 0; i < n; i++) buf[i] = (char)("a\xc3\xa9 \xe2\x82\xac"[roll(d, letters)]);
    return (Slice){buf, n};
}

/* After every piece: what was shown is all that cannot be part of a stop string any more. */
static int check_one(Dice *d) {
    static char text_buf[400], str_buf[SAMPLE_MAX_STOPS][12];
    Slice strs[SAMPLE_MAX_STOPS];
    uint32_t letters = 1 + roll(d, 7);
    int n = (int)roll(d, SAMPLE_MAX_STOPS + 1), which = -1;
    bool include = roll(d, 2);
    for (int i = 0; i < n; i++) strs[i] = random_text(d, str_buf[i], 1 + roll(d, 12), letters);
    Slice text = random_text(d, text_buf, roll(d, sizeof text_buf), letters);
    size_t end = naive_end(&which, text, strs, n);
    size_t shown = which < 0 || include ? end : end - strs[which].n;
    SampleStop s;
    StrBuf out = {0};
    init(&s, strs, n, include);
    for (size_t at = 0; at < text.n;) {
        size_t len = roll(d, 1 + 5 * roll(d, 5));
        len = MIN(len, text.n - at);
        bool hit = sample_stop_push(&s, (Slice){text.p + at, len}, &out);
        at += len;
        EQ(hit, which >= 0 && at >= end);
        EQ(out.n, hit ? shown : at - naive_held((Slice){text.p, at}, strs, n));
    }
    sample_stop_finish(&s, &out);
    EQ(s.hit, which + 1);
    EQ(out.n, shown);
    if (shown > 0) EQ_MEM(out.p, text.p, shown);
    sb_deinit(&out);
    return which >= 0;
}

TEST(random_splits_match_a_search) {
    Dice d = {.seed = 5};
    int n_hit = 0, rounds = 4000;
    for (int i = 0; i < rounds; i++) n_hit += check_one(&d);
    TRUE_(n_hit > rounds / 10 && n_hit < rounds * 9 / 10); /* both kinds are there */
}

/* Tokens of one byte, as a stream decodes them: what is shown is well-formed at any time, and the stop strings
 * are found although each is cut within its code points. */
TEST(behind_a_detok) {
    Tokenizer *t = NULL;
    Slice strs[] = {slice_of("\u00e9\u20ac"), slice_of("\U0001f600!")};
    static const char *texts[] = {"a\u00e9\u00e9\u20acb", "\u00e8\U0001f600\U0001f600!x",
                                  "\u00e9\u20abz\u00e9"};
    static const char *want[] = {"a\u00e9", "\u00e8\U0001f600", "\u00e9\u20abz\u00e9"};
    OK_(vocab_build_load(&t, &vocab_small, TERR));
    for (int i = 0; i < 3; i++) {
        StrBuf shown = {0}, step = {0};
        SampleStop s;
        Detok d;
        detok_init(&d, t);
        init(&s, strs, 2, false);
        for (const char *c = texts[i]; *c; c++) {
            sb_clear(&step);
            detok_push(&d, (uint8_t)*c, &step);
            bool hit = sample_stop_push(&s, (Slice){step.p, step.n}, &shown);
            TRUE_(utf8_valid((Slice){shown.p, shown.n}));
            if (hit) break;
        }
        EQ(s.hit, i < 2 ? i + 1 : 0);
        sample_stop_finish(&s, &shown);
        EQ_STR(sb_str(&shown), want[i]);
        sb_deinit(&shown);
        sb_deinit(&step);
    }
    tok_free(t);
}
