#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""make_folder.py OUT DTYPE [LAYERS]     a folder of the shape of a 0.5B qwen2 model, random weights (numpy)

DTYPE is F32, F16, BF16 or AWQ (groups of 128). The tokenizer is that of tests/peers/make_hf.py, padded by the converter. For speed alone."""
import json
import os
import struct
import sys

import numpy as np

sys.dont_write_bytecode = True
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "peers"))
import make_hf  # noqa: E402

C, FF, NH, NKV, V = 896, 4864, 14, 2, 151936
HD = C // NH


def shapes(layers):
    yield "model.embed_tokens.weight", (V, C)
    for i in range(layers):
        p = f"model.layers.{i}."
        for name, rows, cols in (("q_proj", C, C), ("k_proj", NKV * HD, C), ("v_proj", NKV * HD, C)):
            yield f"{p}self_attn.{name}.weight", (rows, cols)
            yield f"{p}self_attn.{name}.bias", (rows,)
        yield p + "self_attn.o_proj.weight", (C, C)
        yield p + "mlp.gate_proj.weight", (FF, C)
        yield p + "mlp.up_proj.weight", (FF, C)
        yield p + "mlp.down_proj.weight", (C, FF)
        yield p + "input_layernorm.weight", (C,)
        yield p + "post_attention_layernorm.weight", (C,)
    yield "model.norm.weight", (C,)


def tensors(layers, dtype):
    """name, type, shape"""
    for name, shape in shapes(layers):
        if dtype != "AWQ" or len(shape) == 1 or "embed" in name:
            yield name, "F16" if dtype == "AWQ" else dtype, shape
            continue
        (rows, cols), base = shape, name[:-len("weight")]
        yield base + "qweight", "I32", (cols, rows // 8)
        yield base + "qzeros", "I32", (cols // 128, rows // 8)
        yield base + "scales", "F16", (cols // 128, rows)


def main():
    out, dtype = sys.argv[1], sys.argv[2]
    layers = int(sys.argv[3]) if len(sys.argv) > 3 else 24
    rng = np.random.default_rng(1)
    noise = {t: make_hf.encode(t, rng.standard_normal(1 << 22) * 0.02) for t in ("F32", "F16", "BF16")}
    noise["I32"] = rng.bytes(1 << 24)
    os.makedirs(out, exist_ok=True)
    packed = {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"}}
    make_hf.dump(out, "config.json", {
        **(packed if dtype == "AWQ" else {}),
        "architectures": ["Qwen2ForCausalLM"], "vocab_size": V, "hidden_size": C, "intermediate_size": FF,
        "num_attention_heads": NH, "num_key_value_heads": NKV, "num_hidden_layers": layers, "hidden_act": "silu",
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": True,
        "bos_token_id": make_hf.BOS, "eos_token_id": make_hf.EOS})
    make_hf.write_tokenizer(out, None)
    head, at = {}, 0
    for name, kind, shape in tensors(layers, dtype):
        n = int(np.prod(shape)) * len(make_hf.encode(kind, np.zeros(1)))
        head[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(out, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for entry in head.values():
            begin, end = entry["data_offsets"]
            while begin < end:
                begin += f.write(noise[entry["dtype"]][:end - begin])
    print(at)


if __name__ == "__main__":
    sys.exit(main())
