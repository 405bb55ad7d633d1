#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tiny_lora.py OUT.gguf [SEED [RANK]]     a random LoRA adapter for tiny_model.py's model; needs nothing but Python"""
import array
import random
import struct
import sys

import tiny_model as tiny


def half(seed, name, cols, rows, size):
    rng = random.Random(f"{seed} {name}")
    return name, (cols, rows), array.array("f", [rng.gauss(0, size) for _ in range(cols * rows)]).tobytes()


def main():
    path, seed = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "1"
    rank = int(sys.argv[3]) if len(sys.argv) > 3 else 4
    meta = [tiny.entry("general.architecture", tiny.STR, "llama"), tiny.entry("general.type", tiny.STR, "adapter"),
            tiny.entry("adapter.type", tiny.STR, "lora"), tiny.entry("adapter.lora.alpha", tiny.F32, 2.0 * rank)]
    parts = []
    for name, dims in tiny.tensors():
        if len(dims) == 2 and name not in ("token_embd.weight", "output.weight"):
            parts.append(half(seed, name + ".lora_a", dims[0], rank, 0.2))
            parts.append(half(seed, name + ".lora_b", rank, dims[1], 0.2))
    infos, data = b"", b""
    for name, dims, values in parts:
        infos += tiny.string(name) + struct.pack("<I2QIQ", 2, *dims, 0, len(data))
        data += values + bytes(-len(values) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(parts), len(meta)) + b"".join(meta) + infos
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % 32) + data)


if __name__ == "__main__":
    main()
