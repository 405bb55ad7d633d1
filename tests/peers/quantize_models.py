#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""quantize_models.py FOLDER   small GGUF files that meet every rule of which tensor gets which type

Random weights in the tensors a model of its architecture has, at widths far below real ones: heads tied and
not, fused attn_qkv, rows that are no multiple of 256, 32 and 80 layers, experts, and every name that is left
as it is. Beside each goes NAME.imatrix.gguf with random importance. Python's standard library only."""
import array
import os
import random
import struct
import sys

U32, F32, STR, ARR = 4, 6, 8, 9


def s(b):
    b = b.encode()
    return struct.pack("<Q", len(b)) + b


def kv(key, kind, v):
    head = s(key) + struct.pack("<I", kind)
    if kind == STR:
        return head + s(v)
    if kind == ARR:
        return head + struct.pack("<IQ", STR, len(v)) + b"".join(map(s, v))
    return head + struct.pack({U32: "<I", F32: "<f"}[kind], v)


def write(path, kvs, tensors):
    """tensors: (name, shape innermost first, bytes of f32)"""
    infos, data, at = b"", [], 0
    for name, ne, raw in tensors:
        infos += s(name) + struct.pack("<I", len(ne)) + struct.pack(f"<{len(ne)}Q", *ne)
        infos += struct.pack("<IQ", 0, at)
        data.append(raw + bytes(-len(raw) % 32))
        at += len(data[-1])
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(kvs)) + b"".join(kvs) + infos
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % 32) + b"".join(data))


def count(ne):
    n = 1
    for x in ne:
        n *= x
    return n


POOL = 1 << 17


def make_pool():
    """Sums of two bytes, some far outliers."""
    b = random.Random(1).randbytes(2 * POOL)
    v = array.array("f", ((b[2 * i] + b[2 * i + 1] - 255) * 2e-4 for i in range(POOL)))
    for i in range(0, POOL, 4099):
        v[i] *= 12
    return v.tobytes() * 2


POOL_BYTES = make_pool()


def values(rng, n):
    """n of the pool's values, from a random place on."""
    out, left = [], n
    while left > 0:
        at, k = rng.randrange(POOL), min(left, POOL)
        out.append(POOL_BYTES[4 * at:4 * (at + k)])
        left -= k
    return b"".join(out)


def importance(rng, n):
    b = rng.randbytes(n)
    return array.array("f", (x * x / 100 for x in b)).tobytes()


