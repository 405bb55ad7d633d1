/* SPDX-License-Identifier: Apache-2.0
 * rope_kv and paged attention against the definition in float64: several sequences of different lengths
 * side by side, shuffled block tables, chunks that begin anywhere, all types of cache, contexts over several
 * pieces of 512 tokens, with few threads and with so many that pieces are split among them; everything that was
 * never written is NaN. */
#include "dev.h"

#include "device/internal.h"
#include "tensor/half.h"

enum { MAX_SEQ = 4, MAX_BLOCKS = 40, MAX_TOK = MAX_BLOCKS * KV_BLOCK, LAYERS = 2 };

typedef struct Case {
    DType type;
    int nh, nkv, hd, n_rot;
    bool halves;
    int n_seq, len[MAX_SEQ];
    int chunk; /* tokens of each sequence in one batch, at most */
    int n_threads;
} Case;

typedef struct Paged {
    const Case *c;
    Device *d;
    KvStore *kv;
    int n_blocks;
    int32_t table[MAX_SEQ][MAX_BLOCKS];
    const int32_t *blocks[MAX_SEQ];
    float freq[128];
    int layer;
    /* what the cache should hold, of every sequence: [MAX_TOK, nkv hd] */
    double *k[MAX_SEQ], *v[MAX_SEQ];
} Paged;

static size_t width(const Case *c) { return (size_t)((c->nh + 2 * c->nkv) * c->hd); }
static size_t kv_width(const Case *c) { return (size_t)(c->nkv * c->hd); }

/* Blocks of all sequences out of one shuffled pool. */
static void deal_blocks(Paged *x) {
    int32_t pool[MAX_SEQ * MAX_BLOCKS];
    x->n_blocks = MAX_SEQ * MAX_BLOCKS;
    for (int i = 0; i < x->n_blocks; i++) pool[i] = i;
    for (int i = x->n_blocks - 1; i > 0; i--) {
        int j = dev_int(0, i);
        int32_t t = pool[i];
        pool[i] = pool[j];
        pool[j] = t;
    }
    for (int s = 0; s < MAX_SEQ; s++) {
        memcpy(x->table[s], pool + s * MAX_BLOCKS, sizeof x->table[s]);
        x->blocks[s] = x->table[s];
    }
}

static void paged_init(Paged *x, const Case *c, const char *level) {
    memset(x, 0, sizeof *x);
    x->c = c;
    x->d = dev_new(level, c->n_threads);
    deal_blocks(x);
    x->kv = x->d->ops->kv_new(x->d, c->type, LAYERS, x->n_blocks, c->nkv, c->hd);
    TRUE_(x->kv != NULL);
    memset(x->kv->p, 0xff, x->kv->n_bytes); /* NaN, in q8_0 by its scale */
    for (int i = 0; i < c->n_rot; i++) x->freq[i] = powf(100.0f, -(float)i / (float)c->n_rot);
    for (int s = 0; s < c->n_seq; s++) {
        x->k[s] = dev_doubles(MAX_TOK * kv_width(c));
        x->v[s] = dev_doubles(MAX_TOK * kv_width(c));
    }
}

static void paged_free(Paged *x) {
    x->d->ops->kv_free(x->d, x->kv);
    dev_free(x->d);
    for (int s = 0; s < x->c->n_seq; s++) {
        free(x->k[s]);
        free(x->v[s]);
    }
}

/* A head as the cache keeps it. */
static void as_cached(const Case *c, double *y, const float *x) {
    float amax = 0.0f;
    for (int i = 0; i < c->hd; i++) {
        if (i % KV_GROUP == 0) amax = 0.0f;
        for (int j = i; i % KV_GROUP == 0 && j < MIN(c->hd, i + KV_GROUP); j++)
            amax = fmaxf(amax, fabsf(x[j]));
        float v = c->type == DT_F16 ? half_f16_to_f32(half_f32_to_f16(x[i])) : x[i];
        y[i] = (double)v;
        if (c->type == DT_Q8_0)
            y[i] = (double)half_f16_to_f32(half_f32_to_f16(amax / 127.0f)) *
                   (double)roundf(x[i] * (1.0f / (amax / 127.0f)));
    }
}

