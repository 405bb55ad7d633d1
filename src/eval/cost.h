/* SPDX-License-Identifier: Apache-2.0
 * What serving costs: machines with a price and a measured speed, a load, and from these the machines it takes, the
 * month, and a thousand tokens. Nothing is assumed of speed: a format or an engine that is faster has a higher tok_s,
 * because somebody measured it. Pure functions; any thread. */
#ifndef INGOT_EVAL_COST_H
#define INGOT_EVAL_COST_H

#include "text/json.h"

enum { COST_MAX_MACHINES = 64, COST_NAME = 48 };

typedef struct CostMachine {
    char name[COST_NAME];
    double usd_hour;  /* of one, as long as it is rented */
    double usd_month; /* of one, besides: disks, addresses, monitoring */
    double
        tok_s; /* generated a second in all, with every stream within its latency; 0: not measured */
} CostMachine;

typedef struct CostUse {
    double req_s;        /* while it is busy */
    double tok_req;      /* generated a request */
    double hours;        /* a month is billed with: 730 */
    double busy_hours;   /* of a day; in the others nobody asks */
    bool scale_to_zero;  /* no machine is rented in those others */
    double utilization;  /* share of tok_s that is planned with: the rest is for bursts */
    double cache_hit;    /* share of requests answered without a model */
    double spot_share;   /* of the machines that may be taken away at any time */
    double spot_price;   /* of the usual price */
    double region_price; /* factor */
    int machines;        /* 0: as many as the load takes */
} CostUse;

typedef struct CostPlan {
    double need_tok_s; /* while busy, behind the cache */
    int machines;
    double load; /* share of their tok_s in use while busy; above 1: they are too few */
    double month_usd;
    double req_month, tok_month; /* that clients get, cached ones included */
    double usd_1k_req, usd_1k_tok;
} CostPlan;

/* A month of this load on machines of this kind. ERR_ARG where tok_s is 0 and so is use->machines. */
MUST_CHECK Status cost_plan(CostPlan *out, const CostMachine *m, const CostUse *use, Err *e);
/* A thousand tokens on a machine that is always at tok_s: usd_hour / 3.6 / tok_s. */
double cost_1k_tok(double usd_hour, double tok_s);
/* The tokens a second that a price of a thousand demands. */
double cost_tok_s_for(double usd_hour, double usd_1k_tok);
/* Months until machines that were bought, and cost own_month to run, have cost less than cloud_month each; below 0:
 * never. */
double cost_break_even(double bought, double own_month, double cloud_month);
/* Machines that are known by name, with the prices their deployments were planned with: examples to be replaced. */
extern const CostMachine cost_examples[];
extern const int cost_n_examples;
/* An array of {"name", "usd_per_hour", "usd_per_month", "tok_s"}; the last two may be missing. Returns the number in
 * *n. ERR_FORMAT names the element and what is wrong. */
MUST_CHECK Status cost_read(CostMachine *out, int max, int *n, const Json *list, Err *e);
/* The tokens a second of the highest rate (or most users) that held, of a file of ingot load --json: as its sweep says,
 * else the most of the points, each at its last look, below the lowest that broke. ERR_FORMAT: bad JSON, or none. */
MUST_CHECK Status cost_read_load(double *tok_s, Slice text, Err *e);
void cost_put(JsonW *w, const CostMachine *m);

#endif
