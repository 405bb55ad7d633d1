/* SPDX-License-Identifier: Apache-2.0
 * linear, linear_t and linear_dw on the CPU: C[M, N] (+)= A[M, K] B[K, N] through the kernel table's packed
 * core, for any strides and weight type.
 *
 * One operand is packed once into memory all workers share, the other a block at a time by the worker that
 * needs it: B (the weights) is shared when there are many rows, A (the activations) when there are few. A
 * quantized weight is expanded a panel at a time on its way into the packer. Every element of C is one chain
 * over k in order, so the cut into blocks, and who runs them, cannot change a bit.
 *
 * Few rows (decoding) take the gemv kernels straight from the weight as it lies. */
#include "device/internal.h"
#include "kernel/packed.h"

enum {
    GEMV_MAX_ROWS = 16, /* up to here gemv beats packing; half of it beside a core of bf16 */
    SHARE_A_ROWS = 384, /* up to here A is the shared operand */
    BLOCK_ROWS = 96,    /* rows of A a worker packs at a time (B shared), about */
    BLOCK_COLS = 128    /* columns of B a worker packs at a time (A shared), about */
};

/* Where B[k, n] lies: plain floats with strides, or a weight matrix of any type by its rows. */
typedef struct Operand {
    const float *p;
    ptrdiff_t rs, cs; /* strides over k and n */
    const Weight *w;  /* not f32: then p is NULL */
    bool w_rows_are_k;
} Operand;

typedef struct Gemm {
    CpuDevice *d;
    const GemmCore *core; /* NULL: the device's */
    int M, N, K;
    const float *a;
    ptrdiff_t a_rs, a_cs;
    Operand b;
    float *c;
    size_t ldc;
    const float *bias; /* [N] added after the last k, or NULL */
    bool add;
    int kc;         /* k of one pass over a block, so that a panel stays in the first cache */
    int k0, kn;     /* k range of this round (packed operand) */
    int n0, nn;     /* n range of this round (B shared) */
    int n_per_task; /* columns of one task (B shared) */
} Gemm;

/* The most k of one pass: C goes through the caches once per pass, a panel of B must stay near. */
static int kc_max(const GemmCore *c) { return c->elem == 2 ? 1024 : 512; }
static int group_cols(const GemmCore *c) { return MAX(256, c->nr); }

size_t cpu__gemm_scratch(const GemmCore *c) {
    size_t kc = (size_t)kc_max(c), expand = kc * (size_t)group_cols(c) * sizeof(float);
    size_t rows = ROUND_UP((size_t)MAX(BLOCK_ROWS, BLOCK_COLS), (size_t)MAX(c->mr, c->nr));
    return ROUND_UP(expand + (rows + (size_t)group_cols(c)) * kc * c->elem + 512, (size_t)4096);
}

static size_t panel_bytes(const GemmCore *c, int lanes, int k) {
    return (size_t)lanes * ROUND_UP((size_t)k, (size_t)c->kr) * c->elem;
}

/* Floats of B's columns [n, n + nn) and steps [k, k + kn) at *p with strides: in place, or expanded. */
static const float *b_floats(const Gemm *g, int k, int kn, int n, int nn, float *tmp, ptrdiff_t *rs,
                             ptrdiff_t *cs) {
    const Operand *b = &g->b;
    if (b->p) {
        *rs = b->rs;
        *cs = b->cs;
        return b->p + k * b->rs + n * b->cs;
    }
    const Weight *w = b->w;
    const Kern *kern = &g->d->kern;
    const char *base = w->buf->p + w->off_bytes;
    size_t row = dtype_bytes(w->type, (size_t)w->cols);
    if (b->w_rows_are_k) {
        for (int j = 0; j < kn; j++)
            kern->to_f32[w->type](tmp + (size_t)j * (size_t)nn,
                                  base + (size_t)(k + j) * row + dtype_bytes(w->type, (size_t)n),
                                  (size_t)nn);
        *rs = nn;
        *cs = 1;
    } else if (w->pack) {
        int R = kern->pack_rows;
        for (int i = 0; i < nn; i += R)
            kern->packed_to_f32[w->type](tmp + (size_t)i * (size_t)kn, (size_t)kn,
                                         cpu__pack_group(w, (n + i) / R), k, kn, R);
        *rs = 1;
        *cs = kn;
    } else {
        for (int i = 0; i < nn; i++)
            kern->to_f32[w->type](tmp + (size_t)i * (size_t)kn,
                                  base + (size_t)(n + i) * row + dtype_bytes(w->type, (size_t)k),
                                  (size_t)kn);
        *rs = 1;
        *cs = kn;
    }
    return tmp;
}

