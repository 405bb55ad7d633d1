/* SPDX-License-Identifier: Apache-2.0
 * Softmax of one row and the loss on it, by definition. The largest element is subtracted first, so that
 * no exponential overflows. */
#include <math.h>

#include "kernel/internal.h"

static float row_max(const float *x, int n) {
    float max = x[0];
    for (int i = 1; i < n; i++) max = fmaxf(max, x[i]);
    return max;
}

static float softmax(float *x, int n, float scale) {
    double s = (double)scale, sum = 0;
    /* a negative scale turns the smallest element into the largest */
    double max = -HUGE_VAL;
    for (int i = 0; i < n; i++) max = fmax(max, s * (double)x[i]);
    for (int i = 0; i < n; i++) {
        double e = exp(s * (double)x[i] - max);
        sum += e;
        x[i] = (float)e;
    }
    for (int i = 0; i < n; i++) x[i] = (float)((double)x[i] / sum);
    return (float)(max + log(sum));
}

static void exp_shift(float *x, int n, float scale, float lse) {
    for (int i = 0; i < n; i++) x[i] = expf((float)((double)scale * (double)x[i] - (double)lse));
}

static void softmax_bwd(float *dp, const float *p, float d, float scale, int n) {
    for (int i = 0; i < n; i++) dp[i] = p[i] * (dp[i] - d) * scale;
}

static float xent(float *x, int n, int target, float scale) {
    float max = row_max(x, n), at_target = x[target];
    double sum = 0;
    for (int i = 0; i < n; i++) sum += exp((double)x[i] - (double)max);
    for (int i = 0; i < n; i++) {
        double p = exp((double)x[i] - (double)max) / sum, one = i == target ? 1.0 : 0.0;
        x[i] = (float)((p - one) * (double)scale);
    }
    return (float)(log(sum) - ((double)at_target - (double)max));
}

void kern_ref_softmax(Kern *k) {
    k->softmax = softmax;
    k->exp_shift = exp_shift;
    k->softmax_bwd = softmax_bwd;
    k->xent = xent;
}
