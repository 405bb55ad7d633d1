#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tiny_chat.py [--context N] OUT.gguf [TEMPLATE.jinja|-] [TOKEN ...]   the model of tiny_model.py with a chat template

The template goes into the file as it is; "-" leaves it out. Each token becomes a control token behind <|endoftext|>.
"""
import random
import sys

import tiny_model as tiny


def main():
    context = []
    if sys.argv[1] == "--context":
        context = [sys.argv[2]]
        del sys.argv[1:3]
    path, template, extra = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "-", sys.argv[3:]
    plain_metadata, plain_tensors, plain_values = tiny.metadata, tiny.tensors, tiny.values
    n = 257 + len(extra)

    def metadata(context):
        for kv in plain_metadata(context):
            if tiny.string("llama.vocab_size") in kv:
                kv = tiny.entry("llama.vocab_size", tiny.U32, n)
            elif tiny.string("tokenizer.ggml.tokens") in kv:
                kv = tiny.entry("tokenizer.ggml.tokens", tiny.STR, tiny.byte_alphabet() + [tiny.END] + extra)
            elif tiny.string("tokenizer.ggml.token_type") in kv:
                kv = tiny.entry("tokenizer.ggml.token_type", tiny.I32, [1] * 256 + [3] * (n - 256))
            yield kv
        if template != "-":
            with open(template) as f:
                yield tiny.entry("tokenizer.chat_template", tiny.STR, f.read())

    def tensors():
        for name, dims in plain_tensors():
            yield name, tuple(n if d == 257 else d for d in dims)

    def values(name, dims):
        a = plain_values(name, dims)
        if name == "output.weight":  # the tokens that were added are as likely as bytes
            rng = random.Random("extra")
            a.extend(rng.gauss(0, 0.4) for _ in range(tiny.C * len(extra)))
        return a

    tiny.metadata, tiny.tensors, tiny.values = metadata, tensors, values
    sys.argv = ["tiny_model.py", path, *context]
    tiny.main()


if __name__ == "__main__":
    main()
