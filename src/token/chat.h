/* SPDX-License-Identifier: Apache-2.0
 * Chat templates of models: messages -> text -> tokens. A model's own template stands in its file as
 * tokenizer.chat_template, and tokenizer.chat_template.tool_use for requests with tools. A model without one gets
 * <|im_start|>role\ntext<|im_end|>\n if it knows these tokens, else "role: text\n". A Chat is immutable: any thread
 * may use it. */
#ifndef INGOT_TOKEN_CHAT_H
#define INGOT_TOKEN_CHAT_H

#include "text/jinja.h"
#include "token/token.h"

typedef struct Chat Chat;
typedef enum ChatKind { CHAT_OWN, CHAT_CHATML, CHAT_PLAIN } ChatKind;

/* What is rendered; all borrowed. */
typedef struct ChatReq {
    const Json *messages; /* an array of objects */
    const Json *tools;    /* an array, or NULL */
    const Json *vars;     /* an object of further variables, which win over all others; or NULL */
    bool add_prompt;      /* end where the answer begins */
    int64_t now_s;        /* 0: the clock */
} ChatReq;

/* The template of a model. tok is borrowed by nothing. ERR_FORMAT names key, line and column. */
MUST_CHECK Status chat_new(Chat **out, const Tokenizer *tok, Err *e);
/* A template given as text; tok may be NULL, then bos_token and eos_token are empty. */
MUST_CHECK Status chat_new_text(Chat **out, Slice source, const Tokenizer *tok, Err *e);
/* NULL is fine. */
void chat_free(Chat *c);
ChatKind chat_kind(const Chat *c);
/* A few words on the template that is used, for people. */
const char *chat_describe(const Chat *c);
/* Append the text; spans as in jinja_render, may be NULL. ERR_ARG for messages of the wrong shape, the rest as
 * jinja_render. */
MUST_CHECK Status chat_render(StrBuf *out, JinjaSpans *spans, const Chat *c, const ChatReq *req,
                              Err *e);
/* Append the tokens of the text: special tokens written out are special tokens, and no begin-of-text is added, since
 * it is the template that writes it; where the text lacks it and the model wants it, it is added, once. */
MUST_CHECK Status chat_encode(TokBuf *out, const Chat *c, const Tokenizer *tok, const ChatReq *req,
                              Err *e);

#endif
