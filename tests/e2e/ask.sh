#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot embed and ingot score with a tiny random model: numbers that fit together and those of ingot perplexity.
source "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip "no python3"
python3 "$E2E/tiny_model.py" model.gguf 256 || fail "no model"

# ---- embed ----
expect_ok "$INGOT" embed --help
out_has "usage: ingot embed MODEL.gguf TEXT"
for pool in last mean first; do
    expect_ok "$INGOT" embed model.gguf 'one text' 'another' 'one text' 'o' --pool $pool
    cp out $pool.json
    expect_ok "$INGOT" embed model.gguf 'one text' --pool $pool --raw --threads 1
    cp out $pool.raw.json
done
python3 - <<'PY' || fail "embeddings"
import json, math
for pool in "last", "mean", "first":
    rows = [json.loads(line) for line in open(pool + ".json")]
    assert [r["text"] for r in rows] == ["one text", "another", "one text", "o"]
    assert [r["tokens"] for r in rows] == [8, 7, 8, 1]
    v = [r["embedding"] for r in rows]
    for x in v:
        assert len(x) == 32 and abs(sum(a * a for a in x) - 1) < 1e-5
    dot = lambda a, b: sum(x * y for x, y in zip(a, b))
    assert dot(v[0], v[2]) > 0.9999
    assert dot(v[0], v[1]) < 0.999
    if pool == "first":
        assert dot(v[0], v[3]) > 0.9999 # the first token knows of no other
    raw = json.load(open(pool + ".raw.json"))["embedding"]
    assert abs(dot(raw, raw) - 1) > 0.01
    assert dot(raw, v[0]) / math.sqrt(dot(raw, raw)) > 0.9999
PY

# ---- score ----
expect_ok "$INGOT" score --help
out_has "usage: ingot score MODEL.gguf -p TEXT"
printf 'a text of some length.' >text.txt # a token is a byte: 22
expect_ok "$INGOT" score model.gguf -p "$(cat text.txt)" --top 3
cp out text.json
expect_ok "$INGOT" score model.gguf -p 'a text of ' --choice 'some length.' --choice 'none' --choice '!'
cp out choices.json
expect_ok "$INGOT" perplexity model.gguf -f text.txt -c 22 --all --kv-cache-type f32 --logprobs lp.txt
python3 - <<'PY' || fail "scores"
import json, math
want = [float(line.split()[1]) for line in open("lp.txt")]
t = json.load(open("text.json"))
got = [x["logprob"] for x in t["tokens"]]
assert t["prompt_tokens"] == 22 and len(got) == len(want) == 21
assert max(abs(a - b) for a, b in zip(got, want)) < 0.02, (got, want)
assert abs(sum(got) - t["logprob"]) < 1e-9
assert "".join(x["text"] for x in t["tokens"]) == " text of some length."
for x in t["tokens"]:
    top = [y["logprob"] for y in x["top"]]
    assert len(top) == 3 and top == sorted(top, reverse=True) and x["rank"] >= 1
c = json.load(open("choices.json"))
assert c["prompt_tokens"] == 10 and [x["tokens"] for x in c["choices"]] == [12, 4, 1]
for a, b in zip(c["choices"][0]["token_logprobs"], want[9:]):
    assert abs(a - b) < 0.02, (a, b)
for x in c["choices"]:
    assert abs(sum(x["token_logprobs"]) - x["logprob"]) < 1e-9
assert abs(sum(x["prob"] for x in c["choices"]) - 1) < 1e-12
assert c["best"] == max(c["choices"], key=lambda x: x["logprob"])["text"]
PY

# ---- refusals ----
long=$(head -c 257 /dev/zero | tr '\0' x)
expect_fail 2 'argument is missing' "$INGOT" embed model.gguf
expect_fail 2 'text is empty' "$INGOT" embed model.gguf 'a' ''
expect_fail 2 '257 tokens, the model.s context has 256' "$INGOT" embed model.gguf 'a' "$long"
expect_fail 2 'pool.*median' "$INGOT" embed model.gguf 'a' --pool median
expect_fail 1 'nowhere' "$INGOT" embed nowhere 'a'
expect_fail 2 'no text' "$INGOT" score model.gguf
expect_fail 2 'choice 2 is empty' "$INGOT" score model.gguf -p a --choice b --choice ''
expect_fail 2 'top.*21' "$INGOT" score model.gguf -p a --top 21
expect_fail 2 'without choices' "$INGOT" score model.gguf -p a --top 2 --choice b
expect_fail 2 '257 tokens' "$INGOT" score model.gguf -p "$long"
expect_ok "$INGOT" score model.gguf -p "${long:1}" --choice x # a last token is never read
expect_fail 2 '257 tokens' "$INGOT" score model.gguf -p "${long:1}" --choice xx
exit 0
