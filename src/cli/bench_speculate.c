/* SPDX-License-Identifier: Apache-2.0
 * ingot bench M.gguf --engine --speculate HOW: the same requests without guesses and with them, in pairs, so that what
 * slows the machine for a while slows both. How often made-up text repeats itself says little about real text; what a
 * guess costs where it is wrong, and saves where it is right, shows all the same. bench/speculate.sh takes a text. */
#include <pthread.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/bench.h"
#include "engine/engine.h"

enum { PERIOD = 48 /* tokens after which a prompt repeats itself */, LONGEST = 4 };

typedef struct Trial Trial;

typedef struct Stream {
    Trial *t;
    int32_t *ids; /* [tg] in the trial's block */
    int n;
    double first, last;
} Stream;

/* One run of all streams. */
struct Trial {
    Stream *s;    /* owned; [streams] */
    int32_t *ids; /* owned; [streams, tg] */
    pthread_mutex_t mu;
    pthread_cond_t over;
    int n_over; /* [mu] */
    double tok_s;
    EngineStats stats;
};

typedef struct Pairs {
    const BenchCmd *c;
    const char *path;
    Device *dev;
    Model *m, *draft; /* draft NULL: from the text */
    Trial plain, guess;
    double *rate[2], *ratio; /* owned; [reps] */
    int n_same;
} Pairs;

static void on_token(void *ctx, const SampleOut *t) {
    Stream *s = ctx;
    s->last = clock_now_s();
    if (s->n == 0) s->first = s->last;
    s->ids[s->n++] = t->id;
}

static void on_done(void *ctx, FinishReason why, const Err *e) {
    Trial *t = ((Stream *)ctx)->t;
    (void)why, (void)e;
    pthread_mutex_lock(&t->mu);
    t->n_over++;
    pthread_cond_signal(&t->over);
    pthread_mutex_unlock(&t->mu);
}

static Status trial_init(Trial *t, const BenchCmd *c, Err *e) {
    size_t n = (size_t)c->streams, tg = (size_t)c->tg;
    pthread_mutex_init(&t->mu, NULL);
    pthread_cond_init(&t->over, NULL);
    t->s = mem_new_n(Stream, n);
    t->ids = mem_new_n(int32_t, n * tg);
    if (!t->s || !t->ids) return err_set(e, ERR_NOMEM, "%zu streams of %zu tokens", n, tg);
    for (size_t i = 0; i < n; i++) t->s[i] = (Stream){.t = t, .ids = t->ids + i * tg};
    return OK;
}

static void trial_deinit(Trial *t) {
    mem_free(t->s);
    mem_free(t->ids);
    pthread_cond_destroy(&t->over);
    pthread_mutex_destroy(&t->mu);
}

static Status submit_all(Engine *en, Trial *t, const Pairs *p, Err *e) {
    int pp = (int)p->c->pp;
    int32_t *ids = mem_new_n(int32_t, (size_t)pp);
    Status st = ids ? OK : err_set(e, ERR_NOMEM, "a prompt of %d tokens", pp);
    for (int k = 0; st == OK && k < (int)p->c->streams; k++) {
        for (int i = 0; i < pp; i++)
            ids[i] =
                (int32_t)(((int64_t)(i % PERIOD) * 7919 + (int64_t)k * 104729 + 10) % p->m->cfg.V);
        t->s[k].n = 0;
        EngineReq r = {.prompt = ids,
                       .n_prompt = pp,
                       .max_new = (int)p->c->tg,
                       .sample = {.top_p = 1.0},
                       .ignore_end = true,
                       .on_token = on_token,
                       .on_done = on_done,
                       .ctx = &t->s[k]};
        st = engine_submit(en, &r, NULL, e);
    }
    mem_free(ids);
    return st;
}

/* Tokens a second of all streams together, from the first one's first token on. */
static double speed(const Trial *t, const BenchCmd *c) {
    double first = t->s[0].first, last = first;
    for (int i = 0; i < (int)c->streams; i++) {
        first = MIN(first, t->s[i].first);
        last = MAX(last, t->s[i].last);
    }
    return last > first ? (double)(c->streams * (c->tg - 1)) / (last - first) : 0.0;
}

