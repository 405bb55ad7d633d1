/* SPDX-License-Identifier: Apache-2.0
 * linear, linear_t and linear_dw against plain loops in float64: shapes around every boundary of
 * cpu_gemm.c, every weight type in both orientations, bias, adding, wide rows; and the laws that need no
 * reference: no bit depends on the threads, nor on which operand was packed for all. */
#include "dev.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

typedef struct Shape {
    int T, rows, cols;
} Shape;

/* A weight and its values, at an odd place of its buffer. */
typedef struct Mat {
    Weight w;
    float *v; /* [rows, cols] as the type holds them */
} Mat;

enum { AT = 192 }; /* bytes before a weight */

/* Blocks of random integers whose scales make weights of about 1. */
static void random_blocks(char *b, DType t, size_t bytes) {
    bool two = t == DT_Q4_1 || t == DT_Q5_1 || t == DT_Q4_K || t == DT_Q5_K;
    size_t step = (size_t)dtype_info((uint32_t)t)->block_bytes;
    size_t at = t == DT_Q6_K ? offsetof(BlockQ6_K, d) : 0;
    for (size_t i = 0; i < bytes; i++) b[i] = (char)dev_u32();
    for (size_t i = 0; i < bytes; i += step) {
        float d = dev_rnd() * (t == DT_Q8_0 ? 0.01f : step > 64 ? 0.002f : 0.1f), m = dev_rnd();
        uint16_t h[2] = {half_f32_to_f16(d), half_f32_to_f16(step > 64 ? m * 0.02f : m)};
        memcpy(b + i + at, h, two ? sizeof h : sizeof h[0]);
    }
}

static Mat mat_new(Device *d, DType type, int rows, int cols) {
    Kern k;
    size_t n = (size_t)rows * (size_t)cols, bytes = dtype_bytes(type, n);
    float *x = dev_random(n);
    char *raw = dev_alloc(AT + ROUND_UP(bytes, (size_t)4), 1);
    OK_(kern_init(&k, "ref", TERR));
    if (dtype_info((uint32_t)type)->is_quantized) random_blocks(raw + AT, type, bytes);
    else k.from_f32[type](raw + AT, x, n);
    k.to_f32[type](x, raw + AT, n);
    Buf *b = d->ops->buf_new(d, AT + ROUND_UP(bytes, (size_t)4));
    TRUE_(b != NULL);
    d->ops->upload(d, buf_at(b, 0), raw, AT + ROUND_UP(bytes, (size_t)4));
    free(raw);
    return (Mat){{.type = type, .rows = rows, .cols = cols, .buf = b, .off_bytes = AT}, x};
}

static void mat_free(Device *d, Mat *m) {
    d->ops->buf_free(d, m->w.buf);
    free(m->v);
}

/* ---- one product, all of its elements or a sample of them ---- */

typedef struct Product {
    const char *what;
    int M, N, K;
    const float *a, *b; /* element (m, k) at a[m a_rs + k a_cs], (k, n) at b[k b_rs + n b_cs] */
    size_t a_rs, a_cs, b_rs, b_cs;
    const float *before, *bias; /* what C held, when added to; NULL: none */
    const float *got;
    size_t ld;
} Product;

static void check_element(const Product *p, size_t m, size_t n) {
    double sum = 0.0, terms = 0.0;
    for (size_t k = 0; k < (size_t)p->K; k++) {
        double t =
            (double)p->a[m * p->a_rs + k * p->a_cs] * (double)p->b[k * p->b_rs + n * p->b_cs];
        sum += t;
        terms += fabs(t);
    }
    if (p->bias) sum += (double)p->bias[n];
    if (p->before) sum += (double)p->before[m * p->ld + n];
    terms += (p->bias ? fabs((double)p->bias[n]) : 0.0) +
             (p->before ? fabs((double)p->before[m * p->ld + n]) : 0.0);
    char what[96];
    snprintf(what, sizeof what, "%s %d x %d x %d, row %zu", p->what, p->M, p->N, p->K, m);
    dev_near(what, n, p->got[m * p->ld + n], sum, 3e-6 * terms + 1e-30);
}

/* Elements at the edges of everything, and random ones. */
static void check_sample(const Product *p) {
    for (int i = 0; i < 160; i++) {
        size_t m = (size_t)dev_int(0, p->M - 1), n = (size_t)dev_int(0, p->N - 1);
        if (i < 40) m = i % 2 ? (size_t)p->M - 1 : 0;
        if (i < 80) n = i / 2 % 2 ? (size_t)p->N - 1 : 0;
        check_element(p, m, n);
    }
}

