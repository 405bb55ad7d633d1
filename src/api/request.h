/* SPDX-License-Identifier: Apache-2.0
 * What clients may ask for, as one struct and one table of fields per route (field.h): OpenAI's names, those of vLLM
 * and llama-server where they mean the same, and the short bodies of the other routes. */
#ifndef INGOT_API_REQUEST_H
#define INGOT_API_REQUEST_H

#include "api/field.h"

enum {
    API_MAX_MESSAGES = 1024,
    API_MAX_TOOLS = 128,
    API_MAX_STOPS = 16,
    API_MAX_SAMPLES = 128,
    API_MAX_INPUTS = 2048, /* of embeddings */
    API_MAX_TOKENS = 1 << 20
};

/* Everything a body can say; what is NULL, empty or zero was not given. All is borrowed from the body. */
typedef struct ApiRequest {
    Slice model, user, prompt_text, text;
    const Json *messages, *prompt, *input, *tokens;
    /* sampling */
    int64_t max_tokens, max_completion_tokens, min_tokens, top_k, seed, n, best_of, top_logprobs;
    int64_t repeat_last_n;
    double temperature, top_p, min_p, typical_p, repetition_penalty, presence_penalty,
        frequency_penalty;
    bool logprobs, ignore_eos, include_stop, do_sample, echo;
    int64_t n_logprobs; /* of completions: an integer there; -1: none */
    const Json *stop, *stop_token_ids, *logit_bias;
    /* constraints: one of them at most */
    const Json *response_format, *structured_outputs, *json_schema, *guided_json, *guided_choice;
    Slice guided_regex, guided_grammar;
    /* chat */
    const Json *tools, *tool_choice, *template_vars;
    Slice request_template, reasoning_effort;
    bool parallel_tool_calls, include_reasoning, add_generation_prompt, continue_final;
    /* delivery */
    bool stream;
    const Json *stream_options;
    int64_t priority;
    Slice cache_salt;
    double timeout;
    /* embeddings */
    Slice encoding_format, pooling;
    int64_t dimensions;
    bool normalize;
    /* tokenize, detokenize */
    bool add_special, return_strs;
    /* responses */
    Slice instructions, previous;
    const Json *text_options, *reasoning, *include;
    bool store;
    /* feedback */
    Slice request_id, comment;
    int64_t rating;
} ApiRequest;

extern const ApiSchema api_chat, api_completion, api_embedding, api_tokenize, api_detokenize,
    api_response, api_feedback;
extern const ApiSchema api_complete, api_generate, api_v1_generate, api_inference;

#endif
