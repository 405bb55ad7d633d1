/* SPDX-License-Identifier: Apache-2.0
 * main: the environment, the table of commands, the version. */
#include <signal.h>
#include <stdio.h>

#include "cli/cli.h"

static const CliCommand commands[] = {
    {"collect", "gather source files into docs.jsonl, without duplicates", cmd_collect},
    {"tokenizer", "train a byte-level BPE tokenizer; encode, decode, look into one", cmd_tokenizer},
    {"prepare", "tokenize docs.jsonl into training and validation shards", cmd_prepare},
    {"train", "train a model on prepared shards, from scratch or further", cmd_train},
    {"pull", "fetch a model from the hub, an https server or an S3 store", cmd_pull},
    {"push", "send files to an S3 store", cmd_push},
    {"convert", "make a GGUF file of a Hugging Face folder", cmd_convert},
    {"export", "make a Hugging Face folder of a model", cmd_export},
    {"lora", "merge an adapter into a model", cmd_lora},
    {"model", "sign a model, find out whether it is what was signed", cmd_model},
    {"imatrix", "find which weights matter, for quantize", cmd_imatrix},
    {"quantize", "make a smaller copy of a model", cmd_quantize},
    {"perplexity", "measure a model on text, compare two models", cmd_perplexity},
    {"embed", "turn texts into vectors", cmd_embed},
    {"score", "tell how likely a text or each of several continuations is", cmd_score},
    {"run", "generate text in the terminal", cmd_run},
    {"template", "show what a chat template makes of messages", cmd_template},
    {"batch", "answer a file of requests", cmd_batch},
    {"serve", "answer HTTP requests", cmd_serve},
    {"top", "watch a server in the terminal", cmd_top},
    {"load", "put load on a server and measure its answers", cmd_load},
    {"keys", "make, list and revoke the API keys of a server", cmd_keys},
    {"cost", "compute what serving costs, from measured speeds and prices", cmd_cost},
    {"info", "show what a GGUF file holds", cmd_info},
    {"bench", "measure speed on this machine", cmd_bench},
};

static const CliGroup program = {
    .name = "ingot",
    .about = "Takes a language model through its whole life: collect text, train, quantize, "
             "measure, serve.\n"
             "\n"
             "From a folder of source code to a model that completes it:\n"
             "  ingot collect ~/src -o docs.jsonl\n"
             "  ingot tokenizer train docs.jsonl -o tok.gguf --vocab 4096\n"
             "  ingot prepare docs.jsonl -o data/code --tokenizer tok.gguf\n"
             "  ingot train --help",
    .cmds = commands,
    .n_cmds = (int)COUNT_OF(commands),
};

int main(int argc, char **argv) {
    Err e = {0};
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is a failed write, with a message */
    if (config_load_env(&cli_env, &e) != OK) return cli_fail(&e);
    if (argc > 1 && (!strcmp(argv[1], "--version") || !strcmp(argv[1], "version"))) {
        puts("ingot " CLI_VERSION);
        return cli_flush_stdout();
    }
    return cli_dispatch(&program, argc > 0 ? argc - 1 : 0, argc > 0 ? argv + 1 : argv);
}
