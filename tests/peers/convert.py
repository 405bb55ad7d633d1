#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tests/peers/convert.py [NAME...]   Hugging Face folders of make_hf.py, converted and run (numpy)

INGOT is the program (build/ingot). Columns: largest difference of a log-probability of forced text between the
converted model and the float64 pass over the folder (f32, as stored; LIMIT each), then what folders spoiled on
purpose give: each must leave FAR, or the model could not tell right from wrong."""
import sys

sys.path.append(sys.path.pop(0))  # this folder last: its tokenize.py is not the library's
import json  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402

sys.dont_write_bytecode = True
import numpy as np  # noqa: E402

import make_hf  # noqa: E402

LIMIT, FAR = 1e-4, 1e-3


def ingot(*args):
    run = subprocess.run([os.environ.get("INGOT", "build/ingot"), *args], capture_output=True, text=True, timeout=120)
    if run.returncode:
        raise RuntimeError(run.stderr.strip())
    return run.stdout


def logprobs(folder, kind, text, n, tmp):
    gguf, out = os.path.join(tmp, "m.gguf"), os.path.join(tmp, "logprobs")
    ingot("convert", folder, gguf, "--type", kind, "--quiet")
    ingot("perplexity", gguf, "-f", text, "-c", str(n), "--chunks", "1", "--all", "--kv-cache-type", "f32", "--logprobs", out,
          "-q", "--threads", "1")
    with open(out, encoding="ascii") as f:
        return [(int(i), float(p)) for i, p in map(str.split, f)]


def reference(m, ids):
    z = m.logits(np.array(ids))
    z = z - z.max(-1, keepdims=True)
    logp = z - np.log(np.exp(z).sum(-1, keepdims=True))
    return [float(logp[t, ids[t + 1]]) for t in range(len(ids) - 1)]


def apart(got, ids, want):
    if [i for i, _ in got] != ids[1:]:
        raise RuntimeError(f"other tokens: {[i for i, _ in got]}")
    return max(abs(p - w) for (_, p), w in zip(got, want))


def spoiled(m):
    """(name, config.json) of folders that say something else than the model is."""
    config = m.config()
    yield "eps", {**config, "layer_norm_epsilon" if m.gpt2 else "rms_norm_eps": 0.09}
    if m.gpt2:
        return
    yield "theta", {**config, "rope_theta": 77.0} if "rope_parameters" not in config else {
        **config, "rope_parameters": {**config["rope_parameters"], "rope_theta": 77.0}}
    for key in ("rope_scaling", "rope_parameters"):
        if config.get(key):
            yield key, {**config, key: {"rope_type": "linear", "factor": 3.0}}
    if not config.get("attention_bias") and config["architectures"] == ["LlamaForCausalLM"]:
        yield "pairs", {**config, "architectures": ["Qwen2ForCausalLM"]}


def check(name, tmp):
    m = make_hf.make(name, tmp)
    folder = os.path.join(tmp, name)
    own = os.path.join(folder, "fp16") if m.o.get("folders") else folder
    letters = [t for t in make_hf.LETTERS if t != "Ġ"]
    text = "".join(m.rng.choice(letters, 40))
    path = os.path.join(tmp, "text")
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    gguf = os.path.join(tmp, "m.gguf")
    ingot("convert", folder, gguf, "--quiet")
    ids = [make_hf.BOS, *map(int, ingot("tokenizer", "encode", gguf, text).split())]
    want = reference(m, ids)
    full = apart(logprobs(folder, "f32", path, len(ids), tmp), ids, want)
    stored = apart(logprobs(folder, "auto", path, len(ids), tmp), ids, want)
    caught = []
    for kind, config in spoiled(m):
        make_hf.dump(own, "config.json", config)
        try:
            caught.append((kind, apart(logprobs(folder, "f32", path, len(ids), tmp), ids, want)))
        except RuntimeError as e:
            if "is missing" not in str(e) and "has no place" not in str(e):
                raise
    good = full < LIMIT and stored < LIMIT and all(x > FAR for _, x in caught)
    print(f"{name:18s} {'ok' if good else 'DIFFERENT':9s} {full:8.1e} {stored:8.1e}   " +
          " ".join(f"{k} {x:.2g}" for k, x in caught), flush=True)
    return good


def main():
    good = True
    for name in sys.argv[1:] or list(make_hf.MODELS):
        with tempfile.TemporaryDirectory() as tmp:
            try:
                good &= check(name, tmp)
            except (RuntimeError, subprocess.TimeoutExpired) as e:
                print(f"{name:18s} FAILED  {e}")
                good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
