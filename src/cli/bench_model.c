/* SPDX-License-Identifier: Apache-2.0
 * ingot bench M.gguf: tokens a second of prefill and decode, on made-up token ids, straight through
 * model_forward: no tokenizer, no scheduler, no choice beyond the likeliest token.
 *
 * A step of decoding reads every weight and the KV of every sequence once, so the machine's read bandwidth bounds
 * it. The share that was reached is printed too: each round beside a reading of plain memory, since other work on
 * the machine takes from both. What --batch-invariant costs is measured the same way on a device of its own. */
#include <stdio.h>

#include "base/arena.h"
#include "base/clock.h"
#include "cli/bench.h"
#include "engine/sample.h"
#include "model/model.h"

enum { PREFILL_ROWS = 512 }; /* prompt tokens computed together */

typedef struct Rig {
    const BenchCmd *c;
    const char *path;
    Device *dev;
    Model *m;
    KvStore *kv;
    Arena mem;
    Batch b;
    int32_t *tok, *pos, *seq, *out, *prompts, *next; /* in mem */
    Sampler *sampler;                                /* in mem */
    int n_seq, pp, tg, reps;
    bool invariant;
    size_t read_bytes; /* weights and KV that a step of decoding reads, about */
    double load_s;
    Spread read, prefill, decode,
        answers;  /* read: bytes/s of the machine; answers: with their prompts */
    double share; /* of it that decoding reached: median over the rounds */
} Rig;

/* ---- setting up ---- */

static size_t weight_bytes(const Model *m) {
    size_t n = 0;
    for (int i = 0; i < m->n_params; i++) {
        const Param *p = &m->params[i];
        bool looked_up = (p->role == P_TOK_EMBD && !m->cfg.tied) || p->role == P_POS_EMBD;
        if (!looked_up) n += (size_t)gguf_find_tensor(m->file, p->name)->n_bytes;
    }
    return n;
}

/* K and V of all sequences, half-way through decoding. */
static size_t kv_bytes(const Rig *r) {
    size_t block = model_kv_bytes(&r->m->cfg, kv_dtype(cli_kv_type(r->c->kv)), 1);
    return (size_t)r->n_seq * (size_t)(r->pp + r->tg / 2) * block / 32;
}

/* Different in every sequence, as bench/peers/llamacpp.mjs has them. */
static int32_t prompt_id(const Rig *r, int k, int i) {
    int64_t few = r->m->cfg.V > 600 ? r->m->cfg.V - 300 : 1;
    return r->m->cfg.V > 600 ? (int32_t)(10 + ((int64_t)i * 7919 + (int64_t)k * 104729) % few)
                             : (int32_t)(((int64_t)i * 7 + k) % r->m->cfg.V);
}

static Status make_tables(Rig *r, Err *e) {
    int n_blocks = (r->pp + r->tg + 31) / 32, rows = MAX(PREFILL_ROWS, r->n_seq);
    int32_t *ids = arena_new_n(&r->mem, int32_t, (size_t)(n_blocks * r->n_seq));
    const int32_t **table = arena_new_n(&r->mem, const int32_t *, (size_t)r->n_seq);
    r->tok = arena_new_n(&r->mem, int32_t, (size_t)rows);
    r->pos = arena_new_n(&r->mem, int32_t, (size_t)rows);
    r->seq = arena_new_n(&r->mem, int32_t, (size_t)rows);
    r->out = arena_new_n(&r->mem, int32_t, (size_t)r->n_seq);
    r->next = arena_new_n(&r->mem, int32_t, (size_t)r->n_seq);
    void *mem = arena_new_n(&r->mem, char, sample_bytes(r->m->cfg.V));
    r->kv = r->dev->ops->kv_new(r->dev, kv_dtype(cli_kv_type(r->c->kv)), r->m->cfg.n_layer,
                                n_blocks * r->n_seq, r->m->cfg.nkv, r->m->cfg.hd);
    if (!arena_ok(&r->mem) || !r->kv) return err_set(e, ERR_NOMEM, "bench: out of memory");
    r->sampler = sample_init(mem, r->m->cfg.V, r->dev->ops->host(r->dev).kern);
    for (int i = 0; i < n_blocks * r->n_seq; i++) ids[i] = i;
    for (int k = 0; k < r->n_seq; k++) table[k] = ids + k * n_blocks;
    r->b = (Batch){.tok = r->tok,
                   .pos = r->pos,
                   .seq = r->seq,
                   .out = r->out,
                   .n_seq = r->n_seq,
                   .only_out = true,
                   .blocks = table};
    return model_reserve(r->m, rows, r->n_seq, e);
}

