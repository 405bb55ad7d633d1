/* SPDX-License-Identifier: Apache-2.0
 * The packed-panel cores: every level's tile over its own packers against float64, for every orientation,
 * and the same bits however the product is cut. */
#include "common.h"

static const char *core_slot(const GemmCore *g) {
    return g == &kt.gemm_f32 ? "gemm_f32" : "gemm_bf16";
}

/* A float as the core sees it. */
static float seen(const GemmCore *g, float x) {
    return g->elem == 4 ? x : half_bf16_to_f32(half_f32_to_bf16(x));
}

typedef struct Mat {
    const float *p;
    ptrdiff_t rs, cs;
} Mat;

static float el(Mat m, int i, int j) { return m.p[i * m.rs + j * m.cs]; }

static void *aligned(size_t bytes) {
    void *p = NULL;
    if (posix_memalign(&p, 64, MAX(bytes, 64)) != 0) FAIL("memory");
    memset(p, 0xff, MAX(bytes, 64));
    return p;
}

/* C[M, N] (+)= A[M, K] B[K, N], K in pieces of kc. */
static void multiply(const GemmCore *g, float *c, size_t ldc, Mat a, Mat b, int M, int N, int K,
                     int kc, bool accumulate) {
    size_t kp_max = (size_t)ROUND_UP(MAX(K, 1), g->kr);
    void *pa = aligned(g->elem * (size_t)g->mr * kp_max),
         *pb = aligned(g->elem * (size_t)g->nr * kp_max);
    if (g->enter) g->enter();
    for (int i = 0; i < M; i += g->mr) {
        for (int j = 0; j < N; j += g->nr) {
            for (int k = 0; k < K; k += kc) {
                int m = MIN(g->mr, M - i), n = MIN(g->nr, N - j), len = MIN(kc, K - k);
                g->pack_a(pa, a.p + i * a.rs + k * a.cs, a.rs, a.cs, m, len);
                g->pack_b(pb, b.p + k * b.rs + j * b.cs, b.rs, b.cs, len, n);
                g->tile(c + (size_t)i * ldc + (size_t)j, ldc, pa, pb, ROUND_UP(len, g->kr), m, n,
                        accumulate || k > 0);
            }
        }
    }
    if (g->leave) g->leave();
    free(pa);
    free(pb);
}

/* kind 0: NN, 1: NT, 2: TN; what is transposed lies so in memory. */
static void check_core(const GemmCore *g, int M, int N, int K, int kind, bool accumulate) {
    const char *slot = core_slot(g);
    size_t lda = (size_t)(kind == 2 ? M : K) + 3, ldb = (size_t)(kind == 1 ? K : N) + 2;
    size_t a_rows = (size_t)(kind == 2 ? K : M), b_rows = (size_t)(kind == 1 ? N : K);
    size_t ldc = (size_t)N + 1, n_c = (size_t)(M - 1) * ldc + (size_t)N;
    float *pa = kt_normals((a_rows - 1) * lda + lda - 3, 1),
          *pb = kt_normals((b_rows - 1) * ldb + ldb - 2, 1);
    Mat a = {pa, kind == 2 ? 1 : (ptrdiff_t)lda, kind == 2 ? (ptrdiff_t)lda : 1};
    Mat b = {pb, kind == 1 ? 1 : (ptrdiff_t)ldb, kind == 1 ? (ptrdiff_t)ldb : 1};
    float *c = kt_normals(n_c, 1), *c0 = kt_copy(c, n_c), *cut = kt_copy(c, n_c);
    multiply(g, c, ldc, a, b, M, N, K, K, accumulate);
    for (int i = 0; i < M; i++) {
        for (int j = 0; j < N; j++) {
            size_t at = (size_t)i * ldc + (size_t)j;
            double sum = accumulate ? (double)c0[at] : 0, terms = fabs(sum);
            for (int k = 0; k < K; k++) {
                double v = (double)seen(g, el(a, i, k)) * (double)seen(g, el(b, k, j));
                sum += v;
                terms += fabs(v);
            }
            kt_near(slot, at, c[at], sum, terms);
        }
        if (i + 1 < M) TRUE_(c[(size_t)i * ldc + (size_t)N] == c0[(size_t)i * ldc + (size_t)N]);
    }
    multiply(g, cut, ldc, a, b, M, N, K, 2 * g->kr, accumulate);
    kt_same(slot, cut, c, n_c * sizeof *c);
}

static void check_all(const GemmCore *g) {
    static const int ks[] = {1, 2, 3, 7, 31, 32, 33, 64, 100};
    int ms[] = {1, 2, g->mr - 1, g->mr, g->mr + 1, 2 * g->mr + 1};
    int ns[] = {1, 3, g->nr - 1, g->nr, g->nr + 1, 2 * g->nr + 5};
    for (size_t i = 0; i < COUNT_OF(ms) * COUNT_OF(ns) * COUNT_OF(ks); i++) {
        int m = ms[i % COUNT_OF(ms)], n = ns[i / COUNT_OF(ms) % COUNT_OF(ns)];
        int k = ks[i / COUNT_OF(ms) / COUNT_OF(ns)];
        for (int kind = 0; kind < 3 && m > 0 && n > 0; kind++) {
            kt_start(i);
            check_core(g, m, n, k, kind, i % 2 == 0);
            kt_free();
        }
    }
    kt_start(1);
    check_core(g, g->mr + 1, g->nr + 1, 2048, 1, true);
    kt_free();
}

TEST(gemm_f32_matches_float64) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (kt_level(l)) check_all(&kt.gemm_f32);
    }
}

TEST(gemm_bf16_matches_float64) {
    int checked = 0;
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        if (!kt.gemm_bf16.tile) continue;
        checked++;
        check_all(&kt.gemm_bf16);
    }
    if (checked == 0) SKIP("no level of this processor has bf16 products");
}

/* The bits of an element depend on its row and column alone, not on the tile it was computed in. */
TEST(gemm_rows_alone_have_the_same_bits) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        const GemmCore *g = kt.gemm_bf16.tile ? &kt.gemm_bf16 : &kt.gemm_f32;
        enum { M = 29, N = 37, K = 65 };
        kt_start(6);
        float *pa = kt_normals(M * K, 1), *pb = kt_normals(N * K, 1), *c = kt_floats(M * N), one;
        multiply(g, c, N, (Mat){pa, K, 1}, (Mat){pb, 1, K}, M, N, K, K, false);
        for (int i = 0; i < M; i++) {
            for (int j = 0; j < N; j++) {
                multiply(g, &one, 1, (Mat){pa + i * K, K, 1}, (Mat){pb + j * K, 1, K}, 1, 1, K, K,
                         false);
                kt_same(core_slot(g), &one, &c[i * N + j], sizeof one);
            }
        }
        kt_free();
    }
}
