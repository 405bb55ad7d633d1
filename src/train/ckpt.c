/* SPDX-License-Identifier: Apache-2.0
 * Checkpoints are GGUF files: the architecture's keys, ingot.run.* (state), ingot.key.* (configuration) and
 * three flat tensors of n_flat floats, laid out as model_params orders them:
 *   ingot.weights  ingot.adam.m  ingot.adam.v
 * Written beside the old one and renamed over it, so that a crash leaves one of the two whole. */
#include <math.h>
#include <stdio.h>

#include "train/internal.h"

static const char *const flat_names[] = {"ingot.weights", "ingot.adam.m", "ingot.adam.v"};

static BufAt flat_part(const Model *m, const Optim *o, int i) {
    return i == 0 ? buf_at(m->flat, 0) : i == 1 ? adamw_m(o) : adamw_v(o);
}

enum { PIECE = 1 << 18 }; /* floats moved at a time */

static void put_state(GgufW *w, const RunState *s) {
    gguf_w_u64(w, "ingot.run.iter", (uint64_t)s->iter);
    gguf_w_u64(w, "ingot.run.max_iters", (uint64_t)s->max_iters);
    gguf_w_u64(w, "ingot.run.best_iter", (uint64_t)s->best_iter);
    gguf_w_u64(w, "ingot.run.n_bad_evals", (uint64_t)s->n_bad_evals);
    gguf_w_bool(w, "ingot.run.has_best", isfinite(s->best_val));
    gguf_w_f64(w, "ingot.run.best_val", isfinite(s->best_val) ? s->best_val : 0.0);
    gguf_w_f64(w, "ingot.run.loss_sum", s->loss_sum);
    gguf_w_u64(w, "ingot.run.loss_count", (uint64_t)s->loss_count);
    gguf_w_u64(w, "ingot.run.metrics_bytes", s->metrics_bytes);
}

static Status put_keys(GgufW *w, const OptSet *opts, StrBuf *b, Err *e) {
    int n;
    const OptSpec *o = train_options(&n);
    for (int i = 0; i < n; i++) {
        char key[96];
        if (train__key_is_free(o[i].key)) continue;
        sb_clear(b);
        opt_format(opts, o[i].key, b);
        TRY(sb_check(b, e)); /* now: clearing forgets a failure */
        snprintf(key, sizeof key, "ingot.key.%s", o[i].key);
        gguf_w_str(w, key, (Slice){sb_str(b), b->n});
    }
    return OK;
}

/* The order of the parameters in the flat tensors, so that a file of another order is refused. */
static Status put_layout(GgufW *w, const Model *m, Err *e) {
    Slice *names = mem_new_n(Slice, (size_t)m->n_params);
    if (!names) return err_set(e, ERR_NOMEM, "checkpoint: out of memory");
    for (int i = 0; i < m->n_params; i++) names[i] = slice_of(m->params[i].name);
    gguf_w_arr_str(w, "ingot.params", names, (size_t)m->n_params);
    mem_free(names);
    return OK;
}

static Status check_layout(const Gguf *g, const Model *m, Err *e) {
    const GgufKv *kv;
    size_t pos = 0;
    Slice name;
    TRY(gguf_get_arr(&kv, g, "ingot.params", GGUF_STR, e));
    for (int i = 0; i < m->n_params; i++)
        if (!gguf_arr_next_str(kv, &pos, &name) || !slice_eq_str(name, m->params[i].name))
            return err_set(e, ERR_FORMAT,
                           "ingot.params[%d] is not \"%s\": another order of parameters", i,
                           m->params[i].name);
    return OK;
}

static Status put_flat(GgufW *w, const Model *m, const Optim *o, float *tmp, Err *e) {
    for (int i = 0; i < 3; i++) {
        BufAt part = flat_part(m, o, i);
        for (size_t at = 0; at < m->n_flat; at += PIECE) {
            size_t n = MIN((size_t)PIECE, m->n_flat - at);
            m->dev->ops->download(m->dev, tmp, buf_add(part, at), n * sizeof(float));
            TRY(gguf_w_data(w, tmp, n * sizeof(float), e));
        }
    }
    if (m->rope_factor)
        TRY(gguf_w_data(w, m->rope_factor, (size_t)m->cfg.n_rot * sizeof(float), e));
    return gguf_w_end(w, e);
}

Status ckpt_save(const char *path, const Model *m, const Optim *o, const RunState *s,
                 const OptSet *opts, Err *e) {
    GgufW *w;
    TRY(gguf_w_new(&w, path, GGUF_DEFAULT_ALIGNMENT, true, e));
    StrBuf b = {0};
    float *tmp = mem_new_n(float, PIECE);
    gguf_w_str(w, "general.type", slice_of("checkpoint"));
    model_write_config(&m->cfg, w);
    put_state(w, s);
    Status st = put_keys(w, opts, &b, e);
    gguf_w_bool(w, "ingot.tied", m->cfg.tied);
    if (m->cfg.more) gguf_w_u32(w, "ingot.parts", (uint32_t)m->cfg.more);
    uint64_t ne[1] = {m->n_flat};
    for (int i = 0; i < 3; i++) gguf_w_tensor(w, slice_of(flat_names[i]), DT_F32, 1, ne);
    if (m->rope_factor) {
        ne[0] = (uint64_t)m->cfg.n_rot;
        gguf_w_tensor(w, slice_of("rope_freqs.weight"), DT_F32, 1, ne);
    }
    if (st == OK && !tmp) st = err_set(e, ERR_NOMEM, "checkpoint: out of memory");
    if (st == OK) st = put_layout(w, m, e);
    if (st == OK) st = gguf_w_begin(w, e);
    if (st == OK) st = put_flat(w, m, o, tmp, e);
    mem_free(tmp);
    sb_deinit(&b);
    gguf_w_free(w);
    return st;
}

