/* SPDX-License-Identifier: Apache-2.0
 * Paged KV cache and attention over it. The only file that knows how a block is laid out:
 * [layer][K heads, V heads][head], a head being K [hd][32] or V [32][hd]. */
#include <math.h>

#include "device/internal.h"

enum {
    WARM_CHUNK = 2 << 20, /* of memory that is asked for ahead: one of the kernel's large pages */
    ROPE_ROWS = 4         /* of a tile: a step of a few streams has some for each thread */
};

size_t device_kv_head_bytes(DType type, int hd) {
    size_t n = KV_BLOCK * (size_t)hd;
    if (type != DT_Q8_0) return dtype_bytes(type, n);
    return n + KV_BLOCK * sizeof(uint16_t) * (size_t)kern_kv_groups(hd);
}

KvStore *cpu__kv_new(Device *d, DType type, int n_layer, int n_blocks, int nkv, int hd) {
    (void)d;
    KvStore *s = mem_new(KvStore);
    if (!s) return NULL;
    *s = (KvStore){.type = type, .n_layer = n_layer, .n_blocks = n_blocks, .nkv = nkv, .hd = hd};
    s->head_bytes = device_kv_head_bytes(type, hd);
    s->stride = 2 * (size_t)n_layer * (size_t)nkv * s->head_bytes;
    if (mem_mul(&s->n_bytes, s->stride, (size_t)n_blocks)) s->p = mem_map_alloc(s->n_bytes);
    if (s->p) return s;
    mem_free(s);
    return NULL;
}

void cpu__kv_free(Device *d, KvStore *s) {
    (void)d;
    if (!s) return;
    mem_map_free(s->p, s->n_bytes);
    mem_free(s);
}

static void warm_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    KvStore *s = ctx;
    size_t from = (size_t)tile * WARM_CHUNK;
    mem_map_touch(s->p + from, MIN((size_t)WARM_CHUNK, s->n_bytes - from));
}

void cpu__kv_warm(Device *d, KvStore *s, size_t n_bytes) {
    cpu__for(cpu_of(d), MIN(n_bytes, s->n_bytes), WARM_CHUNK, warm_task, s);
}

void cpu__kv_copy(Device *d, KvStore *s, int32_t dst, int32_t src) {
    (void)d;
    memcpy(s->p + (size_t)dst * s->stride, s->p + (size_t)src * s->stride, s->stride);
}

/* K (or V) of a layer and head inside block 0. */
static char *kv_head(const KvStore *s, int layer, int is_v, int head) {
    return s->p + ((size_t)(2 * layer + is_v) * (size_t)s->nkv + (size_t)head) * s->head_bytes;
}

typedef struct RopeJob {
    CpuDevice *d;
    const RopeKvArgs *a;
} RopeJob;

static void position_angles(float *cs, const RopeSpec *r, int32_t pos) {
    float gain = r->gain != 0.0f ? r->gain : 1.0f;
    for (int i = 0; i < r->n_rot; i++) {
        float angle = (float)pos * r->freq[i];
        cs[2 * i] = gain * cosf(angle);
        cs[2 * i + 1] = gain * sinf(angle);
    }
}

static void rope_task(void *ctx, int64_t tile, int worker) {
    RopeJob *j = ctx;
    const RopeKvArgs *a = j->a;
    const Kern *k = &j->d->kern;
    float *cs = (float *)(void *)j->d->scratch[worker].p;
    int t0 = (int)tile * ROPE_ROWS, t1 = MIN(a->T, t0 + ROPE_ROWS);
    size_t ld = (size_t)(a->nh + 2 * a->nkv) * (size_t)a->hd;
    for (int t = t0; t < t1; t++) {
        float *row = cpu_ptr(a->qkv) + (size_t)t * ld, *key = row + (size_t)a->nh * (size_t)a->hd;
        if (a->rope.n_rot > 0) {
            position_angles(cs, &a->rope, a->pos[t]);
            k->rope(row, cs, a->nh + a->nkv, a->hd, a->rope.n_rot, a->rope.halves, a->inverse);
        }
        if (!a->kv) continue;
        const KvStore *s = a->kv;
        int32_t pos = a->pos[t], block = a->batch->blocks[a->batch->seq[t]][pos / KV_BLOCK];
        size_t at = (size_t)block * s->stride;
        for (int h = 0; h < a->nkv; h++)
            k->kv_put[s->type](kv_head(s, a->layer, 0, h) + at, kv_head(s, a->layer, 1, h) + at,
                               key + h * a->hd, key + (a->nkv + h) * a->hd, pos % KV_BLOCK, a->hd);
    }
}

