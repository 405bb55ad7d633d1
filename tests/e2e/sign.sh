#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot model: keys, signatures that openssl finds right, and models that are not what was signed.
source "$(dirname "$0")/lib.sh"
command -v openssl >/dev/null || skip "no openssl"
export PYTHONDONTWRITEBYTECODE=1
umask 022
python3 "$E2E/tiny_model.py" m.gguf || fail "no model"
python3 "$E2E/tiny_lora.py" lora.gguf || fail "no adapter"
run() { "$INGOT" run "$@" -p "def add" -n 4 --temp 0 --ids; }

# ---- keys ----
expect_ok "$INGOT" model keygen release
out_has '^key [0-9a-f]{16}: release.key signs, release.pub verifies$'
eq "mode of the private key" "$(stat -c %a release.key)" 600
expect_fail 1 'release.key: File exists' "$INGOT" model keygen release
expect_ok openssl pkey -pubin -in release.pub -noout -text
out_has "ED25519"
openssl pkey -in release.key -pubout 2>/dev/null | cmp -s - release.pub || fail "the halves are not a pair"

# ---- signing ----
expect_fail 2 'no private key' "$INGOT" model sign m.gguf --tag m-v1.0.0
expect_fail 2 'no tag' "$INGOT" model sign m.gguf --key release.key
expect_fail 2 'tag "latest": want NAME-vMAJOR' "$INGOT" model sign m.gguf --key release.key --tag latest
expect_fail 1 'release.pub: others may read' "$INGOT" model sign m.gguf --key release.pub --tag m-v1.0.0
printf 'some text' >data.txt
expect_ok "$INGOT" model sign m.gguf --key release.key --tag m2.5-v1.0.1 --base "org/base" --licence apache-2.0 \
    --dataset data.txt --score humaneval=0.41 --score ppl=12.5 -q
