#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gguf_diff.py A.gguf B.gguf   where two GGUF files differ, one line per finding; exit 1 if anywhere.

Metadata entries and their order, tensor names and their order, shapes, types and bytes. Python's standard
library only, and none of the code under test."""
import struct
import sys

TYPES = {0: ("f32", 1, 4), 1: ("f16", 1, 2), 2: ("q4_0", 32, 18), 3: ("q4_1", 32, 20), 6: ("q5_0", 32, 22),
         7: ("q5_1", 32, 24), 8: ("q8_0", 32, 34), 12: ("q4_K", 256, 144), 13: ("q5_K", 256, 176),
         14: ("q6_K", 256, 210), 30: ("bf16", 1, 2)}
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<4s", 7: "<B", 10: "<Q", 11: "<q", 12: "<8s"}


class File:
    def __init__(self, path):
        with open(path, "rb") as f:
            self.b = f.read()
        self.p = 24
        n_tensors, n_kv = struct.unpack_from("<QQ", self.b, 8)
        self.kv = {}
        for _ in range(n_kv):
            key, kind = self.string(), self.number("<I")
            self.kv[key] = (kind, self.value(kind))
        self.tensors = {}
        for _ in range(n_tensors):
            name, n_dims = self.string(), self.number("<I")
            ne = tuple(self.number("<Q") for _ in range(n_dims))
            self.tensors[name] = (ne, self.number("<I"), self.number("<Q"))
        align = self.kv.get(b"general.alignment", (4, 32))[1]
        self.data = -(-self.p // align) * align

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
            return of, [self.value(of) for _ in range(n)]
        return self.number(SCALARS[kind])

    def bytes_of(self, name):
        ne, kind, offset = self.tensors[name]
        n = 1
        for x in ne:
            n *= x
        _, block, size = TYPES[kind]
        return self.b[self.data + offset:self.data + offset + n // block * size]


def differences(a, b):
    for key in {**a.kv, **b.kv}:
        if a.kv.get(key) != b.kv.get(key):
            yield f"metadata {key.decode()}"
    if list(a.kv) != list(b.kv):
        yield "order of metadata"
    if list(a.tensors) != list(b.tensors):
        yield "names or order of tensors"
    for name in a.tensors.keys() & b.tensors.keys():
        (ne_a, type_a, _), (ne_b, type_b, _) = a.tensors[name], b.tensors[name]
        if ne_a != ne_b or type_a != type_b:
            yield f"tensor {name.decode()}: {ne_a} {TYPES[type_a][0]} against {ne_b} {TYPES[type_b][0]}"
        elif a.bytes_of(name) != b.bytes_of(name):
            yield f"tensor {name.decode()}: bytes"


def main():
    found = list(differences(File(sys.argv[1]), File(sys.argv[2])))
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
