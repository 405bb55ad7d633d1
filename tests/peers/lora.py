#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tests/peers/lora.py [NAME...]   LoRA adapters beside llama.cpp's, and beside merged weights (numpy)

INGOT_PEERS names the folder whose node_modules holds node-llama-cpp (bench/peers/README.md); without it only merged
weights are compared. INGOT is the program (build/ingot). Models are those of make_random.py; the adapters are random, too.

Columns: largest difference of a log-probability of forced text between this program with the adapter and llama.cpp with
it, and this program with W + s B A written to a file by numpy in float64 (f32; LIMIT each); of a weight between that file
and what ingot lora merge makes (WEIGHT times the size of the matrix); how far the model without the adapter is; greedy tokens compared with llama.cpp's. Then adapters spoiled on purpose, which must be far off: the scale,
a and b of another seed, one matrix left out."""
import sys

sys.path.append(sys.path.pop(0))  # this folder last: its tokenize.py is not the library's
import json  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402

sys.dont_write_bytecode = True
import numpy as np  # noqa: E402

import archs  # noqa: E402
import make_random  # noqa: E402

gguf_io = make_random.gguf_io
LIMIT, FAR, WEIGHT = 0.005, 0.05, 1e-6
# rank, alpha, scale on the command line, tensors left alone
CASES = {
    "gpt2": (4, 8.0, 1.0, ("position_embd", "token_embd")),
    "llama": (8, 16.0, 0.5, ("token_embd",)),
    "llama_gqa4": (3, 6.0, 1.0, ()),
    "mistral3": (16, 8.0, -1.0, ("token_embd", "ffn_up")),
    "qwen2": (1, 1.0, 2.0, ("token_embd",)),
    "qwen2_h128_gqa6": (5, 0.0, 0.25, ("output",)),
    "qwen3_h64": (7, 7.0, 1.0, ("token_embd", "output", "attn_q")),
    "starcoder2_untied": (32, 16.0, 1.0, ()),
}


def adapter(tensors, rank, alone, seed, size):
    """{base name: (a, b)}: b @ a has the base's shape; embeddings are stored the other way round (see write)."""
    rng, pairs = np.random.default_rng(seed), {}
    for name, w in tensors.items():
        if w.ndim != 2 or name.split(".")[-2] in alone:
            continue
        rows, cols = w.shape
        a = rng.standard_normal((rank, cols)).astype(np.float32)
        b = rng.standard_normal((rows, rank)) * (size * w.std() / rank ** 0.5)
        pairs[name] = a, b.astype(np.float32)
    return pairs


def write(path, arch, alpha, pairs):
    meta = {"general.architecture": arch, "general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": alpha}
    t = {}
    for name, (a, b) in pairs.items():
        embd = name == "token_embd.weight"
        t[name + ".lora_a"], t[name + ".lora_b"] = (b, a.T) if embd else (a, b)
    gguf_io.write(path, meta, t)


def ours(model, text, n, tmp, *more):
    out = os.path.join(tmp, "logprobs")
    archs.ours("perplexity", model, "-f", text, "-c", str(n), "--chunks", "1", "--all", "--kv-cache-type", "f32", "--logprobs", out,
               "-q", "--threads", "1", *more)
    with open(out, encoding="ascii") as f:
        return np.array([float(line.split()[1]) for line in f])


def greedy(model, path, scale, prompts):
    compared = 0
    for row in archs.peer("greedy", model, "--prompts", prompts, "--n", "32", "--lora", path, f"--lora-scale={scale}"):
        got = json.loads(archs.ours("run", model, "-p", row["prompt"], "-n", "32", "--temp", "0", "--json", "--ignore-end",
                                    "--kv-cache-type", "f32", "--threads", "1", "--lora", f"{path}:{scale}"))
        for a, b, margin in zip(got["ids"], row["ids"], row["margins"]):
            compared += 1
            if a != b and margin >= archs.MARGIN:
                raise RuntimeError(f"{row['prompt'][:20]!r}: {a}, not {b}, by {margin} nats")
            if a != b:
                break
    return compared


def merge(model, path, scale, want, tmp):
    """Largest difference of a weight that ingot lora merge makes, over the largest of its matrix."""
    out = os.path.join(tmp, "own")
    archs.ours("lora", "merge", model, path, out, f"--scale={scale}", "-q", "--threads", "2")
    _, got = gguf_io.read(out)
    if list(got) != list(want):
        raise RuntimeError("lora merge: other tensors")
    return max(abs(got[k] - want[k]).max() / abs(want[k]).max() for k in want)


def check(name, tmp):
    rank, alpha, scale, alone = CASES[name]
    model, merged, path, text, prompts = (os.path.join(tmp, n) for n in ("m", "merged", "a.gguf", "text", "prompts"))
    m = make_random.Maker(name)
    V, words = make_random.vocabulary()
    meta, base = {**m.keys(V), **words}, {k: v.astype(np.float32) for k, v in m.tensors(V).items()}
    pairs = adapter(base, rank, alone, 7, 0.5 / abs(scale * (alpha / rank if alpha else 1.0)))
    s = scale * (alpha / rank if alpha else 1.0)
    gguf_io.write(model, meta, base)
    sums = {k: v + s * (pairs[k][1].astype(float) @ pairs[k][0]) if k in pairs else v for k, v in base.items()}
    gguf_io.write(merged, meta, sums)
    write(path, m.arch, alpha, pairs)
    weight = merge(model, path, scale, sums, tmp)
    with open("LICENSE", "rb") as f, open(text, "wb") as g:
        g.write(f.read(480))
    with open(prompts, "w", encoding="utf-8") as f:
        f.write("\n".join(map(json.dumps, archs.PROMPTS[:3])) + "\n")
    with_peer = "INGOT_PEERS" in os.environ
    want = archs.peer("logprobs", model, "--file", text, "--lora", path, f"--lora-scale={scale}")[0] if with_peer else None
    n = len(want["ids"]) if want else int(os.environ.get("INGOT_LORA_TOKENS", "256"))
    got = ours(model, text, n, tmp, "--lora", f"{path}:{scale}")
    to_merged = abs(got - ours(merged, text, n, tmp)).max()
    to_peer = abs(got - np.array(want["logprobs"][1:])).max() if want else float("nan")
    tokens = greedy(model, path, scale, prompts) if want else 0
    spoiled = {"none": abs(got - ours(model, text, n, tmp)).max(),
               "scale": abs(got - ours(model, text, n, tmp, "--lora", f"{path}:{1.5 * scale}")).max()}
    write(path, m.arch, alpha, adapter(base, rank, alone, 8, 0.5))
    spoiled["seed"] = abs(got - ours(model, text, n, tmp, "--lora", f"{path}:{scale}")).max()
    write(path, m.arch, alpha, {k: v for k, v in pairs.items() if k != "blk.1.attn_output.weight"})
    spoiled["out"] = abs(got - ours(model, text, n, tmp, "--lora", f"{path}:{scale}")).max()
    good = weight < WEIGHT and to_merged < LIMIT and (not want or to_peer < LIMIT) and all(x > FAR for x in spoiled.values())
    print(f"{name:18s} {'ok' if good else 'DIFFERENT':9s} llama.cpp {to_peer:8.1e}  merged {to_merged:8.1e} weight {weight:8.1e} {tokens:4d}   " +
          " ".join(f"{k} {x:.2g}" for k, x in spoiled.items()), flush=True)
    return good


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    good = True
    for name in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as tmp:
            try:
                good &= check(name, tmp)
            except (RuntimeError, subprocess.TimeoutExpired) as e:
                print(f"{name:18s} FAILED  {e}")
                good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
