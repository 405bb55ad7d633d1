#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/peers/generate.py MODEL.gguf...   generation and perplexity beside llama.cpp's

INGOT_PEERS names the folder whose node_modules holds node-llama-cpp (bench/peers/README.md); without it
this is skipped. INGOT is the program (build/ingot). Models need a tokenizer.

Greedy ids have to be equal up to the first place where the two best candidates of llama.cpp are within
MARGIN nats: there rounding decides. Perplexity has to agree to the tolerance of the weights' type: for
quantized weights llama.cpp rounds activations to 8 bits, and this program does not."""
import json
import os
import subprocess
import sys
import tempfile

MARGIN = 0.05
N_TOKENS = 32
PROMPTS = ["Hello world, this is", "def fibonacci(n):", "import numpy as np\n\n\nclass", "1 2 3 4 5 6 7 8 9",
           "The quick brown fox jumps over the lazy dog. " * 12, "Grüße aus Köln, 世界",
           "class Parser:\n    def __init__(self, text):\n        self.text = text\n\n    def ", "for i in range(",
           "if __name__ == '__main__':\n", "# a comment\n" * 8, "return", "    \t  \n\n", "Once upon a time",
           '{"name": "x", "items": [1, 2, 3', "Traceback (most recent call last):\n  File", "SELECT * FROM t WHERE",
           "a", "😀 👩‍👩‍👧 ñ é", "def f(x):\n    try:\n        return x[0]\n    except IndexError:\n", "3.14159265358979"]


def peer(verb, model, *args):
    cmd = ["node", "bench/peers/llamacpp.mjs", verb, model, "--threads", "2", *args]
    env = {**os.environ, "NODE_PATH": os.environ["INGOT_PEERS"] + "/node_modules"}
    out = subprocess.run(cmd, env=env, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def ours(*args):
    return subprocess.run([os.environ.get("INGOT", "build/ingot"), *args], capture_output=True, text=True,
                          check=True).stdout


def check_greedy(model, margin):
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as f:
        f.write("\n".join(json.dumps(p) for p in PROMPTS) + "\n")
        f.flush()
        rows = peer("greedy", model, "--prompts", f.name, "--n", str(N_TOKENS))
    good, compared, flips = True, 0, 0
    for prompt, row in zip(PROMPTS, rows):
        got = json.loads(ours("run", model, "-p", prompt, "-n", str(N_TOKENS), "--temp", "0", "--json",
                              "--ignore-end"))
        for i, (a, b, m) in enumerate(zip(got["ids"], row["ids"], row["margins"])):
            compared += 1
            if a == b:
                continue
            flips += 1
            if m >= margin:
                print(f"DIFFERENT  {model} {prompt[:20]!r}: token {i} is {a}, llama.cpp has {b} by {m} nats")
                good = False
            break
    print(f"greedy {model}: {compared} tokens compared, {flips} prompts left at a margin below {margin}"
          if good else f"greedy {model}: FAILED")
    return good


def check_perplexity(model, text, tolerance):
    a = json.loads(ours("perplexity", model, "-f", text, "-c", "128", "--json"))
    b = peer("perplexity", model, "--file", text, "--ctx", "128", "--chunks", "0")[0]
    ratio = a["perplexity"] / b["perplexity"]
    good = abs(ratio - 1) < tolerance and a["tokens"] == b["tokens"]
    print(f"perplexity {model}: {a['perplexity']:.4f} over {a['tokens']}, llama.cpp {b['perplexity']:.4f} over "
          f"{b['tokens']}, ratio {ratio:.6f}" + ("" if good else f": MORE THAN {tolerance} APART"))
    return good


def check_logprobs(model, tolerance):
    """ln p of every token of a text given those before it, the largest difference."""
    with tempfile.TemporaryDirectory() as d:
        text, log = os.path.join(d, "text"), os.path.join(d, "log")
        with open("LICENSE") as f, open(text, "w") as g:
            g.write(f.read()[1000:1600])
        want = peer("logprobs", model, "--file", text)[0]["logprobs"]
        ours("perplexity", model, "-f", text, "-c", str(len(want)), "--all", "--logprobs", log, "-q")
        with open(log) as f:
            got = [float(line.split()[1]) for line in f]
    worst = max(abs(a - b) for a, b in zip(got, want[1:]))
    good = worst <= tolerance and len(got) == len(want) - 1
    print(f"log-probabilities {model}: {len(got)} tokens, largest difference {worst:.6f}"
          + ("" if good else f": MORE THAN {tolerance}"))
    return good


def main():
    if "INGOT_PEERS" not in os.environ:
        print("INGOT_PEERS is not set")
        return 77
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    good = True
    for model in sys.argv[1:]:
        types = {t["type"] for t in json.loads(ours("info", model, "--json"))["tensors"]}
        quantized = bool(types - {"f32", "f16", "bf16"})
        good &= check_greedy(model, 0.5 if quantized else MARGIN)
        if not quantized:
            good &= check_logprobs(model, 0.02)
        good &= check_perplexity(model, "LICENSE", 0.005 if quantized else 0.001)
    return 0 if good else 1


sys.exit(main())
