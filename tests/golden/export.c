/* SPDX-License-Identifier: Apache-2.0
 * Folders of tests/golden/hf, converted, exported and converted again: the same bytes, whatever lies between. Never
 * skips. */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/io.h"
#include "format/safetensors.h"
#include "quant/convert.h"
#include "quant/export.h"
#include "quant/quant.h"

static const char *const names[] = {"gpt2", "llama", "mistral", "qwen2", "qwen3"};

static void convert(const char *dir, const char *out, const char *type) {
    QuantConverted st;
    QuantConvertOpts o = {.type = type};
    OK_(quant_convert(&st, dir, out, &o, TERR));
}

static QuantExported export_to(const char *in, const char *dir, QuantExportOpts o) {
    QuantExported st = {0};
    o.replace = true;
    OK_(quant_export(&st, in, dir, &o, TERR));
    return st;
}

static void same_file(const char *a, const char *b) {
    IoMap x, y;
    OK_(io_map(&x, a, TERR));
    OK_(io_map(&y, b, TERR));
    EQ(x.n, y.n);
    EQ_MEM(x.p, y.p, x.n);
    io_unmap(&x);
    io_unmap(&y);
}

typedef struct Paths {
    char from[300], one[300], dir[300], two[300];
} Paths;

/* The folder between has the name of the first one, as the model has its name from it. */
static Paths paths_of(const char *name) {
    Paths p;
    char sub[300];
    snprintf(sub, sizeof sub, "%s/out", test_tmpdir());
    mkdir(sub, 0777);
    snprintf(p.from, sizeof p.from, "tests/golden/hf/%s", name);
    snprintf(p.one, sizeof p.one, "%s/%s-one.gguf", test_tmpdir(), name);
    snprintf(p.dir, sizeof p.dir, "%s/out/%s", test_tmpdir(), name);
    snprintf(p.two, sizeof p.two, "%s/%s-two.gguf", test_tmpdir(), name);
    return p;
}

TEST(file_folder_file_is_the_same_file) {
    static const char *const types[] = {"auto", "f32", "f16", "bf16"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        for (size_t t = 0; t < COUNT_OF(types); t++) {
            Paths p = paths_of(names[i]);
            convert(p.from, p.one, types[t]);
            export_to(p.one, p.dir, (QuantExportOpts){.type = QUANT_AS_STORED});
            convert(p.dir, p.two, "auto");
            same_file(p.one, p.two);
        }
}

TEST(many_small_files_make_the_same_file) {
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        Paths p = paths_of(names[i]);
        convert(p.from, p.one, "auto");
        QuantExported st =
            export_to(p.one, p.dir,
                      (QuantExportOpts){.type = QUANT_AS_STORED, .shard_bytes = 3000});
        TRUE_(st.n_files > 5);
        convert(p.dir, p.two, "auto");
        same_file(p.one, p.two);
    }
}

static St *open_weights(const char *dir) {
    St *s = NULL;
    OK_(st_open_dir(&s, dir, TERR));
    return s;
}

/* What came out of a folder is what went in: names, types, shapes, bytes. gpt2's has other names and masks. */
TEST(folder_file_folder_has_the_same_weights) {
    static const char *const dirs[] = {"llama", "mistral/fp16", "qwen2", "qwen3"};
    for (size_t i = 0; i < COUNT_OF(dirs); i++) {
        char name[32], from[300];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(dirs[i], "/"), dirs[i]);
        Paths p = paths_of(name);
        convert(p.from, p.one, "auto");
        export_to(p.one, p.dir, (QuantExportOpts){.type = QUANT_AS_STORED});
        snprintf(from, sizeof from, "tests/golden/hf/%s", dirs[i]);
        St *a = open_weights(from), *b = open_weights(p.dir);
        EQ(st_n_tensors(a), st_n_tensors(b));
        for (size_t k = 0; k < st_n_tensors(a); k++) {
            const StTensor *x = st_tensor_at(a, k), *y = st_find(b, x->name);
            TRUE_(y != NULL);
            EQ(x->type, y->type);
            EQ(x->n_dims, y->n_dims);
            for (int d = 0; d < x->n_dims; d++) EQ(x->shape[d], y->shape[d]);
            EQ_MEM(x->data, y->data, x->n_bytes);
        }
        st_close(a);
        st_close(b);
    }
}

