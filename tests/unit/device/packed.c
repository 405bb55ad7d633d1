/* SPDX-License-Identifier: Apache-2.0
 * Packed weights through the device: products near float64, one row's bits the same alone, in any batch, at any
 * thread count and level, and with the weights packed on the way; panels for the core of many rows. */
#include "device/internal.h"
#include "dev.h"
#include "kernel/packed.h"
#include "tensor/half.h"

static const DType types[] = {DT_Q8_0, DT_Q4_0, DT_Q4_1, DT_Q5_0,
                              DT_Q5_1, DT_Q4_K, DT_Q5_K, DT_Q6_K};

/* T rows of x times a weight [rows, cols]; x, y, bias as they lie on every device. */
typedef struct Case {
    DType t;
    int T, rows, cols;
    size_t w_bytes;
    char *raw;
    float *v, *x, *bias, *before; /* v: the weights as numbers */
} Case;

static Case case_new(DType t, int T, int rows, int cols) {
    Case c = {.t = t, .T = T, .rows = rows, .cols = cols};
    Kern ref;
    size_t n = (size_t)rows * (size_t)cols;
    OK_(kern_init(&ref, "ref", TERR));
    c.w_bytes = dtype_bytes(t, n);
    c.raw = dev_alloc(c.w_bytes, 1);
    c.v = dev_random(n);
    ref.from_f32[t](c.raw, c.v, n);
    ref.to_f32[t](c.v, c.raw, n);
    c.x = dev_random((size_t)T * (size_t)cols);
    c.bias = dev_random((size_t)rows);
    c.before = dev_random((size_t)T * (size_t)rows);
    return c;
}

static void case_free(Case *c) {
    free(c->raw);
    free(c->v);
    free(c->x);
    free(c->bias);
    free(c->before);
}

typedef struct How {
    const char *level;
    int n_threads;
    bool invariant, no_pack;
    int packed_rows;    /* 0: as the device has it */
    int first, T;       /* rows of x that are given */
    bool no_add;        /* y is written, not added to, */
    ActKind act;        /* and with this, whose gate is what y was before */
    const Case *same;   /* the rows of x met its weights right before; NULL: they did not */
    bool first_no_pack; /* and those were not packed */
} How;

/* The product of another case's weights with x, for what it leaves behind. */
static void product_before(Device *d, const Case *c, BufAt x, int T, bool no_pack) {
    Weight w = {.type = c->t, .rows = c->rows, .cols = c->cols};
    w.buf = d->ops->buf_wrap(d, c->raw, c->w_bytes);
    Buf *room = d->ops->buf_new(d, d->ops->pack_bytes(d, &w) + 1);
    Buf *y = d->ops->buf_new(d, (size_t)T * (size_t)c->rows * sizeof(float));
    if (!no_pack) TRUE_((w.pack = d->ops->pack_new(d, &w, buf_at(room, 0))) != NULL);
    d->ops->linear(d, &(LinearArgs){.y = buf_at(y, 0),
                                    .ldy = (size_t)c->rows,
                                    .x = x,
                                    .ldx = (size_t)c->cols,
                                    .w = w,
                                    .T = T});
    d->ops->pack_free(d, w.pack);
    d->ops->buf_free(d, y);
    d->ops->buf_free(d, room);
    d->ops->buf_free(d, (Buf *)w.buf);
}

