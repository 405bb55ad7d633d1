/* SPDX-License-Identifier: Apache-2.0
 * Random patterns are one Poisson process of rate 1 seen through another clock: the i-th arrival of it is a sum of
 * exponential gaps, and its time is where the integral of the wanted rate reaches that sum. */
#include "load/arrive.h"

#include <math.h>

#include "base/rng.h"

enum { STREAM = 0x61727276 };

/* Where the integral of the ramp's rate reaches `area`. */
static double ramp_time(const LoadArrivals *a, double area) {
    double slope = (a->rate_end - a->rate) / a->ramp_s;
    double whole = (a->rate + a->rate_end) / 2 * a->ramp_s;
    if (area >= whole) return a->ramp_s + (area - whole) / a->rate_end;
    /* slope/2 t^2 + rate t = area, in the form that is exact for a slope near 0 too */
    return 2 * area / (a->rate + sqrt(fmax(a->rate * a->rate + 2 * slope * area, 0)));
}

double load_arrive_next(LoadArrivals *a) {
    uint64_t i = a->i++;
    if (a->pattern == LOAD_CONSTANT) return (double)i / a->rate;
    if (a->pattern == LOAD_BURST) {
        uint64_t burst = (uint64_t)a->burst;
        return (double)(i / burst * burst) / a->rate;
    }
    a->area -= log(1 - rng_uniform(a->seed, STREAM, i));
    return a->pattern == LOAD_RAMP ? ramp_time(a, a->area) : a->area / a->rate;
}

double load_arrive_end(const LoadArrivals *a, double at) {
    if (a->pattern != LOAD_BURST || a->i == 0) return at;
    uint64_t burst = (uint64_t)a->burst, i = a->i - 1;
    return (double)((i + burst - 1) / burst * burst) / a->rate;
}

double load_arrive_rate(const LoadArrivals *a, double t) {
    if (a->pattern != LOAD_RAMP) return a->rate;
    return a->rate + (a->rate_end - a->rate) * fmin(t / a->ramp_s, 1);
}
