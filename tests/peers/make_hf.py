#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""make_hf.py OUT [NAME...]     small Hugging Face folders of random weights, and what they compute (numpy)

Writes OUT/NAME/ and OUT/NAME.expected.txt: a line of token ids, then the logits behind each of them. Folder and
numbers come from here alone: the safetensors bytes are put together with struct, and the forward pass is written
in float64 over the folder's own names and layouts (rotations of halves, matrices of gpt2 as [in, out]), so that a
converter that reorders wrongly shows. make_hf.py tests/golden/hf writes the fixtures of tests/golden/hf.c.

Weights are such that attention looks at few places, norms and biases are far from 1 and 0."""
import sys

sys.path.append(sys.path.pop(0))  # this folder last: its tokenize.py is not the library's
import json  # noqa: E402
import math  # noqa: E402
import os  # noqa: E402
import struct  # noqa: E402

import numpy as np  # noqa: E402

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:;()=_Ġ"
PAIRS = ["t h", "i n", "Ġ a", "e r"]
SPECIAL = ["<s>", "</s>", "<|turn|>", "<|stop|>"]
TOKENS = list(LETTERS) + [p.replace(" ", "") for p in PAIRS] + SPECIAL
V = 56                                       # a few rows more than tokens
BOS, EOS, TURN, STOP = (TOKENS.index(s) for s in SPECIAL)
CTX, N_IDS = 64, 12

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
TEMPLATE = "{% for m in messages %}<|turn|>{{ m.role }}: {{ m.content }}</s>{% endfor %}"

# class, dtype; then what is not the default
MODELS = {
    "gpt2": ("GPT2LMHeadModel", "F16", {"bare": True, "masks": True}),
    "llama": ("LlamaForCausalLM", "BF16", {"shards": 3, "rope_scaling": LLAMA3, "eos": [EOS, TURN, STOP],
                                           "template": TEMPLATE, "rope_theta": 500.0}),
    "mistral": ("MistralForCausalLM", "F16", {"folders": True, "rope_scaling": {"type": "linear", "factor": 2.0},
                                              "config": {"sliding_window": None}}),
    "qwen2": ("Qwen2ForCausalLM", "BF16", {"tied": True, "eos": [TURN, EOS], "rope_scaling": YARN,
                                           "config": {"use_sliding_window": False, "sliding_window": 8,
                                                      "max_window_layers": 2}}),
    "qwen3": ("Qwen3ForCausalLM", "F32", {"head_dim": 16, "C": 16, "shards": 2}),
    # not among the fixtures
    "gpt2_f32": ("GPT2LMHeadModel", "F32", {"tied": False}),
    "gpt2_bf16": ("GPT2LMHeadModel", "BF16", {"config": {"n_inner": 72}, "ff": 72}),
    "llama_plain": ("LlamaForCausalLM", "F32", {}),
    "llama_bias": ("LlamaForCausalLM", "F16", {"attention_bias": True, "mlp_bias": True}),
    "llama_attn_bias": ("LlamaForCausalLM", "F16", {"attention_bias": True, "rope_scaling": LLAMA3}),
    "llama_yarn": ("LlamaForCausalLM", "F32", {"rope_scaling": {**YARN, "attention_factor": 1.3}}),
    "llama_parameters": ("LlamaForCausalLM", "F32", {"rope_parameters": {**LLAMA3, "rope_theta": 300.0},
                                                     "rope_theta": 300.0}),
    "llama_head": ("LlamaForCausalLM", "BF16", {"head_dim": 24, "tied": True, "copy": True}),
    "mistral_head": ("MistralForCausalLM", "BF16", {"head_dim": 16, "config": {"sliding_window": 4096}}),
    "qwen2_untied": ("Qwen2ForCausalLM", "F32", {"rope_theta": 1e6}),
    "qwen3_tied": ("Qwen3ForCausalLM", "BF16", {"tied": True, "head_dim": 8}),
}
FIXTURES = list(MODELS)[:5]


class Model:
    def __init__(self, name):
        self.cls, self.dtype, self.o = MODELS[name]
        self.gpt2 = self.cls.startswith("GPT2")
        self.rng = np.random.default_rng(sum(name.encode()))
        self.L, self.C, self.nh, self.nkv = self.o.get("L", 2), self.o.get("C", 32), 4, 2
        self.ff = self.o.get("ff", 4 * self.C if self.gpt2 else self.C + 8)
        self.hd = self.o.get("head_dim", self.C // self.nh)
        self.tied = self.o.get("tied", self.gpt2)
        self.eps, self.theta = 1e-5, self.o.get("rope_theta", 10000.0)
        self.eos = self.o.get("eos", EOS)
        self.w = {}
        self.weights()

    # ---- weights, by the names of the folder

    def put(self, name, x):
        self.w[name] = rounded(x, self.dtype)

    def matrix(self, name, rows, cols, bias, gain=1.4):
        """rows outputs of cols inputs; gpt2 keeps them the other way round"""
        x = self.rng.standard_normal((rows, cols)) * (gain / cols ** 0.5)
        self.put(name + ".weight", x.T if self.gpt2 and "wte" not in name else x)
        if bias:
            self.put(name + ".bias", 0.4 * self.rng.standard_normal(rows))

    def norm(self, name, n):
        self.put(name + ".weight", 1.0 + 0.3 * self.rng.standard_normal(n))
        if self.gpt2:
            self.put(name + ".bias", 0.2 * self.rng.standard_normal(n))

    def weights(self):
        p = "transformer." if self.gpt2 else "model."
        C, q, kv = self.C, self.nh * self.hd, self.nkv * self.hd
        embd = self.rng.standard_normal((V, C)) * 0.5
        self.put(p + ("wte" if self.gpt2 else "embed_tokens") + ".weight", embd)
        if self.gpt2:
            self.put(p + "wpe.weight", self.rng.standard_normal((CTX, C)) * 0.5)
        for i in range(self.L):
            (self.gpt2_layer if self.gpt2 else self.layer)(f"{p}{'h' if self.gpt2 else 'layers'}.{i}.", C, q, kv)
        self.norm(p + ("ln_f" if self.gpt2 else "norm"), C)
        if not self.tied:
            self.w["lm_head.weight"] = rounded(self.rng.standard_normal((V, C)) * (3 / C ** 0.5), self.dtype)

    def gpt2_layer(self, b, C, q, kv):
        self.norm(b + "ln_1", C)
        self.matrix(b + "attn.c_attn", 3 * C, C, True)
        self.matrix(b + "attn.c_proj", C, C, True)
        self.norm(b + "ln_2", C)
        self.matrix(b + "mlp.c_fc", self.ff, C, True)
        self.matrix(b + "mlp.c_proj", C, self.ff, True)

    def layer(self, b, C, q, kv):
        attn, mlp = self.o.get("attention_bias", False), self.o.get("mlp_bias", False)
        qkv = attn or self.cls.startswith("Qwen2")
        self.norm(b + "input_layernorm", C)
        for name, rows in (("q_proj", q), ("k_proj", kv), ("v_proj", kv)):
            self.matrix(b + "self_attn." + name, rows, C, qkv)
        if self.cls.startswith("Qwen3"):
            self.norm(b + "self_attn.q_norm", self.hd)
            self.norm(b + "self_attn.k_norm", self.hd)
        self.matrix(b + "self_attn.o_proj", C, q, attn)
        self.norm(b + "post_attention_layernorm", C)
        self.matrix(b + "mlp.gate_proj", self.ff, C, mlp)
        self.matrix(b + "mlp.up_proj", self.ff, C, mlp)
        self.matrix(b + "mlp.down_proj", C, self.ff, mlp)

    # ---- the forward pass over them, float64

    def linear(self, name, x):
        W = self.w[name + ".weight"]
        y = x @ W if self.gpt2 else x @ W.T
        return y + self.w[name + ".bias"] if name + ".bias" in self.w else y

    def normed(self, name, x):
        if self.gpt2:
            x = x - x.mean(-1, keepdims=True)
        y = x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.w[name + ".weight"]
        return y + self.w[name + ".bias"] if self.gpt2 else y

    def frequencies(self):
        """inverse frequencies [hd/2] and what cosines and sines are multiplied with"""
        s = self.o.get("rope_scaling") or self.o.get("rope_parameters") or {}
        inv = 1.0 / self.theta ** (np.arange(0, self.hd, 2) / self.hd)
        kind, factor = s.get("rope_type", s.get("type", "default")), s.get("factor", 1.0)
        if kind == "linear":
            return inv / factor, 1.0
        old = s.get("original_max_position_embeddings")
        if kind == "llama3":
            wave = 2 * math.pi / inv
            low, high = s["low_freq_factor"], s["high_freq_factor"]
            smooth = (old / wave - low) / (high - low)
            middle = (1 - smooth) * inv / factor + smooth * inv
            return np.where(wave > old / low, inv / factor, np.where(wave < old / high, inv, middle)), 1.0
        if kind == "yarn":
            def dim(turns):
                return self.hd * math.log(old / (turns * 2 * math.pi)) / (2 * math.log(self.theta))
            low, high = max(math.floor(dim(32)), 0), min(math.ceil(dim(1)), self.hd - 1)
            ramp = np.clip((np.arange(self.hd // 2) - low) / (high - low + 0.001 * (high == low)), 0, 1)
            return inv / factor * ramp + inv * (1 - ramp), s.get("attention_factor", 0.1 * math.log(factor) + 1)
        return inv, 1.0

    def rotated(self, x):
        """x [T, heads, hd]: pairs (i, i + hd/2)"""
        inv, gain = self.frequencies()
        angle = np.arange(x.shape[0])[:, None] * inv
        cos, sin = (gain * np.concatenate([f(angle)] * 2, -1)[:, None] for f in (np.cos, np.sin))
        a, b = np.split(x, 2, -1)
        return x * cos + np.concatenate([-b, a], -1) * sin

    def attention(self, q, k, v):
        T = q.shape[0]
        k, v = (np.repeat(x, self.nh // x.shape[1], 1) for x in (k, v))
        score = np.einsum("tnd,snd->nts", q, k) / math.sqrt(self.hd)
        score = np.where(np.tril(np.ones((T, T), bool)), score, -np.inf)
        p = np.exp(score - score.max(-1, keepdims=True))
        return np.einsum("nts,snd->tnd", p / p.sum(-1, keepdims=True), v).reshape(T, -1)

    def logits(self, ids):
        p, T = ("transformer." if self.gpt2 else "model."), len(ids)
        embd = self.w[p + ("wte" if self.gpt2 else "embed_tokens") + ".weight"]
        x = embd[ids]
        if self.gpt2:
            x = x + self.w[p + "wpe.weight"][:T]
        for i in range(self.L):
            b = f"{p}{'h' if self.gpt2 else 'layers'}.{i}."
            x = self.gpt2_block(b, x) if self.gpt2 else self.block(b, x)
        x = self.normed(p + ("ln_f" if self.gpt2 else "norm"), x)
        return x @ (embd if self.tied else self.w["lm_head.weight"]).T

    def gpt2_block(self, b, x):
        T = x.shape[0]
        q, k, v = np.split(self.linear(b + "attn.c_attn", self.normed(b + "ln_1", x)), 3, -1)
        y = self.attention(*(a.reshape(T, self.nh, self.hd) for a in (q, k, v)))
        x = x + self.linear(b + "attn.c_proj", y)
        h = self.linear(b + "mlp.c_fc", self.normed(b + "ln_2", x))
        h = 0.5 * h * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h ** 3)))
        return x + self.linear(b + "mlp.c_proj", h)

    def block(self, b, x):
        n, T = self.normed(b + "input_layernorm", x), x.shape[0]
        q, k, v = (self.linear(f"{b}self_attn.{c}_proj", n).reshape(T, -1, self.hd) for c in "qkv")
        if self.cls.startswith("Qwen3"):
            q, k = self.normed(b + "self_attn.q_norm", q), self.normed(b + "self_attn.k_norm", k)
        x = x + self.linear(b + "self_attn.o_proj", self.attention(self.rotated(q), self.rotated(k), v))
        n = self.normed(b + "post_attention_layernorm", x)
        gate = self.linear(b + "mlp.gate_proj", n)
        return x + self.linear(b + "mlp.down_proj", gate / (1 + np.exp(-gate)) * self.linear(b + "mlp.up_proj", n))

    # ---- the folder

    def config(self):
        o = self.o
        c = {"architectures": [self.cls], "model_type": self.cls.split("F")[0].lower(), "vocab_size": V,
             "torch_dtype": {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[self.dtype],
             "transformers_version": "4.51.0", "bos_token_id": BOS, "eos_token_id": self.eos, "use_cache": True,
             "initializer_range": 0.02}
        if self.gpt2:
            c.update(n_embd=self.C, n_head=self.nh, n_layer=self.L, n_positions=CTX, n_ctx=CTX, layer_norm_epsilon=self.eps,
                     activation_function="gelu_new", attn_pdrop=0.1, embd_pdrop=0.1, resid_pdrop=0.1,
                     summary_type="cls_index", summary_use_proj=True)
            if not self.tied:
                c["tie_word_embeddings"] = False
        else:
            c.update(hidden_size=self.C, num_attention_heads=self.nh, num_key_value_heads=self.nkv, num_hidden_layers=self.L,
                     intermediate_size=self.ff, max_position_embeddings=CTX, rms_norm_eps=self.eps, hidden_act="silu",
                     attention_dropout=0.0, tie_word_embeddings=self.tied)
            if "rope_parameters" not in o:
                c.update(rope_theta=self.theta, rope_scaling=o.get("rope_scaling"))
            c.update({k: o[k] for k in ("attention_bias", "mlp_bias", "head_dim", "rope_parameters") if k in o})
        c.update(o.get("config", {}))
        return c

    def tensors(self):
        t = dict(self.w)
        if self.o.get("copy"):
            t["lm_head.weight"] = self.w["model.embed_tokens.weight"]
        out = {k: (self.dtype, v) for k, v in t.items()}
        for i in range(self.L if self.o.get("masks") else 0):
            out[f"transformer.h.{i}.attn.bias"] = "U8", np.tril(np.ones((1, 1, 8, 8), np.uint8))
        if self.o.get("bare"):
            out = {k.replace("transformer.", ""): v for k, v in out.items()}
        return out

    def write(self, folder):
        tok = os.path.join(folder, "tokenizer") if self.o.get("folders") else folder
        own = os.path.join(folder, "fp16") if self.o.get("folders") else folder
        os.makedirs(tok, exist_ok=True)
        os.makedirs(own, exist_ok=True)
        dump(own, "config.json", self.config())
        dump(own, "generation_config.json", {"bos_token_id": BOS, "eos_token_id": self.eos, "do_sample": True})
        write_weights(own, self.tensors(), self.o.get("shards", 1))
        write_tokenizer(tok, self.o.get("template"))


def dump(folder, name, obj):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
        json.dump(obj, f, ensure_ascii=False, indent=1)
        f.write("\n")


# ---- safetensors ------------------------------------------------------------------------------

def bf16_bits(x):
    u = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((u + 0x7fff + (u >> 16 & 1)) >> 16).astype(np.uint16)


def encode(dtype, x):
    if dtype == "BF16":
        return bf16_bits(x).astype("<u2").tobytes()
    return np.asarray(x).astype({"F32": "<f4", "F16": "<f2", "U8": "u1", "I32": "<i4"}[dtype]).tobytes()


def rounded(x, dtype):
    """the float64 values that dtype can hold"""
    if dtype == "BF16":
        return (bf16_bits(x).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return np.asarray(x).astype({"F32": np.float32, "F16": np.float16}[dtype]).astype(np.float64)


def write_safetensors(path, tensors):
    head, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, x) in tensors.items():
        raw = encode(dtype, x)
        head[name] = {"dtype": dtype, "shape": list(x.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def write_weights(folder, tensors, shards):
    if shards == 1:
        write_safetensors(os.path.join(folder, "model.safetensors"), tensors)
        return
    names, where = list(tensors), {}
    for s in range(shards):
        file = f"model-{s + 1:05d}-of-{shards:05d}.safetensors"
        mine = names[s * len(names) // shards:(s + 1) * len(names) // shards]
        write_safetensors(os.path.join(folder, file), {n: tensors[n] for n in mine})
        where.update({n: file for n in mine})
    total = sum(len(encode(*t)) for t in tensors.values())
    dump(folder, "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})


# ---- the tokenizer ----------------------------------------------------------------------------

def write_tokenizer(folder, template):
    plain = TOKENS[:-len(SPECIAL)]
    bos = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                                                    {"Sequence": {"id": "A", "type_id": 0}}],
           "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [BOS], "tokens": ["<s>"]}}}
    dump(folder, "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": len(plain) + i, "content": s, "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True} for i, s in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": bos,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {t: i for i, t in enumerate(plain)}, "merges": PAIRS}})
    config = {"bos_token": "<s>", "eos_token": {"__type": "AddedToken", "content": "</s>"}, "model_max_length": CTX}
    if template:
        config["chat_template"] = template
    dump(folder, "tokenizer_config.json", config)


def make(name, out):
    m = Model(name)
    m.write(os.path.join(out, name))
    ids = np.concatenate([[BOS], m.rng.integers(0, len(LETTERS), N_IDS - 1)])
    with open(os.path.join(out, name + ".expected.txt"), "w", encoding="ascii") as f:
        f.write(" ".join(map(str, ids)) + "\n")
        for row in m.logits(ids):
            f.write(" ".join(f"{x:.6g}" for x in row) + "\n")
    return m


def main():
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    for name in sys.argv[2:] or FIXTURES:
        make(name, sys.argv[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
