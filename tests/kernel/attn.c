/* SPDX-License-Identifier: Apache-2.0
 * Rotary positions, writing to the cache and attention, against float64. The cache is scattered over its
 * pool and every place no token was written to holds NaN. */
#include "common.h"

/* ---- rotary positions ---- */

static void check_rope(int n_heads, int hd, int n_rot, bool halves, bool inverse) {
    size_t n = (size_t)(n_heads * hd);
    float *x = kt_normals(n, 1), *x0 = kt_copy(x, n), *cs = kt_floats((size_t)hd);
    for (int i = 0; i < hd / 2; i++) {
        double a = 100.0 * pow(10000, -2.0 * i / hd);
        cs[2 * i] = (float)cos(a);
        cs[2 * i + 1] = (float)sin(a);
    }
    kt.rope(x, cs, n_heads, hd, n_rot, halves, inverse);
    for (int h = 0; h < n_heads; h++) {
        const float *p = x0 + h * hd, *r = x + h * hd;
        for (int i = 0; i < n_rot; i++) {
            int a = halves ? i : 2 * i, b = halves ? i + n_rot : 2 * i + 1;
            double c = (double)cs[2 * i], s = (double)cs[2 * i + 1] * (inverse ? -1 : 1);
            double pa = (double)p[a], pb = (double)p[b];
            kt_near("rope", (size_t)a, r[a], pa * c - pb * s, fabs(pa * c) + fabs(pb * s));
            kt_near("rope", (size_t)b, r[b], pa * s + pb * c, fabs(pa * s) + fabs(pb * c));
        }
        kt_same("rope", r + 2 * n_rot, p + 2 * n_rot, (size_t)(hd - 2 * n_rot) * sizeof *r);
    }
    kt.rope(x, cs, n_heads, hd, n_rot, halves, !inverse);
    for (size_t i = 0; i < n; i++) NEAR(x[i], x0[i], 2e-6 * (1 + fabs((double)x0[i])));
}

TEST(rope_matches_float64_and_inverts) {
    static const int widths[] = {2, 8, 16, 24, 32, 40, 64, 80, 96, 128, 256};
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (size_t i = 0; i < COUNT_OF(widths); i++) {
            for (int kind = 0; kind < 4; kind++) {
                int hd = widths[i];
                kt_start((uint64_t)(i * 10) + (uint64_t)kind);
                check_rope(3, hd, hd / 2, kind & 1, kind & 2);
                kt_free();
                check_rope(2, hd, hd / 4, kind & 1, kind & 2);
                check_rope(1, hd, 0, kind & 1, kind & 2);
                kt_free();
            }
        }
    }
}

/* ---- cache ---- */

typedef struct Cache {
    DType t;
    int hd, n_block;
    size_t stride;
    char *k, *v;
    int32_t *table;
} Cache;

static size_t elem(DType t) { return t == DT_F16 ? 2 : 4; }

/* Blocks of all NaN in random order; the last bytes of the pools end at a guard page. */
static Cache cache_new(DType t, int hd, int n_tok, size_t gap) {
    Cache c = {.t = t, .hd = hd, .n_block = (n_tok + KV_BLOCK - 1) / KV_BLOCK};
    size_t block = (size_t)(hd * KV_BLOCK) * elem(t);
    c.stride = block + gap * elem(t);
    size_t bytes = c.stride * (size_t)(c.n_block - 1) + block;
    c.k = kt_bytes(bytes);
    c.v = kt_bytes(bytes);
    memset(c.k, 0xff, bytes); /* NaN in f32 and f16 */
    memset(c.v, 0xff, bytes);
    c.table = kt_bytes((size_t)c.n_block * sizeof *c.table);
    for (int i = 0; i < c.n_block; i++) c.table[i] = i;
    for (int i = c.n_block - 1; i > 0; i--) {
        int j = kt_int(0, i), swap = c.table[i];
        c.table[i] = c.table[j];
        c.table[j] = swap;
    }
    return c;
}

static char *cache_block(char *pool, const Cache *c, int tok) {
    return pool + (size_t)c->table[tok / KV_BLOCK] * c->stride;
}

