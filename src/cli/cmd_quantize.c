/* SPDX-License-Identifier: Apache-2.0
 * ingot quantize: a smaller copy of a model (quant/quantize.c). Here: options and the report. */
#include <math.h>
#include <stdio.h>
#include <strings.h>

#include "base/clock.h"
#include "base/io.h"
#include "cli/cli.h"
#include "quant/quant.h"
#include "text/json.h"

typedef struct QuantizeCmd {
    const char *imatrix, *output_type, *embedding_type;
    OptList tensor_type;
    int64_t threads;
    bool pure, leave_output, allow_requantize, best, dry_run, json, quiet;
} QuantizeCmd;

#define AT(field) offsetof(QuantizeCmd, field)
static const OptSpec opts[] = {
    {.key = "imatrix",
     .type = OPT_STR,
     .offset = AT(imatrix),
     .metavar = "FILE",
     .help = "importance of each matrix's columns, from ingot imatrix: errors go where they matter "
             "least"},
    {.key = "best",
     .type = OPT_BOOL,
     .offset = AT(best),
     .help = "search harder for scales: less error in the same format, a few times slower; bytes "
             "differ "
             "from llama.cpp's"},
    {.key = "pure",
     .type = OPT_BOOL,
     .offset = AT(pure),
     .help = "give every matrix the asked type, the head too (smaller and less exact)"},
    {.key = "tensor_type",
     .type = OPT_LIST,
     .offset = AT(tensor_type),
     .metavar = "PATTERN=TYPE",
     .help = "tensors whose name the regular expression is found in get this type; the first that "
             "matches counts"},
    {.key = "output_tensor_type",
     .type = OPT_STR,
     .offset = AT(output_type),
     .metavar = "TYPE",
     .help = "type of the head"},
    {.key = "token_embedding_type",
     .type = OPT_STR,
     .offset = AT(embedding_type),
     .metavar = "TYPE",
     .help = "type of the token embedding"},
    {.key = "leave_output_tensor",
     .type = OPT_BOOL,
     .offset = AT(leave_output),
     .help = "leave output.weight as it is"},
    {.key = "allow_requantize",
     .type = OPT_BOOL,
     .offset = AT(allow_requantize),
     .help = "accept a quantized IN: its errors add to the new ones"},
    {.key = "dry_run",
     .type = OPT_BOOL,
     .offset = AT(dry_run),
     .help =
         "print what each tensor would become, and the sizes; write nothing (OUT may be left out)"},
    CLI_SAME_THREADS_OPT(AT(threads)),
    {.key = "quiet",
     .letter = 'q',
     .type = OPT_BOOL,
     .offset = AT(quiet),
     .help = "no progress, no warnings"},
    {.key = "json",
     .type = OPT_BOOL,
     .offset = AT(json),
     .help = "print the sizes as one JSON object"},
};
#undef AT

static const CliSpec spec = {
    .usage = "ingot quantize IN.gguf OUT.gguf TYPE [options]",
    .about =
        "Writes a smaller copy of a model. TYPE is one of\n"
        "  q4_0     4.5 bits a weight       q5_1            6.0\n"
        "  q4_K_S   4.6                     q6_K            6.6, little loss\n"
        "  q4_K_M   4.9, the usual choice   q8_0            8.5, hardly any loss\n"
        "  q4_1     5.0                     f16, bf16       16\n"
        "  q5_0, q5_K_S   5.5               int4, int8      other names of q4_0, q8_0\n"
        "  q5_K_M   5.7                     q4_K, q5_K      other names of q4_K_M, q5_K_M\n"
        "Most matrices get the type, the sensitive ones a better one (--pure: none); norms, biases "
        "and\n"
        "position embeddings stay as they are. Rows that are no multiple of 256 get the nearest "
        "type with\n"
        "small blocks. IN holds f32, f16 or bf16. OUT appears whole or not at all, and its tensors "
        "are\n"
        "those llama.cpp's quantizer writes, byte for byte (unless --best).\n"
        "\n"
        "example:\n"
        "  ingot quantize model.gguf model-q4_K_M.gguf q4_K_M\n"
        "next, what it cost in quality:\n"
        "  ingot perplexity model.gguf model-q4_K_M.gguf -f text.txt",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 2,
    .max_pos = 3,
};

