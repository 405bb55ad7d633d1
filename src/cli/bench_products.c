/* SPDX-License-Identifier: Apache-2.0
 * ingot bench --products: the dense products that make up a training step of a small model, each alone:
 * forward (rows of weights), gradient of the input, gradient of the weights; for the MLP's first matrix and
 * for the head. */
#include <stdio.h>

#include "base/clock.h"
#include "base/rng.h"
#include "cli/bench.h"
#include "device/backend.h"

typedef struct Shape {
    const char *name;
    int T, cols, rows; /* y[T, rows] = x[T, cols] W[rows, cols]^T */
} Shape;

static const Shape shapes[] = {{"mlp", 4096, 384, 1536}, {"head", 4096, 384, 4096}};

typedef struct Products {
    const BenchCmd *c;
    Device *dev;
    const char *dtype;
    double peak;
    const Shape *s;
    Buf *x, *w, *y; /* owned */
} Products;

typedef enum ProductKind { PRODUCT_FWD, PRODUCT_DX, PRODUCT_DW, PRODUCT_KINDS } ProductKind;
static const char *const kind_name[] = {"forward", "dX", "dW"};

static void run_product(const Products *p, ProductKind kind) {
    const Shape *s = p->s;
    const DeviceOps *ops = p->dev->ops;
    size_t rows = (size_t)s->rows, cols = (size_t)s->cols;
    Weight w = {.type = DT_F32, .rows = s->rows, .cols = s->cols, .buf = p->w};
    BufAt x = buf_at(p->x, 0), y = buf_at(p->y, 0);
    if (kind == PRODUCT_FWD)
        ops->linear(p->dev,
                    &(LinearArgs){.y = y, .x = x, .ldy = rows, .ldx = cols, .w = w, .T = s->T});
    else if (kind == PRODUCT_DX)
        ops->linear_t(
            p->dev, &(LinearTArgs){.dx = x, .dy = y, .ldx = cols, .ldy = rows, .w = w, .T = s->T});
    else
        ops->linear_dw(p->dev, &(LinearDwArgs){.dw = buf_at(p->w, 0),
                                               .dy = y,
                                               .x = x,
                                               .ldy = rows,
                                               .ldx = cols,
                                               .rows = s->rows,
                                               .cols = s->cols,
                                               .T = s->T});
}

/* The first round warms up. */
static Status measure(const Products *p, ProductKind kind, Spread *out, Err *e) {
    double rate[BENCH_MAX_REPS + 1], flops = 2.0 * p->s->T * p->s->cols * p->s->rows;
    int n = (int)p->c->reps;
    for (int i = 0; i <= n; i++) {
        double t0 = clock_now_s();
        run_product(p, kind);
        TRY(p->dev->ops->sync(p->dev, e));
        rate[i] = flops / (clock_now_s() - t0) / 1e9;
    }
    *out = cli_bench_spread(rate + 1, n);
    return OK;
}

static int print_json(const Products *p, ProductKind kind, Spread rate) {
    const Shape *s = p->s;
    char line[96];
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "bench", "product");
    jw_cstr(&w, "name", s->name);
    jw_cstr(&w, "kind", kind_name[kind]);
    jw_arr(&w, "shape");
    jw_int(&w, NULL, s->T);
    jw_int(&w, NULL, s->cols);
    jw_int(&w, NULL, s->rows);
    jw_end_arr(&w);
    jw_cstr(&w, "dtype", p->dtype);
    jw_cstr(&w, "device", device_describe(p->dev, line));
    jw_int(&w, "threads", cli_threads(p->c->threads));
    jw_int(&w, "reps", p->c->reps);
    cli_bench_put(&w, "gflop_s", rate);
    jw_num(&w, "peak_gflop_s", cli_bench_round(p->peak / 1e9));
    jw_num(&w, "peak_share", cli_bench_round(100 * rate.median * 1e9 / p->peak));
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static int print_text(const Products *p, ProductKind kind, Spread r) {
    char size[48];
    snprintf(size, sizeof size, "%dx%dx%d", p->s->T, p->s->cols, p->s->rows);
    printf("  %-5s %-8s %-15s %-5s %9.1f %9.1f %9.1f %7.1f%%\n", p->s->name, kind_name[kind], size,
           p->dtype, r.min, r.median, r.max, 100 * r.median * 1e9 / p->peak);
    return cli_flush_stdout();
}

static Status make_bufs(Products *p, Err *e) {
    const DeviceOps *ops = p->dev->ops;
    size_t T = (size_t)p->s->T, rows = (size_t)p->s->rows, cols = (size_t)p->s->cols;
    size_t n[3] = {T * cols, rows * cols, T * rows};
    Buf **buf[3] = {&p->x, &p->w, &p->y};
    float *host = mem_new_n(float, T *MAX(rows, cols));
    bool ok = host != NULL;
    for (int i = 0; i < 3 && ok; i++) {
        *buf[i] = ops->buf_new(p->dev, n[i] * sizeof(float));
        ok = *buf[i] != NULL;
        rng_normal_fill(host, n[i], 0.02f, 1, (uint64_t)i);
        if (ok) ops->upload(p->dev, buf_at(*buf[i], 0), host, n[i] * sizeof(float));
    }
    mem_free(host);
    return ok ? OK : err_set(e, ERR_NOMEM, "bench: out of memory");
}

static void free_bufs(Products *p) {
    Buf **buf[3] = {&p->x, &p->w, &p->y};
    for (int i = 0; i < 3; i++) {
        if (*buf[i]) p->dev->ops->buf_free(p->dev, *buf[i]);
        *buf[i] = NULL;
    }
}

static int bench_shape(Products *p) {
    Err e = {0};
    Status st = make_bufs(p, &e);
    int rc = CLI_OK;
    for (int k = 0; k < PRODUCT_KINDS && st == OK && rc == CLI_OK; k++) {
        Spread rate;
        st = measure(p, (ProductKind)k, &rate, &e);
        if (st != OK) break;
        rc = p->c->json ? print_json(p, (ProductKind)k, rate) : print_text(p, (ProductKind)k, rate);
    }
    free_bufs(p);
    return st == OK ? rc : cli_fail(&e);
}

static int bench_dtype(const BenchCmd *c, bool bf16) {
    Err e = {0};
    Products p = {.c = c, .dtype = bf16 ? "bf16" : "f32"};
    DeviceOpts o = {.cpu = c->cpu, .n_threads = cli_threads(c->threads), .bf16 = bf16};
    int rc = CLI_OK;
    if (device_cpu_new(&p.dev, &o, &e) != OK) return cli_fail(&e);
    p.peak = device_peak_flops(p.dev);
    for (size_t i = 0; i < COUNT_OF(shapes) && rc == CLI_OK; i++) {
        if (bf16 && !device_has_bf16(p.dev)) break;
        p.s = &shapes[i];
        rc = bench_shape(&p);
    }
    device_free(p.dev);
    return rc;
}

int cli_bench_products(const BenchCmd *c) {
    int rc = CLI_OK;
    if (!c->json)
        printf("  %-5s %-8s %-15s %-5s %9s %9s %9s %8s\n", "", "GFLOP/s", "T x in x out", "",
               "least", "median", "most", "of peak");
    if (!c->dtype || !strcmp(c->dtype, "f32")) rc = bench_dtype(c, false);
    if (rc == CLI_OK && (!c->dtype || !strcmp(c->dtype, "bf16"))) rc = bench_dtype(c, true);
    return rc;
}
