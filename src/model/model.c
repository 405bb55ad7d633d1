/* SPDX-License-Identifier: Apache-2.0
 * A model's life: load from GGUF or make anew, bind parameters to the places the forward pass reads,
 * initialise, copy, save, free. */
#include <math.h>

#include "base/rng.h"
#include "model/internal.h"

void model_free(Model *m) {
    if (!m) return;
    model__work_free(m->dev, m->work);
    lora__work_free(m->dev, m->lora);
    model__unpack(m);
    m->dev->ops->buf_free(m->dev, m->map);
    m->dev->ops->buf_free(m->dev, m->flat);
    gguf_close(m->file);
    mem_free(m->params);
    mem_free(m->layer);
    mem_free(m->rope_factor);
    mem_free(m->rope_freq);
    mem_free(m);
}

/* ---- binding ---- */

static BufAt place_1d(Weight w) { return buf_at(w.buf, w.off_bytes / sizeof(float)); }

static void bind_layer(LayerWeights *l, ParamRole role, Weight w) {
    switch (role) {
    case P_ATTN_NORM: l->attn_norm = place_1d(w); break;
    case P_ATTN_NORM_B: l->attn_norm_b = place_1d(w); break;
    case P_QKV:
    case P_Q:
    case P_K:
    case P_V: l->qkv.part[l->qkv.n++].w = w; break;
    case P_QKV_B:
    case P_Q_B: l->qkv.part[0].bias = place_1d(w); break;
    case P_K_B: l->qkv.part[1].bias = place_1d(w); break;
    case P_V_B: l->qkv.part[2].bias = place_1d(w); break;
    case P_Q_NORM: l->q_norm = place_1d(w); break;
    case P_K_NORM: l->k_norm = place_1d(w); break;
    case P_ATTN_OUT: l->attn_out.w = w; break;
    case P_ATTN_OUT_B: l->attn_out.bias = place_1d(w); break;
    case P_FFN_NORM: l->ffn_norm = place_1d(w); break;
    case P_FFN_NORM_B: l->ffn_norm_b = place_1d(w); break;
    case P_GATE:
    case P_UP: l->up.part[l->up.n++].w = w; break;
    case P_GATE_B: l->up.part[0].bias = place_1d(w); break;
    case P_UP_B: l->up.part[l->up.n - 1].bias = place_1d(w); break;
    case P_DOWN: l->down.w = w; break;
    case P_DOWN_B: l->down.bias = place_1d(w); break;
    default: break;
    }
}

static void bind_global(Model *m, ParamRole role, Weight w) {
    switch (role) {
    case P_TOK_EMBD: m->tok_embd = w; break;
    case P_POS_EMBD: m->pos_embd = w; break;
    case P_OUT_NORM: m->out_norm = place_1d(w); break;
    case P_OUT_NORM_B: m->out_norm_b = place_1d(w); break;
    case P_OUTPUT: m->output = w; break;
    default: break;
    }
}

/* b's rows follow a's in memory, and so does its bias, if they have one. */
static bool follows(const Linear *a, const Linear *b) {
    size_t end = a->w.off_bytes + dtype_bytes(a->w.type, (size_t)a->w.rows * (size_t)a->w.cols);
    if (a->w.buf != b->w.buf || a->w.type != b->w.type || a->w.cols != b->w.cols ||
        b->w.off_bytes != end || a->bias.buf != b->bias.buf)
        return false;
    return !a->bias.buf || b->bias.off == a->bias.off + (size_t)a->w.rows;
}

/* Layers that follow each other in memory are one matrix: one product instead of two or three. Always so in a
 * trainable model (see model_params), seldom in a file, where other tensors lie between. */
static void join_group(LinearGroup *g) {
    while (g->n > 1 && follows(&g->part[0], &g->part[1])) {
        g->part[0].w.rows += g->part[1].w.rows;
        g->part[1] = g->part[2];
        g->n--;
    }
}

