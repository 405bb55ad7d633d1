/* SPDX-License-Identifier: Apache-2.0
 * The block pool. The unheld blocks are one doubly linked ring through a sentinel: blocks without a hash enter
 * at its head, findable ones at its tail, and blocks are taken from the head. A released sequence lets go of its
 * last block first, so that of one prefix the far end is evicted before the near one.
 *
 * The index of findable blocks is an open-addressing table of block ids under their hashes, at most half full;
 * deletion moves later entries of the run back, so there are no tombstones. */
#include "engine/kv.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

enum { NONE = -1 };

typedef struct Block {
    int32_t ref;        /* sequences that hold it */
    int32_t prev, next; /* in the ring while ref is 0 */
    bool findable;      /* its hash is in the index */
} Block;

typedef struct Seq {
    bool used, hashed; /* hashed: has a root */
    int n;             /* blocks held */
    int n_hash;        /* hashes known: of blocks 0 .. n_hash - 1 */
    int n_commit;      /* blocks committed */
    Sha256 root;
    int32_t *table; /* borrowed from KvPool.tables; [max_blocks] */
    Sha256 *hash;   /* borrowed from KvPool.hashes; [max_blocks] */
} Seq;

struct KvPool {
    int n_blocks, n_seqs, max_blocks;
    int n_free, n_findable;
    Block *block;    /* owned; [n_blocks + 1], the last is the ring's sentinel */
    Sha256 *hash_of; /* owned; [n_blocks], where findable */
    int32_t *index;  /* owned; [n_slots] block ids or NONE */
    uint32_t mask;   /* n_slots - 1 */
    int32_t *tables; /* owned; [n_seqs, max_blocks] */
    Sha256 *hashes;  /* owned; [n_seqs, max_blocks] */
    Seq *seq;        /* owned; [n_seqs] */
};

static size_t n_slots(int n_blocks) {
    size_t n = 4;
    while (n < 2 * (size_t)n_blocks) n *= 2;
    return n;
}

size_t kv_pool_bytes(int n_blocks, int n_seqs, int max_tok) {
    size_t table = (size_t)n_seqs * (size_t)kv_blocks_for(max_tok);
    return sizeof(KvPool) + ((size_t)n_blocks + 1) * sizeof(Block) +
           (size_t)n_blocks * sizeof(Sha256) + n_slots(n_blocks) * sizeof(int32_t) +
           table * (sizeof(int32_t) + sizeof(Sha256)) + (size_t)n_seqs * sizeof(Seq);
}

/* ---- the ring of unheld blocks ---- */

static void ring_insert(KvPool *p, int32_t b, int32_t after) {
    Block *x = &p->block[b];
    x->prev = after;
    x->next = p->block[after].next;
    p->block[x->next].prev = b;
    p->block[after].next = b;
    p->n_free++;
}

static void ring_remove(KvPool *p, int32_t b) {
    Block *x = &p->block[b];
    p->block[x->prev].next = x->next;
    p->block[x->next].prev = x->prev;
    p->n_free--;
}

/* ---- the index of findable blocks ---- */

static uint32_t home_of(const KvPool *p, const Sha256 *h) {
    uint32_t w;
    memcpy(&w, h->b, sizeof w);
    return w & p->mask;
}

/* Slot of the block with this hash, or of the gap where it would stand. */
static uint32_t index_slot(const KvPool *p, const Sha256 *h) {
    uint32_t i = home_of(p, h);
    while (p->index[i] != NONE && memcmp(&p->hash_of[p->index[i]], h, sizeof *h) != 0)
        i = (i + 1) & p->mask;
    return i;
}

static void index_remove(KvPool *p, int32_t b) {
    uint32_t gap = index_slot(p, &p->hash_of[b]);
    for (uint32_t i = (gap + 1) & p->mask; p->index[i] != NONE; i = (i + 1) & p->mask) {
        uint32_t home = home_of(p, &p->hash_of[p->index[i]]);
        if (((i - home) & p->mask) < ((i - gap) & p->mask))
            continue; /* it may not move before its home */
        p->index[gap] = p->index[i];
        gap = i;
    }
    p->index[gap] = NONE;
    p->block[b].findable = false;
    p->n_findable--;
}