static double ratio(const QuantStats *st) {
    return st->bytes_out ? (double)st->bytes_in / (double)st->bytes_out : 0;
}

static double bits(uint64_t bytes, const QuantStats *st) {
    return st->n_params ? 8.0 * (double)bytes / (double)st->n_params : 0;
}

/* ---- the report ---- */

static double rmse(double error, uint64_t n) { return n ? sqrt(error / (double)n) : 0; }

static void json_errors(JsonW *w, const QuantStats *st) {
    jw_obj(w, "rmse");
    for (uint32_t t = 0; t < DT_COUNT; t++) {
        if (!st->n_elem[t]) continue;
        jw_obj(w, dtype_name((DType)t));
        jw_num(w, "reference", rmse(st->error_ref[t], st->n_elem[t]));
        jw_num(w, "best", rmse(st->error_best[t], st->n_elem[t]));
        jw_end_obj(w);
    }
    jw_end_obj(w);
}

static int print_json(const QuantizeCmd *c, const QuantStats *st, const char *const *arg,
                      double seconds) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "input", arg[0]);
    if (!c->dry_run) jw_cstr(&w, "output", arg[1]);
    jw_cstr(&w, "type", arg[2]);
    jw_int(&w, "parameters", (int64_t)st->n_params);
    jw_int(&w, "bytes_in", (int64_t)st->bytes_in);
    jw_int(&w, "bytes_out", (int64_t)st->bytes_out);
    jw_num(&w, "ratio", ratio(st));
    jw_num(&w, "bits_per_weight", bits(st->bytes_out, st));
    jw_int(&w, "file_bytes_in", (int64_t)st->file_in);
    if (!c->dry_run) jw_int(&w, "file_bytes_out", (int64_t)st->file_out);
    jw_obj(&w, "tensors");
    for (uint32_t t = 0; t < DT_COUNT; t++)
        if (st->n_of_type[t]) jw_int(&w, dtype_name((DType)t), (int64_t)st->n_of_type[t]);
    jw_end_obj(&w);
    jw_int(&w, "fallbacks", (int64_t)st->n_fallback);
    jw_int(&w, "with_importance", (int64_t)st->n_weighted);
    if (c->best) json_errors(&w, st);
    jw_num(&w, "seconds", seconds);
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static void print_errors(const QuantStats *st) {
    double ref = 0, best = 0;
    for (uint32_t t = 0; t < DT_COUNT; t++) {
        if (!st->n_elem[t]) continue;
        double a = rmse(st->error_ref[t], st->n_elem[t]),
               b = rmse(st->error_best[t], st->n_elem[t]);
        printf(
            "error:  %-5s rms %.4g with the usual rule, %.4g with --best (%.2f%% of the squares)\n",
            dtype_name((DType)t), a, b, a > 0 ? 100 * b * b / (a * a) : 100.0);
        ref += st->error_ref[t];
        best += st->error_best[t];
    }
    if (ref > 0) printf("error:  all   %.2f%% of the squares are left\n", 100 * best / ref);
}

static void print_types(const QuantStats *st) {
    char d[32];
    const char *sep = "";
    printf("tensors: ");
    for (uint32_t t = 0; t < DT_COUNT; t++) {
        if (!st->n_of_type[t]) continue;
        printf("%s%s %s", sep, cli_commas(d, st->n_of_type[t]), dtype_name((DType)t));
        sep = ", ";
    }
    if (st->n_fallback)
        printf("; %s whose rows do not fit the type", cli_commas(d, st->n_fallback));
    if (st->n_weighted) printf("; %s with importance", cli_commas(d, st->n_weighted));
    putchar('\n');
}

