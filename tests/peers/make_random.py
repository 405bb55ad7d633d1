#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""make_random.py NAME OUT.gguf [--wrong KIND]     a small model of random weights (numpy); no NAME: the list

Models to hold this program to another one with. A random model says nothing sensible, but it must be sensitive: scores
have a spread of about two, so that attention looks at few places and rotations matter; embeddings are so small that the
first norm feels its epsilon; norms and biases are far from 1 and 0. Logits spread by about three.

--wrong writes the file a mistaken program would seem to have read: pairs (the other pairing of the rotation), bias
(biases of zero), eps (ten times as large), qknorm (its weights 1), freqs, scaling (keys and factors of the rotation
left out), base. What such a file gives must be outside the tolerance that the right one is held to."""
import argparse
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "ref"))
import numpy as np  # noqa: E402

import gguf_io  # noqa: E402

YARN = {"type": "yarn", "factor": 8.0, "original_context_length": 64}
# arch, heads, key/value heads, head size; then what is not the default
MODELS = {
    "gpt2": ("gpt2", 4, 4, 64, {}),
    "llama": ("llama", 4, 4, 64, {}),
    "llama_gqa4": ("llama", 8, 2, 64, {"untied": True}),
    "llama_h80": ("llama", 6, 2, 80, {}),
    "llama_h96_gqa6": ("llama", 6, 1, 96, {"untied": True}),
    "llama_h128_gqa7": ("llama", 7, 1, 128, {"base": 5e5}),
    "llama_h256": ("llama", 2, 1, 256, {}),
    "llama_freqs": ("llama", 8, 2, 64, {"freqs": True, "base": 5e5}),
    "llama_linear": ("llama", 4, 2, 64, {"scaling": {"type": "linear", "factor": 4.0}}),
    "llama_linear_attn": ("llama", 4, 2, 64, {"scaling": {"type": "linear", "factor": 2.0, "attn_factor": 0.75}}),
    "llama_yarn": ("llama", 4, 2, 64, {"scaling": YARN}),
    "llama_yarn_attn": ("llama", 4, 2, 128, {"scaling": {**YARN, "attn_factor": 0.8}}),
    "llama_yarn_freqs": ("llama", 4, 2, 64, {"scaling": YARN, "freqs": True}),
    "llama_window": ("llama", 4, 2, 64, {"keys": {"attention.sliding_window": 16}}),
    "llama_bias": ("llama", 4, 2, 64, {"bias": ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up",
                                                "ffn_down")}),
    "llama_qkv_bias": ("llama", 4, 2, 64, {"bias": ("attn_q", "attn_k", "attn_v")}),
    "mistral3": ("mistral3", 8, 2, 64, {"untied": True}),
    "mistral3_yarn": ("mistral3", 8, 2, 64, {"scaling": {**YARN, "yarn_beta_fast": 16.0, "yarn_beta_slow": 2.0,
                                                         "yarn_log_multiplier": 0.7}}),
    "qwen2": ("qwen2", 14, 2, 64, {"eps": 1e-6, "base": 1e6}),
    "qwen2_h128_gqa6": ("qwen2", 6, 1, 128, {"eps": 1e-6, "base": 1e6, "untied": True}),
    "qwen2_yarn": ("qwen2", 4, 2, 64, {"eps": 1e-6, "scaling": {**YARN, "factor": 4.0}}),
    "qwen2_betas": ("qwen2", 4, 2, 64, {"scaling": {**YARN, "yarn_beta_fast": 4.0, "yarn_beta_slow": 2.0}}),
    "qwen3": ("qwen3", 8, 2, 128, {"eps": 1e-6, "base": 1e6}),
    "qwen3_h64": ("qwen3", 4, 1, 64, {"eps": 1e-6, "untied": True}),
    "qwen3_h96": ("qwen3", 6, 6, 96, {}),
    "qwen3_yarn": ("qwen3", 8, 2, 128, {"eps": 1e-6, "scaling": {**YARN, "factor": 4.0}}),
    "starcoder2": ("starcoder2", 6, 1, 64, {}),
    "starcoder2_untied": ("starcoder2", 4, 2, 80, {"untied": True, "base": 1e5}),
}
FF, L, CTX = 384, 3, 512
ALL_BIASES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down")


def vocabulary():
    """The 256 bytes in the byte-level alphabet, forty pairs of letters, an end of text."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letter, extra = {}, 0
    for b in range(256):
        letter[b] = chr(b) if b in plain else chr(256 + extra)
        extra += b not in plain
    tokens = [letter[b] for b in range(256)]
    pairs = [(a, b) for a in "etaoin" for b in "rstnhdl" if a != b][:40]
    tokens += [a + b for a, b in pairs] + ["<|endoftext|>"]
    n = len(tokens)
    return n, {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.tokens": tokens,
               "tokenizer.ggml.merges": [f"{a} {b}" for a, b in pairs],
               "tokenizer.ggml.bos_token_id": n - 1, "tokenizer.ggml.eos_token_id": n - 1}


