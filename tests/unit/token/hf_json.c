/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "test.h"
#include "token/internal.h"

#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"
#define VOCAB                                                                                 \
    "\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"\u0120\":3,\"ab\":4,\"\u0120a\":5,\"1\":6,\"2\":7," \
    "\"\u00cc\":8,\"\u0123\":9,\"\u00c3\":10,\"\u00a4\":11,\"abc\":12}"
#define MERGES "\"merges\":[\"a b\",[\"\u0120\",\"a\"]]"
#define ADDED(flags) "\"added_tokens\":[{\"id\":14,\"content\":\"<x>\"," flags "}],"
#define MODEL(more) "\"model\":{\"type\":\"BPE\"," more VOCAB "," MERGES "}"
#define FILE_OF(pre, norm, added, more) \
    "{" added "\"normalizer\":" norm ",\"pre_tokenizer\":" pre "," MODEL(more) "}"

static Tokenizer *load(const char *json) {
    Tokenizer *t = NULL;
    OK_(tok_load_json(&t, slice_of(json), (Slice){NULL, 0}, TERR));
    return t;
}

static void check_of(const Tokenizer *t, const char *text, bool special, const char *want) {
    TokBuf ids = {0};
    StrBuf got = {0};
    OK_(tok_encode(t, slice_of(text), special, &ids, TERR));
    for (size_t i = 0; i < ids.n; i++) sb_printf(&got, "%s%ld", i ? " " : "", (long)ids.v[i]);
    EQ_STR(sb_str(&got), want);
    tokbuf_deinit(&ids);
    sb_deinit(&got);
}

static void check(const char *json, const char *text, const char *want) {
    Tokenizer *t = load(json);
    check_of(t, text, true, want);
    tok_free(t);
}

static void refused(Status want, const char *json, const char *words) {
    Tokenizer *t = NULL;
    size_t live = mem_live_bytes();
    FAILS(want, tok_load_json(&t, slice_of(json), (Slice){NULL, 0}, TERR));
    EQ_STR(test_err.msg, words);
    EQ(mem_live_bytes(), live);
}

TEST(hf_both_forms_of_merges) {
    Tokenizer *t = load(FILE_OF(BYTE_LEVEL, "null", "", ""));
    EQ(tok_n_vocab(t), 13);
    check_of(t, "ab a c", false, "4 5 3 2");
    TRUE_(slice_eq_str(tok_meta_str(t, "tokenizer.ggml.pre"), "gpt-2"));
    tok_free(t);
}

TEST(hf_whole_words) {
    check(FILE_OF(BYTE_LEVEL, "null", "", ""), "abc", "4 2");
    check(FILE_OF(BYTE_LEVEL, "null", "", "\"ignore_merges\":true,"), "abc", "12");
}

TEST(hf_added_tokens) {
    const char *plain = FILE_OF(BYTE_LEVEL, "null", ADDED("\"special\":true"), "");
    Tokenizer *t = load(plain);
    EQ(tok_n_vocab(t), 15);
    EQ(tok_type(t, 13), TOK_UNUSED); /* an id that nobody has */
    EQ(tok_type(t, 14), TOK_CONTROL);
    check_of(t, "ab<x> a", true, "4 14 5");
    check_of(t, "ab<x> a", false, "4 5"); /* < x > have no bytes here */
    tok_free(t);
    check(FILE_OF(BYTE_LEVEL, "null", ADDED("\"lstrip\":true,\"rstrip\":true"), ""),
          "ab \u3000<x> \n a", "4 14 0");
}

TEST(hf_normal_forms) {
    const char *file = FILE_OF(BYTE_LEVEL, "{\"type\":\"NFC\"}", "", "");
    check(file, "a\u0308", "10 11"); /* becomes one letter */
    check(FILE_OF(BYTE_LEVEL, "null", "", ""), "\u00e4", "10 11");
    check(FILE_OF(BYTE_LEVEL, "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"}]}", "",
                  ""),
          "\u2460", "6");
    check(file, "ab\xff", "4"); /* ill-formed bytes stay, and have no token here */
}

#define SEQ(x) "{\"type\":\"Sequence\",\"pretokenizers\":[" x "]}"
#define RAW ",{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"

TEST(hf_steps) {
    check(FILE_OF("{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", "null", "", ""), "ab",
          "3 4");
    check(FILE_OF("{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", "null", "", ""), " ab",
          "3 4");
    check(FILE_OF(SEQ("{\"type\":\"Split\",\"pattern\":{\"String\":\"b\"},\"behavior\":"
                      "\"Isolated\"}" RAW),
                  "null", "", ""),
          "ab", "0 1");
    check(FILE_OF(SEQ("{\"type\":\"Split\",\"pattern\":{\"Regex\":\"b+\"},\"behavior\":"
                      "\"Removed\"}" RAW),
                  "null", "", ""),
          "abbc", "0 2");
    check(FILE_OF(SEQ("{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[ab]+\"},\"behavior\":"
                      "\"Removed\",\"invert\":true}" RAW),
                  "null", "", ""),
          "ab c ab", "4 4");
    check(FILE_OF(SEQ("{\"type\":\"Digits\",\"individual_digits\":true}" RAW), "null", "", ""),
          "a12", "0 6 7");
    check(FILE_OF(SEQ("{\"type\":\"WhitespaceSplit\"}" RAW), "null", "", ""), " ab  a", "4 0");
}

#define SIGN "\u2581"
#define CHARS_MODEL                                                                            \
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"byte_fallback\":" \
    "true,"                                                                                    \
    "\"vocab\":{\"<unk>\":0,\"<0x62>\":1,\"" SIGN "\":2,\"a\":3,\"" SIGN "a\":4,\"aa\":5,"     \
    "\"" SIGN SIGN "\":6},\"merges\":[\"a a\",\"" SIGN " a\",\"" SIGN " " SIGN "\"]}}"
