/* SPDX-License-Identifier: Apache-2.0
 * The tables of fields. A row without help is another spelling of a row above it. */
#include "api/request.h"

#define AT(field) offsetof(ApiRequest, field)
#define INT_ROW(k, field, lo, hi, d, text) \
    { .key = k, .type = API_INT, .offset = AT(field), .min = lo, .max = hi, .def = d, .help = text }
#define NUM_ROW(k, field, lo, hi, d, text) \
    { .key = k, .type = API_NUM, .offset = AT(field), .min = lo, .max = hi, .def = d, .help = text }
#define BOOL_ROW(k, field, d, text) \
    { .key = k, .type = API_BOOL, .offset = AT(field), .def = d, .help = text }
#define STR_ROW(k, field, most, text) \
    { .key = k, .type = API_STR, .offset = AT(field), .max = most, .help = text }
#define STRS_ROW(k, field, most, text) \
    { .key = k, .type = API_STRS, .offset = AT(field), .max = most, .help = text }
#define JSON_ROW(k, field, kind_set, lo, hi, text)                                                \
    {                                                                                             \
        .key = k, .type = API_JSON, .offset = AT(field), .kinds = kind_set, .min = lo, .max = hi, \
        .help = text                                                                              \
    }
#define LIST(rows) \
    { rows, (int)COUNT_OF(rows) }

enum { OBJECT = API_KIND(OBJECT), ARRAY = API_KIND(ARRAY), STRING = API_KIND(STR) };

/* ---- shared by all that generate ---- */

static const ApiField model_rows[] = {
    STR_ROW("model", model, 256, "name of the model or of one of its adapters"),
};

static const ApiField sampling_rows[] = {
    {.key = "top_p",
     .type = API_NUM,
     .offset = AT(top_p),
     .max = 1,
     .above_min = true,
     .def = "1",
     .help = "only the likeliest tokens whose probabilities add up to it"},
    NUM_ROW("min_p", min_p, 0, 1, "0",
            "only tokens at least so likely, compared with the likeliest"),
    NUM_ROW("typical_p", typical_p, 0, 1, "1",
            "only tokens about as surprising as is expected; 1: all"),
    NUM_ROW("presence_penalty", presence_penalty, -2, 2, "0",
            "taken off logits of tokens that are in the answer"),
    NUM_ROW("frequency_penalty", frequency_penalty, -2, 2, "0",
            "taken off logits for each time the token is in the answer"),
    NUM_ROW("repetition_penalty", repetition_penalty, 0.01, 100, "1",
            "logits of tokens of prompt and answer are divided by it"),
    NUM_ROW("repeat_penalty", repetition_penalty, 0.01, 100, NULL, NULL),
    INT_ROW("repeat_last_n", repeat_last_n, -1, API_MAX_TOKENS, "-1",
            "newest tokens that the repetition penalty looks at; -1: all"),
    INT_ROW("seed", seed, 0, 0, NULL,
            "the same seed gives the same answer; without it, another one"),
    STRS_ROW("stop", stop, API_MAX_STOPS, "the answer ends before any of these texts"),
    JSON_ROW("stop_token_ids", stop_token_ids, ARRAY, 0, 64, "tokens that end the answer"),
    BOOL_ROW("include_stop_str_in_output", include_stop, "false",
             "a stop text is part of the answer"),
    BOOL_ROW("ignore_eos", ignore_eos, "false", "go on after end tokens"),
    INT_ROW("min_tokens", min_tokens, 0, API_MAX_TOKENS, "0", "no end before so many tokens"),
    JSON_ROW("logit_bias", logit_bias, OBJECT, 0, 0,
             "token id to a number from -100 to 100, added to its logit"),
    INT_ROW("n", n, 1, API_MAX_SAMPLES, "1", "answers to make"),
    BOOL_ROW("stream", stream, "false", "server-sent events while the answer is made"),
    JSON_ROW("stream_options", stream_options, OBJECT, 0, 0,
             "include_usage: a last event with the usage; continuous_usage_stats: in every event"),
    INT_ROW("priority", priority, -1000000, 1000000, "0", "lower ones are served first"),
    STR_ROW("cache_salt", cache_salt, 256, "only requests with the same one share cached prefixes"),
    NUM_ROW("timeout", timeout, 0, 86400, "0", "seconds, waiting included; 0: the server's"),
};