/* Rotation by the definition: pair i of a head turns by pos * freq[i]. */
static void check_rope(const Paged *x, const float *before, const float *after, int pos) {
    const Case *c = x->c;
    for (int h = 0; h < c->nh + 2 * c->nkv; h++) {
        const float *b = before + h * c->hd, *a = after + h * c->hd;
        bool turns = h < c->nh + c->nkv;
        for (int i = 0; i < c->hd; i++) {
            int pair = c->halves ? i % c->n_rot : i / 2, lo = c->halves ? pair : 2 * pair,
                hi = c->halves ? pair + c->n_rot : 2 * pair + 1;
            double want = (double)b[i];
            if (turns && i < 2 * c->n_rot) {
                double t = (double)pos * (double)x->freq[pair];
                want = i == lo ? (double)b[lo] * cos(t) - (double)b[hi] * sin(t)
                               : (double)b[lo] * sin(t) + (double)b[hi] * cos(t);
            }
            dev_near("rope", (size_t)(h * c->hd + i), a[i], want, turns ? 4e-5 : 0.0);
        }
    }
}

/* One row's attention over its sequence so far. */
static void check_attn(const Paged *x, const float *row, const float *o, int seq, int pos,
                       float scale) {
    const Case *c = x->c;
    double p[MAX_TOK];
    size_t hd = (size_t)c->hd;
    for (int h = 0; h < c->nh; h++) {
        const double *k = x->k[seq] + (size_t)(h / (c->nh / c->nkv)) * hd,
                     *v = x->v[seq] + (size_t)(h / (c->nh / c->nkv)) * hd;
        double most = -1e300, sum = 0.0;
        for (int t = 0; t <= pos; t++) {
            p[t] = 0.0;
            for (size_t i = 0; i < hd; i++)
                p[t] += (double)scale * (double)row[(size_t)h * hd + i] *
                        k[(size_t)t * kv_width(c) + i];
            most = fmax(most, p[t]);
        }
        for (int t = 0; t <= pos; t++) sum += p[t] = exp(p[t] - most);
        for (size_t i = 0; i < hd; i++) {
            double want = 0.0;
            for (int t = 0; t <= pos; t++) want += p[t] / sum * v[(size_t)t * kv_width(c) + i];
            dev_near("attention", (size_t)h * hd + i, o[(size_t)h * hd + i], want, 1e-5);
        }
    }
}

static void remember(Paged *x, const float *row, int seq, int pos) {
    const Case *c = x->c;
    size_t n = kv_width(c), k = (size_t)(c->nh * c->hd);
    for (size_t i = 0; i < n; i += (size_t)c->hd) {
        as_cached(c, x->k[seq] + (size_t)pos * n + i, row + k + i);
        as_cached(c, x->v[seq] + (size_t)pos * n + i, row + k + n + i);
    }
}

/* Rows of a batch: the next tokens of each sequence, sequences in order. */
static int next_rows(const Case *c, int *done, int32_t *pos, int32_t *seq) {
    int T = 0;
    for (int s = 0; s < c->n_seq; s++) {
        int most = dev_int(1, c->chunk), n = MIN(c->len[s] - done[s], most);
        for (int i = 0; i < n; i++, T++) {
            seq[T] = s;
            pos[T] = done[s] + i;
        }
        done[s] += n;
    }
    return T;
}

