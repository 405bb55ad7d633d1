/* SPDX-License-Identifier: Apache-2.0
 * ingot load: load on a server and what comes of it (load/run.h). Here: the plan out of the options, the points of a
 * sweep one after the other, files and reports. */
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/io.h"
#include "cli/load.h"
#include "load/probe.h"
#include "load/sweep.h"
#include "text/json.h"

enum { MOST_IN_FLIGHT = 10000, EXTENSIONS = 2, SPARE = 16 };

typedef struct Load {
    const LoadCmd *c;
    LoadPlan plan;
    LoadPrompts prompts;
    NetClient *net;
    ConfigNet env;
    StrBuf url, model, extra, auth; /* owned */
    const char *header[LOAD_MAX_HEADERS];
    const char *secret[1];
    LoadSweep sweep;
    LoadPoint point[LOAD_MAX_POINTS * (1 + EXTENSIONS)];
    int n_point;
    IoWriter log;
    double unix_s; /* Unix time at zero of our clock, for the log */
    uint64_t seed; /* of the point that runs */
    CliBar bar;
    char label[64];
} Load;

/* ---- the plan ---- */

static Status take_headers(Load *l, Err *e) {
    const LoadCmd *c = l->c;
    const char *key = c->api_key ? c->api_key : cli_env.n_api_keys ? cli_env.api_key[0] : NULL;
    if (c->headers.n >= LOAD_MAX_HEADERS)
        return err_set(e, ERR_ARG, "header: at most %d", LOAD_MAX_HEADERS - 1);
    l->header[l->plan.n_header++] = "Content-Type: application/json";
    for (int i = 0; i < c->headers.n; i++) l->header[l->plan.n_header++] = c->headers.v[i];
    l->plan.header = l->header;
    l->plan.secret = l->secret;
    if (!key) return OK;
    sb_printf(&l->auth, "Authorization: Bearer %s", key);
    l->secret[l->plan.n_secret++] = sb_str(&l->auth);
    return sb_check(&l->auth, e);
}

static LoadPattern pattern_of(const char *name) {
    if (!strcmp(name, "constant")) return LOAD_CONSTANT;
    if (!strcmp(name, "burst")) return LOAD_BURST;
    return strcmp(name, "ramp") ? LOAD_POISSON : LOAD_RAMP;
}

static Status take_prompts(Load *l, Err *e) {
    const LoadCmd *c = l->c;
    LoadPrompts *p = &l->prompts;
    *p = (LoadPrompts){.n_prefix = c->prefix_tokens,
                       .n_kinds = c->prefixes,
                       .seed = (uint64_t)c->seed};
    TRY(load_mix_parse(&p->tokens, "prompt-tokens", c->prompt_tokens, 1, e));
    TRY(load_mix_parse(&l->plan.max_tokens, "max-tokens", c->max_tokens, 1, e));
    if (!c->prompts) return OK;
    TRY(load_prompts_open(p, c->prompts, e));
    for (size_t i = 0; i < p->n_line; i++)
        if (l->plan.ask.route->shape != LOAD_CHAT && p->line[i].prompt.n == 0)
            return err_set(e, ERR_ARG, "%s: prompt %zu is a conversation, for --route chat",
                           c->prompts, i + 1);
    return OK;
}

static Status take_slo(Load *l, Err *e) {
    const LoadCmd *c = l->c;
    l->plan.slo.share = c->slo_share;
    if (c->slo) TRY(load_slo_parse(&l->plan.slo, c->slo, e));
    if (c->sweep) TRY(load_sweep_parse(&l->sweep, c->sweep, e));
    if (l->sweep.search && !c->slo)
        return err_set(e, ERR_ARG, "a search for the highest rate needs --slo, such as ttft=500ms");
    const LoadSlo *s = &l->plan.slo;
    if (!c->stream && (s->ttft || s->tpot || s->itl))
        return err_set(e, ERR_ARG, "slo: without streams only e2e is measured");
    return OK;
}