/* Columns expanded together: whole blocks of a quantized row. */
static int b_group(const Gemm *g) {
    if (g->b.p || !g->b.w_rows_are_k) return g->core->nr;
    return MAX(g->core->nr, dtype_info(g->b.w->type)->block);
}

/* Pack columns [n, n + nn) and steps [k, k + kn); panel p goes to dst + p * pitch. kn <= kc. */
static void pack_b_cols(const Gemm *g, char *dst, size_t pitch, int k, int kn, int n, int nn,
                        float *tmp) {
    int group = b_group(g), nr = g->core->nr;
    for (int i = 0; i < nn; i += group) {
        int gn = MIN(group, nn - i);
        ptrdiff_t rs, cs;
        const float *src = b_floats(g, k, kn, n + i, gn, tmp, &rs, &cs);
        for (int p = 0; p < gn; p += nr)
            g->core->pack_b(dst + (size_t)((i + p) / nr) * pitch, src + p * cs, rs, cs, kn,
                            MIN(nr, gn - p));
    }
}

/* Rows [m, m + mn) and steps [k, k + kn). Where rows lie side by side (a transposed A) all panels take a few
 * steps at a time, so that a cache line is used up before it leaves. */
static void pack_a_rows(const Gemm *g, char *dst, size_t pitch, int k, int kn, int m, int mn) {
    const GemmCore *c = g->core;
    int part = g->a_rs == 1 ? MAX(16, c->kr) : kn;
    for (int j = 0; j < kn; j += part)
        for (int i = 0; i < mn; i += c->mr)
            c->pack_a(dst + (size_t)(i / c->mr) * pitch + panel_bytes(c, c->mr, j),
                      g->a + (m + i) * g->a_rs + (k + j) * g->a_cs, g->a_rs, g->a_cs,
                      MIN(c->mr, mn - i), MIN(part, kn - j));
}

/* C[m.., n..] (+)= over kn steps; panels of A and B lie `pitch` apart. */
static void tiles(const Gemm *g, const char *a, size_t a_pitch, const char *b, size_t b_pitch,
                  int kn, int m, int mn, int n, int nn, bool accumulate) {
    const GemmCore *c = g->core;
    int kp = ROUND_UP(kn, c->kr);
    for (int j = 0; j < nn; j += c->nr)
        for (int i = 0; i < mn; i += c->mr)
            c->tile(g->c + (size_t)(m + i) * g->ldc + (size_t)(n + j), g->ldc,
                    a + (size_t)(i / c->mr) * a_pitch, b + (size_t)(j / c->nr) * b_pitch, kp,
                    MIN(c->mr, mn - i), MIN(c->nr, nn - j), accumulate);
}

static void add_bias(const Gemm *g, int m, int mn, int n, int nn) {
    if (!g->bias || g->k0 + g->kn < g->K) return;
    for (int i = 0; i < mn; i++)
        g->d->kern.add(g->c + (size_t)(m + i) * g->ldc + (size_t)n, g->bias + n, (size_t)nn);
}

/* ---- few rows: A shared, tasks over columns ---- */

static void share_a_pack(void *ctx, int64_t tile, int worker) {
    (void)worker;
    Gemm *g = ctx;
    int mr = g->core->mr, m = (int)tile * mr;
    size_t pitch = panel_bytes(g->core, mr, g->kn);
    g->core->pack_a(g->d->shared + (size_t)tile * pitch, g->a + m * g->a_rs + g->k0 * g->a_cs,
                    g->a_rs, g->a_cs, MIN(mr, g->M - m), g->kn);
}

