/* SPDX-License-Identifier: Apache-2.0
 * The block pool. Every block knows who holds it and at which place, and the holder's table (or the free
 * stack) names the block at that place: two views of one fact, which kv_check compares. */
#include "engine/kv.h"

#include <assert.h>

#include "base/mem.h"

enum { FREE = -1 };

typedef struct Seq {
    bool used;
    int n;          /* blocks held */
    int32_t *table; /* borrowed from KvPool.tables; [max_blocks] */
} Seq;

struct KvPool {
    int n_blocks, n_seqs, max_blocks;
    int n_free;
    int32_t *free_ids; /* owned; [n_blocks], a stack of n_free */
    int32_t *owner;    /* owned; [n_blocks] sequence, or FREE */
    int32_t *place;    /* owned; [n_blocks] index in the owner's table or in free_ids */
    int32_t *tables;   /* owned; [n_seqs, max_blocks] */
    Seq *seq;          /* owned; [n_seqs] */
};

size_t kv_pool_bytes(int n_blocks, int n_seqs, int max_tok) {
    size_t table = (size_t)n_seqs * (size_t)kv_blocks_for(max_tok);
    return sizeof(KvPool) + (3 * (size_t)n_blocks + table) * sizeof(int32_t) +
           (size_t)n_seqs * sizeof(Seq);
}

static bool pool_alloc(KvPool *p) {
    size_t n_table;
    if (!mem_mul(&n_table, (size_t)p->n_seqs, (size_t)p->max_blocks)) return false;
    p->free_ids = mem_new_n(int32_t, (size_t)p->n_blocks);
    p->owner = mem_new_n(int32_t, (size_t)p->n_blocks);
    p->place = mem_new_n(int32_t, (size_t)p->n_blocks);
    p->tables = mem_new_n(int32_t, n_table);
    p->seq = mem_new_n(Seq, (size_t)p->n_seqs);
    return p->free_ids && p->owner && p->place && p->tables && p->seq;
}

static void push_free(KvPool *p, int32_t block) {
    p->owner[block] = FREE;
    p->place[block] = p->n_free;
    p->free_ids[p->n_free++] = block;
}

Status kv_pool_new(KvPool **out, int n_blocks, int n_seqs, int max_tok, Err *e) {
    assert(n_blocks > 0 && n_seqs > 0 && max_tok > 0);
    KvPool *p = mem_new(KvPool);
    if (p) {
        p->n_blocks = n_blocks;
        p->n_seqs = n_seqs;
        p->max_blocks = kv_blocks_for(max_tok);
    }
    if (!p || !pool_alloc(p)) {
        kv_pool_free(p);
        return err_set(e, ERR_NOMEM, "tables of %d KV blocks", n_blocks);
    }
    for (int s = 0; s < n_seqs; s++)
        p->seq[s].table = p->tables + (size_t)s * (size_t)p->max_blocks;
    for (int32_t b = n_blocks - 1; b >= 0; b--) push_free(p, b); /* block 0 is taken first */
    *out = p;
    return OK;
}

void kv_pool_free(KvPool *p) {
    if (!p) return;
    mem_free(p->free_ids);
    mem_free(p->owner);
    mem_free(p->place);
    mem_free(p->tables);
    mem_free(p->seq);
    mem_free(p);
}

int kv_n_blocks(const KvPool *p) { return p->n_blocks; }
int kv_n_free(const KvPool *p) { return p->n_free; }

static int find_slot(const KvPool *p) {
    for (int s = 0; s < p->n_seqs; s++)
        if (!p->seq[s].used) return s;
    return -1;
}

Status kv_seq_take(int *seq, KvPool *p, int n_tok, Err *e) {
    int n = kv_blocks_for(n_tok), s = find_slot(p);
    if (n_tok < 1 || n > p->max_blocks)
        return err_set(e, ERR_ARG, "a sequence of %d tokens: the limit is %d", n_tok,
                       p->max_blocks * KV_BLOCK_TOK);
    if (s < 0) return err_set(e, ERR_FULL, "all %d sequences are in use", p->n_seqs);
    if (n > p->n_free)
        return err_set(e, ERR_FULL, "%d tokens need %d KV blocks, %d are free", n_tok, n,
                       p->n_free);
    Seq *q = &p->seq[s];
    q->used = true;
    for (q->n = 0; q->n < n; q->n++) {
        int32_t b = p->free_ids[--p->n_free];
        p->owner[b] = s;
        p->place[b] = q->n;
        q->table[q->n] = b;
    }
    *seq = s;
    return OK;
}

void kv_seq_release(KvPool *p, int seq) {
    assert(seq >= 0 && seq < p->n_seqs && p->seq[seq].used);
    Seq *q = &p->seq[seq];
    while (q->n > 0) push_free(p, q->table[--q->n]);
    q->used = false;
}

const int32_t *kv_seq_blocks(const KvPool *p, int seq) {
    assert(seq >= 0 && seq < p->n_seqs && p->seq[seq].used);
    return p->seq[seq].table;
}

/* ---- invariants ---- */

/* ids[n] each name a block that says it lies at this place of this owner. */
static Status check_list(const KvPool *p, const int32_t *ids, int n, int owner, Err *e) {
    for (int i = 0; i < n; i++) {
        int32_t b = ids[i];
        if (b < 0 || b >= p->n_blocks)
            return err_set(e, ERR_INTERNAL, "owner %d place %d: block %d of %d", owner, i, b,
                           p->n_blocks);
        if (p->owner[b] != owner || p->place[b] != i)
            return err_set(e, ERR_INTERNAL,
                           "block %d: owner %d place %d, found at owner %d place %d", b,
                           p->owner[b], p->place[b], owner, i);
    }
    return OK;
}

Status kv_check(const KvPool *p, Err *e) {
    int n_held = 0;
    for (int s = 0; s < p->n_seqs; s++) {
        const Seq *q = &p->seq[s];
        if (q->n < 0 || q->n > p->max_blocks || (!q->used && q->n != 0))
            return err_set(e, ERR_INTERNAL, "sequence %d holds %d blocks", s, q->n);
        TRY(check_list(p, q->table, q->n, s, e));
        n_held += q->n;
    }
    if (p->n_free < 0 || p->n_free + n_held != p->n_blocks)
        return err_set(e, ERR_INTERNAL, "%d blocks free and %d held, of %d", p->n_free, n_held,
                       p->n_blocks);
    return check_list(p, p->free_ids, p->n_free, FREE, e);
}
