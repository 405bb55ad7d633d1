/* SPDX-License-Identifier: Apache-2.0
 * AdamW, by definition. eps stands outside the root, and the decay is not scaled by the gradient. */
#include <math.h>

#include "kernel/internal.h"

static void adamw(float *p, float *m, float *v, const float *g, size_t n, const AdamwArgs *a) {
    for (size_t i = 0; i < n; i++) {
        float gi = g[i] * a->grad_scale;
        m[i] = a->beta1 * m[i] + (1.0f - a->beta1) * gi;
        v[i] = a->beta2 * v[i] + (1.0f - a->beta2) * gi * gi;
        float step = m[i] * a->c1 / (sqrtf(v[i] * a->c2) + a->eps);
        p[i] -= a->lr * (step + a->weight_decay * p[i]);
    }
}

void kern_ref_optim(Kern *k) { k->adamw = adamw; }