static int print_text(const QuantizeCmd *c, const QuantStats *st, const char *const *arg,
                      double seconds) {
    char a[32], b[32], span[24];
    printf("parameters: %s\n", cli_commas(a, st->n_params));
    printf("before: %s of weights, %.2f bits each; %s is %s\n", cli_bytes(a, (double)st->bytes_in),
           bits(st->bytes_in, st), arg[0], cli_bytes(b, (double)st->file_in));
    printf("after:  %s of weights, %.2f bits each", cli_bytes(a, (double)st->bytes_out),
           bits(st->bytes_out, st));
    if (!c->dry_run) printf("; %s is %s", arg[1], cli_bytes(b, (double)st->file_out));
    printf("\nratio:  %.2fx smaller", ratio(st));
    if (!c->dry_run) printf(", in %s", clock_format_span(span, seconds));
    printf("; ");
    print_types(st);
    if (c->best) print_errors(st);
    return cli_flush_stdout();
}

/* ---- the command ---- */

typedef struct Run {
    const QuantizeCmd *c;
    CliBar bar;
    const char *arg[3]; /* input, output (NULL: none), type */
    const QuantMix *mix;
    QuantOverride *overrides; /* owned */
    char **patterns;          /* owned, [n] owned */
    DType output_type, embedding_type;
    Imat *imat; /* owned */
} Run;

/* A line of --dry-run: name, shape, types, bytes. */
static void print_item(void *ctx, const QuantItem *it) {
    const GgufTensor *t = it->t;
    char shape[96], a[32], b[32];
    int n = 0;
    (void)ctx;
    for (int i = 0; i < t->n_dims; i++)
        n += snprintf(shape + n, sizeof shape - (size_t)n, "%s%llu", i ? " x " : "",
                      (unsigned long long)t->ne[i]);
    printf("%-34.*s %-20s %-4s -> %-4s %10s -> %s%s%s\n", (int)t->name.n, t->name.p, shape,
           dtype_name(t->type), dtype_name(it->type), cli_bytes(a, (double)t->n_bytes),
           cli_bytes(b, (double)it->n_bytes), it->is_fallback ? "  (rows do not fit)" : "",
           it->w ? "  with importance" : "");
}

static void print_warning(void *ctx, const char *line) {
    Run *r = ctx;
    if (r->c->quiet || r->c->json) return;
    cli_bar_finish(&r->bar);
    fprintf(stderr, "ingot: %s\n", line);
}

static int quantize(Run *r) {
    const QuantizeCmd *c = r->c;
    Err e = {0};
    QuantStats st = {0};
    double t0 = clock_now_s();
    QuantOpts o = {.mix = r->mix,
                   .pure = c->pure,
                   .leave_output = c->leave_output,
                   .allow_requantize = c->allow_requantize,
                   .best = c->best,
                   .dry_run = c->dry_run,
                   .output_type = r->output_type,
                   .embedding_type = r->embedding_type,
                   .overrides = r->overrides,
                   .n_overrides = c->tensor_type.n,
                   .imat = r->imat,
                   .n_threads = cli_threads(c->threads),
                   .cpu = cli_env.cpu,
                   .plan = c->dry_run && !c->json ? print_item : NULL,
                   .warn = print_warning,
                   .warn_ctx = r,
                   .progress = cli_bar_count,
                   .progress_ctx = &r->bar,
                   .stop = cli_stop_flag()};
    cli_bar_init(&r->bar, "quantize", "MB", 1e-6, c->quiet || c->json);
    Status s = quant_file(&st, r->arg[0], r->arg[1], &o, &e);
    cli_bar_finish(&r->bar);
    double seconds = clock_now_s() - t0;
    if (s != OK) return cli_fail(&e);
    return c->json ? print_json(c, &st, r->arg, seconds) : print_text(c, &st, r->arg, seconds);
}

