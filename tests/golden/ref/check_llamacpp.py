#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A third witness for the golden fixtures: llama.cpp, given the same files, gives the same logits.

Adds a made-up vocabulary to a copy of each model, which llama.cpp insists on, forces the tokens of
the logits fixture through it with an f32 cache, and compares each next token's log-probability.

  NODE_PATH=DIR/node_modules check_llamacpp.py       needs bench/peers/llamacpp.mjs's package
"""
import json
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import numpy as np  # noqa: E402

import gguf_io  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "..", "data")
DRIVER = os.path.join(HERE, "..", "..", "..", "bench", "peers", "llamacpp.mjs")
LIMIT = {"gpt2": 2e-3, "llama": 1e-5, "qwen2": 1e-5, "qwen3": 1e-5}    # nats; its GELU is a table of f16 values


def vocabulary(size):
    line_feed = "\u010a"                   # it looks this one up
    return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
            "tokenizer.ggml.tokens": [line_feed] + [f"<{i}>" for i in range(1, size)],
            "tokenizer.ggml.merges": ["a b"],
            "tokenizer.ggml.bos_token_id": size - 1, "tokenizer.ggml.eos_token_id": size - 1}


def peer_logprobs(meta, tensors, ids):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.gguf")
        gguf_io.write(path, dict(meta, **vocabulary(len(tensors["token_embd.weight"]))), tensors)
        out = subprocess.run(["node", DRIVER, "logprobs", path, "--ids", ",".join(map(str, ids)),
                              "--kv", "f32", "--flash", "off", "--threads", "1"],
                             check=True, stdout=subprocess.PIPE).stdout
    return np.array(json.loads(out.splitlines()[-1])["logprobs"][1:])


def check(name):
    with open(os.path.join(DATA, name + ".expected.json"), encoding="ascii") as f:
        want = json.load(f)
    ids = want["logits"]["tokens"]
    z = np.loadtxt(os.path.join(DATA, want["logits"]["file"]))[:-1]
    logp = z[np.arange(len(z)), ids[1:]] - np.log(np.exp(z).sum(-1))
    got = peer_logprobs(*gguf_io.read(os.path.join(DATA, want["model"])), ids)
    return float(np.abs(got - logp).max())


def main():
    good = True
    for name in ("gpt2_tied", "llama_tied", "llama_untied", "qwen2_tied", "qwen3_untied"):
        difference = check(name)
        print(f"{name:13s} largest difference of a log-probability {difference:.1e}")
        good = good and difference < LIMIT[name.split("_")[0]]
    print("ok" if good else "FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
