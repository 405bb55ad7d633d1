/* SPDX-License-Identifier: Apache-2.0
 * Every backward operation of the device against central differences in float64 of the forward written
 * here: with L = sum of dy[i] y[i](x), dL/dx must be what the device gives. Loss of xent: L itself. */
#include "dev.h"

enum { MAX_IN = 1024, MAX_OUT = 1024 };

/* y[n_out] of x[n_in], its other inputs behind ctx. */
typedef void (*Forward)(double *y, const double *x, const void *ctx);

typedef struct Slope {
    const char *what;
    Forward f;
    const void *ctx;
    const float *x, *dy; /* [n_in], [n_out] */
    int n_in, n_out;
    const float *got, *before; /* gradient; what stood there, if it is added to */
} Slope;

static double loss(const Slope *s, const double *x) {
    static double y[MAX_OUT];
    double sum = 0.0;
    s->f(y, x, s->ctx);
    for (int i = 0; i < s->n_out; i++) sum += y[i] * (s->dy ? (double)s->dy[i] : 1.0);
    return sum;
}

static void check(const Slope *s) {
    static double x[MAX_IN];
    TRUE_(s->n_in <= MAX_IN && s->n_out <= MAX_OUT);
    for (int i = 0; i < s->n_in; i++) x[i] = (double)s->x[i];
    for (int i = 0; i < s->n_in; i++) {
        double at = x[i], h = 1e-5 * (1.0 + fabs(at));
        x[i] = at + h;
        double up = loss(s, x);
        x[i] = at - h;
        double want = (up - loss(s, x)) / (2 * h);
        x[i] = at;
        if (s->before) want += (double)s->before[i];
        dev_near(s->what, (size_t)i, s->got[i], want, 2e-5 * (1.0 + fabs(want)));
    }
}

/* ---- memory: everything of a case lives until the next one ---- */

static Device *d;
static Buf *bufs[64];
static float *hosts[64];
static int n_bufs, n_hosts;

static float *rnd(int n) { return hosts[n_hosts++] = dev_random((size_t)n); }
static BufAt put(const float *x, int n) {
    return buf_at(bufs[n_bufs++] = dev_put(d, x, (size_t)n), 0);
}
static float *get(BufAt a, int n) {
    float *x = hosts[n_hosts++] = dev_floats((size_t)n);
    d->ops->download(d, x, a, (size_t)n * sizeof *x);
    return x;
}
static BufAt junk(int n) { return put(rnd(n), n); }

static void forget(void) {
    while (n_bufs > 0) d->ops->buf_free(d, bufs[--n_bufs]);
    while (n_hosts > 0) free(hosts[--n_hosts]);
}

static void each_level(void (*body)(void)) {
    for (size_t l = 0; l < DEV_LEVELS; l++) {
        if (!dev_has(l)) continue;
        d = dev_new(dev_levels[l], 2);
        body();
        forget();
        dev_free(d);
    }
}

/* ---- rows ---- */

enum { V = 11, CTX = 9, RT = 40, RC = 7 };
static int32_t ids[RT], places[RT];

static void embed(double *y, const double *x, const void *ctx) {
    (void)ctx;
    for (int t = 0; t < RT; t++)
        for (int c = 0; c < RC; c++)
            y[t * RC + c] = x[ids[t] * RC + c] + x[V * RC + places[t] * RC + c];
}

static void rows_case(void) {
    float *w = rnd((V + CTX) * RC), *dy = rnd(RT * RC), *g0 = rnd((V + CTX) * RC);
    for (int t = 0; t < RT; t++) {
        ids[t] = dev_int(0, V - 1);
        places[t] = dev_int(0, CTX - 1);
    }
    BufAt g = put(g0, (V + CTX) * RC);
    d->ops->rows_bwd(d, &(RowsBwdArgs){.dw = g,
                                       .dpos = buf_add(g, V * RC),
                                       .dy = put(dy, RT * RC),
                                       .ids = ids,
                                       .pos = places,
                                       .T = RT,
                                       .C = RC});
    check(&(Slope){"rows_bwd", embed, NULL, w, dy, (V + CTX) * RC, RT * RC, get(g, (V + CTX) * RC),
                   g0});
}

