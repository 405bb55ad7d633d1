#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot quantize: every type, sizes, what it costs in quality, refusals, being stopped.
source "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip "no python3"
python3 "$E2E/tiny_model.py" model.gguf 512 || fail "no model"
head -c 3000 "$E2E/lib.sh" >text.txt

expect_ok "$INGOT" quantize --help
out_has "int8"
for pair in q8_0:8.5 int8:8.5 q4_0:4.5 int4:4.5 q4_1:5 q5_0:5.5 q5_1:6 f16:16 bf16:16; do
    type=${pair%:*}
    expect_ok "$INGOT" quantize model.gguf "$type.gguf" "$type" --pure --json
    python3 - "$WORK/out" "$WORK" "$type" "${pair#*:}" <<'PY' || fail "numbers of $type"
import json, os, sys
j, work, kind, bits = json.load(open(sys.argv[1])), sys.argv[2], sys.argv[3], float(sys.argv[4])
assert abs(j["ratio"] - j["bytes_in"] / j["bytes_out"]) < 1e-12, j
assert j["file_bytes_out"] == os.path.getsize(f"{work}/{kind}.gguf"), j
assert j["bytes_in"] == 4 * j["parameters"], j
assert abs(j["bits_per_weight"] - bits) < 0.3, j  # the norms stay f32
PY
    expect_ok "$INGOT" run "$type.gguf" -p "hello" -n 8 --temp 0 --ids
done
cmp -s q8_0.gguf int8.gguf || fail "int8 is not q8_0"
cmp -s q4_0.gguf int4.gguf || fail "int4 is not q4_0"
expect_ok "$INGOT" quantize model.gguf again.gguf q4_0 --threads 3 --pure
out_has "^parameters: [0-9,]+$"
out_has "^before: .* 32.00 bits each"
out_has "^ratio: +[0-9.]+x smaller"
cmp -s q4_0.gguf again.gguf || fail "the number of threads changes the file"

# quality: 16 bits cost next to nothing, 8 little
ppl() { "$INGOT" perplexity "$1" -f text.txt -c 128 --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["perplexity"])'; }
python3 - "$(ppl model.gguf)" "$(ppl f16.gguf)" "$(ppl q8_0.gguf)" "$(ppl q4_0.gguf)" <<'PY' || fail "quality"
import sys
f32, f16, q8, q4 = map(float, sys.argv[1:])
print(f32, f16, q8, q4)
assert abs(f16 / f32 - 1) < 0.01 and abs(q8 / f32 - 1) < 0.1 and q4 != f32
PY

# from 16 bits, and a head with more bits
expect_ok "$INGOT" quantize f16.gguf from16.gguf q8_0
expect_ok "$INGOT" quantize model.gguf mixed.gguf q4_0 --json
out_has '"q[68]_[0k]":1'

# ---- k-types, patterns, plans, the harder search ----
for type in q4_K_S Q4_K_M q5_k_s q5_K_M q6_K; do
    expect_ok "$INGOT" quantize model.gguf "$type.gguf" "$type"
    expect_ok "$INGOT" run "$type.gguf" -p "hello" -n 4 --temp 0 --ids
done
expect_ok "$INGOT" quantize model.gguf q4_0 --dry-run --tensor-type 'ffn_.*=q5_1' --tensor-type 'attn_q=Q8_0'
out_has 'ffn_up.weight .* f32 +-> q5_1'
out_has 'attn_q.weight .* f32 +-> q8_0'
out_has '^after: '
expect_ok "$INGOT" quantize model.gguf best.gguf q4_0 --best --pure --json
python3 - "$WORK/out" <<'PY' || fail "the harder search"
import json, sys
r = json.load(open(sys.argv[1]))["rmse"]["q4_0"]
assert 0 < r["best"] < 0.99 * r["reference"], r
PY
expect_ok "$INGOT" quantize q8_0.gguf requantized.gguf q4_0 --allow-requantize
expect_fail 2 'want PATTERN=TYPE' "$INGOT" quantize model.gguf no.gguf q4_0 --tensor-type attn_q
expect_fail 2 'unknown type "q9"' "$INGOT" quantize model.gguf no.gguf q4_0 --tensor-type attn_q=q9
expect_fail 2 'unknown type "f32"' "$INGOT" quantize model.gguf no.gguf q4_0 --output-tensor-type f32
expect_fail 2 'offset' "$INGOT" quantize model.gguf no.gguf q4_0 --tensor-type 'attn_(q=q8_0'

