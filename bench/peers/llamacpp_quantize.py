#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""llama.cpp's quantizers, called in the shared objects of the npm package node-llama-cpp: what a
byte-exact quantizer is compared with. Python's standard library only; README.md: how to install.

  export NODE_PATH=DIR/node_modules
  llamacpp_quantize.py file IN.gguf OUT.gguf q4_K_M [--pure] [--allow-requantize]
                       [--leave-output-tensor] [--threads N]
  llamacpp_quantize.py rows IN.f32 OUT.bin q4_K --cols 256 [--weights W.f32]

`rows` reads raw little-endian float32 rows of --cols values and writes blocks; --weights holds the
importance of each column, and without it the quantizer takes its plain path.
"""
import argparse
import ctypes
import glob
import os
import platform
import sys

FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_K": 10,
              "q3_K_S": 11, "q3_K_M": 12, "q3_K_L": 13, "q4_K_S": 14, "q4_K_M": 15, "q5_K_S": 16,
              "q5_K_M": 17, "q6_K": 18, "bf16": 32}
ROW_TYPES = {"f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q2_K": 10,
             "q3_K": 11, "q4_K": 12, "q5_K": 13, "q6_K": 14, "bf16": 30}


class QuantizeParams(ctypes.Structure):
    """The head of llama_model_quantize_params; `rest` leaves room for what releases append."""
    _fields_ = [("nthread", ctypes.c_int32), ("ftype", ctypes.c_int32),
                ("output_tensor_type", ctypes.c_int32), ("token_embedding_type", ctypes.c_int32),
                ("allow_requantize", ctypes.c_bool), ("quantize_output_tensor", ctypes.c_bool),
                ("only_copy", ctypes.c_bool), ("pure", ctypes.c_bool),
                ("keep_split", ctypes.c_bool), ("dry_run", ctypes.c_bool),
                ("rest", ctypes.c_uint64 * 32)]


def folder():
    if "NODE_PATH" not in os.environ:
        sys.exit("set NODE_PATH to the node_modules that holds @node-llama-cpp, see README.md")
    name = {"x86_64": "linux-x64", "aarch64": "linux-arm64"}[platform.machine()]
    return os.path.join(os.environ["NODE_PATH"], "@node-llama-cpp", name, "bins", name)


def load(pattern):
    found = sorted(glob.glob(os.path.join(folder(), pattern)))
    if not found:
        sys.exit(f"{folder()}: no {pattern}")
    return ctypes.CDLL(found[0], ctypes.RTLD_GLOBAL)


def quantize_file(a):
    load("libggml-base.so")
    load("libggml.v*.so")
    llama = load("libllama.v*.so")
    llama.llama_backend_init()
    params = QuantizeParams()
    # A struct this large is returned through a hidden pointer to it, the first argument.
    llama.llama_model_quantize_default_params.restype = None
    llama.llama_model_quantize_default_params(ctypes.byref(params))
    if not params.quantize_output_tensor or params.pure:
        sys.exit("this release lays out llama_model_quantize_params in another way")
    params.nthread, params.ftype = a.threads, FILE_TYPES[a.type]
    params.pure, params.allow_requantize = a.pure, a.allow_requantize
    params.quantize_output_tensor = not a.leave_output_tensor
    llama.llama_model_quantize.restype = ctypes.c_uint32
    return llama.llama_model_quantize(a.src.encode(), a.dst.encode(), ctypes.byref(params))


def quantize_rows(a):
    base = load("libggml-base.so")
    kind = ROW_TYPES[a.type]
    size_t, i64, ptr = ctypes.c_size_t, ctypes.c_int64, ctypes.c_char_p
    base.ggml_row_size.restype, base.ggml_row_size.argtypes = size_t, [ctypes.c_int, i64]
    base.ggml_blck_size.restype, base.ggml_blck_size.argtypes = i64, [ctypes.c_int]
    base.ggml_quantize_chunk.restype = size_t
    base.ggml_quantize_chunk.argtypes = [ctypes.c_int, ptr, ctypes.c_void_p, i64, i64, i64, ptr]
    with open(a.src, "rb") as f:
        data = f.read()
    rows, rest = divmod(len(data), 4 * a.cols)
    if rest or a.cols % base.ggml_blck_size(kind):
        sys.exit(f"{a.src}: {len(data)} bytes are no rows of {a.cols}, or blocks do not fit")
    weights = None
    if a.weights:
        with open(a.weights, "rb") as f:
            weights = f.read()
        if len(weights) != 4 * a.cols:
            sys.exit(f"{a.weights}: {len(weights)} bytes, want {4 * a.cols}")
    out = ctypes.create_string_buffer(rows * base.ggml_row_size(kind, a.cols))
    done = base.ggml_quantize_chunk(kind, data, out, 0, rows, a.cols, weights)
    if done != len(out):
        sys.exit(f"wrote {done} bytes, expected {len(out)}")
    with open(a.dst, "wb") as f:
        f.write(out.raw)
    return 0


def main():
    ap = argparse.ArgumentParser(description="Quantize with llama.cpp's own code.")
    verbs = ap.add_subparsers(required=True)
    file = verbs.add_parser("file", help="a whole GGUF file")
    rows = verbs.add_parser("rows", help="raw float32 rows")
    for p, types, run in ((file, FILE_TYPES, quantize_file), (rows, ROW_TYPES, quantize_rows)):
        p.add_argument("src")
        p.add_argument("dst")
        p.add_argument("type", choices=types)
        p.set_defaults(run=run)
    file.add_argument("--pure", action="store_true", help="one type for every matrix")
    file.add_argument("--allow-requantize", action="store_true")
    file.add_argument("--leave-output-tensor", action="store_true")
    file.add_argument("--threads", type=int, default=os.cpu_count())
    rows.add_argument("--cols", type=int, required=True)
    rows.add_argument("--weights", help="float32 importance of each column")
    a = ap.parse_args()
    return a.run(a)


if __name__ == "__main__":
    sys.exit(main())
