#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""make_folder.py OUT DTYPE [LAYERS]     a folder of the shape of a 0.5B qwen2 model, random weights (numpy)

DTYPE is F32, F16 or BF16. The tokenizer is that of tests/peers/make_hf.py, padded by the converter. For speed alone."""
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


def main():
    out, dtype = sys.argv[1], sys.argv[2]
    layers = int(sys.argv[3]) if len(sys.argv) > 3 else 24
    size = make_hf.encode(dtype, np.zeros(1)).__len__()
    os.makedirs(out, exist_ok=True)
    make_hf.dump(out, "config.json", {
        "architectures": ["Qwen2ForCausalLM"], "vocab_size": V, "hidden_size": C, "intermediate_size": FF,
        "num_attention_heads": NH, "num_key_value_heads": NKV, "num_hidden_layers": layers, "hidden_act": "silu",
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": True,
        "bos_token_id": make_hf.BOS, "eos_token_id": make_hf.EOS})
    make_hf.write_tokenizer(out, None)
    head, at = {}, 0
    for name, shape in shapes(layers):
        n = int(np.prod(shape)) * size
        head[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(1)
    noise = make_hf.encode(dtype, rng.standard_normal(1 << 22) * 0.02)
    with open(os.path.join(out, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, shape in shapes(layers):
            n = int(np.prod(shape)) * size
            while n > 0:
                f.write(noise[:n])
                n -= len(noise)
    print(at)


if __name__ == "__main__":
    sys.exit(main())