TEST(rows) { each_level(rows_case); }

/* ---- norm ---- */

enum { NT = 19, NC = 13 };
typedef struct NormCase {
    NormKind kind;
    bool bias;
} NormCase;

/* x: NT rows, then w, then b. */
static void normalise(double *y, const double *x, const void *ctx) {
    const NormCase *n = ctx;
    const double *w = x + NT * NC, *b = w + NC;
    for (int t = 0; t < NT; t++) {
        const double *r = x + t * NC;
        double mean = 0.0, sq = 0.0;
        for (int c = 0; c < NC; c++) mean += n->kind == NORM_LAYER ? r[c] / NC : 0.0;
        for (int c = 0; c < NC; c++) sq += (r[c] - mean) * (r[c] - mean) / NC;
        for (int c = 0; c < NC; c++)
            y[t * NC + c] = (r[c] - mean) / sqrt(sq + 1e-5) * w[c] + (n->bias ? b[c] : 0.0);
    }
}

static void norm_case(NormCase n) {
    enum { IN = NT * NC + 2 * NC };
    float *x = rnd(IN), *dy = rnd(NT * NC), *g0 = rnd(IN);
    BufAt bx = put(x, IN), g = put(g0, IN), stat = junk(2 * NT), w = buf_add(bx, NT * NC),
          b = n.bias ? buf_add(w, NC) : (BufAt){0}, dw = buf_add(g, NT * NC);
    d->ops->norm(d, &(NormArgs){.kind = n.kind,
                                .y = junk(NT * NC),
                                .x = bx,
                                .w = w,
                                .b = b,
                                .stat = stat,
                                .T = NT,
                                .C = NC,
                                .eps = 1e-5f});
    d->ops->norm_bwd(d, &(NormBwdArgs){.kind = n.kind,
                                       .dx = g,
                                       .dw = dw,
                                       .db = n.bias ? buf_add(dw, NC) : (BufAt){0},
                                       .dy = put(dy, NT * NC),
                                       .x = bx,
                                       .w = w,
                                       .stat = stat,
                                       .T = NT,
                                       .C = NC});
    check(&(Slope){"norm_bwd", normalise, &n, x, dy, IN, NT * NC, get(g, IN), g0});
    forget();
}

static void norm_cases(void) {
    norm_case((NormCase){NORM_RMS, false});
    norm_case((NormCase){NORM_LAYER, false});
    norm_case((NormCase){NORM_LAYER, true});
}

TEST(norm) { each_level(norm_cases); }

/* ---- norm of q and k: x[T, (nh + 2 nkv) hd], then wq, then wk ---- */

enum { QT = 19, QNH = 3, QNKV = 1, QHD = 8, QW = (QNH + 2 * QNKV) * QHD, QN = QNH + QNKV };
enum { QOUT = QT * QW, QIN = QOUT + 2 * QHD };

static void normalise_heads(double *y, const double *x, const void *ctx) {
    (void)ctx;
    memcpy(y, x, QT * QW * sizeof *y);
    for (int t = 0; t < QT; t++)
        for (int h = 0; h < QN; h++) {
            const double *r = x + t * QW + h * QHD, *w = x + QT * QW + (h < QNH ? 0 : QHD);
            double sq = 0.0;
            for (int c = 0; c < QHD; c++) sq += r[c] * r[c] / QHD;
            for (int c = 0; c < QHD; c++) y[t * QW + h * QHD + c] = r[c] / sqrt(sq + 1e-5) * w[c];
        }
}