static const ApiField constraint_rows[] = {
    JSON_ROW("response_format", response_format, OBJECT, 0, 0,
             "{\"type\": \"text\" | \"json_object\" | \"json_schema\", \"json_schema\": {...}}"),
    JSON_ROW("structured_outputs", structured_outputs, OBJECT, 0, 0,
             "one of json, regex, choice, grammar, json_object"),
    JSON_ROW("guided_json", guided_json, OBJECT | STRING, 0, 0,
             "a JSON Schema the answer keeps to"),
    JSON_ROW("json_schema", json_schema, OBJECT, 0, 0, NULL),
    STR_ROW("guided_regex", guided_regex, 65536, "a regular expression for the answer"),
    JSON_ROW("guided_choice", guided_choice, ARRAY, 1, 1000, "texts that the answer is one of"),
    STR_ROW("guided_grammar", guided_grammar, 262144, "a GBNF grammar the answer keeps to"),
    STR_ROW("grammar", guided_grammar, 262144, NULL),
};

/* OpenAI's range of temperatures and top-k, which it does not have itself. */
static const ApiField openai_rows[] = {
    NUM_ROW("temperature", temperature, 0, 2, "1", "0: always the likeliest token"),
    INT_ROW("top_k", top_k, -1, API_MAX_TOKENS, "-1", "only the k likeliest tokens; -1 or 0: all"),
    STR_ROW("user", user, 512, "who asks, for logs"),
};

/* ---- OpenAI's routes ---- */

static const ApiField chat_rows[] = {
    {.key = "messages",
     .type = API_JSON,
     .offset = AT(messages),
     .kinds = ARRAY,
     .min = 1,
     .max = API_MAX_MESSAGES,
     .required = true,
     .schema = "{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":\"object\",\"properties\":{"
               "\"role\":{\"type\":\"string\"},\"content\":{\"anyOf\":[{\"type\":\"string\"},"
               "{\"type\":\"array\",\"items\":{\"type\":\"object\"}},{\"type\":\"null\"}]}},"
               "\"required\":[\"role\"]},\"description\":\"the conversation so far\"}",
     .help = "the conversation so far"},
    INT_ROW("max_tokens", max_tokens, 1, API_MAX_TOKENS, NULL,
            "most tokens of the answer; without it, what the context has left"),
    INT_ROW("max_completion_tokens", max_completion_tokens, 1, API_MAX_TOKENS, NULL,
            "the newer name of max_tokens"),
    BOOL_ROW("logprobs", logprobs, "false", "log-probabilities of the answer's tokens"),
    INT_ROW("top_logprobs", top_logprobs, 0, 20, "0", "and of the likeliest others at each place"),
    JSON_ROW("tools", tools, ARRAY, 0, API_MAX_TOOLS, "functions the model may call"),
    JSON_ROW("tool_choice", tool_choice, OBJECT | STRING, 0, 0,
             "none, auto, required, or {\"type\": \"function\", \"function\": {\"name\": ...}}"),
    BOOL_ROW("parallel_tool_calls", parallel_tool_calls, "true", "several calls in one answer"),
    JSON_ROW("chat_template_kwargs", template_vars, OBJECT, 0, 0,
             "further variables of the chat template"),
    STR_ROW("chat_template", request_template, 1 << 20, NULL),
    STR_ROW("reasoning_effort", reasoning_effort, 32, "handed to the chat template"),
    BOOL_ROW("include_reasoning", include_reasoning, "true",
             "the text between <think> and </think> is sent, as reasoning"),
    BOOL_ROW("add_generation_prompt", add_generation_prompt, "true",
             "the prompt ends where the answer begins"),
    BOOL_ROW("continue_final_message", continue_final, "false",
             "the answer goes on with the last message"),
};

static const ApiField completion_rows[] = {
    {.key = "prompt",
     .type = API_JSON,
     .offset = AT(prompt),
     .kinds = STRING | ARRAY,
     .required = true,
     .schema = "{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":{}}],"
               "\"description\":\"a text, token ids, or a list of one of these\"}",
     .help = "a text, token ids, or a list of one of these"},
    INT_ROW("max_tokens", max_tokens, 0, API_MAX_TOKENS, "16", "most tokens of the answer"),
    INT_ROW("logprobs", n_logprobs, 0, 20, "-1",
            "log-probabilities of the tokens, and of so many of the likeliest"),
    BOOL_ROW("echo", echo, "false", "the prompt is part of the answer"),
    INT_ROW("best_of", best_of, 1, API_MAX_SAMPLES, NULL,
            "not less than n; only n itself is taken"),
    STR_ROW("suffix", text, 0, NULL),
};

