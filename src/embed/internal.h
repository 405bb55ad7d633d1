/* SPDX-License-Identifier: Apache-2.0
 * Inside embed/: what a model handle holds, and the two ways between the public structures and ours. */
#ifndef INGOT_EMBED_INTERNAL_H
#define INGOT_EMBED_INTERNAL_H

#include "engine/answer.h"
#include "ingot.h"

/* [const] all of it from ingot_load to ingot_free. */
struct IngotModel {
    Device *dev;         /* owned */
    Model *m;            /* owned */
    Tokenizer *tok;      /* owned */
    GrammarVocab *vocab; /* owned; NULL: no grammars */
    Engine *en;          /* owned */
    EngineDoor door;
};

/* A structure that a caller filled, as this version has it: what an older program does not know is zero. n_first: its
 * size in the first version. ERR_ARG for a size that cannot be. name: for the message. */
MUST_CHECK Status ingot__take_struct(void *out, size_t n_out, size_t n_first, const void *in,
                                     const char *name, Err *e);
/* st as the caller gets it, with its words in *e unless that is NULL. */
int ingot__give(Status st, const Err *err, IngotError *e);

/* ---- cancel.c ---- */

/* A generation under way, on the stack of its thread. */
typedef struct CancelLink {
    Answer *answer;
    struct CancelLink *next;
} CancelLink;
/* From now on ingot_cancel reaches the answer, and at once if it was called before. c may be NULL. */
void ingot__cancel_attach(IngotCancel *c, CancelLink *link);
/* Before the answer goes. */
void ingot__cancel_detach(IngotCancel *c, CancelLink *link);

#endif
