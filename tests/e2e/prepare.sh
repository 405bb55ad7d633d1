#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot tokenizer and ingot prepare on documents made here, friendly and hostile.
source "$(dirname "$0")/lib.sh"

docs() { # FROM TO: documents that differ in a number
    jq -cn --argjson a "$1" --argjson b "$2" 'range($a; $b + 1) | {path: "pkg/m\(.).py",
        text: "def function_\(.)(argument):\n    \"\"\"Caf\u00e9 number \(.).\"\"\"\n    return argument + \(.)\n"}'
}
docs 1 120 >docs.jsonl

# ---- tokenizer ----
expect_ok "$INGOT" tokenizer train docs.jsonl -o tok.gguf --vocab 400
out_has '^read: 120 files, [0-9,]+ characters$'
out_has 'tokens per character'
expect_ok "$INGOT" tokenizer train docs.jsonl -o tok2.gguf --vocab 400 --threads 3 --json
eq vocab "$(jq .n_vocab out)" 400
eq characters "$(jq .characters out)" "$(jq -j .text docs.jsonl | wc -m)"
cmp tok.gguf tok2.gguf || fail "the threads changed the tokenizer"

text=$'def main():\n\treturn "caf\u00e9 \U1f600"  # <|endoftext|>\n'
expect_ok "$INGOT" tokenizer encode tok.gguf "$text"
ids=$(cat out)
expect_ok "$INGOT" tokenizer encode tok.gguf --json "$text"
eq ids "$(jq -r '.ids | join(" ")' out)" "$ids"
eq n "$(jq .n out)" "$(wc -w <<<"$ids")"
expect_ok "$INGOT" tokenizer decode tok.gguf $ids
eq "round trip" "$(cat out; echo .)" "$text."
expect_ok "$INGOT" tokenizer decode tok.gguf --json $ids
eq "round trip, json" "$(jq -rj .text out; echo .)" "$text."
eq "one special token" "$("$INGOT" tokenizer encode tok.gguf --special 'a<|endoftext|>')" \
    "$("$INGOT" tokenizer encode tok.gguf a) 399"
head -c 100000 /dev/urandom >noise
"$INGOT" tokenizer encode tok.gguf - <noise >noise.ids && "$INGOT" tokenizer decode tok.gguf <noise.ids | cmp - noise ||
    fail "bytes do not survive encode and decode"
eq "nothing in, nothing out" "$("$INGOT" tokenizer encode tok.gguf '')" ""
expect_ok "$INGOT" tokenizer show tok.gguf --file docs.jsonl
out_has '^vocabulary: 400$'
out_has '399  "<\|endoftext\|>"'
out_has 'tokens per character'
expect_ok "$INGOT" tokenizer show tok.gguf --json
eq special "$(jq -c '[.eot, .special[0].id, .special[0].text, .model]' out)" '[399,399,"<|endoftext|>","gpt2"]'

expect_fail 1 'no.gguf' "$INGOT" tokenizer encode no.gguf x
expect_fail 1 'docs.jsonl' "$INGOT" tokenizer show docs.jsonl
expect_fail 1 'no.txt' "$INGOT" tokenizer show tok.gguf --file no.txt
expect_fail 2 '400' "$INGOT" tokenizer decode tok.gguf 400
expect_fail 2 'abc' "$INGOT" tokenizer decode tok.gguf 1 abc
expect_fail 2 'vocab' "$INGOT" tokenizer train docs.jsonl -o x.gguf --vocab 256
expect_fail 2 'no output' "$INGOT" tokenizer train docs.jsonl
expect_fail 2 'did you mean "train"' "$INGOT" tokenizer trian docs.jsonl
expect_fail 2 'argument is missing' "$INGOT" tokenizer encode
: >empty.jsonl
expect_fail 1 'empty.jsonl: no documents' "$INGOT" tokenizer train empty.jsonl -o x.gguf
[ ! -e x.gguf ] || fail "a failed training left a file"
expect_fail 1 'No space left' "$INGOT" tokenizer train docs.jsonl -o /dev/full
expect_fail 1 'standard output' bash -c "'$INGOT' tokenizer encode tok.gguf abc >/dev/full"

