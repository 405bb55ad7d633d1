/* SPDX-License-Identifier: Apache-2.0
 * Between chat.c, chat_messages.c, chat_caps.c and chat_split.c. */
#ifndef INGOT_TOKEN_CHAT_INTERNAL_H
#define INGOT_TOKEN_CHAT_INTERNAL_H

#include "token/chat.h"

/* How a family of models marks reasoning. */
typedef struct ChatMarks {
    const char *open, *close;
    bool channels;
} ChatMarks;

enum { CHAT_N_SPECIALS = 7 };

struct Chat {
    ChatKind kind;
    Jinja *usual, *tool_use;        /* owned; tool_use NULL: the usual one */
    Json *words;                    /* owned: [true, false, null] */
    char *special[CHAT_N_SPECIALS]; /* owned; NULL: the template does not see it */
    const ChatMarks *marks;         /* NULL: no reasoning */
    ChatCaps caps;
    int32_t end_id; /* -1: none */
};

/* Render probes and write down what came of them. ERR_NOMEM only. */
MUST_CHECK Status tok__chat_probe(ChatCaps *out, const Chat *c, Err *e);
/* The token behind an answer, tok being the model's; -1 if there is none. */
MUST_CHECK Status tok__chat_probe_end(int32_t *out, const Chat *c, const Tokenizer *tok, Err *e);
/* The marks that this template, or else this vocabulary (may be NULL), knows. */
const ChatMarks *tok__chat_marks(Slice source, const Tokenizer *tok);

#endif