/* In place, with and without what the backward needs. v stays. */
static QkNormArgs qk_args(const float *x, BufAt g) {
    BufAt in = put(x, QIN);
    return (QkNormArgs){.qkv = in,
                        .wq = buf_add(in, QOUT),
                        .wk = buf_add(in, QOUT + QHD),
                        .raw = junk(QT * QN * QHD),
                        .stat = junk(QT * QN),
                        .dqkv = g,
                        .dwq = buf_add(g, QOUT),
                        .dwk = buf_add(g, QOUT + QHD),
                        .T = QT,
                        .nh = QNH,
                        .nkv = QNKV,
                        .hd = QHD,
                        .eps = 1e-5f};
}

static void qk_norm_forward(void) {
    static double xd[QIN], want[QOUT];
    float *x = rnd(QIN);
    QkNormArgs a = qk_args(x, junk(QIN)), bare = qk_args(x, a.dqkv);
    bare.raw = bare.stat = (BufAt){0};
    for (int i = 0; i < QIN; i++) xd[i] = (double)x[i];
    normalise_heads(want, xd, NULL);
    d->ops->qk_norm(d, &a);
    d->ops->qk_norm(d, &bare);
    float *y = get(a.qkv, QOUT);
    for (size_t i = 0; i < QOUT; i++) dev_near("qk_norm", i, y[i], want[i], 4e-6);
    EQ_MEM(get(bare.qkv, QOUT), y, QOUT * sizeof(float));
    forget();
}

/* The gradient of y becomes that of x where it lies; those of the weights are added. */
static void qk_norm_backward(void) {
    float *x = rnd(QIN), *g0 = rnd(QIN), *dy = get(put(g0, QIN), QIN);
    BufAt g = put(g0, QIN);
    QkNormArgs a = qk_args(x, g);
    memset(g0, 0, QOUT * sizeof *g0);
    d->ops->qk_norm(d, &a);
    d->ops->qk_norm_bwd(d, &a);
    check(&(Slope){"qk_norm_bwd", normalise_heads, NULL, x, dy, QIN, QOUT, get(g, QIN), g0});
    forget();
}

static void qk_norm_case(void) {
    qk_norm_forward();
    qk_norm_backward();
}

TEST(qk_norm) { each_level(qk_norm_case); }

/* ---- linear: x, then w, then bias ---- */

typedef struct LinCase {
    int T, rows, cols;
} LinCase;

static void product(double *y, const double *x, const void *ctx) {
    const LinCase *l = ctx;
    const double *w = x + l->T * l->cols, *b = w + l->rows * l->cols;
    for (int t = 0; t < l->T; t++)
        for (int r = 0; r < l->rows; r++) {
            double sum = b[r];
            for (int c = 0; c < l->cols; c++) sum += x[t * l->cols + c] * w[r * l->cols + c];
            y[t * l->rows + r] = sum;
        }
}

static void linear_case(LinCase l) {
    int nx = l.T * l.cols, nw = l.rows * l.cols, n_in = nx + nw + l.rows, n_out = l.T * l.rows;
    float *x = rnd(n_in), *dy = rnd(n_out), *g0 = rnd(n_in);
    memset(g0, 0, (size_t)nx * sizeof *g0); /* dx is assigned, the others are added to */
    BufAt bx = put(x, n_in), bdy = put(dy, n_out), g = put(g0, n_in), dx = junk(nx);
    Weight w = {
        .type = DT_F32, .rows = l.rows, .cols = l.cols, .buf = bx.buf, .off_bytes = (size_t)nx * 4};
    size_t rows = (size_t)l.rows, cols = (size_t)l.cols;
    d->ops->linear_t(
        d, &(LinearTArgs){.dx = dx, .ldx = cols, .dy = bdy, .ldy = rows, .w = w, .T = l.T});
    d->ops->linear_dw(d, &(LinearDwArgs){.dw = buf_add(g, (size_t)nx),
                                         .dbias = buf_add(g, (size_t)(nx + nw)),
                                         .dy = bdy,
                                         .ldy = rows,
                                         .x = bx,
                                         .ldx = cols,
                                         .rows = l.rows,
                                         .cols = l.cols,
                                         .T = l.T});
    d->ops->copy(d, g, dx, (size_t)nx);
    check(&(Slope){"linear", product, &l, x, dy, n_in, n_out, get(g, n_in), g0});
    forget();
}