void cpu__rope_kv(Device *d, const RopeKvArgs *a) {
    RopeJob j = {cpu_of(d), a};
    if (!cpu__reserve(j.d, 2 * sizeof(float) * (size_t)a->rope.n_rot)) return;
    cpu__for(j.d, (size_t)a->T, ROPE_ROWS, rope_task, &j);
}

/* ---- attention ----
 *
 * Rows that stand one after the other in a sequence make a tile: they read K and V together. Tokens are taken in
 * pieces of 512 from position 0 on, each with a softmax of its own, and the pieces of a row joined in order; so a
 * row's result is a function of its position and its past alone, and where tiles are too few for all threads the
 * pieces of a tile can go to several of them. */

enum { ATTN_PIECE = 512, ATTN_QUERIES = 64, ATTN_TILES = 1 << 16 };

typedef struct AttnTile {
    int t, n_row;
} AttnTile;

typedef struct AttnJob {
    CpuDevice *d;
    const AttnArgsDev *a;
    AttnTile *tile; /* [n_tile], in d->shared, and behind it in a split job ... */
    int n_tile, group, n_piece;
    float *part;      /* ... [T, nh, n_piece, hd] */
    float (*stat)[2]; /* ... [n_piece, nkv, T, group] */
} AttnJob;

/* Tokens that the last row of a tile sees. */
static int tile_seen(const AttnJob *j, const AttnTile *x) {
    return j->a->batch->pos[x->t + x->n_row - 1] + 1;
}

/* Everything but where results go: rows from r on of a tile, one head, one piece. */
static AttnArgs piece_args(const AttnJob *j, const AttnTile *x, int r, int h, int piece,
                           void *work) {
    const AttnArgsDev *a = j->a;
    size_t hd = (size_t)a->hd, ld = (size_t)(a->nh + 2 * a->nkv) * hd;
    int t = x->t + r;
    return (AttnArgs){.q = cpu_ptr(a->qkv) + (size_t)t * ld + (size_t)(h * j->group) * hd,
                      .ldq = hd,
                      .row_q = ld,
                      .k = kv_head(a->kv, a->layer, 0, h),
                      .v = kv_head(a->kv, a->layer, 1, h),
                      .table = a->batch->blocks[a->batch->seq[t]],
                      .stride = a->kv->stride,
                      .nq = j->group,
                      .n_row = x->n_row - r,
                      .hd = a->hd,
                      .from = piece * ATTN_PIECE,
                      .n_tok = a->batch->pos[t] + 1,
                      .to = (piece + 1) * ATTN_PIECE,
                      .scale = a->scale,
                      .work = work};
}

/* First row of a tile that sees a token of the piece; n_row: none does. */
static int piece_row(const AttnJob *j, const AttnTile *x, int piece) {
    int n_tok = j->a->batch->pos[x->t] + 1;
    return MIN(x->n_row, MAX(0, piece * ATTN_PIECE + 1 - n_tok));
}

/* A worker's scratch. */
typedef struct AttnRoom {
    void *work;
    float *o;                    /* [queries, hd] of a piece */
    float (*sum)[2], (*stat)[2]; /* [queries] of all pieces so far, of a piece */
} AttnRoom;

static size_t room_bytes(int hd, int n_query) {
    size_t n = (size_t)n_query;
    return kern_attn_work(hd, n_query) + n * ((size_t)hd + 4) * sizeof(float) + 4 * 64;
}