/* Share of a pair's own angle in YaRN's mixture: 1 for the fast pairs, 0 for the slow ones. In floats, as the
 * ends of the ramp are whole pairs and a rounding more would move one. */
static float yarn_share(const ModelConfig *c, int pair) {
    const float beta[2] = {c->yarn.beta_fast, c->yarn.beta_slow};
    float end[2], dims = 2.0f * (float)c->n_rot;
    for (int i = 0; i < 2; i++)
        end[i] = dims * logf((float)c->yarn.ctx / (beta[i] * 2.0f * 3.14159265358979f)) /
                 (2.0f * logf(c->rope_base));
    float low = MAX(0.0f, floorf(end[0])), high = MIN(dims - 1.0f, ceilf(end[1]));
    float y = ((float)pair - low) / MAX(0.001f, high - low);
    return 1.0f - MIN(1.0f, MAX(0.0f, y));
}

static double yarn_magnitude(double scale, double mul) {
    return scale <= 1.0 ? 1.0 : 1.0 + 0.1 * mul * log(scale);
}

static float rope_gain(const ModelConfig *c) {
    double gain = c->rope_attn != 0.0f ? (double)c->rope_attn : 1.0, scale = (double)c->rope_scale;
    if (c->yarn.ctx == 0) return (float)gain;
    gain *= yarn_magnitude(scale, 1.0);
    if (c->yarn.log_mul != 0.0f) gain /= yarn_magnitude(scale, (double)c->yarn.log_mul);
    return (float)gain;
}

/* Angle per position of each rotated pair. */
static Status rope_angles(Model *m, Err *e) {
    const ModelConfig *c = &m->cfg;
    if (c->arch->pos != POS_ROPE) return OK;
    if (!m->rope_freq) m->rope_freq = mem_new_n(float, (size_t)c->n_rot);
    if (!m->rope_freq) return err_set(e, ERR_NOMEM, "model: out of memory");
    for (int i = 0; i < c->n_rot; i++) {
        double f = pow((double)c->rope_base, -(double)i / c->n_rot);
        double own = c->yarn.ctx > 0 ? (double)yarn_share(c, i) : 0.0;
        if (m->rope_factor) f /= (double)m->rope_factor[i];
        m->rope_freq[i] = (float)(f * own + f * (1.0 - own) / (double)c->rope_scale);
    }
    m->rope_gain = rope_gain(c);
    return OK;
}

Status model__bind(Model *m, ModelBind bind, Err *e) {
    m->layer = mem_new_n(LayerWeights, (size_t)m->cfg.n_layer);
    if (!m->layer) return err_set(e, ERR_NOMEM, "model: out of memory");
    for (int i = 0; i < m->n_params; i++) {
        const Param *p = &m->params[i];
        Weight w = bind(m, p);
        if (p->layer >= 0) bind_layer(&m->layer[p->layer], p->role, w);
        else bind_global(m, p->role, w);
    }
    for (int i = 0; i < m->cfg.n_layer; i++) {
        join_group(&m->layer[i].qkv);
        join_group(&m->layer[i].up);
    }
    if (m->cfg.tied) m->output = m->tok_embd;
    return rope_angles(m, e);
}

/* ---- from a file ---- */

static Status rope_factors(Model *m, const Gguf *g, Err *e) {
    const GgufTensor *t = gguf_find_tensor(g, "rope_freqs.weight");
    if (!t || m->cfg.arch->pos != POS_ROPE) return OK;
    if (t->type != DT_F32 || t->n_elem != (uint64_t)m->cfg.n_rot)
        return err_set(e, ERR_FORMAT,
                       "tensor \"rope_freqs.weight\" has %llu elements of %s, want %d of f32",
                       (unsigned long long)t->n_elem, dtype_name(t->type), m->cfg.n_rot);
    if (!m->rope_factor) m->rope_factor = mem_new_n(float, (size_t)m->cfg.n_rot);
    if (!m->rope_factor) return err_set(e, ERR_NOMEM, "model: out of memory");
    memcpy(m->rope_factor, t->data, (size_t)t->n_bytes);
    for (int i = 0; i < m->cfg.n_rot; i++)
        if (!(m->rope_factor[i] >= 1e-6f && m->rope_factor[i] <= 1e6f))
            return err_set(e, ERR_FORMAT, "rope_freqs.weight[%d] is %g, outside 1e-6..1e6", i,
                           (double)m->rope_factor[i]);
    return OK;
}

