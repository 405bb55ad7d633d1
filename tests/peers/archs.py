#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tests/peers/archs.py [NAME...]   every architecture, head shape and scaling beside llama.cpp's (numpy)

NAME: of make_random.py, or trained:ARCH for a model that this program trains for a few steps first.

INGOT_PEERS names the folder whose node_modules holds node-llama-cpp (bench/peers/README.md); without it this is
skipped. INGOT is the program (build/ingot). The models are those of make_random.py, in f32 and f16.

Columns: largest difference of a log-probability of forced text (f32, f16; LIMIT_F32, LIMIT), greedy tokens compared (equal up to
the first whose margin is below MARGIN), ratio of perplexities (f16; within RATIO). Then what this program gives for
files spoiled on purpose: each must leave LIMIT, or the model could not tell right from wrong."""
import sys

sys.path.append(sys.path.pop(0))  # this folder last: its tokenize.py is not the library's
import json  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
from concurrent.futures import ThreadPoolExecutor  # noqa: E402

sys.dont_write_bytecode = True
import make_random  # noqa: E402

LIMIT_F32, LIMIT, MARGIN, RATIO = 0.005, 0.02, 0.05, 0.005
TRAINED = ("gpt2", "llama", "mistral3", "qwen2", "qwen3", "starcoder2")
KINDS = ("pairs", "bias", "eps", "qknorm", "freqs", "scaling", "base")
PROMPTS = ["Licensed under the Apache", "def f(x):\n", "1 2 3 4 5 6 7 8 9", "Grüße " * 30]
EXACT = ["--kv-cache-type", "f32", "--flash", "off", "--threads", "1"]


def peer(verb, model, *args):
    cmd = ["node", "bench/peers/llamacpp.mjs", verb, model, *EXACT, *args]
    env = {**os.environ, "NODE_PATH": os.environ["INGOT_PEERS"] + "/node_modules"}
    run = subprocess.run(cmd, env=env, capture_output=True, text=True, timeout=120)
    if run.returncode:
        raise RuntimeError(f"llama.cpp: {run.stderr.strip().splitlines()[:2]}")
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]


def ours(*args):
    run = subprocess.run([os.environ.get("INGOT", "build/ingot"), *args], capture_output=True, text=True, timeout=120)
    if run.returncode:
        raise RuntimeError(run.stderr.strip())
    return run.stdout


def logprobs(model, text, n, tmp):
    out = os.path.join(tmp, "logprobs")
    ours("perplexity", model, "-f", text, "-c", str(n), "--chunks", "1", "--all", "--kv-cache-type", "f32", "--logprobs", out, "-q",
         "--threads", "1")
    with open(out, encoding="ascii") as f:
        return [(int(i), float(p)) for i, p in map(str.split, f)]


def apart(got, want):
    """Largest difference; the ids have to be the same."""
    pairs = list(zip(want["ids"][1:], want["logprobs"][1:]))
    if [i for i, _ in got] != [i for i, _ in pairs]:
        raise RuntimeError("other tokens")
    return max(abs(a - b) for (_, a), (_, b) in zip(got, pairs))


def greedy(model, prompts):
    compared = 0
    for row in peer("greedy", model, "--prompts", prompts, "--n", "32"):
        got = json.loads(ours("run", model, "-p", row["prompt"], "-n", "32", "--temp", "0", "--json", "--ignore-end",
                              "--kv-cache-type", "f32", "--threads", "1"))
        for a, b, margin in zip(got["ids"], row["ids"], row["margins"]):
            compared += 1
            if a != b and margin >= MARGIN:
                raise RuntimeError(f"{row['prompt'][:20]!r}: {a}, not {b}, by {margin} nats")
            if a != b:
                break
    return compared


def perplexity(model):
    args = ["--ctx", "128", "--chunks", "6"]
    a = json.loads(ours("perplexity", model, "-f", "LICENSE", *args, "--json", "--kv-cache-type", "f32", "--threads", "1"))
    b = peer("perplexity", model, "--file", "LICENSE", *args)[0]
    if a["tokens"] != b["tokens"]:
        raise RuntimeError(f"{a['tokens']} tokens scored, llama.cpp {b['tokens']}")
    return a["perplexity"] / b["perplexity"]


def trained(arch, tmp):
    """A model of this program's own making, with its tokenizer."""
    docs, data, out = (os.path.join(tmp, n) for n in ("docs.jsonl", "data", "run"))
    with open("LICENSE", encoding="utf-8") as f, open(docs, "w", encoding="utf-8") as g:
        for part in f.read().split("\n\n"):
            g.write(json.dumps({"text": part}) + "\n")
    ours("tokenizer", "train", docs, "-o", out + ".gguf", "--vocab", "320")
    ours("prepare", docs, "-o", data, "--tokenizer", out + ".gguf", "--val", "0.2")
    keys = {"n_layer": 2, "n_head": 4, "n_embd": 128, "block_size": 512, "batch_size": 1, "max_iters": 60,
            "gradient_accumulation_steps": 1, "eval_interval": 60, "eval_iters": 2, "warmup_iters": 5, "dropout": 0,
            "learning_rate": 3e-3, "dtype": "f32", "threads": 1, "out_dir": out}
    if arch != "gpt2":
        keys["n_kv_head"] = 2
    if arch == "qwen3":
        keys["head_dim"] = 64
    ours("train", "--dataset", data, "--arch", arch, "--quiet", *[x for k, v in keys.items() for x in (f"--{k}", str(v))])
    return os.path.join(out, "model.gguf")


