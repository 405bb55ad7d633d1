/* SPDX-License-Identifier: Apache-2.0
 * ingot embed: texts to vectors, the pooled hidden states of a model. */
#include <stdio.h>

#include "base/mem.h"
#include "cli/ask.h"
#include "cli/cli.h"
#include "text/json.h"

enum { MAX_TEXTS = 100000 };

typedef struct EmbedCmd {
    const char *model_key;
    const char *pool;
    int64_t threads;
    bool raw, special;
} EmbedCmd;

#define AT(field) offsetof(EmbedCmd, field)
static const OptSpec opts[] = {
    {.key = "pool",
     .type = OPT_CHOICE,
     .offset = AT(pool),
     .def = "last",
     .choices = "last|mean|first",
     .help = "which hidden states make the vector: the last token's, the mean of all, the first's"},
    {.key = "raw",
     .type = OPT_BOOL,
     .offset = AT(raw),
     .help = "vectors as they come, not of length 1"},
    CLI_SPECIAL_OPT(AT(special)),
    CLI_THREADS_OPT(AT(threads)),
    CLI_MODEL_KEY_OPT(AT(model_key)),
};
#undef AT

static const CliSpec spec = {
    .usage = "ingot embed MODEL.gguf TEXT... [options]",
    .about =
        "Turns texts into vectors: a model's hidden states after its last layer, one vector a "
        "text. "
        "Texts that\n"
        "mean the like have vectors of a large inner product, as far as the model was trained for "
        "it; which\n"
        "pooling it was trained with stands in its description (most decoders: last).\n"
        "Prints a JSON object a text, in order: {\"text\", \"tokens\", \"embedding\": [...]}.\n"
        "\n"
        "example:\n"
        "  ingot embed model.gguf 'a red apple' 'an apple that is red' --pool mean",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 2,
    .max_pos = MAX_TEXTS + 1,
};

/* One text. */
typedef struct Embedding {
    CliAsk *ask; /* first: what cli_ask_done looks for */
    TokBuf ids;  /* owned */
    float *x;    /* [C] in the session's block */
} Embedding;

static void on_pooled(void *ctx, const float *x, int n) {
    memcpy(((Embedding *)ctx)->x, x, (size_t)n * sizeof *x);
}

static AskPool pool_of(const char *word) {
    if (!strcmp(word, "mean")) return ASK_POOL_MEAN;
    return strcmp(word, "first") ? ASK_POOL_LAST : ASK_POOL_FIRST;
}

static Status encode(CliAsk *a, Embedding *em, const OptList *texts, bool special, int *longest,
                     Err *e) {
    *longest = 0;
    for (int i = 0; i < texts->n; i++) {
        em[i].ask = a;
        TRY(cli_model_encode(&em[i].ids, &a->m, slice_of(texts->v[i]), special, e));
        if (em[i].ids.n > INT32_MAX) return err_set(e, ERR_ARG, "text %d is too long", i + 1);
        *longest = MAX(*longest, (int)em[i].ids.n);
    }
    return OK;
}

static Status compute(CliAsk *a, Embedding *em, int n, const EmbedCmd *c, Err *e) {
    EngineAsk want = {.pool = pool_of(c->pool), .normalize = !c->raw, .on_pooled = on_pooled};
    for (int i = 0; i < n; i++) {
        EngineReq r = {.prompt = em[i].ids.v,
                       .n_prompt = (int)em[i].ids.n,
                       .ask = &want,
                       .on_done = cli_ask_done,
                       .ctx = &em[i]};
        TRY(engine_submit(a->en, &r, NULL, e));
    }
    return cli_ask_wait(a, n, e);
}

static int print(const Embedding *em, const OptList *texts, int C) {
    int rc = CLI_OK;
    for (int i = 0; i < texts->n && rc == CLI_OK; i++) {
        StrBuf b = {0};
        JsonW w;
        jw_init(&w, &b);
        jw_obj(&w, NULL);
        jw_cstr(&w, "text", texts->v[i]);
        jw_int(&w, "tokens", (int64_t)em[i].ids.n);
        jw_arr(&w, "embedding");
        for (int k = 0; k < C; k++) jw_f32(&w, NULL, em[i].x[k]);
        jw_end_arr(&w);
        jw_end_obj(&w);
        rc = cli_print_json(&b);
        sb_deinit(&b);
    }
    return rc;
}

static int embed(const EmbedCmd *c, const char *path, const OptList *texts) {
    Err e = {0};
    CliAsk a;
    int longest = 0, C = 0, n = texts->n;
    float *x = NULL;
    Embedding *em = mem_new_n(Embedding, (size_t)n);
    Status st = cli_ask_open(&a, path, c->threads, &e);
    if (st == OK && !em) st = err_set(&e, ERR_NOMEM, "%d texts", n);
    if (st == OK) st = encode(&a, em, texts, c->special, &longest, &e);
    if (st == OK) st = cli_ask_start(&a, n, longest, 0, &e);
    if (st == OK) {
        C = a.m.m->cfg.C;
        x = mem_new_n(float, (size_t)n *(size_t)C);
        if (!x) st = err_set(&e, ERR_NOMEM, "%d vectors of %d", n, C);
    }
    for (int i = 0; st == OK && i < n; i++) em[i].x = x + (size_t)i * (size_t)C;
    if (st == OK) st = compute(&a, em, n, c, &e);
    int rc = st == OK ? print(em, texts, C) : cli_fail(&e);
    cli_ask_close(&a); /* before what its callbacks write to */
    for (int i = 0; em && i < n; i++) tokbuf_deinit(&em[i].ids);
    mem_free(em);
    mem_free(x);
    return rc;
}

int cmd_embed(int argc, char **argv) {
    EmbedCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0) rc = embed(&c, a.pos.v[0], &(OptList){a.pos.v + 1, a.pos.n - 1});
    cli_args_deinit(&a);
    return rc;
}