static void check_product(const Product *p) {
    if ((size_t)p->M * (size_t)p->N * (size_t)p->K > 150000) {
        check_sample(p);
        return;
    }
    for (size_t m = 0; m < (size_t)p->M; m++)
        for (size_t n = 0; n < (size_t)p->N; n++) check_element(p, m, n);
}

/* Columns beyond the row's width were not written. */
static void check_margin(const Product *p, const float *before, size_t n_rows) {
    for (size_t m = 0; m < n_rows; m++)
        for (size_t n = (size_t)p->N; n < p->ld; n++)
            if (memcmp(&p->got[m * p->ld + n], &before[m * p->ld + n], 4) != 0)
                FAIL("%s %d x %d x %d at level %s: wrote row %zu, column %zu", p->what, p->M, p->N,
                     p->K, dev_level, m, n);
}

/* ---- the operations: what they give, checked ---- */

static void run_linear(Device *d, Shape s, DType type, bool bias, bool add) {
    size_t T = (size_t)s.T, ldx = (size_t)s.cols + 3, ldy = (size_t)s.rows + 5;
    Mat w = mat_new(d, type, s.rows, s.cols);
    float *x = dev_random(T * ldx), *y0 = dev_random(T * ldy), *b = dev_random((size_t)s.rows);
    Buf *bx = dev_put(d, x, T * ldx), *by = dev_put(d, y0, T * ldy),
        *bb = dev_put(d, b, (size_t)s.rows);
    d->ops->linear(d, &(LinearArgs){.y = buf_at(by, 0),
                                    .ldy = ldy,
                                    .x = buf_at(bx, 0),
                                    .ldx = ldx,
                                    .bias = bias ? buf_at(bb, 0) : (BufAt){0},
                                    .w = w.w,
                                    .T = s.T,
                                    .add = add});
    float *y = dev_get(d, by, T * ldy);
    Product p = {
        "linear",        s.T, s.rows, s.cols, x, w.v, ldx, 1, 1, (size_t)s.cols, add ? y0 : NULL,
        bias ? b : NULL, y,   ldy};
    check_product(&p);
    check_margin(&p, y0, T);
    mat_free(d, &w);
    Buf *bufs[] = {bx, by, bb};
    for (size_t i = 0; i < COUNT_OF(bufs); i++) d->ops->buf_free(d, bufs[i]);
    free(x);
    free(y0);
    free(b);
    free(y);
}

static void run_linear_t(Device *d, Shape s, DType type, bool add) {
    size_t T = (size_t)s.T, ldy = (size_t)s.rows + 1, ldx = (size_t)s.cols + 7;
    Mat w = mat_new(d, type, s.rows, s.cols);
    float *dy = dev_random(T * ldy), *dx0 = dev_random(T * ldx);
    Buf *bdy = dev_put(d, dy, T * ldy), *bdx = dev_put(d, dx0, T * ldx);
    d->ops->linear_t(d, &(LinearTArgs){.dx = buf_at(bdx, 0),
                                       .ldx = ldx,
                                       .dy = buf_at(bdy, 0),
                                       .ldy = ldy,
                                       .w = w.w,
                                       .T = s.T,
                                       .add = add});
    float *dx = dev_get(d, bdx, T * ldx);
    Product p = {"linear_t",     s.T, s.cols,           s.rows, dy, w.v, ldy, 1,
                 (size_t)s.cols, 1,   add ? dx0 : NULL, NULL,   dx, ldx};
    check_product(&p);
    check_margin(&p, dx0, T);
    mat_free(d, &w);
    d->ops->buf_free(d, bdy);
    d->ops->buf_free(d, bdx);
    free(dy);
    free(dx0);
    free(dx);
}

static void check_dbias(const float *got, const float *before, const float *dy, size_t ldy,
                        Shape s) {
    for (size_t n = 0; n < (size_t)s.rows; n++) {
        double sum = (double)before[n], terms = fabs(sum);
        for (size_t t = 0; t < (size_t)s.T; t++) {
            sum += (double)dy[t * ldy + n];
            terms += fabs((double)dy[t * ldy + n]);
        }
        dev_near("dbias", n, got[n], sum, 3e-6 * terms);
    }
}

