/* SPDX-License-Identifier: Apache-2.0
 *
 * Counting: a text is cut into chunks by the gpt-2 pattern, as it will be for encoding, and equal chunks
 * are counted together. All later work is on distinct chunks, of which there are hundreds of times fewer.
 */
#include "token/train_internal.h"

enum { MIN_SLOTS = 1 << 12, MIN_BYTES = 1 << 16 };

void tok__words_deinit(WordCounts *w) {
    mem_free(w->bytes);
    mem_free(w->word);
    mem_free(w->slot);
    *w = (WordCounts){0};
}

static Slice word_text(const WordCounts *w, size_t i) {
    return (Slice){w->bytes + w->word[i].at, w->word[i].n};
}

static void put_slot(WordSlot *slot, size_t mask, uint64_t hash, uint32_t word) {
    size_t i = (size_t)hash & mask;
    while (slot[i].word) i = (i + 1) & mask;
    slot[i] = (WordSlot){(uint32_t)(hash >> 32), word};
}

/* Room for one more word: the table stays at most half full. */
static bool reserve_slots(WordCounts *w) {
    if (w->slot && 2 * (w->n + 1) <= w->mask + 1) return true;
    size_t n = w->slot ? 2 * (w->mask + 1) : MIN_SLOTS;
    WordSlot *slot = mem_new_n(WordSlot, n);
    if (!slot) return false;
    if (!w->slot) w->seed = tok__seed(slot);
    for (size_t i = 0; i < w->n; i++)
        put_slot(slot, n - 1, tok__hash(word_text(w, i), w->seed), (uint32_t)i + 1);
    mem_free(w->slot);
    w->slot = slot;
    w->mask = n - 1;
    return true;
}

static bool reserve_word(WordCounts *w, size_t n_bytes) {
    if (w->n == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : MIN_SLOTS;
        Word *word = mem_realloc_n(w->word, cap, sizeof *word);
        if (!word) return false;
        w->word = word;
        w->cap = cap;
    }
    if (w->cap_bytes - w->n_bytes < n_bytes) {
        size_t cap = MAX(2 * w->cap_bytes, w->n_bytes + MAX(n_bytes, (size_t)MIN_BYTES));
        char *bytes = mem_realloc_n(w->bytes, cap, 1);
        if (!bytes) return false;
        w->bytes = bytes;
        w->cap_bytes = cap;
    }
    return true;
}

static Status add_new(WordCounts *w, Slice chunk, uint64_t hash, uint64_t count, Err *e) {
    if (!reserve_slots(w) || !reserve_word(w, chunk.n)) {
        return err_set(e, ERR_NOMEM, "tokenizer training: out of memory with %zu different chunks",
                       w->n);
    }
    memcpy(w->bytes + w->n_bytes, chunk.p, chunk.n);
    w->word[w->n++] = (Word){w->n_bytes, count, (uint32_t)chunk.n};
    w->n_bytes += chunk.n;
    put_slot(w->slot, w->mask, hash, (uint32_t)w->n);
    return OK;
}

static Status add(WordCounts *w, Slice chunk, uint64_t count, Err *e) {
    if (!w->slot && !reserve_slots(w))
        return err_set(e, ERR_NOMEM, "tokenizer training: out of memory");
    uint64_t hash = tok__hash(chunk, w->seed);
    for (size_t i = (size_t)hash & w->mask; w->slot[i].word; i = (i + 1) & w->mask) {
        if (w->slot[i].hash != (uint32_t)(hash >> 32)) continue;
        size_t word = w->slot[i].word - 1;
        if (!tok__same(word_text(w, word), chunk)) continue;
        w->word[word].count += count;
        return OK;
    }
    if (w->n == UINT32_MAX - 1)
        return err_set(e, ERR_FULL, "tokenizer training: %zu different chunks", w->n);
    return add_new(w, chunk, hash, count, e);
}

Status tok__words_add(WordCounts *w, Slice chunk, Err *e) { return add(w, chunk, 1, e); }

Status tok__words_join(WordCounts *w, const WordCounts *more, Err *e) {
    for (size_t i = 0; i < more->n; i++) TRY(add(w, word_text(more, i), more->word[i].count, e));
    return OK;
}