/* y[T, rows] = before + x W^T + bias, or as h says. */
static float *product(const Case *c, How h) {
    Device *d;
    DeviceOpts o = {.cpu = h.level,
                    .n_threads = h.n_threads,
                    .batch_invariant = h.invariant,
                    .no_pack = h.no_pack};
    size_t n_y = (size_t)h.T * (size_t)c->rows, n_x = (size_t)h.T * (size_t)c->cols;
    dev_level = h.level;
    OK_(device_cpu_new(&d, &o, TERR));
    if (h.packed_rows) cpu_of(d)->packed_rows = h.packed_rows;
    Buf *wb = d->ops->buf_wrap(d, c->raw, c->w_bytes);
    Buf *f = d->ops->buf_new(d, (n_x + 2 * n_y + (size_t)c->rows) * sizeof(float));
    BufAt x = buf_at(f, 0), y = buf_at(f, n_x), gate = buf_at(f, n_x + n_y),
          bias = buf_at(f, n_x + 2 * n_y);
    d->ops->upload(d, x, c->x + (size_t)h.first * (size_t)c->cols, n_x * sizeof(float));
    d->ops->upload(d, y, c->before + (size_t)h.first * (size_t)c->rows, n_y * sizeof(float));
    d->ops->copy(d, gate, y, n_y);
    d->ops->upload(d, bias, c->bias, (size_t)c->rows * sizeof(float));
    Weight w = {.type = c->t, .rows = c->rows, .cols = c->cols, .buf = wb};
    EQ(d->ops->pack_bytes(d, &w) > 0, !h.no_pack);
    Buf *room = d->ops->buf_new(d, MAX(d->ops->pack_bytes(d, &w), (size_t)1));
    TRUE_(room != NULL);
    if (!h.no_pack) TRUE_((w.pack = d->ops->pack_new(d, &w, buf_at(room, 0))) != NULL);
    if (h.same) product_before(d, h.same, x, h.T, h.first_no_pack);
    d->ops->linear(d, &(LinearArgs){.y = y,
                                    .ldy = (size_t)c->rows,
                                    .x = x,
                                    .ldx = (size_t)c->cols,
                                    .same_x = h.same != NULL,
                                    .w = w,
                                    .bias = bias,
                                    .T = h.T,
                                    .gate = gate,
                                    .ldg = (size_t)c->rows,
                                    .act = h.act,
                                    .add = !h.no_add});
    float *got = dev_alloc(n_y, sizeof(float));
    d->ops->download(d, got, y, n_y * sizeof(float));
    d->ops->pack_free(d, w.pack);
    d->ops->buf_free(d, room);
    d->ops->buf_free(d, wb);
    d->ops->buf_free(d, f);
    dev_free(d);
    return got;
}

/* Rounding x to 127 steps is within 1/254 of the largest of its 32 neighbours. */
static void near_float64(const Case *c, const float *got, double rel) {
    for (int t = 0; t < c->T; t++)
        for (int i = 0; i < c->rows; i++) {
            double sum = (double)c->bias[i] + (double)c->before[t * c->rows + i], terms = 1e-3;
            for (int k = 0; k < c->cols; k++) {
                double v = (double)c->v[i * c->cols + k];
                sum += v * (double)c->x[t * c->cols + k];
                terms += fabs(v);
            }
            NEAR((double)got[t * c->rows + i], sum, rel * terms);
        }
}

static void same_bits(const char *what, const float *a, const float *b, size_t n) {
    if (memcmp(a, b, n * sizeof *a) != 0) FAIL("%s: other bits", what);
}

static void each_case(const char *level, void (*body)(const Case *c, const char *level)) {
    static const int Ts[] = {1, 3, 7, 8, 15, 21, 23, 27}, rows[] = {5, 16, 130, 300};
    for (size_t t = 0; t < COUNT_OF(types); t++)
        for (size_t i = 0; i < COUNT_OF(Ts); i++) {
            int k = dtype_info((uint32_t)types[t])->block == QK_K ? 512 : 96;
            Case c = case_new(types[t], Ts[i], rows[i % COUNT_OF(rows)], k);
            body(&c, level);
            case_free(&c);
        }
}

static void each_level(void (*body)(const Case *c, const char *level)) {
    for (size_t l = 0; l < DEV_LEVELS; l++)
        if (dev_has(l)) each_case(dev_levels[l], body);
}

static void check_near(const Case *c, const char *level) {
    float *got = product(c, (How){.level = level, .n_threads = 2, .T = c->T});
    near_float64(c, got, 1.0 / 254);
    free(got);
}

TEST(packed_products_are_near_float64) { each_level(check_near); }

static void check_bits(const Case *c, const char *level) {
    size_t n = (size_t)c->T * (size_t)c->rows;
    float *want = product(c, (How){.level = "ref", .n_threads = 1, .T = c->T});
    How ways[] = {
        {.level = level, .n_threads = 1, .T = c->T},
        {.level = level, .n_threads = 3, .T = c->T},
        {.level = level, .n_threads = 2, .T = c->T, .invariant = true},
        {.level = level, .n_threads = 2, .T = c->T, .invariant = true, .no_pack = true},
    };
    for (size_t i = 0; i < COUNT_OF(ways); i++) {
        float *got = product(c, ways[i]);
        same_bits("a way of packing", got, want, n);
        free(got);
    }
    for (int t = 0; t < c->T; t += 3) {
        float *one = product(c, (How){.level = level, .n_threads = 2, .first = t, .T = 1});
        same_bits("a row alone", one, want + (size_t)t * (size_t)c->rows, (size_t)c->rows);
        free(one);
    }
    free(want);
}