static Status take_flight(Load *l, Err *e) {
    const LoadCmd *c = l->c;
    int most = load_most_connections();
    int want = (int)(c->max_in_flight ? c->max_in_flight : MIN(most, MOST_IN_FLIGHT));
    int users = (int)c->concurrency;
    for (int i = 0; l->sweep.users && i < l->sweep.n_list; i++)
        users = MAX(users, (int)l->sweep.list[i]);
    if (MAX((int)c->max_in_flight, users) > most)
        return err_set(
            e, ERR_ARG,
            "%d connections at a time: this process may open %d; raise the limit of open "
            "files (ulimit -n %d)",
            MAX((int)c->max_in_flight, users), most, MAX((int)c->max_in_flight, users) + 64);
    l->plan.max_flight = MAX(want, users);
    return OK;
}

static Status make_plan(Load *l, const char *url, Err *e) {
    const LoadCmd *c = l->c;
    LoadPlan *p = &l->plan;
    const LoadRoute *r = load_route(c->route);
    load_route_url(&l->url, &r, url);
    TRY(sb_check(&l->url, e));
    TRY(net_check_url(sb_str(&l->url), e));
    p->url = sb_str(&l->url);
    p->ask = (LoadAsk){.route = r,
                       .model = c->model,
                       .stream = c->stream,
                       .ignore_eos = c->ignore_eos,
                       .temperature = c->temperature};
    p->prompts = &l->prompts;
    p->arrivals = (LoadArrivals){.pattern = pattern_of(c->pattern),
                                 .rate = c->rate,
                                 .rate_end = c->rate_end,
                                 .ramp_s = c->ramp > 0 ? c->ramp : c->duration,
                                 .burst = c->burst};
    p->users = (int)c->concurrency;
    p->n_request = (uint64_t)c->requests;
    p->duration_s = c->duration;
    p->n_warmup = (uint64_t)c->warmup;
    p->seed = (uint64_t)c->seed;
    p->timeout_s = c->timeout;
    p->give_up_s = c->give_up;
    TRY(take_slo(l, e));
    TRY(take_headers(l, e));
    if (c->body) TRY(load_ask_extra(&p->ask, &l->extra, c->body, e));
    TRY(take_prompts(l, e));
    return take_flight(l, e);
}

static Status open_net(Load *l, Err *e) {
    const LoadCmd *c = l->c;
    config_load_net(&l->env);
    NetConfig cfg = {.ca_file = c->cacert ? c->cacert : l->env.ca_file,
                     .ca_dir = c->cacert ? NULL : l->env.ca_dir,
                     .user_agent = "ingot-load",
                     .connect_timeout_ms = (int)(c->connect_timeout * 1000),
                     .stall_timeout_ms = -1,
                     .buffer_bytes = 16 << 10,
                     .many = l->plan.max_flight + SPARE,
                     .insecure = c->insecure,
                     .stop = l->plan.stop};
    return net_client_new(&l->net, &cfg, e);
}

static Status probe(Load *l, Err *e) {
    if (!l->c->model) load_probe_model(&l->model, l->net, &l->plan);
    if (l->model.n > 0) l->plan.ask.model = sb_str(&l->model);
    if (!l->c->probe || l->prompts.line) return sb_check(&l->model, e);
    TRY(load_probe_tokens(&l->prompts, l->net, &l->plan, e));
    if (l->c->quiet || l->prompts.per_word <= 0) return OK;
    fprintf(stderr, "%s: a word is %.2f tokens, %.0f stand around a prompt\n", sb_str(&l->model),
            l->prompts.per_word, l->prompts.overhead);
    return OK;
}

/* ---- a point ---- */

static void on_now(void *ctx, const LoadNow *n) {
    Load *l = ctx;
    char tail[160];
    cli_bar_update(&l->bar, n->share, 1, cli_load_print_now(tail, n));
}

static void on_one(void *ctx, const LoadOne *o) {
    Load *l = ctx;
    StrBuf b = {0};
    if (!l->log.path) return;
    load_put_one(&b, o, l->seed, l->unix_s + (double)o->plan * 1e-9);
    sb_putc(&b, '\n');
    /* the writer remembers a failure, closing says it */
    if (!b.failed && io_write(&l->log, b.p, b.n, NULL) != OK) l->log.failed = ERR_IO;
    sb_deinit(&b);
}

