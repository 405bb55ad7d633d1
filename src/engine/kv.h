/* SPDX-License-Identifier: Apache-2.0
 * Who holds which block of the KV cache. Blocks of 32 tokens come from one pool; a sequence is a table of
 * block ids, in order. What lies inside a block is the device's business.
 *
 * A block is held by one or more sequences, or by none; while it is full it may also be *findable*: known by
 * the hash of its tokens and of all before them (SHA-256 over the hash of the block before, or the root, and
 * the 32 token ids), so that a later sequence that begins alike takes it instead of computing it again.
 *
 *   FREE -[kv_seq_grow]-> HELD -[last holder lets go]-> FREE, at once the next to be reused
 *                          | [kv_seq_commit]
 *                          v
 *                     HELD, findable -[last holder lets go]-> IDLE, findable, reused after all that are FREE,
 *                          ^----------[kv_seq_match]-------------'                 longest unused first
 *
 * A block that several hold is never written: kv_seq_own gives the writer a copy of its own. All arrays are
 * sized at start: nothing here allocates later. Engine thread. */
#ifndef INGOT_ENGINE_KV_H
#define INGOT_ENGINE_KV_H

#include "base/sha.h"

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
/* Blocks nobody holds, findable ones included: what can still be taken. */
int kv_n_free(const KvPool *p);
/* Blocks that are findable, held or not. */
int kv_n_findable(const KvPool *p);

/* A sequence without blocks; -1 while all are in use. root: what a block's hash begins with (model, adapter,
 * tenant): sequences of different roots share nothing. NULL: this one neither finds blocks nor leaves any. */
int kv_seq_open(KvPool *p, const Sha256 *root);
/* Tokens at the start of tok[n_tok] whose K and V are in findable blocks: a multiple of 32, less than n_tok, so
 * that one token at least is computed. Nothing is taken. *n_idle: how many of those blocks nobody holds. The
 * hashes of all full blocks of tok are kept in seq. */
int kv_seq_find(KvPool *p, int seq, const int32_t *tok, int n_tok, int *n_idle);
/* Take the first n_tok found tokens' blocks. seq has none yet. */
void kv_seq_attach(KvPool *p, int seq, int n_tok);
/* Take the blocks of the first n_tok tokens of `from`, its partly filled one included. seq has none yet. */
void kv_seq_share(KvPool *p, int seq, int from, int n_tok);
/* Blocks for n_tok tokens in all. ERR_FULL: nothing changed; ERR_ARG beyond max_tok. */
MUST_CHECK Status kv_seq_grow(KvPool *p, int seq, int n_tok, Err *e);
/* Before token pos is written: if others hold its block too, seq gets a free one in its place. Then *src and
 * *dst say what to copy, else both are -1. ERR_FULL: nothing changed. */
MUST_CHECK Status kv_seq_own(KvPool *p, int seq, int pos, int32_t *src, int32_t *dst, Err *e);
/* The first n_tok tokens are written, or will be before anybody reads: full blocks become findable. */
void kv_seq_commit(KvPool *p, int seq, const int32_t *tok, int n_tok);
/* Let go of all blocks and end the sequence. */
void kv_seq_release(KvPool *p, int seq);
/* Forget all hashes (adapter or weights changed). Held blocks stay. */
void kv_forget(KvPool *p);
/* Block table: borrowed, changed by grow, own, attach, share. */
const int32_t *kv_seq_blocks(const KvPool *p, int seq);
int kv_seq_n_blocks(const KvPool *p, int seq);
/* Walk every invariant: holders counted twice agree, the free list is whole, findable blocks are found and no
 * others, shared blocks are full but for one place. ERR_INTERNAL. */
MUST_CHECK Status kv_check(const KvPool *p, Err *e);

#endif
