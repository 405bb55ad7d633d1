#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A run that is killed and resumed ends in the same bytes as one that was left alone: weights, moments,
# counters, metrics and the best model; also with another number of threads. Kills come at random instants,
# and at every single file operation of a checkpoint (INGOT_FAULT=kill:N), the rename included.
# KILLS=50 makes it thorough.
. "$(dirname "$0")/lib.sh"
KILLS=${KILLS:-6}

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
cat > c.yaml <<'Y'
dataset: d
arch: llama
n_layer: 2
n_head: 2
n_kv_head: 1
n_embd: 32
block_size: 32
batch_size: 4
gradient_accumulation_steps: 2
dropout: 0.1
learning_rate: 5e-3
min_lr: 5e-4
warmup_iters: 5
max_iters: 120
eval_interval: 10
eval_iters: 4
log_interval: 3
checkpoint_interval: 4
dtype: f32
Y
train() { "$INGOT" train c.yaml --quiet "$@" >/dev/null 2>err; }
sums() { (cd "$1" && sha256sum ckpt.gguf model.gguf metrics.jsonl); }
same() { [ "$(sums "$1")" = "$(sums "$2")" ] || fail "$3: $1 and $2 differ"; }

train --out_dir whole --threads 2 || fail "the whole run"
train --out_dir one --threads 1 || fail "the run with one thread"
same whole one "another number of threads"

# a finished run resumed stays as it is; a running name is not overwritten by accident
train --out_dir one --resume || fail "resuming a finished run"
same whole one "resuming a finished run"
expect_fail 2 "already holds a run.*--resume" "$INGOT" train c.yaml --quiet --out_dir one
expect_fail 2 "learning_rate is .*checkpoint was made with" "$INGOT" train c.yaml --quiet --out_dir one --resume --learning_rate 1e-3

# random instants: keep killing until it gets through
finish() { # DIR: resume until done
    for _ in $(seq 400); do
        train --out_dir "$1" --resume --threads $((RANDOM % 3 + 1)) && return 0
        grep -q . err && fail "resume of $1"
    done
    fail "$1 does not finish"
}
start=$(date +%s%N)
train --out_dir timed --threads 2
span=$((($(date +%s%N) - start) / 1000000))
RANDOM=7
for i in $(seq "$KILLS"); do
    "$INGOT" train c.yaml --quiet --out_dir "k$i" --resume --threads $((i % 2 + 1)) >/dev/null 2>&1 &
    pid=$!
    ms=$((RANDOM % span))
    sleep "$((ms / 1000)).$(printf %03d $((ms % 1000)))"
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
    finish "k$i"
    same whole "k$i" "killed after $ms ms"
    rm -rf "k$i"
done

# every file operation from the start through several checkpoints
step=$((KILLS > 20 ? 1 : 9))
for n in $(seq 1 $step 140); do
    INGOT_FAULT=kill:$n train --out_dir op --resume --threads 2
    [ -e op/metrics.jsonl ] || continue
done
finish op
same whole op "killed at file operations"

# a full disk in the middle of a checkpoint: an error, the old checkpoint stays good
INGOT_FAULT=io:60 train --out_dir full --threads 2 && fail "a failed write went unnoticed"
finish full
same whole full "a failed write"
