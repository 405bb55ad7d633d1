/* SPDX-License-Identifier: Apache-2.0
 * ingot cost: what it costs to serve a load, on machines with a price and a speed that was measured. */
#include <math.h>
#include <stdio.h>

#include "base/io.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "eval/cost.h"

typedef struct CostCmd {
    OptList tok_s, load;
    const char *machines_file;
    double req_s, tok_req, utilization, busy_hours, hours, cache_hit, spot_share, spot_price;
    double region_price, target, bought, own_month;
    int64_t n_machines;
    bool scale_to_zero, json, print_machines;
} CostCmd;

#define AT(field) offsetof(CostCmd, field)
#define SHARE(name, field, value, words)                                                       \
    {                                                                                          \
        .key = name, .type = OPT_FLOAT, .offset = AT(field), .def = value, .min = 0, .max = 1, \
        .help = words                                                                          \
    }
#define AMOUNT(name, field, value, least, most, unit, words)                               \
    {                                                                                      \
        .key = name, .type = OPT_FLOAT, .offset = AT(field), .def = value, .min = (least), \
        .max = (most), .metavar = unit, .help = words                                      \
    }
static const OptSpec opts[] = {
    {.key = "tok_s",
     .type = OPT_LIST,
     .offset = AT(tok_s),
     .metavar = "NAME=N",
     .help = "tokens a second that machine NAME generates with every stream in time, as measured "
             "by ingot load; once for each"},
    {.key = "load",
     .type = OPT_LIST,
     .offset = AT(load),
     .metavar = "NAME=FILE",
     .help = "the same, from a file that ingot load --json wrote: of the highest rate within its "
             "--slo"},
    {.key = "machines",
     .type = OPT_STR,
     .offset = AT(machines_file),
     .metavar = "FILE",
     .help = "your machines and prices instead of the examples (--print-machines shows the form)"},
    {.key = "print_machines",
     .type = OPT_BOOL,
     .offset = AT(print_machines),
     .help = "print the table of machines as JSON, to be edited, and end"},
    AMOUNT("requests", req_s, "10", 1e-6, 1e6, "N", "a second, while there are any"),
    AMOUNT("tokens", tok_req, "100", 1, 1e6, "N", "generated a request"),
    SHARE("utilization", utilization, "0.7", "share of tok_s to plan with, the rest is for bursts"),
    {.key = "replicas",
     .type = OPT_INT,
     .offset = AT(n_machines),
     .def = "0",
     .min = 0,
     .max = 100000,
     .help = "machines; 0: as many as the load takes"},
    AMOUNT("busy_hours", busy_hours, "24", 0.01, 24, "H", "of a day in which requests come"),
    {.key = "scale_to_zero",
     .type = OPT_BOOL,
     .offset = AT(scale_to_zero),
     .help = "machines are given back in the other hours; without it they save nothing"},
    SHARE("cache_hit", cache_hit, "0", "share of requests answered without the model"),
    SHARE("spot_share", spot_share, "0", "share of the machines that may be taken away"),
    SHARE("spot_price", spot_price, "0.3", "their price, as a share of the usual one"),
    AMOUNT("region_price", region_price, "1", 0.1, 10, "X", "factor of the region's prices"),
    AMOUNT("hours", hours, "730", 1, 744, "H", "a month is billed with"),
    AMOUNT("target", target, "0.01", 1e-9, 1e6, "USD", "a thousand tokens should cost at most"),
    AMOUNT("bought", bought, "0", 0, 1e9, "USD",
           "price of machines of one's own that would do instead"),
    AMOUNT("own_month", own_month, "0", 0, 1e9, "USD", "what these cost a month"),
    {.key = "json", .type = OPT_BOOL, .offset = AT(json), .help = "print one JSON object"},
};
#undef AT

static const CliSpec spec = {
    .usage = "ingot cost [--tok-s NAME=N ...] [options]",
    .about =
        "What it costs to serve a load: the machines it takes, the month, a thousand tokens; and\n"
        "the tokens a second each kind of machine must give for a thousand to cost the target.\n"
        "Speed is what was measured, on that machine with that model: nothing is taken off a "
        "price\n"
        "for a smaller format or a faster engine, which show in tok_s. What is saved is applied "
        "in\n"
        "order, each to what is left. The prices of the examples are old: put in yours.\n"
        "\n"
        "example:\n"
        "  ingot load http://127.0.0.1:8000 --sweep rate=1..64 --slo ttft=500ms --json > "
        "load.jsonl\n"
        "  ingot cost --load 2-vcpu=load.jsonl --requests 5 --tokens 50\n"
        "  ingot cost --tok-s 2-vcpu=140\n"
        "  ingot cost --print-machines > mine.json                       # then edit\n"
        "  ingot cost --machines mine.json --busy-hours 10 --scale-to-zero --cache-hit 0.3",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .max_pos = 0,
};

typedef struct Costs {
    const CostCmd *c;
    CostMachine m[COST_MAX_MACHINES];
    int n;
} Costs;

