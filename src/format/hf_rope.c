/* SPDX-License-Identifier: Apache-2.0
 * Rotations: rope_theta and rope_scaling of config.json (or both in rope_parameters), and what they are in
 * GGUF. linear and yarn are keys; llama3 is a tensor of divisors of the frequencies. dynamic changes nothing
 * up to max_position_embeddings, which is where the file's context ends. longrope and what comes after it are
 * refused by name. */
#include <math.h>

#include "format/hf_internal.h"

static Status refuse(const char *what, Slice value, Err *e) {
    StrBuf shown = {0};
    sb_put_quoted(&shown, value, 60);
    Status st = err_set(e, ERR_UNSUPPORTED, "rope_scaling: %s \"%s\" is not supported", what,
                        sb_str(&shown));
    sb_deinit(&shown);
    return st;
}

static Status read_kind(HfRope *r, const Json *j, Err *e) {
    static const char *const names[] = {"default", "linear", "yarn", "llama3", "dynamic"};
    const Json *v = json_get(j, "rope_type");
    if (!v) v = json_get(j, "type");
    if (!v && json_len(j) > 0 && json_get(j, "factor"))
        return err_set(e, ERR_FORMAT, "rope_scaling: rope_type is missing");
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        r->kind = (HfRopeKind)i;
        if (!v || slice_eq_str(json_str(v), names[i])) return OK;
    }
    return refuse("rope_type", json_str(v), e);
}

/* Every key of the object is known to its kind. */
static Status check_keys(const HfRope *r, const Json *j, Err *e) {
    enum {
        D = 1 << HF_ROPE_NONE,
        L = 1 << HF_ROPE_LINEAR,
        Y = 1 << HF_ROPE_YARN,
        L3 = 1 << HF_ROPE_LLAMA3,
        DY = 1 << HF_ROPE_DYNAMIC
    };
    static const struct {
        const char *key;
        int kinds;
    } rows[] = {{"rope_type", D | L | Y | L3 | DY},
                {"type", D | L | Y | L3 | DY},
                {"rope_theta", D | L | Y | L3 | DY},
                {"factor", L | Y | L3 | DY},
                {"original_max_position_embeddings", Y | L3},
                {"low_freq_factor", L3},
                {"high_freq_factor", L3},
                {"attention_factor", Y},
                {"beta_fast", Y},
                {"beta_slow", Y},
                {"truncate", Y}};
    Slice key;
    const Json *v;
    for (void *it = NULL; (it = json_next(j, it, &key, &v));) {
        bool known = json_kind(v) == JSON_KIND_NULL;
        for (size_t i = 0; i < COUNT_OF(rows); i++)
            known |= slice_eq_str(key, rows[i].key) && (rows[i].kinds & (1 << r->kind));
        if (!known) return refuse("key", key, e);
    }
    return OK;
}

/* GGUF has one word for what yarn multiplies q and k with, and none for its betas. */
static Status read_yarn(HfRope *r, const Json *j, Err *e) {
    double fast = 32, slow = 1, attn = 0;
    bool truncate = true;
    TRY(hf__num(&fast, j, "beta_fast", 1e-3, 1e6, false, e));
    TRY(hf__num(&slow, j, "beta_slow", 1e-3, 1e6, false, e));
    TRY(hf__bool(&truncate, j, "truncate", e));
    TRY(hf__num(&attn, j, "attention_factor", 1e-3, 1e3, false, e));
    if (fabs(fast - 32) > 1e-9 || fabs(slow - 1) > 1e-9 || !truncate)
        return err_set(
            e, ERR_UNSUPPORTED,
            "rope_scaling: yarn with beta_fast %g, beta_slow %g, truncate %s: only 32, 1 and "
            "true are supported",
            fast, slow, truncate ? "true" : "false");
    if (attn > 0) r->attn = attn / (1.0 + 0.1 * log(r->factor));
    return OK;
}

static Status read_llama3(HfRope *r, const Json *j, Err *e) {
    TRY(hf__num(&r->low, j, "low_freq_factor", 1e-3, 1e6, true, e));
    TRY(hf__num(&r->high, j, "high_freq_factor", 1e-3, 1e6, true, e));
    if (r->high <= r->low)
        return err_set(e, ERR_FORMAT,
                       "rope_scaling: high_freq_factor %g is not over low_freq_factor %g", r->high,
                       r->low);
    return OK;
}

static Status read_scaling(HfConfig *c, const Json *j, Err *e) {
    HfRope *r = &c->rope;
    int ctx = c->ctx;
    TRY(read_kind(r, j, e));
    TRY(check_keys(r, j, e));
    if (r->kind == HF_ROPE_NONE) return OK;
    TRY(hf__num(&r->factor, j, "factor", 1.0, 1e6, true, e));
    TRY(hf__int(&ctx, j, "original_max_position_embeddings", 1, 1 << 24, r->kind == HF_ROPE_LLAMA3,
                e));
    r->ctx = ctx;
    if (r->kind == HF_ROPE_YARN) return read_yarn(r, j, e);
    return r->kind == HF_ROPE_LLAMA3 ? read_llama3(r, j, e) : OK;
}

Status hf__read_rope(HfConfig *c, const Json *config, Err *e) {
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    c->rope = (HfRope){.base = 10000, .factor = 1, .attn = 1};
    TRY(hf__num(&c->rope.base, config, "rope_theta", 1.0, 1e12, false, e));
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        const Json *j = json_get(config, keys[i]);
        if (!j) continue;
        if (!json_is_object(j)) return err_set(e, ERR_FORMAT, "%s is no object", keys[i]);
        TRY(hf__num(&c->rope.base, j, "rope_theta", 1.0, 1e12, false, e));
        TRY(read_scaling(c, j, e));
    }
    return OK;
}

/* Pairs that turn slowly are stretched by the factor, fast ones not, those between in between. */
float hf__llama3_divisor(const HfConfig *c, int i) {
    const HfRope *r = &c->rope;
    double wave = 2.0 * 3.14159265358979323846 * pow(r->base, 2.0 * i / c->hd);
    double turns = (double)r->ctx / wave; /* within the original context */
    if (turns > r->high) return 1.0f;
    if (turns < r->low) return (float)r->factor;
    double smooth = (turns - r->low) / (r->high - r->low);
    return (float)(1.0 / ((1.0 - smooth) / r->factor + smooth));
}