TEST(packed_products_have_one_set_of_bits) { each_level(check_bits); }

/* Tasks of as many groups as there may be, and a short one behind them. */
TEST(packed_products_of_many_groups) {
    static const int Ts[] = {1, 8, 9, 17};
    for (size_t i = 0; i < COUNT_OF(Ts); i++)
        for (size_t l = 0; l < DEV_LEVELS; l++) {
            if (!dev_has(l)) continue;
            Case c = case_new(i % 2 ? DT_Q8_0 : DT_Q4_0, Ts[i], 2070, 64);
            float *want = product(&c, (How){.level = "ref", .n_threads = 1, .T = c.T});
            float *got = product(&c, (How){.level = dev_levels[l], .n_threads = 2, .T = c.T});
            near_float64(&c, got, 1.0 / 254);
            same_bits("many groups", got, want, (size_t)c.T * 2070);
            free(want);
            free(got);
            case_free(&c);
        }
}

/* More rows than are rounded at a time, by all workers and by one. */
TEST(packed_products_of_many_rows) {
    Case c = case_new(DT_Q4_0, 5500, 17, 1024);
    float *all = product(&c, (How){.n_threads = 2, .T = c.T});
    for (int t = 0; t < c.T; t += 1375) {
        float *part = product(&c, (How){.n_threads = 1, .first = t, .T = 11});
        same_bits("part of many rows", part, all + (size_t)t * 17, (size_t)11 * 17);
        free(part);
    }
    free(all);
    case_free(&c);
}

/* The second product of the same rows, whatever the first one was for. */
TEST(rounded_rows_serve_what_they_fit) {
    for (size_t i = 0; i < COUNT_OF(types); i++)
        for (size_t j = 0; j < 2 * COUNT_OF(types); j++) {
            Case c = case_new(types[i], 9, 16, 512), a = case_new(types[j / 2], 9, 24, 512);
            float *want = product(&c, (How){.n_threads = 2, .T = 9});
            float *got =
                product(&c, (How){.n_threads = 2, .T = 9, .same = &a, .first_no_pack = j % 2 == 1});
            same_bits("a second product", got, want, (size_t)9 * 16);
            free(want);
            free(got);
            case_free(&c);
            case_free(&a);
        }
}

/* What is made of a product where it is made, in packed form and as the weights lie, in few rows and in many. */
static void check_act(const Case *c, const char *level) {
    Kern k;
    OK_(kern_init(&k, level, TERR));
    size_t n = (size_t)c->rows;
    for (int no_pack = 0; no_pack < 2; no_pack++) {
        How how = {
            .level = level, .n_threads = 2, .T = c->T, .no_add = true, .no_pack = no_pack != 0};
        float *plain = product(c, how), *want = dev_alloc(n, sizeof *want);
        for (how.act = ACT_GELU; how.act <= ACT_SWIGLU; how.act++) {
            float *got = product(c, how);
            for (int t = 0; t < c->T; t++) {
                const float *x = plain + (size_t)t * n, *gate = c->before + (size_t)t * n;
                if (how.act == ACT_GELU) k.gelu(want, x, n);
                else k.swiglu(want, gate, x, n);
                same_bits("an activation", got + (size_t)t * n, want, n);
            }
            free(got);
        }
        free(plain);
        free(want);
    }
}

TEST(activations_of_products) { each_level(check_act); }

/* Above packed_rows the core of many rows takes panels expanded from the packed weights. */
static void check_panels(const Case *c, const char *level) {
    if (strcmp(level, "ref") == 0)
        return; /* its panels are narrower than a group, and never asked for */
    float *got = product(c, (How){.level = level, .n_threads = 2, .T = c->T, .packed_rows = 2});
    near_float64(c, got, c->T > 2 ? 1e-5 : 1.0 / 254);
    free(got);
}

TEST(panels_of_packed_weights) { each_level(check_panels); }