static Status run_point(Load *l, double x, int look, Err *e) {
    LoadPlan p = l->plan;
    double longer = 1 << look;
    LoadPoint *q = &l->point[l->n_point];
    if (l->sweep.n_list && l->sweep.users) p.users = (int)x;
    else if (l->sweep.n_list) {
        p.users = 0;
        p.arrivals.rate = x;
    }
    p.n_request = (uint64_t)((double)p.n_request * longer);
    p.duration_s *= longer;
    p.seed += (uint64_t)l->n_point * 1000003; /* the same texts again would be in caches */
    l->prompts.seed = l->seed = p.seed;
    if (p.users) snprintf(l->label, sizeof l->label, "%d users", p.users);
    else snprintf(l->label, sizeof l->label, "%.4g/s", p.arrivals.rate);
    cli_bar_init(&l->bar, l->label, NULL, 1, l->c->quiet);
    *q = (LoadPoint){.url = p.url,
                     .route = p.ask.route->name,
                     .model = p.ask.model,
                     .pattern = p.users ? "closed" : l->c->pattern,
                     .rate = p.arrivals.rate,
                     .users = p.users,
                     .slo = p.slo,
                     .slo_text = l->c->slo,
                     .last_look = l->sweep.search && look == EXTENSIONS};
    Status st = load_run(&q->stats, l->net, &p, e);
    cli_bar_finish(&l->bar);
    if (st == OK) l->n_point++;
    return st;
}

