/* SPDX-License-Identifier: Apache-2.0
 * Signatures against Jaccard similarities known by construction, and the two sets. */
#include "data/internal.h"
#include "test.h"

#include <math.h>
#include <stdio.h>

/* n words from `from` on, each once: n - 4 shingles. */
static void put_words(StrBuf *b, int from, int n) {
    for (int i = from; i < from + n; i++) sb_printf(b, "w%d ", i);
}

static Sig sig_of_words(int from, int n) {
    StrBuf b = {0};
    Sig s;
    put_words(&b, from, n);
    data__sig(&s, (Slice){b.p, b.n});
    sb_deinit(&b);
    return s;
}

TEST(sig_estimates_jaccard) {
    enum { N = 2004, RUNS = 100 }; /* 2000 shingles */
    static const int shift[] = {0, 20, 100, 222, 500, 1000, 1500};
    for (size_t i = 0; i < COUNT_OF(shift); i++) {
        double same = 2000 - shift[i], jaccard = same / (2000 + shift[i]), sum = 0, sq = 0;
        for (int seed = 0; seed < RUNS; seed++) {
            Sig a = sig_of_words(seed * 10000, N), b = sig_of_words(seed * 10000 + shift[i], N);
            double d = data__sig_similarity(&a, &b) - jaccard;
            sum += d;
            sq += d * d;
        }
        /* independent hash functions would give a variance of j (1 - j) / 128 */
        double var = jaccard * (1 - jaccard) / SIG_HASHES;
        NEAR(sum / RUNS, 0, 4 * sqrt(var / RUNS) + 1e-9);
        TRUE_(sq / RUNS < 1.7 * var + 1e-9);
    }
}

TEST(sig_of_unrelated_texts_is_far) {
    Sig a = sig_of_words(0, 500), b = sig_of_words(5000, 500);
    NEAR(data__sig_similarity(&a, &b), 0, 0.02);
}

TEST(sig_ignores_layout) {
    Sig a, b;
    data__sig(&a, slice_of("def f(x):\n    return x + 1\n"));
    data__sig(&b, slice_of("  def f ( x ) :\r\n\treturn x+1"));
    EQ_MEM(&a, &b, sizeof a);
    data__sig(&b, slice_of("def f(x):\n    return x + 2\n"));
    TRUE_(memcmp(&a, &b, sizeof a) != 0);
}

TEST(sig_order_of_tokens_counts) {
    Sig a, b;
    data__sig(&a, slice_of("a b c d e"));
    data__sig(&b, slice_of("e d c b a"));
    NEAR(data__sig_similarity(&a, &b), 0, 0.02);
}

TEST(sig_of_short_texts) {
    Sig a, b, none;
    data__sig(&none, slice_of(""));
    data__sig(&a, slice_of("one two"));
    data__sig(&b, slice_of("one two"));
    EQ_MEM(&a, &b, sizeof a);
    TRUE_(memcmp(&a, &none, sizeof a) != 0);
    data__sig(&b, slice_of("one three"));
    NEAR(data__sig_similarity(&a, &b), 0, 0.02);
    data__sig(&b, slice_of(" \n\t "));
    EQ_MEM(&b, &none, sizeof b);
}

TEST(exact_set_knows_each_digest_once) {
    ExactSet s = {0};
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3000; i++) {
            Sha256 d;
            bool there = !round;
            OK_(sha_256(&d, &i, sizeof i, TERR));
            OK_(data__exact_add(&s, &d, &there, TERR));
            EQ(there, round);
        }
    }
    EQ(s.n, 3000);
    data__exact_deinit(&s);
}

TEST(near_set_bands_fit_the_threshold) {
    static const double thr[] = {0.05, 0.3, 0.5, 0.7, 0.8, 0.9, 0.99, 1.0};
    int last = 0;
    for (size_t i = 0; i < COUNT_OF(thr); i++) {
        NearSet s;
        data__near_init(&s, thr[i]);
        EQ(s.rows * s.bands, SIG_HASHES);
        TRUE_(s.rows >= last);
        last = s.rows;
    }
    EQ(last, 16);
}

/* Every search must give what comparing with each document gives. */
TEST(near_set_finds_what_brute_force_finds) {
    enum { N = 600 };
    static const double thr[] = {0.5, 0.8, 0.95};
    Sig *all = mem_new_n(Sig, N);
    for (size_t t = 0; t < COUNT_OF(thr); t++) {
        NearSet s;
        int n = 0, n_found = 0, n_missed = 0;
        data__near_init(&s, thr[t]);
        for (int i = 0; i < N; i++) {
            Sig x = sig_of_words(i % 97 * 300 + i / 97 * 9, 204);
            bool want = false;
            for (int k = 0; k < n; k++) want |= data__sig_similarity(&all[k], &x) >= thr[t];
            bool got = data__near_find(&s, &x);
            TRUE_(want || !got);
            n_found += got;
            n_missed += want && !got;
            if (got) continue;
            all[n++] = x;
            OK_(data__near_add(&s, &x, TERR));
        }
        TRUE_(n_found > 20);
        EQ(n_missed, 0);
        EQ(s.n, n);
        data__near_deinit(&s);
    }
    mem_free(all);
}

TEST(near_set_search_number_wraps) {
    NearSet s;
    Sig a = sig_of_words(0, 50), b = sig_of_words(1000, 50);
    data__near_init(&s, 0.8);
    OK_(data__near_add(&s, &a, TERR));
    s.search = UINT32_MAX - 1;
    for (int i = 0; i < 4; i++) {
        TRUE_(data__near_find(&s, &a));
        FALSE_(data__near_find(&s, &b));
    }
    data__near_deinit(&s);
}
