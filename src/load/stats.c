/* SPDX-License-Identifier: Apache-2.0 */
#include "load/stats.h"

#include <math.h>
#include <stdio.h>

#define LATE_NS 10000000u
#define FIRST_BIN_S 0.1

const char *load_time_name(LoadTime t) {
    static const char *const names[LOAD_TIMES] = {"ttft", "itl", "tpot", "e2e", "lag"};
    return names[t];
}

Status load_stats_new(LoadStats **out, Err *e) {
    LoadStats *s = mem_new(LoadStats);
    Status st = s ? OK : err_set(e, ERR_NOMEM, "out of memory for the figures");
    for (int i = 0; st == OK && i < LOAD_TIMES; i++) st = load_hist_init(&s->time[i], e);
    if (st != OK) {
        load_stats_free(s);
        return st;
    }
    s->bin_s = FIRST_BIN_S;
    s->counted = s->prompt_counted = true;
    *out = s;
    return OK;
}

void load_stats_free(LoadStats *s) {
    if (!s) return;
    for (int i = 0; i < LOAD_TIMES; i++) load_hist_deinit(&s->time[i]);
    mem_free(s);
}

/* ---- the timeline ---- */

static void halve(LoadStats *s) {
    for (int i = 0; i < LOAD_BINS / 2; i++) {
        const LoadBin *a = &s->bin[2 * i], *b = a + 1;
        s->bin[i] = (LoadBin){.n_plan = a->n_plan + b->n_plan,
                              .n_ok = a->n_ok + b->n_ok,
                              .n_fail = a->n_fail + b->n_fail,
                              .n_ttft = a->n_ttft + b->n_ttft,
                              .flight = MAX(a->flight, b->flight),
                              .n_text = a->n_text + b->n_text,
                              .ttft_sum = a->ttft_sum + b->ttft_sum,
                              .ttft_max = fmax(a->ttft_max, b->ttft_max),
                              .e2e_sum = a->e2e_sum + b->e2e_sum};
    }
    memset(&s->bin[LOAD_BINS / 2], 0, LOAD_BINS / 2 * sizeof s->bin[0]);
    s->bin_s *= 2;
}

static LoadBin *bin_at(LoadStats *s, uint64_t t) {
    double at = t > s->t_zero ? (double)(t - s->t_zero) * 1e-9 : 0;
    while (at >= s->bin_s * LOAD_BINS) halve(s);
    return &s->bin[(int)(at / s->bin_s)];
}

void load_stats_plan(LoadStats *s, uint64_t plan) {
    if (s->t_zero == 0) s->t_zero = plan;
    bin_at(s, plan)->n_plan++;
}

void load_stats_text(LoadStats *s, uint64_t now, int64_t n) {
    bin_at(s, now)->n_text += (uint64_t)n;
}

void load_stats_flight(LoadStats *s, uint64_t now, int n) {
    LoadBin *b = bin_at(s, now);
    b->flight = MAX(b->flight, (uint32_t)n);
    s->flight_max = MAX(s->flight_max, n);
}

/* ---- ends ---- */

static void take_ok(LoadStats *s, const LoadOne *o) {
    uint64_t tpot = load_one_tpot(o);
    s->n_ok++;
    s->t_to = MAX(s->t_to, o->stop);
    s->n_text += (uint64_t)o->n_event;
    s->n_out += load_one_tokens(o);
    s->n_prompt += MAX(o->n_prompt, (int64_t)0);
    s->counted = s->counted && o->n_out >= 0;
    s->prompt_counted = s->prompt_counted && o->n_prompt >= 0;
    load_hist_add(&s->time[LOAD_E2E], o->stop - o->plan);
    if (o->first) load_hist_add(&s->time[LOAD_TTFT], o->first - o->plan);
    if (tpot) load_hist_add(&s->time[LOAD_TPOT], tpot);
}

static void take_bins(LoadStats *s, const LoadOne *o) {
    LoadBin *b = bin_at(s, o->stop);
    b->n_ok += o->end == LOAD_OK;
    b->n_fail += o->end != LOAD_OK && o->end != LOAD_STOPPED;
    if (o->end != LOAD_OK || o->first == 0) return;
    double ttft = (double)(o->first - o->plan);
    b = bin_at(s, o->plan);
    b->n_ttft++;
    b->ttft_sum += ttft;
    b->ttft_max = fmax(b->ttft_max, ttft);
}

void load_stats_end(LoadStats *s, const LoadOne *o, const LoadSlo *slo, int block) {
    take_bins(s, o);
    LoadFails *f = &s->fail[o->end];
    if (o->warmup) {
        s->n_warmup++;
        return;
    }
    bool good = load_slo_met(slo, o);
    if (s->t_from == 0) s->t_from = o->plan;
    s->t_from = MIN(s->t_from, o->plan);
    s->n_ended++;
    s->n_late += o->send - o->plan > LATE_NS;
    load_hist_add(&s->time[LOAD_LAG], o->send - o->plan);
    if (f->n++ == 0) snprintf(f->example, sizeof f->example, "%s", o->why);
    if (o->end == LOAD_OK) take_ok(s, o);
    if (o->end == LOAD_STOPPED) return; /* neither good nor bad: nobody waited for it */
    s->n_good += good;
    s->good[block] += good;
    s->all[block]++;
}

/* ---- what is said of it ---- */

double load_stats_elapsed(const LoadStats *s) {
    double answered = s->t_to > s->t_from ? (double)(s->t_to - s->t_from) * 1e-9 : 0;
    return fmax(answered, s->window_s);
}

double load_stats_goodput(const LoadStats *s) {
    return s->window_s > 0 ? (double)s->n_good / s->window_s : 0;
}

double load_stats_full_tok_s(const LoadStats *s) {
    double each = s->n_text > 0 ? (double)s->n_out / (double)s->n_text : 0;
    return s->full_s > 0 ? ((double)s->n_text_full * each + (double)s->n_out_full) / s->full_s : 0;
}

uint64_t load_stats_failed(const LoadStats *s) {
    return s->n_ended - s->n_ok - s->fail[LOAD_STOPPED].n;
}

bool load_few(const LoadHist *h, double q) { return (double)h->n * (1 - q) < 1 - 1e-9; }
