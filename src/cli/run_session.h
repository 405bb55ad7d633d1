/* SPDX-License-Identifier: Apache-2.0
 * What `ingot run` holds from its options to its last answer. Main thread. */
#ifndef INGOT_CLI_RUN_SESSION_H
#define INGOT_CLI_RUN_SESSION_H

#include "base/opt.h"
#include "cli/lora.h"
#include "cli/model.h"
#include "cli/run.h"
#include "engine/answer.h"
#include "engine/stop.h"
#include "token/chat.h"

typedef struct RunCmd {
    const char *model_key;
    const char *prompt, *file, *kv;
    int64_t n, samples, top_k, seed, ctx, threads, chunk;
    OptList stop;
    bool batch_invariant, no_pack;
    double temp, top_p;
    bool ids, json, verbose, special, ignore_end, include_stop;
    RunGrammar grammar;
    OptList lora;
    const char *speculate;
    int64_t speculate_tokens;
    const char *system, *template_file;
    bool chat, think;
    bool has_n, has_seed, has_chat, has_think; /* given by the caller */
} RunCmd;

typedef struct RunMessage {
    char *role, *text; /* owned */
    size_t n;          /* bytes of text */
} RunMessage;

/* A conversation. */
typedef struct RunTalk {
    Chat *chat;      /* owned; NULL: texts are continued */
    Json *vars;      /* owned; further variables of the template */
    RunMessage *v;   /* owned */
    size_t n, cap;   /* messages */
    StrBuf rendered; /* the present prompt */
    StrBuf lines;    /* a message that is being typed over several lines */
    bool many_lines;
    uint64_t n_answers; /* so far: with a seed, each has its own */
} RunTalk;

struct RunSession {
    const RunCmd *c;
    CliModel m;
    CliLoras loras;
    Engine *en;
    uint64_t seed; /* of the present generation */
    int n_prompt;
    Answer *answer;         /* owned; the present one */
    double t_first, t_last; /* when its first and its newest token were seen */
    GrammarVocab *vocab;    /* owned; NULL: no grammar */
    CliSpeculate spec;
    Slice stop[SAMPLE_MAX_STOPS];
    int n_stop;
    RunTalk talk;
};

/* The same from tokens. What is sample 0 in the end is appended to text, which may be NULL. */
int cli_run_generate_ids(RunSession *r, const TokBuf *ids, StrBuf *text);
/* The template of the conversation, where one is wanted: `one` is a single message, which is none by default. Says
 * which default a model without a template gets. */
MUST_CHECK Status cli_chat_open(RunSession *r, bool one, Err *e);
void cli_chat_close(RunTalk *t);

#endif
