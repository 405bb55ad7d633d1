#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Write the golden fixtures: tiny models, their token batches and the numbers they must give.

  make_fixtures.py             writes tests/golden/data
  make_fixtures.py --verify    computes everything again and compares it with what is there

All is seeded. Weights and batches come back bit for bit; computed numbers to the last few of their
digits, because a linear algebra library may sum in another order. tests/golden/data/README.md says
what each file holds.
"""
import argparse
import json
import os
import re
import sys

sys.dont_write_bytecode = True
import numpy as np  # noqa: E402

import gguf_io  # noqa: E402
import transformer as tf  # noqa: E402

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data")

MODELS = {  # name: (seed, configuration, clip); 1.0 clips every step, 4.0 some
    "gpt2_tied": (101, tf.Config("gpt2", V=96, C=32, L=2, nh=2, nkv=2, ff=128, ctx=32), 1.0),
    "llama_tied": (102, tf.Config("llama", V=128, C=32, L=2, nh=4, nkv=2, ff=96, ctx=32), 1.0),
    "llama_untied": (103, tf.Config("llama", V=96, C=64, L=2, nh=4, nkv=2, ff=96, ctx=32,
                                    tied=False, rope_scale=2.0, rope_freqs=True), 4.0),
    "qwen2_tied": (104, tf.Config("qwen2", V=64, C=32, L=2, nh=4, nkv=2, ff=64, ctx=32, eps=1e-6,
                                  rope_base=1e6), 1.0),
    "qwen3_untied": (105, tf.Config("qwen3", V=64, C=32, L=2, nh=4, nkv=2, ff=32, ctx=32, eps=1e-6,
                                    tied=False, head=16, rope_base=100.0, rope_scale=4.0,
                                    yarn_ctx=32), 1.0),
}
STEPS, ACCUM, B, T = 20, 2, 2, 32
LOGITS_T = 24
SCHEDULE = dict(kind="cosine", lr=5e-3, min_lr=5e-4, warmup=3, decay=16)

SCHEDULE_CASES = [  # kind, lr, min_lr, warmup, decay
    ("cosine", 6e-4, 6e-5, 20, 200), ("cosine", 1e-3, 0.0, 0, 100),
    ("cosine", 5e-5, 5e-6, 100, 5000), ("linear", 6e-4, 6e-5, 20, 200),
    ("linear", 2e-4, 0.0, 5, 100), ("linear", 1e-3, 1e-4, 0, 50),
    ("constant", 3e-4, 0.0, 20, 200),
]


def metadata(name, cfg):
    a = cfg.arch
    meta = {
        "general.architecture": a,
        "general.name": "golden-" + name,
        "general.file_type": 0,
        f"{a}.block_count": cfg.L,
        f"{a}.context_length": cfg.ctx,
        f"{a}.embedding_length": cfg.C,
        f"{a}.feed_forward_length": cfg.ff,
        f"{a}.attention.head_count": cfg.nh,
        f"{a}.attention.head_count_kv": cfg.nkv,
        f"{a}.vocab_size": cfg.V,
    }
    if a == "gpt2":
        meta[f"{a}.attention.layer_norm_epsilon"] = cfg.eps
    else:
        meta[f"{a}.attention.layer_norm_rms_epsilon"] = cfg.eps
        meta[f"{a}.rope.freq_base"] = cfg.rope_base
        meta[f"{a}.rope.dimension_count"] = cfg.hd
        if cfg.rope_scale != 1.0:
            meta[f"{a}.rope.scaling.type"] = "yarn" if cfg.yarn_ctx else "linear"
            meta[f"{a}.rope.scaling.factor"] = cfg.rope_scale
        if cfg.yarn_ctx:
            meta[f"{a}.rope.scaling.original_context_length"] = cfg.yarn_ctx
        if cfg.head:
            meta[f"{a}.attention.key_length"] = meta[f"{a}.attention.value_length"] = cfg.head
    meta["ingot.test.eot_id"] = cfg.V - 1
    return meta


def token_row(rng, cfg, successor, ends):
    """T + 1 tokens: mostly a fixed chain, so that there is something to learn; random ends."""
    eot = cfg.V - 1
    row = [int(rng.integers(0, eot))]
    while len(row) < T + 1:
        fresh = row[-1] == eot or rng.random() < 0.15
        row.append(int(rng.integers(0, eot)) if fresh else int(successor[row[-1]]))
        if rng.random() < ends:
            row[-1] = eot
    return row


def make_batches(rng, cfg):
    """int32 [STEPS, ACCUM, 2, B, T]: inputs (index 0 of the third axis) and targets (index 1)."""
    eot = cfg.V - 1
    successor = rng.permutation(eot)
    out = np.empty((STEPS, ACCUM, 2, B, T), np.int32)
    for step in range(STEPS):
        for micro in range(ACCUM):
            rows = np.array([token_row(rng, cfg, successor, ends) for ends in (0.0, 0.12)])
            if (step, micro) == (0, 0):
                rows[0, [0, 9, 10, T - 1]] = eot     # documents of one token; an end at the end
            x, y = rows[:, :-1], rows[:, 1:].copy()
            y[x == eot] = -1                         # nothing predicts a document's first token
            y[rng.random(y.shape) < 0.05] = -1       # and some more, as a prompt mask would
            out[step, micro, 0], out[step, micro, 1] = x, y
    return out


def micros_of(batch):
    return [(m[0].astype(np.int64), m[1].astype(np.int64)) for m in batch]


def digits(values, n=12):
    """Rounded to n digits; what is zero up to rounding becomes zero."""
    return [0.0 if abs(v) < 1e-15 else float(f"%.{n}g" % v) for v in np.asarray(values).reshape(-1)]


def l2(x):
    return digits([np.sqrt((x * x).sum())])[0]


def gradient_samples(g):
    """Per tensor its L2 norm and elements by flat index: first, a third, half, last, largest."""
    out = {}
    for name, x in g.items():
        flat = x.reshape(-1)
        n = flat.size
        index = sorted({0, n // 3, n // 2, n - 1, int(np.abs(flat).argmax())})
        out[name] = {"norm": l2(flat), "index": index, "value": digits(flat[index])}
    return out


def train(cfg, opt, w, batches):
    eot = cfg.V - 1
    state = {"t": 0, "m": {}, "v": {}}
    losses, norms, counts, rates = [], [], [], []
    for step in range(STEPS):
        loss, g, count = tf.loss_and_grads(cfg, w, micros_of(batches[step]), eot)
        lr = tf.learning_rate(it=step, **SCHEDULE)
        norms.append(tf.adamw_step(opt, w, g, state, lr))
        losses.append(loss)
        counts.append(count)
        rates.append(lr)
    return losses, norms, counts, rates


def make_model(name):
    """{file name: content} of one model. Arrays are for gguf and bin, str for the rest."""
    seed, cfg, clip = MODELS[name]
    opt = tf.OptConfig(clip=clip)
    rng = np.random.default_rng(seed)
    w = tf.init_weights(cfg, rng)
    batches = make_batches(rng, cfg)
    initial = dict(w)
    prompt = rng.integers(0, cfg.V - 1, (1, LOGITS_T))
    logits, _ = tf.forward(cfg, w, prompt)
    _, g, _ = tf.loss_and_grads(cfg, w, micros_of(batches[0]), cfg.V - 1)
    losses, norms, counts, rates = train(cfg, opt, w, batches)
    expected = {
        "model": name + ".gguf",
        "eot_id": cfg.V - 1,
        "batches": {"file": name + ".batches.bin", "steps": STEPS, "accum": ACCUM,
                    "rows": B, "tokens": T},
        "optimizer": {"beta1": opt.beta1, "beta2": opt.beta2, "eps": opt.eps,
                      "weight_decay": opt.weight_decay, "clip": opt.clip},
        "schedule": SCHEDULE,
        "train": {"loss": digits(losses), "grad_norm": digits(norms), "lr": digits(rates, 17),
                  "targets": counts},
        "final_norm": {n: l2(w[n]) for n in tf.trained_names(w)},
        "logits": {"file": name + ".logits.txt", "tokens": prompt[0].tolist()},
        "initial_grad": gradient_samples(g),
    }
    rows = "".join(" ".join("%.9g" % z for z in row) + "\n" for row in logits[0])
    return {
        name + ".gguf": (metadata(name, cfg), initial),
        name + ".batches.bin": batches,
        name + ".expected.json": json_lines(expected) + "\n",
        name + ".logits.txt": rows,
    }


def json_lines(obj, indent=0):
    """JSON with a line for every list and every small object: a change shows as a small diff."""
    nested = isinstance(obj, dict) and any(
        isinstance(x, dict) or (isinstance(x, list) and len(x) > 8) for x in obj.values())
    wide = isinstance(obj, dict) and len(obj) > 8
    if not (nested or wide):
        return json.dumps(obj)
    pad = "\n" + " " * (indent + 1)
    return "{" + ",".join(f"{pad}{json.dumps(k)}: {json_lines(x, indent + 1)}"
                          for k, x in obj.items()) + "}"


def make_schedule():
    lines = ["# kind lr min_lr warmup decay step expected_lr\n"]
    for kind, lr, low, warmup, decay in SCHEDULE_CASES:
        steps = {0, 1, warmup // 2, warmup - 1, warmup, warmup + 1, (warmup + decay) // 4,
                 (warmup + decay) // 2, (3 * decay) // 4, decay - 1, decay, decay + 1, 2 * decay}
        for it in sorted(s for s in steps if s >= 0):
            value = tf.learning_rate(kind, it, lr, low, warmup, decay)
            lines.append(f"{kind} {lr!r} {low!r} {warmup} {decay} {it} {value:.17g}\n")
    return {"schedule.txt": "".join(lines)}


def write_all(files, folder):
    for name, content in files.items():
        path = os.path.join(folder, name)
        if name.endswith(".gguf"):
            gguf_io.write(path, *content)
        elif name.endswith(".bin"):
            content.astype("<i4").tofile(path)
        else:
            with open(path, "w", encoding="ascii") as f:
                f.write(content)


def same_text(a, b):
    """Equal but for the last digits of numbers."""
    words = [re.split(r"[\s,:\[\]{}]+", x) for x in (a, b)]
    if len(words[0]) != len(words[1]):
        return False
    for p, q in zip(*words):
        if p != q:
            try:
                if abs(float(p) - float(q)) > 1e-9 * abs(float(q)) + 1e-13:
                    return False
            except ValueError:
                return False
    return True


def verify(files, folder):
    bad = []
    for name, content in files.items():
        path = os.path.join(folder, name)
        if name.endswith(".gguf"):
            meta, tensors = gguf_io.read(path)
            want = {k: np.float32(v) if isinstance(v, float) else v for k, v in content[0].items()}
            good = meta == want and list(tensors) == list(content[1]) and all(
                np.array_equal(tensors[n], content[1][n]) for n in tensors)
        elif name.endswith(".bin"):
            good = np.array_equal(np.fromfile(path, "<i4"), content.reshape(-1))
        else:
            with open(path, encoding="ascii") as f:
                good = same_text(content, f.read())
        print(("same      " if good else "DIFFERENT ") + name)
        bad += [] if good else [name]
    return bad


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--verify", action="store_true", help="compare instead of writing")
    ap.add_argument("--out", default=DATA, help="folder (default: tests/golden/data)")
    a = ap.parse_args()
    files = make_schedule()
    for name in MODELS:
        files.update(make_model(name))
    if a.verify:
        return 1 if verify(files, a.out) else 0
    write_all(files, a.out)
    total = sum(os.path.getsize(os.path.join(a.out, n)) for n in files)
    print(f"{len(files)} files, {total} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
