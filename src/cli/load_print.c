/* SPDX-License-Identifier: Apache-2.0
 * ingot load: what is printed for people. */
#include <stdio.h>

#include "cli/load.h"

static double ms(uint64_t ns) { return (double)ns * 1e-6; }

/* Four digits that count, never in powers of ten. */
static const char *number(char buf[32], double v) {
    int digits = v < 1 ? 3 : v < 100 ? 2 : v < 1000 ? 1 : 0;
    if (v >= 10000) return cli_commas(buf, (uint64_t)(v + 0.5));
    snprintf(buf, 32, "%.*f", digits, v);
    return buf;
}

const char *cli_load_print_now(char buf[160], const LoadNow *n) {
    const LoadHist *h = &n->stats->time[LOAD_TTFT];
    const char *what = "TTFT";
    if (h->n == 0) {
        h = &n->stats->time[LOAD_E2E];
        what = "e2e";
    }
    snprintf(buf, 160, "%.1f/s  %d under way  %llu failed  %s p99 %.0f ms%s", n->rate, n->flight,
             (unsigned long long)n->n_failed, what, ms(load_hist_at(h, 0.99)),
             n->n_late ? "  LATE" : "");
    return buf;
}

static void print_times(const LoadStats *s) {
    static const char *const names[LOAD_LAG] = {"first token (TTFT)", "between tokens (ITL)",
                                                "per token (TPOT)", "whole answer (e2e)"};
    char buf[32];
    bool few = false;
    char head[64] = "milliseconds"; /* with failures it is said whose they are */
    if (load_stats_failed(s) > 0)
        snprintf(head, sizeof head, "milliseconds, of %s answered", cli_commas(buf, s->n_ok));
    printf("  %-24s%*s", head, MAX(33 - MAX((int)strlen(head), 24), 5), "mean");
    for (int k = 0; k < LOAD_QUANTILES; k++) printf("%10s", load_quantile_names[k]);
    printf("%10s\n", "max");
    for (int i = 0; i < LOAD_LAG; i++) {
        const LoadHist *h = &s->time[i];
        if (h->n == 0) continue;
        printf("  %-24s%9s", names[i], number(buf, load_hist_mean(h) * 1e-6));
        for (int k = 0; k < LOAD_QUANTILES; k++) {
            bool is_few = load_few(h, load_quantiles[k]);
            few = few || is_few;
            printf("%9s%c", number(buf, ms(load_hist_at(h, load_quantiles[k]))),
                   is_few ? '*' : ' ');
        }
        printf("%9s\n", number(buf, ms(h->max)));
    }
    if (few) puts("  * too few requests for that quantile: the greatest");
}

static void print_rates(const LoadPoint *p) {
    const LoadStats *s = p->stats;
    double elapsed = load_stats_elapsed(s);
    char buf[4][32];
    LoadShare sh;
    LoadVerdict v = load_verdict(p, &sh);
    if (elapsed > 0)
        printf("  throughput              %s answers/s, %s tokens/s (%s)%s%s\n",
               number(buf[0], (double)s->n_ok / elapsed),
               number(buf[1], (double)s->n_out / elapsed),
               s->counted ? "the server's count" : "pieces of text, the server does not count",
               s->prompt_counted && s->n_ok ? ", prompts of " : "",
               s->prompt_counted && s->n_ok ? number(buf[2], (double)s->n_prompt / (double)s->n_ok)
                                            : "");
    if (load_stats_full_tok_s(s) > 0)
        printf("  all users asking        %s tokens/s, for %s s\n",
               number(buf[0], load_stats_full_tok_s(s)), number(buf[1], s->full_s));
    if (v == LOAD_NO_SLO) return;
    printf("  goodput                 %s requests/s within %s: %.2f%% (95%%: %.2f to %.2f), %g%% "
           "wanted: %s\n",
           number(buf[3], load_stats_goodput(s)), p->slo_text, sh.share * 100, sh.lo * 100,
           sh.hi * 100, p->slo.share * 100, load_verdict_words(v));
}

static void print_errors(const LoadStats *s) {
    char buf[32];
    for (int i = LOAD_OK + 1; i < LOAD_ENDS; i++) {
        if (s->fail[i].n == 0) continue;
        printf("  %-24s%s", load_end_words((LoadEnd)i), cli_commas(buf, s->fail[i].n));
        if (i != LOAD_STOPPED) printf(", such as: %s", s->fail[i].example);
        putchar('\n');
    }
}

