/* SPDX-License-Identifier: Apache-2.0
 *
 * Special tokens written out in a text: leftmost first, the longest where several start together. A trie
 * of their bytes with sibling lists; positions that cannot start one are skipped by a table.
 */
#include "token/internal.h"

static uint32_t child_of(const Specials *s, uint32_t node, uint8_t byte) {
    uint32_t i = s->node[node].child;
    while (i && s->node[i].byte != byte) i = s->node[i].sibling;
    return i;
}

static bool grow(Specials *s, size_t n) {
    if (n <= s->cap) return true;
    size_t cap = MAX(n, 2 * s->cap);
    TrieNode *node = mem_realloc_n(s->node, cap, sizeof *node);
    if (!node) return false;
    s->node = node;
    s->cap = cap;
    return true;
}

bool tok__specials_add(Specials *s, Slice text, int32_t id) {
    if (!grow(s, s->n + 1 + text.n)) return false;
    if (s->n == 0) s->node[s->n++] = (TrieNode){.id = -1};
    uint32_t at = 0;
    for (size_t i = 0; i < text.n; i++) {
        uint8_t b = (uint8_t)text.p[i];
        uint32_t next = child_of(s, at, b);
        if (!next) {
            next = (uint32_t)s->n++;
            s->node[next] = (TrieNode){.id = -1, .sibling = s->node[at].child, .byte = b};
            s->node[at].child = next;
        }
        at = next;
    }
    s->node[at].id = id;
    s->starts[(uint8_t)text.p[0]] = true;
    return true;
}

void tok__specials_deinit(Specials *s) { mem_free(s->node); }

/* The longest special token at the start of text, or -1. */
static int32_t longest_at(const Tokenizer *t, Slice text, bool control) {
    const Specials *s = &t->specials;
    int32_t best = -1;
    uint32_t at = 0;
    for (size_t i = 0; i < text.n; i++) {
        at = child_of(s, at, (uint8_t)text.p[i]);
        if (!at) break;
        int32_t id = s->node[at].id;
        if (id >= 0 && (control || t->type[id] == TOK_USER_DEFINED)) best = id;
    }
    return best;
}

bool tok__specials_find(const Tokenizer *t, Slice text, size_t from, bool control, size_t *at,
                        int32_t *id) {
    if (t->specials.n == 0) return false;
    for (size_t i = from; i < text.n; i++) {
        if (!t->specials.starts[(uint8_t)text.p[i]]) continue;
        int32_t found = longest_at(t, (Slice){text.p + i, text.n - i}, control);
        if (found < 0) continue;
        *at = i;
        *id = found;
        return true;
    }
    return false;
}
