#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""llama.cpp's quantizers, called in the shared objects of the npm package node-llama-cpp: what a
byte-exact quantizer is compared with. Python's standard library only; README.md: how to install.

  export NODE_PATH=DIR/node_modules
  llamacpp_quantize.py file IN.gguf OUT.gguf q4_K_M [--pure] [--allow-requantize]
                       [--leave-output-tensor] [--imatrix M.gguf] [--tensor-type PATTERN=TYPE]...
                       [--output-tensor-type T] [--token-embedding-type T] [--threads N]
  llamacpp_quantize.py rows IN.f32 OUT.bin q4_K --cols 256 [--weights W.f32]

`rows` reads raw little-endian float32 rows of --cols values and writes blocks; --weights holds the
importance of each column, and without it the quantizer takes its plain path.
"""
import argparse
import ctypes
import glob
import os
import platform
import struct
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
                ("imatrix", ctypes.c_void_p), ("kv_overrides", ctypes.c_void_p),
                ("tensor_types", ctypes.c_void_p), ("prune_layers", ctypes.c_void_p),
                ("rest", ctypes.c_uint64 * 32)]


class Importance(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("data", ctypes.POINTER(ctypes.c_float)),
                ("size", ctypes.c_size_t)]


class TensorType(ctypes.Structure):
    _fields_ = [("pattern", ctypes.c_char_p), ("type", ctypes.c_int32)]


class KvOverride(ctypes.Structure):
    """Strings and integers share the bytes of `value`."""
    _fields_ = [("tag", ctypes.c_int32), ("key", ctypes.c_char * 128), ("value", ctypes.c_uint64 * 16)]


KV_INT, KV_STR = 0, 3


class Gguf:
    """Metadata and f32 tensors of a small file."""
    SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q",
               11: "<q", 12: "<d"}

    def __init__(self, path):
        with open(path, "rb") as f:
            self.b = f.read()
        self.p = 24
        n_tensors, n_kv = struct.unpack_from("<QQ", self.b, 8)
        self.kv = {}
        for _ in range(n_kv):
            key, kind = self.string(), self.number("<I")
            self.kv[key] = self.value(kind)
        infos = []
        for _ in range(n_tensors):
            name, n_dims = self.string(), self.number("<I")
            ne = [self.number("<Q") for _ in range(n_dims)]
            infos.append((name, ne, self.number("<I"), self.number("<Q")))
        base = -(-self.p // 32) * 32
        self.tensors = {}
        for name, ne, _, at in infos:
            n = 1
            for x in ne:
                n *= x
            self.tensors[name] = (ne, (ctypes.c_float * n).from_buffer_copy(self.b, base + at))

    def number(self, fmt):
        v = struct.unpack_from(fmt, self.b, self.p)[0]
        self.p += struct.calcsize(fmt)
        return v

    def string(self):
        n = self.number("<Q")
        self.p += n
        return self.b[self.p - n:self.p]

    def value(self, kind):
        if kind == 8:
            return self.string()
        if kind == 9:
            of, n = self.number("<I"), self.number("<Q")
            return [self.value(of) for _ in range(n)]
        return self.number(self.SCALARS[kind])


def add_importance(params, path, keep):
    """Means from a file's sums and counts, and the metadata that llama.cpp's program adds."""
    g, entries = Gguf(path), []
    for name, (ne, sums) in g.tensors.items():
        if not name.endswith(b".in_sum2"):
            continue
        base = name[:-len(b".in_sum2")]
        counts = g.tensors[base + b".counts"][1]
        for i in range(len(sums)):
            c = counts[i // ne[0]]
            sums[i] = ctypes.c_float(sums[i] / c).value if c > 0 else 1.0
        entries.append(Importance(base, sums, len(sums)))
        keep.append(sums)
    table = (Importance * (len(entries) + 1))(*entries)
    facts = [(b"file", KV_STR, path.encode()), (b"dataset", KV_STR, g.kv[b"imatrix.datasets"][0]),
             (b"entries_count", KV_INT, len(entries)), (b"chunks_count", KV_INT, g.kv[b"imatrix.chunk_count"])]
    over = (KvOverride * (len(facts) + 1))()
    for o, (key, tag, v) in zip(over, facts):
        o.tag, o.key = tag, b"quantize.imatrix." + key
        raw = v[:127] if tag == KV_STR else struct.pack("<q", v)
        ctypes.memmove(o.value, raw + bytes(128 - len(raw)), 128)
    keep += [table, over]
    params.imatrix, params.kv_overrides = ctypes.addressof(table), ctypes.addressof(over)


def add_tensor_types(params, words, keep):
    rows = [w.rsplit("=", 1) for w in words]
    table = (TensorType * (len(rows) + 1))(*[TensorType(p.lower().encode(), ROW_TYPES[t]) for p, t in rows])
    keep.append(table)
    params.tensor_types = ctypes.addressof(table)


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
    keep = []  # what params points to
    if a.output_tensor_type:
        params.output_tensor_type = ROW_TYPES[a.output_tensor_type]
    if a.token_embedding_type:
        params.token_embedding_type = ROW_TYPES[a.token_embedding_type]
    if a.imatrix:
        add_importance(params, a.imatrix, keep)
    if a.tensor_type:
        add_tensor_types(params, a.tensor_type, keep)
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
    file.add_argument("--imatrix", help="a GGUF file of sums and counts")
    file.add_argument("--tensor-type", action="append", metavar="PATTERN=TYPE")
    file.add_argument("--output-tensor-type", choices=ROW_TYPES)
    file.add_argument("--token-embedding-type", choices=ROW_TYPES)
    file.add_argument("--threads", type=int, default=os.cpu_count())
    rows.add_argument("--cols", type=int, required=True)
    rows.add_argument("--weights", help="float32 importance of each column")
    a = ap.parse_args()
    return a.run(a)


if __name__ == "__main__":
    sys.exit(main())
