#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tests/peers/adapters.py [NAME...]     PEFT adapter folders, converted and laid over their models
tests/peers/adapters.py --write OUT      the fixtures of tests/golden/adapter.c

INGOT is the program (build/ingot). Models are those of make_hf.py; the adapter's products are added to their weights
here in float64, and log-probabilities of forced text by `ingot perplexity --lora` have to be within LIMIT of that
model's own pass, with the base given as a folder and as a file, which have to give the same bytes. Spoiled ones (no
adapter, alpha, halves swapped with another seed) have to be FAR off. Columns: distance, then the spoiled ones."""
import sys

sys.path.append(sys.path.pop(0))  # this folder last: its tokenize.py is not the library's
import os  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402

sys.dont_write_bytecode = True
import numpy as np  # noqa: E402

import convert  # noqa: E402
import make_hf  # noqa: E402

LIMIT, FAR = 2e-4, 1e-3
ATTN, MLP = ["q_proj", "k_proj", "v_proj", "o_proj"], ["gate_proj", "up_proj", "down_proj"]
# model, modules, type, then what is not the default of a configuration
CASES = {
    "llama": ("llama", ATTN + MLP, "F32", {"r": 2, "lora_alpha": 8}),
    "qwen2": ("qwen2", ["q_proj", "v_proj"], "BF16", {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}),
    "qwen3": ("qwen3", ATTN, "F16", {"r": 2, "lora_alpha": 3.5}),
    "mistral": ("mistral", ATTN + MLP, "F32", {"r": 3, "lora_alpha": 6, "use_rslora": True}),
    "gpt2": ("gpt2_f32", ["c_attn", "c_fc", "c_proj"], "F32", {"r": 4, "lora_alpha": 4, "fan_in_fan_out": True}),
    "ranks": ("llama_plain", ATTN, "F32", {"r": 4, "lora_alpha": 8, "rank_pattern": {"k_proj": 2}}),
    "head": ("llama_plain", ["lm_head", "q_proj"], "F32", {"r": 4, "lora_alpha": 8}),
    "embedding": ("qwen2_untied", ["embed_tokens", "k_proj"], "F32", {"r": 4, "lora_alpha": 8}),
    "default_name": ("llama_head", ATTN, "F32", {"r": 4, "lora_alpha": 8, "suffix": ".default"}),
}


class Adapter:
    def __init__(self, name, seed=0):
        self.model, self.modules, self.dtype, o = CASES[name]
        self.o = dict(o)
        self.suffix = self.o.pop("suffix", "")
        self.rng = np.random.default_rng(seed + sum(name.encode()))
        self.m = make_hf.Model(self.model)
        self.pairs = {}
        for key, W in self.m.w.items():
            module = key.split(".")[-2]
            if W.ndim == 2 and key.endswith(".weight") and module in self.modules:
                self.pairs[key] = self.pair(W.T if self.m.gpt2 else W, self.rank(module))

    def rank(self, module):
        return self.o.get("rank_pattern", {}).get(module, self.o["r"])

    def pair(self, W, r):
        """A [r, in], B [out, r]; their product is of W's size"""
        rows, cols = W.shape
        A = self.rng.standard_normal((r, cols)) / cols ** 0.5
        B = self.rng.standard_normal((rows, r)) * 0.3
        return make_hf.rounded(A, self.dtype), make_hf.rounded(B, self.dtype)

    def scale(self, r):
        return self.o["lora_alpha"] / (r ** 0.5 if self.o.get("use_rslora") else r)

    def merged(self):
        for key, (A, B) in self.pairs.items():
            product = self.scale(A.shape[0]) * (B @ A)
            self.m.w[key] = self.m.w[key] + (product.T if self.m.gpt2 else product)
        return self.m

    def tensors(self):
        out = {}
        for key, (A, B) in self.pairs.items():
            base = "base_model.model." + key[:-len(".weight")]
            if "embed_tokens" in key:
                out[base + ".lora_embedding_A"] = self.dtype, B.T
                out[base + ".lora_embedding_B"] = self.dtype, A.T
            else:
                out[f"{base}.lora_A{self.suffix}.weight"] = self.dtype, A
                out[f"{base}.lora_B{self.suffix}.weight"] = self.dtype, B
        return out

    def config(self):
        return {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": self.model, "bias": "none",
                "lora_dropout": 0.05, "target_modules": self.modules, "inference_mode": True, "init_lora_weights": True,
                "fan_in_fan_out": False, "use_rslora": False, "use_dora": False, "modules_to_save": None,
                "alpha_pattern": {}, "rank_pattern": {}, "layers_to_transform": None, "loftq_config": {}, "revision": None,
                **self.o}

    def write(self, folder):
        os.makedirs(folder, exist_ok=True)
        make_hf.dump(folder, "adapter_config.json", self.config())
        make_hf.write_safetensors(os.path.join(folder, "adapter_model.safetensors"), self.tensors())


def logprobs(model, text, n, tmp, *more):
    out = os.path.join(tmp, "logprobs")
    convert.ingot("perplexity", model, "-f", text, "-c", str(n), "--chunks", "1", "--all", "--kv-cache-type", "f32",
                  "--logprobs", out, "-q", "--threads", "1", *more)
    with open(out, encoding="ascii") as f:
        return [(int(i), float(p)) for i, p in map(str.split, f)]


def same_bytes(a, b):
    with open(a, "rb") as f, open(b, "rb") as g:
        return f.read() == g.read()


def check(name, tmp):
    folder, base, gguf, own, text = (os.path.join(tmp, x) for x in ("adapter", "base", "m.gguf", "a.gguf", "text"))
    a = Adapter(name)
    a.m.write(base)
    a.write(folder)
    convert.ingot("convert", base, gguf, "--type", "f32", "--quiet")
    convert.ingot("convert", folder, own, "--base", gguf)
    convert.ingot("convert", folder, os.path.join(tmp, "b.gguf"), "--base", base)
    if not same_bytes(own, os.path.join(tmp, "b.gguf")):
        raise RuntimeError("a folder and a file as base give different adapters")
    with open(text, "w", encoding="ascii") as f:
        f.write("".join(a.rng.choice([t for t in make_hf.LETTERS if t != "Ġ"], 40)))
    with open(text, encoding="ascii") as f:
        ids = [make_hf.BOS, *map(int, convert.ingot("tokenizer", "encode", gguf, f.read()).split())]
    want = convert.reference(a.merged(), ids)

    def far(*more):
        return convert.apart(logprobs(gguf, text, len(ids), tmp, *more), ids, want)
    got = far("--lora", own)
    caught = {"none": far(), "scale": far("--lora", own + ":1.2")}
    Adapter(name, 1).write(folder)
    convert.ingot("convert", folder, own, "--base", base)
    caught["seed"] = far("--lora", own)
    good = got < LIMIT and all(x > FAR for x in caught.values())
    print(f"{name:14s} {'ok' if good else 'DIFFERENT':9s} {got:8.1e}   " + " ".join(f"{k} {x:.2g}" for k, x in caught.items()),
          flush=True)
    return good


def main():
    if sys.argv[1:2] == ["--write"]:
        Adapter("llama").write(os.path.join(sys.argv[2], "adapter"))
        return 0
    good = True
    for name in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as tmp:
            try:
                good &= check(name, tmp)
            except (RuntimeError, subprocess.TimeoutExpired) as e:
                print(f"{name:14s} FAILED  {e}")
                good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