/* ---- machines ---- */

static Status load_machines(Costs *k, Err *e) {
    enum { MOST = 1 << 20 };
    StrBuf text = {0};
    Json *list = NULL;
    if (!k->c->machines_file) {
        memcpy(k->m, cost_examples, (size_t)cost_n_examples * sizeof k->m[0]);
        k->n = cost_n_examples;
        return OK;
    }
    Status st = io_read_file(&text, k->c->machines_file, MOST, e);
    if (st == OK) st = json_parse(&list, (Slice){sb_str(&text), text.n}, e);
    if (st == OK) st = cost_read(k->m, COST_MAX_MACHINES, &k->n, list, e);
    if (st != OK) err_in(e, k->c->machines_file);
    json_free(list);
    sb_deinit(&text);
    return st;
}

/* The machine of "NAME=VALUE", and where the value begins. */
static Status split(CostMachine **m, const char **value, Costs *k, const char *option,
                    const char *word, Err *e) {
    const char *eq = strchr(word, '=');
    if (!eq) return err_set(e, ERR_ARG, "%s \"%.60s\": NAME=VALUE is needed", option, word);
    *value = eq + 1;
    for (int i = 0; i < k->n; i++) {
        *m = &k->m[i];
        if (slice_eq_str((Slice){word, (size_t)(eq - word)}, k->m[i].name)) return OK;
    }
    return err_set(e, ERR_ARG, "%s: no machine is named \"%.*s\" (--print-machines lists them)",
                   option, (int)MIN(eq - word, 60), word);
}

static Status take_speed(Costs *k, const char *word, Err *e) {
    CostMachine *m = NULL;
    const char *text = NULL;
    TRY(split(&m, &text, k, "--tok-s", word, e));
    if (!str_to_f64(&m->tok_s, text) || !(m->tok_s > 0) || m->tok_s > 1e9)
        return err_set(e, ERR_ARG, "--tok-s \"%.60s\": NAME=N is needed, N above 0", word);
    return OK;
}

static Status take_load(Costs *k, const char *word, Err *e) {
    enum { MOST = 64 << 20 };
    CostMachine *m = NULL;
    const char *path = NULL;
    StrBuf text = {0};
    TRY(split(&m, &path, k, "--load", word, e));
    Status st = io_read_file(&text, path, MOST, e);
    if (st == OK) {
        st = cost_read_load(&m->tok_s, (Slice){sb_str(&text), text.n}, e);
        if (st != OK) err_in(e, path);
    }
    sb_deinit(&text);
    return st;
}

static Status prepare(Costs *k, Err *e) {
    TRY(load_machines(k, e));
    for (int i = 0; i < k->c->tok_s.n; i++) TRY(take_speed(k, k->c->tok_s.v[i], e));
    for (int i = 0; i < k->c->load.n; i++) TRY(take_load(k, k->c->load.v[i], e));
    return OK;
}

static CostUse use_of(const CostCmd *c) {
    return (CostUse){.req_s = c->req_s,
                     .tok_req = c->tok_req,
                     .hours = c->hours,
                     .busy_hours = c->busy_hours,
                     .scale_to_zero = c->scale_to_zero,
                     .utilization = fmax(c->utilization, 0.01),
                     .cache_hit = c->cache_hit,
                     .spot_share = c->spot_share,
                     .spot_price = c->spot_price,
                     .region_price = c->region_price,
                     .machines = (int)c->n_machines};
}

static bool can_plan(const Costs *k, const CostMachine *m) {
    return m->tok_s > 0 || k->c->n_machines > 0;
}

/* ---- for people ---- */

static void print_prices(const Costs *k) {
    printf("%-16s %8s %10s %10s %12s\n", "machine", "$/hour", "needs", "measured", "$/1,000 tok");
    for (int i = 0; i < k->n; i++) {
        const CostMachine *m = &k->m[i];
        double price = m->usd_hour * k->c->region_price;
        printf("%-16s %8.3f %10.1f ", m->name, price, cost_tok_s_for(price, k->c->target));
        if (m->tok_s > 0) printf("%10.1f %12.6f\n", m->tok_s, cost_1k_tok(price, m->tok_s));
        else printf("%10s %12s\n", "-", "-");
    }
    printf("needs: tokens a second, all the time, for $%g a thousand\n", k->c->target);
}