static const ApiField embedding_rows[] = {
    {.key = "input",
     .type = API_JSON,
     .offset = AT(input),
     .kinds = STRING | ARRAY,
     .required = true,
     .schema = "{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":{}}],"
               "\"description\":\"a text, token ids, or a list of one of these\"}",
     .help = "a text, token ids, or a list of one of these"},
    {.key = "encoding_format",
     .type = API_STR,
     .offset = AT(encoding_format),
     .def = "float",
     .choices = "float|base64",
     .help = "numbers, or little-endian float32 in base64"},
    INT_ROW("dimensions", dimensions, 1, API_MAX_TOKENS, NULL, "only the first so many numbers"),
    {.key = "pooling",
     .type = API_STR,
     .offset = AT(pooling),
     .def = "last",
     .choices = "last|mean|first",
     .help = "whose hidden state: the last token's, the mean of all, the first's"},
    BOOL_ROW("normalize", normalize, "true", "length 1"),
    STR_ROW("user", user, 512, "who asks, for logs"),
};

static const ApiField response_rows[] = {
    {.key = "input",
     .type = API_JSON,
     .offset = AT(input),
     .kinds = STRING | ARRAY,
     .max = API_MAX_MESSAGES,
     .required = true,
     .schema = "{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":"
               "{\"type\":\"object\"}}],\"description\":\"a text or the items so far\"}",
     .help = "a text or the items so far"},
    STR_ROW("instructions", instructions, 1 << 20, "the system's message"),
    INT_ROW("max_output_tokens", max_tokens, 1, API_MAX_TOKENS, NULL, "most tokens of the answer"),
    JSON_ROW("tools", tools, ARRAY, 0, API_MAX_TOOLS, "functions the model may call"),
    JSON_ROW("tool_choice", tool_choice, OBJECT | STRING, 0, 0,
             "none, auto, required or a function"),
    BOOL_ROW("parallel_tool_calls", parallel_tool_calls, "true", "several calls in one answer"),
    JSON_ROW("text", text_options, OBJECT, 0, 0, "{\"format\": {\"type\": ...}}"),
    JSON_ROW("reasoning", reasoning, OBJECT, 0, 0, "{\"effort\": ...}, handed to the template"),
    JSON_ROW("include", include, ARRAY, 0, 64,
             "\"message.output_text.logprobs\": log-probabilities of the text's tokens"),
    STR_ROW("previous_response_id", previous, 256, "not taken: nothing is stored"),
    INT_ROW("top_logprobs", top_logprobs, 0, 20, "0", "log-probabilities of the likeliest tokens"),
    BOOL_ROW("store", store, "true", "without effect: nothing is stored"),
    BOOL_ROW("stream", stream, "false", "server-sent events while the answer is made"),
    NUM_ROW("temperature", temperature, 0, 2, "1", "0: always the likeliest token"),
    {.key = "top_p",
     .type = API_NUM,
     .offset = AT(top_p),
     .max = 1,
     .above_min = true,
     .def = "1",
     .help = "only the likeliest tokens whose probabilities add up to it"},
    STR_ROW("user", user, 512, "who asks, for logs"),
    INT_ROW("seed", seed, 0, 0, NULL, "the same seed gives the same answer"),
};

/* ---- tokens ---- */

static const ApiField tokenize_rows[] = {
    STR_ROW("prompt", prompt_text, 0, "text to cut into tokens"),
    STR_ROW("content", prompt_text, 0, NULL),
    JSON_ROW("messages", messages, ARRAY, 1, API_MAX_MESSAGES,
             "or a conversation, by the chat template"),
    JSON_ROW("tools", tools, ARRAY, 0, API_MAX_TOOLS, "functions, for the chat template"),
    JSON_ROW("chat_template_kwargs", template_vars, OBJECT, 0, 0, "for the chat template"),
    BOOL_ROW("add_generation_prompt", add_generation_prompt, "true", "as for a chat"),
    BOOL_ROW("add_special_tokens", add_special, "true", "begin-of-text, where the model wants one"),
    BOOL_ROW("return_token_strs", return_strs, "false", "the tokens' texts too"),
};