#define LLAMA_NORM                                                                             \
    "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"" SIGN "\"}," \
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" SIGN "\"}]}"

/* As of SentencePiece, written in characters: the order of the merges counts. */
TEST(hf_in_characters) {
    Tokenizer *t = load("{\"normalizer\":" LLAMA_NORM ",\"pre_tokenizer\":null," CHARS_MODEL);
    check_of(t, "aa a", false, "2 5 4");
    check_of(t, " a", false, "2 4"); /* a with one space comes before two spaces */
    check_of(t, "abc", false, "4 1 0");
    StrBuf back = {0};
    OK_(tok_decode(t, (int32_t[]){2, 5, 4, 1}, 4, &back, TERR));
    EQ_STR(sb_str(&back), "aa ab");
    sb_deinit(&back);
    tok_free(t);
    check("{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" SIGN
          "\",\"prepend_scheme\":\"first\"}," ADDED("\"special\":true") CHARS_MODEL,
          "a<x>a  ", "4 14 3 2 2");
}

TEST(hf_roles) {
    static const char post[] =
        "{\"added_tokens\":[{\"id\":13,\"content\":\"<s>\",\"special\":true},"
        "{\"id\":14,\"content\":\"</s>\",\"special\":true}],\"post_processor\":{\"type\":"
        "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":"
        "{\"id\":\"A\"}}]},\"pre_tokenizer\":" BYTE_LEVEL "," MODEL("") "}";
    Tokenizer *t = load(post);
    EQ(tok_bos(t), 13);
    EQ(tok_eos(t), -1);
    TRUE_(tok_is_end(t, 14));
    tok_free(t);
    OK_(tok_load_json(&t, slice_of(post),
                      slice_of("{\"add_bos_token\":false,\"add_eos_token\":true,"
                               "\"eos_token\":{\"content\":\"</s>\"}}"),
                      TERR));
    EQ(tok_bos(t), -1);
    EQ(tok_eos(t), 14);
    EQ(tok_eot(t), 14);
    tok_free(t);
}

/* What GGUF has no word for stays with a saved tokenizer. */
TEST(hf_saved_is_the_same) {
    Tokenizer *t =
                  load(FILE_OF(SEQ("{\"type\":\"Split\",\"pattern\":{\"Regex\":\"b\"},\"behavior\":"
                                   "\"MergedWithNext\"}" RAW),
                               "{\"type\":\"NFC\"}", ADDED("\"rstrip\":true"), "")),
              *u = NULL;
    char path[300];
    GgufW *w = NULL;
    snprintf(path, sizeof path, "%s/t.gguf", test_tmpdir());
    OK_(gguf_w_new(&w, path, GGUF_DEFAULT_ALIGNMENT, false, TERR));
    tok_save(t, w);
    OK_(gguf_w_begin(w, TERR));
    OK_(gguf_w_end(w, TERR));
    gguf_w_free(w);
    OK_(tok_open(&u, path, TERR));
    TRUE_(slice_eq_str(tok_meta_str(u, "tokenizer.ggml.pre"), "ingot-split"));
    for (int i = 0; i < 2; i++) check_of(i ? u : t, "ab<x>  a\u0308c", false, "0 1 14 10 11 2");
    tok_free(t);
    tok_free(u);
}

TEST(hf_refuses) {
    refused(ERR_FORMAT, "[]", "tokenizer.json: not an object");
    refused(ERR_FORMAT, "{}", "tokenizer.json: no model");
    refused(ERR_UNSUPPORTED, "{\"model\":{\"type\":\"Unigram\"}}",
            "model: \"Unigram\" is not supported, only BPE");
    refused(ERR_UNSUPPORTED, FILE_OF("null", "null", "", ""),
            "pre_tokenizer: neither ByteLevel nor U+2581 for spaces");
    refused(ERR_UNSUPPORTED, FILE_OF("{\"type\":\"Bert\"}", "null", "", ""),
            "pre_tokenizer: \"Bert\" is not supported");
    refused(ERR_UNSUPPORTED, FILE_OF(BYTE_LEVEL, "{\"type\":\"Lowercase\"}", "", ""),
            "normalizer: \"Lowercase\" is not supported");
    refused(ERR_UNSUPPORTED, FILE_OF(BYTE_LEVEL, "null", "", "\"end_of_word_suffix\":\"</w>\","),
            "model: end_of_word_suffix is not supported");
    refused(ERR_FORMAT, "{\"pre_tokenizer\":" BYTE_LEVEL ",\"model\":{\"vocab\":{\"a\":99999}}}",
            "tokenizer.json: ids up to 99999 for 1 tokens");
    refused(ERR_FORMAT, "{\"pre_tokenizer\":" BYTE_LEVEL ",\"model\":{\"vocab\":{\"a\":-1}}}",
            "token \"a\": its id is no number from 0 to 4194303");
    refused(ERR_FORMAT,
            "{\"pre_tokenizer\":" BYTE_LEVEL ",\"model\":{\"vocab\":{\"a\":0,\"b\":0}}}",
            "token \"b\": its id 0 is taken");
    refused(ERR_FORMAT, "{\"pre_tokenizer\":" BYTE_LEVEL ",\"model\":{\"vocab\":{\"a\":0}}}",
            "model: no merges");
    refused(ERR_FORMAT,
            "{\"pre_tokenizer\":" BYTE_LEVEL
            ",\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}",
            "merges: merge 0 is not two tokens");
}