static void step(Paged *x, int T, const int32_t *pos, const int32_t *seq) {
    const Case *c = x->c;
    size_t w = width(c), wo = (size_t)(c->nh * c->hd), rows = (size_t)T;
    float scale = 1.5f / sqrtf((float)c->hd), *before = dev_random(rows * w);
    Buf *qkv = dev_put(x->d, before, rows * w), *bo = dev_buf(x->d, rows * wo);
    Batch b = {.T = T, .pos = pos, .seq = seq, .n_seq = c->n_seq, .blocks = x->blocks};
    x->d->ops->rope_kv(x->d, &(RopeKvArgs){.qkv = buf_at(qkv, 0),
                                           .pos = pos,
                                           .rope = {c->n_rot, c->halves, x->freq, 0},
                                           .T = T,
                                           .nh = c->nh,
                                           .nkv = c->nkv,
                                           .hd = c->hd,
                                           .kv = x->kv,
                                           .layer = x->layer,
                                           .batch = &b});
    x->d->ops->attn(x->d, &(AttnArgsDev){.o = buf_at(bo, 0),
                                         .qkv = buf_at(qkv, 0),
                                         .nh = c->nh,
                                         .nkv = c->nkv,
                                         .hd = c->hd,
                                         .layer = x->layer,
                                         .scale = scale,
                                         .kv = x->kv,
                                         .batch = &b});
    int every = T > 100 ? 31 : 1;
    float *after = dev_get(x->d, qkv, rows * w), *o = dev_get(x->d, bo, rows * wo);
    for (int t = 0; t < T; t++) remember(x, after + (size_t)t * w, seq[t], pos[t]);
    for (int t = T % every; t < T; t += every) {
        check_rope(x, before + (size_t)t * w, after + (size_t)t * w, pos[t]);
        check_attn(x, after + (size_t)t * w, o + (size_t)t * wo, seq[t], pos[t], scale);
    }
    x->d->ops->buf_free(x->d, qkv);
    x->d->ops->buf_free(x->d, bo);
    free(before);
    free(after);
    free(o);
}

static void run(const char *level, const Case *c) {
    Paged x;
    int done[MAX_SEQ] = {0}, T;
    int32_t pos[MAX_SEQ * MAX_TOK], seq[MAX_SEQ * MAX_TOK];
    paged_init(&x, c, level);
    x.layer = c->nh % LAYERS;
    while ((T = next_rows(c, done, pos, seq)) > 0) step(&x, T, pos, seq);
    paged_free(&x);
}

static const Case cases[] = {
    {DT_F32, 1, 1, 8, 4, false, 1, {1}, 1, 2},
    {DT_F32, 4, 2, 16, 8, false, 3, {70, 1, 33}, 20, 2},
    {DT_F16, 4, 2, 16, 8, false, 3, {70, 1, 33}, 20, 2},
    {DT_F32, 4, 4, 24, 5, true, 2, {32, 65}, 40, 2},
    {DT_F16, 8, 1, 64, 32, true, 2, {31, 64}, 64, 2},
    {DT_F32, 5, 1, 40, 20, false, 4, {40, 3, 96, 17}, 7, 2},
    {DT_F16, 6, 3, 128, 10, false, 2, {50, 20}, 33, 2},
    {DT_F32, 2, 1, 256, 128, true, 2, {100, 45}, 100, 2},
    {DT_F16, 2, 2, 256, 0, false, 1, {45}, 11, 2},
    {DT_Q8_0, 4, 2, 16, 8, false, 3, {70, 1, 33}, 20, 1},
    {DT_Q8_0, 6, 1, 128, 64, true, 2, {31, 64}, 64, 2},
    {DT_Q8_0, 5, 1, 40, 20, false, 4, {40, 3, 96, 17}, 7, 2},
    {DT_F16, 3, 1, 8, 4, true, 2, {700, 515}, 300, 1},
    {DT_F16, 3, 1, 8, 4, true, 2, {1100, 515}, 500, 7},
    {DT_Q8_0, 2, 2, 32, 16, false, 1, {1030}, 460, 9},
    {DT_F32, 70, 1, 16, 8, true, 1, {530}, 530, 9},
};

TEST(paged_attention_matches_the_definition) {
    for (size_t l = 0; l < DEV_LEVELS; l++)
        for (size_t i = 0; i < COUNT_OF(cases) && dev_has(l); i++) run(dev_levels[l], &cases[i]);
}