static Status run_trial(Trial *t, const Pairs *p, bool guess, Err *e) {
    const BenchCmd *c = p->c;
    Engine *en = NULL;
    EngineOpts o = {.max_seqs = (int)c->streams,
                    .max_ctx = MIN(p->m->cfg.ctx, (int)(c->pp + c->tg)),
                    .max_queue = (int)c->streams,
                    .kv_type = cli_kv_type(c->kv),
                    .itl_target_ms = (int)c->itl_target,
                    .no_prefix = true};
    if (guess) o.spec_k = (int)c->speculate_tokens;
    if (guess && p->draft) o.draft = p->draft;
    else if (guess) o.spec_ngram = LONGEST;
    if (o.max_ctx < c->pp + c->tg)
        return err_set(e, ERR_ARG, "%lld tokens, the model's context has %d",
                       (long long)(c->pp + c->tg), p->m->cfg.ctx);
    TRY(engine_new(&en, p->m, &o, e));
    t->n_over = 0;
    Status st = submit_all(en, t, p, e);
    pthread_mutex_lock(&t->mu);
    while (st == OK && t->n_over < (int)c->streams) pthread_cond_wait(&t->over, &t->mu);
    pthread_mutex_unlock(&t->mu);
    t->stats = engine_stats(en);
    engine_free(en);
    if (st == OK) t->tok_s = speed(t, c);
    return st;
}

static bool same_text(const Pairs *p) {
    size_t n = (size_t)p->c->streams * (size_t)p->c->tg;
    return memcmp(p->plain.ids, p->guess.ids, n * sizeof p->plain.ids[0]) == 0;
}

/* One pair warms up. */
static Status run_pairs(Pairs *p, Err *e) {
    for (int i = -1; i < (int)p->c->reps; i++) {
        TRY(run_trial(&p->plain, p, false, e));
        TRY(run_trial(&p->guess, p, true, e));
        if (i < 0) continue;
        p->rate[0][i] = p->plain.tok_s;
        p->rate[1][i] = p->guess.tok_s;
        p->ratio[i] = p->plain.tok_s > 0 ? p->guess.tok_s / p->plain.tok_s : 0;
        p->n_same += same_text(p);
    }
    return OK;
}

static int print(const Pairs *p) {
    int n = (int)p->c->reps;
    const EngineStats *s = &p->guess.stats;
    Spread plain = cli_bench_spread(p->rate[0], n), guess = cli_bench_spread(p->rate[1], n),
           ratio = cli_bench_spread(p->ratio, n);
    double right = s->n_draft_tok ? (double)s->n_draft_ok / (double)s->n_draft_tok : 0,
           a_step = s->n_steps ? (double)s->n_new_tok / (double)s->n_steps : 0;
    if (!p->c->json) {
        printf(
            "%d streams, guesses by %s: %.1f tokens/s without, %.1f with (%.2f times); %.0f%% of "
            "%llu guesses\n  were right, %.2f tokens a step; the same text in %d of %d pairs\n",
            (int)p->c->streams, p->c->speculate, plain.median, guess.median, ratio.median,
            100 * right, (unsigned long long)s->n_draft_tok, a_step, p->n_same, n);
        return cli_flush_stdout();
    }
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "bench", "engine");
    jw_cstr(&w, "scenario", "speculate");
    jw_cstr(&w, "model", p->path);
    jw_cstr(&w, "how", p->c->speculate);
    jw_int(&w, "k", p->c->speculate_tokens);
    jw_int(&w, "streams", p->c->streams);
    jw_int(&w, "pp", p->c->pp);
    jw_int(&w, "tg", p->c->tg);
    cli_bench_put(&w, "plain_tok_s", plain);
    cli_bench_put(&w, "guess_tok_s", guess);
    cli_bench_put(&w, "ratio", ratio);
    jw_int(&w, "drafted", (int64_t)s->n_draft_tok);
    jw_num(&w, "right", cli_bench_round(right));
    jw_num(&w, "tok_a_step", cli_bench_round(a_step));
    jw_int(&w, "same", p->n_same);
    jw_int(&w, "pairs", n);
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

int cli_bench_speculate(const BenchCmd *c, const char *path) {
    Err e = {0};
    Pairs p = {.c = c, .path = path};
    DeviceOpts o = {.cpu = c->cpu,
                    .n_threads = cli_threads(c->threads),
                    .batch_invariant = c->batch_invariant,
                    .no_pack = c->no_pack};
    double *room = mem_new_n(double, 3 * (size_t)c->reps);
    p.rate[0] = room;
    p.rate[1] = room ? room + c->reps : NULL;
    p.ratio = room ? room + 2 * c->reps : NULL;
    Status st = room ? OK : err_set(&e, ERR_NOMEM, "bench: out of memory");
    Status plain = trial_init(&p.plain, c, &e), guess = trial_init(&p.guess, c, &e);
    if (st == OK) st = plain != OK ? plain : guess;
    if (st == OK) st = device_cpu_new(&p.dev, &o, &e);
    if (st == OK) st = model_load(&p.m, p.dev, path, &e);
    if (st == OK && strcmp(c->speculate, "ngram") != 0)
        st = model_load(&p.draft, p.dev, c->speculate, &e);
    if (st == OK) st = run_pairs(&p, &e);
    int rc = st == OK ? print(&p) : cli_fail(&e);
    model_free(p.draft);
    model_free(p.m);
    device_free(p.dev);
    trial_deinit(&p.plain);
    trial_deinit(&p.guess);
    mem_free(room);
    return rc;
}