Status model_copy_rope(Model *m, const Gguf *g, Err *e) {
    TRY(rope_factors(m, g, e));
    return rope_angles(m, e);
}

/* One tensor of a file against its parameter. */
static Status check_tensor(const GgufTensor *t, const Param *p, Err *e) {
    uint64_t rows = t->n_dims == 1 ? 1 : t->ne[1];
    if (t->n_dims > 2 || t->ne[0] != (uint64_t)p->cols || rows != (uint64_t)p->rows)
        return err_set(e, ERR_FORMAT, "tensor \"%s\" has shape [%llu, %llu%s], want [%d, %d]",
                       p->name, (unsigned long long)t->ne[0], (unsigned long long)t->ne[1],
                       t->n_dims > 2 ? ", ..." : "", p->cols, p->rows);
    return OK;
}

static const GgufTensor *tensor_of(const Model *m, const Param *p) {
    return gguf_find_tensor(m->file, p->name);
}

static bool is_param(const Model *m, Slice name) {
    for (int i = 0; i < m->n_params; i++)
        if (slice_eq_str(name, m->params[i].name)) return true;
    return slice_eq_str(name, "rope_freqs.weight");
}

/* Every parameter has its tensor, and every tensor is a parameter's: one left out would change the model. */
static Status check_tensors(const Model *m, const Gguf *g, Err *e) {
    size_t known = gguf_find_tensor(g, "rope_freqs.weight") ? 1 : 0;
    for (int i = 0; i < m->n_params; i++) {
        const GgufTensor *t = gguf_find_tensor(g, m->params[i].name);
        if (!t) return err_set(e, ERR_FORMAT, "tensor \"%s\" is missing", m->params[i].name);
        TRY(check_tensor(t, &m->params[i], e));
        known++;
    }
    for (size_t i = 0; known < gguf_n_tensors(g) && i < gguf_n_tensors(g); i++) {
        Slice name = gguf_tensor_at(g, i)->name;
        if (!is_param(m, name))
            return err_set(e, ERR_UNSUPPORTED, "tensor \"%.*s\" is not part of architecture %s",
                           (int)name.n, name.p, m->cfg.arch->name);
    }
    return OK;
}

/* f32 copy of a tensor of any plain type (1-D tensors, and weights to be trained). */
static Status tensor_floats(float *out, const GgufTensor *t, Err *e) {
    switch (t->type) {
    case DT_F32: memcpy(out, t->data, (size_t)t->n_bytes); return OK;
    case DT_F16:
    case DT_BF16: break;
    default:
        return err_set(e, ERR_UNSUPPORTED, "tensor \"%.*s\" is %s, want f32, f16 or bf16",
                       (int)t->name.n, t->name.p, dtype_name(t->type));
    }
    return dtype_widen(out, t->type, t->data, (size_t)t->n_elem)
               ? OK
               : err_set(e, ERR_INTERNAL, "tensor \"%.*s\" cannot be widened", (int)t->name.n,
                         t->name.p);
}