static AttnRoom take_room(char *at, int hd, int n_query) {
    size_t n = (size_t)n_query;
    AttnRoom r = {.work = cpu_take(&at, kern_attn_work(hd, n_query))};
    r.o = cpu_take(&at, n * (size_t)hd * sizeof(float));
    r.sum = cpu_take(&at, n * sizeof *r.sum);
    r.stat = cpu_take(&at, n * sizeof *r.stat);
    return r;
}

static float *out_row(const AttnArgsDev *a, int t, int h, int group) {
    return cpu_ptr(a->o) + ((size_t)t * (size_t)a->nh + (size_t)(h * group)) * (size_t)a->hd;
}

/* A later piece of rows from r on, joined to what is in o. */
static void add_piece(const AttnJob *j, const AttnTile *x, int h, int piece, const AttnRoom *m) {
    const AttnArgsDev *a = j->a;
    const Kern *k = &j->d->kern;
    size_t hd = (size_t)a->hd, row = (size_t)j->group * hd;
    int first = piece_row(j, x, piece);
    AttnArgs p = piece_args(j, x, first, h, piece, m->work);
    p.o = m->o;
    p.ldo = hd;
    p.row_o = row;
    p.stat = m->stat;
    k->attn[a->kv->type](&p);
    for (int r = 0; r < p.n_row; r++) {
        float *o = out_row(a, x->t + first + r, h, j->group);
        for (int i = 0; i < j->group; i++, o += hd)
            k->attn_join(o, m->sum[(first + r) * j->group + i],
                         m->o + (size_t)(r * j->group + i) * hd, m->stat[r * j->group + i], a->hd);
    }
}

/* All pieces of a tile and head, one after the other. */
static void tile_task(void *ctx, int64_t i, int worker) {
    AttnJob *j = ctx;
    const AttnArgsDev *a = j->a;
    const Kern *k = &j->d->kern;
    const AttnTile *x = &j->tile[j->n_tile - 1 - (int)(i / a->nkv)]; /* long ones first */
    int h = (int)(i % a->nkv), n_piece = (tile_seen(j, x) + ATTN_PIECE - 1) / ATTN_PIECE;
    AttnRoom m = take_room(j->d->scratch[worker].p, a->hd, j->group * x->n_row);
    AttnArgs p = piece_args(j, x, 0, h, 0, m.work);
    p.o = out_row(a, x->t, h, j->group);
    p.ldo = (size_t)a->hd;
    p.row_o = (size_t)(a->nh * a->hd);
    p.stat = n_piece > 1 ? m.sum : NULL;
    k->attn[a->kv->type](&p);
    if (n_piece == 1) return;
    for (int piece = 1; piece < n_piece; piece++) add_piece(j, x, h, piece, &m);
    for (int r = 0; r < x->n_row; r++) {
        float *o = out_row(a, x->t + r, h, j->group);
        for (int q = 0; q < j->group; q++, o += a->hd)
            k->scale(o, 1.0f / m.sum[r * j->group + q][1], (size_t)a->hd);
    }
}

/* ---- split: pieces to threads, then each row's are joined ---- */

static float *part_of(const AttnJob *j, int t, int head, int piece) {
    size_t row = (size_t)t * (size_t)j->a->nh + (size_t)head;
    return j->part + (row * (size_t)j->n_piece + (size_t)piece) * (size_t)j->a->hd;
}

static float (*stat_of(const AttnJob *j, int t, int h, int piece))[2] {
    size_t row = (size_t)(piece * j->a->nkv + h) * (size_t)j->a->batch->T + (size_t)t;
    return j->stat + row * (size_t)j->group;
}