# ---- refusals leave nothing behind ----
expect_fail 2 'unknown type "q9"' "$INGOT" quantize model.gguf no.gguf q9
expect_fail 2 'unknown type "f32"' "$INGOT" quantize model.gguf no.gguf f32
expect_fail 2 'argument is missing' "$INGOT" quantize model.gguf no.gguf
expect_fail 2 'unexpected argument' "$INGOT" quantize model.gguf no.gguf q8_0 more
expect_fail 2 'input and output' "$INGOT" quantize model.gguf ./model.gguf q8_0
ln model.gguf other-name.gguf
expect_fail 2 'input and output' "$INGOT" quantize model.gguf other-name.gguf q8_0
cp q8_0.gguf importance.gguf
expect_fail 2 'input and output' "$INGOT" quantize model.gguf importance.gguf q8_0 --imatrix importance.gguf
cmp q8_0.gguf importance.gguf || fail "the importance was overwritten"
expect_fail 1 'weight is q8_0 already' "$INGOT" quantize q8_0.gguf no.gguf q4_0
expect_fail 1 'nowhere.gguf' "$INGOT" quantize nowhere.gguf no.gguf q8_0
expect_fail 1 'no/such' "$INGOT" quantize model.gguf no/such/no.gguf q8_0
python3 - <<'PY'
b = bytearray(open("model.gguf", "rb").read())
b[-400:-396] = b"\x00\x00\xc0\x7f"
open("nan.gguf", "wb").write(b)
PY
expect_fail 1 'output.weight: element [0-9]+ is nan' "$INGOT" quantize nan.gguf no.gguf q8_0
[ -z "$(ls ./*.tmp no.gguf 2>/dev/null)" ] || fail "something was left: $(ls ./*.tmp no.gguf 2>/dev/null)"

# ---- an existing file stays until the new one is whole ----
cp q8_0.gguf target.gguf
expect_fail 1 'nan' "$INGOT" quantize nan.gguf target.gguf q8_0
cmp -s q8_0.gguf target.gguf || fail "a failed run changed the target"
expect_ok "$INGOT" quantize model.gguf target.gguf q4_0 --pure
cmp -s q4_0.gguf target.gguf || fail "the target was not replaced"

# ---- stopped ----
python3 - <<'PY' # 800 MB of zeros in one matrix: a sparse file, a second of work
import struct
def s(b): return struct.pack("<Q", len(b)) + b
rows = 200000
head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + s(b"general.architecture") + struct.pack("<I", 8) + s(b"llama")
head += s(b"token_embd.weight") + struct.pack("<IQQIQ", 2, 1024, rows, 0, 0)
with open("big.gguf", "wb") as f:
    f.write(head + bytes(-len(head) % 32))
    f.truncate(f.tell() + 1024 * rows * 4)
PY
"$INGOT" quantize big.gguf stopped.gguf q8_0 >out 2>err &
pid=$!
for _ in $(seq 200); do [ -e stopped.gguf.tmp ] && break; sleep 0.01; done
kill -INT $pid
wait $pid
rc=$?
if [ -e stopped.gguf ]; then eq "exit status of a run that was done before" $rc 0
else eq "exit status" $rc 1; err_has 'stopped'; fi
[ ! -e stopped.gguf.tmp ] || fail "half a file was left"
exit 0
