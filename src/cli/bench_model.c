/* SPDX-License-Identifier: Apache-2.0
 * ingot bench M.gguf: tokens a second of prefill and decode, on made-up token ids, straight through
 * model_forward: no tokenizer, no scheduler, no sampling beyond the likeliest token.
 *
 * A decoded token reads every weight once, so the machine's read bandwidth bounds decoding; the share of it
 * that the weights alone account for is printed too. */
#include <stdio.h>

#include "base/arena.h"
#include "base/clock.h"
#include "cli/bench.h"
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
    int n_seq, pp, tg;
    size_t read_bytes; /* weights that a decoded token reads */
    double read_peak;  /* bytes/s of the machine */
    Spread prefill, decode;
} Rig;

/* ---- setting up ---- */

static size_t bytes_per_token(const Model *m) {
    size_t n = 0;
    for (int i = 0; i < m->n_params; i++) {
        const Param *p = &m->params[i];
        bool looked_up = (p->role == P_TOK_EMBD && !m->cfg.tied) || p->role == P_POS_EMBD;
        if (!looked_up) n += (size_t)gguf_find_tensor(m->file, p->name)->n_bytes;
    }
    return n;
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
    r->kv = r->dev->ops->kv_new(r->dev, kv_dtype(cli_kv_type(r->c->kv)), r->m->cfg.n_layer,
                                n_blocks * r->n_seq, r->m->cfg.nkv, r->m->cfg.hd);
    if (!arena_ok(&r->mem) || !r->kv) return err_set(e, ERR_NOMEM, "bench: out of memory");
    for (int i = 0; i < n_blocks * r->n_seq; i++) ids[i] = i;
    for (int k = 0; k < r->n_seq; k++) table[k] = ids + k * n_blocks;
    r->b = (Batch){.tok = r->tok,
                   .pos = r->pos,
                   .seq = r->seq,
                   .out = r->out,
                   .n_seq = r->n_seq,
                   .blocks = table};
    return model_reserve(r->m, rows, r->n_seq, e);
}

static Status set_up(Rig *r, Err *e) {
    DeviceOpts o = {.cpu = r->c->cpu,
                    .n_threads = cli_threads(r->c->threads),
                    .batch_invariant = r->c->batch_invariant,
                    .bf16 = r->c->dtype && !strcmp(r->c->dtype, "bf16")};
    TRY(device_cpu_new(&r->dev, &o, e));
    TRY(model_load(&r->m, r->dev, r->path, e));
    if (r->pp + r->tg > r->m->cfg.ctx)
        return err_set(e, ERR_ARG, "--pp %d and --tg %d are more than the model's context of %d",
                       r->pp, r->tg, r->m->cfg.ctx);
    r->read_bytes = bytes_per_token(r->m);
    TRY(cli_bench_read(&r->read_peak, o.cpu, o.n_threads, e));
    return make_tables(r, e);
}

static void tear_down(Rig *r) {
    if (r->kv) r->dev->ops->kv_free(r->dev, r->kv);
    model_free(r->m);
    device_free(r->dev);
    arena_deinit(&r->mem);
}

/* ---- measuring ---- */

static int32_t likeliest(const float *logits, int n) {
    int best = 0;
    for (int i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

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
    const float *logits;
    for (int k = 0; k < r->n_seq; k++) r->next[k] = prompt_id(r, k, r->pp);
    for (int t = 0; t < r->tg; t++) {
        r->b.T = r->b.n_out = 0;
        for (int k = 0; k < r->n_seq; k++) put_row(r, k, r->next[k], r->pp + t, true);
        TRY(model_forward(r->m, r->kv, &r->b, &logits, e));
        for (int k = 0; k < r->n_seq; k++)
            r->next[k] = likeliest(logits + (size_t)k * (size_t)r->m->cfg.V, r->m->cfg.V);
    }
    return OK;
}

/* The first round warms up. */
static Status measure(Rig *r, Err *e) {
    double pre[BENCH_MAX_REPS + 1], dec[BENCH_MAX_REPS + 1];
    int n = (int)r->c->reps;
    for (int i = 0; i <= n; i++) {
        double t0 = clock_now_s();
        TRY(prefill(r, e));
        double t1 = clock_now_s();
        TRY(decode(r, e));
        pre[i] = (double)r->n_seq * r->pp / (t1 - t0);
        dec[i] = (double)r->n_seq * r->tg / (clock_now_s() - t1);
    }
    r->prefill = cli_bench_spread(pre + 1, n);
    r->decode = cli_bench_spread(dec + 1, n);
    return OK;
}

/* ---- printing ---- */

/* Weight bytes a second: all sequences of a step share one reading. */
static double decode_bytes_s(const Rig *r) {
    return r->decode.median / r->n_seq * (double)r->read_bytes;
}

static int print_json(const Rig *r) {
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
    jw_bool(&w, "batch_invariant", r->c->batch_invariant);
    jw_int(&w, "pp", r->pp);
    jw_int(&w, "tg", r->tg);
    jw_int(&w, "reps", r->c->reps);
    cli_bench_put(&w, "tok_s_prefill", r->prefill);
    cli_bench_put(&w, "tok_s_decode", r->decode);
    jw_num(&w, "read_gb_s", cli_bench_round(r->read_peak / 1e9));
    jw_num(&w, "decode_gb_s", cli_bench_round(decode_bytes_s(r) / 1e9));
    jw_num(&w, "decode_read_share", cli_bench_round(100 * decode_bytes_s(r) / r->read_peak));
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

static int print_text(const Rig *r) {
    char line[96], a[32], b[32];
    double share = 100 * decode_bytes_s(r) / r->read_peak;
    printf("%s: %s, %s parameters, %s\n", r->path, r->m->cfg.arch->name,
           cli_commas(a, model_n_params(&r->m->cfg)), device_describe(r->dev, line));
    printf("%d stream%s, %lld rounds\n\n", r->n_seq, r->n_seq > 1 ? "s" : "",
           (long long)r->c->reps);
    printf("  %-14s %10s %10s %10s\n", "tokens/s", "least", "median", "most");
    print_rate("prefill", r->pp, r->prefill);
    print_rate("decode", r->tg, r->decode);
    printf(
        "\ndecoding reads %s of weights a step: %.2f GB/s, and this machine reads %.2f GB/s from "
        "memory (%.0f%%%s)\n",
        cli_bytes(b, (double)r->read_bytes), decode_bytes_s(r) / 1e9, r->read_peak / 1e9, share,
        share > 100 ? ": the weights stay in the processor's cache" : "");
    return cli_flush_stdout();
}

int cli_bench_model(const BenchCmd *c, const char *path) {
    Err e = {0};
    Rig r = {.c = c, .path = path, .n_seq = (int)c->streams, .pp = (int)c->pp, .tg = (int)c->tg};
    arena_init(&r.mem, 64 << 10);
    Status st = set_up(&r, &e);
    if (st == OK) st = measure(&r, &e);
    if (st != OK && st != ERR_ARG && !strstr(e.msg, path)) err_in(&e, path);
    int rc = st != OK ? cli_fail(&e) : c->json ? print_json(&r) : print_text(&r);
    tear_down(&r);
    return rc;
}