/* gpt2's matrices are turned: element by element against the folder they came from. */
TEST(gpt2_is_turned_back) {
    Paths p = paths_of("gpt2");
    convert(p.from, p.one, "auto");
    export_to(p.one, p.dir, (QuantExportOpts){.type = QUANT_AS_STORED});
    St *a = open_weights(p.from), *b = open_weights(p.dir);
    int found = 0;
    for (size_t k = 0; k < st_n_tensors(b); k++) {
        char bare[200];
        const StTensor *y = st_tensor_at(b, k);
        TRUE_(y->name.n > 12 && !memcmp(y->name.p, "transformer.", 12));
        snprintf(bare, sizeof bare, "%.*s", (int)(y->name.n - 12), y->name.p + 12);
        const StTensor *x = st_find(a, slice_of(bare));
        TRUE_(x != NULL);
        EQ(x->n_bytes, y->n_bytes);
        EQ(x->shape[0], y->shape[0]);
        EQ_MEM(x->data, y->data, x->n_bytes);
        found++;
    }
    EQ(found, 2 + 2 * 12 + 2);
    st_close(a);
    st_close(b);
}

/* Quantized weights are expanded to exactly what their blocks say. */
TEST(quantized_weights_are_expanded) {
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        Paths p = paths_of(names[i]);
        char q8[300], f32[300], again[300];
        QuantStats qs;
        QuantOpts qo = {.mix = quant_mix_find("q8_0"), .pure = true};
        snprintf(q8, sizeof q8, "%s/q8.gguf", test_tmpdir());
        snprintf(f32, sizeof f32, "%s/f32.gguf", test_tmpdir());
        snprintf(again, sizeof again, "%s/again.gguf", test_tmpdir());
        convert(p.from, p.one, "f32");
        OK_(quant_file(&qs, p.one, q8, &qo, TERR));
        QuantExported st = export_to(q8, p.dir, (QuantExportOpts){.type = DT_F32});
        EQ(st.type, DT_F32);
        if (strcmp(names[i], "qwen3") != 0) TRUE_(st.n_expanded > 5); /* its rows are too short */
        convert(p.dir, f32, "auto");
        OK_(quant_file(&qs, f32, again, &qo,
                       TERR)); /* blocks of blocks' values are the same blocks */
        Gguf *a = NULL, *b = NULL;
        OK_(gguf_open(&a, q8, TERR));
        OK_(gguf_open(&b, again, TERR));
        for (size_t k = 0; k < gguf_n_tensors(a); k++) {
            const GgufTensor *x = gguf_tensor_at(a, k), *y = gguf_tensor_at(b, k);
            TRUE_(slice_eq(x->name, y->name));
            EQ(x->n_bytes, y->n_bytes);
            EQ_MEM(x->data, y->data, x->n_bytes);
        }
        gguf_close(a);
        gguf_close(b);
        st = export_to(q8, p.dir, (QuantExportOpts){.type = QUANT_AS_STORED});
        EQ(st.type, DT_F16);
    }
}

/* ---- refusals, places ---- */

static Status try_export(const char *in, const char *dir, QuantExportOpts o) {
    QuantExported st;
    return quant_export(&st, in, dir, &o, TERR);
}

TEST(a_folder_is_replaced_only_on_request_and_only_an_own_one) {
    Paths p = paths_of("qwen2");
    char foreign[400], tmp[400];
    convert(p.from, p.one, "auto");
    export_to(p.one, p.dir, (QuantExportOpts){.type = QUANT_AS_STORED, .shard_bytes = 3000});
    QuantExportOpts o = {.type = QUANT_AS_STORED};
    FAILS(ERR_IO, try_export(p.one, p.dir, o));
    TRUE_(strstr(test_err.msg, "is there already") != NULL);
    o.replace = true;
    OK_(try_export(p.one, p.dir, o)); /* the many files of before are gone */
    snprintf(foreign, sizeof foreign, "%s/model-00001-of-00002.safetensors", p.dir);
    FALSE_(io_exists(foreign));
    snprintf(foreign, sizeof foreign, "%s/notes.txt", p.dir);
    fclose(fopen(foreign, "w"));
    FAILS(ERR_IO, try_export(p.one, p.dir, o));
    TRUE_(strstr(test_err.msg, "\"notes.txt\" in it") != NULL);
    TRUE_(io_exists(foreign));
    snprintf(tmp, sizeof tmp, "%s.tmp", p.dir);
    FALSE_(io_exists(tmp));
    OK_(io_remove(foreign, TERR));
    OK_(try_export(p.one, p.dir, o));
}

TEST(classes) {
    Paths p = paths_of("llama");
    convert("tests/golden/hf/llama", p.one, "auto");
    QuantExported st =
        export_to(p.one, p.dir,
                  (QuantExportOpts){.type = QUANT_AS_STORED, .class_name = "MistralForCausalLM"});
    EQ_STR(st.class_name, "MistralForCausalLM");
    FAILS(ERR_ARG, try_export(p.one, "none", (QuantExportOpts){.class_name = "GPT2LMHeadModel"}));
    TRUE_(strstr(test_err.msg, "LlamaForCausalLM, MistralForCausalLM") != NULL);
    convert("tests/golden/hf/mistral", p.one, "auto");
    st = export_to(p.one, p.dir, (QuantExportOpts){.type = QUANT_AS_STORED});
    EQ_STR(st.class_name, "MistralForCausalLM");
}
