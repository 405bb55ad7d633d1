/* SPDX-License-Identifier: Apache-2.0
 * Ingot as a library: load a model, turn text into tokens and back, generate.
 *
 *     IngotModel *m;
 *     IngotRequest r = {0};
 *     if (ingot_load(&m, "model.gguf", NULL, &err) != INGOT_OK) puts(err.text);
 *     r.size = sizeof r;
 *     r.prompt = "def add(a, b):";
 *     r.on_part = print_it;
 *     if (ingot_generate(m, &r, NULL, &err) != INGOT_OK) puts(err.text);
 *     ingot_free(m);
 *
 * Any number of threads may use one model at once; their requests are computed together. The library writes to no
 * standard stream, ends no process, sets no signal handler and reads no environment variable.
 *
 * Structures that callers fill begin with their size, so that a program built with an older header goes on working
 * with a newer library. In all of them zero is the default: clear the structure, set `size`, then what is wanted.
 * Texts are UTF-8. Every function returns an IngotStatus unless it says otherwise; after a failure outputs are
 * as they were, and the IngotError, if one was given, says what was wrong in one line. */
#ifndef INGOT_H
#define INGOT_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

#define INGOT_VERSION "0.1.0"
/* Version of the library that is linked: "0.1.0". */
const char *ingot_version(void);

/* ---- errors ---- */

enum IngotStatus {
    INGOT_OK = 0,
    INGOT_NOMEM,     /* memory is out */
    INGOT_IO,        /* the operating system said no */
    INGOT_FORMAT,    /* a file or a grammar breaks its format */
    INGOT_ARG,       /* a value that was given is wrong */
    INGOT_NOT_FOUND, /* something named does not exist */
    INGOT_FULL,      /* too many requests wait; the text says when to try again */
    INGOT_CANCELLED, /* the model is being freed */
    INGOT_UNSUPPORTED,
    INGOT_TIMEOUT, /* a grammar took too long to compile */
    INGOT_INTERNAL
};

typedef struct IngotError {
    int code;       /* IngotStatus */
    char text[252]; /* one line, no newline */
} IngotError;

/* ---- a model ---- */

typedef struct IngotModel IngotModel;

enum { INGOT_KV_F16, INGOT_KV_Q8_0, INGOT_KV_F32 };

typedef struct IngotOptions {
    size_t size;         /* sizeof(IngotOptions) */
    int threads;         /* 0: one for each processor */
    int context;         /* tokens of prompt and answer; 0: what the model has, at most 4096 */
    int parallel;        /* requests computed together; 0: 4. Others wait */
    int kv_type;         /* of the KV cache: INGOT_KV_F16 (0), INGOT_KV_Q8_0, INGOT_KV_F32 */
    int batch_invariant; /* 1: the same bits whatever is computed beside a request; slower prompts */
    int no_grammars;     /* 1: no request will have a schema, grammar or regex; loads faster */
    int no_pack;         /* 1: quantized weights are used where they lie: less memory, slower */
    const char *cpu; /* highest instruction set: "ref", "avx2", "avx512", "amx"; NULL: the best */
} IngotOptions;

/* Load a GGUF file; options may be NULL. The file is mapped: it must not change before ingot_free. */
int ingot_load(IngotModel **out, const char *path, const IngotOptions *options, IngotError *e);
/* No call on the model may be under way. NULL is fine. Returns nothing. */
void ingot_free(IngotModel *m);
/* Tokens of prompt and answer together that fit. Returns the number. */
int ingot_context(const IngotModel *m);
/* Tokens of the vocabulary. Returns the number. */
int ingot_vocab_size(const IngotModel *m);

/* ---- tokens ---- */

enum IngotFlags {
    INGOT_BEGIN = 1,  /* put the begin-of-text token in front if the model wants one */
    INGOT_SPECIAL = 2 /* special tokens written out in the text become their tokens */
};

/* Tokens of text[n_text] (-1 for a text that ends with a NUL). *n_ids is how many there are; the first max_ids of
 * them are written. ids may be NULL with max_ids 0, to ask for the number. flags: IngotFlags or-ed. */
int ingot_tokenize(const IngotModel *m, const char *text, long n_text, int flags, int *ids,
                   size_t max_ids, size_t *n_ids, IngotError *e);