/* 1-D tensors become f32 in the flat buffer; matrices stay where they lie in the map. */
static Status load_1d(Model *m, Err *e) {
    size_t n = 0;
    for (int i = 0; i < m->n_params; i++) {
        if (m->params[i].n_dims != 1) continue;
        m->params[i].off = n;
        n += param_n(&m->params[i]);
    }
    m->n_flat = n;
    m->flat = m->dev->ops->buf_new(m->dev, MAX(n, (size_t)1) * sizeof(float));
    float *tmp = mem_new_n(float, MAX(n, (size_t)1));
    Status st = m->flat && tmp ? OK : err_set(e, ERR_NOMEM, "model: out of memory");
    for (int i = 0; i < m->n_params && st == OK; i++)
        if (m->params[i].n_dims == 1)
            st = tensor_floats(tmp + m->params[i].off, tensor_of(m, &m->params[i]), e);
    if (st == OK) m->dev->ops->upload(m->dev, buf_at(m->flat, 0), tmp, n * sizeof(float));
    mem_free(tmp);
    return st;
}

static Weight bind_file(const Model *m, const Param *p) {
    Weight w = {.type = DT_F32,
                .rows = p->rows,
                .cols = p->cols,
                .buf = m->flat,
                .off_bytes = p->off * sizeof(float)};
    if (p->n_dims == 1) return w;
    const GgufTensor *t = tensor_of(m, p);
    w.type = t->type;
    w.buf = m->map;
    w.off_bytes = (size_t)((const uint8_t *)t->data - gguf_map(m->file).p);
    return w;
}

Status model_load_file(Model **out, Device *dev, Gguf *g, Err *e) {
    Model *m = mem_new(Model);
    if (!m) {
        gguf_close(g);
        return err_set(e, ERR_NOMEM, "model: out of memory");
    }
    m->dev = dev;
    m->file = g;
    Status st = model_read_config(&m->cfg, m->file, e);
    if (st == OK) st = model_params(&m->params, &m->n_params, &m->cfg, e);
    if (st == OK) st = check_tensors(m, m->file, e);
    if (st == OK) st = rope_factors(m, m->file, e);
    if (st == OK) st = load_1d(m, e);
    if (st == OK) {
        IoMap map = gguf_map(m->file);
        m->map = dev->ops->buf_wrap(dev, map.p, map.n);
        if (!m->map) st = err_set(e, ERR_NOMEM, "model: out of memory");
    }
    if (st == OK) st = model__bind(m, bind_file, e);
    if (st == OK) st = model__pack(m, e);
    if (st == OK) {
        *out = m;
        return OK;
    }
    model_free(m);
    return st;
}

Status model_load(Model **out, Device *dev, const char *path, Err *e) {
    Gguf *g = NULL;
    TRY(gguf_open(&g, path, e));
    Status st = model_load_file(out, dev, g, e);
    if (st != OK) err_in(e, path);
    return st;
}

/* ---- trainable ---- */

static Weight bind_flat(const Model *m, const Param *p) {
    return (Weight){.type = DT_F32,
                    .rows = p->rows,
                    .cols = p->cols,
                    .buf = m->flat,
                    .off_bytes = p->off * sizeof(float)};
}

Status model_new(Model **out, Device *dev, const ModelConfig *c, Err *e) {
    TRY(model_config_check(c, e));
    Model *m = mem_new(Model);
    if (!m) return err_set(e, ERR_NOMEM, "model: out of memory");
    m->dev = dev;
    m->cfg = *c;
    Status st = model_params(&m->params, &m->n_params, c, e);
    if (st == OK) {
        m->n_flat = (size_t)model_n_params(c);
        m->flat = dev->ops->buf_new(dev, m->n_flat * sizeof(float));
        if (!m->flat)
            st = err_set(e, ERR_NOMEM, "weights of %zu parameters: out of memory", m->n_flat);
    }
    if (st == OK) st = model__bind(m, bind_flat, e);
    if (st == OK) *out = m;
    else model_free(m);
    return st;
}

/* Standard deviation of a parameter at the start; < 0: a constant of that absolute value (norms: 1). */
static float init_std(const ModelConfig *c, const Param *p) {
    switch (p->role) {
    case P_ATTN_NORM:
    case P_FFN_NORM:
    case P_Q_NORM:
    case P_K_NORM:
    case P_OUT_NORM: return -1.0f;
    case P_ATTN_OUT:
    case P_DOWN: return 0.02f / sqrtf(2.0f * (float)c->n_layer);
    default: return p->n_dims == 1 ? 0.0f : 0.02f;
    }
}