static Status set_up(Rig *r, Err *e) {
    DeviceOpts o = {.cpu = r->c->cpu,
                    .n_threads = cli_threads(r->c->threads),
                    .batch_invariant = r->invariant,
                    .no_pack = r->c->no_pack,
                    .bf16 = r->c->dtype && !strcmp(r->c->dtype, "bf16")};
    double t0 = clock_now_s();
    arena_init(&r->mem, 64 << 10);
    TRY(device_cpu_new(&r->dev, &o, e));
    TRY(model_load(&r->m, r->dev, r->path, e));
    r->load_s = clock_now_s() - t0;
    if (r->pp + r->tg > r->m->cfg.ctx)
        return err_set(e, ERR_ARG, "--pp %d and --tg %d are more than the model's context of %d",
                       r->pp, r->tg, r->m->cfg.ctx);
    r->read_bytes = weight_bytes(r->m) + kv_bytes(r);
    return make_tables(r, e);
}

static void tear_down(Rig *r) {
    if (r->kv) r->dev->ops->kv_free(r->dev, r->kv);
    model_free(r->m);
    device_free(r->dev);
    arena_deinit(&r->mem);
}

/* ---- measuring ---- */

static void put_row(Rig *r, int k, int32_t id, int pos, bool wanted) {
    int i = r->b.T++;
    r->tok[i] = id;
    r->seq[i] = k;
    r->pos[i] = pos;
    if (wanted) r->out[r->b.n_out++] = i;
}

/* All prompts, one after the other, a batch at a time; logits of each one's last token. */
static Status prefill(Rig *r, Err *e) {
    const float *logits;
    r->b.T = r->b.n_out = 0;
    for (int k = 0; k < r->n_seq; k++) {
        for (int i = 0; i < r->pp; i++) {
            bool last = i + 1 == r->pp;
            put_row(r, k, prompt_id(r, k, i), i, last);
            if (r->b.T < PREFILL_ROWS && !(last && k + 1 == r->n_seq)) continue;
            TRY(model_forward(r->m, r->kv, &r->b, &logits, e));
            r->b.T = r->b.n_out = 0;
        }
    }
    return OK;
}

static Status decode(Rig *r, Err *e) {
    const SampleOpts greedy = {.top_p = 1.0};
    int V = r->m->cfg.V;
    const float *logits;
    for (int k = 0; k < r->n_seq; k++) r->next[k] = prompt_id(r, k, r->pp);
    for (int t = 0; t < r->tg; t++) {
        r->b.T = r->b.n_out = 0;
        for (int k = 0; k < r->n_seq; k++) put_row(r, k, r->next[k], r->pp + t, true);
        TRY(model_forward(r->m, r->kv, &r->b, &logits, e));
        for (int k = 0; k < r->n_seq; k++)
            TRY(sample_next(&r->next[k], logits + (size_t)k * (size_t)V, V, &greedy, 0, r->sampler,
                            e));
    }
    return OK;
}

static Status round_of(Rig *r, double *pre, double *dec, double *all, double *read, Err *e) {
    double t0 = clock_now_s();
    TRY(prefill(r, e));
    double t1 = clock_now_s();
    TRY(decode(r, e));
    double t2 = clock_now_s();
    *pre = (double)r->n_seq * r->pp / (t1 - t0);
    *dec = (double)r->n_seq * r->tg / (t2 - t1);
    *all = (double)r->n_seq * r->tg / (t2 - t0);
    return cli_bench_read(read, r->read_bytes, r->c->cpu, cli_threads(r->c->threads), e);
}

/* Weight and KV bytes a second: all sequences of a step share one reading of the weights. */
static double decode_bytes_s(const Rig *r, double tok_s) {
    return tok_s / r->n_seq * (double)r->read_bytes;
}

/* The first round warms up. */
static Status measure(Rig *r, Err *e) {
    double pre[BENCH_MAX_REPS + 1], dec[BENCH_MAX_REPS + 1], read[BENCH_MAX_REPS + 1];
    double share[BENCH_MAX_REPS + 1], all[BENCH_MAX_REPS + 1];
    for (int i = 0; i <= r->reps; i++) {
        TRY(round_of(r, &pre[i], &dec[i], &all[i], &read[i], e));
        share[i] = decode_bytes_s(r, dec[i]) / read[i];
    }
    r->prefill = cli_bench_spread(pre + 1, r->reps);
    r->decode = cli_bench_spread(dec + 1, r->reps);
    r->answers = cli_bench_spread(all + 1, r->reps);
    r->read = cli_bench_spread(read + 1, r->reps);
    r->share = cli_bench_spread(share + 1, r->reps).median;
    return OK;
}

