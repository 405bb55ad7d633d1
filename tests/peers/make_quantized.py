#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tests/peers/make_quantized.py [NAME...]       folders packed by AWQ, GPTQ, bitsandbytes, converted and compared
tests/peers/make_quantized.py --write OUT        the fixtures of tests/golden/packed.c

INGOT is the program (build/ingot). Quantizers and packers are written here, from the layouts, over the models of
make_hf.py. Of each folder: `--type f32` has to give the unpacked values bit by bit, in the file's order of rows;
logits of that file are within LIMIT of the float64 pass over them; f16 is what numpy rounds them to; and what the
program says was lost (f16, q8_0) is what numpy finds. Columns: tensors compared, logits, loss of f16 and q8_0."""
import sys

sys.path.append(sys.path.pop(0))  # this folder last: its tokenize.py is not the library's
import hashlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402

sys.dont_write_bytecode = True
import numpy as np  # noqa: E402

import convert  # noqa: E402
import gguf_diff  # noqa: E402
import make_hf  # noqa: E402

LIMIT = 1e-4
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
       -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
       0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]
FP4 = [0, 0.0625, 8, 12, 4, 6, 2, 3, -0.0, -0.0625, -8, -12, -4, -6, -2, -3]
LLAMA, QWEN2, QWEN3, GPT2 = "LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "GPT2LMHeadModel"

# class, type of what is not packed, options of make_hf, how it is packed
MODELS = {
    "awq": (QWEN2, "F16", {"ff": 64, "tied": True, "L": 1}, {"method": "awq", "group": 32}),
    "gptq": (LLAMA, "F16", {"ff": 64, "L": 1}, {"method": "gptq", "group": 16, "act_order": True}),
    "gptq3": (QWEN2, "BF16", {"ff": 96, "tied": True, "head_dim": 16, "L": 1}, {"method": "gptq", "bits": 3, "group": 32, "v2": True}),
    "nf4": (LLAMA, "BF16", {"ff": 64, "L": 1}, {"method": "nf4", "nested": 16}),
    # not among the fixtures
    "awq_llama": (LLAMA, "F16", {"ff": 64, "rope_scaling": make_hf.LLAMA3}, {"method": "awq", "group": 32}),
    "awq_g64": (QWEN2, "F16", {"C": 64, "ff": 128}, {"method": "awq", "group": 64}),
    "awq_g128": (QWEN2, "F16", {"C": 128, "ff": 256}, {"method": "awq", "group": 128}),
    "awq_all": (QWEN2, "F16", {"ff": 72}, {"method": "awq", "group": -1}),
    "awq_signed": (LLAMA, "F16", {"ff": 64}, {"method": "awq", "group": 32, "signed": True}),
    "awq_bf16": (LLAMA, "BF16", {"ff": 64}, {"method": "awq", "group": 32, "scales": "BF16"}),
    "awq_old": (LLAMA, "F16", {"ff": 64}, {"method": "awq", "group": 32, "own_file": True}),
    "awq_some": (QWEN2, "F16", {"ff": 64}, {"method": "awq", "group": 32, "leave": ["layers.0.mlp", "o_proj"]}),
    "awq_shards": (QWEN3, "F16", {"ff": 64, "head_dim": 16, "shards": 3}, {"method": "awq", "group": 32}),
    "gptq_plain": (LLAMA, "F16", {"ff": 64}, {"method": "gptq", "group": 32}),
    "gptq_noindex": (QWEN2, "F16", {"ff": 64}, {"method": "gptq", "group": 32, "index": False}),
    "gptq_sym": (LLAMA, "F16", {"ff": 64}, {"method": "gptq", "group": 32, "sym": True}),
    "gptq_v2": (LLAMA, "F16", {"ff": 64}, {"method": "gptq", "group": 32, "v2": True, "act_order": True}),
    "gptq2": (QWEN2, "F16", {"ff": 64}, {"method": "gptq", "bits": 2, "group": 16}),
    "gptq2_v2": (QWEN2, "F16", {"ff": 64}, {"method": "gptq", "bits": 2, "group": 16, "v2": True, "sym": True}),
    "gptq3_v1": (LLAMA, "F16", {"ff": 64, "C": 64, "head_dim": 16}, {"method": "gptq", "bits": 3, "group": 64,
                                                                   "act_order": True}),
    "gptq8": (LLAMA, "F16", {"ff": 64}, {"method": "gptq", "bits": 8, "group": 32}),
    "gptq8_all": (QWEN2, "F16", {"ff": 64}, {"method": "gptq", "bits": 8, "group": -1, "sym": True}),
    "gptq_tail": (QWEN2, "F16", {"ff": 72}, {"method": "gptq", "group": 32}),
    "gptq_biases": (LLAMA, "F16", {"ff": 64}, {"method": "gptq", "group": 32, "biases": True}),
    "gptq_head": (LLAMA, "F16", {"ff": 64}, {"method": "gptq", "group": 32, "head": True}),
    "gptq_old": (LLAMA, "F16", {"ff": 64}, {"method": "gptq", "group": 32, "own_file": True}),
    "gptq_gpt2": (GPT2, "F16", {}, {"method": "gptq", "group": 32, "act_order": True}),
    "nf4_flat": (QWEN2, "F16", {"ff": 72}, {"method": "nf4"}),
    "nf4_256": (LLAMA, "BF16", {"ff": 72}, {"method": "nf4", "nested": 256}),
    "nf4_b128": (QWEN2, "BF16", {"ff": 72}, {"method": "nf4", "block": 128, "nested": 8}),
    "nf4_some": (LLAMA, "BF16", {"ff": 72}, {"method": "nf4", "nested": 16, "leave": ["down_proj", "layers.1.self_attn"]}),
    "fp4": (LLAMA, "F16", {"ff": 72}, {"method": "fp4"}),
    "fp4_nested": (QWEN2, "F16", {"ff": 72}, {"method": "fp4", "nested": 16}),
}
FIXTURES = list(MODELS)[:4]


# ---- quantizers: W [out, in] -> integers and tables, and the values they stand for -------------

def grouped(W, bits, group_of, n_groups, sym, scale_type):
    """q [out, in], zero [groups, out], scale [groups, out]; value = (q - zero) * scale in f32"""
    top, out = 2 ** bits - 1, W.shape[0]
    q, zero, scale = np.zeros(W.shape, np.int64), np.zeros((n_groups, out), np.int64), np.zeros((n_groups, out))
    for g in range(n_groups):
        part = W[:, group_of == g]
        low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
        if sym:
            high = np.maximum(-low, high)
            low = -high
        s = make_hf.rounded(np.maximum(high - low, 1e-4) / top, scale_type)
        z = np.full(out, (top + 1) // 2) if sym else np.clip(np.round(-low / s), 1, top).astype(np.int64)
        scale[g], zero[g] = s, z
        q[:, group_of == g] = np.clip(np.round(part / s[:, None]) + z[:, None], 0, top)
    f = np.float32
    value = (q - zero[group_of].T).astype(f) * scale[group_of].T.astype(f)
    return q, zero, scale, value


def dynamic_map():
    x = [0.0, 1.0]
    for i in range(7):
        steps = np.linspace(0.1, 1, 2 ** i + 1)
        middle = (steps[:-1] + steps[1:]) / 2 * 10.0 ** (i - 6)
        x += list(middle) + list(-middle)
    return np.sort(np.array(x, np.float32))


def nearest(x, table):
    return np.abs(np.asarray(x)[..., None] - table).argmin(-1)


def blocks(W, table, block, nested):
    """codes of W as one run, and tables; all in f32"""
    f = np.float32
    flat = W.astype(f).ravel()
    n = -(-len(flat) // block)
    padded = np.concatenate([flat, np.zeros(n * block - len(flat), f)]).reshape(n, block)
    absmax = np.maximum(np.abs(padded).max(1), f(1e-4)).astype(f)
    q = nearest(padded / absmax[:, None], table)
    tables = {"absmax": ("F32", absmax)}
    offset = 0.0
    if nested:
        offset = f(absmax.mean())
        above = -(-n // nested)
        rest = np.concatenate([absmax - offset, np.zeros(above * nested - n, f)]).reshape(above, nested)
        top = np.maximum(np.abs(rest).max(1), f(1e-6)).astype(f)
        bytes_ = nearest(rest / top[:, None], dynamic_map())
        absmax = ((dynamic_map()[bytes_] * top[:, None]).astype(f).ravel()[:n] + offset).astype(f)
        tables = {"absmax": ("U8", bytes_.ravel()[:n]), "nested_absmax": ("F32", top),
                  "nested_quant_map": ("F32", dynamic_map())}
    value = (table[q] * absmax[:, None]).astype(f).ravel()[:len(flat)].reshape(W.shape)
    return q.ravel()[:len(flat)], tables, float(offset), value


# ---- packers -----------------------------------------------------------------------------------

def words(shape):
    return np.zeros(shape, np.uint64)


def pack_awq(x):
    """[n, columns] -> [n, columns / 8]"""
    w = words((x.shape[0], x.shape[1] // 8))
    for c in range(w.shape[1]):
        for i in range(8):
            w[:, c] |= x[:, 8 * c + AWQ_ORDER[i]].astype(np.uint64) << np.uint64(4 * i)
    return w.astype(np.uint32)


def pack_run(x, bits):
    """[n, columns] down the rows -> [n * bits / 32, columns]: number i at bit i * bits of its column's words"""
    w = words((x.shape[0] * bits // 32 + 1, x.shape[1]))
    for i in range(x.shape[0]):
        at, v = i * bits, x[i].astype(np.uint64)
        both = v << np.uint64(at % 32)
        w[at // 32] |= both & np.uint64(0xffffffff)
        w[at // 32 + 1] |= both >> np.uint64(32)
    return w[:-1].astype(np.uint32)


# ---- models ------------------------------------------------------------------------------------

class Packed(make_hf.Model):
    def __init__(self, name):
        cls, dtype, o, self.q = MODELS[name]
        make_hf.MODELS[name] = cls, dtype, o
        super().__init__(name)
        self.parts, self.exact = {}, {}
        for key in [k for k in self.w if self.is_packed(k)]:
            W = self.w.pop(key)
            value = self.pack(key, W.T if self.gpt2 else W)
            self.exact[key] = value
            self.w[key] = value.T.astype(np.float64) if self.gpt2 else value.astype(np.float64)

    def is_packed(self, key):
        if self.w[key].ndim != 2 or "embed" in key or "wte" in key or "wpe" in key:
            return False
        if key == "lm_head.weight" and not self.q.get("head"):
            return False
        return not any(part in key for part in self.q.get("leave", []))

    def pack(self, key, W):
        if self.q["method"] in ("nf4", "fp4"):
            return self.pack_blocks(key, W)
        q, base, bits = self.q, key[:-len("weight")], self.q.get("bits", 4)
        n_in = W.shape[1]
        group = n_in if q["group"] < 0 else q["group"]
        group_of = np.arange(n_in) // group
        if q.get("act_order"):
            group_of = group_of[self.rng.permutation(n_in)]
        kind = q.get("scales", "F16")
        signed = q.get("signed", False)
        codes, zero, scale, value = grouped(W, bits, group_of, -(-n_in // group), q.get("sym", signed), kind)
        if q["method"] == "awq":
            self.parts[base + "qweight"] = "I32", pack_awq(codes.T)
            if not signed:
                self.parts[base + "qzeros"] = "I32", pack_awq(zero)
        else:
            self.parts[base + "qweight"] = "I32", pack_run(codes.T, bits)
            self.parts[base + "qzeros"] = "I32", pack_run((zero if q.get("v2") else zero - 1).T, bits).T
            if q.get("index", True):
                self.parts[base + "g_idx"] = "I32", group_of
            if q.get("biases"):
                self.parts[base + "bias"] = "F16", np.zeros(W.shape[0])
        self.parts[base + "scales"] = kind, scale
        return value

    def pack_blocks(self, key, W):
        q, f = self.q, np.float32
        kind, block, nested = q["method"], q.get("block", 64), q.get("nested", 0)
        table = np.array(NF4, f) if kind == "nf4" else (np.array(FP4, np.float64) / 12).astype(f)
        codes, tables, offset, value = blocks(W, table, block, nested)
        codes = np.concatenate([codes, np.zeros(len(codes) % 2, codes.dtype)])
        self.parts[key] = "U8", (codes[0::2] << 4 | codes[1::2])[:, None]
        state = {"quant_type": kind, "blocksize": block, "dtype": "bfloat16", "shape": list(W.shape)}
        if nested:
            state.update(nested_blocksize=nested, nested_dtype="float32", nested_offset=offset)
        text = np.frombuffer(json.dumps(state).encode(), np.uint8)
        self.parts[f"{key}.quant_map"] = "F32", table
        self.parts[f"{key}.quant_state.bitsandbytes__{kind}"] = "U8", text
        for tail, t in tables.items():
            self.parts[f"{key}.{tail}"] = t
        return value

    # ---- the folder

    def quantization(self):
        q, method = self.q, self.q["method"]
        if method == "awq":
            if q.get("own_file"):
                return {"zero_point": True, "q_group_size": q["group"], "w_bit": 4, "version": "GEMM"}
            return {"quant_method": "awq", "bits": 4, "group_size": q["group"], "zero_point": not q.get("signed", False),
                    "version": "gemm", "modules_to_not_convert": q.get("leave")}
        if method == "gptq":
            c = {"bits": q.get("bits", 4), "group_size": q["group"], "desc_act": q.get("act_order", False),
                 "sym": q.get("sym", False), "damp_percent": 0.01, "true_sequential": True, "static_groups": False,
                 "model_name_or_path": None, "model_file_base_name": "model"}
            return c if q.get("own_file") else {
                **c, "quant_method": "gptq", "checkpoint_format": "gptq_v2" if q.get("v2") else "gptq",
                "exllama_config": {"version": 1}, "pack_dtype": "int32", "lm_head": q.get("head", False)}
        return {"quant_method": "bitsandbytes", "_load_in_4bit": True, "_load_in_8bit": False, "load_in_4bit": True,
                "load_in_8bit": False, "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_quant_storage": "uint8",
                "bnb_4bit_quant_type": method, "bnb_4bit_use_double_quant": bool(q.get("nested")),
                "llm_int8_enable_fp32_cpu_offload": False, "llm_int8_has_fp16_weight": False,
                "llm_int8_skip_modules": q.get("leave"), "llm_int8_threshold": 6.0}

    def config(self):
        own = {} if self.q.get("own_file") else {"quantization_config": self.quantization()}
        return {**super().config(), **own}

    def tensors(self):
        out = {k: v for k, v in super().tensors().items() if k not in self.exact}
        return {**out, **self.parts}

    def write(self, folder):
        super().write(folder)
        if self.q.get("own_file"):
            name = "quant_config.json" if self.q["method"] == "awq" else "quantize_config.json"
            make_hf.dump(folder, name, self.quantization())

    # ---- what the file should have

    def place(self, key):
        """the GGUF name, and the value with its rows in the file's order"""
        names = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "gate_proj": "ffn_gate",
                 "up_proj": "ffn_up", "down_proj": "ffn_down", "c_attn": "attn_qkv", "c_fc": "ffn_up"}
        value, words_ = self.exact[key], key.split(".")
        if key == "lm_head.weight":
            return "output.weight", value
        layer, module = words_[2], words_[-2]
        if self.gpt2 and module == "c_proj":
            return f"blk.{layer}.{'attn_output' if 'attn' in key else 'ffn_down'}.weight", value
        if self.cls == LLAMA and module in ("q_proj", "k_proj"):
            heads = value.reshape(-1, 2, self.hd // 2, value.shape[1])
            value = heads.transpose(0, 2, 1, 3).reshape(value.shape)
        return f"blk.{layer}.{names[module]}.weight", value

    def wanted(self):
        return dict(self.place(key) for key in self.exact)


# ---- comparing ---------------------------------------------------------------------------------

def q8_0(x):
    b = x.reshape(-1, 32).astype(np.float32)
    d = (np.abs(b).max(1) / np.float32(127)).astype(np.float32)
    inv = np.where(d > 0, np.float32(1) / np.where(d > 0, d, 1), 0).astype(np.float32)
    v = (b * inv[:, None]).astype(np.float32)
    q = np.sign(v) * np.floor(np.abs(v) + np.float32(0.5))
    return (q * d.astype(np.float16).astype(np.float32)[:, None]).reshape(x.shape)


def loss(y, x):
    x = x.astype(np.float64)
    return float(((y.astype(np.float64) - x) ** 2).sum() / (x ** 2).sum())


def reported(folder, out, kind):
    got = json.loads(convert.ingot("convert", folder, out, "--type", kind, "--json", "--threads", "2"))["loss"]
    return {t["name"]: t["relative_squared_error"] for t in got["tensors"]}


def check_loss(folder, out, kind, round_, wanted):
    said, worst = reported(folder, out, kind), 0.0
    for name, x in wanted.items():
        want = loss(round_(x), x)
        if abs(said[name] - want) > 1e-5 * want:
            raise RuntimeError(f"{kind}: {name} lost {said[name]}, numpy finds {want}")
        worst = max(worst, want)
    return worst


def check(name, tmp):
    m = Packed(name)
    folder, gguf = os.path.join(tmp, name), os.path.join(tmp, "m.gguf")
    m.write(folder)
    wanted = m.wanted()
    convert.ingot("convert", folder, gguf, "--type", "f32", "--quiet")
    f = gguf_diff.File(gguf)
    for key, x in wanted.items():
        if f.bytes_of(key.encode()) != x.astype("<f4").tobytes():
            got = np.frombuffer(f.bytes_of(key.encode()), "<f4").reshape(x.shape)
            raise RuntimeError(f"{key}: {int((got != x).sum())} of {x.size} values differ")
    convert.ingot("convert", folder, gguf, "--quiet")
    f = gguf_diff.File(gguf)
    for key, x in wanted.items():
        if f.bytes_of(key.encode()) != x.astype("<f2").tobytes():
            raise RuntimeError(f"{key}: f16 is not what numpy rounds to")
    text = os.path.join(tmp, "text")
    with open(text, "w", encoding="ascii") as g:
        g.write("".join(m.rng.choice([t for t in make_hf.LETTERS if t != "Ġ"], 40)))
    with open(text, encoding="ascii") as g:
        ids = [make_hf.BOS, *map(int, convert.ingot("tokenizer", "encode", gguf, g.read()).split())]
    far = convert.apart(convert.logprobs(folder, "f32", text, len(ids), tmp), ids, convert.reference(m, ids))
    halves = check_loss(folder, gguf, "f16", lambda x: x.astype(np.float16), wanted)
    q8 = 0.0
    if all(x.shape[1] % 32 == 0 for x in wanted.values()):
        q8 = check_loss(folder, gguf, "q8_0", q8_0, wanted)
    good = far < LIMIT and len(wanted) > 0
    print(f"{name:14s} {'ok' if good else 'DIFFERENT':9s} {len(wanted):3d} {far:8.1e} {halves:8.1e} {q8:8.1e}", flush=True)
    return good


def write_fixture(name, out):
    m = Packed(name)
    m.write(os.path.join(out, name))
    os.remove(os.path.join(out, name, "generation_config.json"))
    with open(os.path.join(out, name + ".sha256.txt"), "w", encoding="ascii") as f:
        for key, x in sorted(m.wanted().items()):
            f.write(f"{key} {hashlib.sha256(x.astype('<f4').tobytes()).hexdigest()}\n")


def main():
    if sys.argv[1:2] == ["--write"]:
        for name in FIXTURES:
            write_fixture(name, sys.argv[2])
        return 0
    good = True
    for name in sys.argv[1:] or MODELS:
        with tempfile.TemporaryDirectory() as tmp:
            try:
                good &= check(name, tmp)
            except (RuntimeError, subprocess.TimeoutExpired) as e:
                print(f"{name:14s} FAILED  {e}")
                good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