# ---- prepare ----
expect_ok "$INGOT" prepare docs.jsonl -o data/set --tokenizer tok.gguf
out_has '^train: 108 files, [0-9,]+ characters, [0-9,]+ tokens$'
out_has '^val: 12 files, [0-9,]+ characters, [0-9,]+ tokens$'
eq files "$(ls data/set | xargs)" "meta.json tokenizer.gguf train.bin val.bin"
cmp data/set/tokenizer.gguf tok.gguf || fail "the tokenizer is another one"
for part in train val; do
    eq "$part size" "$(stat -c %s data/set/$part.bin)" $((2 * $(jq .$part.tokens data/set/meta.json)))
done
eq "all characters" "$(jq '.train.characters + .val.characters' data/set/meta.json)" "$(jq -j .text docs.jsonl | wc -m)"
eq "ends of text" "$(od -An -v -tu2 -w2 data/set/val.bin | grep -c '^ *399$')" 12

# every document is in exactly one part, whole: cut at the end of text and look the pieces up
pieces() { od -An -v -tu2 -w2 "data/$1/$2.bin" | awk '$1 == 399 { print line; line = ""; next } { line = line " " $1 }'; }
for i in 1 60 120; do
    want=" $(jq -rj "select(.path == \"pkg/m$i.py\").text" docs.jsonl | "$INGOT" tokenizer encode tok.gguf)"
    eq "document $i" "$( (pieces set train; pieces set val) | grep -cFx "$want")" 1
done
eq "different documents" "$( (pieces set train; pieces set val) | sort -u | wc -l)" 120

# the same bytes for any number of threads and any order of lines; another seed, another split
tac docs.jsonl >reversed.jsonl
expect_ok "$INGOT" prepare reversed.jsonl -o data/again --tokenizer tok.gguf --threads 3 --json
eq "json" "$(jq -c .val.files out)" 12
for f in train.bin val.bin meta.json; do cmp data/set/$f data/again/$f || fail "$f differs"; done
expect_ok "$INGOT" prepare docs.jsonl -o data/other --tokenizer tok.gguf --seed 7 --val 0.25
out_has '^val: 30 files'
cmp -s data/set/train.bin data/other/train.bin && fail "the seed changed nothing"

# documents that are odd
{ docs 1 1; echo; printf '{"path":"long","text":"'; head -c 1000000 /dev/zero | tr '\0' z; echo '"}'
    echo '{"path":"empty","text":""}'; echo '{"text":"no path \u0000 and a NUL"}'; } >odd.jsonl
expect_ok "$INGOT" prepare odd.jsonl -o data/odd --tokenizer tok.gguf
eq "odd ends" "$(cat data/odd/*.bin | od -An -v -tu2 -w2 | grep -c '^ *399$')" 4

# ---- what cannot work ----
{ docs 1 2; echo '{"path": "x", "text": "cut'; } >bad.jsonl
expect_fail 1 'bad.jsonl:3: ' "$INGOT" prepare bad.jsonl -o data/bad --tokenizer tok.gguf
expect_fail 1 'bad.jsonl:3: ' "$INGOT" tokenizer train bad.jsonl -o x.gguf
{ docs 1 2; echo '{"path": "x", "text": 5}'; } >bad.jsonl
expect_fail 1 'bad.jsonl:3: text: a string' "$INGOT" prepare bad.jsonl -o data/bad --tokenizer tok.gguf
[ ! -e data/bad ] || fail "a bad file left a folder"
docs 1 1 >one.jsonl
expect_fail 1 'one.jsonl: documents: 1, at least 2' "$INGOT" prepare one.jsonl -o data/bad --tokenizer tok.gguf
expect_fail 1 'empty.jsonl: documents: 0, ' "$INGOT" prepare empty.jsonl -o data/bad --tokenizer tok.gguf
expect_fail 1 'no.jsonl' "$INGOT" prepare no.jsonl -o data/bad --tokenizer tok.gguf
expect_fail 1 'no.gguf' "$INGOT" prepare docs.jsonl -o data/bad --tokenizer no.gguf
expect_fail 1 'docs.jsonl' "$INGOT" prepare docs.jsonl -o data/bad --tokenizer docs.jsonl
expect_fail 2 'no tokenizer' "$INGOT" prepare docs.jsonl -o data/bad
expect_fail 2 'no output' "$INGOT" prepare docs.jsonl --tokenizer tok.gguf
expect_fail 2 'val.*1\.5' "$INGOT" prepare docs.jsonl -o data/bad --tokenizer tok.gguf --val 1.5
expect_fail 2 'unexpected argument "more.jsonl"' "$INGOT" prepare docs.jsonl more.jsonl -o data/bad --tokenizer tok.gguf
expect_fail 1 'tok.gguf: exists and is not a folder' "$INGOT" prepare docs.jsonl -o tok.gguf/x --tokenizer tok.gguf
expect_fail 2 'INGOT_THREADS' env INGOT_THREADS=many "$INGOT" prepare docs.jsonl -o data/bad --tokenizer tok.gguf
head -c 1000 tok.gguf >cut.gguf
expect_fail 1 'cut.gguf' "$INGOT" prepare docs.jsonl -o data/bad --tokenizer cut.gguf