/* ---- reading ---- */

#define MAX_STEPS INT64_C(1000000000000) /* as in the option table: sums with it do not overflow */

static Status get_count(int64_t *out, const Gguf *g, const char *key, int64_t max, Err *e) {
    return gguf_get_int(out, g, key, 0, max, e);
}

static Status get_state(RunState *s, const Gguf *g, Err *e) {
    int64_t bytes;
    bool has_best;
    TRY(get_count(&s->max_iters, g, "ingot.run.max_iters", MAX_STEPS, e));
    TRY(get_count(&s->iter, g, "ingot.run.iter", s->max_iters, e));
    TRY(get_count(&s->best_iter, g, "ingot.run.best_iter", s->iter, e));
    TRY(get_count(&s->n_bad_evals, g, "ingot.run.n_bad_evals", s->iter, e));
    TRY(get_count(&s->loss_count, g, "ingot.run.loss_count", s->iter, e));
    TRY(get_count(&bytes, g, "ingot.run.metrics_bytes", INT64_MAX, e));
    TRY(gguf_get_bool(&has_best, g, "ingot.run.has_best", e));
    TRY(gguf_get_float(&s->best_val, g, "ingot.run.best_val", -1e300, 1e300, e));
    TRY(gguf_get_float(&s->loss_sum, g, "ingot.run.loss_sum", -1e300, 1e300, e));
    if (!has_best) s->best_val = (double)INFINITY;
    s->metrics_bytes = (uint64_t)bytes;
    return OK;
}

static Status check_keys(const Gguf *g, const OptSet *opts, StrBuf *b, Err *e) {
    int n;
    const OptSpec *o = train_options(&n);
    for (int i = 0; i < n; i++) {
        char key[96];
        Slice was = {0};
        if (train__key_is_free(o[i].key)) continue;
        sb_clear(b);
        opt_format(opts, o[i].key, b);
        TRY(sb_check(b, e));
        snprintf(key, sizeof key, "ingot.key.%s", o[i].key);
        TRY(gguf_get_str(&was, g, key, e));
        if (!slice_eq(was, (Slice){sb_str(b), b->n}))
            return err_set(e, ERR_ARG, "%s is \"%s\" but the checkpoint was made with \"%.*s\"",
                           o[i].key, sb_str(b), (int)MIN(was.n, (size_t)64), was.p);
    }
    return OK;
}

static Status get_flat(const Gguf *g, Model *m, Optim *o, Err *e) {
    const GgufTensor *t[3];
    for (int i = 0; i < 3; i++) {
        t[i] = gguf_find_tensor(g, flat_names[i]);
        if (!t[i]) return err_set(e, ERR_FORMAT, "tensor \"%s\" is missing", flat_names[i]);
        if (t[i]->type != DT_F32 || t[i]->n_elem != m->n_flat)
            return err_set(e, ERR_FORMAT, "tensor \"%s\" has %llu elements of %s, want %zu of f32",
                           flat_names[i], (unsigned long long)t[i]->n_elem, dtype_name(t[i]->type),
                           m->n_flat);
    }
    for (int i = 0; i < 3; i++)
        m->dev->ops->upload(m->dev, flat_part(m, o, i), t[i]->data, (size_t)t[i]->n_bytes);
    return OK;
}

Status ckpt_load(const char *path, Model *m, Optim *o, RunState *s, const OptSet *opts, Err *e) {
    Gguf *g;
    TRY(gguf_open(&g, path, e));
    StrBuf b = {0};
    RunState got = {0};
    Status st = get_state(&got, g, e);
    if (st == OK) st = check_keys(g, opts, &b, e);
    if (st == OK) st = check_layout(g, m, e);
    if (st == OK) st = get_flat(g, m, o, e);
    if (st == OK) st = model_copy_rope(m, g, e);
    if (st == OK) *s = got;
    if (st != OK) err_in(e, path);
    sb_deinit(&b);
    gguf_close(g);
    return st;
}

Status ckpt_read_config(const char *path, ModelConfig *c, Err *e) {
    Gguf *g;
    TRY(gguf_open(&g, path, e));
    Status st = model_read_config(c, g, e);
    if (st == OK) st = gguf_get_bool(&c->tied, g, "ingot.tied", e);
    int64_t more = 0; /* a checkpoint has no tensors to tell */
    if (st == OK) st = gguf_opt_int(&more, g, "ingot.parts", 0, PART_ALL, e);
    if (st == OK) c->more = (int)more & c->arch->may;
    if (st != OK) err_in(e, path);
    gguf_close(g);
    return st;
}