static void linear_cases(void) {
    linear_case((LinCase){1, 1, 1});
    linear_case((LinCase){5, 17, 6});
    linear_case((LinCase){23, 3, 20});
    linear_case((LinCase){13, 33, 5});
}

TEST(linear) { each_level(linear_cases); }

/* ---- rope ---- */

enum { PT = 6, PNH = 3, PNKV = 2, PHD = 16, PW = (PNH + 2 * PNKV) * PHD, PROT = 6 };
typedef struct RopeCase {
    bool halves;
    float gain;
    int32_t pos[PT];
    float freq[PROT];
} RopeCase;

static void rotate(double *y, const double *x, const void *ctx) {
    const RopeCase *r = ctx;
    memcpy(y, x, PT * PW * sizeof *y);
    for (int t = 0; t < PT; t++)
        for (int h = 0; h < PNH + PNKV; h++)
            for (int i = 0; i < PROT; i++) {
                int at = t * PW + h * PHD, lo = at + (r->halves ? i : 2 * i),
                    hi = at + (r->halves ? i + PROT : 2 * i + 1);
                double a = (double)((float)r->pos[t] * r->freq[i]),
                       gain = r->gain > 0.0f ? (double)r->gain : 1.0;
                y[lo] = gain * (x[lo] * cos(a) - x[hi] * sin(a));
                y[hi] = gain * (x[lo] * sin(a) + x[hi] * cos(a));
            }
}

static void rope_case(bool halves, float gain) {
    RopeCase r = {.halves = halves, .gain = gain};
    for (int t = 0; t < PT; t++) r.pos[t] = dev_int(0, 500);
    for (int i = 0; i < PROT; i++) r.freq[i] = powf(1000.0f, -(float)i / PROT);
    float *x = rnd(PT * PW), *dy = rnd(PT * PW);
    BufAt g = put(dy, PT * PW);
    d->ops->rope_kv(d, &(RopeKvArgs){.qkv = g,
                                     .pos = r.pos,
                                     .rope = {PROT, halves, r.freq, gain},
                                     .T = PT,
                                     .nh = PNH,
                                     .nkv = PNKV,
                                     .hd = PHD,
                                     .inverse = true});
    check(&(Slope){"rope", rotate, &r, x, dy, PT * PW, PT * PW, get(g, PT * PW), NULL});
    forget();
}

static void rope_cases(void) {
    rope_case(false, 0.0f);
    rope_case(true, 0.0f);
    rope_case(false, 1.25f);
    rope_case(true, 0.75f);
}

TEST(rope) { each_level(rope_cases); }

/* ---- attention ---- */

enum { AT = 13, ANH = 4, ANKV = 2, AHD = 8, AW = (ANH + 2 * ANKV) * AHD, AO = ANH * AHD };
static const int32_t a_seg[AT] = {0, 0, 0, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4};
static const double a_scale = 0.7;

static void attend(double *o, const double *x, const void *ctx) {
    (void)ctx;
    for (int t = 0; t < AT; t++)
        for (int h = 0; h < ANH; h++) {
            double p[AT], sum = 0.0;
            const double *q = x + t * AW + h * AHD, *k = x + (ANH + h / 2) * AHD,
                         *v = k + ANKV * AHD;
            for (int s = a_seg[t]; s <= t; s++) {
                p[s] = 0.0;
                for (int i = 0; i < AHD; i++) p[s] += q[i] * k[s * AW + i];
                sum += p[s] = exp(a_scale * p[s]);
            }
            for (int i = 0; i < AHD; i++) {
                o[t * AO + h * AHD + i] = 0.0;
                for (int s = a_seg[t]; s <= t; s++)
                    o[t * AO + h * AHD + i] += p[s] / sum * v[s * AW + i];
            }
        }
}