/* What each of the ways to save leaves, one after the other. */
static void print_steps(const CostMachine *m, const CostUse *want) {
    static const char *const words[] = {"all day, no cache", "answers from a cache",
                                        "given back when quiet", "machines that may go",
                                        "the region"};
    CostUse use = *want;
    double before = 0;
    use.cache_hit = use.spot_share = 0;
    use.scale_to_zero = false;
    use.region_price = 1;
    for (int i = 0; i < (int)COUNT_OF(words); i++) {
        CostPlan p;
        if (i == 1) use.cache_hit = want->cache_hit;
        if (i == 2) use.scale_to_zero = want->scale_to_zero;
        if (i == 3) use.spot_share = want->spot_share;
        if (i == 4) use.region_price = want->region_price;
        if (cost_plan(&p, m, &use, NULL) != OK) return;
        if (i == 0) printf("  %-24s $%.2f a month\n", words[i], p.month_usd);
        else if (fabs(p.month_usd - before) > 0.005)
            printf("  %-24s $%.2f a month, %+.0f%%\n", words[i], p.month_usd,
                   100 * (p.month_usd / before - 1));
        before = p.month_usd;
    }
}

static void print_own(const CostCmd *c, double month_usd) {
    double months = cost_break_even(c->bought, c->own_month, month_usd);
    if (c->bought <= 0) return;
    if (months < 0)
        printf("  machines of one's own: $%.0f and $%.0f a month never pay\n", c->bought,
               c->own_month);
    else
        printf("  machines of one's own: $%.0f and $%.0f a month have paid after %.1f months\n",
               c->bought, c->own_month, months);
}

static void print_plan(const Costs *k, const CostMachine *m) {
    CostUse use = use_of(k->c);
    CostPlan p;
    if (cost_plan(&p, m, &use, NULL) != OK) return;
    printf("\n%s: %d machine%s for %.0f tokens a second", m->name, p.machines,
           p.machines == 1 ? "" : "s", p.need_tok_s);
    if (m->tok_s > 0) printf(", %.0f%% of what they give", 100 * p.load);
    if (p.load > 1) printf(": TOO FEW");
    printf("\n");
    print_steps(m, &use);
    printf("  $%.2f a month for %.2f million requests: $%.4f a thousand requests, $%.6f a thousand "
           "tokens (%s $%g)\n",
           p.month_usd, p.req_month / 1e6, p.usd_1k_req, p.usd_1k_tok,
           p.usd_1k_tok <= k->c->target ? "within" : "above", k->c->target);
    print_own(k->c, p.month_usd);
}

static int print_text(const Costs *k) {
    bool any = false;
    print_prices(k);
    for (int i = 0; i < k->n; i++) {
        if (!can_plan(k, &k->m[i])) continue;
        print_plan(k, &k->m[i]);
        any = true;
    }
    if (!any)
        printf(
            "\nNothing is known of their speed: measure with ingot load, then --tok-s NAME=N.\n");
    return cli_flush_stdout();
}

/* ---- for programs ---- */

static void put_plan(JsonW *w, const Costs *k, const CostMachine *m) {
    CostUse use = use_of(k->c);
    CostPlan p;
    if (!can_plan(k, m) || cost_plan(&p, m, &use, NULL) != OK) return;
    jw_int(w, "replicas", p.machines);
    jw_num(w, "load", isnan(p.load) ? 0 : p.load);
    jw_num(w, "usd_month", p.month_usd);
    jw_num(w, "requests_month", p.req_month);
    jw_num(w, "tokens_month", p.tok_month);
    jw_num(w, "usd_1k_requests", p.usd_1k_req);
    jw_num(w, "usd_1k_tokens", p.usd_1k_tok);
    jw_bool(w, "within_target", p.usd_1k_tok <= k->c->target);
    if (k->c->bought > 0)
        jw_num(w, "break_even_months", cost_break_even(k->c->bought, k->c->own_month, p.month_usd));
}

static int print_object(const Costs *k) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_num(&w, "target_usd_1k_tokens", k->c->target);
    jw_num(&w, "requests_per_second", k->c->req_s);
    jw_num(&w, "tokens_per_request", k->c->tok_req);
    jw_arr(&w, "machines");
    for (int i = 0; i < k->n; i++) {
        const CostMachine *m = &k->m[i];
        double price = m->usd_hour * k->c->region_price;
        jw_obj(&w, NULL);
        jw_cstr(&w, "name", m->name);
        jw_num(&w, "usd_per_hour", price);
        jw_num(&w, "needed_tok_s", cost_tok_s_for(price, k->c->target));
        if (m->tok_s > 0) jw_num(&w, "tok_s", m->tok_s);
        if (m->tok_s > 0) jw_num(&w, "usd_1k_tokens_at_full_load", cost_1k_tok(price, m->tok_s));
        put_plan(&w, k, m);
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static int print_machines(const Costs *k) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_arr(&w, NULL);
    for (int i = 0; i < k->n; i++) cost_put(&w, &k->m[i]);
    jw_end_arr(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

int cmd_cost(int argc, char **argv) {
    CostCmd c = {0};
    CliArgs a;
    Err e = {0};
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    Costs k = {.c = &c};
    if (rc < 0 && prepare(&k, &e) != OK) rc = cli_fail(&e);
    if (rc < 0 && c.print_machines) rc = print_machines(&k);
    if (rc < 0) rc = c.json ? print_object(&k) : print_text(&k);
    cli_args_deinit(&a);
    return rc;
}
