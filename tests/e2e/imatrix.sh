#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot imatrix: a file, that quantize takes, that does not depend on threads; refusals.
source "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip "no python3"
python3 "$E2E/tiny_model.py" model.gguf 512 || fail "no model"
head -c 4000 "$E2E/lib.sh" >text.txt

expect_ok "$INGOT" imatrix --help
expect_ok "$INGOT" imatrix model.gguf -f text.txt -c 64 --threads 1
out_has '^imatrix.gguf: importance of [0-9]+ matrices from [0-9]+ windows of 64 tokens'
expect_ok "$INGOT" imatrix model.gguf -f text.txt -c 64 --threads 3 -o again.gguf --json
out_has '"chunks":[0-9]+'
cmp -s imatrix.gguf again.gguf || fail "the number of threads changes the file"
expect_ok "$INGOT" imatrix model.gguf -f text.txt -c 64 --chunks 1 --process-output -o head.gguf
python3 - <<'PY' || fail "what is in the file"
import struct
def names(path):
    b = open(path, "rb").read()
    n = struct.unpack_from("<Q", b, 8)[0]
    return n, b
n, b = names("imatrix.gguf")
m, h = names("head.gguf")
assert m == n + 2 and b"output.weight.in_sum2" in h and b"output.weight" not in b.replace(b"attn_output.weight", b""), (n, m)
assert b"general.type" in b and b"imatrix.chunk_size" in b and b"blk.0.attn_q.weight.counts" in b
PY
expect_ok "$INGOT" quantize model.gguf with.gguf q4_0 --imatrix imatrix.gguf
out_has 'with importance'
expect_ok "$INGOT" quantize model.gguf without.gguf q4_0
cmp -s with.gguf without.gguf && fail "importance changed nothing"
expect_ok "$INGOT" info with.gguf
out_has 'quantize.imatrix.file = imatrix.gguf'
out_has 'quantize.imatrix.dataset = text.txt'
expect_ok "$INGOT" run with.gguf -p hello -n 4 --temp 0 --ids

expect_fail 2 'no text' "$INGOT" imatrix model.gguf
expect_fail 1 'nowhere.txt' "$INGOT" imatrix model.gguf -f nowhere.txt
expect_fail 2 'a window takes' "$INGOT" imatrix model.gguf -f <(head -c 10 text.txt) -c 64 -o no.gguf
expect_fail 1 'no importance matrix' "$INGOT" quantize model.gguf no.gguf q4_0 --imatrix text.txt
expect_fail 1 'chunk_count' "$INGOT" quantize model.gguf no.gguf q4_0 --imatrix model.gguf
[ -z "$(ls ./*.tmp no.gguf 2>/dev/null)" ] || fail "something was left"
exit 0