static double cache_get(const char *block, DType t, int i) {
    if (t == DT_F32) return (double)((const float *)block)[i];
    return (double)half_f16_to_f32(((const uint16_t *)block)[i]);
}

static void cache_put(const Cache *c, int tok, const float *k, const float *v) {
    kt.kv_put[c->t](cache_block(c->k, c, tok), cache_block(c->v, c, tok), k, v, tok % KV_BLOCK,
                    c->hd);
}

static void check_kv_put(DType t, int hd) {
    const char *slot = t == DT_F32 ? "kv_put f32" : "kv_put f16";
    size_t bytes = (size_t)(hd * KV_BLOCK) * elem(t);
    char *kb = kt_bytes(bytes), *vb = kt_bytes(bytes), *kw = kt_bytes(bytes), *vw = kt_bytes(bytes);
    float *k = kt_normals((size_t)hd, 1), *v = kt_normals((size_t)hd, 1);
    k[0] = 1e6f; /* infinite in f16 */
    v[hd - 1] = 1e-7f;
    for (int s = 0; s < KV_BLOCK; s++) {
        memset(kb, 0x5a, bytes);
        memset(vb, 0x5a, bytes);
        memset(kw, 0x5a, bytes);
        memset(vw, 0x5a, bytes);
        for (int d = 0; d < hd; d++) {
            size_t ki = (size_t)(d * KV_BLOCK + s), vi = (size_t)(s * hd + d);
            if (t == DT_F32) {
                ((float *)kw)[ki] = k[d];
                ((float *)vw)[vi] = v[d];
            } else {
                ((uint16_t *)kw)[ki] = half_f32_to_f16(k[d]);
                ((uint16_t *)vw)[vi] = half_f32_to_f16(v[d]);
            }
        }
        kt.kv_put[t](kb, vb, k, v, s, hd);
        kt_same(slot, kb, kw, bytes);
        kt_same(slot, vb, vw, bytes);
    }
}

TEST(kv_put_touches_its_place_alone) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (int hd = 8; hd <= 256; hd += hd < 64 ? 8 : 64) {
            kt_start((uint64_t)hd);
            check_kv_put(DT_F32, hd);
            check_kv_put(DT_F16, hd);
            kt_free();
        }
    }
}

/* ---- attention ---- */

typedef struct Job {
    Cache c;
    AttnArgs a;
} Job;

static Job job_new(DType t, int hd, int nq, int n_tok, float q_std) {
    Job j = {.c = cache_new(t, hd, n_tok, (size_t)kt_int(0, 3))};
    for (int i = 0; i < n_tok; i++) {
        float k[256], v[256];
        kt_normal(k, (size_t)hd, 1);
        kt_normal(v, (size_t)hd, 1);
        cache_put(&j.c, i, k, v);
    }
    size_t ldq = (size_t)hd + (size_t)kt_int(0, 7), ldo = (size_t)hd + (size_t)kt_int(0, 7);
    size_t rows = (size_t)nq - 1;
    float *q = kt_normals(rows * ldq + (size_t)hd, q_std), *o = kt_floats(rows * ldo + (size_t)hd);
    for (size_t i = 0; i < rows * ldo + (size_t)hd; i++)
        o[i] = NAN; /* what was there must not matter */
    j.a = (AttnArgs){.o = o,
                     .q = q,
                     .ldo = ldo,
                     .ldq = ldq,
                     .k = j.c.k,
                     .v = j.c.v,
                     .table = j.c.table,
                     .stride = j.c.stride,
                     .nq = nq,
                     .hd = hd,
                     .n_tok = n_tok,
                     .scale = 1 / sqrtf((float)hd)};
    return j;
}

