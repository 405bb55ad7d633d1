#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/peers/dequant.py [BLOCKS]   quantized blocks to f32 beside llama.cpp's dequantize_row_*, bit by bit

INGOT_PEERS names the folder whose node_modules holds node-llama-cpp (bench/peers/README.md); without it
this is skipped. The library has to be built (build/gcc/libingot.a). For every type, at every level of the
processor: blocks of random bytes with ordinary scales, and blocks of random bytes alone, whose scales are of
every kind, infinite ones and NaN too. Of two NaN no bits are compared."""
import ctypes
import glob
import os
import random
import struct
import subprocess
import sys
import tempfile

# type: elements and bytes of a block, places of its f16 scales
TYPES = {"q8_0": (32, 34, [0]), "q4_0": (32, 18, [0]), "q4_1": (32, 20, [0, 2]), "q5_0": (32, 22, [0]),
         "q5_1": (32, 24, [0, 2]), "q4_K": (256, 144, [0, 2]), "q5_K": (256, 176, [0, 2]),
         "q6_K": (256, 210, [208])}


def random_blocks(kind, n, wild):
    _, size, halves = TYPES[kind]
    data = bytearray(random.randbytes(n * size))
    for start in range(0, 0 if wild else len(data), size):
        for at in halves:
            struct.pack_into("<e", data, start + at, random.choice([-1, 1]) * 10 ** random.uniform(-7.3, 4.5))
    return bytes(data)


def peer(lib, kind, data):
    n = len(data) // TYPES[kind][1] * TYPES[kind][0]
    out = (ctypes.c_float * n)()
    row = getattr(lib, "dequantize_row_" + kind)
    row.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64]
    row.restype = None
    row(data, out, n)
    return bytes(out)


def differences(got, want):
    nan = 0x7f800000
    pairs = zip(struct.unpack(f"<{len(got) // 4}I", got), struct.unpack(f"<{len(want) // 4}I", want))
    return [i for i, (g, w) in enumerate(pairs)
            if g != w and not (g & 0x7fffffff > nan and w & 0x7fffffff > nan)]


def main():
    if "INGOT_PEERS" not in os.environ:
        print("INGOT_PEERS is not set")
        return 77
    base = os.path.join(os.environ["INGOT_PEERS"], "node_modules/@node-llama-cpp/*/bins/*/libggml-base.so")
    lib = ctypes.CDLL(glob.glob(base)[0])
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
    n_block = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    random.seed(1)
    failed = 0
    with tempfile.TemporaryDirectory() as tmp:
        program = os.path.join(tmp, "dequant")
        subprocess.run(["cc", "-std=c11", "-O1", "-D_GNU_SOURCE", "-I" + root + "/src", "-o", program,
                        root + "/tests/peers/dequant.c", root + "/build/gcc/libingot.a", "-lm", "-lpthread"],
                       check=True)
        for kind in TYPES:
            for wild in (False, True):
                data = random_blocks(kind, n_block, wild)
                want = peer(lib, kind, data)
                for level in ("ref", "avx2", "avx512"):
                    done = subprocess.run([program, level, kind], input=data, capture_output=True)
                    if done.returncode != 0:
                        print("SKIP", level, done.stderr.decode().strip())
                        continue
                    bad = differences(done.stdout, want) if len(done.stdout) == len(want) else ["length"]
                    failed += bool(bad)
                    print("DIFFERENT" if bad else "same     ", kind, level, "any bytes" if wild else "ordinary",
                          f"{len(want) // 4} elements", bad[:5] if bad else "")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