static void run_linear_dw(Device *d, Shape s, bool bias) {
    size_t T = (size_t)s.T, ldy = (size_t)s.rows + 2, ldx = (size_t)s.cols + 9,
           n = (size_t)s.rows * (size_t)s.cols;
    float *dy = dev_random(T * ldy), *x = dev_random(T * ldx), *dw0 = dev_random(n),
          *db0 = dev_random((size_t)s.rows);
    Buf *bdy = dev_put(d, dy, T * ldy), *bx = dev_put(d, x, T * ldx), *bdw = dev_put(d, dw0, n),
        *bdb = dev_put(d, db0, (size_t)s.rows);
    d->ops->linear_dw(d, &(LinearDwArgs){.dw = buf_at(bdw, 0),
                                         .dbias = bias ? buf_at(bdb, 0) : (BufAt){0},
                                         .dy = buf_at(bdy, 0),
                                         .ldy = ldy,
                                         .x = buf_at(bx, 0),
                                         .ldx = ldx,
                                         .rows = s.rows,
                                         .cols = s.cols,
                                         .T = s.T});
    float *dw = dev_get(d, bdw, n), *db = dev_get(d, bdb, (size_t)s.rows);
    Product p = {"linear_dw", s.rows, s.cols, s.T, dy,   x,  1,
                 ldy,         ldx,    1,      dw0, NULL, dw, (size_t)s.cols};
    check_product(&p);
    if (bias) check_dbias(db, db0, dy, ldy, s);
    else EQ_MEM(db, db0, (size_t)s.rows * sizeof *db);
    Buf *bufs[] = {bdy, bx, bdw, bdb};
    for (size_t i = 0; i < COUNT_OF(bufs); i++) d->ops->buf_free(d, bufs[i]);
    float *host[] = {dy, x, dw0, db0, dw, db};
    for (size_t i = 0; i < COUNT_OF(host); i++) free(host[i]);
}

static void run_all(Device *d, Shape s, DType type) {
    for (int i = 0; i < 4; i++) run_linear(d, s, type, i & 1, i & 2);
    for (int i = 0; i < 2; i++) run_linear_t(d, s, type, i & 1);
    if (type != DT_F32) return;
    for (int i = 0; i < 2; i++) run_linear_dw(d, s, i & 1);
}

/* A product without rows used to divide by their number. */
TEST(no_rows_change_nothing) {
    Device *d = dev_new(NULL, 2);
    for (int packed = 0; packed < 2; packed++) {
        Mat w = mat_new(d, packed ? DT_Q8_0 : DT_F32, 32, 32);
        float *before = dev_random(32 * 32);
        Buf *y = dev_put(d, before, 32 * 32), *x = dev_put(d, before, 32 * 32);
        BufAt at = buf_at(y, 0), from = buf_at(x, 0);
        d->ops->linear(d, &(LinearArgs){.y = at, .ldy = 32, .x = from, .ldx = 32, .w = w.w});
        d->ops->linear_t(d, &(LinearTArgs){.dx = at, .ldx = 32, .dy = from, .ldy = 32, .w = w.w});
        d->ops->linear_dw(
            d, &(LinearDwArgs){
                   .dw = at, .dy = from, .ldy = 32, .x = from, .ldx = 32, .rows = 32, .cols = 32});
        float *after = dev_get(d, y, 32 * 32);
        EQ_MEM(after, before, 32 * 32 * sizeof *after);
        mat_free(d, &w);
        d->ops->buf_free(d, x);
        d->ops->buf_free(d, y);
        free(before);
        free(after);
    }
    device_free(d);
}

/* ---- shapes ---- */

/* T: gemv to 16 rows (8 beside bf16), A shared to 384, B shared above; rows and cols around panels and blocks. */
static const Shape shapes[] = {
    {1, 1, 1},      {1, 127, 33},  {2, 5, 7},     {3, 128, 64},  {4, 129, 31},  {5, 255, 17},
    {7, 3, 258},    {8, 130, 40},  {9, 1, 1},     {9, 130, 40},  {11, 31, 33},  {12, 32, 32},
    {13, 33, 31},   {16, 100, 70}, {17, 31, 90},  {23, 257, 9},  {25, 16, 255}, {47, 129, 5},
    {48, 6, 257},   {64, 64, 64},  {95, 17, 47},  {96, 15, 49},  {97, 65, 8},   {127, 48, 3},
    {191, 97, 11},  {383, 20, 13}, {384, 33, 12}, {385, 33, 12}, {386, 1, 100}, {387, 257, 2},
    {480, 31, 33},  {769, 7, 20},  {5, 400, 60},  {40, 386, 30}, {33, 2, 300},  {100, 513, 6},
    {400, 260, 50}, {577, 5, 129},
};

