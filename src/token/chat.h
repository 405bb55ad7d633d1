/* SPDX-License-Identifier: Apache-2.0
 * Chat templates of models: messages -> text -> tokens, and an answer's text -> reasoning and content. A model's own
 * template stands in its file as tokenizer.chat_template, and tokenizer.chat_template.tool_use for requests with
 * tools. A model without one gets <|im_start|>role\ntext<|im_end|>\n if it knows these tokens, else "role: text\n".
 *
 * Threads: a Chat is immutable, and any number of threads may render it at one time. A rendering owns all it makes and
 * only reads what its request borrows, so requests may share messages, tools and variables. It is bounded in steps,
 * depth, output and memory (JinjaOpts) and takes up to 1 MB of stack. */
#ifndef INGOT_TOKEN_CHAT_H
#define INGOT_TOKEN_CHAT_H

#include "text/jinja.h"
#include "token/token.h"

typedef struct Chat Chat;
typedef enum ChatKind { CHAT_OWN, CHAT_CHATML, CHAT_PLAIN } ChatKind;

/* What is rendered; all borrowed. The template sees it as Transformers shows it: messages, tools (none where there
 * are none), documents, add_generation_prompt, the texts of the model's special tokens (bos_token, eos_token, ...),
 * then vars, which win over all others. Zero is the default of every field but messages. */
typedef struct ChatReq {
    const Json *messages;  /* an array of objects, as templates want them (chat_messages) */
    const Json *tools;     /* an array, or NULL */
    const Json *documents; /* an array, or NULL */
    const Json *vars;      /* an object of further variables (chat_template_kwargs), or NULL */
    bool add_prompt;       /* end where the answer begins (add_generation_prompt) */
    bool continue_last;    /* end within the last message, which goes on (continue_final_message) */
    JinjaOpts opts;        /* limits, clock */
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
/* Append the tokens of a rendered text: special tokens written out are special tokens, and no begin-of-text is added,
 * since it is the template that writes it; where the text lacks it and the model wants it, it is added, once. */
MUST_CHECK Status chat_encode_text(TokBuf *out, const Chat *c, const Tokenizer *tok, Slice text,
                                   Err *e);
/* chat_render and chat_encode_text in one. */
MUST_CHECK Status chat_encode(TokBuf *out, const Chat *c, const Tokenizer *tok, const ChatReq *req,
                              Err *e);

/* ---- messages as an HTTP API has them ---- */

/* How a template writes the calls of an assistant, and so how its model does: in <tool_call> tags (Qwen, Hermes; also
 * where nothing says otherwise), as bare JSON (Llama 3), between DeepSeek's marks. */
typedef enum ChatCalls { CHAT_CALLS_TAGS, CHAT_CALLS_BARE, CHAT_CALLS_DEEPSEEK } ChatCalls;

/* What a template makes of messages, found by rendering a few when it is opened. */
typedef struct ChatCaps {
    ChatCalls calls;
    bool tools;       /* it writes tools */
    bool texts;       /* it takes content that is a text */
    bool parts;       /* ... that is a list of parts ({"type": "text", "text": ...}) */
    bool object_args; /* arguments of tool calls are to be objects, not JSON texts */
    bool null_content, empty_content; /* of a message with tool calls: null is fine, "" is fine */
} ChatCaps;

/* Borrowed. */
const ChatCaps *chat_caps(const Chat *c);
/* The control token that this template writes behind an answer, which ends one even where the file does not say so;
 * -1 if it writes none. */
int32_t chat_end_id(const Chat *c);
/* A copy of messages as this template wants them, where it makes a difference: parts of text as one text, arguments of
 * tool calls as object or text, null or missing content of calls as "" or null. All else stays as it is. Free with
 * json_free. ERR_ARG for messages of the wrong shape, or a part that is no text; ERR_NOMEM. */
MUST_CHECK Status chat_messages(Json **out, const Chat *c, const Json *messages, Err *e);

/* ---- reasoning ---- */

/* Cuts an answer, as it comes, into what the model thinks and what it says. Where neither template nor vocabulary
 * knows marks of reasoning (<think> ... </think> and their like), all is content. One thread. */
typedef enum ChatSplitState {
    CHAT_START,
    CHAT_HEADER,
    CHAT_THINKING,
    CHAT_AFTER,
    CHAT_CONTENT
} ChatSplitState;
typedef struct ChatSplit {
    const char *open, *close; /* borrowed from the program; NULL: no marks */
    bool channels; /* messages with headers: <|channel|>analysis<|message|> ... <|end|> */
    ChatSplitState state;
    bool begun;                /* something of the present part came */
    char held[160], space[32]; /* what may become a mark; white space that may stand before one */
    size_t n_held, n_space;
} ChatSplit;

/* prompt: the rendered text, whose end may have opened the reasoning. c outlives s. */
void chat_split_init(ChatSplit *s, const Chat *c, Slice prompt);
/* Append what is certain to be the one or the other. White space around the marks goes. */
void chat_split_push(ChatSplit *s, Slice text, StrBuf *thought, StrBuf *content);
/* The answer is over: append what was held back. */
void chat_split_finish(ChatSplit *s, StrBuf *thought, StrBuf *content);
/* Whether this model's answers may hold reasoning. */
bool chat_thinks(const Chat *c);

#endif