out_has '^m.gguf: m2.5-v1.0.1, 1 file, .* signed with key [0-9a-f]{16}$'
eq "size of the signature" "$(stat -c %s m.gguf.manifest.sig)" 64
expect_ok openssl pkeyutl -verify -pubin -inkey release.pub -rawin -in m.gguf.manifest.json -sigfile m.gguf.manifest.sig
python3 - <<PY || fail "manifest.json"
import hashlib, json
m = json.load(open("m.gguf.manifest.json"))
f, = m["files"]
raw = open("m.gguf", "rb").read()
assert f == {"name": "m.gguf", "size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}, f
assert m["tag"] == "m2.5-v1.0.1" and m["scores"] == {"humaneval": 0.41, "ppl": 12.5} and m["base_model"] == "org/base"
assert m["dataset_sha256"] == hashlib.sha256(b"some text").hexdigest() and m["created"].endswith("Z")
PY
eq "digest" "$(openssl dgst -sha256 -r m.gguf | cut -c1-64)" "$(grep -oE '[0-9a-f]{64}' <<<"$(grep '"m.gguf"' m.gguf.manifest.json)")"
# a signature that openssl made is as good
openssl pkeyutl -sign -inkey release.key -rawin -in m.gguf.manifest.json -out sig || fail "openssl does not sign"
cmp -s sig m.gguf.manifest.sig || fail "openssl signs otherwise"

# ---- show, verify ----
expect_ok "$INGOT" model show m.gguf
out_has '^tag +m2.5-v1.0.1$'
out_has '^licence +apache-2.0$'
out_has 'humaneval 0.41$'
out_has '^signature +not looked at$'
expect_ok "$INGOT" model show m.gguf --key release.pub
out_has '^signature +right, by key'
expect_ok "$INGOT" model show m.gguf --json
python3 -c 'import json; assert json.load(open("out")) == json.load(open("m.gguf.manifest.json"))' || fail "show --json"
expect_ok "$INGOT" model verify m.gguf --key release.pub
expect_ok env INGOT_MODEL_PUBLIC_KEY=release.pub "$INGOT" model verify m.gguf --json
out_has '"tag":"m2.5-v1.0.1"'
expect_fail 2 'no public key' "$INGOT" model verify m.gguf

# ---- the same tag ----
cp m.gguf.manifest.json before
expect_ok "$INGOT" model sign m.gguf --key release.key --tag m2.5-v1.0.1 --base "org/base" --licence apache-2.0 \
    --dataset data.txt --score humaneval=0.41 --score ppl=12.5 -q
cmp -s before m.gguf.manifest.json || fail "signing the same again changed the manifest"
expect_fail 2 'tag m2.5-v1.0.1 was signed here with other content' "$INGOT" model sign m.gguf --key release.key --tag m2.5-v1.0.1 -q
cmp -s before m.gguf.manifest.json || fail "a refused signature changed the manifest"

# ---- running ----
plain=$(run m.gguf)
eq "a signed model" "$(run m.gguf --model-public-key release.pub 2>/dev/null)" "$plain"
export INGOT_MODEL_PUBLIC_KEY=release.pub
eq "by the environment" "$(run m.gguf 2>/dev/null)" "$plain"
cp m.gguf other.gguf
expect_fail 1 'other.gguf: not signed' run other.gguf
cp m.gguf.manifest.json other.gguf.manifest.json && cp m.gguf.manifest.sig other.gguf.manifest.sig
expect_fail 1 'other.gguf: not in the manifest that was signed' run other.gguf
expect_fail 1 'lora.gguf: not signed' run m.gguf --lora lora.gguf
expect_ok "$INGOT" model sign lora.gguf --key release.key --tag lora-v1.0.0 -q
expect_ok run m.gguf --lora lora.gguf
expect_fail 1 'other.gguf: not in the manifest' "$INGOT" perplexity other.gguf -f data.txt -q
expect_fail 1 'not signed|not in the manifest' "$INGOT" run m.gguf -p x --speculate other.gguf
"$INGOT" model keygen wrong >/dev/null
expect_fail 1 'm.gguf.manifest.sig: the signature is not one of key' run m.gguf --model-public-key wrong.pub
expect_fail 1 'data.txt: no public key in PEM' run m.gguf --model-public-key data.txt
printf '\x01' | dd of=m.gguf bs=1 seek=$(($(stat -c %s m.gguf) - 9)) conv=notrunc 2>/dev/null
expect_fail 1 'm.gguf: not the file that was signed: its sha-256 differs' run m.gguf
expect_fail 1 'm.gguf: not the file that was signed' "$INGOT" serve m.gguf --port 0
expect_fail 1 'm.gguf: not the file that was signed' "$INGOT" model verify m.gguf
python3 "$E2E/tiny_model.py" m.gguf
sed -i 's/apache-2.0/apache-2.1/' m.gguf.manifest.json
expect_fail 1 'm.gguf.manifest.sig: the signature is not one of key .* over m.gguf.manifest.json' run m.gguf
rm m.gguf.manifest.sig
expect_fail 1 'm.gguf.manifest.sig: No such file' run m.gguf
rm m.gguf.manifest.json
expect_fail 1 'm.gguf: not signed' run m.gguf

# ---- folders ----
mkdir -p repo/sub && cp m.gguf repo/ && echo '{}' >repo/sub/config.json
expect_ok "$INGOT" model sign repo/ --key release.key --tag repo-v0.1.0 -q
out_has '^repo/: repo-v0.1.0, 2 files'
expect_ok openssl pkeyutl -verify -pubin -inkey release.pub -rawin -in repo/manifest.json -sigfile repo/manifest.sig
expect_ok "$INGOT" model verify repo
expect_ok run repo/m.gguf
echo x >repo/chat_template.jinja
expect_fail 1 'chat_template.jinja: not in the manifest' "$INGOT" model verify repo
rm repo/chat_template.jinja repo/sub/config.json
expect_fail 1 'file "sub/config.json" is missing' "$INGOT" model verify repo
expect_ok run repo/m.gguf

# ---- hostile manifests, signed with the right key ----
hostile() { # PATTERN JSON
    printf '%s' "$2" >m.gguf.manifest.json
    openssl pkeyutl -sign -inkey release.key -rawin -in m.gguf.manifest.json -out m.gguf.manifest.sig
    expect_fail 1 "$1" run m.gguf
    expect_fail 1 "$1" "$INGOT" model show m.gguf
}
H='"format":"ingot-manifest-1","tag":"a-v1.0.0","created":"2026-01-31T12:00:00Z"'
D=$(printf '0%.0s' {1..64})
hostile 'm.gguf.manifest.json: ' '{'
hostile 'not a JSON object' '[]'
hostile 'duplicate' "{$H,$H}"
hostile 'file "../../etc/passwd": not a plain path' "{$H,\"files\":[{\"name\":\"../../etc/passwd\",\"size\":1,\"sha256\":\"$D\"}]}"
hostile 'files: size' "{$H,\"files\":[{\"name\":\"m.gguf\",\"size\":\"1\",\"sha256\":\"$D\"}]}"
hostile 'key "exec": not known' "{$H,\"exec\":\"rm -rf\"}"
hostile '' "$(printf '[%.0s' {1..100000})"
head -c 5000000 /dev/zero | tr '\0' ' ' >m.gguf.manifest.json
openssl pkeyutl -sign -inkey release.key -rawin -in m.gguf.manifest.json -out m.gguf.manifest.sig
expect_fail 1 'm.gguf.manifest.json: larger than the limit' run m.gguf
