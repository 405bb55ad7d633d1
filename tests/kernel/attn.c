/* SPDX-License-Identifier: Apache-2.0
 * Rotary positions, writing to the cache and attention, against float64. The cache is scattered over its
 * pool and every place no token was written to holds NaN. */
#include "common.h"

#include "tensor/blocks.h"

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

/* Bytes of a head's K or V of a block. */
static size_t block_bytes(DType t, int hd) {
    size_t n = (size_t)(hd * KV_BLOCK);
    return t == DT_F32 ? 4 * n : t == DT_F16 ? 2 * n : n + 64 * (size_t)kern_kv_groups(hd);
}

/* Blocks of all NaN in random order; the last bytes of the pools end at a guard page. */
static Cache cache_new(DType t, int hd, int n_tok, size_t gap) {
    Cache c = {.t = t, .hd = hd, .n_block = (n_tok + KV_BLOCK - 1) / KV_BLOCK};
    size_t block = block_bytes(t, hd);
    c.stride = block + gap * 64;
    size_t bytes = c.stride * (size_t)(c.n_block - 1) + block;
    c.k = kt_bytes(bytes);
    c.v = kt_bytes(bytes);
    memset(c.k, 0xff, bytes); /* NaN in f32, f16 and the scales of q8_0 */
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

/* Value d of the token at `slot` of a block, element i of it. */
static double cache_get(const char *block, const Cache *c, int i, int d, int slot) {
    const uint16_t *half = (const uint16_t *)(const void *)block;
    if (c->t == DT_F32) return (double)((const float *)(const void *)block)[i];
    if (c->t == DT_F16) return (double)half_f16_to_f32(half[i]);
    uint16_t scale = half[c->hd * KV_BLOCK / 2 + d / 32 * KV_BLOCK + slot];
    return (double)half_f16_to_f32(scale) * (double)((const int8_t *)block)[i];
}

static void cache_put(const Cache *c, int tok, const float *k, const float *v) {
    kt.kv_put[c->t](cache_block(c->k, c, tok), cache_block(c->v, c, tok), k, v, tok % KV_BLOCK,
                    c->hd);
}

static const char *slot_name(const char *what, DType t) {
    static char name[32];
    snprintf(name, sizeof name, "%s %s", what, dtype_name(t));
    return name;
}

/* The place of one token in a q8_0 block, as the format's own quantizer has groups of 32. */
static void want_q8_0(char *block, const float *x, int slot, int hd, bool transposed) {
    uint16_t *scale = (uint16_t *)(void *)(block + hd * KV_BLOCK);
    Kern ref;
    OK_(kern_init(&ref, "ref", TERR));
    for (int g = 0; g < kern_kv_groups(hd); g++) {
        float v[32] = {0}; /* what a smaller group lacks changes no scale */
        BlockQ8_0 b;
        memcpy(v, x + 32 * g, (size_t)MIN(32, hd - 32 * g) * sizeof *v);
        ref.from_f32[DT_Q8_0](&b, v, 32);
        scale[g * KV_BLOCK + slot] = b.d;
        for (int d = 32 * g; d < MIN(hd, 32 * g + 32); d++)
            block[transposed ? d * KV_BLOCK + slot : slot * hd + d] = (char)b.qs[d - 32 * g];
    }
}

static void want_put(DType t, char *kw, char *vw, const float *k, const float *v, int s, int hd) {
    if (t == DT_Q8_0) {
        want_q8_0(kw, k, s, hd, true);
        want_q8_0(vw, v, s, hd, false);
        return;
    }
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
}

static void check_kv_put(DType t, int hd) {
    const char *slot = slot_name("kv_put", t);
    size_t bytes = block_bytes(t, hd);
    char *kb = kt_bytes(bytes), *vb = kt_bytes(bytes), *kw = kt_bytes(bytes), *vw = kt_bytes(bytes);
    float *k = kt_normals((size_t)hd, 1), *v = kt_normals((size_t)hd, 1);
    k[0] = 1e6f; /* infinite in f16 */
    v[hd - 1] = 1e-7f;
    for (int s = 0; s < KV_BLOCK; s++) {
        memset(kb, 0x5a, bytes);
        memset(vb, 0x5a, bytes);
        memset(kw, 0x5a, bytes);
        memset(vw, 0x5a, bytes);
        if (s == 7) memset(v, 0, (size_t)hd * sizeof *v);
        if (s == 9) v[hd / 2] = 1e-42f; /* 1 / scale overflows */
        want_put(t, kw, vw, k, v, s, hd);
        kt.kv_put[t](kb, vb, k, v, s, hd);
        kt_same(slot, kb, kw, bytes);
        kt_same(slot, vb, vw, bytes);
    }
}

static const DType cache_types[] = {DT_F32, DT_F16, DT_Q8_0};

/* NaN and infinities of a broken model: the same at every level, and nothing but this token is broken. */
TEST(kv_put_q8_0_of_what_is_not_finite) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        Kern ref;
        OK_(kern_init(&ref, "ref", TERR));
        for (int hd = 8; hd <= 96; hd += 8) {
            kt_start((uint64_t)hd);
            size_t bytes = block_bytes(DT_Q8_0, hd);
            char *b[4];
            for (int i = 0; i < 4; i++) memset(b[i] = kt_bytes(bytes), 0, bytes);
            float *k = kt_normals((size_t)hd, 1), *v = kt_normals((size_t)hd, 1);
            k[hd / 3] = NAN;
            k[0] = -NAN;
            v[hd / 2] = INFINITY;
            v[hd - 1] = 3e38f;
            kt.kv_put[DT_Q8_0](b[0], b[1], k, v, 5, hd);
            ref.kv_put[DT_Q8_0](b[2], b[3], k, v, 5, hd);
            kt_same("kv_put q8_0", b[0], b[2], bytes);
            kt_same("kv_put q8_0", b[1], b[3], bytes);
            kt_free();
        }
    }
}

