/* SPDX-License-Identifier: Apache-2.0
 *
 * Published vocabularies with texts and their ids, from the folder INGOT_TEST_DATA: vocab/NAME.gguf,
 * NAME.gguf.inp (texts between lines "__ggml_vocab_test__") and NAME.gguf.out (a line of ids for each).
 */
#include <stdio.h>
#include <stdlib.h>

#include "test.h"
#include "token/token.h"

static const char separator[] = "\n__ggml_vocab_test__\n";

static const char *data_path(const char *name, const char *tail) {
    static char path[1024];
    const char *dir = getenv("INGOT_TEST_DATA");
    if (!dir || !*dir) SKIP("INGOT_TEST_DATA is not set");
    snprintf(path, sizeof path, "%s/vocab/%s%s", dir, name, tail);
    if (!io_exists(path)) SKIP("%s is not there", path);
    return path;
}

static Tokenizer *load_vocab(const char *name) {
    Gguf *g = NULL;
    Tokenizer *t = NULL;
    OK_(gguf_open(&g, data_path(name, ".gguf"), TERR));
    OK_(tok_load(&t, g, TERR));
    gguf_close(g);
    return t;
}

static void check_text(const Tokenizer *t, Slice text, const char *want_line, int n_text) {
    TokBuf ids = {0};
    StrBuf line = {0}, back = {0};
    OK_(tok_encode(t, text, false, &ids, TERR));
    for (size_t i = 0; i < ids.n; i++) sb_printf(&line, " %ld", (long)ids.v[i]);
    if (strcmp(sb_str(&line), want_line))
        FAIL("text %d: got%s\nwant%s", n_text, sb_str(&line), want_line);
    OK_(tok_decode(t, ids.v, ids.n, &back, TERR));
    EQ(back.n, text.n);
    EQ_MEM(sb_str(&back), text.p, text.n);
    tokbuf_deinit(&ids);
    sb_deinit(&line);
    sb_deinit(&back);
}

static void check_pairs(const char *name) {
    StrBuf inp = {0}, out = {0};
    Tokenizer *t = load_vocab(name);
    OK_(io_read_file(&inp, data_path(name, ".gguf.inp"), 1 << 20, TERR));
    OK_(io_read_file(&out, data_path(name, ".gguf.out"), 1 << 20, TERR));
    char *text = inp.p, *line = out.p;
    int n = 0;
    for (char *end; (end = strstr(text, separator)); n++) {
        char *line_end = strchr(line, '\n');
        TRUE_(line_end != NULL);
        *line_end = 0;
        check_text(t, (Slice){text, (size_t)(end - text)}, line, n);
        text = end + strlen(separator);
        line = line_end + 1;
    }
    TRUE_(n >= 40);
    EQ_STR(line, "");
    tok_free(t);
    sb_deinit(&inp);
    sb_deinit(&out);
}

TEST(vocab_gpt2_pairs) { check_pairs("ggml-vocab-gpt-2"); }
TEST(vocab_llama_bpe_pairs) { check_pairs("ggml-vocab-llama-bpe"); }
TEST(vocab_qwen2_pairs) { check_pairs("ggml-vocab-qwen2"); }

TEST(vocab_llama_spm_pairs) { check_pairs("ggml-vocab-llama-spm"); }

TEST(vocab_gpt2_whole_words) {
    Tokenizer *t = load_vocab("ggml-vocab-gpt-2");
    EQ(tok_n_vocab(t), 50257);
    EQ(tok_eot(t), 50256);
    TRUE_(tok_is_end(t, 50256));
    EQ(tok_bos(t), -1);
    EQ(tok_type(t, 50256), TOK_CONTROL);
    EQ(tok_piece(t, 50256).n, 0);
    EQ(tok_find(t, slice_of("<|endoftext|>")), 50256);
    tok_free(t);
}
