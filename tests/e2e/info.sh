#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot info: text and JSON, a file that is no model, names that hold anything.
source "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip "no python3"
python3 "$E2E/tiny_model.py" model.gguf 512 || fail "no model"

expect_ok "$INGOT" info model.gguf
out_has '^  general.architecture = "?llama"?$'
out_has '^  blk\.1\.ffn_down\.weight +64 x 32 +f32 +8\.2 kB$'
out_has '^parameters: 35,040, 32\.00 bits each$'
out_has 'memory for 1 sequence of 512 tokens: weights .* in all$'
expect_ok "$INGOT" info model.gguf --no-tensors --ctx 100 --seqs 3
out_lacks 'blk\.1'
out_has 'memory for 3 sequences of 100 tokens'
expect_ok "$INGOT" info model.gguf --json
python3 - "$WORK/out" <<'PY' || fail "json"
import json, os, sys
j = json.load(open(sys.argv[1]))
meta = {m["key"]: m["value"] for m in j["metadata"]}
assert meta["llama.block_count"] == 2 and meta["general.name"] == "tiny", meta
assert meta["tokenizer.ggml.add_bos_token"] is False
assert j["file_bytes"] == os.path.getsize("model.gguf")
assert sum(t["bytes"] for t in j["tensors"]) == j["bytes"] == j["memory"]["weights"]
assert j["memory"]["kv_cache"] == 512 * 2 * 2 * 2 * 8 * 2
PY

# no model at all: metadata alone
python3 - <<'PY'
import struct
def s(b): return struct.pack("<Q", len(b)) + b
with open("odd.gguf", "wb") as f:
    f.write(b"GGUF" + struct.pack("<IQQ", 3, 1, 1))
    f.write(s(b"a\x1b[31m\nkey") + struct.pack("<I", 8) + s(b"\xff\x1b]0;x\x07"))
    f.write(s(b"t\x1b\n") + struct.pack("<IQIQ", 1, 8, 0, 0))
    f.write(bytes(-f.tell() % 32) + bytes(32))
PY
expect_ok "$INGOT" info odd.gguf
out_has 'no plan'
! grep -q $'\x1b' out || fail "an escape sequence of the file reached the terminal"
eq "lines" "$(wc -l <out)" 7
expect_ok "$INGOT" info odd.gguf --json
python3 -c 'import json; j = json.load(open("out")); assert j["memory"] is None' || fail "json"

expect_fail 1 'nowhere' "$INGOT" info nowhere
expect_fail 2 'missing' "$INGOT" info
exit 0