static void attn_case(void) {
    float *x = rnd(AT * AW), *dy = rnd(AT * AO);
    BufAt g = junk(AT * AW);
    AttnTrainArgs a = {.o = junk(AT * AO),
                       .lse = junk(AT * ANH),
                       .qkv = put(x, AT * AW),
                       .dqkv = g,
                       .d_o = put(dy, AT * AO),
                       .seg = a_seg,
                       .n_row = 1,
                       .T = AT,
                       .nh = ANH,
                       .nkv = ANKV,
                       .hd = AHD,
                       .scale = (float)a_scale};
    d->ops->attn_train(d, &a);
    d->ops->attn_bwd(d, &a);
    check(&(Slope){"attn_bwd", attend, NULL, x, dy, AT * AW, AT * AO, get(g, AT * AW), NULL});
}

TEST(attention) { each_level(attn_case); }

/* ---- activations ---- */

enum { CT = 18, CF = 21 };

static void gelu(double *y, const double *x, const void *ctx) {
    (void)ctx;
    for (int i = 0; i < CT * CF; i++)
        y[i] = 0.5 * x[i] *
               (1 + tanh(0.79788456080286535588 * (x[i] + 0.044715 * x[i] * x[i] * x[i])));
}

static void swiglu(double *y, const double *x, const void *ctx) {
    (void)ctx;
    for (int t = 0; t < CT; t++)
        for (int i = 0; i < CF; i++) {
            double g = x[t * 2 * CF + i];
            y[t * CF + i] = g / (1 + exp(-g)) * x[t * 2 * CF + CF + i];
        }
}

static void act_case(ActKind kind) {
    int n_in = CT * CF * (kind == ACT_SWIGLU ? 2 : 1);
    float *x = rnd(n_in), *dy = rnd(CT * CF);
    for (int i = 0; i < n_in; i++) x[i] *= 4.0f;
    BufAt g = junk(n_in);
    d->ops->act_bwd(d, &(ActArgs){.kind = kind,
                                  .x = put(x, n_in),
                                  .dx = g,
                                  .dy = put(dy, CT * CF),
                                  .T = CT,
                                  .ff = CF});
    check(&(Slope){"act_bwd", kind == ACT_GELU ? gelu : swiglu, NULL, x, dy, n_in, CT * CF,
                   get(g, n_in), NULL});
    forget();
}

static void act_cases(void) {
    act_case(ACT_GELU);
    act_case(ACT_SWIGLU);
}

TEST(activations) { each_level(act_cases); }

/* ---- cross-entropy ---- */

enum { XT = 17, XV = 37 };
static int32_t target[XT];

static void xent(double *y, const double *x, const void *ctx) {
    (void)ctx;
    for (int t = 0; t < XT; t++) {
        double sum = 0.0;
        for (int i = 0; i < XV; i++) sum += exp(x[t * XV + i]);
        y[t] = target[t] < 0 ? 0.0 : 0.25 * (log(sum) - x[t * XV + target[t]]);
    }
}

static void xent_case(void) {
    float *x = rnd(XT * XV), losses[XT];
    double *wide = dev_widen(x, XT * XV), want[XT];
    for (int t = 0; t < XT; t++) target[t] = t % 5 == 3 ? -1 : dev_int(0, XV - 1);
    BufAt g = put(x, XT * XV);
    d->ops->xent(d, &(XentArgs){.logits = g,
                                .target = target,
                                .loss = losses,
                                .T = XT,
                                .V = XV,
                                .scale = 0.25f});
    xent(want, wide, NULL);
    for (int t = 0; t < XT; t++) dev_near("loss", (size_t)t, losses[t], 4.0 * want[t], 1e-5);
    check(&(Slope){"xent", xent, NULL, x, NULL, XT * XV, XT, get(g, XT * XV), NULL});
    free(wide);
}

TEST(cross_entropy) { each_level(xent_case); }
