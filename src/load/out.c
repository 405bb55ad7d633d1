/* SPDX-License-Identifier: Apache-2.0 */
#include "load/out.h"

#include <math.h>
#include <stdio.h>

#include "text/json.h"

const double load_quantiles[LOAD_QUANTILES] = {0.5, 0.9, 0.95, 0.99, 0.999};
const char *const load_quantile_names[LOAD_QUANTILES] = {"p50", "p90", "p95", "p99", "p99.9"};

LoadVerdict load_verdict(const LoadPoint *p, LoadShare *share) {
    LoadShare s = load_share_of(p->stats->good, p->stats->all);
    *share = s;
    if (!load_slo_any(&p->slo)) return LOAD_NO_SLO;
    if (p->stats->n_ended == p->stats->fail[LOAD_STOPPED].n) return LOAD_NO_DATA;
    if (s.share >= p->slo.share) {
        if (load_is_piling(p)) return p->last_look ? LOAD_PILES_UP : LOAD_WITHIN_UNSURE;
        return s.lo >= p->slo.share ? LOAD_WITHIN : LOAD_WITHIN_UNSURE;
    }
    return s.hi < p->slo.share ? LOAD_OVER : LOAD_OVER_UNSURE;
}

bool load_is_within(LoadVerdict v) { return v == LOAD_WITHIN || v == LOAD_WITHIN_UNSURE; }

const char *load_verdict_words(LoadVerdict v) {
    static const char *const words[] = {[LOAD_NO_SLO] = "no limits",
                                        [LOAD_WITHIN] = "within",
                                        [LOAD_WITHIN_UNSURE] = "within, but not surely",
                                        [LOAD_OVER_UNSURE] = "over, but not surely",
                                        [LOAD_OVER] = "over",
                                        [LOAD_PILES_UP] = "over: requests pile up",
                                        [LOAD_NO_DATA] = "no answers to judge"};
    return words[v];
}

bool load_is_growing(const LoadStats *s) {
    double from = (double)(s->t_from - MIN(s->t_zero, s->t_from)) * 1e-9;
    uint32_t early = 0, late = 0;
    for (int i = 0; i < LOAD_BINS; i++) {
        double at = ((i + 0.5) * s->bin_s - from) / fmax(s->window_s, 1e-9);
        if (at >= 0.25 && at < 0.5) early = MAX(early, s->bin[i].flight);
        if (at >= 0.75 && at < 1) late = MAX(late, s->bin[i].flight);
    }
    return late > early + early / 2 + 8;
}

bool load_is_piling(const LoadPoint *p) {
    return !p->users && strcmp(p->pattern, "ramp") != 0 && load_is_growing(p->stats);
}

static double rounded(double v) { return round(v * 1e4) / 1e4; }
static double ms(double ns) { return rounded(ns * 1e-6); }

static void put_time(JsonW *w, const char *key, const LoadHist *h) {
    if (h->n == 0) {
        jw_null(w, key);
        return;
    }
    jw_obj(w, key);
    jw_int(w, "n", (int64_t)h->n);
    jw_num(w, "mean", ms(load_hist_mean(h)));
    for (int i = 0; i < LOAD_QUANTILES; i++)
        jw_num(w, load_quantile_names[i], ms((double)load_hist_at(h, load_quantiles[i])));
    jw_num(w, "min", ms((double)h->min));
    jw_num(w, "max", ms((double)h->max));
    jw_end_obj(w);
}

static void put_slo(JsonW *w, const LoadPoint *p) {
    LoadShare sh;
    LoadVerdict v = load_verdict(p, &sh);
    if (v == LOAD_NO_SLO) return;
    jw_obj(w, "slo");
    jw_cstr(w, "limits", p->slo_text);
    jw_num(w, "wanted", p->slo.share);
    jw_num(w, "share", rounded(sh.share));
    jw_num(w, "share_lo", rounded(sh.lo));
    jw_num(w, "share_hi", rounded(sh.hi));
    jw_num(w, "goodput", rounded(load_stats_goodput(p->stats)));
    jw_bool(w, "within", load_is_within(v));
    jw_bool(w, "sure", v == LOAD_WITHIN || v == LOAD_OVER);
    jw_end_obj(w);
}

static void put_errors(JsonW *w, const LoadStats *s) {
    jw_arr(w, "errors");
    for (int i = LOAD_OK + 1; i < LOAD_ENDS; i++) {
        if (s->fail[i].n == 0 || i == LOAD_STOPPED) continue;
        jw_obj(w, NULL);
        jw_cstr(w, "kind", load_end_name((LoadEnd)i));
        jw_int(w, "n", (int64_t)s->fail[i].n);
        jw_cstr(w, "example", s->fail[i].example);
        jw_end_obj(w);
    }
    jw_end_arr(w);
}

