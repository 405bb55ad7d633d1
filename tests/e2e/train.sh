#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ingot train from outside: keys in YAML and flags, what it says before and while it runs, the files it
# leaves, what it refuses, Ctrl-C. tests/e2e/resume.sh kills and resumes it.
. "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip "no python3"

python3 - <<'P'
import json, random
random.seed(3)
words = "def return if else for in range len self print import class None True False".split()
with open("docs.jsonl", "w") as f:
    for i in range(60):
        text = "\n".join(" ".join(random.choice(words) for _ in range(8)) for _ in range(20))
        f.write(json.dumps({"path": "f%d.py" % i, "text": text}) + "\n")
P
expect_ok "$INGOT" tokenizer train docs.jsonl -o tok.gguf --vocab 300
expect_ok "$INGOT" prepare docs.jsonl -o data/d --tokenizer tok.gguf
cat >base.yaml <<'Y'
arch: llama
n_layer: 1
n_head: 2
n_embd: 16
n_ff: 24
block_size: 16
batch_size: 2
gradient_accumulation_steps: 1
dropout: 0
dtype: f32
warmup_iters: 2
learning_rate: 1e-2
min_lr: 1e-3
eval_iters: 2
threads: 1
Y
cat >c.yaml <<'Y'
include: base.yaml
dataset: d
max_iters: 8
eval_interval: 4
log_interval: 2
Y

# ---- a run ----
expect_ok "$INGOT" train --help
out_has '--learning.rate'
out_has 'INGOT_CPU'
expect_ok "$INGOT" train c.yaml
err_has '^model    llama, 1 layers, 16 wide, 2 heads \(2 kv\), ff 24, vocabulary 300, context 16$'
err_has '^         [0-9,]+ parameters \(0\.0[0-9] M\)$'
err_has '^data     [0-9,]+ tokens to train on, [0-9,]+ to validate on$'
err_has '^device   cpu [a-z0-9]+, 1 thread, f32 products, [0-9]+ GFLOP/s at most$'
err_has '^memory   [0-9.]+ MB at the peak \(weights .*moments .*activations and gradients .*\), of [0-9.]+ GB$'
err_has '^plan     steps 1 to 8 of 32 tokens, about [0-9]+ tok/s, about '
err_has '^iter 1: loss [0-9.]+, time [0-9.]+ms, lr [0-9.e-]+, [0-9]+ tok/s, mfu [0-9.]+%, ETA '
err_has '^iter 8: loss '
err_has '^step 4: train loss [0-9.]+, val loss [0-9.]+, best so far: saved$'
err_has '^step 8: train loss '
LC_ALL=C grep -qP '[\r\x1b]' err && fail "control characters in a log"
out_has '^8 steps in .*, [0-9]+ tok/s at the end, peak memory [0-9.]+ MB$'
out_has '^best validation loss [0-9.]+ at step [48]$'
out_has '^model:  runs/d/model.gguf$'
out_has '^report: runs/d/report.html$'
for f in config.yaml metrics.jsonl speed.jsonl model.gguf ckpt.gguf report.html; do
    [ -s "runs/d/$f" ] || fail "no runs/d/$f"
done
[ -z "$(find runs -name '*.tmp')" ] || fail "a temporary file is left"
! grep -qE '(src|href|url)[ =(]*["'"'"']?(https?:)?//' runs/d/report.html || fail "the report reaches for the network"
grep -q 'http-equiv="Content-Security-Policy"\|<svg\|<canvas' runs/d/report.html || fail "no curves in the report"
python3 - <<'P' || fail "metrics.jsonl"
import json
rows = [json.loads(x) for x in open("runs/d/metrics.jsonl")]
steps = [r for r in rows if "loss" in r]
assert [r["iter"] for r in steps] == [1, 2, 4, 6, 8], steps
assert all(set(r) == {"iter", "loss", "lr", "grad_norm", "tokens"} for r in steps)
assert steps[-1]["tokens"] == 8 * 32
evals = [r for r in rows if "val_loss" in r]
assert [r["iter"] for r in evals] == [4, 8], evals
P
expect_ok "$INGOT" run runs/d/model.gguf -p "def" -n 5 --temp 0
expect_ok "$INGOT" info runs/d/model.gguf
out_has llama

# ---- quiet, json, the same by other ways ----
expect_ok "$INGOT" train c.yaml --name json --json --quiet
[ ! -s err ] || fail "--quiet says something"
python3 - <<'P' || fail "--json"
import json
r = json.load(open("out"))
assert set(r) == {"model", "report", "iters", "loss", "best_val_loss", "best_iter", "seconds", "tok_s",
                  "peak_rss_bytes", "stopped_early"}, r