/* ---- printing ---- */

/* inv: the same with --batch-invariant, or NULL. */
static int print_json(const Rig *r, const Rig *inv) {
    char line[96];
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "bench", "model");
    jw_cstr(&w, "model", r->path);
    jw_cstr(&w, "device", device_describe(r->dev, line));
    jw_int(&w, "streams", r->n_seq);
    jw_int(&w, "threads", cli_threads(r->c->threads));
    jw_cstr(&w, "kv", r->c->kv);
    jw_bool(&w, "batch_invariant", r->invariant);
    jw_int(&w, "pp", r->pp);
    jw_int(&w, "tg", r->tg);
    jw_int(&w, "reps", r->c->reps);
    cli_bench_put(&w, "tok_s_prefill", r->prefill);
    cli_bench_put(&w, "tok_s_decode", r->decode);
    cli_bench_put(&w, "tok_s_answers", r->answers);
    if (inv) {
        cli_bench_put(&w, "tok_s_prefill_invariant", inv->prefill);
        cli_bench_put(&w, "tok_s_decode_invariant", inv->decode);
    }
    jw_num(&w, "load_s", cli_bench_round(r->load_s));
    jw_int(&w, "step_bytes", (int64_t)r->read_bytes);
    jw_num(&w, "read_gb_s", cli_bench_round(r->read.median / 1e9));
    jw_num(&w, "decode_gb_s", cli_bench_round(decode_bytes_s(r, r->decode.median) / 1e9));
    jw_num(&w, "decode_read_share", cli_bench_round(100 * r->share));
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static void print_rate(const char *what, int n, Spread s) {
    char label[32];
    snprintf(label, sizeof label, "%s %d", what, n);
    printf("  %-14s %10.1f %10.1f %10.1f\n", label, s.min, s.median, s.max);
}

static int print_text(const Rig *r, const Rig *inv) {
    char line[96], a[32], b[32];
    printf("%s: %s, %s parameters, %s, loaded in %.2f s\n", r->path, r->m->cfg.arch->name,
           cli_commas(a, model_n_params(&r->m->cfg)), device_describe(r->dev, line), r->load_s);
    printf("%d stream%s, %d rounds\n\n", r->n_seq, r->n_seq > 1 ? "s" : "", r->reps);
    printf("  %-14s %10s %10s %10s\n", "tokens/s", "least", "median", "most");
    print_rate("prefill", r->pp, r->prefill);
    print_rate("decode", r->tg, r->decode);
    print_rate("answers", r->tg, r->answers);
    printf(
        "\nAnswers are decoding and the prompts before it together. A step of decoding reads %s\n"
        "of weights and KV: %.2f GB/s. This machine reads %.2f GB/s from memory: %.0f%%%s.\n",
        cli_bytes(b, (double)r->read_bytes), decode_bytes_s(r, r->decode.median) / 1e9,
        r->read.median / 1e9, 100 * r->share,
        r->share > 1 ? " (a part stays in the processor's cache)" : "");
    if (inv)
        printf("The same bits for every batch (--batch-invariant): prefill %.1f tokens/s "
               "(%+.0f%%), decode "
               "%.1f (%+.0f%%).\n",
               inv->prefill.median, 100 * (inv->prefill.median / r->prefill.median - 1),
               inv->decode.median, 100 * (inv->decode.median / r->decode.median - 1));
    return cli_flush_stdout();
}

static Status run(Rig *r, Err *e) {
    Status st = set_up(r, e);
    if (st == OK) st = measure(r, e);
    if (st != OK && st != ERR_ARG && !strstr(e->msg, r->path)) err_in(e, r->path);
    return st;
}

int cli_bench_model(const BenchCmd *c, const char *path) {
    Err e = {0};
    Rig r = {.c = c,
             .path = path,
             .n_seq = (int)c->streams,
             .pp = (int)c->pp,
             .tg = (int)c->tg,
             .reps = (int)c->reps,
             .invariant = c->batch_invariant};
    Rig inv = r;
    inv.invariant = true;
    Status st = run(&r, &e);
    bool price = st == OK && c->price && !r.invariant;
    if (price) st = run(&inv, &e);
    const Rig *with = price ? &inv : NULL;
    int rc = st != OK ? cli_fail(&e) : c->json ? print_json(&r, with) : print_text(&r, with);
    if (price) tear_down(&inv);
    tear_down(&r);
    return rc;
}