/* The backward of the rotation turns everything back. */
TEST(inverse_rope_undoes_rope) {
    enum { T = 40, NH = 3, NKV = 1, HD = 24, W = (NH + 2 * NKV) * HD };
    float freq[9];
    int32_t pos[T];
    for (int i = 0; i < 9; i++) freq[i] = powf(50.0f, -(float)i / 9.0f);
    for (int t = 0; t < T; t++) pos[t] = dev_int(0, 300);
    for (int halves = 0; halves < 2; halves++) {
        Device *d = dev_new(NULL, 2);
        float *x = dev_random(T * W);
        Buf *b = dev_put(d, x, T * W);
        RopeKvArgs a = {.qkv = buf_at(b, 0),
                        .pos = pos,
                        .rope = {9, halves, freq, 0},
                        .T = T,
                        .nh = NH,
                        .nkv = NKV,
                        .hd = HD};
        d->ops->rope_kv(d, &a);
        a.inverse = true;
        d->ops->rope_kv(d, &a);
        float *y = dev_get(d, b, T * W);
        for (int i = 0; i < T * W; i++) NEAR(y[i], x[i], 1e-6);
        d->ops->buf_free(d, b);
        free(x);
        free(y);
        dev_free(d);
    }
}

/* A row's result does not depend on who stands beside it, nor on the chunks its past came in, nor on how many
 * threads share the work. */
static void no_bit(const char *level, DType type) {
    enum { LEN = 560, NB = 18, NH = 4, NKV = 2, HD = 32, W = (NH + 2 * NKV) * HD, WO = NH * HD };
    static const int rows[] = {LEN, 1, 33, 9, 500}, threads[] = {1, 2, 3, 5, 8};
    float *x = dev_random(LEN * W), *out[5];
    for (int way = 0; way < 5; way++) {
        Device *d = dev_new(level, threads[way]);
        KvStore *kv = d->ops->kv_new(d, type, 1, 2 * NB, NKV, HD);
        int32_t table[2][NB], pos[LEN], seq[LEN];
        const int32_t *blocks[] = {table[0], table[1]};
        for (int i = 0; i < NB; i++) {
            table[way % 2][i] = 2 * NB - 1 - i;
            table[1 - way % 2][i] = (i * 11 + way) % NB;
        }
        Buf *qkv = dev_put(d, x, LEN * W), *o = dev_buf(d, LEN * WO);
        int step_rows = rows[way];
        for (int from = 0, T; from < LEN; from += T) {
            T = step_rows == 1 && from < 512 ? 64 : MIN(step_rows, LEN - from);
            for (int t = 0; t < T; t++) {
                pos[t] = from + t;
                seq[t] = way % 2;
            }
            Batch b = {.T = T, .pos = pos, .seq = seq, .n_seq = 2, .blocks = blocks};
            BufAt in = buf_at(qkv, (size_t)from * W);
            d->ops->rope_kv(d, &(RopeKvArgs){.qkv = in,
                                             .pos = pos,
                                             .T = T,
                                             .nh = NH,
                                             .nkv = NKV,
                                             .hd = HD,
                                             .kv = kv,
                                             .batch = &b});
            d->ops->attn(d, &(AttnArgsDev){.o = buf_at(o, (size_t)from * WO),
                                           .qkv = in,
                                           .nh = NH,
                                           .nkv = NKV,
                                           .hd = HD,
                                           .scale = 0.2f,
                                           .kv = kv,
                                           .batch = &b});
        }
        out[way] = dev_get(d, o, LEN * WO);
        d->ops->kv_free(d, kv);
        d->ops->buf_free(d, qkv);
        d->ops->buf_free(d, o);
        dev_free(d);
    }
    for (int way = 1; way < 5; way++) EQ_MEM(out[0], out[way], LEN * WO * sizeof(float));
    for (int way = 0; way < 5; way++) free(out[way]);
    free(x);
}

TEST(batch_chunks_and_threads_change_no_bit) {
    static const DType types[] = {DT_F32, DT_F16, DT_Q8_0};
    for (size_t l = 1; l < DEV_LEVELS; l++)
        for (size_t t = 0; t < COUNT_OF(types) && dev_has(l); t++) no_bit(dev_levels[l], types[t]);
}
