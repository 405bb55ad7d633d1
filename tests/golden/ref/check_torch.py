#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A second witness for the golden fixtures: PyTorch's autograd, optimizer and clipping.

Reads the committed files only and shares no code with transformer.py but the file reader. It also
takes another road where it can: every document runs alone instead of behind a mask, rotary
positions are complex products, gradients come from autograd.

  check_torch.py                   float64: fails beyond 1e-9 (1e-8 for logits: nine digits there)
  check_torch.py --dtype float32   how far single precision strays, to choose tolerances from

Needs Debian's python3-torch and python3-numpy.
"""
import argparse
import json
import math
import os
import sys

sys.dont_write_bytecode = True
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

import gguf_io  # noqa: E402

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data")
LIMIT = {"logits": 1e-8}
LIMIT_REST = 1e-9


class Model:
    def __init__(self, path, dtype):
        meta, tensors = gguf_io.read(path)
        self.arch = meta["general.architecture"]
        self.meta = {k.split(".", 1)[1]: v for k, v in meta.items()}
        self.freqs = torch.tensor(tensors.pop("rope_freqs.weight", np.float64(1.0)))
        self.w = {n: torch.tensor(t, dtype=dtype, requires_grad=True) for n, t in tensors.items()}

    def linear(self, name, x):
        return F.linear(x, self.w[name + ".weight"], self.w.get(name + ".bias"))

    def norm(self, name, x):
        weight = self.w[name + ".weight"]
        if self.arch == "gpt2":
            return F.layer_norm(x, weight.shape, weight, self.w[name + ".bias"],
                                self.meta["attention.layer_norm_epsilon"])
        eps = self.meta["attention.layer_norm_rms_epsilon"]
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight

    def frequencies(self, hd):
        """Angle per position of each pair, and the length a turned pair is stretched by."""
        part = torch.arange(0, hd, 2, dtype=torch.float64) / hd
        base, scale = self.meta["rope.freq_base"], self.meta.get("rope.scaling.factor", 1.0)
        theta = base ** -part / self.freqs
        if self.meta.get("rope.scaling.type") != "yarn":
            return theta / scale, 1.0
        context = self.meta["rope.scaling.original_context_length"]
        pair_of = [hd / 2 * math.log(context / turns / (2 * math.pi), base) for turns in (32, 1)]
        low, high = max(math.floor(pair_of[0]), 0), min(math.ceil(pair_of[1]), hd - 1)
        slow = ((torch.arange(hd // 2, dtype=torch.float64) - low) / max(high - low, 0.001)).clamp(0, 1)
        return theta.lerp(theta / scale, slow), 1 + math.log(scale) / 10

    def turn(self, x):
        """x [T, heads, hd]: pairs as complex numbers times e^(i angle). Pairs are neighbours, qwen's are
        half a head apart."""
        T, heads, hd = x.shape
        theta, stretch = self.frequencies(hd)
        angle = torch.outer(torch.arange(T, dtype=torch.float64), theta)[:, None]
        spin = torch.polar(torch.full_like(angle, stretch), angle)
        if self.arch.startswith("qwen"):
            turned = torch.complex(*x.chunk(2, -1)) * spin.to(torch.complex(x, x).dtype)
            return torch.cat((turned.real, turned.imag), -1)
        numbers = torch.view_as_complex(x.reshape(T, heads, hd // 2, 2))
        return torch.view_as_real(numbers * spin.to(numbers.dtype)).reshape(T, heads, hd)

    def heads(self, blk, name, x, n, hd):
        y = self.linear(blk + name, x).view(len(x), n, hd)
        return self.turn(self.norm(blk + name + "_norm", y) if self.arch == "qwen3" else y)

    def attention(self, blk, x):
        T, C = x.shape
        nh, nkv = self.meta["attention.head_count"], self.meta["attention.head_count_kv"]
        hd = self.meta.get("attention.key_length", C // nh)
        if self.arch == "gpt2":
            q, k, v = (p.view(T, nh, hd) for p in self.linear(blk + "attn_qkv", x).split(C, 1))
        else:
            q = self.heads(blk, "attn_q", x, nh, hd)
            k = self.heads(blk, "attn_k", x, nkv, hd)
            v = self.linear(blk + "attn_v", x).view(T, nkv, hd)
            k, v = (y.repeat_interleave(nh // nkv, 1) for y in (k, v))
        heads = []
        for h in range(nh):
            score = q[:, h] @ k[:, h].T / math.sqrt(hd)
            score = score + torch.full((T, T), -math.inf, dtype=x.dtype).triu(1)
            heads.append(score.softmax(-1) @ v[:, h])
        return self.linear(blk + "attn_output", torch.cat(heads, 1))

    def mlp(self, blk, x):
        up = self.linear(blk + "ffn_up", x)
        if self.arch == "gpt2":
            return self.linear(blk + "ffn_down", F.gelu(up, approximate="tanh"))
        return self.linear(blk + "ffn_down", F.silu(self.linear(blk + "ffn_gate", x)) * up)

    def logits(self, tokens):
        """One document: tokens [T] -> [T, V]."""
        x = self.w["token_embd.weight"][tokens]
        if self.arch == "gpt2":
            x = x + self.w["position_embd.weight"][:len(tokens)]
        for i in range(self.meta["block_count"]):
            x = x + self.attention(f"blk.{i}.", self.norm(f"blk.{i}.attn_norm", x))
            x = x + self.mlp(f"blk.{i}.", self.norm(f"blk.{i}.ffn_norm", x))
        head = self.w.get("output.weight", self.w["token_embd.weight"])
        return self.norm("output_norm", x) @ head.T

    def nll(self, tokens, targets, eot):
        """Summed loss of one packed row, document by document."""
        total, start = 0.0, 0
        for t in range(len(tokens)):
            if tokens[t] == eot or t == len(tokens) - 1:
                doc = slice(start, t + 1)
                total = total + F.cross_entropy(self.logits(tokens[doc]), targets[doc],
                                                ignore_index=-1, reduction="sum")
                start = t + 1
        return total


def step_loss(model, batch, eot):
    """batch [accum, 2, B, T]; the divisor is the number of live targets of the whole step."""
    rows = torch.tensor(batch.astype(np.int64))
    live = int((rows[:, 1] >= 0).sum())
    total = sum(model.nll(x, y, eot) for micro in rows for x, y in zip(micro[0], micro[1]))
    return total / live, live


def cosine_rate(s, it):
    if it < s["warmup"]:
        return s["lr"] * (it + 1) / (s["warmup"] + 1)
    done = min(1.0, (it - s["warmup"]) / (s["decay"] - s["warmup"]))
    return s["min_lr"] + (s["lr"] - s["min_lr"]) * math.cos(math.pi * done / 2) ** 2


def relative(got, want):
    """Largest difference over the largest magnitude."""
    got, want = np.asarray(got, np.float64).reshape(-1), np.asarray(want, np.float64).reshape(-1)
    return float(np.abs(got - want).max() / np.abs(want).max())


def check(name, dtype):
    """{quantity: largest relative difference}"""
    with open(os.path.join(DATA, name + ".expected.json"), encoding="ascii") as f:
        want = json.load(f)
    model = Model(os.path.join(DATA, want["model"]), dtype)
    shape, opt = want["batches"], want["optimizer"]
    batches = np.fromfile(os.path.join(DATA, shape["file"]), "<i4").reshape(
        shape["steps"], shape["accum"], 2, shape["rows"], shape["tokens"])
    worst = {}
    with torch.no_grad():
        logits = model.logits(torch.tensor(want["logits"]["tokens"]))
    worst["logits"] = relative(logits, np.loadtxt(os.path.join(DATA, want["logits"]["file"])))

    matrices = [t for t in model.w.values() if t.ndim >= 2]
    vectors = [t for t in model.w.values() if t.ndim < 2]
    adam = torch.optim.AdamW([{"params": matrices, "weight_decay": opt["weight_decay"]},
                              {"params": vectors, "weight_decay": 0.0}],
                             betas=(opt["beta1"], opt["beta2"]), eps=opt["eps"])
    losses, norms, counts, rates = [], [], [], []
    for it in range(shape["steps"]):
        adam.zero_grad()
        loss, live = step_loss(model, batches[it], want["eot_id"])
        loss.backward()
        if it == 0:
            grads = {n: model.w[n].grad for n in want["initial_grad"]}
            worst["grad norm"] = max(abs(float(grads[n].norm()) / g["norm"] - 1)
                                     for n, g in want["initial_grad"].items())
            worst["grad element"] = max(relative(grads[n].reshape(-1)[g["index"]], g["value"])
                                        for n, g in want["initial_grad"].items())
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.w.values(), opt["clip"])))
        rates.append(cosine_rate(want["schedule"], it))
        for group in adam.param_groups:
            group["lr"] = rates[-1]
        adam.step()
        losses.append(float(loss))
        counts.append(live)
    train = want["train"]
    assert counts == train["targets"] and list(model.w) == list(want["final_norm"])
    for key, got in (("loss", losses), ("grad_norm", norms), ("lr", rates)):
        worst["step " + key] = max(abs(x / y - 1) for x, y in zip(got, train[key]))
    worst["final norm"] = max(abs(float(model.w[n].detach().norm()) / v - 1)
                              for n, v in want["final_norm"].items())
    return worst


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    a = ap.parse_args()
    torch.set_num_threads(1)
    good = True
    for name in ("gpt2_tied", "llama_tied", "llama_untied", "qwen2_tied", "qwen3_untied"):
        worst = check(name, getattr(torch, a.dtype))
        print(f"{name:13s}", "  ".join(f"{k} {v:.1e}" for k, v in worst.items()))
        good = good and (a.dtype == "float32" or all(
            v < LIMIT.get(k, LIMIT_REST) for k, v in worst.items()))
    print("ok" if good else "FAILED", f"(torch {torch.__version__}, {a.dtype})")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