/* Text of tokens, as a text of its own (without the space that some vocabularies put in front). *n_text bytes, of
 * which the first max_text are written, with a NUL behind them if there is room. May not be valid UTF-8: tokens can
 * end within a character. */
int ingot_detokenize(const IngotModel *m, const int *ids, size_t n_ids, char *text, size_t max_text,
                     size_t *n_text, IngotError *e);

/* ---- generating ---- */

/* Ends generations from other threads. One may serve several requests, also at once; it stays cancelled. */
typedef struct IngotCancel IngotCancel;
/* Returns NULL when memory is out. */
IngotCancel *ingot_cancel_new(void);
/* What was started with it ends within a step of the model, what will be at once. Any thread, but not a signal
 * handler. Returns nothing. */
void ingot_cancel(IngotCancel *c);
/* No generation with it may be under way. NULL is fine. Returns nothing. */
void ingot_cancel_free(IngotCancel *c);

/* What on_part gets; valid during the call. */
typedef struct IngotPart {
    const char
        *text; /* what follows the text so far: whole characters, NUL-terminated, may be empty */
    size_t n_text;  /* its bytes */
    int token;      /* the token that came; -1: the end, with text that had been held back */
    double logprob; /* its log-probability, if the request asked for it */
    int sample;     /* of which answer, from 0 */
} IngotPart;

typedef struct IngotRequest {
    size_t size;        /* sizeof(IngotRequest) */
    const char *prompt; /* text, to which the model's begin-of-text token is added, */
    size_t n_prompt;    /* and its bytes; 0: it ends with a NUL */
    const int *ids;     /* or tokens, taken as they are; then prompt is NULL */
    size_t n_ids;
    int special;        /* 1: special tokens written out in the prompt are special tokens */
    int max_tokens;     /* 0: until the context is full */
    double temperature; /* 0: always the likeliest token */
    int top_k;          /* choose among so many likeliest tokens; 0: off */
    double top_p;       /* and among the likeliest that reach this probability together; 0: off */
    double min_p;       /* and those with this share of the best one's probability; 0: off */
    double repetition;  /* penalty, 1 and 0: off */
    unsigned long seed; /* same request, same seed: same text */
    const char *const *stop; /* n_stop texts, at most 16, that end the answer */
    size_t n_stop;
    int include_stop;    /* 1: the answer ends behind the stop text, not before it */
    int ignore_end;      /* 1: go on after an end-of-text token */
    const char *schema;  /* the answer is JSON that this JSON Schema accepts; or */
    const char *grammar; /* it is a text of this GBNF grammar; or */
    const char *regex;   /* it matches this regular expression as a whole */
    int logprobs;        /* 1: log-probabilities of the tokens */
    double timeout_s;    /* from now on, waiting included; 0: none */
    IngotCancel *cancel; /* NULL: nobody cancels it */
    /* Called on the thread of ingot_generate for each token as it comes. Anything but 0 ends the generation. NULL:
     * not wanted. It may generate itself. */
    int (*on_part)(void *ctx, const IngotPart *part);
    void *ctx;
    int samples; /* answers wanted, made together, 1 to 128; 0: 1. The first has the seed, the others drawn ones */
} IngotRequest;

enum IngotFinish {
    INGOT_FINISH_STOP,      /* an end token, a stop text, or the grammar is complete */
    INGOT_FINISH_LENGTH,    /* max_tokens, or the context is full */
    INGOT_FINISH_CANCELLED, /* by ingot_cancel or by on_part */
    INGOT_FINISH_TIMEOUT
};

typedef struct IngotResult {
    size_t size;       /* sizeof(IngotResult), set by the caller; the rest is filled in */
    int finish;        /* IngotFinish */
    int prompt_tokens; /* of the prompt, */
    int cached_tokens; /* of these, so many did not have to be computed */
    int tokens;        /* generated */
    int stop_text;     /* which stop text ended it, from 0; -1: none */
    int stop_token;    /* the token that ended it; -1: none */
} IngotResult;

/* Answer a request; returns when all its answers are complete. result may be NULL; with several samples it is an array
 * of as many, and the size in the first counts for all. A cancelled answer and one that ran out of time are no
 * failures: see finish. */
int ingot_generate(IngotModel *m, const IngotRequest *r, IngotResult *result, IngotError *e);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
