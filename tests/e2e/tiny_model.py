#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tiny_model.py OUT.gguf [CONTEXT]   a tiny llama with random weights, for end-to-end tests

Two layers, width 32, byte-level vocabulary: 256 bytes and <|endoftext|>. The weights come from a fixed
seed, large enough that its next tokens are far from ties. Needs nothing but Python.
"""
import array
import random
import struct
import sys

L, C, NH, NKV, HD, FF = 2, 32, 4, 2, 8, 64
END = "<|endoftext|>"
U32, F32, BOOL, STR, ARR, I32 = 4, 6, 7, 8, 9, 5


def byte_alphabet():
    """The printable stand-in of each byte in GPT-2 vocabularies."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = (b for b in range(256) if b not in plain)
    table = {b: chr(b) for b in plain}
    table.update({b: chr(256 + i) for i, b in enumerate(rest)})
    return [table[b] for b in range(256)]


def string(s):
    data = s.encode()
    return struct.pack("<Q", len(data)) + data


def scalar(kind, value):
    if kind == STR:
        return string(value)
    return struct.pack({U32: "<I", F32: "<f", BOOL: "<?", I32: "<i"}[kind], value)


def entry(key, kind, value):
    if isinstance(value, list):
        body = b"".join(scalar(kind, v) for v in value)
        return string(key) + struct.pack("<IIQ", ARR, kind, len(value)) + body
    return string(key) + struct.pack("<I", kind) + scalar(kind, value)


def metadata(context):
    tokens = byte_alphabet() + [END]
    yield entry("general.architecture", STR, "llama")
    yield entry("general.name", STR, "tiny")
    for key, value in [("block_count", L), ("context_length", context), ("embedding_length", C),
                       ("feed_forward_length", FF), ("attention.head_count", NH),
                       ("attention.head_count_kv", NKV), ("rope.dimension_count", HD),
                       ("vocab_size", len(tokens))]:
        yield entry("llama." + key, U32, value)
    yield entry("llama.attention.layer_norm_rms_epsilon", F32, 1e-5)
    yield entry("llama.rope.freq_base", F32, 10000.0)
    yield entry("tokenizer.ggml.model", STR, "gpt2")
    yield entry("tokenizer.ggml.pre", STR, "gpt-2")
    yield entry("tokenizer.ggml.tokens", STR, tokens)
    yield entry("tokenizer.ggml.token_type", I32, [1] * 256 + [3])
    yield entry("tokenizer.ggml.merges", STR, [])
    yield entry("tokenizer.ggml.bos_token_id", U32, 256)
    yield entry("tokenizer.ggml.eos_token_id", U32, 256)
    yield entry("tokenizer.ggml.add_bos_token", BOOL, False)


def tensors():
    """Name and dimensions, fastest first; one dimension is a norm."""
    yield "token_embd.weight", (C, 257)
    for i in range(L):
        for name, dims in [("attn_norm", (C,)), ("attn_q", (C, NH * HD)), ("attn_k", (C, NKV * HD)),
                           ("attn_v", (C, NKV * HD)), ("attn_output", (NH * HD, C)), ("ffn_norm", (C,)),
                           ("ffn_gate", (C, FF)), ("ffn_up", (C, FF)), ("ffn_down", (FF, C))]:
            yield f"blk.{i}.{name}.weight", dims
    yield "output_norm.weight", (C,)
    yield "output.weight", (C, 257)


def values(name, dims):
    rng = random.Random(name)
    if len(dims) == 1:
        return array.array("f", [1.0] * dims[0])
    a = array.array("f", [rng.gauss(0, 0.4) for _ in range(dims[0] * dims[1])])
    if name == "output.weight":
        a[C * 256:] = array.array("f", [0.0] * C)  # the end of text is never the likeliest
    return a


def main():
    path = sys.argv[1]
    context = int(sys.argv[2]) if len(sys.argv) > 2 else 8192
    meta = list(metadata(context))
    infos, data = b"", b""
    shapes = list(tensors())
    for name, dims in shapes:
        infos += string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, 0, len(data))
        data += values(name, dims).tobytes()
        data += bytes(-len(data) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(meta)) + b"".join(meta) + infos
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % 32) + data)


if __name__ == "__main__":
    main()