class Maker:
    def __init__(self, name):
        self.arch, self.nh, self.nkv, self.hd, self.opt = MODELS[name]
        # llama.cpp wants these as wide as their heads together
        self.C = self.nh * self.hd if self.arch in ("gpt2", "qwen2", "starcoder2") else 256
        self.layer_norm = self.arch in ("gpt2", "starcoder2")
        self.bias = self.opt.get("bias", {"gpt2": ("attn_qkv", "attn_output", "ffn_up", "ffn_down"),
                                          "qwen2": ALL_BIASES[:3], "starcoder2": ALL_BIASES}.get(self.arch, ()))
        self.tied = not self.opt.get("untied")
        self.rng = np.random.default_rng(sum(name.encode()))
        self.t = {}

    def linear(self, blk, name, rows, cols, gain):
        self.t[f"{blk}{name}.weight"] = self.rng.standard_normal((rows, cols)) * (gain / cols ** 0.5)
        if name in self.bias:
            self.t[f"{blk}{name}.bias"] = self.rng.standard_normal(rows) * 0.4

    def norm(self, name, n, size=1.0):
        self.t[name + ".weight"] = size * (1.0 + 0.3 * self.rng.standard_normal(n))
        if self.layer_norm:
            self.t[name + ".bias"] = 0.2 * size * self.rng.standard_normal(n)

    def layer(self, blk):
        q, kv = self.nh * self.hd, self.nkv * self.hd
        self.norm(blk + "attn_norm", self.C)
        if self.arch == "gpt2":
            self.linear(blk, "attn_qkv", q + 2 * kv, self.C, 1.4)
        else:
            for name, rows in (("attn_q", q), ("attn_k", kv), ("attn_v", kv)):
                self.linear(blk, name, rows, self.C, 1.4)
        if self.arch == "qwen3":
            for name in ("attn_q_norm", "attn_k_norm"):
                self.t[f"{blk}{name}.weight"] = 1.4 + 0.4 * self.rng.standard_normal(self.hd)
        self.linear(blk, "attn_output", self.C, q, 1.0)
        self.norm(blk + "ffn_norm", self.C)
        if not self.layer_norm:
            self.linear(blk, "ffn_gate", FF, self.C, 1.2)
        self.linear(blk, "ffn_up", FF, self.C, 1.2)
        self.linear(blk, "ffn_down", self.C, FF, 1.0)

    def tensors(self, V):
        small = 0.004
        self.t["token_embd.weight"] = small * self.rng.standard_normal((V, self.C))
        if self.arch == "gpt2":
            self.t["position_embd.weight"] = small * self.rng.standard_normal((CTX, self.C))
        if self.opt.get("freqs"):
            self.t["rope_freqs.weight"] = np.linspace(1.0, 8.0, self.hd // 2)
        for i in range(L):
            self.layer(f"blk.{i}.")
        self.norm("output_norm", self.C, 3.0 / (small * self.C ** 0.5) if self.tied else 1.0)
        if not self.tied:
            self.t["output.weight"] = self.rng.standard_normal((V, self.C)) * (3.0 / self.C ** 0.5)
        return self.t

    def keys(self, V):
        a, o = self.arch, self.opt
        meta = {"general.architecture": a, "general.name": "random", f"{a}.block_count": L, f"{a}.context_length": CTX,
                f"{a}.embedding_length": self.C, f"{a}.feed_forward_length": FF, f"{a}.attention.head_count": self.nh,
                f"{a}.attention.head_count_kv": self.nkv, f"{a}.vocab_size": V}
        which = "layer_norm_epsilon" if self.layer_norm else "layer_norm_rms_epsilon"
        meta[f"{a}.attention.{which}"] = float(o.get("eps", 1e-5))
        if a == "gpt2":
            return meta
        meta.update({f"{a}.attention.key_length": self.hd, f"{a}.attention.value_length": self.hd,
                     f"{a}.rope.dimension_count": self.hd, f"{a}.rope.freq_base": float(o.get("base", 1e4))})
        meta.update({f"{a}.rope.scaling.{k}": v for k, v in o.get("scaling", {}).items()})
        meta.update({f"{a}.{k}": v for k, v in o.get("keys", {}).items()})
        return meta


def other_pairs(x, hd, halves):
    """Rows of q or k (or their bias, or norm) so that the right pairing does what the other would with the rows as they were."""
    x = x.reshape(-1, hd, *x.shape[1:])
    order = np.arange(hd).reshape(hd // 2, 2).T.reshape(-1)    # evens, then odds
    if not halves:
        order = np.argsort(order)
    return x[:, order].reshape(-1, *x.shape[2:])


def spoil(m, meta, t, kind):
    """Change what `kind` names; False if this model has no such thing."""
    before = {k: v.copy() for k, v in t.items()}, dict(meta)
    for name in list(t):
        part = name.split(".")[2] if name.startswith("blk.") else name
        if kind == "pairs" and part in ("attn_q", "attn_k", "attn_q_norm", "attn_k_norm"):
            t[name] = other_pairs(t[name], m.hd, m.arch not in ("llama", "mistral3"))
        if kind == "bias" and name.endswith(".bias") and part in m.bias:
            t[name] = np.zeros_like(t[name])
        if kind == "qknorm" and part in ("attn_q_norm", "attn_k_norm"):
            t[name] = np.ones_like(t[name])
        if kind == "freqs" and name == "rope_freqs.weight":
            del t[name]
    for key in list(meta):
        if kind == "eps" and key.endswith("epsilon"):
            meta[key] *= 10
        if kind == "base" and key.endswith("freq_base"):
            meta[key] *= 2
        if kind == "scaling" and ".rope.scaling." in key:
            del meta[key]
    return meta != before[1] or t.keys() != before[0].keys() or any((t[k] != before[0][k]).any() for k in t)


def make(name, path, wrong=None):
    """Write the model; False if `wrong` does not apply to it."""
    m = Maker(name)
    V, words = vocabulary()
    meta, t = m.keys(V), m.tensors(V)
    if wrong and not spoil(m, meta, t, wrong):
        return False
    gguf_io.write(path, {**meta, **words}, t)
    return True


def main():
    if len(sys.argv) == 1:
        print("\n".join(MODELS))
        return 0
    ap = argparse.ArgumentParser()
    ap.add_argument("name", choices=MODELS)
    ap.add_argument("out")
    ap.add_argument("--wrong", choices=("pairs", "bias", "eps", "qknorm", "freqs", "scaling", "base"))
    a = ap.parse_args()
    return 0 if make(a.name, a.out, a.wrong) else 1


if __name__ == "__main__":
    sys.exit(main())
