/* SPDX-License-Identifier: Apache-2.0
 * The arithmetic of cost.h. */
#include "eval/cost.h"

#include <math.h>
#include <stdio.h>

const CostMachine cost_examples[] = {
    {.name = "2-vcpu", .usd_hour = 0.10}, {.name = "4-vcpu", .usd_hour = 0.19},
    {.name = "t4", .usd_hour = 0.35},     {.name = "a10", .usd_hour = 1.28},
    {.name = "a100", .usd_hour = 3.67},
};
const int cost_n_examples = COUNT_OF(cost_examples);

double cost_1k_tok(double usd_hour, double tok_s) { return usd_hour / 3.6 / tok_s; }

double cost_tok_s_for(double usd_hour, double usd_1k_tok) { return usd_hour / 3.6 / usd_1k_tok; }

double cost_break_even(double bought, double own_month, double cloud_month) {
    return cloud_month > own_month ? bought / (cloud_month - own_month) : -1;
}

Status cost_plan(CostPlan *out, const CostMachine *m, const CostUse *use, Err *e) {
    double busy = use->hours * use->busy_hours / 24;
    double rented = use->scale_to_zero ? busy : use->hours;
    double price = use->region_price * (1 - use->spot_share * (1 - use->spot_price));
    CostPlan p = {.need_tok_s = use->req_s * use->tok_req * (1 - use->cache_hit),
                  .machines = use->machines};
    if (use->machines == 0 && m->tok_s <= 0)
        return err_set(e, ERR_ARG, "%s: its tokens a second are not known", m->name);
    if (use->machines == 0)
        p.machines = (int)fmin(fmax(ceil(p.need_tok_s / (m->tok_s * use->utilization)), 1), 1e6);
    p.load = m->tok_s > 0 ? p.need_tok_s / (m->tok_s * p.machines) : (double)NAN;
    p.month_usd = p.machines * (m->usd_hour * rented * price + m->usd_month);
    p.req_month = use->req_s * 3600 * busy;
    p.tok_month = p.req_month * use->tok_req;
    p.usd_1k_req = p.month_usd / p.req_month * 1000;
    p.usd_1k_tok = p.month_usd / p.tok_month * 1000;
    *out = p;
    return OK;
}

/* ---- tables of machines ---- */

static Status read_num(double *v, const Json *j, const char *key, size_t at, Err *e) {
    enum { MOST = 1000000000 };
    Status st = json_opt_num(v, j, key, 0, MOST, e);
    if (st == OK) return OK;
    char where[32];
    snprintf(where, sizeof where, "machine %zu", at);
    err_in(e, where);
    return ERR_FORMAT;
}

static Status read_one(CostMachine *m, const Json *j, size_t at, Err *e) {
    Slice name = json_str(json_get(j, "name"));
    if (name.n == 0 || name.n >= COST_NAME)
        return err_set(e, ERR_FORMAT, "machine %zu: a name of 1 to %d bytes is needed", at,
                       COST_NAME - 1);
    *m = (CostMachine){.usd_hour = -1};
    snprintf(m->name, sizeof m->name, "%.*s", (int)name.n, name.p);
    TRY(read_num(&m->usd_hour, j, "usd_per_hour", at, e));
    TRY(read_num(&m->usd_month, j, "usd_per_month", at, e));
    TRY(read_num(&m->tok_s, j, "tok_s", at, e));
    if (m->usd_hour < 0) return err_set(e, ERR_FORMAT, "machine %zu: usd_per_hour is missing", at);
    return OK;
}

Status cost_read(CostMachine *out, int max, int *n, const Json *list, Err *e) {
    size_t len = json_len(list);
    if (!json_is_array(list) || len == 0)
        return err_set(e, ERR_FORMAT, "a list of machines is needed");
    if (len > (size_t)max) return err_set(e, ERR_FORMAT, "%zu machines, the limit is %d", len, max);
    for (size_t i = 0; i < len; i++) TRY(read_one(&out[i], json_at(list, i), i, e));
    *n = (int)len;
    return OK;
}

void cost_put(JsonW *w, const CostMachine *m) {
    jw_obj(w, NULL);
    jw_cstr(w, "name", m->name);
    jw_num(w, "usd_per_hour", m->usd_hour);
    jw_num(w, "usd_per_month", m->usd_month);
    jw_num(w, "tok_s", m->tok_s);
    jw_end_obj(w);
}
