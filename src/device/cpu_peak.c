/* SPDX-License-Identifier: Apache-2.0
 * What the product core can do when nothing but the core is in the way. */
#include "base/clock.h"
#include "device/internal.h"

enum { PEAK_K = 256, PEAK_REPS = 64 };

static void peak_task(void *ctx, int64_t tile, int worker) {
    (void)tile;
    CpuDevice *d = ctx;
    const GemmCore *c = d->core;
    char *at = d->scratch[worker].p;
    void *a = cpu_take(&at, (size_t)c->mr * PEAK_K * c->elem),
         *b = cpu_take(&at, (size_t)c->nr * PEAK_K * c->elem);
    float *out = cpu_take(&at, (size_t)c->mr * (size_t)c->nr * sizeof(float));
    if (c->enter) c->enter();
    for (int i = 0; i < PEAK_REPS; i++)
        c->tile(out, (size_t)c->nr, a, b, PEAK_K, c->mr, c->nr, false);
    if (c->leave) c->leave();
}

double device_peak_flops(Device *dev) {
    CpuDevice *d = cpu_of(dev);
    int64_t n = 8 * team_size(d->team);
    double best = 0.0, flops = 2.0 * d->core->mr * d->core->nr * PEAK_K * PEAK_REPS * (double)n;
    if (!cpu__reserve(d, cpu__gemm_scratch(d->core))) return 0.0;
    for (int i = 0; i < team_size(d->team); i++)
        memset(d->scratch[i].p, 0, cpu__gemm_scratch(d->core));
    for (double start = clock_now_s(), t = start; t - start < 0.02;) {
        team_run(d->team, n, peak_task, d);
        double now = clock_now_s();
        best = MAX(best, flops / (now - t));
        t = now;
    }
    return best;
}