/* A type of single tensors, in any case; -1 to go on. */
static int parse_type(DType *out, const char *name, const char *option) {
    if (!name || (dtype_from_name(out, name) && *out != DT_F32)) return -1;
    for (uint32_t t = 1; t < DT_COUNT; t++) {
        *out = (DType)t;
        if (dtype_info(t) && strcasecmp(dtype_name((DType)t), name) == 0) return -1;
    }
    return cli_usage(&spec,
                     "%s: unknown type \"%s\": f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_K, "
                     "q5_K or q6_K",
                     option, name);
}

/* PATTERN=TYPE; patterns are taken in lower case, as tensors' names are written. */
static int parse_override(Run *r, int i) {
    const char *text = r->c->tensor_type.v[i], *eq = strrchr(text, '=');
    if (!eq || eq == text) return cli_usage(&spec, "--tensor-type %s: want PATTERN=TYPE", text);
    char *p = mem_dup(text, (size_t)(eq - text));
    r->patterns[i] = p;
    if (!p) return cli_usage(&spec, "out of memory");
    for (; *p; p++) *p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
    r->overrides[i].pattern = r->patterns[i];
    return parse_type(&r->overrides[i].type, eq + 1, "--tensor-type");
}

static int parse_overrides(Run *r) {
    size_t n = (size_t)r->c->tensor_type.n;
    r->overrides = mem_new_n(QuantOverride, n + 1);
    r->patterns = mem_new_n(char *, n + 1);
    int rc = r->overrides && r->patterns ? -1 : cli_usage(&spec, "out of memory");
    for (size_t i = 0; rc < 0 && i < n; i++) rc = parse_override(r, (int)i);
    return rc;
}

static int parse_words(Run *r, const OptList *pos) {
    if (pos->n < 3 && !r->c->dry_run) return cli_usage(&spec, "argument is missing: IN OUT TYPE");
    r->arg[0] = pos->v[0];
    r->arg[1] = pos->n > 2 ? pos->v[1] : NULL;
    r->arg[2] = pos->v[pos->n - 1];
    r->mix = quant_mix_find(r->arg[2]);
    if (!r->mix)
        return cli_usage(&spec, "unknown type \"%s\": choose %s", r->arg[2], quant_mix_names());
    const char *in[] = {r->arg[0], r->c->imatrix};
    for (size_t i = 0; i < COUNT_OF(in) && !r->c->dry_run; i++)
        if (in[i] && io_same_file(in[i], r->arg[1]))
            return cli_usage(&spec, "%s is input and output: choose another name for the copy",
                             r->arg[1]);
    return -1;
}

static int load_importance(Run *r) {
    Err e = {0};
    if (!r->c->imatrix) return -1;
    return imat_load(&r->imat, r->c->imatrix, &e) == OK ? -1 : cli_fail(&e);
}

static void run_deinit(Run *r) {
    for (int i = 0; r->patterns && i < r->c->tensor_type.n; i++) mem_free(r->patterns[i]);
    mem_free(r->patterns);
    mem_free(r->overrides);
    imat_free(r->imat);
}

int cmd_quantize(int argc, char **argv) {
    QuantizeCmd c = {0};
    Run r = {.c = &c};
    CliArgs a;
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0) rc = parse_words(&r, &a.pos);
    if (rc < 0) rc = parse_overrides(&r);
    if (rc < 0) rc = parse_type(&r.output_type, c.output_type, "--output-tensor-type");
    if (rc < 0) rc = parse_type(&r.embedding_type, c.embedding_type, "--token-embedding-type");
    if (rc < 0) rc = load_importance(&r);
    if (rc < 0) rc = quantize(&r);
    run_deinit(&r);
    cli_args_deinit(&a);
    return rc;
}