static void piece_task(void *ctx, int64_t i, int worker) {
    AttnJob *j = ctx;
    const AttnArgsDev *a = j->a;
    int piece = (int)(i % j->n_piece), h = (int)(i / j->n_piece % a->nkv);
    const AttnTile *x = &j->tile[i / j->n_piece / a->nkv];
    int r = piece_row(j, x, piece);
    if (r == x->n_row) return;
    AttnArgs p = piece_args(j, x, r, h, piece, j->d->scratch[worker].p);
    p.o = part_of(j, x->t + r, h * j->group, piece);
    p.ldo = (size_t)j->n_piece * (size_t)a->hd;
    p.row_o = (size_t)a->nh * p.ldo;
    p.stat = stat_of(j, x->t + r, h, piece);
    j->d->kern.attn[a->kv->type](&p);
}

static void join_task(void *ctx, int64_t t, int worker) {
    AttnJob *j = ctx;
    const AttnArgsDev *a = j->a;
    const Kern *k = &j->d->kern;
    size_t hd = (size_t)a->hd;
    (void)worker;
    for (int head = 0; head < a->nh; head++) {
        int h = head / j->group, i = head % j->group;
        float *o = out_row(a, (int)t, h, j->group) + (size_t)i * hd,
              *sum = stat_of(j, (int)t, h, 0)[i];
        memcpy(o, part_of(j, (int)t, head, 0), hd * sizeof *o);
        for (int piece = 1; piece * ATTN_PIECE <= a->batch->pos[t]; piece++)
            k->attn_join(o, sum, part_of(j, (int)t, head, piece), stat_of(j, (int)t, h, piece)[i],
                         a->hd);
        k->scale(o, 1.0f / sum[1], hd);
    }
}

/* Room for the pieces of all rows; false where there is none or no need. */
static bool split(AttnJob *j) {
    const AttnArgsDev *a = j->a;
    size_t rows = (size_t)a->batch->T * (size_t)a->nh * (size_t)j->n_piece,
           list = ROUND_UP((size_t)j->n_tile * sizeof *j->tile, (size_t)64);
    if (j->n_piece < 2 || (int64_t)j->n_tile * a->nkv >= 4 * (int64_t)team_size(j->d->team))
        return false;
    if (rows > (CPU_SHARED_BYTES - list) / (((size_t)a->hd + 2) * sizeof(float))) return false;
    j->part = (float *)(void *)(j->d->shared + list);
    j->stat = (float(*)[2])(void *)(j->part + rows * (size_t)a->hd);
    return true;
}

/* ---- tiles ---- */

static bool follows(const Batch *b, int t) {
    return b->seq[t] == b->seq[t - 1] && b->pos[t] == b->pos[t - 1] + 1;
}

/* Tiles of up to `most` rows from row t on, as many as the list holds; the row after them. */
static int cut_tiles(AttnJob *j, int t, int most) {
    const Batch *b = j->a->batch;
    j->n_tile = j->n_piece = 0;
    while (t < b->T && j->n_tile < ATTN_TILES) {
        int t0 = t++;
        while (t < b->T && t - t0 < most && follows(b, t)) t++;
        j->tile[j->n_tile++] = (AttnTile){t0, t - t0};
        j->n_piece = MAX(j->n_piece, (b->pos[t - 1] + ATTN_PIECE) / ATTN_PIECE);
    }
    return t;
}

void cpu__attn(Device *d, const AttnArgsDev *a) {
    AttnJob j = {.d = cpu_of(d), .a = a, .group = a->nh / a->nkv};
    int T = a->batch->T, most = MAX(1, ATTN_QUERIES / j.group);
    if (!cpu__reserve(j.d, room_bytes(a->hd, j.group * MIN(most, T)))) return;
    j.tile = (AttnTile *)(void *)j.d->shared;
    for (int t = 0; t < T;) {
        bool all = t == 0;
        t = cut_tiles(&j, t, most);
        if (all && t == T && split(&j)) {
            cpu__for(j.d, (size_t)j.n_tile * (size_t)a->nkv * (size_t)j.n_piece, 1, piece_task, &j);
            cpu__for(j.d, (size_t)T, 1, join_task, &j);
        } else {
            cpu__for(j.d, (size_t)j.n_tile * (size_t)a->nkv, 1, tile_task, &j);
        }
    }
}