static int share_a_cols(const Gemm *g) { return ROUND_UP(MAX(BLOCK_COLS, b_group(g)), b_group(g)); }

static void share_a_task(void *ctx, int64_t tile, int worker) {
    Gemm *g = ctx;
    const GemmCore *c = g->core;
    int cols = share_a_cols(g), n = (int)tile * cols, nn = MIN(cols, g->N - n);
    char *at = g->d->scratch[worker].p;
    float *tmp = cpu_take(&at, (size_t)g->kc * (size_t)group_cols(c) * sizeof(float));
    size_t a_pitch = panel_bytes(c, c->mr, g->kn), b_pitch = panel_bytes(c, c->nr, g->kc);
    if (c->enter) c->enter();
    for (int k = 0; k < g->kn; k += g->kc) {
        int kn = MIN(g->kc, g->kn - k);
        pack_b_cols(g, at, b_pitch, g->k0 + k, kn, n, nn, tmp);
        tiles(g, g->d->shared + panel_bytes(c, c->mr, k), a_pitch, at, b_pitch, kn, 0, g->M, n, nn,
              g->add || g->k0 + k > 0);
    }
    if (c->leave) c->leave();
    add_bias(g, 0, g->M, n, nn);
}

static void gemm_share_a(Gemm *g) {
    size_t per_k = ROUND_UP((size_t)g->M, (size_t)g->core->mr) * g->core->elem;
    int most = (int)(CPU_SHARED_BYTES / per_k) / g->kc * g->kc;
    for (g->k0 = 0; g->k0 < g->K; g->k0 += g->kn) {
        g->kn = MIN(most, g->K - g->k0);
        cpu__for(g->d, (size_t)g->M, (size_t)g->core->mr, share_a_pack, g);
        cpu__for(g->d, (size_t)g->N, (size_t)share_a_cols(g), share_a_task, g);
    }
}

/* ---- many rows: B shared, tasks over blocks of rows (and columns, when there are few rows) ---- */

static int share_b_rows(const Gemm *g) { return MAX(1, BLOCK_ROWS / g->core->mr) * g->core->mr; }

static void share_b_pack(void *ctx, int64_t tile, int worker) {
    Gemm *g = ctx;
    const GemmCore *c = g->core;
    int group = b_group(g), n = (int)tile * group;
    size_t pitch = panel_bytes(c, c->nr, g->kn);
    char *at = g->d->scratch[worker].p, *dst = g->d->shared + (size_t)(n / c->nr) * pitch;
    float *tmp = cpu_take(&at, (size_t)g->kc * (size_t)group_cols(c) * sizeof(float));
    for (int k = 0; k < g->kn; k += g->kc)
        pack_b_cols(g, dst + panel_bytes(c, c->nr, k), pitch, g->k0 + k, MIN(g->kc, g->kn - k),
                    g->n0 + n, MIN(group, g->nn - n), tmp);
}

static void share_b_task(void *ctx, int64_t tile, int worker) {
    Gemm *g = ctx;
    const GemmCore *c = g->core;
    int rows = share_b_rows(g), n_tasks = (g->nn + g->n_per_task - 1) / g->n_per_task;
    int m = (int)(tile / n_tasks) * rows, mn = MIN(rows, g->M - m);
    int n = (int)(tile % n_tasks) * g->n_per_task, nn = MIN(g->n_per_task, g->nn - n);
    size_t a_pitch = panel_bytes(c, c->mr, g->kc), b_pitch = panel_bytes(c, c->nr, g->kn);
    char *a = g->d->scratch[worker].p;
    const char *b = g->d->shared + (size_t)(n / c->nr) * b_pitch;
    if (c->enter) c->enter();
    for (int k = 0; k < g->kn; k += g->kc) {
        int kn = MIN(g->kc, g->kn - k);
        pack_a_rows(g, a, a_pitch, g->k0 + k, kn, m, mn);
        tiles(g, a, a_pitch, b + panel_bytes(c, c->nr, k), b_pitch, kn, m, mn, g->n0 + n, nn,
              g->add || g->k0 + k > 0);
    }
    if (c->leave) c->leave();
    add_bias(g, m, mn, g->n0 + n, nn);
}

