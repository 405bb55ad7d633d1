# SPDX-License-Identifier: Apache-2.0
"""GGUF v3 files of F32 tensors, written and read: what the golden fixtures need and no more.

  "GGUF" u32 version=3  u64 n_tensors  u64 n_kv
  n_kv times:      string key, u32 type, value
  n_tensors times: string name, u32 n_dims, u64 dims[n_dims] (fastest first), u32 type, u64 offset
  zeros to the next multiple of 32, then the tensors, each padded to 32; offsets count from here

string = u64 length + bytes; all little endian. A numpy shape (rows, cols) is dims [cols, rows].
"""
import struct

import numpy as np

ALIGN = 32
U32, F32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9    # metadata types in use
SCALARS = {U32: "<I", F32: "<f", BOOL: "<?"}
TENSOR_F32 = 0


def _string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value):
    """Type and bytes: bool, int (as u32), float (as f32), str, or a list of one of these."""
    if isinstance(value, list):
        items = [_value(x) for x in value]
        return struct.pack("<I", ARRAY) + items[0][:4] + struct.pack("<Q", len(items)) + b"".join(
            x[4:] for x in items)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    kind = BOOL if isinstance(value, bool) else U32 if isinstance(value, int) else F32
    return struct.pack("<I", kind) + struct.pack(SCALARS[kind], value)


def _pad(n):
    return b"\0" * (-n % ALIGN)


def write(path, meta, tensors):
    """meta: {key: bool|int|float|str|list}; tensors: {name: array}, stored as F32 in this order."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(meta))
    for key, value in meta.items():
        head += _string(key) + _value(value)
    body = b""
    for name, array in tensors.items():
        head += _string(name) + struct.pack("<I", array.ndim)
        head += struct.pack(f"<{array.ndim}Q", *reversed(array.shape))
        head += struct.pack("<IQ", TENSOR_F32, len(body))
        data = np.ascontiguousarray(array, dtype="<f4").tobytes()
        body += data + _pad(len(data))
    with open(path, "wb") as f:
        f.write(head + _pad(len(head)) + body)


class _Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, fmt):
        values = struct.unpack_from(fmt, self.data, self.at)
        self.at += struct.calcsize(fmt)
        return values if len(values) > 1 else values[0]

    def string(self):
        n = self.take("<Q")
        self.at += n
        return self.data[self.at - n:self.at].decode()


def read(path):
    """(meta, {name: float64 array}) of a file whose metadata are of types that `write` knows."""
    with open(path, "rb") as f:
        r = _Reader(f.read())
    magic, version, n_tensors, n_kv = r.take("<4sIQQ")
    if (magic, version) != (b"GGUF", 3):
        raise ValueError(f"{path}: not a GGUF v3 file")
    meta, infos = {}, []
    for _ in range(n_kv):
        key, kind = r.string(), r.take("<I")
        if kind == ARRAY:
            elem, n = r.take("<IQ")
            meta[key] = [r.string() if elem == STRING else r.take(SCALARS.get(elem, "<i")) for _ in range(n)]
        else:
            meta[key] = r.string() if kind == STRING else r.take(SCALARS[kind])
    for _ in range(n_tensors):
        name, n_dims = r.string(), r.take("<I")
        shape = [r.take("<Q") for _ in range(n_dims)][::-1]
        kind, offset = r.take("<IQ")
        if kind != TENSOR_F32:
            raise ValueError(f"{path}: {name}: type {kind}, only F32 is read")
        infos.append((name, shape, offset))
    start = r.at + len(_pad(r.at))
    return meta, {name: np.frombuffer(r.data, "<f4", int(np.prod(shape)), start + offset)
                        .reshape(shape).astype(np.float64) for name, shape, offset in infos}