static void index_add(KvPool *p, int32_t b, const Sha256 *h) {
    uint32_t i = index_slot(p, h);
    if (p->index[i] != NONE)
        return; /* another block holds the same: that one stays the known one */
    p->hash_of[b] = *h;
    p->index[i] = b;
    p->block[b].findable = true;
    p->n_findable++;
}

void kv_forget(KvPool *p) {
    for (int32_t b = 0; b < p->n_blocks; b++) p->block[b].findable = false;
    for (size_t i = 0; i <= p->mask; i++) p->index[i] = NONE;
    for (int s = 0; s < p->n_seqs; s++) p->seq[s].hashed = false;
    p->n_findable = 0;
}

/* ---- one block ---- */

static int32_t take_block(KvPool *p) {
    int32_t b = p->block[p->n_blocks].next;
    assert(b != p->n_blocks);
    ring_remove(p, b);
    if (p->block[b].findable) index_remove(p, b);
    p->block[b].ref = 1;
    return b;
}

static void hold_block(KvPool *p, int32_t b) {
    if (p->block[b].ref++ == 0) ring_remove(p, b);
}

static void drop_block(KvPool *p, int32_t b) {
    Block *x = &p->block[b];
    assert(x->ref > 0);
    if (--x->ref > 0) return;
    ring_insert(p, b, x->findable ? p->block[p->n_blocks].prev : p->n_blocks);
}

/* ---- life ---- */

static bool pool_alloc(KvPool *p) {
    size_t n_table;
    if (!mem_mul(&n_table, (size_t)p->n_seqs, (size_t)p->max_blocks)) return false;
    p->block = mem_new_n(Block, (size_t)p->n_blocks + 1);
    p->hash_of = mem_new_n(Sha256, (size_t)p->n_blocks);
    p->index = mem_new_n(int32_t, (size_t)p->mask + 1);
    p->tables = mem_new_n(int32_t, n_table);
    p->hashes = mem_new_n(Sha256, n_table);
    p->seq = mem_new_n(Seq, (size_t)p->n_seqs);
    return p->block && p->hash_of && p->index && p->tables && p->hashes && p->seq;
}

Status kv_pool_new(KvPool **out, int n_blocks, int n_seqs, int max_tok, Err *e) {
    assert(n_blocks > 0 && n_seqs > 0 && max_tok > 0);
    KvPool *p = mem_new(KvPool);
    if (p) {
        p->n_blocks = n_blocks;
        p->n_seqs = n_seqs;
        p->max_blocks = kv_blocks_for(max_tok);
        p->mask = (uint32_t)(n_slots(n_blocks) - 1);
    }
    if (!p || !pool_alloc(p)) {
        kv_pool_free(p);
        return err_set(e, ERR_NOMEM, "tables of %d KV blocks", n_blocks);
    }
    for (int s = 0; s < n_seqs; s++) {
        p->seq[s].table = p->tables + (size_t)s * (size_t)p->max_blocks;
        p->seq[s].hash = p->hashes + (size_t)s * (size_t)p->max_blocks;
    }
    for (size_t i = 0; i <= p->mask; i++) p->index[i] = NONE;
    p->block[n_blocks].prev = p->block[n_blocks].next = n_blocks;
    for (int32_t b = n_blocks - 1; b >= 0; b--)
        ring_insert(p, b, n_blocks); /* block 0 is taken first */
    *out = p;
    return OK;
}

void kv_pool_free(KvPool *p) {
    if (!p) return;
    mem_free(p->block);
    mem_free(p->hash_of);
    mem_free(p->index);
    mem_free(p->tables);
    mem_free(p->hashes);
    mem_free(p->seq);
    mem_free(p);
}

int kv_n_blocks(const KvPool *p) { return p->n_blocks; }
int kv_n_free(const KvPool *p) { return p->n_free; }
int kv_n_findable(const KvPool *p) { return p->n_findable; }

/* ---- hashes ---- */