/* Columns and k of a round: as many columns as fit the shared memory over the whole of K, else cut K too. */
static void share_b_plan(const Gemm *g, int *cols, int *most_k) {
    int unit = ROUND_UP(256, b_group(g));
    size_t kp = ROUND_UP((size_t)g->K, (size_t)g->core->kr), fit = CPU_SHARED_BYTES / g->core->elem;
    *most_k = g->K;
    *cols = (int)MIN(fit / kp / (size_t)unit * (size_t)unit, (size_t)ROUND_UP(g->N, unit));
    if (*cols > 0) return;
    *cols = unit;
    *most_k = (int)(fit / (size_t)unit) / g->kc * g->kc;
}

static void gemm_share_b(Gemm *g) {
    int cols, most_k, blocks = (g->M + share_b_rows(g) - 1) / share_b_rows(g);
    share_b_plan(g, &cols, &most_k);
    for (g->n0 = 0; g->n0 < g->N; g->n0 += g->nn) {
        g->nn = MIN(cols, g->N - g->n0);
        int parts = MAX(1, MIN(16 / blocks, g->nn / 256));
        g->n_per_task = ROUND_UP((g->nn + parts - 1) / parts, g->core->nr);
        int n_tasks = (g->nn + g->n_per_task - 1) / g->n_per_task;
        for (g->k0 = 0; g->k0 < g->K; g->k0 += g->kn) {
            g->kn = MIN(most_k, g->K - g->k0);
            cpu__for(g->d, (size_t)g->nn, (size_t)b_group(g), share_b_pack, g);
            cpu__for(g->d, (size_t)blocks * (size_t)n_tasks, 1, share_b_task, g);
        }
    }
}

/* Equal passes over K, of whole quantized blocks. */
static int kc_of(const Gemm *g) {
    int unit = MAX(32, g->b.p ? 1 : dtype_info(g->b.w->type)->block);
    int n = (g->K + kc_max(g->core) - 1) / kc_max(g->core);
    return ROUND_UP((g->K + n - 1) / n, unit);
}

/* Without rows or columns there is nothing to write; without steps, which only an added product can have, nothing to
 * add. */
static void gemm_run(Gemm *g) {
    if (g->M == 0 || g->N == 0 || g->K == 0) return;
    if (!g->core) g->core = g->d->core;
    g->kc = kc_of(g);
    if (g->M <= SHARE_A_ROWS) gemm_share_a(g);
    else gemm_share_b(g);
}

/* ---- gemv ---- */

typedef struct Gemv {
    CpuDevice *d;
    const LinearArgs *a;
} Gemv;

static void gemv_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    Gemv *g = ctx;
    const LinearArgs *a = g->a;
    const Weight *w = &a->w;
    const Kern *k = &g->d->kern;
    int n0 = (int)tile * BLOCK_COLS, nn = MIN(BLOCK_COLS, w->rows - n0);
    const char *rows =
        w->buf->p + w->off_bytes + (size_t)n0 * dtype_bytes(w->type, (size_t)w->cols);
    const float *x = cpu_ptr(a->x), *bias = cpu_ptr(a->bias);
    float *y = cpu_ptr(a->y) + n0, out[4 * BLOCK_COLS];
    for (int t = 0; t < a->T; t += 4) {
        int m = MIN(4, a->T - t);
        k->gemv[w->type](out, BLOCK_COLS, rows, x + (size_t)t * a->ldx, a->ldx, m, nn, w->cols);
        for (int i = 0; i < m; i++) {
            float *row = y + (size_t)(t + i) * a->ldy, *o = out + i * BLOCK_COLS;
            if (bias) k->add(o, bias + n0, (size_t)nn);
            if (a->add) k->add(row, o, (size_t)nn);
            else memcpy(row, o, (size_t)nn * sizeof *o);
        }
    }
}

