/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"
#include "support/vocab_build.h"
#include "test.h"
#include "text/utf8.h"

static Tokenizer *small(void) {
    Tokenizer *t = NULL;
    OK_(vocab_build_load(&t, &vocab_small, TERR));
    return t;
}

/* What is shown after each id, bars between. Ids end with -2. */
static void check(const Tokenizer *t, const int32_t *ids, const char *want) {
    Detok d;
    StrBuf out = {0};
    detok_init(&d, t);
    for (; *ids != -2; ids++) {
        detok_push(&d, *ids, &out);
        sb_putc(&out, '|');
    }
    detok_finish(&d, &out);
    EQ_STR(sb_str(&out), want);
    sb_deinit(&out);
}

#define IDS(...) ((const int32_t[]){__VA_ARGS__, -2})
#define BAD "\xef\xbf\xbd"

TEST(detok_holds_back_split_emoji) {
    Tokenizer *t = small();
    check(t, IDS(267, 152, 128, 97), "||\U0001f600|a|"); /* f0 9f, 98, 80 */
    check(t, IDS(97, 0xe2, 0x82, 0xac), "a|||\u20ac|");
    check(t, IDS(0xc3, 0xa4, 0xc3, 0xb6), "|\u00e4||\u00f6|");
    tok_free(t);
}

TEST(detok_ill_formed_bytes_are_shown_once_decided) {
    Tokenizer *t = small();
    check(t, IDS(267, 97), "|" BAD "a|");
    check(t, IDS(267, 267, 152, 128), "|" BAD "||\U0001f600|");
    check(t, IDS(0x80, 97), BAD "|a|");
    check(t, IDS(267, 152), "||" BAD);                  /* finish */
    check(t, IDS(0xe2, 264, 0x82, 0xac), "|||\u20ac|"); /* a control token shows nothing */
    check(t, IDS(0xff, 0xc0, 0xed, 0xa0, 97), BAD "|" BAD "||" BAD BAD "|a|");
    check(t, IDS(-1, 9999, 97), "||a|");
    tok_free(t);
}

/* In pieces or whole: the same text, always well-formed, at most three bytes held. */
TEST(detok_streaming_is_cleaning) {
    Tokenizer *t = small();
    for (uint64_t i = 0; i < 3000; i++) {
        Detok d;
        StrBuf got = {0}, raw = {0}, want = {0};
        detok_init(&d, t);
        for (uint32_t k = 0; k < 12; k++) {
            uint32_t r[4];
            rng_philox(r, 4, i, k);
            static const uint8_t lead[] = {0xf0, 0xe2, 0xc3, 0x9f, 0x98,
                                           0x80, 0xac, 'a',  0xf4, 0xed};
            int32_t id = r[0] % 3 ? lead[r[1] % sizeof lead] : (int32_t)(r[1] % 271);
            detok_push(&d, id, &got);
            sb_put(&raw, tok_piece(t, id).p, tok_piece(t, id).n);
            TRUE_(utf8_valid((Slice){got.p, got.n}) && d.n_held <= 3);
            utf8_put_clean(&want, (Slice){raw.p, utf8_complete_prefix((Slice){raw.p, raw.n})});
            EQ_STR(sb_str(&got), sb_str(&want));
            sb_clear(&want);
        }
        sb_deinit(&got);
        sb_deinit(&raw);
        sb_deinit(&want);
    }
    tok_free(t);
}
