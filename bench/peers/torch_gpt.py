#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How fast PyTorch trains a small GPT on this machine's CPU. The peer of `ingot train`.

One optimizer step = forward, backward, AdamW on batch x ctx random tokens. Prints one JSON line per
precision with the tokens per second of the slowest, the median and the fastest timed step.

The default has 12.3 M parameters: pre-norm, learned positions, GELU, tied head, no biases.
Where PyTorch has two ways to write a thing, the one that ran faster on a CPU is taken: GELU by erf,
and where the release has no fused attention, a mask that is added to scores of scaled queries.

  torch_gpt.py --threads 2                 f32, then bf16 (autocast; weights and optimizer stay f32)
  torch_gpt.py --dtype bf16 --layers 12 --heads 12 --width 768 --batch 4
"""
import argparse
import json
import math
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F


NUMBERS = (("layers", 6, "blocks"), ("heads", 6, "attention heads"), ("width", 384, "model width"),
           ("vocab", 4096, "vocabulary"), ("ctx", 256, "tokens of a row"),
           ("batch", 16, "rows of a step"), ("reps", 7, "timed steps"),
           ("warmup", 2, "steps before them"), ("threads", 2, "torch threads"))


def parse():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default, what in NUMBERS:
        ap.add_argument("--" + name, type=int, default=default, help=f"{what} ({default})")
    ap.add_argument("--dtype", choices=("f32", "bf16", "both"), default="both")
    return ap.parse_args()


class NormWeight(nn.Module):
    """LayerNorm without a bias, which nn.LayerNorm of old releases cannot do."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight)


def attend(q, k, v, mask):
    """Causal attention on [B, heads, T, hd]; mask [T, T] is 0 or -inf."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    score = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)
    return (score + mask.to(score.dtype)).softmax(-1) @ v


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.attn_norm, self.mlp_norm = NormWeight(width), NormWeight(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x, mask):
        B, T, C = x.shape
        qkv = self.qkv(self.attn_norm(x)).view(B, T, 3, self.heads, C // self.heads)
        mixed = attend(*qkv.permute(2, 0, 3, 1, 4), mask)
        x = x + self.out(mixed.transpose(1, 2).reshape(B, T, C))
        return x + self.down(F.gelu(self.up(self.mlp_norm(x))))


class Gpt(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.embd = nn.Parameter(0.02 * torch.randn(a.vocab, a.width))
        self.pos = nn.Parameter(0.02 * torch.randn(a.ctx, a.width))
        self.layers = nn.ModuleList(Layer(a.width, a.heads) for _ in range(a.layers))
        self.norm = NormWeight(a.width)
        self.register_buffer("mask", torch.full((a.ctx, a.ctx), -math.inf).triu(1))

    def forward(self, tokens, targets):
        x = F.embedding(tokens, self.embd) + self.pos
        for layer in self.layers:
            x = layer(x, self.mask)
        logits = F.linear(self.norm(x), self.embd)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def timed_steps(a, bf16):
    """Seconds of each timed step, and the number of parameters."""
    torch.manual_seed(1)
    model = Gpt(a)
    adam = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    seconds = []
    for _ in range(a.warmup + a.reps):
        data = torch.randint(a.vocab, (a.batch, a.ctx + 1))
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(data[:, :-1], data[:, 1:])
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        seconds.append(time.perf_counter() - start)
    assert math.isfinite(float(loss))
    return seconds[a.warmup:], sum(p.numel() for p in model.parameters())


def main():
    a = parse()
    torch.set_num_threads(a.threads)
    for dtype in ("f32", "bf16") if a.dtype == "both" else (a.dtype,):
        seconds, params = timed_steps(a, dtype == "bf16")
        rate = sorted(a.batch * a.ctx / s for s in seconds)
        print(json.dumps({
            "peer": "pytorch", "version": torch.__version__, "dtype": dtype, "params": params,
            "batch": a.batch, "ctx": a.ctx, "threads": a.threads, "tok_s_min": round(rate[0], 1),
            "tok_s_median": round(statistics.median(rate), 1), "tok_s_max": round(rate[-1], 1),
            "reps": a.reps,
        }), flush=True)


if __name__ == "__main__":
    main()
