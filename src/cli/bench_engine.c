/* SPDX-License-Identifier: Apache-2.0
 * ingot bench M.gguf --engine: what people who share a machine notice of each other, through the engine itself, on
 * made-up tokens.
 *
 *   long prompt    streams are talking when a long prompt arrives: the gaps between their tokens until the prompt's
 *                  own first token, and how long that takes compared with the same prompt alone
 *   shared prefix  a prompt was computed; then streams arrive that begin alike: how long until all have their first
 *                  token, compared with one forward pass over the rows that they do not share
 *
 * Time that the hypervisor gave to others (steal) is printed beside, since no scheduler can do anything about it. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "cli/bench.h"
#include "engine/engine.h"

enum { MAX_GAPS = 1 << 20, PREFIX = 1024, OWN = 8, SHARERS = 64, TALK = 8 /* tokens before */ };

typedef struct Lab {
    const BenchCmd *c;
    const char *path;
    Device *dev;
    Model *m;
    Engine *en;
    pthread_mutex_t mu;
    pthread_cond_t more;
    bool recording; /* [mu] */
    double *gaps;   /* [mu] owned, [MAX_GAPS] seconds */
    int n_gaps;     /* [mu] */
} Lab;

/* A request that is watched. */
typedef struct Watch {
    Lab *lab;
    uint64_t id;
    int n_tok;             /* [mu] */
    double t_first, t_tok; /* [mu] of the newest */
    bool done;             /* [mu] */
} Watch;

static void on_token(void *ctx, const SampleOut *t) {
    Watch *w = ctx;
    Lab *l = w->lab;
    double now = clock_now_s();
    (void)t;
    pthread_mutex_lock(&l->mu);
    if (w->n_tok++ == 0) w->t_first = now;
    else if (l->recording && l->n_gaps < MAX_GAPS) l->gaps[l->n_gaps++] = now - w->t_tok;
    w->t_tok = now;
    pthread_cond_broadcast(&l->more);
    pthread_mutex_unlock(&l->mu);
}

static void on_done(void *ctx, FinishReason why, const Err *e) {
    Watch *w = ctx;
    (void)why;
    (void)e;
    pthread_mutex_lock(&w->lab->mu);
    w->done = true;
    pthread_cond_broadcast(&w->lab->more);
    pthread_mutex_unlock(&w->lab->mu);
}

/* Until it has n tokens, or is over. */
static void wait_for(Watch *w, int n) {
    pthread_mutex_lock(&w->lab->mu);
    while (w->n_tok < n && !w->done) pthread_cond_wait(&w->lab->more, &w->lab->mu);
    pthread_mutex_unlock(&w->lab->mu);
}

static void end(Watch *w) {
    engine_cancel(w->lab->en, w->id);
    wait_for(w, INT32_MAX);
}

static int32_t token_of(const Lab *l, int k, int i) {
    return (int32_t)(((int64_t)i * 7919 + (int64_t)k * 104729 + 10) % l->m->cfg.V);
}

/* A prompt of n tokens, the first `shared` of which are those of text 0, the others of text k. */
static Status submit(Lab *l, Watch *w, int k, int shared, int n, int max_new, Err *e) {
    int32_t *ids = mem_new_n(int32_t, (size_t)n);
    if (!ids) return err_set(e, ERR_NOMEM, "a prompt of %d tokens", n);
    for (int i = 0; i < n; i++) ids[i] = token_of(l, i < shared ? 0 : k, i);
    *w = (Watch){.lab = l};
    EngineReq r = {.prompt = ids,
                   .n_prompt = n,
                   .max_new = max_new,
                   .sample = {.top_p = 1.0},
                   .ignore_end = true,
                   .on_token = on_token,
                   .on_done = on_done,
                   .ctx = w};
    Status st = engine_submit(l->en, &r, &w->id, e);
    mem_free(ids);
    return st;
}

/* Seconds since the start of the machine that its processors were given to others. */
static double stolen_s(void) {
    StrBuf b = {0};
    unsigned long long v[8] = {0};
    if (io_read_file(&b, "/proc/stat", 1 << 20, NULL) == OK)
        sscanf(sb_str(&b), "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2],
               &v[3], &v[4], &v[5], &v[6], &v[7]);
    sb_deinit(&b);
    return (double)v[7] / 100.0; /* in ticks of 10 ms */
}

/* ---- a long prompt beside streams ---- */