/* K or N does not fit the shared memory at once: several rounds. */
static const Shape large[] = {
    {17, 40, 5500},   /* linear: K in rounds, A shared */
    {385, 33, 8225},  /* linear: K in rounds, B shared */
    {385, 1900, 1100} /* linear: N in rounds; linear_t: K of 1900 */
};
static const Shape large_t[] = {{10, 5500, 40}, {385, 8300, 40}, {390, 1100, 1900}};
static const Shape large_dw[] = {{5500, 40, 24}, {8300, 390, 16}, {1100, 390, 1900}};

TEST(shapes_around_every_boundary) {
    for (size_t l = 0; l < DEV_LEVELS; l++) {
        if (!dev_has(l)) continue;
        Device *d = dev_new(dev_levels[l], 2);
        for (size_t i = 0; i < COUNT_OF(shapes); i++) {
            const Shape *s = &shapes[i];
            if (l == 0 && s->T * s->rows * s->cols > 300000) continue; /* ref is slow */
            run_all(d, *s, DT_F32);
        }
        dev_free(d);
    }
}

TEST(several_rounds) {
    for (size_t l = 1; l < DEV_LEVELS; l++) {
        if (!dev_has(l)) continue;
        Device *d = dev_new(dev_levels[l], 2);
        for (size_t i = 0; i < COUNT_OF(large); i++) run_linear(d, large[i], DT_F32, true, true);
        for (size_t i = 0; i < COUNT_OF(large_t); i++) run_linear_t(d, large_t[i], DT_F32, i & 1);
        for (size_t i = 0; i < COUNT_OF(large_dw); i++) run_linear_dw(d, large_dw[i], true);
        dev_free(d);
    }
}

static const DType types[] = {DT_F16,  DT_BF16, DT_Q8_0, DT_Q4_0, DT_Q4_1,
                              DT_Q5_0, DT_Q5_1, DT_Q4_K, DT_Q5_K, DT_Q6_K};

/* Rows are whole blocks of 32 or 256; T in each of the three modes, rows around the
 * panels, one block a row, K over one pass of the core. */
static void each_type(Device *d, bool slow) {
    static const Shape narrow[] = {{1, 33, 64},   {5, 130, 32},  {8, 7, 320},    {9, 130, 96},
                                   {50, 31, 544}, {384, 12, 96}, {385, 130, 64}, {390, 9, 1056}};
    static const Shape wide[] = {{1, 33, 256},  {4, 130, 512},  {9, 257, 256},   {50, 31, 768},
                                 {384, 7, 512}, {385, 35, 256}, {390, 300, 1280}};
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        bool k = dtype_info((uint32_t)types[t])->block == QK_K;
        size_t n = k ? COUNT_OF(wide) : COUNT_OF(narrow);
        for (size_t i = 0; i < n; i++) {
            const Shape *s = k ? &wide[i] : &narrow[i];
            if (slow && s->T * s->rows * s->cols > 6000000) continue;
            run_all(d, *s, types[t]);
        }
    }
}

TEST(weight_types) {
    for (size_t l = 0; l < DEV_LEVELS; l++) {
        if (!dev_has(l)) continue;
        Device *d = dev_new(dev_levels[l], 2);
        each_type(d, l == 0);
        dev_free(d);
    }
}

/* K or N beyond the shared memory, with whole blocks on both sides of each cut. */
TEST(weight_types_in_several_rounds) {
    Device *d = dev_new(NULL, 2);
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        bool k = dtype_info((uint32_t)types[t])->block == QK_K;
        run_linear(d, (Shape){385, 20, k ? 8448 : 8224}, types[t], false, false);
        run_linear(d, (Shape){18, 20, k ? 5632 : 5536}, types[t], true, false);
        run_linear_t(d, (Shape){385, 8200, k ? 256 : 32}, types[t], false);
        run_linear_t(d, (Shape){12, 5400, k ? 512 : 64}, types[t], true);
        run_linear_t(d, (Shape){390, 1100, 2048}, types[t], true);
    }
    dev_free(d);
}

/* ---- laws ---- */