def model(folder, name, arch, layers, width, ff, heads, kv_heads, vocab=96, tied=True, fused=False, experts=0,
          extra=(), slim=False):
    """slim: two rows a matrix; the rules look at names, counts and columns alone"""
    rng = random.Random(name)
    kvs = [kv("general.architecture", STR, arch), kv("general.name", STR, name), kv("general.file_type", U32, 0),
           kv(f"{arch}.block_count", U32, layers), kv(f"{arch}.context_length", U32, 128),
           kv(f"{arch}.embedding_length", U32, width), kv(f"{arch}.feed_forward_length", U32, ff),
           kv(f"{arch}.attention.head_count", U32, heads), kv(f"{arch}.attention.head_count_kv", U32, kv_heads)]
    if arch == "gpt2":
        kvs.append(kv("gpt2.attention.layer_norm_epsilon", F32, 1e-5))
    else:
        kvs += [kv(f"{arch}.attention.layer_norm_rms_epsilon", F32, 1e-5),
                kv(f"{arch}.rope.dimension_count", U32, width // heads), kv(f"{arch}.vocab_size", U32, vocab)]
    if experts:
        kvs += [kv(f"{arch}.expert_count", U32, experts), kv(f"{arch}.expert_used_count", U32, 2)]
    shapes = [("token_embd.weight", (width, vocab)), ("output_norm.weight", (width,))]
    if not tied:
        shapes.append(("output.weight", (width, vocab)))
    kv_width = width // heads * kv_heads
    for i in range(layers):
        b = f"blk.{i}."
        shapes += [(b + "attn_norm.weight", (width,)), (b + "ffn_norm.weight", (width,))]
        if fused:
            shapes += [(b + "attn_qkv.weight", (width, width + 2 * kv_width)), (b + "attn_qkv.bias", (3 * width,))]
        else:
            shapes += [(b + "attn_q.weight", (width, width)), (b + "attn_k.weight", (width, kv_width)),
                       (b + "attn_v.weight", (width, kv_width))]
        shapes.append((b + "attn_output.weight", (width, width)))
        if experts:
            shapes += [(b + "ffn_gate_inp.weight", (width, experts)), (b + "ffn_gate_exps.weight", (width, ff, experts)),
                       (b + "ffn_up_exps.weight", (width, ff, experts)),
                       (b + "ffn_down_exps.weight", (ff, width, experts))]
        else:
            shapes += [(b + "ffn_up.weight", (width, ff)), (b + "ffn_down.weight", (ff, width))]
            if not fused:
                shapes.append((b + "ffn_gate.weight", (width, ff)))
    shapes += [(n, (width, 4)) for n in extra]
    if slim:
        shapes = [(n, (ne[0], 2, *ne[2:])) if len(ne) > 1 else (n, ne) for n, ne in shapes]
    write(f"{folder}/{name}.gguf", kvs, [(n, ne, values(rng, count(ne))) for n, ne in shapes])
    sums = []
    for n, ne in shapes:
        if len(ne) < 2 or n == "token_embd.weight" or "norm" in n:
            continue
        mats = ne[2] if len(ne) > 2 else 1
        sums.append((n + ".in_sum2", (ne[0], mats), importance(rng, ne[0] * mats)))
        counts = array.array("f", ((0 if m == 1 else 100 + m) for m in range(mats)))
        sums.append((n + ".counts", (1, mats), counts.tobytes()))
    sums.sort()
    write(f"{folder}/{name}.imatrix.gguf",
          [kv("general.type", STR, "imatrix"), kv("imatrix.datasets", ARR, ["made up.txt"]),
           kv("imatrix.chunk_count", U32, 7), kv("imatrix.chunk_size", U32, 512)], sums)


NAMES = ["altup_proj", "blk.0.laurel_l", "per_layer_model_proj", "blk.0.ssm_conv1d", "blk.0.shortconv.conv",
         "blk.0.indexer.k_proj", "blk.0.indexer.q_proj", "blk.0.indexer.proj", "blk.0.time_mix_first",
         "blk.0.time_mix_w0", "blk.0.time_mix_w1", "blk.0.time_mix_w2", "blk.0.time_mix_v0", "blk.0.time_mix_a2",
         "blk.0.time_mix_g1", "blk.0.time_mix_decay_w1", "blk.0.time_mix_decay_w2", "blk.0.time_mix_lerp_fused",
         "blk.0.time_mix_key", "blk.0.attn_rel_b", "v.position_embd", "v.sam.pos_embd", "v.sam.neck.0", "v.sam.net_2",
         "v.rel_pos", "v.patch_embd", "v.patch_merger", "a.rvq.codebook", "mm.a.code_embd", "token_types",
         "position_embd", "blk.0.ffn_gate_tid2eid", "blk.0.attn_kv_b", "blk.0.attn_q_norm", "per_layer_token_embd",
         "blk.0.some_other", "blk.0.ffn_down_shexp", "blk.0.weightless"]


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    model(folder, "llama-tied", "llama", 4, 256, 512, 4, 2)
    model(folder, "llama-untied", "llama", 4, 256, 512, 4, 4, tied=False)
    model(folder, "llama-32", "llama", 32, 256, 256, 4, 2, vocab=32, tied=False, slim=True)
    model(folder, "llama-80-grouped", "llama", 80, 256, 256, 8, 1, vocab=32, tied=False, slim=True)
    model(folder, "llama-80", "llama", 80, 256, 256, 8, 8, vocab=32, tied=False, slim=True)
    model(folder, "qwen2-80", "qwen2", 80, 256, 256, 4, 2, vocab=32, tied=False, slim=True)
    model(folder, "qwen2-896", "qwen2", 9, 896, 256, 14, 2)
    model(folder, "qwen2-odd", "qwen2", 3, 160, 320, 4, 2, tied=False)
    model(folder, "gpt2", "gpt2", 12, 256, 256, 4, 4, fused=True)
    model(folder, "experts-8", "llama", 3, 256, 256, 4, 2, experts=8, tied=False)
    model(folder, "experts-4", "llama", 3, 256, 256, 4, 2, experts=4)
    model(folder, "names", "llama", 1, 256, 256, 4, 2, extra=[n + ".weight" for n in NAMES] + ["blk.0.no_suffix"])


main()