/* o of query i in float64, and the sums of |p v|. */
static void attn_f64(const Job *j, int i, double *o, double *terms) {
    const AttnArgs *a = &j->a;
    double *s = malloc((size_t)a->n_tok * sizeof *s), max = -HUGE_VAL, sum = 0;
    for (int t = 0; t < a->n_tok; t++) {
        const char *k = cache_block(j->c.k, &j->c, t);
        s[t] = 0;
        for (int d = 0; d < a->hd; d++) {
            double q = (double)a->q[(size_t)i * a->ldq + (size_t)d];
            s[t] += q * cache_get(k, j->c.t, d * KV_BLOCK + t % KV_BLOCK);
        }
        s[t] *= (double)a->scale;
        max = fmax(max, s[t]);
    }
    for (int t = 0; t < a->n_tok; t++) sum += exp(s[t] - max);
    for (int d = 0; d < a->hd; d++) {
        o[d] = terms[d] = 0;
        for (int t = 0; t < a->n_tok; t++) {
            const char *v = cache_block(j->c.v, &j->c, t);
            double pv = exp(s[t] - max) / sum * cache_get(v, j->c.t, t % KV_BLOCK * a->hd + d);
            o[d] += pv;
            terms[d] += fabs(pv);
        }
    }
    free(s);
}

static void check_attn(DType t, int hd, int nq, int n_tok, float q_std) {
    const char *slot = t == DT_F32 ? "attn f32" : "attn f16";
    Job j = job_new(t, hd, nq, n_tok, q_std);
    kt.attn[t](&j.a);
    for (int i = 0; i < nq; i++) {
        double want[256], terms[256];
        attn_f64(&j, i, want, terms);
        for (int d = 0; d < hd; d++) {
            kt_near(slot, (size_t)d, j.a.o[(size_t)i * j.a.ldo + (size_t)d], want[d], terms[d]);
        }
        for (size_t d = (size_t)hd; i + 1 < nq && d < j.a.ldo; d++) {
            TRUE_(isnan(j.a.o[(size_t)i * j.a.ldo + d]));
        }
    }
    /* a query alone has the bits it has among others */
    float alone[256];
    AttnArgs a = j.a;
    a.o = alone;
    a.nq = 1;
    for (int i = 0; i < nq; i++) {
        a.q = j.a.q + (size_t)i * j.a.ldq;
        kt.attn[t](&a);
        kt_same(slot, alone, j.a.o + (size_t)i * j.a.ldo, (size_t)hd * sizeof *alone);
    }
}

TEST(attn_matches_float64) {
    static const int hds[] = {8, 16, 24, 40, 64, 72, 80, 96, 128, 256};
    static const int nqs[] = {1, 2, 3, 4, 5, 7, 8, 9, 17};
    static const int toks[] = {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100};
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (size_t h = 0; h < COUNT_OF(hds); h++) {
            for (size_t i = 0; i < COUNT_OF(toks); i++) {
                int nq = nqs[(h + i) % COUNT_OF(nqs)];
                kt_start(h * 100 + i);
                check_attn(DT_F32, hds[h], nq, toks[i], 1);
                kt_free();
                check_attn(DT_F16, hds[h], nq, toks[i], 1);
                kt_free();
            }
        }
        for (size_t i = 0; i < COUNT_OF(nqs); i++) {
            kt_start(5000 + i);
            check_attn(DT_F16, 64, nqs[i], 77, 1);
            check_attn(DT_F32, 64, nqs[i], 77, 1);
            kt_free();
        }
    }
}

/* Long contexts and sharp distributions: the running maximum moves often and far. */
TEST(attn_long_and_sharp) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (uint64_t seed = 1; seed <= KT_SEEDS; seed++) {
            kt_start(seed);
            check_attn(DT_F16, 64, 4, 1500, 1);
            kt_free();
            check_attn(DT_F32, 64, 3, 700, 6);
            kt_free();
        }
    }
}

/* What an online softmax does with scores that rise to the end, and fall from the first. */
TEST(attn_rising_and_falling_scores) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (int dir = -1; dir <= 1; dir += 2) {
            kt_start(3);
            Job j = job_new(DT_F32, 16, 2, 200, 1);
            for (int t = 0; t < 200; t++) {
                float k[16] = {0}, v[16];
                k[0] = (float)(dir * t);
                for (int d = 0; d < 16; d++) v[d] = (float)t;
                cache_put(&j.c, t, k, v);
            }
            for (int i = 0; i < 2; i++) ((float *)(uintptr_t)j.a.q)[(size_t)i * j.a.ldq] = 400;
            kt.attn[DT_F32](&j.a);
            for (int d = 0; d < 16; d++) NEAR(j.a.o[d], dir > 0 ? 199 : 0, 1e-3);
            kt_free();
        }
    }
}
