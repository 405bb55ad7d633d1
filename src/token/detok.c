/* SPDX-License-Identifier: Apache-2.0
 *
 * Ids -> bytes, at once or streaming. A token may end inside a code point (emoji often do), so a stream
 * holds back up to three bytes until the rest has come or turns out not to.
 */
#include "text/utf8.h"
#include "token/internal.h"

Status tok_decode(const Tokenizer *t, const int32_t *ids, size_t n, StrBuf *out, Err *e) {
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= t->n_vocab) {
            return err_set(e, ERR_ARG, "token %zu: id %ld is outside of the vocabulary, 0 to %ld",
                           i, (long)ids[i], (long)t->n_vocab - 1);
        }
    }
    bool space = t->prefix != PREFIX_NONE; /* encoding put one in front */
    char few[512];
    size_t n_few = 0;
    for (size_t i = 0; i < n; i++) {
        Slice s = t->piece[ids[i]];
        size_t skip = space && s.n > 0 && s.p[0] == ' ' ? 1 : 0;
        space = space && t->type[ids[i]] == TOK_CONTROL;
        s = (Slice){s.p + skip, s.n - skip};
        if (n_few + s.n > sizeof few) {
            sb_put(out, few, n_few);
            n_few = 0;
        }
        if (s.n > sizeof few) {
            sb_put(out, s.p, s.n);
        } else {
            for (size_t k = 0; k < s.n; k++) few[n_few++] = s.p[k];
        }
    }
    sb_put(out, few, n_few);
    return sb_check(out, e);
}

void detok_init(Detok *d, const Tokenizer *t) { *d = (Detok){.t = t}; }

/* One more byte for what is held; whatever is decided by it goes out. */
static void push_byte(Detok *d, char byte, StrBuf *out) {
    d->held[d->n_held++] = byte;
    size_t n = (size_t)d->n_held, done = utf8_complete_prefix((Slice){d->held, n});
    utf8_put_clean(out, (Slice){d->held, done});
    memmove(d->held, d->held + done, n - done);
    d->n_held = (int)(n - done);
}

void detok_push(Detok *d, int32_t id, StrBuf *out) {
    Slice s = tok_piece(d->t, id);
    for (; d->n_held > 0 && s.n > 0; s.p++, s.n--) push_byte(d, *s.p, out);
    if (s.n == 0) return;
    size_t done = utf8_complete_prefix(s);
    utf8_put_clean(out, (Slice){s.p, done});
    memcpy(d->held, s.p + done, s.n - done);
    d->n_held = (int)(s.n - done);
}

void detok_finish(Detok *d, StrBuf *out) {
    utf8_put_clean(out, (Slice){d->held, (size_t)d->n_held});
    d->n_held = 0;
}