/* The hash of block i of tok; false if there is none to be had. */
static bool hash_block(Seq *q, int i, const int32_t *tok) {
    struct {
        Sha256 before;
        int32_t tok[KV_BLOCK_TOK];
    } in;
    in.before = i == 0 ? q->root : q->hash[i - 1];
    memcpy(in.tok, tok + (size_t)i * KV_BLOCK_TOK, sizeof in.tok);
    return sha_256(&q->hash[i], &in, sizeof in, NULL) == OK;
}

static void hash_upto(const KvPool *p, Seq *q, const int32_t *tok, int n_tok) {
    int n = MIN(n_tok / KV_BLOCK_TOK, p->max_blocks);
    while (q->hashed && q->n_hash < n && hash_block(q, q->n_hash, tok)) q->n_hash++;
}

/* ---- sequences ---- */

static Seq *seq_of(const KvPool *p, int seq) {
    assert(seq >= 0 && seq < p->n_seqs && p->seq[seq].used);
    return &p->seq[seq];
}

int kv_seq_open(KvPool *p, const Sha256 *root) {
    for (int s = 0; s < p->n_seqs; s++) {
        Seq *q = &p->seq[s];
        if (q->used) continue;
        q->used = true;
        q->hashed = root != NULL;
        if (root) q->root = *root;
        q->n = q->n_hash = q->n_commit = 0;
        return s;
    }
    return -1;
}

int kv_seq_find(KvPool *p, int seq, const int32_t *tok, int n_tok, int *n_idle) {
    Seq *q = seq_of(p, seq);
    int n = 0, most = (n_tok - 1) / KV_BLOCK_TOK;
    *n_idle = 0;
    hash_upto(p, q, tok, n_tok);
    for (; n < MIN(most, q->n_hash); n++) {
        int32_t b = p->index[index_slot(p, &q->hash[n])];
        if (b == NONE) break;
        *n_idle += p->block[b].ref == 0;
    }
    return n * KV_BLOCK_TOK;
}

void kv_seq_attach(KvPool *p, int seq, int n_tok) {
    Seq *q = seq_of(p, seq);
    assert(q->n == 0 && n_tok % KV_BLOCK_TOK == 0);
    for (; q->n < n_tok / KV_BLOCK_TOK; q->n++) {
        int32_t b = p->index[index_slot(p, &q->hash[q->n])];
        assert(b != NONE);
        hold_block(p, b);
        q->table[q->n] = b;
    }
    q->n_commit = q->n;
}

void kv_seq_share(KvPool *p, int seq, int from, int n_tok) {
    Seq *q = seq_of(p, seq);
    const Seq *f = seq_of(p, from);
    assert(q->n == 0 && kv_blocks_for(n_tok) <= f->n);
    for (; q->n < kv_blocks_for(n_tok); q->n++) {
        q->table[q->n] = f->table[q->n];
        hold_block(p, q->table[q->n]);
    }
    q->n_commit = MIN(f->n_commit, n_tok / KV_BLOCK_TOK);
}

Status kv_seq_grow(KvPool *p, int seq, int n_tok, Err *e) {
    Seq *q = seq_of(p, seq);
    int n = kv_blocks_for(n_tok);
    if (n > p->max_blocks)
        return err_set(e, ERR_ARG, "a sequence of %d tokens: the limit is %d", n_tok,
                       p->max_blocks * KV_BLOCK_TOK);
    if (n - q->n > p->n_free)
        return err_set(e, ERR_FULL, "%d tokens need %d KV blocks more, %d are free", n_tok,
                       n - q->n, p->n_free);
    while (q->n < n) q->table[q->n++] = take_block(p);
    return OK;
}

Status kv_seq_own(KvPool *p, int seq, int pos, int32_t *src, int32_t *dst, Err *e) {
    Seq *q = seq_of(p, seq);
    int i = pos / KV_BLOCK_TOK;
    assert(i < q->n);
    *src = *dst = NONE;
    if (p->block[q->table[i]].ref == 1) return OK;
    if (p->n_free == 0) return err_set(e, ERR_FULL, "no KV block is free for a copy");
    *src = q->table[i];
    *dst = q->table[i] = take_block(p);
    drop_block(p, *src);
    return OK;
}