TEST(kv_put_touches_its_place_alone) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (int hd = 8; hd <= 256; hd += hd < 64 ? 8 : 64) {
            kt_start((uint64_t)hd);
            for (size_t t = 0; t < COUNT_OF(cache_types); t++) check_kv_put(cache_types[t], hd);
            kt_free();
        }
    }
}

/* ---- attention ---- */

typedef struct Job {
    Cache c;
    AttnArgs a;
} Job;

/* Rows of nq heads, the last of which sees n_tok tokens. */
static Job job_new(DType t, int hd, int nq, int n_row, int n_tok, float q_std) {
    Job j = {.c = cache_new(t, hd, n_tok, (size_t)kt_int(0, 3))};
    for (int i = 0; i < n_tok; i++) {
        float k[256], v[256];
        kt_normal(k, (size_t)hd, 1);
        kt_normal(v, (size_t)hd, 1);
        cache_put(&j.c, i, k, v);
    }
    size_t ldq = (size_t)hd + (size_t)kt_int(0, 7), ldo = (size_t)hd + (size_t)kt_int(0, 7),
           row_q = ldq * (size_t)nq + (size_t)kt_int(0, 9),
           row_o = ldo * (size_t)nq + (size_t)kt_int(0, 9), last = (size_t)n_row - 1,
           head = (size_t)nq - 1, n_o = last * row_o + head * ldo + (size_t)hd;
    float *q = kt_normals(last * row_q + head * ldq + (size_t)hd, q_std), *o = kt_floats(n_o);
    for (size_t i = 0; i < n_o; i++) o[i] = NAN; /* what was there must not matter */
    size_t work = kern_attn_work(hd, nq * n_row);
    j.a = (AttnArgs){.o = o,
                     .q = q,
                     .ldo = ldo,
                     .ldq = ldq,
                     .row_o = row_o,
                     .row_q = row_q,
                     .k = j.c.k,
                     .v = j.c.v,
                     .table = j.c.table,
                     .stride = j.c.stride,
                     .nq = nq,
                     .n_row = n_row,
                     .hd = hd,
                     .n_tok = n_tok - n_row + 1,
                     .to = n_tok,
                     .scale = 1 / sqrtf((float)hd),
                     .work = aligned_alloc(64, ROUND_UP(work, (size_t)64))};
    memset(j.a.work, 0xff, work); /* NaN */
    return j;
}

