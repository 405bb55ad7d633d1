/* SPDX-License-Identifier: Apache-2.0
 * Tokenizers written as tokenizer.json and read again: the same ids of random texts, and the same text again. */
#include <stdio.h>

#include "base/rng.h"
#include "support/vocab_build.h"
#include "test.h"
#include "token/internal.h"

static Tokenizer *again(const Tokenizer *t, StrBuf *text, StrBuf *conf) {
    Tokenizer *u = NULL;
    OK_(tok_format_json(text, t, TERR));
    OK_(tok_format_json_config(conf, t, 128, TERR));
    OK_(tok_load_json_for(&u, (Slice){text->p, text->n}, (Slice){conf->p, conf->n}, tok_n_vocab(t),
                          TERR));
    return u;
}

static size_t pick(uint64_t seed, uint64_t i, size_t n) {
    uint32_t r[4];
    rng_philox(r, 7, seed, i);
    return r[0] % n;
}

static void put_random(StrBuf *b, uint64_t seed) {
    static const char *const parts[] = {"the",
                                        " cat",
                                        " ",
                                        "  ",
                                        "\n",
                                        "in",
                                        "'s",
                                        "'S",
                                        "1",
                                        "234",
                                        "\u00e4",
                                        "\u65e5",
                                        ".",
                                        ",,",
                                        "\u2581",
                                        "a",
                                        "<s>",
                                        "</s>",
                                        "<x>",
                                        "\t",
                                        "e",
                                        "Th",
                                        "\u017f",
                                        "I'\u017f",
                                        "\U0001f600",
                                        "t",
                                        "h",
                                        "c",
                                        "<|endoftext|>",
                                        "it's",
                                        "\r\n"};
    size_t n = 1 + pick(seed, 0, 12);
    for (size_t i = 1; i <= n; i++) sb_puts(b, parts[pick(seed, i, COUNT_OF(parts))]);
}

static void same_ids(const Tokenizer *a, const Tokenizer *b, Slice text, bool special) {
    TokBuf x = {0}, y = {0};
    OK_(tok_encode(a, text, special, &x, TERR));
    OK_(tok_encode(b, text, special, &y, TERR));
    if (x.n != y.n || memcmp(x.v, y.v, x.n * sizeof *x.v) != 0)
        FAIL("other ids of \"%.*s\"", (int)text.n, text.p);
    tokbuf_deinit(&x);
    tokbuf_deinit(&y);
}

/* special: also with special tokens, where both read them by the same rule. */
static void round_trip(const Tokenizer *t, bool special) {
    StrBuf text = {0}, conf = {0}, text2 = {0}, conf2 = {0}, s = {0};
    Tokenizer *u = again(t, &text, &conf), *v = again(u, &text2, &conf2);
    for (uint64_t i = 0; i < 2000; i++) {
        sb_clear(&s);
        put_random(&s, i);
        same_ids(t, u, (Slice){s.p, s.n}, false);
        if (special) same_ids(t, u, (Slice){s.p, s.n}, true);
        same_ids(u, v, (Slice){s.p, s.n}, true);
    }
    EQ(tok_bos(u), tok_bos(t));
    EQ(tok_eos(u), tok_eos(t));
    EQ(tok_eot(u), tok_eot(t));
    EQ_STR(text2.p, text.p);
    EQ_STR(conf2.p, conf.p);
    tok_free(u);
    tok_free(v);
    sb_deinit(&text);
    sb_deinit(&conf);
    sb_deinit(&text2);
    sb_deinit(&conf2);
    sb_deinit(&s);
}

static void round_trip_json(const char *json, const char *config) {
    Tokenizer *t = NULL;
    OK_(tok_load_json(&t, slice_of(json), slice_of(config), TERR));
    round_trip(t, true);
    tok_free(t);
}

TEST(bytes_with_every_pre_that_has_patterns) {
    static const char *const pre[] = {"gpt-2",          "llama-bpe",   "smaug-bpe", "qwen2",
                                      "qwen35",         "starcoder",   "falcon",    "deepseek-llm",
                                      "deepseek-coder", "deepseek-v3", "bloom",     "viking",
                                      "tekken",         "gpt-4o",      "chameleon", "kimi-k2",
                                      "bailingmoe",     "seed-coder",  "laguna",    "exaone-moe",
                                      "minicpm5",       "jais-2",      "default",   "youtu"};
    for (size_t i = 0; i < COUNT_OF(pre); i++) {
        VocabSpec s = vocab_small;
        Tokenizer *t = NULL, *u = NULL;
        StrBuf text = {0}, conf = {0};
        s.pre = pre[i];
        s.add_bos = 1;
        OK_(vocab_build_load(&t, &s, TERR));
        round_trip(t, true);
        u = again(t, &text, &conf);
        /* other programs get the name again */
        if (!slice_eq_str(tok_meta_str(u, "tokenizer.ggml.pre"), pre[i]))
            FAIL("%s came back as \"%.*s\"", pre[i], (int)tok_meta_str(u, "tokenizer.ggml.pre").n,
                 tok_meta_str(u, "tokenizer.ggml.pre").p);
        tok_free(t);
        tok_free(u);
        sb_deinit(&text);
        sb_deinit(&conf);
    }
}

TEST(scores_become_merges) {
    Tokenizer *t = NULL;
    OK_(spm_build_load(&t, &spm_small, TERR));
    round_trip(t, true);
    tok_free(t);
    SpmSpec s = spm_small;
    s.no_prefix = true;
    OK_(spm_build_load(&t, &s, TERR));
    round_trip(t, true);
    tok_free(t);
}