typedef struct LongPrompt {
    double alone_s, beside_s, gap[3], stolen_s; /* gap: median, 99th percentile, longest */
    int n_gaps;
} LongPrompt;

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static Status long_round(Lab *l, LongPrompt *out, Watch *streams, int round, Err *e) {
    int n = (int)l->c->streams, pp = (int)l->c->pp, text = 1000 * (round + 1);
    Watch w;
    double t0 = clock_now_s();
    TRY(submit(l, &w, text, 0, pp, 1, e));
    wait_for(&w, INT32_MAX);
    out->alone_s = w.t_first - t0;
    for (int i = 0; i < n; i++)
        TRY(submit(l, &streams[i], text + 1 + i, 0, MIN(32, pp), engine_max_ctx(l->en), e));
    for (int i = 0; i < n; i++) wait_for(&streams[i], TALK);
    pthread_mutex_lock(&l->mu);
    l->n_gaps = 0;
    l->recording = true;
    pthread_mutex_unlock(&l->mu);
    double s0 = stolen_s(), t1 = clock_now_s();
    TRY(submit(l, &w, text + 500, 0, pp, 1, e));
    wait_for(&w, INT32_MAX);
    pthread_mutex_lock(&l->mu);
    l->recording = false;
    out->n_gaps = l->n_gaps;
    pthread_mutex_unlock(&l->mu);
    out->beside_s = w.t_first - t1;
    out->stolen_s = stolen_s() - s0;
    for (int i = 0; i < n; i++) end(&streams[i]);
    qsort(l->gaps, (size_t)out->n_gaps, sizeof *l->gaps, by_size);
    if (out->n_gaps == 0) return err_set(e, ERR_INTERNAL, "no stream talked");
    out->gap[0] = l->gaps[out->n_gaps / 2];
    out->gap[1] = l->gaps[(int)(0.99 * out->n_gaps)];
    out->gap[2] = l->gaps[out->n_gaps - 1];
    return OK;
}

static int print_long(const Lab *l, const LongPrompt *p) {
    if (!l->c->json) {
        printf(
            "%d streams, a prompt of %d tokens arrives, target %d ms: gaps of %.0f ms (median), "
            "%.0f "
            "(99%%),\n  %.0f (longest of %d); the prompt's first token after %.2f s, alone %.2f s "
            "(%.2f times); stolen %.2f s\n",
            (int)l->c->streams, (int)l->c->pp, (int)l->c->itl_target, 1e3 * p->gap[0],
            1e3 * p->gap[1], 1e3 * p->gap[2], p->n_gaps, p->beside_s, p->alone_s,
            p->beside_s / p->alone_s, p->stolen_s);
        return cli_flush_stdout();
    }
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "bench", "engine");
    jw_cstr(&w, "scenario", "long_prompt");
    jw_cstr(&w, "model", l->path);
    jw_cstr(&w, "kv", l->c->kv);
    jw_int(&w, "streams", l->c->streams);
    jw_int(&w, "pp", l->c->pp);
    jw_int(&w, "itl_target_ms", l->c->itl_target);
    jw_num(&w, "gap_median_ms", cli_bench_round(1e3 * p->gap[0]));
    jw_num(&w, "gap_p99_ms", cli_bench_round(1e3 * p->gap[1]));
    jw_num(&w, "gap_max_ms", cli_bench_round(1e3 * p->gap[2]));
    jw_int(&w, "gaps", p->n_gaps);
    jw_num(&w, "first_token_s", cli_bench_round(p->beside_s));
    jw_num(&w, "first_token_alone_s", cli_bench_round(p->alone_s));
    jw_num(&w, "ratio", cli_bench_round(p->beside_s / p->alone_s));
    jw_num(&w, "stolen_s", p->stolen_s);
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static Status long_prompt(Lab *l, Err *e) {
    int n = (int)l->c->streams;
    EngineOpts o = {.max_seqs = n + 1,
                    .max_ctx = MIN(l->m->cfg.ctx, (int)l->c->pp + 2048),
                    .itl_target_ms = (int)l->c->itl_target,
                    .kv_type = cli_kv_type(l->c->kv),
                    .no_prefix = true};
    Watch *streams = mem_new_n(Watch, (size_t)n);
    if (!streams) return err_set(e, ERR_NOMEM, "%d streams", n);
    Status st = engine_new(&l->en, l->m, &o, e);
    for (int i = 0; st == OK && i < (int)l->c->reps; i++) {
        LongPrompt p = {0};
        st = long_round(l, &p, streams, i, e);
        if (st == OK && print_long(l, &p) != CLI_OK) break;
    }
    engine_free(l->en);
    l->en = NULL;
    mem_free(streams);
    return st;
}

/* ---- a shared prefix ---- */