/* o of head i of row r in float64, and the sums of |p v|. */
static void attn_f64(const Job *j, int r, int i, double *o, double *terms) {
    const AttnArgs *a = &j->a;
    int n_tok = a->n_tok + r;
    double *s = malloc((size_t)n_tok * sizeof *s), max = -HUGE_VAL, sum = 0;
    for (int t = 0; t < n_tok; t++) {
        const char *k = cache_block(j->c.k, &j->c, t);
        int slot = t % KV_BLOCK;
        s[t] = 0;
        for (int d = 0; d < a->hd; d++) {
            double q = (double)a->q[(size_t)r * a->row_q + (size_t)i * a->ldq + (size_t)d];
            s[t] += q * cache_get(k, &j->c, d * KV_BLOCK + slot, d, slot);
        }
        s[t] *= (double)a->scale;
        max = fmax(max, s[t]);
    }
    for (int t = 0; t < n_tok; t++) sum += s[t] = exp(s[t] - max);
    for (int d = 0; d < a->hd; d++) {
        o[d] = terms[d] = 0;
        for (int t = 0; t < n_tok; t++) {
            const char *v = cache_block(j->c.v, &j->c, t);
            int slot = t % KV_BLOCK;
            double pv = s[t] / sum * cache_get(v, &j->c, slot * a->hd + d, d, slot);
            o[d] += pv;
            terms[d] += fabs(pv);
        }
    }
    free(s);
}

static float *out_of(const AttnArgs *a, int r, int i) {
    return a->o + (size_t)r * a->row_o + (size_t)i * a->ldo;
}

static void near_f64(const Job *j, int r, int i, const float *got) {
    double want[256], terms[256];
    attn_f64(j, r, i, want, terms);
    for (int d = 0; d < j->a.hd; d++)
        kt_near(slot_name("attn", j->c.t), (size_t)d, got[d], want[d], terms[d]);
}

/* A query alone has the bits it has among others. */
static void same_alone(const Job *j, int r, int i) {
    float alone[256];
    AttnArgs a = j->a;
    a.o = alone;
    a.nq = a.n_row = 1;
    a.n_tok = j->a.n_tok + r;
    a.q += (size_t)r * a.row_q + (size_t)i * a.ldq;
    kt.attn[j->c.t](&a);
    kt_same(slot_name("attn", j->c.t), alone, out_of(&j->a, r, i), (size_t)a.hd * sizeof *alone);
}

/* Tokens in pieces of `piece`, each with its own softmax, joined: the same result. */
static void check_pieces(const Job *j, int r, int piece) {
    float *o = malloc(256 * 64 * sizeof *o), *po = malloc(256 * 64 * sizeof *po);
    float stat[64][2], later[64][2];
    AttnArgs a = j->a;
    a.n_row = 1;
    a.n_tok = j->a.n_tok + r;
    a.q += (size_t)r * a.row_q;
    a.ldo = (size_t)a.hd;
    for (a.from = 0; a.from < a.n_tok; a.from += piece) {
        a.o = a.from ? po : o;
        a.stat = a.from ? later : stat;
        a.to = a.from + piece;
        kt.attn[j->c.t](&a);
        for (int i = 0; i < a.nq && a.from; i++)
            kt.attn_join(o + i * a.hd, stat[i], po + i * a.hd, later[i], a.hd);
    }
    for (int i = 0; i < a.nq; i++) {
        kt.scale(o + i * a.hd, 1 / stat[i][1], (size_t)a.hd);
        near_f64(j, r, i, o + i * a.hd);
    }
    free(o);
    free(po);
}

static void check_attn(DType t, int hd, int nq, int n_row, int n_tok, float q_std) {
    Job j = job_new(t, hd, nq, n_row, n_tok, q_std);
    kt.attn[t](&j.a);
    for (int r = 0; r < n_row; r += 1 + (n_row - 1) / 2) {
        for (int i = 0; i < nq; i += 1 + nq / 4) {
            near_f64(&j, r, i, out_of(&j.a, r, i));
            for (size_t d = (size_t)hd; i + 1 < nq && d < j.a.ldo; d++)
                TRUE_(isnan(out_of(&j.a, r, i)[d]));
            same_alone(&j, r, i);
        }
    }
    check_pieces(&j, n_row - 1, 32);
    if (n_tok > 64) check_pieces(&j, 0, 64);
    free(j.a.work);
}