assert r["iters"] == 8 and r["model"] == "runs/json/model.gguf" and r["stopped_early"] is False, r
assert 0 < r["loss"] < 10 and 0 < r["best_val_loss"] < 10 and r["best_iter"] in (4, 8), r
assert r["peak_rss_bytes"] > 1 << 20 and r["tok_s"] > 0 and r["seconds"] > 0, r
P
cmp runs/d/metrics.jsonl runs/json/metrics.jsonl || fail "the same run, other numbers"
# what a run wrote of its configuration is a configuration; flags win over it
expect_ok "$INGOT" train runs/json/config.yaml --name again --quiet
cmp runs/d/metrics.jsonl runs/again/metrics.jsonl || fail "config.yaml is another run"
expect_ok "$INGOT" train c.yaml --max_iters=3 --eval-iters 0 --out_dir elsewhere/deep --quiet --json
python3 -c 'import json; r = json.load(open("out")); assert r["iters"] == 3 and r["best_val_loss"] is None, r' || fail "flags over YAML"
[ -s elsewhere/deep/model.gguf ] || fail "no model without validation"
expect_ok "$INGOT" train --dataset data/d/ --arch llama --n_layer 1 --n_head 1 --n_embd 8 --block_size 8 --batch_size 1 \
    --max_iters 1 --eval_iters 1 --threads 1 --name flags -q
expect_ok "$INGOT" train c.yaml --name early --learning_rate 0 --min_lr 0 --max_iters 60 --eval_interval 1 --early_stop 2
out_has '^3 steps in '
out_has 'stopped early$'

# ---- from a file ----
expect_ok "$INGOT" train c.yaml --name long --max_iters 80 --eval_interval 40 --json -q
expect_ok "$INGOT" train c.yaml --name more --init_from runs/long/model.gguf --max_iters 1 --eval_iters 0 --n_layer 9
err_has '^model    llama, 1 layers'
python3 - <<'P' || fail "--init_from did not go on from the weights"
import json
loss = lambda run: [r["loss"] for r in map(json.loads, open(f"runs/{run}/metrics.jsonl")) if "loss" in r]
assert loss("more")[0] < loss("long")[0] - 1, (loss("more"), loss("long"))
P

# ---- the keys people bring from the configuration of a code assistant ----
cat >assistant.yaml <<'Y'
out_dir: out-code-assistant
eval_interval: 500
eval_iters: 100
log_interval: 10
dataset: d
gradient_accumulation_steps: 4
batch_size: 8
block_size: 512
n_layer: 12
n_head: 12
n_embd: 768
dropout: 0.1
init_from: scratch
learning_rate: 5e-5
max_iters: 5000
lr_decay_iters: 5000
min_lr: 5e-6
weight_decay: 0.1
grad_clip: 1.0
decay_lr: true
warmup_iters: 100
device: cuda
dtype: float16
compile: true
Y
expect_ok "$INGOT" train assistant.yaml --n_layer 1 --n_embd 24 --n_head 3 --block_size 16 --batch_size 1 --max_iters 1 --eval_iters 1
err_has '^note: device cuda: .*cpu'
err_has '^note: dtype float16: '
err_has '^note: compile: '
err_has '^model    gpt2, 1 layers, 24 wide'
[ -s out-code-assistant/ckpt.gguf ] || fail "no checkpoint in out_dir"