static const ApiField detokenize_rows[] = {
    {.key = "tokens",
     .type = API_JSON,
     .offset = AT(tokens),
     .kinds = ARRAY,
     .max = API_MAX_TOKENS,
     .required = true,
     .help = "token ids"},
};

/* ---- the other routes ---- */

#define LOOSE_ROWS(tokens, temp, k)                                                            \
    INT_ROW("max_tokens", max_tokens, 1, API_MAX_TOKENS, tokens, "most tokens of the answer"), \
        NUM_ROW("temperature", temperature, 0, 100, temp, "0: always the likeliest token"), {  \
        .key = "top_k", .type = API_INT, .offset = AT(top_k), .max = API_MAX_TOKENS, .def = k, \
        .null_is_zero = true, .help = "only the k likeliest tokens; null or 0: all"            \
    }

static const ApiField complete_rows[] = {
    {.key = "code",
     .type = API_STR,
     .offset = AT(prompt_text),
     .required = true,
     .help = "code to go on with; its last 512 tokens count"},
    LOOSE_ROWS("50", "0.8", "200"),
};

static const ApiField prompt_rows[] = {
    {.key = "prompt",
     .type = API_STR,
     .offset = AT(prompt_text),
     .required = true,
     .help = "text to go on with"},
};

static const ApiField generate_rows[] = {
    LOOSE_ROWS("50", "0.8", "200"),
    STR_ROW("user_id", user, 512, "who asks, for limits and logs"),
};

/* top_p stands here with the default of these routes, in front of the shared row. */
#define NUCLEUS_ROW                                                                        \
    {                                                                                      \
        .key = "top_p", .type = API_NUM, .offset = AT(top_p), .max = 1, .above_min = true, \
        .def = "0.9", .help = "only the likeliest tokens whose probabilities add up to it" \
    }

static const ApiField v1_generate_rows[] = {
    LOOSE_ROWS("128", "0.7", "0"),
    BOOL_ROW("do_sample", do_sample, "true", "false: always the likeliest token"),
};

static const ApiField inference_rows[] = {
    LOOSE_ROWS("256", "0.7", "0"),
};

static const ApiField nucleus_rows[] = {NUCLEUS_ROW};

static const ApiField feedback_rows[] = {
    STR_ROW("request_id", request_id, 128, "of the answer that is judged"),
    INT_ROW("rating", rating, 1, 5, NULL, "1 to 5; like is 5, dislike 1"),
    STR_ROW("comment", comment, 4096, "in words"),
};

const ApiSchema api_chat = {"ChatCompletionRequest",
                            {LIST(chat_rows), LIST(openai_rows), LIST(constraint_rows),
                             LIST(sampling_rows), LIST(model_rows)}};
const ApiSchema api_completion = {"CompletionRequest",
                                  {LIST(completion_rows), LIST(openai_rows), LIST(constraint_rows),
                                   LIST(sampling_rows), LIST(model_rows)}};
const ApiSchema api_embedding = {"EmbeddingRequest", {LIST(embedding_rows), LIST(model_rows)}};
const ApiSchema api_response = {"ResponseRequest", {LIST(response_rows), LIST(model_rows)}};
const ApiSchema api_tokenize = {"TokenizeRequest", {LIST(tokenize_rows), LIST(model_rows)}};
const ApiSchema api_detokenize = {"DetokenizeRequest", {LIST(detokenize_rows), LIST(model_rows)}};
const ApiSchema api_complete = {"CompleteRequest",
                                {LIST(complete_rows), LIST(sampling_rows), LIST(constraint_rows),
                                 LIST(model_rows)}};
const ApiSchema api_generate = {"GenerateRequest",
                                {LIST(prompt_rows), LIST(generate_rows), LIST(sampling_rows),
                                 LIST(constraint_rows), LIST(model_rows)}};
const ApiSchema api_v1_generate = {"TextRequest",
                                   {LIST(prompt_rows), LIST(v1_generate_rows), LIST(nucleus_rows),
                                    LIST(sampling_rows), LIST(constraint_rows), LIST(model_rows)}};
const ApiSchema api_inference = {"InferenceRequest",
                                 {LIST(prompt_rows), LIST(inference_rows), LIST(nucleus_rows),
                                  LIST(sampling_rows), LIST(constraint_rows), LIST(model_rows)}};
const ApiSchema api_feedback = {"FeedbackRequest", {LIST(feedback_rows)}};