static void print_generator(const LoadPoint *p) {
    const LoadStats *s = p->stats;
    const LoadHist *lag = &s->time[LOAD_LAG];
    printf(
        "  generator               sent up to %.2f ms late (p99 %.2f ms), busy %.0f%%, at most %d "
        "under way\n",
        ms(lag->max), ms(load_hist_at(lag, 0.99)), s->busy * 100, s->flight_max);
    if (s->n_late > 0)
        printf("  ATTENTION               %llu requests were sent over 10 ms late%s; their times "
               "count "
               "from when they were meant to start\n",
               (unsigned long long)s->n_late,
               s->n_held ? ", most for want of a place (--max-in-flight)" : "");
    if (s->busy > 0.85)
        puts("  ATTENTION               the generator itself is at its limit: the server may be "
             "faster than this says");
    if (!p->users && load_is_growing(s))
        puts("  ATTENTION               requests pile up: a longer run would show longer times");
    if (s->gave_up) puts("  ATTENTION               given up: nobody answers any more");
    if (s->stopped) puts("  ATTENTION               stopped before the end");
}

void cli_load_print_point(const LoadPoint *p) {
    const LoadStats *s = p->stats;
    char buf[4][32];
    if (p->users)
        printf("%d users, one request at a time each (closed loop: while the server is slow, fewer "
               "are "
               "sent)\n",
               p->users);
    else printf("%s, %s requests/s\n", p->pattern, number(buf[3], p->rate));
    printf("  requests                %s sent in %.1f s (%s/s), %s answered, %s failed",
           cli_commas(buf[0], s->n_sent), s->window_s,
           number(buf[3], (double)s->n_sent / (s->window_s > 0 ? s->window_s : 1)),
           cli_commas(buf[1], s->n_ok), cli_commas(buf[2], load_stats_failed(s)));
    if (s->n_warmup) printf(", after %llu to warm up", (unsigned long long)s->n_warmup);
    putchar('\n');
    print_times(s);
    print_rates(p);
    print_errors(s);
    print_generator(p);
}

void cli_load_print_sweep(const LoadPoint *p, int n, int best) {
    char buf[8][32];
    printf("\n  %12s%10s%8s%11s%11s%11s%11s%11s%9s\n", p->users ? "users" : "requests/s",
           "answered", "failed", "TTFT p50", "TTFT p99", "TPOT p99", "e2e p99", "tokens/s",
           "within");
    for (int i = 0; i < n; i++) {
        const LoadStats *s = p[i].stats;
        LoadShare sh;
        LoadVerdict v = load_verdict(&p[i], &sh);
        double elapsed = load_stats_elapsed(s);
        printf("%c %12s%10s%8s%11s%11s%11s%11s%11s", i == best ? '>' : ' ',
               number(buf[0], p->users ? p[i].users : p[i].rate), cli_commas(buf[1], s->n_ok),
               cli_commas(buf[2], load_stats_failed(s)),
               number(buf[3], ms(load_hist_at(&s->time[LOAD_TTFT], 0.5))),
               number(buf[4], ms(load_hist_at(&s->time[LOAD_TTFT], 0.99))),
               number(buf[5], ms(load_hist_at(&s->time[LOAD_TPOT], 0.99))),
               number(buf[6], ms(load_hist_at(&s->time[LOAD_E2E], 0.99))),
               number(buf[7], elapsed > 0 ? (double)s->n_out / elapsed : 0));
        if (v == LOAD_NO_SLO) putchar('\n');
        else
            printf("%8.1f%%  %s%s\n", sh.share * 100, load_verdict_words(v),
                   v != LOAD_PILES_UP && load_is_piling(&p[i]) ? ", requests pile up" : "");
    }
    if (!load_slo_any(&p->slo)) return;
    if (best < 0) {
        puts("no rate that was tried is within the limits");
        return;
    }
    LoadShare sh;
    LoadVerdict v = load_verdict(&p[best], &sh);
    printf("%s within %s for %g%%: %s%s (%.2f%% were, 95%%: %.2f to %.2f)\n",
           p->users ? "most users" : "highest rate", p->slo_text, p->slo.share * 100,
           number(buf[0], p->users ? p[best].users : p[best].rate),
           v == LOAD_WITHIN ? "" : ", not surely", sh.share * 100, sh.lo * 100, sh.hi * 100);
}