/* Outputs of the three operations, one after the other. */
static float *outputs(Device *d, Shape s, DType type, size_t *n_out) {
    size_t T = (size_t)s.T, R = (size_t)s.rows, C = (size_t)s.cols;
    dev_seed = 99;
    Mat w = mat_new(d, type, s.rows, s.cols);
    float *x = dev_random(T * C), *dy = dev_random(T * R);
    Buf *bx = dev_put(d, x, T * C), *bdy = dev_put(d, dy, T * R);
    *n_out = T * R + T * C + R * C + R;
    Buf *out = dev_buf(d, *n_out);
    BufAt y = buf_at(out, 0), dx = buf_add(y, T * R), dw = buf_add(dx, T * C),
          db = buf_add(dw, R * C);
    d->ops->linear(
        d, &(LinearArgs){.y = y, .ldy = R, .x = buf_at(bx, 0), .ldx = C, .w = w.w, .T = s.T});
    d->ops->linear_t(
        d, &(LinearTArgs){.dx = dx, .ldx = C, .dy = buf_at(bdy, 0), .ldy = R, .w = w.w, .T = s.T});
    d->ops->linear_dw(d, &(LinearDwArgs){.dw = dw,
                                         .dbias = db,
                                         .dy = buf_at(bdy, 0),
                                         .ldy = R,
                                         .x = buf_at(bx, 0),
                                         .ldx = C,
                                         .rows = s.rows,
                                         .cols = s.cols,
                                         .T = s.T});
    float *got = dev_get(d, out, *n_out);
    mat_free(d, &w);
    Buf *bufs[] = {bx, bdy, out};
    for (size_t i = 0; i < COUNT_OF(bufs); i++) d->ops->buf_free(d, bufs[i]);
    free(x);
    free(dy);
    return got;
}

TEST(thread_count_changes_no_bit) {
    static const Shape some[] = {
        {1, 300, 256}, {8, 257, 256}, {50, 300, 512}, {384, 40, 256}, {700, 520, 256}};
    static const DType both[] = {DT_F32, DT_Q6_K};
    for (size_t l = 0; l < DEV_LEVELS; l++)
        for (size_t i = 0; i < COUNT_OF(some) * 2 && dev_has(l); i++) {
            float *first = NULL;
            for (int threads = 1; threads <= 3; threads++) {
                size_t n;
                Device *d = dev_new(dev_levels[l], threads);
                float *got = outputs(d, some[i / 2], both[i % 2], &n);
                dev_free(d);
                if (first) EQ_MEM(got, first, n * sizeof *got);
                if (first) free(got);
                else first = got;
            }
            free(first);
        }
}

/* Row 0 of a product in the mode for few rows and in the mode for many: the same bits. */
TEST(the_shared_operand_changes_no_bit) {
    enum { ROWS = 70, COLS = 1100, MANY = 385, FEW = 17 };
    for (size_t l = 0; l < DEV_LEVELS; l++) {
        if (!dev_has(l)) continue;
        Device *d = dev_new(dev_levels[l], 2);
        Mat w = mat_new(d, DT_F32, ROWS, COLS);
        float *x = dev_random((size_t)MANY * COLS);
        Buf *bx = dev_put(d, x, (size_t)MANY * COLS), *by = dev_buf(d, (size_t)MANY * ROWS);
        LinearArgs a = {
            .y = buf_at(by, 0), .ldy = ROWS, .x = buf_at(bx, 0), .ldx = COLS, .w = w.w, .T = MANY};
        d->ops->linear(d, &a);
        float *many = dev_get(d, by, (size_t)MANY * ROWS);
        a.T = FEW;
        d->ops->linear(d, &a);
        float *few = dev_get(d, by, (size_t)FEW * ROWS);
        EQ_MEM(few, many, (size_t)FEW * ROWS * sizeof *few);
        mat_free(d, &w);
        d->ops->buf_free(d, bx);
        d->ops->buf_free(d, by);
        free(x);
        free(many);
        free(few);
        dev_free(d);
    }
}

/* bf16 products, where the processor has them: near the f32 ones. */
TEST(bf16_products_are_near) {
    Device *d = NULL;
    OK_(device_cpu_new(&d, &(DeviceOpts){.n_threads = 2, .bf16 = true}, TERR));
    if (!device_has_bf16(d)) {
        device_free(d);
        SKIP("no bf16 products on this processor");
    }
    Device *f = dev_new(NULL, 2);
    size_t n;
    float *want = outputs(f, (Shape){70, 50, 300}, DT_F32, &n),
          *got = outputs(d, (Shape){70, 50, 300}, DT_F32, &n);
    for (size_t i = 0; i < n; i++) dev_near("bf16", i, got[i], (double)want[i], 0.15);
    free(want);
    free(got);
    dev_free(d);
    dev_free(f);
}