# ---- refusals: one line each ----
expect_fail 2 'unknown option --learning-?_?rat; did you mean --learning.rate' "$INGOT" train c.yaml --learning_rat 1
expect_fail 2 'n_layer: .0. is below the limit of 1' "$INGOT" train c.yaml --n_layer 0
expect_fail 2 'dropout: .2. ' "$INGOT" train c.yaml --dropout 2
expect_fail 2 'arch: .*gpt2.*llama' "$INGOT" train c.yaml --arch bert
expect_fail 2 'max_iters' "$INGOT" train c.yaml --max_iters many
printf 'dataset: d\nbatch_sise: 3\n' >bad.yaml
expect_fail 2 'bad.yaml:2:[0-9]+: .*batch_sise.*batch_size' "$INGOT" train bad.yaml
printf 'dataset: d\n\nbatch_size: [1\n' >bad.yaml
expect_fail 2 'bad.yaml:[34]' "$INGOT" train bad.yaml
printf 'include: gone.yaml\n' >bad.yaml
expect_fail 2 'bad.yaml:1:[0-9]+: .*gone.yaml' "$INGOT" train bad.yaml
printf 'include: bad.yaml\n' >bad.yaml
expect_fail 2 'bad.yaml' "$INGOT" train bad.yaml
expect_fail 2 'nowhere.yaml' "$INGOT" train nowhere.yaml
expect_fail 2 'unexpected argument' "$INGOT" train c.yaml d.yaml
expect_fail 2 'dataset is not set' "$INGOT" train base.yaml
expect_fail 1 'data/gone/meta.json' "$INGOT" train c.yaml --dataset gone
[ ! -e runs/gone ] || fail "a folder for a run that never began"
expect_fail 2 'min_lr 0.5 is above learning_rate 0.01' "$INGOT" train c.yaml --min_lr 0.5 --name x
expect_fail 2 'n_embd 16 .*n_head 3' "$INGOT" train c.yaml --n_head 3 --name x
expect_fail 2 'n_embd 16 .*n_head 4 .*heads of 4' "$INGOT" train c.yaml --n_head 4 --name x
expect_fail 2 'n_kv_head 3 .*n_head 2' "$INGOT" train c.yaml --n_kv_head 3 --name x
expect_fail 2 'shard has [0-9]+ tokens, .*block_size 100000' "$INGOT" train c.yaml --block_size 100000 --name x
expect_fail 1 'this run needs [0-9.]+ GB, the machine has [0-9.]+: lower batch_size 65536' \
    "$INGOT" train c.yaml --n_embd 512 --batch_size 65536 --name x
expect_fail 1 'this run needs [0-9.]+ GB' "$INGOT" train c.yaml --n_layer 512 --n_embd 65536 --n_head 512 --name x
expect_fail 2 'runs/d already holds a run.*--resume.*--overwrite' "$INGOT" train c.yaml
expect_fail 1 'gone.gguf' "$INGOT" train c.yaml --init_from gone.gguf --name x
expect_fail 2 'model.gguf: context of 16 is below block_size 32' \
    "$INGOT" train c.yaml --init_from runs/d/model.gguf --block_size 32 --name x
head -c 3000 runs/d/ckpt.gguf >cut.gguf
mkdir -p runs/cut && cp cut.gguf runs/cut/ckpt.gguf
expect_fail 1 'runs/cut/ckpt.gguf' "$INGOT" train c.yaml --name cut --resume -q

# ---- Ctrl-C ----
# A shell's background jobs ignore SIGINT, and the program respects that: start it as a terminal would.
start() {
    python3 -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])' "$INGOT" "$@" >out 2>err &
    pid=$!
    for _ in $(seq 400); do grep -q '^iter ' err && return; sleep 0.05; done
    fail "no first step"
}
end_with() { # SIGNAL: its exit status in rc
    kill "-$1" $pid
    for _ in $(seq 400); do kill -0 $pid 2>/dev/null || break; sleep 0.05; done
    kill -9 $pid 2>/dev/null && fail "still there after SIG$1"
    wait $pid
    rc=$?
}
start train c.yaml --name stop --max_iters 10000000 --eval_interval 10000000
end_with INT
eq "exit status after Ctrl-C" $rc 1
[ "$(grep -c '^ingot: ' err)" = 1 ] || fail "not one last word after Ctrl-C"
err_has '^ingot: stopped at step [0-9]+: go on with --resume$'
[ -s runs/stop/ckpt.gguf ] || fail "no checkpoint after Ctrl-C"
at=$(sed -n 's/^ingot: stopped at step \([0-9]*\):.*/\1/p' err)
start train c.yaml --name stop --max_iters 10000000 --eval_interval 10000000 --resume
err_has "^plan     steps $((at + 1)) to 10000000 of"
end_with TERM
eq "exit status after SIGTERM" $rc 1
err_has "^ingot: stopped at step [0-9]+: go on"

# ---- the memory that was announced is the memory that is taken ----
expect_ok "$INGOT" train c.yaml --name mem --n_layer 3 --n_embd 192 --n_head 6 --n_ff 512 --block_size 256 \
    --batch_size 4 --max_iters 1 --eval_iters 1 --json --threads 2
python3 - <<'P' || fail "memory: planned and taken differ by more than 15%"
import json, re
unit = {"MB": 1e6, "GB": 1e9}
n, u = re.search(r"^memory   ([0-9.]+) (MB|GB) at the peak", open("err").read(), re.M).groups()
plan, rss = float(n) * unit[u], json.load(open("out"))["peak_rss_bytes"]
print("planned %.1f MB, taken %.1f MB" % (plan / 1e6, rss / 1e6))
assert plan / 1.15 < rss < plan * 1.15
P
exit 0
