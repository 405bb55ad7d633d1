/* SPDX-License-Identifier: Apache-2.0
 * Who holds which block of the KV cache. Blocks of 32 tokens come from one pool; a sequence is a table of
 * block ids, in order. What lies inside a block is the device's business.
 *
 * block: FREE -[kv_seq_take]-> HELD by one sequence -[kv_seq_release]-> FREE
 *
 * A sequence takes all the blocks it will ever need at once, so a running request never waits for memory.
 * All arrays are sized at start: take and release allocate nothing. Engine thread. */
#ifndef INGOT_ENGINE_KV_H
#define INGOT_ENGINE_KV_H

#include "base/err.h"

typedef struct KvPool KvPool;

enum { KV_BLOCK_TOK = 32 };

/* Blocks that n_tok tokens fill. */
static inline int kv_blocks_for(int n_tok) { return (n_tok + KV_BLOCK_TOK - 1) / KV_BLOCK_TOK; }

/* n_blocks blocks for up to n_seqs sequences of up to max_tok tokens each. ERR_NOMEM. */
MUST_CHECK Status kv_pool_new(KvPool **out, int n_blocks, int n_seqs, int max_tok, Err *e);
void kv_pool_free(KvPool *p);
/* Bytes such a pool holds. */
size_t kv_pool_bytes(int n_blocks, int n_seqs, int max_tok);
int kv_n_blocks(const KvPool *p);
int kv_n_free(const KvPool *p);
/* A sequence with room for n_tok tokens; *seq names it. ERR_FULL: nothing changed. */
MUST_CHECK Status kv_seq_take(int *seq, KvPool *p, int n_tok, Err *e);
void kv_seq_release(KvPool *p, int seq);
/* Block table: borrowed until kv_seq_release. */
const int32_t *kv_seq_blocks(const KvPool *p, int seq);
/* Walk every invariant: each block is free or held, once; tables and counts agree. ERR_INTERNAL. */
MUST_CHECK Status kv_check(const KvPool *p, Err *e);

#endif
