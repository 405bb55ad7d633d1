/* SPDX-License-Identifier: Apache-2.0
 * bf16 matrix product on AMX: 32 x 32 of C in four accumulator tiles, two tiles of A and two of B per 32
 * steps of k, each loaded once for two products.
 *
 * A panel  [k/32][2][16 rows][32 k]            a tile is 16 rows of 64 bytes
 * B panel  [k/32][2][16 pairs][16 columns][2]  row p of a tile holds k = 2p and 2p + 1 of 16 columns */
#include <immintrin.h>
#include <string.h>

#include "kernel/internal.h"
#include "tensor/half.h"

enum { MR = 32, NR = 32, KR = 32, TILE = 16 * 32 /* bf16 elements of a tile */ };

typedef struct TileConfig { /* Intel SDM, LDTILECFG */
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} TileConfig;
_Static_assert(sizeof(TileConfig) == 64, "tile configuration");

static void enter(void) {
    TileConfig c = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        c.bytes[i] = 64;
        c.rows[i] = 16;
    }
    _tile_loadconfig(&c);
}

static void leave(void) { _tile_release(); }

/* r[i] lane j <-> r[j] lane i, 32-bit lanes. */
static inline void transpose16(__m512i r[16]) {
    __m512i t[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
        r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
        r[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
        r[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
    }
}

static inline __mmask16 mask16(int n) {
    return (__mmask16)(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1);
}

/* 32 consecutive steps of one lane as bf16, k_left of them there. */
static inline __m512i row32(const float *s, int k_left) {
    __m512 lo = _mm512_maskz_loadu_ps(mask16(k_left), s);
    __m512 hi = _mm512_maskz_loadu_ps(mask16(k_left - 16), k_left > 16 ? s + 16 : s);
    return (__m512i)_mm512_cvtne2ps_pbh(hi, lo);
}

/* Steps 2p and 2p + 1 of 16 consecutive lanes as dwords, n of them there. */
static inline __m512i pair16(const float *s, ptrdiff_t step, int n, bool second) {
    __m512 lo = _mm512_maskz_loadu_ps(mask16(n), s);
    __m512 hi = second ? _mm512_maskz_loadu_ps(mask16(n), s + step) : _mm512_setzero_ps();
    __m512i l = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(lo));
    __m512i h = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(hi));
    return _mm512_or_si512(l, _mm512_slli_epi32(h, 16));
}

/* 16 lanes x 32 steps into r: with k contiguous lane by lane, else pair by pair. n lanes and k steps are
 * there, the rest is zero. Returns true if r is by lane. */
static inline bool gather(__m512i r[16], const float *src, ptrdiff_t lane, ptrdiff_t step, int n,
                          int k) {
    if (step == 1) {
        for (int i = 0; i < 16; i++)
            r[i] = i < n ? row32(src + i * lane, k) : _mm512_setzero_si512();
        return true;
    }
    if (lane == 1) {
        for (int p = 0; p < 16; p++)
            r[p] = 2 * p < k ? pair16(src + 2 * p * step, step, n, 2 * p + 1 < k)
                             : _mm512_setzero_si512();
        return false;
    }
    for (int i = 0; i < 16; i++) {
        float t[32] ALIGNED(64) = {0};
        for (int j = 0; i < n && j < MIN(k, 32); j++) t[j] = src[i * lane + j * step];
        r[i] = row32(t, 32);
    }
    return true;
}

/* One panel of 32 lanes; by_lane: tiles of 16 lanes x 32 k (A), else of 16 pairs x 16 lanes (B). */
static void pack(uint16_t *dst, const float *src, ptrdiff_t lane, ptrdiff_t step, int n_lanes,
                 int k, bool by_lane) {
    for (int j = 0; j < k; j += KR)
        for (int half = 0; half < 2; half++) {
            __m512i r[16];
            const float *s = src + 16 * half * lane + j * step;
            if (gather(r, s, lane, step, n_lanes - 16 * half, k - j) != by_lane) transpose16(r);
            for (int i = 0; i < 16; i++) _mm512_storeu_si512(dst + 32 * i, r[i]);
            dst += TILE;
        }
}

static void pack_a(void *dst, const float *src, ptrdiff_t rs, ptrdiff_t cs, int m, int k) {
    pack(dst, src, rs, cs, m, k, true);
}

static void pack_b(void *dst, const float *src, ptrdiff_t rs, ptrdiff_t cs, int k, int n) {
    pack(dst, src, cs, rs, n, k, false);
}

/* Whole 32 x 32 tile. While one step's four products run, the lines of a later step come nearer. */
static void tile_full(float *c, size_t ldc, const uint16_t *a, const uint16_t *b, int kp,
                      bool accumulate) {
    size_t ld = ldc * sizeof *c;
    float *c1 = c + 16 * ldc;
    if (accumulate) {
        _tile_loadd(0, c, ld);
        _tile_loadd(1, c + 16, ld);
        _tile_loadd(2, c1, ld);
        _tile_loadd(3, c1 + 16, ld);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int k = 0; k < kp; k += KR) {
        _tile_loadd(4, a, 64);
        _tile_loadd(6, b, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + TILE, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + TILE, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        for (int i = 0; i < 32; i++) {
            _mm_prefetch((const char *)(a + 4 * TILE + 32 * i), _MM_HINT_T0);
            _mm_prefetch((const char *)(b + 4 * TILE + 32 * i), _MM_HINT_T0);
        }
        a += 2 * TILE;
        b += 2 * TILE;
    }
    _tile_stored(0, c, ld);
    _tile_stored(1, c + 16, ld);
    _tile_stored(2, c1, ld);
    _tile_stored(3, c1 + 16, ld);
}

static void tile(float *c, size_t ldc, const void *a, const void *b, int kp, int m, int n,
                 bool accumulate) {
    if (m == MR && n == NR) {
        tile_full(c, ldc, a, b, kp, accumulate);
        return;
    }
    float t[MR * NR] ALIGNED(64);
    memset(t, 0, sizeof t);
    for (int i = 0; accumulate && i < m; i++)
        memcpy(t + i * NR, c + (size_t)i * ldc, (size_t)n * sizeof *c);
    tile_full(t, NR, a, b, kp, accumulate);
    for (int i = 0; i < m; i++) memcpy(c + (size_t)i * ldc, t + i * NR, (size_t)n * sizeof *c);
}

void kern_amx_gemm(Kern *k) {
    k->gemm_bf16 = (GemmCore){.name = "bf16 amx 32x32",
                              .mr = MR,
                              .nr = NR,
                              .kr = KR,
                              .elem = sizeof(uint16_t),
                              .pack_a = pack_a,
                              .pack_b = pack_b,
                              .tile = tile,
                              .enter = enter,
                              .leave = leave};
}
