/* SPDX-License-Identifier: Apache-2.0
 * AdamW (Loshchilov & Hutter 2019). The update itself is the kernel table's adamw; here are its step size,
 * the clipping factor and which parameters decay. */
#include "train/optim.h"

#include <math.h>

#include "base/mem.h"

double lr_at(const LrSchedule *s, int64_t step) {
    if (step < s->warmup) return s->lr * (double)(step + 1) / (double)(s->warmup + 1);
    if (s->kind == LR_CONSTANT) return s->lr;
    if (step > s->decay) return s->min_lr;
    int64_t span = s->decay - s->warmup;
    double done = span > 0 ? (double)(step - s->warmup) / (double)span : 1.0;
    double share =
        s->kind == LR_COSINE ? 0.5 * (1.0 + cos(3.14159265358979323846 * done)) : 1.0 - done;
    return s->min_lr + share * (s->lr - s->min_lr);
}

struct Optim {
    Model *m; /* borrowed */
    AdamwOpts o;
    Buf *moment[2]; /* owned */
};

void adamw_free(Optim *o) {
    if (!o) return;
    for (int i = 0; i < 2; i++) o->m->dev->ops->buf_free(o->m->dev, o->moment[i]);
    mem_free(o);
}

Status adamw_new(Optim **out, Model *m, const AdamwOpts *opts, Err *e) {
    Optim *o = mem_new(Optim);
    if (!o) return err_set(e, ERR_NOMEM, "optimizer: out of memory");
    o->m = m;
    o->o = *opts;
    for (int i = 0; i < 2; i++)
        o->moment[i] = m->dev->ops->buf_new(m->dev, m->n_flat * sizeof(float));
    if (!o->moment[0] || !o->moment[1]) {
        adamw_free(o);
        return err_set(e, ERR_NOMEM, "optimizer moments of %zu parameters: out of memory",
                       m->n_flat);
    }
    *out = o;
    return OK;
}

BufAt adamw_m(const Optim *o) { return buf_at(o->moment[0], 0); }
BufAt adamw_v(const Optim *o) { return buf_at(o->moment[1], 0); }

Status adamw_step(Optim *o, BufAt grads, double lr, int64_t t, double *grad_norm, Err *e) {
    Model *m = o->m;
    double norm = sqrt(m->dev->ops->sum_sq(m->dev, grads, m->n_flat)), scale = 1.0;
    if (!isfinite(norm))
        return err_set(e, ERR_INTERNAL,
                       "gradient norm is %g: lower learning_rate or check the data", norm);
    if (o->o.clip > 0.0) scale = fmin(1.0, o->o.clip / (norm + 1e-6));
    for (int i = 0; i < m->n_params; i++) {
        const Param *p = &m->params[i];
        m->dev->ops->adamw(m->dev,
                           &(AdamwStep){.p = buf_at(m->flat, p->off),
                                        .m = buf_add(adamw_m(o), p->off),
                                        .v = buf_add(adamw_v(o), p->off),
                                        .g = buf_add(grads, p->off),
                                        .n = param_n(p),
                                        .lr = (float)lr,
                                        .beta1 = (float)o->o.beta1,
                                        .beta2 = (float)o->o.beta2,
                                        .eps = (float)o->o.eps,
                                        .weight_decay =
                                            p->n_dims >= 2 ? (float)o->o.weight_decay : 0.0f,
                                        .grad_scale = (float)scale,
                                        .t = t});
    }
    *grad_norm = norm;
    return m->dev->ops->sync(m->dev, e);
}