TEST(attn_matches_float64) {
    static const int hds[] = {8, 16, 24, 40, 64, 72, 80, 96, 128, 256};
    static const int nqs[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 17};
    static const int n_rows[] = {1, 2, 3, 1, 12, 40, 5};
    static const int toks[] = {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100};
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (size_t t = 0; t < COUNT_OF(cache_types); t++) {
            for (size_t h = 0; h < COUNT_OF(hds); h++) {
                for (size_t i = 0; i < COUNT_OF(toks); i++) {
                    int nq = nqs[(h + i) % COUNT_OF(nqs)];
                    int n_row = MIN(n_rows[(h + 2 * i + t) % COUNT_OF(n_rows)], toks[i]);
                    if (nq * n_row > 64) n_row = MAX(1, 64 / nq);
                    kt_start(h * 100 + i);
                    check_attn(cache_types[t], hds[h], nq, n_row, toks[i], 1);
                    kt_free();
                }
            }
            for (size_t i = 0; i < COUNT_OF(nqs); i++) {
                kt_start(5000 + i);
                check_attn(cache_types[t], 64, nqs[i], 1, 77, 1);
                check_attn(cache_types[t], 64, nqs[i], 3, 77, 1);
                kt_free();
            }
        }
    }
}

/* Long contexts and sharp distributions: the running maximum moves often and far. */
TEST(attn_long_and_sharp) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (uint64_t seed = 1; seed <= KT_SEEDS; seed++) {
            kt_start(seed);
            check_attn(DT_F16, 64, 4, 1, 1500, 1);
            kt_free();
            check_attn(DT_Q8_0, 128, 6, 2, 600, 2);
            kt_free();
            check_attn(DT_F32, 64, 3, 2, 700, 6);
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
            Job j = job_new(DT_F32, 16, 2, 1, 200, 1);
            for (int t = 0; t < 200; t++) {
                float k[16] = {0}, v[16];
                k[0] = (float)(dir * t);
                for (int d = 0; d < 16; d++) v[d] = (float)t;
                cache_put(&j.c, t, k, v);
            }
            for (int i = 0; i < 2; i++) ((float *)(uintptr_t)j.a.q)[(size_t)i * j.a.ldq] = 400;
            kt.attn[DT_F32](&j.a);
            for (int d = 0; d < 16; d++) NEAR(j.a.o[d], dir > 0 ? 199 : 0, 1e-3);
            free(j.a.work);
            kt_free();
        }
    }
}

/* Token `at` has a NaN as its key or value, or a key that makes its score infinite. */
static void check_broken(DType t, int n_tok, int at, int how, int n_row) {
    const int hd = 40;
    Job j = job_new(t, hd, 2, n_row, n_tok, 1);
    float k[40] = {0}, v[40] = {0};
    if (how == 0) k[3] = NAN;
    if (how == 1) memset(v, 0xff, sizeof v);
    if (how == 2) k[3] = INFINITY;
    for (int i = 0; i < 2 * n_row; i++)
        ((float *)(uintptr_t)j.a.q)[(size_t)(i / 2) * j.a.row_q + (size_t)(i % 2) * j.a.ldq + 3] =
            1;
    cache_put(&j.c, at, k, v);
    kt.attn[t](&j.a);
    for (int r = 0; r < n_row; r++)
        for (int i = 0; i < 2; i++)
            for (int d = 0; d < hd; d++)
                if (isnan(out_of(&j.a, r, i)[d]) != (at < j.a.n_tok + r))
                    FAIL("attn %s at level %s: token %d of %d is broken (%d), row %d of %d has %g",
                         dtype_name(t), kern_level_name(kt.level), at, n_tok, how, r, n_row,
                         (double)out_of(&j.a, r, i)[d]);
    free(j.a.work);
    kt_free();
}

TEST(attn_shows_what_is_broken) {
    static const int toks[] = {1, 17, 32, 75};
    for (int l = 0; l < CPU_LEVELS; l++)
        for (size_t t = 0; kt_level(l) && t < COUNT_OF(cache_types); t++)
            for (size_t i = 0; i < COUNT_OF(toks); i++)
                for (int at = 0; at < toks[i]; at += 1 + toks[i] / 9)
                    for (int how = 0; how < 3; how++) {
                        kt_start(i);
                        check_broken(cache_types[t], toks[i], at, how, 1);
                        check_broken(cache_types[t], toks[i], at, how, MIN(toks[i], 12));
                    }
}