/* One forward pass over the OWN rows of n sequences that share the PREFIX's blocks; seconds. */
static Status rows_alone(Lab *l, double *seconds, int n, Err *e) {
    int T = n * OWN, per = PREFIX / 32 + 1;
    const float *logits;
    Arena a;
    arena_init(&a, 64 << 10);
    int32_t *ints = arena_new_n(&a, int32_t, (size_t)(3 * T + n + n * per));
    const int32_t **table = arena_new_n(&a, const int32_t *, (size_t)n);
    KvStore *kv = l->dev->ops->kv_new(l->dev, kv_dtype(cli_kv_type(l->c->kv)), l->m->cfg.n_layer,
                                      per - 1 + n, l->m->cfg.nkv, l->m->cfg.hd);
    Status st = ints && table && kv ? OK : err_set(e, ERR_NOMEM, "bench: out of memory");
    if (st != OK) goto done;
    int32_t *tok = ints, *pos = tok + T, *seq = pos + T, *out = seq + T, *blocks = out + n;
    for (int k = 0; k < n; k++) {
        table[k] = blocks + k * per;
        for (int i = 0; i < per; i++) blocks[k * per + i] = i + 1 < per ? i : per - 1 + k;
        out[k] = k * OWN + OWN - 1;
        for (int i = 0; i < OWN; i++) {
            tok[k * OWN + i] = token_of(l, k, PREFIX + i);
            pos[k * OWN + i] = PREFIX + i;
            seq[k * OWN + i] = k;
        }
    }
    Batch b = {.T = T,
               .tok = tok,
               .pos = pos,
               .seq = seq,
               .n_seq = n,
               .blocks = table,
               .n_out = n,
               .out = out,
               .only_out = true};
    st = model_reserve(l->m, T, n, e);
    double best = 1e300;
    for (int i = 0; st == OK && i < 3; i++) {
        double t0 = clock_now_s();
        st = model_forward(l->m, kv, &b, &logits, e);
        best = MIN(best, clock_now_s() - t0);
    }
    *seconds = best;
done:
    if (kv) l->dev->ops->kv_free(l->dev, kv);
    arena_deinit(&a);
    return st;
}

static Status share_round(Lab *l, double *seconds, Watch *w, Err *e) {
    TRY(submit(l, &w[0], 1, PREFIX, PREFIX + OWN, 1, e));
    wait_for(&w[0], INT32_MAX);
    double t0 = clock_now_s(), last = t0;
    for (int i = 1; i < SHARERS; i++) TRY(submit(l, &w[i], i + 1, PREFIX, PREFIX + OWN, 1, e));
    for (int i = 1; i < SHARERS; i++) {
        wait_for(&w[i], INT32_MAX);
        last = MAX(last, w[i].t_first);
    }
    *seconds = last - t0;
    return OK;
}

static int print_shared(const Lab *l, double all, double rows) {
    if (!l->c->json) {
        printf("%d streams after one with the same %d tokens, %d of their own: first tokens within "
               "%.3f s, a "
               "pass over\n  what is their own %.3f s (%.2f times)\n",
               SHARERS - 1, PREFIX, OWN, all, rows, all / rows);
        return cli_flush_stdout();
    }
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "bench", "engine");
    jw_cstr(&w, "scenario", "shared_prefix");
    jw_cstr(&w, "model", l->path);
    jw_cstr(&w, "kv", l->c->kv);
    jw_int(&w, "streams", SHARERS);
    jw_int(&w, "prefix", PREFIX);
    jw_int(&w, "own", OWN);
    jw_num(&w, "first_tokens_s", cli_bench_round(all));
    jw_num(&w, "rows_alone_s", cli_bench_round(rows));
    jw_num(&w, "ratio", cli_bench_round(all / rows));
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static Status shared_prefix(Lab *l, Err *e) {
    EngineOpts o = {.max_seqs = SHARERS,
                    .max_ctx = PREFIX + OWN + 8,
                    .prefill_chunk = SHARERS * OWN,
                    .kv_type = cli_kv_type(l->c->kv),
                    .itl_target_ms = 3600000};
    Watch w[SHARERS];
    double all = 0, rows = 0;
    if (o.max_ctx > l->m->cfg.ctx) return OK; /* the model cannot have such a prompt */
    TRY(engine_new(&l->en, l->m, &o, e));
    Status st = share_round(l, &all, w, e);
    engine_free(l->en);
    l->en = NULL;
    if (st == OK) st = rows_alone(l, &rows, SHARERS - 1, e);
    if (st == OK) print_shared(l, all, rows);
    return st;
}

int cli_bench_engine(const BenchCmd *c, const char *path) {
    Err e = {0};
    Lab l = {.c = c, .path = path};
    DeviceOpts o = {.cpu = c->cpu,
                    .n_threads = cli_threads(c->threads),
                    .batch_invariant = c->batch_invariant,
                    .no_pack = c->no_pack};
    pthread_mutex_init(&l.mu, NULL);
    pthread_cond_init(&l.more, NULL);
    l.gaps = mem_new_n(double, MAX_GAPS);
    Status st = l.gaps ? OK : err_set(&e, ERR_NOMEM, "bench: out of memory");
    if (st == OK) st = device_cpu_new(&l.dev, &o, &e);
    if (st == OK) st = model_load(&l.m, l.dev, path, &e);
    if (st == OK) st = shared_prefix(&l, &e);
    if (st == OK) st = long_prompt(&l, &e);
    if (st != OK && !strstr(e.msg, path)) err_in(&e, path);
    model_free(l.m);
    device_free(l.dev);
    mem_free(l.gaps);
    pthread_cond_destroy(&l.more);
    pthread_mutex_destroy(&l.mu);
    return st == OK ? CLI_OK : cli_fail(&e);
}