static void put_counts(JsonW *w, const LoadStats *s) {
    double elapsed = load_stats_elapsed(s);
    jw_num(w, "window_s", rounded(s->window_s));
    jw_num(w, "elapsed_s", rounded(elapsed));
    jw_int(w, "sent", (int64_t)s->n_sent);
    jw_int(w, "answered", (int64_t)s->n_ok);
    jw_int(w, "failed", (int64_t)load_stats_failed(s));
    jw_int(w, "stopped", (int64_t)s->fail[LOAD_STOPPED].n);
    jw_int(w, "warmup", (int64_t)s->n_warmup);
    jw_num(w, "sent_per_s", s->window_s > 0 ? rounded((double)s->n_sent / s->window_s) : 0);
    jw_num(w, "answers_per_s", elapsed > 0 ? rounded((double)s->n_ok / elapsed) : 0);
    jw_int(w, "tokens_out", s->n_out);
    jw_cstr(w, "tokens_by", s->counted ? "server" : "events");
    jw_num(w, "tokens_out_per_s", elapsed > 0 ? rounded((double)s->n_out / elapsed) : 0);
    if (load_stats_full_tok_s(s) > 0) {
        jw_num(w, "full_s", rounded(s->full_s));
        jw_num(w, "tokens_out_per_s_full", rounded(load_stats_full_tok_s(s)));
    }
    if (s->prompt_counted) jw_int(w, "tokens_in", s->n_prompt);
    jw_int(w, "events", (int64_t)s->n_text);
    jw_int(w, "in_flight_max", s->flight_max);
    jw_bool(w, "piling_up", load_is_growing(s));
}

void load_put_point(StrBuf *b, const LoadPoint *p) {
    const LoadStats *s = p->stats;
    JsonW w;
    jw_init(&w, b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "url", p->url);
    jw_cstr(&w, "route", p->route);
    if (p->model && p->model[0]) jw_cstr(&w, "model", p->model);
    jw_cstr(&w, "pattern", p->pattern);
    if (p->users) jw_int(&w, "users", p->users);
    else jw_num(&w, "rate", p->rate);
    put_counts(&w, s);
    for (int i = 0; i < LOAD_LAG; i++) {
        char key[16] = {0};
        memcpy(key, load_time_name((LoadTime)i), strlen(load_time_name((LoadTime)i)));
        memcpy(key + strlen(key), "_ms", 4);
        put_time(&w, key, &s->time[i]);
    }
    put_slo(&w, p);
    put_errors(&w, s);
    jw_obj(&w, "generator");
    jw_int(&w, "late", (int64_t)s->n_late);
    jw_int(&w, "held", (int64_t)s->n_held);
    put_time(&w, "lag_ms", &s->time[LOAD_LAG]);
    jw_num(&w, "busy", rounded(s->busy));
    jw_end_obj(&w);
    if (s->stopped) jw_bool(&w, "stopped_early", true);
    if (s->gave_up) jw_bool(&w, "gave_up", true);
    jw_end_obj(&w);
}

void load_put_sweep(StrBuf *b, const LoadPoint *best, bool users, bool cut_short) {
    JsonW w;
    LoadShare sh;
    jw_init(&w, b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "sweep", users ? "concurrency" : "rate");
    if (best) {
        double elapsed = load_stats_elapsed(best->stats);
        jw_cstr(&w, "limits", best->slo_text);
        jw_num(&w, "highest", users ? best->users : best->rate);
        jw_bool(&w, "sure", load_verdict(best, &sh) == LOAD_WITHIN);
        jw_num(&w, "goodput", rounded(load_stats_goodput(best->stats)));
        jw_num(&w, "tok_s", elapsed > 0 ? rounded((double)best->stats->n_out / elapsed) : 0);
    } else {
        jw_null(&w, "highest");
    }
    if (cut_short) jw_bool(&w, "stopped_early", true);
    jw_end_obj(&w);
}

void load_put_one(StrBuf *b, const LoadOne *o, uint64_t seed, double at) {
    JsonW w;
    char name[64];
    snprintf(name, sizeof name, "load-%llu-%llu", (unsigned long long)seed,
             (unsigned long long)o->id);
    jw_init(&w, b);
    jw_obj(&w, NULL);
    jw_int(&w, "id", (int64_t)o->id);
    if (o->warmup) jw_bool(&w, "warmup", true);
    jw_cstr(&w, "request_id", name);
    jw_num(&w, "at", round(at * 1e6) / 1e6);
    jw_num(&w, "lag_ms", ms((double)(o->send - o->plan)));
    if (o->first) jw_num(&w, "ttft_ms", ms((double)(o->first - o->plan)));
    jw_num(&w, "e2e_ms", ms((double)(o->stop - o->plan)));
    if (load_one_tpot(o)) jw_num(&w, "tpot_ms", ms((double)load_one_tpot(o)));
    if (o->n_event > 1) jw_num(&w, "gap_max_ms", ms((double)o->gap_max));
    if (o->status) jw_int(&w, "status", o->status);
    jw_int(&w, "max_tokens", o->max_tokens);
    if (o->n_prompt >= 0) jw_int(&w, "tokens_in", o->n_prompt);
    jw_int(&w, "tokens_out", load_one_tokens(o));
    jw_int(&w, "events", o->n_event);
    jw_cstr(&w, "end", load_end_name(o->end));
    if (o->end != LOAD_OK) jw_cstr(&w, "why", o->why);
    jw_end_obj(&w);
}