# a damaged set, as its reader sees it
train() { "$INGOT" train --dataset data/bad --out_dir run --n_layer 1 --n_head 1 --n_embd 32 \
    --block_size 16 --batch_size 1 --max_iters 1 --warmup_iters 0 --eval_iters 1 --quiet; }
damaged() { # PATTERN: of the error; then the set is whole again
    expect_fail 1 "$1" train
    rm -rf data/bad run && cp -r data/set data/bad
}
meta() { jq -c "$1" data/set/meta.json >data/bad/meta.json; }
cp -r data/set data/bad
expect_ok train
rm -rf run
truncate -s -1 data/bad/train.bin; damaged 'train.bin: [0-9]+ bytes, meta.json says'
: >data/bad/val.bin; damaged 'val.bin: 0 bytes, meta.json says'
rm data/bad/train.bin; damaged 'train.bin: No such file'
rm data/bad/meta.json; damaged 'meta.json: No such file'
head -c 50 data/set/meta.json >data/bad/meta.json; damaged 'meta.json: json'
meta '.n_vocab = "400"'; damaged 'meta.json: n_vocab: an integer'
meta '.train.tokens = "many"'; damaged 'meta.json: tokens: an integer'
meta '.dtype = 16'; damaged 'meta.json: dtype: a string'
meta '.val = [1]'; damaged 'meta.json: val: not an object'
meta 'del(.eot)'; damaged 'meta.json: no member "eot"'
meta '.format = 2'; damaged 'meta.json: format: 2 is out of range'
rm -rf data/bad

# a write that fails, wherever it does: the folder is the old set, no set, or the new one; never a mixture
cp -r data/set data/keep
for n in $(seq 1 100); do
    rm -rf data/set && cp -r data/keep data/set
    if INGOT_FAULT=io:$n "$INGOT" prepare docs.jsonl -o data/set --tokenizer tok.gguf --seed 7 >out 2>err; then break; fi
    [ "$(wc -l <err)" = 1 ] || fail "io:$n: not one line"
    [ ! -e data/set/meta.json ] && continue
    if grep -q '"seed":1337' data/set/meta.json; then
        for f in train.bin val.bin; do cmp -s data/keep/$f data/set/$f || fail "io:$n: old meta.json, other $f"; done
    fi
    ls data/set/*.tmp >/dev/null 2>&1 && fail "io:$n: a temporary file was left"
done
[ "$n" -gt 20 ] || fail "only $n calls were made to fail"

# a full disk, where a small one can be mounted
mkdir small
if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
    for size in 64k 256k; do
        cat >full.sh <<END
mount -t tmpfs -o size=$size none small || exit 0
"$INGOT" prepare odd.jsonl -o small/set --tokenizer tok.gguf >out 2>err
rc=\$?
[ \$rc = 1 ] && grep -q '^ingot: .*No space left' err && [ ! -e small/set/meta.json ] && ! ls small/set/*.tmp 2>/dev/null
END
        unshare -m bash full.sh || fail "a full disk of $size"
    done
fi

expect_ok "$INGOT" prepare --help
out_has 'usage: ingot prepare docs.jsonl'
echo ok