def check(name):
    with tempfile.TemporaryDirectory() as tmp:
        model, half, text, prompts = (os.path.join(tmp, n) for n in ("m.gguf", "h.gguf", "text", "prompts"))
        with open("LICENSE", "rb") as f, open(text, "wb") as g:
            g.write(f.read(480))
        with open(prompts, "w", encoding="utf-8") as f:
            f.write("\n".join(map(json.dumps, PROMPTS)) + "\n")
        try:
            if name.startswith("trained:"):
                model = trained(name.split(":")[1], tmp)
            else:
                make_random.make(name, model)
            ours("quantize", model, half, "f16", "--quiet")
            want = peer("logprobs", model, "--file", text)[0]
            n = len(want["ids"])
            full = apart(logprobs(model, text, n, tmp), want)
            f16 = apart(logprobs(half, text, n, tmp), peer("logprobs", half, "--file", text)[0])
            tokens, ratio, caught = greedy(model, prompts), perplexity(half), []
            for kind in KINDS if name in make_random.MODELS else ():
                if make_random.make(name, half, kind):
                    caught.append((kind, apart(logprobs(half, text, n, tmp), want)))
        except (RuntimeError, subprocess.TimeoutExpired) as e:
            return False, f"{name:18s} FAILED  {e}"
    good = full < LIMIT_F32 and f16 < LIMIT and abs(ratio - 1) < RATIO and all(x > LIMIT for _, x in caught)
    return good, (f"{name:18s} {'ok' if good else 'DIFFERENT':9s} {full:8.1e} {f16:8.1e} {tokens:5d} {ratio:10.6f}   " +
                  " ".join(f"{k} {x:.2g}" for k, x in caught))


def main():
    if "INGOT_PEERS" not in os.environ:
        print("INGOT_PEERS is not set")
        return 77
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    print(f"{'model':28s} {'f32':>8s} {'f16':>8s} {'greedy':>6s} {'perplexity':>9s}   spoiled on purpose")
    good = True
    with ThreadPoolExecutor(2) as pool:
        for right, line in pool.map(check, sys.argv[1:] or [*make_random.MODELS, *[f"trained:{a}" for a in TRAINED]]):
            print(line, flush=True)
            good &= right
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
