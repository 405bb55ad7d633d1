/* SPDX-License-Identifier: Apache-2.0
 * ingot bench: which measurement, with what sizes. The measurements are in bench_*.c. */
#include <stdio.h>

#include "cli/bench.h"
#include "engine/engine.h"
#include "model/model.h"

#define AT(field) offsetof(BenchCmd, field)
static const OptSpec opts[] = {
    {"train", 0, OPT_BOOL, AT(train), NULL, 0, 0, NULL, NULL,
     "measure training steps instead of a model file"},
    {"products", 0, OPT_BOOL, AT(products), NULL, 0, 0, NULL, NULL,
     "measure the dense products of a training step"},
    {"engine", 0, OPT_BOOL, AT(engine), NULL, 0, 0, NULL, NULL,
     "measure what requests to one engine notice of each other"},
    {"kernels", 0, OPT_BOOL, AT(kernels), NULL, 0, 0, NULL, NULL, "measure each kernel alone"},
    {"attention", 0, OPT_BOOL, AT(attention), NULL, 0, 0, NULL, NULL,
     "measure attention over the KV cache alone"},
    {"pp", 0, OPT_INT, AT(pp), "256", 1, MODEL_MAX_CTX, NULL, "N", "tokens of a prompt"},
    {"tg", 0, OPT_INT, AT(tg), "32", 1, MODEL_MAX_CTX, NULL, "N", "tokens to decode after it"},
    {"streams", 0, OPT_INT, AT(streams), "1", 1, 1024, NULL, "N", "sequences side by side"},
    {"reps", 0, OPT_INT, AT(reps), "3", 1, BENCH_MAX_REPS, NULL, "N",
     "rounds that count; one or two before them warm up"},
    {"kv_cache_type", 0, OPT_CHOICE, AT(kv), "f16", 0, 0, CLI_KV_TYPES, NULL,
     "type of the KV cache"},
    {"dtype", 0, OPT_CHOICE, AT(dtype), NULL, 0, 0, "f32|bf16", NULL,
     "precision of the dense products (default: f32 for a model file, else both)"},
    {"arch", 0, OPT_CHOICE, AT(arch), NULL, 0, 0, "gpt2|llama|mistral3|qwen2|qwen3|starcoder2",
     NULL, "--train: architecture (default: gpt2)"},
    {"n_layer", 0, OPT_INT, AT(n_layer), "6", 1, MODEL_MAX_LAYER, NULL, "N", "--train: layers"},
    {"n_head", 0, OPT_INT, AT(n_head), "6", 1, 1024, NULL, "N", "--train: heads"},
    {"n_embd", 0, OPT_INT, AT(n_embd), "384", 8, 65536, NULL, "N", "--train: width"},
    {"vocab", 0, OPT_INT, AT(vocab), "4096", 2, 1 << 20, NULL, "N", "--train: vocabulary"},
    {"ctx", 'c', OPT_INT, AT(ctx), "256", 8, 65536, NULL, "N", "--train: tokens of a row"},
    {"batch", 0, OPT_INT, AT(batch), "16", 1, 4096, NULL, "N", "--train: rows of a step"},
    {"cpu", 0, OPT_CHOICE, AT(cpu), NULL, 0, 0, "ref|avx2|avx512|amx", NULL,
     "highest kernel level to use (default: INGOT_CPU, else the best)"},
    {"threads", 't', OPT_INT, AT(threads), "0", 0, 4096, NULL, "N", "0: all processors"},
    {"batch_invariant", 0, OPT_BOOL, AT(batch_invariant), NULL, 0, 0, NULL, NULL,
     "one class of product for few and many rows"},
    {"itl_target_ms", 0, OPT_INT, AT(itl_target), "100", 1, 3600000, NULL, "N",
     "--engine: longest step while streams are talking"},
    {"speculate", 0, OPT_STR, AT(speculate), NULL, 0, 0, NULL, "ngram|FILE",
     "--engine: what guessing ahead brings instead, by the text itself or by a small model"},
    {"speculate_tokens", 0, OPT_INT, AT(speculate_tokens), "8", 1, ENGINE_MAX_DRAFT, NULL, "N",
     "--speculate: tokens guessed at a time, at most"},
    {"price", 0, OPT_BOOL, AT(price), "true", 0, 0, NULL, NULL,
     "measure what --batch-invariant costs, too"},
    {"no_pack", 0, OPT_BOOL, AT(no_pack), NULL, 0, 0, NULL, NULL,
     "use quantized weights where they lie in the file"},
    {"json", 0, OPT_BOOL, AT(json), NULL, 0, 0, NULL, NULL,
     "print each measurement as a JSON object on a line"},
};
#undef AT

static const CliSpec spec = {
    .usage = "ingot bench MODEL.gguf [options]",
    .about =
        "Measures speed on this machine, on made-up tokens. Leave the machine alone meanwhile.\n"
        "\n"
        "  ingot bench MODEL.gguf    prompt and decoding speed, and how near decoding comes to\n"
        "                            the bandwidth of the memory\n"
        "  ingot bench MODEL.gguf --engine --streams 8 --pp 4096\n"
        "                            gaps in streams while a long prompt is computed, and how\n"
        "                            soon streams with a common prefix begin\n"
        "  ingot bench MODEL.gguf --engine --speculate ngram\n"
        "                            decoding with guesses ahead and without, in pairs\n"
        "  ingot bench --train       tokens a second of training steps of a small model\n"
        "  ingot bench --products    the dense products of such a step, each alone\n"
        "  ingot bench --kernels     every kernel, against what the processor can do\n"
        "  ingot bench --attention   attention over long contexts, against memory and processor\n"
        "\n"
        "example:\n"
        "  ingot bench model-q8_0.gguf --pp 512 --tg 64 --streams 4",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 0,
    .max_pos = 1,
};

static int bench(const BenchCmd *c, const OptList *pos) {
    int n = c->train + c->products + c->kernels + c->attention + pos->n;
    if (n != 1)
        return cli_usage(&spec, n ? "one measurement at a time"
                                  : "give a model, --train, --products, --kernels or "
                                    "--attention");
    if (c->engine && pos->n == 0) return cli_usage(&spec, "--engine: give a model");
    if (c->speculate && !c->engine) return cli_usage(&spec, "--speculate is for --engine");
    if (c->train) return cli_bench_train(c);
    if (c->products) return cli_bench_products(c);
    if (c->attention) return cli_bench_attention(c);
    if (c->kernels) return cli_bench_kernels(c);
    if (c->speculate) return cli_bench_speculate(c, pos->v[0]);
    return c->engine ? cli_bench_engine(c, pos->v[0]) : cli_bench_model(c, pos->v[0]);
}

int cmd_bench(int argc, char **argv) {
    BenchCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0 && !c.cpu) c.cpu = cli_env.cpu;
    if (rc < 0) rc = bench(&c, &a.pos);
    cli_args_deinit(&a);
    return rc;
}