#define MODEL(more)                                                                              \
    "\"model\":{\"type\":\"BPE\"," more "\"vocab\":{\"t\":0,\"h\":1,\"e\":2,\"\u2581\":3,"       \
    "\"th\":4,\"\u2581t\":5,\"the\":6,\"a\":7,\"c\":8,\"<unk>\":9,\"<0xC3>\":10,\"<0xA4>\":11}," \
    "\"merges\":[\"t h\",[\"\u2581\",\"t\"],\"th e\"]}"
#define ADDED                                                                            \
    "\"added_tokens\":[{\"id\":9,\"content\":\"<unk>\",\"special\":true},"               \
    "{\"id\":14,\"content\":\"<x>\",\"lstrip\":true,\"rstrip\":true,\"special\":false}," \
    "{\"id\":16,\"content\":\"<s>\",\"special\":true},{\"id\":17,\"content\":\"</"       \
    "s>\",\"special\":true}],"
#define POST                                                                              \
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{" \
    "\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}]},"

TEST(characters_as_folders_have_them) {
    static const char *const pre[] = {
        "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":"
        "\"\u2581\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" "
        "\"},\"content\":\"\u2581\"}]},",
        "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" "
        "\"},\"content\":\"\u2581\"},",
        "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\u2581\",\"prepend_scheme\":"
        "\"first\",\"split\":false},",
        "\"normalizer\":{\"type\":\"NFKC\"},\"pre_tokenizer\":{\"type\":\"Metaspace\","
        "\"replacement\":\"\u2581\",\"prepend_scheme\":\"always\",\"split\":true},",
        "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Metaspace\","
        "\"replacement\":\"\u2581\",\"prepend_scheme\":\"never\"},{\"type\":\"Digits\","
        "\"individual_digits\":true}]},"};
    char json[4000];
    for (size_t i = 0; i < COUNT_OF(pre); i++) {
        snprintf(json, sizeof json, "{%s%s%s%s}", ADDED, pre[i], POST,
                 MODEL("\"unk_token\":\"<unk>\",\"byte_fallback\":true,\"fuse_unk\":true,"));
        round_trip_json(json,
                        "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"add_bos_token\":true}");
    }
}

#define BYTES                                                                                  \
    "\"model\":{\"type\":\"BPE\",\"ignore_merges\":true,\"vocab\":{\"t\":0,\"h\":1,\"e\":2,"   \
    "\"\u0120\":3,\"th\":4,\"\u0120t\":5,\"the\":6,\"a\":7,\"c\":8,\"1\":9,\"'\":10,\"s\":11," \
    "\"its\":12},\"merges\":[\"t h\",\"\u0120 t\",\"th e\"]}"

TEST(bytes_as_folders_have_them) {
    static const char *const pre[] = {
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"use_regex\":true}",
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}",
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true}"
        ","
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}]}",
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
        "\"[^a]+\"},\"behavior\":\"Removed\",\"invert\":true},{\"type\":\"Split\",\"pattern\":{"
        "\"String\":\" \"},\"behavior\":\"MergedWithNext\"},{\"type\":\"Punctuation\",\"behavior\":"
        "\"Contiguous\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}",
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?"
        "i:'s|"
        "'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| "
        "?[^\\\\s\\\\p{L}\\\\p{N}]"
        "+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},\"behavior\":\"Isolated\"},{"
        "\"type\":"
        "\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}"};
    static const char *const norm[] = {"null", "{\"type\":\"NFC\"}"};
    char json[4000];
    for (size_t i = 0; i < 2 * COUNT_OF(pre); i++) {
        snprintf(json, sizeof json, "{%s\"normalizer\":%s,\"pre_tokenizer\":%s,%s}",
                 "\"added_tokens\":[{\"id\":14,\"content\":\"<x>\",\"special\":true}],",
                 norm[i % 2], pre[i / 2], BYTES);
        round_trip_json(json, "");
    }
}

TEST(templates_come_along) {
    static const char one[] = "{\"chat_template\":\"{{ a }}\"}";
    Tokenizer *t = NULL;
    StrBuf conf = {0};
    char json[2000];
    snprintf(json, sizeof json,
             "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},%s}", BYTES);
    OK_(tok_load_json(&t, slice_of(json), slice_of(one), TERR));
    OK_(tok_format_json_config(&conf, t, 77, TERR));
    TRUE_(strstr(conf.p, "\"model_max_length\":77") != NULL);
    TRUE_(strstr(conf.p, "\"bos_token\":null") != NULL);
    sb_deinit(&conf);
    tok_free(t);
}

static void refused(const VocabSpec *s, const char *words) {
    Tokenizer *t = NULL;
    StrBuf b = {0};
    OK_(vocab_build_load(&t, s, TERR));
    FAILS(ERR_UNSUPPORTED, tok_format_json(&b, t, TERR));
    if (!strstr(test_err.msg, words)) FAIL("\"%s\" lacks \"%s\"", test_err.msg, words);
    sb_deinit(&b);
    tok_free(t);
}

TEST(what_the_form_cannot_say) {
    VocabSpec s = vocab_small;
    s.pre = "superbpe";
    refused(&s, "this pre-tokenizer cannot be said");
    s = (VocabSpec){.tokens = {"th", "\xff\xfe"}, .merges = {"t h"}};
    refused(&s, "is no text");
    s = (VocabSpec){.tokens = {"the"}, .merges = {"t h", "th e"}}; /* "th" is no token */
    refused(&s, "merge 0 has a side or a result that is no token");
}
