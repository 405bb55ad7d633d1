/* SPDX-License-Identifier: Apache-2.0
 * The bf16 product cores (AMX, AVX-512 BF16) on machines without those instructions: a test includes this
 * header, then the core's source, which is thereby compiled with the instructions replaced by their
 * definitions in plain C, and must multiply right. It holds layouts, edges and tile traffic to account, not
 * the silicon; where the processor has the instructions, gemm.c of this folder runs the real ones. */
#ifndef INGOT_TESTS_KERNEL_EMULATED_H
#define INGOT_TESTS_KERNEL_EMULATED_H

#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")
#include "test.h"

#include <immintrin.h>
#include <math.h>
#include <stdlib.h>

#include "kernel/internal.h"
#include "tensor/half.h"

/* ---- the instructions ---- */

static uint8_t tiles_mem[8][16][64];
static bool configured;

static UNUSED void emu_loadconfig(const void *p) {
    const uint8_t *c = p;
    EQ(c[0], 1);
    for (int i = 0; i < 8; i++) {
        EQ(c[16 + 2 * i] | c[17 + 2 * i] << 8, 64);
        EQ(c[48 + i], 16);
    }
    configured = true;
}
static UNUSED void emu_release(void) { configured = false; }
static UNUSED void emu_zero(int t) { memset(tiles_mem[t], 0, sizeof tiles_mem[t]); }
static UNUSED void emu_loadd(int t, const void *p, size_t stride) {
    TRUE_(configured);
    for (int r = 0; r < 16; r++) memcpy(tiles_mem[t][r], (const char *)p + (size_t)r * stride, 64);
}
static UNUSED void emu_stored(int t, void *p, size_t stride) {
    for (int r = 0; r < 16; r++) memcpy((char *)p + (size_t)r * stride, tiles_mem[t][r], 64);
}
static float lane_bf16(const void *p, int i) {
    uint16_t h;
    memcpy(&h, (const char *)p + 2 * i, sizeof h);
    return half_bf16_to_f32(h);
}
static UNUSED void emu_dpbf16ps(int c, int a, int b) {
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 16; n++) {
            float s;
            memcpy(&s, &tiles_mem[c][m][4 * n], sizeof s);
            for (int k = 0; k < 16; k++)
                for (int i = 0; i < 2; i++)
                    s += lane_bf16(tiles_mem[a][m], 2 * k + i) *
                         lane_bf16(tiles_mem[b][k], 2 * n + i);
            memcpy(&tiles_mem[c][m][4 * n], &s, sizeof s);
        }
}
static UNUSED __m512i emu_cvtne2(__m512 hi, __m512 lo) {
    float f[32];
    uint16_t h[32];
    _mm512_storeu_ps(f, lo);
    _mm512_storeu_ps(f + 16, hi);
    for (int i = 0; i < 32; i++) h[i] = half_f32_to_bf16(f[i]);
    return _mm512_loadu_si512(h);
}
static UNUSED __m256i emu_cvtne(__m512 x) { return _mm512_castsi512_si256(emu_cvtne2(x, x)); }
static UNUSED __m512 emu_dp(__m512 s, __m512bh a, __m512bh b) {
    float f[16];
    uint16_t x[32], y[32];
    _mm512_storeu_ps(f, s);
    memcpy(x, &a, sizeof x);
    memcpy(y, &b, sizeof y);
    for (int i = 0; i < 32; i++) f[i / 2] += half_bf16_to_f32(x[i]) * half_bf16_to_f32(y[i]);
    return _mm512_loadu_ps(f);
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig emu_loadconfig
#define _tile_release emu_release
#define _tile_zero emu_zero
#define _tile_loadd emu_loadd
#define _tile_stored emu_stored
#define _tile_dpbf16ps emu_dpbf16ps
#define _mm512_cvtne2ps_pbh emu_cvtne2
#define _mm512_cvtneps_pbh emu_cvtne
#define _mm512_dpbf16_ps emu_dp

static bool machine_can_run_this(void) { return (kern_caps() & CAP_AVX512) != 0; }

/* ---- the products ---- */

static uint32_t seed = 1;
static float rnd(void) {
    seed = seed * 1664525u + 1013904223u;
    return (float)(int32_t)seed * 0x1p-31f;
}
static float rounded(float x) { return half_bf16_to_f32(half_f32_to_bf16(x)); }

/* Exactly sized and 64-byte aligned, so that a sanitizer sees a step too far. */
static void *packed(size_t n) {
    void *p = NULL;
    EQ(posix_memalign(&p, 64, n), 0);
    memset(p, 0xff, n);
    return p;
}

typedef struct Shape {
    int M, N, K, k_cut;
    bool a_trans, b_trans;
} Shape;

static void check_product(const GemmCore *c, Shape s) {
    size_t mn = (size_t)s.M * (size_t)s.N;
    float *a = malloc((size_t)s.M * (size_t)s.K * 4), *b = malloc((size_t)s.K * (size_t)s.N * 4);
    float *out = malloc(mn * 4);
    for (int i = 0; i < s.M * s.K; i++) a[i] = rnd();
    for (int i = 0; i < s.K * s.N; i++) b[i] = rnd();
    ptrdiff_t a_rs = s.a_trans ? 1 : s.K, a_cs = s.a_trans ? s.M : 1;
    ptrdiff_t b_rs = s.b_trans ? 1 : s.N, b_cs = s.b_trans ? s.K : 1;
    if (c->enter) c->enter();
    for (int k0 = 0; k0 < s.K; k0 += s.k_cut) {
        int k = MIN(s.k_cut, s.K - k0), kp = ROUND_UP(k, c->kr);
        void *pa = packed((size_t)c->mr * (size_t)kp * c->elem),
             *pb = packed((size_t)c->nr * (size_t)kp * c->elem);
        for (int i = 0; i < s.M; i += c->mr)
            for (int j = 0; j < s.N; j += c->nr) {
                int m = MIN(c->mr, s.M - i), n = MIN(c->nr, s.N - j);
                c->pack_a(pa, a + i * a_rs + k0 * a_cs, a_rs, a_cs, m, k);
                c->pack_b(pb, b + k0 * b_rs + j * b_cs, b_rs, b_cs, k, n);
                c->tile(out + i * s.N + j, (size_t)s.N, pa, pb, kp, m, n, k0 > 0);
            }
        free(pa);
        free(pb);
    }
    if (c->leave) c->leave();
    for (int i = 0; i < s.M; i++)
        for (int j = 0; j < s.N; j++) {
            double want = 0.0, size = 0.0;
            for (int k = 0; k < s.K; k++) {
                double t = (double)rounded(a[i * a_rs + k * a_cs]) *
                           (double)rounded(b[k * b_rs + j * b_cs]);
                want += t;
                size += fabs(t);
            }
            NEAR(out[i * s.N + j], want, 2e-6 * size);
        }
    free(a);
    free(b);
    free(out);
}

static void check_core(void (*fill)(Kern *)) {
    static const Shape shapes[] = {
        {32, 32, 32, 32, false, false}, {64, 64, 64, 32, false, true},
        {32, 32, 64, 64, true, false},  {1, 1, 1, 32, false, false},
        {33, 31, 47, 32, false, true},  {17, 65, 33, 64, true, false},
        {50, 40, 96, 64, true, true},   {12, 32, 34, 34, false, true},
        {45, 70, 5, 32, true, true},    {31, 16, 31, 32, true, false},
    };
    Kern k;
    memset(&k, 0, sizeof k);
    fill(&k);
    TRUE_(k.gemm_bf16.tile != NULL);
    for (size_t i = 0; i < COUNT_OF(shapes); i++) check_product(&k.gemm_bf16, shapes[i]);
}

#endif