/* ---- the operations ---- */

static Operand operand_of(const Weight *w, bool rows_are_k) {
    Operand b = {.w = w, .w_rows_are_k = rows_are_k};
    if (w->type != DT_F32) return b;
    b.p = (const float *)(const void *)(w->buf->p + w->off_bytes);
    b.rs = rows_are_k ? w->cols : 1;
    b.cs = rows_are_k ? 1 : w->cols;
    return b;
}

int cpu__gemv_rows(const GemmCore *c) {
    return c->elem == sizeof(float) ? GEMV_MAX_ROWS : GEMV_MAX_ROWS / 2;
}

/* With numbers in f32 or bf16: few rows by gemv, many by the panel core. */
static void linear_plain(CpuDevice *c, const LinearArgs *a, const GemmCore *core) {
    c->rounded = DT_F32;
    if (a->T <= c->gemv_rows) {
        Gemv v = {c, a};
        cpu__for(c, (size_t)a->w.rows, BLOCK_COLS, gemv_task, &v);
        return;
    }
    Gemm g = {.d = c,
              .core = core,
              .M = a->T,
              .N = a->w.rows,
              .K = a->w.cols,
              .a = cpu_ptr(a->x),
              .a_rs = (ptrdiff_t)a->ldx,
              .a_cs = 1,
              .b = operand_of(&a->w, false),
              .c = cpu_ptr(a->y),
              .ldc = a->ldy,
              .bias = cpu_ptr(a->bias),
              .add = a->add};
    gemm_run(&g);
}

void cpu__linear(Device *d, const LinearArgs *a) {
    CpuDevice *c = cpu_of(d);
    bool integers = pack_kind(a->w.type).bits > 0 && (a->w.pack || c->invariant);
    assert(!(a->add && a->act));
    if (integers && a->T <= c->packed_rows) {
        cpu__linear_packed(c, a);
        return;
    }
    linear_plain(c, a, integers ? c->wide : NULL);
    if (a->act) cpu__act_all(c, a);
}

void cpu__linear_t(Device *d, const LinearTArgs *a) {
    Gemm g = {.d = cpu_of(d),
              .M = a->T,
              .N = a->w.cols,
              .K = a->w.rows,
              .a = cpu_ptr(a->dy),
              .a_rs = (ptrdiff_t)a->ldy,
              .a_cs = 1,
              .b = operand_of(&a->w, true),
              .c = cpu_ptr(a->dx),
              .ldc = a->ldx,
              .add = a->add};
    gemm_run(&g);
}

typedef struct ColSum {
    CpuDevice *d;
    const LinearDwArgs *a;
} ColSum;

static void col_sum_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    ColSum *s = ctx;
    const LinearDwArgs *a = s->a;
    int n0 = (int)tile * 64;
    s->d->kern.col_sum(cpu_ptr(a->dbias) + n0, cpu_ptr(a->dy) + n0, a->ldy, a->T,
                       MIN(64, a->rows - n0));
}

void cpu__linear_dw(Device *d, const LinearDwArgs *a) {
    CpuDevice *c = cpu_of(d);
    Gemm g = {.d = c,
              .M = a->rows,
              .N = a->cols,
              .K = a->T,
              .a = cpu_ptr(a->dy),
              .a_rs = 1,
              .a_cs = (ptrdiff_t)a->ldy,
              .b = {.p = cpu_ptr(a->x), .rs = (ptrdiff_t)a->ldx, .cs = 1},
              .c = cpu_ptr(a->dw),
              .ldc = (size_t)a->cols,
              .add = true};
    gemm_run(&g);
    if (!a->dbias.buf) return;
    ColSum s = {c, a};
    cpu__for(c, (size_t)a->rows, 64, col_sum_task, &s);
}