static int tell_point(const LoadCmd *c, const LoadPoint *p) {
    StrBuf b = {0};
    if (!c->json) {
        cli_load_print_point(p);
        return cli_flush_stdout();
    }
    load_put_point(&b, p);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

/* A point, again for longer while it is not sure whether it is within the limits: twice and four times as long. */
static Status measure(Load *l, double x, LoadVerdict *v, int *rc, Err *e) {
    LoadShare share;
    for (int i = 0; i <= EXTENSIONS; i++) {
        TRY(run_point(l, x, i, e));
        const LoadPoint *p = &l->point[l->n_point - 1];
        *v = load_verdict(p, &share);
        *rc = tell_point(l->c, p);
        bool unsure = *v == LOAD_WITHIN_UNSURE || *v == LOAD_OVER_UNSURE;
        if (!l->sweep.search || !unsure || *rc != CLI_OK || p->stats->stopped || p->stats->gave_up)
            break;
    }
    return OK;
}

static bool is_cut_short(const Load *l) {
    const LoadStats *s = l->n_point ? l->point[l->n_point - 1].stats : NULL;
    return s && (s->stopped || s->gave_up);
}

static Status run_all(Load *l, int *rc, Err *e) {
    LoadVerdict v;
    if (l->sweep.n_list == 0) return measure(l, 0, &v, rc, e);
    for (double x; (x = load_sweep_next(&l->sweep)) > 0;) {
        TRY(measure(l, x, &v, rc, e));
        if (*rc != CLI_OK || is_cut_short(l)) break;
        load_sweep_told(&l->sweep, x, load_is_within(v));
    }
    return OK;
}

/* ---- the end ---- */

/* The last point at the highest rate that held; -1: none. */
static int best_point(const Load *l) {
    int best = -1;
    for (int i = 0; i < l->n_point; i++) {
        double x = l->sweep.users ? l->point[i].users : l->point[i].rate;
        if (l->sweep.held > 0 && fabs(x - l->sweep.held) < 1e-9 * x) best = i;
    }
    return best;
}

static Status write_report(const Load *l, const char *const *argv, Err *e) {
    StrBuf page = {0};
    IoWriter w = {0};
    int best = best_point(l);
    Status st = load_put_report(&page, l->point, l->n_point, best >= 0 ? best : l->n_point - 1,
                                slice_of(l->plan.url), argv, e);
    if (st == OK) st = io_writer_open(&w, l->c->report, true, e);
    if (st == OK) {
        st = io_write(&w, page.p, page.n, e);
        if (st == OK) st = io_writer_close(&w, e);
        else io_writer_abort(&w);
    }
    sb_deinit(&page);
    return st;
}

static Status tell_settings(const Load *l, Err *e) {
    const LoadCmd *c = l->c;
    char rate[64], length[64], words[64], seed[32];
    if (c->requests) snprintf(rate, sizeof rate, "%lld", (long long)c->requests);
    else snprintf(rate, sizeof rate, "all of %.4g s", c->duration);
    snprintf(length, sizeof length, "%lld of %lld kinds", (long long)c->prefix_tokens,
             (long long)c->prefixes);
    snprintf(words, sizeof words, "%.3g, and %.3g around a prompt",
             l->prompts.per_word > 0 ? l->prompts.per_word : 1, l->prompts.overhead);
    snprintf(seed, sizeof seed, "%lld", (long long)c->seed);
    const char *const rows[] = {"pattern",
                                c->concurrency || l->sweep.users ? "closed loop" : c->pattern,
                                "model",
                                l->plan.ask.model ? l->plan.ask.model : "not named",
                                "requests",
                                rate,
                                "prompts",
                                c->prompts ? c->prompts : c->prompt_tokens,
                                "shared beginnings",
                                length,
                                "tokens of a word",
                                words,
                                "tokens of answers",
                                c->max_tokens,
                                "answers",
                                c->stream ? "streamed" : "whole",
                                "limits",
                                c->slo ? c->slo : "none",
                                "sweep",
                                c->sweep ? c->sweep : "none",
                                "seed",
                                seed,
                                NULL};
    return write_report(l, rows, e);
}

/* A point without an answer is a result of a sweep in which others had some; only the last one can have given up. */
static Status check_answers(const Load *l, Err *e) {
    uint64_t n_ok = 0, n_failed = 0, n_ended = 0;
    for (int i = 0; i < l->n_point; i++) {
        const LoadStats *s = l->point[i].stats;
        n_ok += s->n_ok;
        n_failed += load_stats_failed(s);
        n_ended += s->n_ended;
        if (s->gave_up)
            return err_set(e, ERR_IO, "%.100s: nobody answers any more, after %llu answers",
                           l->plan.url, (unsigned long long)s->n_ok);
    }
    if (n_ok > 0 || n_failed == 0) return OK;
    return err_set(e, ERR_IO, "%.100s: not one of %llu requests was answered", l->plan.url,
                   (unsigned long long)n_ended);
}

static int tell_sweep(const Load *l) {
    StrBuf b = {0};
    int best = best_point(l);
    if (!l->c->json) {
        cli_load_print_sweep(l->point, l->n_point, best);
        return cli_flush_stdout();
    }
    if (!load_slo_any(&l->plan.slo)) return CLI_OK;
    load_put_sweep(&b, best >= 0 ? &l->point[best] : NULL, l->sweep.users, is_cut_short(l));
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static Status finish(Load *l, int *rc, Err *e) {
    if (l->n_point > 0 && l->sweep.n_list && *rc == CLI_OK) *rc = tell_sweep(l);
    if (l->c->report && l->n_point > 0) TRY(tell_settings(l, e));
    return check_answers(l, e);
}

static Status run(Load *l, int *rc, Err *e) {
    l->plan.stop = cli_stop_flag();
    l->plan.on_now = on_now;
    l->plan.on_one = on_one;
    l->plan.ctx = l;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) == 0)
        l->unix_s = (double)now.tv_sec + (double)now.tv_nsec * 1e-9 - clock_now_s();
    TRY(open_net(l, e));
    TRY(probe(l, e));
    if (l->c->log) TRY(io_writer_open(&l->log, l->c->log, false, e));
    TRY(run_all(l, rc, e));
    if (l->log.path) TRY(io_writer_close(&l->log, e));
    return finish(l, rc, e);
}

static void load_deinit(Load *l) {
    io_writer_abort(&l->log);
    net_client_free(l->net);
    load_prompts_deinit(&l->prompts);
    for (int i = 0; i < l->n_point; i++) load_stats_free(l->point[i].stats);
    sb_deinit(&l->url);
    sb_deinit(&l->model);
    sb_deinit(&l->extra);
    sb_deinit(&l->auth);
    mem_free(l);
}

static int load(const LoadCmd *c, const char *url) {
    Err e = {0};
    int rc = CLI_OK;
    Load *l = mem_new(Load);
    if (!l) return cli_fail(&(Err){.code = ERR_NOMEM, .msg = "out of memory"});
    l->c = c;
    Status st = make_plan(l, url, &e);
    if (st == OK) st = run(l, &rc, &e);
    load_deinit(l);
    return st == OK ? rc : cli_fail(&e);
}

int cmd_load(int argc, char **argv) {
    LoadCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &cli_load_spec, &c, argc, argv);
    if (rc < 0) rc = load(&c, a.pos.v[0]);
    cli_args_deinit(&a);
    return rc;
}