void kv_seq_commit(KvPool *p, int seq, const int32_t *tok, int n_tok) {
    Seq *q = seq_of(p, seq);
    hash_upto(p, q, tok, n_tok);
    for (; q->n_commit < MIN(n_tok / KV_BLOCK_TOK, q->n_hash); q->n_commit++) {
        int32_t b = q->table[q->n_commit];
        if (q->hashed && !p->block[b].findable) index_add(p, b, &q->hash[q->n_commit]);
    }
}

void kv_seq_release(KvPool *p, int seq) {
    Seq *q = seq_of(p, seq);
    while (q->n > 0) drop_block(p, q->table[--q->n]);
    q->used = false;
}

const int32_t *kv_seq_blocks(const KvPool *p, int seq) { return seq_of(p, seq)->table; }
int kv_seq_n_blocks(const KvPool *p, int seq) { return seq_of(p, seq)->n; }

/* ---- invariants ---- */

/* How many places of tables name block b; -1 if one sequence names it twice. */
static int count_holders(const KvPool *p, int32_t b) {
    int n = 0;
    for (int s = 0; s < p->n_seqs; s++) {
        int mine = 0;
        for (int i = 0; i < p->seq[s].n; i++) mine += p->seq[s].table[i] == b;
        if (mine > 1) return -1;
        n += mine;
    }
    return n;
}

static Status check_ring(const KvPool *p, Err *e) {
    int n = 0;
    bool idle = false;
    for (int32_t b = p->block[p->n_blocks].next, at = p->n_blocks; b != p->n_blocks;
         at = b, b = p->block[b].next, n++) {
        if (b < 0 || b >= p->n_blocks || n >= p->n_blocks || p->block[b].prev != at)
            return err_set(e, ERR_INTERNAL, "the free list is broken at place %d, block %d", n, b);
        if (p->block[b].ref != 0)
            return err_set(e, ERR_INTERNAL, "block %d is free and held %d times", b,
                           p->block[b].ref);
        if (idle && !p->block[b].findable)
            return err_set(e, ERR_INTERNAL, "block %d without a hash behind findable ones", b);
        idle |= p->block[b].findable;
    }
    if (n != p->n_free)
        return err_set(e, ERR_INTERNAL, "%d blocks in the free list, %d counted", n, p->n_free);
    return OK;
}

static Status check_blocks(const KvPool *p, Err *e) {
    int n_held = 0, n_findable = 0;
    for (int32_t b = 0; b < p->n_blocks; b++) {
        const Block *x = &p->block[b];
        int holders = count_holders(p, b);
        if (holders != x->ref)
            return err_set(e, ERR_INTERNAL, "block %d: %d holders, %d counted", b, holders, x->ref);
        n_held += x->ref > 0;
        n_findable += x->findable;
        if (x->findable && p->index[index_slot(p, &p->hash_of[b])] != b)
            return err_set(e, ERR_INTERNAL, "block %d is not found under its hash", b);
    }
    if (n_held + p->n_free != p->n_blocks)
        return err_set(e, ERR_INTERNAL, "%d blocks free and %d held, of %d", p->n_free, n_held,
                       p->n_blocks);
    int n_index = 0;
    for (size_t i = 0; i <= p->mask; i++) n_index += p->index[i] != NONE;
    if (n_findable != p->n_findable || n_index != n_findable)
        return err_set(e, ERR_INTERNAL, "%d findable blocks, %d counted, %d in the index",
                       n_findable, p->n_findable, n_index);
    return OK;
}

static Status check_seq(const KvPool *p, int s, Err *e) {
    const Seq *q = &p->seq[s];
    if (q->n < 0 || q->n > p->max_blocks || (!q->used && q->n != 0) || q->n_hash > p->max_blocks)
        return err_set(e, ERR_INTERNAL, "sequence %d holds %d blocks", s, q->n);
    for (int i = 0; i < q->n; i++) {
        int32_t b = q->table[i];
        if (b < 0 || b >= p->n_blocks)
            return err_set(e, ERR_INTERNAL, "sequence %d place %d: block %d of %d", s, i, b,
                           p->n_blocks);
    }
    return OK;
}

Status kv_check(const KvPool *p, Err *e) {
    for (int s = 0; s < p->n_seqs; s++) TRY(check_seq(p, s, e));
    TRY(check_ring(p, e));
    return check_blocks(p, e);
}