Status model_init(Model *m, uint64_t seed, Err *e) {
    size_t most = 0;
    for (int i = 0; i < m->n_params; i++) most = MAX(most, param_n(&m->params[i]));
    float *tmp = mem_new_n(float, most);
    if (!tmp) return err_set(e, ERR_NOMEM, "initial weights: out of memory");
    for (int i = 0; i < m->n_params; i++) {
        const Param *p = &m->params[i];
        float std = init_std(&m->cfg, p);
        size_t n = param_n(p);
        for (size_t j = 0; j < n; j++) tmp[j] = std < 0.0f ? -std : 0.0f;
        if (std > 0.0f) rng_normal_fill(tmp, n, std, rng_key(seed, "init"), (uint64_t)i);
        m->dev->ops->upload(m->dev, buf_at(m->flat, p->off), tmp, n * sizeof(float));
    }
    mem_free(tmp);
    return OK;
}

static Status copy_params(Model *m, const Gguf *g, float *tmp, Err *e) {
    for (int i = 0; i < m->n_params; i++) {
        const Param *p = &m->params[i];
        TRY(tensor_floats(tmp, gguf_find_tensor(g, p->name), e));
        m->dev->ops->upload(m->dev, buf_at(m->flat, p->off), tmp, param_n(p) * sizeof(float));
    }
    return OK;
}

Status model_copy_from(Model *m, const Gguf *g, Err *e) {
    TRY(check_tensors(m, g, e));
    size_t most = 0;
    for (int i = 0; i < m->n_params; i++) most = MAX(most, param_n(&m->params[i]));
    float *tmp = mem_new_n(float, most);
    if (!tmp) return err_set(e, ERR_NOMEM, "weights: out of memory");
    Status st = copy_params(m, g, tmp, e);
    mem_free(tmp);
    return st == OK ? model_copy_rope(m, g, e) : st;
}

/* ---- saving ---- */

static Status save_data(const Model *m, GgufW *w, float *tmp, Err *e) {
    for (int i = 0; i < m->n_params; i++) {
        size_t n = param_n(&m->params[i]);
        m->dev->ops->download(m->dev, tmp, buf_at(m->flat, m->params[i].off), n * sizeof(float));
        TRY(gguf_w_data(w, tmp, n * sizeof(float), e));
    }
    if (m->rope_factor)
        TRY(gguf_w_data(w, m->rope_factor, (size_t)m->cfg.n_rot * sizeof(float), e));
    return gguf_w_end(w, e);
}

Status model_save(const Model *m, const char *path, void (*extra)(void *ctx, GgufW *w), void *ctx,
                  Err *e) {
    GgufW *w;
    TRY(gguf_w_new(&w, path, GGUF_DEFAULT_ALIGNMENT, true, e));
    model_write_config(&m->cfg, w);
    gguf_w_u32(w, "general.file_type", 0);
    if (extra) extra(ctx, w);
    size_t most = 1;
    for (int i = 0; i < m->n_params; i++) {
        const Param *p = &m->params[i];
        uint64_t ne[2] = {(uint64_t)p->cols, (uint64_t)p->rows};
        gguf_w_tensor(w, slice_of(p->name), DT_F32, p->n_dims, ne);
        most = MAX(most, param_n(p));
    }
    if (m->rope_factor) {
        uint64_t ne[1] = {(uint64_t)m->cfg.n_rot};
        gguf_w_tensor(w, slice_of("rope_freqs.weight"), DT_F32, 1, ne);
    }
    Status st = gguf_w_begin(w, e);
    float *tmp = mem_new_n(float, most);
    if (st == OK && !tmp) st = err_set(e, ERR_NOMEM, "saving: out of memory");
    if (st == OK) st = save_data(m, w, tmp, e);
    mem_free(tmp);
    gguf_w_free(w);
    return st;
}
