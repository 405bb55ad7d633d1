/* SPDX-License-Identifier: Apache-2.0
 * The content of a chat answer, taken apart while it comes: text, calls of tools.
 *
 *   START -[first character]-> TEXT <-[closing tag]-[opening tag]-> CALL
 *   START -[the whole answer is calls]-> WHOLE
 *
 * Text that may be the beginning of a tag is held back until it is known. A call is given whole, when its end has
 * come; one that cannot be read is text after all. How models write calls:
 *
 *   API_CALLS_TAGS      <tool_call>{"name": ..., "arguments": {...}}</tool_call>         Qwen, Hermes
 *   API_CALLS_BARE      {"name": ..., "parameters": {...}}, the whole answer             Llama 3
 *   API_CALLS_DEEPSEEK  <|tool calls begin|><|tool call begin|>function<|tool sep|>NAME\n```json\n{...}\n```...
 *                       with the characters U+FF5C and U+2581 in its tags                DeepSeek R1
 *   API_CALLS_NAMED     the arguments of a function that is known beforehand
 *   API_CALLS_LIST      [{"name": ..., "parameters": {...}}, ...] */
#ifndef INGOT_API_OUTPUT_H
#define INGOT_API_OUTPUT_H

#include "base/str.h"

typedef enum ApiCalls {
    API_CALLS_NONE,
    API_CALLS_TAGS,
    API_CALLS_BARE,
    API_CALLS_DEEPSEEK,
    API_CALLS_NAMED,
    API_CALLS_LIST
} ApiCalls;

/* Where the parts go; borrowed for the call. */
typedef struct ApiSink {
    void (*content)(void *ctx, Slice text);
    void (*call)(void *ctx, int index, Slice name, Slice arguments); /* arguments: JSON text */
    bool (*known)(const void *tools,
                  Slice name); /* whether there is such a function; NULL: all are */
    void *ctx;
    const void *tools;
} ApiSink;

/* Zeroed is legal for deinit. The fields are the module's own. */
typedef struct ApiOutput {
    ApiSink sink;
    ApiCalls calls;
    Slice named; /* borrowed: the function of API_CALLS_NAMED */
    int state;
    int n_calls;
    StrBuf held;
    size_t looked; /* CALL: bytes of it that hold no closing tag */
} ApiOutput;

/* At the beginning of an answer; the sink is copied, named borrowed. */
void api_output_init(ApiOutput *o, const ApiSink *sink, ApiCalls calls, Slice named);
/* The next piece of the answer; end: there is no more. */
void api_output_push(ApiOutput *o, Slice text, bool end);
int api_output_n_calls(const ApiOutput *o);
void api_output_deinit(ApiOutput *o);

#endif
