#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The decoder family in float64: forward, hand-written backward, AdamW. Oracle of the golden tests.

Rows of one architecture:

           norm       positions                 attention      MLP                      biases
  gpt2     LayerNorm  learned, added to x       fused QKV      down(gelu_tanh(up x))    everywhere
  llama    RMSNorm    rotary, pairs (2i, 2i+1)  grouped-query  down(silu(gate x)*up x)  none
  qwen2    RMSNorm    rotary, pairs (i, i+hd/2) grouped-query  as llama                 q, k, v
  qwen3    as qwen2, but no biases; each head of q and k goes through an RMSNorm before the rotation

Both are pre-norm: x += attn(norm(x)); x += mlp(norm(x)); logits = norm(x) @ head^T, where head is
token_embd.weight (tied) or output.weight.

Packed rows. A batch is [B, T] ids. A document begins at the start of a row and after every token
equal to `eot`; that token still belongs to the document it ends. A token sees only its own document
and positions count from 0 in each one.

Names and shapes are GGUF's: a matrix is [out, in] and y = x @ W^T. Every *_fwd stands next to its
*_bwd. In a backward, dW accumulates into the dict of gradients and dx is returned.

Nothing here is meant to be fast. Dimension letters: B rows, T tokens, C width, nh query heads, nkv
key and value heads, hd head width, ff hidden width of the MLP, V vocabulary, L layers.

  transformer.py --check      gradients against finite differences, packing against its definition
"""
import argparse
import math
import sys
from dataclasses import dataclass

import numpy as np

ROPE_FREQS = "rope_freqs.weight"   # [hd/2] divisors of the frequencies: a constant, never trained


@dataclass(frozen=True)
class Config:
    arch: str                # "gpt2", "llama", "qwen2", "qwen3"
    V: int
    C: int
    L: int
    nh: int
    nkv: int
    ff: int
    ctx: int                 # longest document
    tied: bool = True        # the head is token_embd.weight
    eps: float = 1e-5
    rope_base: float = 10000.0
    rope_scale: float = 1.0  # linear scaling: positions are divided by it
    rope_freqs: bool = False # the model has a rope_freqs.weight
    yarn_ctx: int = 0        # not 0: YaRN by rope_scale over this original context, betas 32 and 1
    head: int = 0            # width of a head; 0: C / nh

    @property
    def hd(self):
        return self.head or self.C // self.nh

    @property
    def halves(self):
        return self.arch.startswith("qwen")


def weight_shapes(cfg):
    """Ordered {tensor name: shape} of everything the file holds, rope_freqs included."""
    C, q, kv, ff = cfg.C, cfg.nh * cfg.hd, cfg.nkv * cfg.hd, cfg.ff
    gpt2 = cfg.arch == "gpt2"
    shapes = {"token_embd.weight": (cfg.V, C)}
    if gpt2:
        shapes["position_embd.weight"] = (cfg.ctx, C)
    if cfg.rope_freqs:
        shapes[ROPE_FREQS] = (cfg.hd // 2,)
    for i in range(cfg.L):
        if gpt2:
            linears = {"attn_qkv": (3 * C, C), "attn_output": (C, C),
                       "ffn_up": (ff, C), "ffn_down": (C, ff)}
        else:
            linears = {"attn_q": (q, C), "attn_k": (kv, C), "attn_v": (kv, C),
                       "attn_output": (C, q),
                       "ffn_gate": (ff, C), "ffn_up": (ff, C), "ffn_down": (C, ff)}
        for name in ("attn_norm", *[n for n in linears if n.startswith("attn")],
                     "ffn_norm", *[n for n in linears if n.startswith("ffn")]):
            shape = linears.get(name, (C,))
            shapes[f"blk.{i}.{name}.weight"] = shape
            if gpt2 or cfg.arch == "qwen2" and name in ("attn_q", "attn_k", "attn_v"):
                shapes[f"blk.{i}.{name}.bias"] = shape[:1]
        if cfg.arch == "qwen3":
            shapes[f"blk.{i}.attn_q_norm.weight"] = shapes[f"blk.{i}.attn_k_norm.weight"] = (cfg.hd,)
    shapes["output_norm.weight"] = (C,)
    if gpt2:
        shapes["output_norm.bias"] = (C,)
    if not cfg.tied:
        shapes["output.weight"] = (cfg.V, C)
    return shapes


def init_weights(cfg, rng):
    """Random float32-representable weights, far enough from symmetric that every path matters."""
    w = {}
    for name, shape in weight_shapes(cfg).items():
        noise = rng.standard_normal(shape)
        if name == ROPE_FREQS:
            value = np.linspace(1.0, 8.0, shape[0])
        elif name.endswith("norm.weight"):
            value = 1.0 + 0.1 * noise
        elif name.endswith(".bias"):
            value = 0.1 * noise
        elif name in ("token_embd.weight", "position_embd.weight", "output.weight"):
            value = 0.25 * noise
        else:
            value = noise * (0.7 / math.sqrt(shape[1]))
        w[name] = value.astype(np.float32).astype(np.float64)
    return w


def trained_names(w):
    return [n for n in w if n != ROPE_FREQS]


# ---- operations -------------------------------------------------------------------------------

def linear_fwd(w, name, x):
    """y[..., out] = x[..., in] @ W[out, in]^T (+ b)"""
    y = x @ w[name + ".weight"].T
    return y + w[name + ".bias"] if name + ".bias" in w else y


def linear_bwd(w, g, name, x, dy):
    W = w[name + ".weight"]
    rows = dy.reshape(-1, W.shape[0])
    g[name + ".weight"] += rows.T @ x.reshape(-1, W.shape[1])
    if name + ".bias" in w:
        g[name + ".bias"] += rows.sum(0)
    return dy @ W


def norm_fwd(cfg, w, name, x):
    """gpt2: (x - mean) / sqrt(var + eps) * weight + bias
    llama: x / sqrt(mean(x^2) + eps) * weight
    The cache is what the weight multiplies, and 1 / the root."""
    centred = x - x.mean(-1, keepdims=True) if cfg.arch == "gpt2" else x
    scale = 1.0 / np.sqrt((centred * centred).mean(-1, keepdims=True) + cfg.eps)
    xhat = centred * scale
    y = xhat * w[name + ".weight"]
    if cfg.arch == "gpt2":
        y = y + w[name + ".bias"]
    return y, (xhat, scale)


def norm_bwd(cfg, w, g, name, cache, dy):
    xhat, scale = cache
    g[name + ".weight"] += (dy * xhat).reshape(-1, xhat.shape[-1]).sum(0)
    dxhat = dy * w[name + ".weight"]
    dx = dxhat - xhat * (dxhat * xhat).mean(-1, keepdims=True)
    if cfg.arch == "gpt2":
        g[name + ".bias"] += dy.reshape(-1, xhat.shape[-1]).sum(0)
        dx = dx - dxhat.mean(-1, keepdims=True)   # the path through the mean
    return dx * scale


def rope_angles(cfg, w, pos):
    """[B, T, hd/2] angles: pos / rope_scale * base^(-2i/hd) / rope_freqs[i]. With YaRN a pair that turns more
    than 32 times within the original context keeps its own angle, one that turns less than once has the
    scaled one, those between a mixture."""
    i = np.arange(cfg.hd // 2)
    freq = cfg.rope_base ** (-2.0 * i / cfg.hd) / w.get(ROPE_FREQS, 1.0)
    own = yarn_share(cfg, i) if cfg.yarn_ctx else 0.0
    return pos[..., None] * (freq * own + freq * (1.0 - own) / cfg.rope_scale)


def yarn_share(cfg, i):
    at = [cfg.hd * math.log(cfg.yarn_ctx / (turns * 2 * math.pi)) / (2 * math.log(cfg.rope_base))
          for turns in (32.0, 1.0)]              # the pair that turns so often
    low, high = max(0.0, math.floor(at[0])), min(cfg.hd - 1.0, math.ceil(at[1]))
    return 1.0 - np.clip((i - low) / max(0.001, high - low), 0.0, 1.0)


def rope_gain(cfg):
    """YaRN makes q and k larger, as more positions share the attention."""
    return 1.0 + 0.1 * math.log(cfg.rope_scale) if cfg.yarn_ctx else 1.0


def rotate(cfg, x, angle):
    """Turn the pairs of x[B, T, heads, hd] by angle[B, T, i] and stretch them by rope_gain."""
    gain = rope_gain(cfg)
    c, s = gain * np.cos(angle)[:, :, None, :], gain * np.sin(angle)[:, :, None, :]
    half = cfg.hd // 2
    first, second = ((np.s_[..., :half], np.s_[..., half:]) if cfg.halves else
                     (np.s_[..., 0::2], np.s_[..., 1::2]))
    y = np.empty_like(x)
    y[first] = x[first] * c - x[second] * s
    y[second] = x[first] * s + x[second] * c
    return y


def attn_fwd(q, k, v, seen):
    """q [B,T,nh,hd], k and v [B,T,nkv,hd], seen [B,T,T]. Head h reads key head h // (nh/nkv)."""
    B, T, nh, hd = q.shape
    nkv = k.shape[2]
    q5 = q.reshape(B, T, nkv, nh // nkv, hd)
    score = np.einsum("btngd,bsnd->bngts", q5, k) / math.sqrt(hd)
    score = np.where(seen[:, None, None], score, -np.inf)
    score = np.exp(score - score.max(-1, keepdims=True))
    att = score / score.sum(-1, keepdims=True)          # [B, nkv, group, T, T], rows sum to 1
    y = np.einsum("bngts,bsnd->btngd", att, v).reshape(B, T, nh, hd)
    return y, (q5, k, v, att)


def attn_bwd(cache, dy):
    q5, k, v, att = cache
    B, T, nkv, group, hd = q5.shape
    dy = dy.reshape(q5.shape)
    dv = np.einsum("bngts,btngd->bsnd", att, dy)
    datt = np.einsum("btngd,bsnd->bngts", dy, v)
    dscore = att * (datt - (datt * att).sum(-1, keepdims=True)) / math.sqrt(hd)
    dq = np.einsum("bngts,bsnd->btngd", dscore, k).reshape(B, T, nkv * group, hd)
    dk = np.einsum("bngts,btngd->bsnd", dscore, q5)
    return dq, dk, dv


GELU_C = math.sqrt(2.0 / math.pi)
GELU_A = 0.044715


def gelu_fwd(x):
    return 0.5 * x * (1.0 + np.tanh(GELU_C * (x + GELU_A * x ** 3)))


def gelu_bwd(x, dy):
    t = np.tanh(GELU_C * (x + GELU_A * x ** 3))
    return dy * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * GELU_C * (1.0 + 3.0 * GELU_A * x * x))


def swiglu_fwd(gate, up):
    return gate / (1.0 + np.exp(-gate)) * up


def swiglu_bwd(gate, up, dy):
    sig = 1.0 / (1.0 + np.exp(-gate))
    return dy * up * sig * (1.0 + gate * (1.0 - sig)), dy * gate * sig


def loss_fwd_bwd(logits, targets):
    """Sum of -log p(target) over targets != -1, their number, and d(sum)/d(logits)."""
    z = logits - logits.max(-1, keepdims=True)
    p = np.exp(z)
    total = p.sum(-1, keepdims=True)
    p /= total
    live = targets >= 0
    hit = np.where(live, targets, 0)[..., None]
    logp = np.take_along_axis(z, hit, -1)[..., 0] - np.log(total[..., 0])
    dlogits = p
    np.put_along_axis(dlogits, hit, np.take_along_axis(p, hit, -1) - 1.0, -1)
    dlogits *= live[..., None]
    return -(logp * live).sum(), int(live.sum()), dlogits


# ---- the model --------------------------------------------------------------------------------

def documents(tokens, eot):
    """Document number and position inside it, both [B, T]."""
    doc, pos = np.zeros_like(tokens), np.zeros_like(tokens)
    for b in range(tokens.shape[0]):
        for t in range(1, tokens.shape[1]):
            ended = tokens[b, t - 1] == eot
            doc[b, t] = doc[b, t - 1] + ended
            pos[b, t] = 0 if ended else pos[b, t - 1] + 1
    return doc, pos


def heads_fwd(cfg, w, blk, name, x, n_heads, angle):
    """q or k of all heads, normalised (qwen3) and rotated."""
    y = linear_fwd(w, blk + name, x).reshape(*x.shape[:2], n_heads, cfg.hd)
    norm = None
    if cfg.arch == "qwen3":
        y, norm = norm_fwd(cfg, w, blk + name + "_norm", y)
    return rotate(cfg, y, angle), norm


def heads_bwd(cfg, w, g, blk, name, norm, x, angle, dy):
    dy = rotate(cfg, dy, -angle)                # the inverse of a rotation is its transpose
    if norm is not None:
        dy = norm_bwd(cfg, w, g, blk + name + "_norm", norm, dy)
    return linear_bwd(w, g, blk + name, x, dy.reshape(*x.shape[:2], -1))


def attention_fwd(cfg, w, blk, x, angle, seen):
    """The attention half of a block without its norm and residual."""
    B, T, C = x.shape
    norms = None
    if cfg.arch == "gpt2":
        qkv = linear_fwd(w, blk + "attn_qkv", x)        # rows of its weight: q, k, v
        q, k, v = (part.reshape(B, T, cfg.nh, cfg.hd) for part in np.split(qkv, 3, -1))
    else:
        q, q_norm = heads_fwd(cfg, w, blk, "attn_q", x, cfg.nh, angle)
        k, k_norm = heads_fwd(cfg, w, blk, "attn_k", x, cfg.nkv, angle)
        norms = q_norm, k_norm
        v = linear_fwd(w, blk + "attn_v", x).reshape(B, T, cfg.nkv, cfg.hd)
    y, cache = attn_fwd(q, k, v, seen)
    y = y.reshape(B, T, -1)
    return linear_fwd(w, blk + "attn_output", y), (x, y, cache, norms)


def attention_bwd(cfg, w, g, blk, saved, angle, dout):
    x, y, cache, norms = saved
    B, T, C = x.shape
    dy = linear_bwd(w, g, blk + "attn_output", y, dout)
    dq, dk, dv = attn_bwd(cache, dy.reshape(B, T, cfg.nh, cfg.hd))
    if cfg.arch == "gpt2":
        dqkv = np.concatenate([d.reshape(B, T, C) for d in (dq, dk, dv)], -1)
        return linear_bwd(w, g, blk + "attn_qkv", x, dqkv)
    return (heads_bwd(cfg, w, g, blk, "attn_q", norms[0], x, angle, dq) +
            heads_bwd(cfg, w, g, blk, "attn_k", norms[1], x, angle, dk) +
            linear_bwd(w, g, blk + "attn_v", x, dv.reshape(B, T, -1)))


def mlp_fwd(cfg, w, blk, x):
    up = linear_fwd(w, blk + "ffn_up", x)
    gate = None if cfg.arch == "gpt2" else linear_fwd(w, blk + "ffn_gate", x)
    h = gelu_fwd(up) if gate is None else swiglu_fwd(gate, up)
    return linear_fwd(w, blk + "ffn_down", h), (x, gate, up, h)


def mlp_bwd(cfg, w, g, blk, saved, dout):
    x, gate, up, h = saved
    dh = linear_bwd(w, g, blk + "ffn_down", h, dout)
    if gate is None:
        return linear_bwd(w, g, blk + "ffn_up", x, gelu_bwd(up, dh))
    dgate, dup = swiglu_bwd(gate, up, dh)
    return linear_bwd(w, g, blk + "ffn_gate", x, dgate) + linear_bwd(w, g, blk + "ffn_up", x, dup)


def head_name(cfg):
    return "token_embd.weight" if cfg.tied else "output.weight"


def forward(cfg, w, tokens, eot=-1):
    """Logits [B, T, V] and what backward needs. eot = -1: each row is one document."""
    doc, pos = documents(tokens, eot)
    T = tokens.shape[1]
    seen = (doc[:, :, None] == doc[:, None, :]) & np.tril(np.ones((T, T), bool))
    x = w["token_embd.weight"][tokens]
    if cfg.arch == "gpt2":
        x = x + w["position_embd.weight"][pos]
    angle = rope_angles(cfg, w, pos) if cfg.arch != "gpt2" else None
    layers = []
    for i in range(cfg.L):
        blk = f"blk.{i}."
        n1, norm1 = norm_fwd(cfg, w, blk + "attn_norm", x)
        a, att = attention_fwd(cfg, w, blk, n1, angle, seen)
        x = x + a
        n2, norm2 = norm_fwd(cfg, w, blk + "ffn_norm", x)
        m, mlp = mlp_fwd(cfg, w, blk, n2)
        x = x + m
        layers.append((norm1, att, norm2, mlp))
    h, norm = norm_fwd(cfg, w, "output_norm", x)
    logits = h @ w[head_name(cfg)].T
    return logits, (tokens, pos, angle, layers, norm, h)


def backward(cfg, w, g, saved, dlogits):
    """Accumulate into g the gradient of sum(logits * dlogits)."""
    tokens, pos, angle, layers, norm, h = saved
    head = head_name(cfg)
    g[head] += dlogits.reshape(-1, cfg.V).T @ h.reshape(-1, cfg.C)
    dx = norm_bwd(cfg, w, g, "output_norm", norm, dlogits @ w[head])
    for i in reversed(range(cfg.L)):
        blk = f"blk.{i}."
        norm1, att, norm2, mlp = layers[i]
        dn2 = mlp_bwd(cfg, w, g, blk, mlp, dx)
        dx = dx + norm_bwd(cfg, w, g, blk + "ffn_norm", norm2, dn2)
        dn1 = attention_bwd(cfg, w, g, blk, att, angle, dx)
        dx = dx + norm_bwd(cfg, w, g, blk + "attn_norm", norm1, dn1)
    np.add.at(g["token_embd.weight"], tokens, dx)
    if cfg.arch == "gpt2":
        np.add.at(g["position_embd.weight"], pos, dx)


def loss_and_grads(cfg, w, micros, eot):
    """Mean loss over every live target of all micro-batches [(tokens, targets), ...], its
    gradients, and the number of live targets. The divisor is the whole step's: no mean of means."""
    g = {n: np.zeros_like(w[n]) for n in trained_names(w)}
    nll, count = 0.0, 0
    for tokens, targets in micros:
        logits, saved = forward(cfg, w, tokens, eot)
        s, n, dlogits = loss_fwd_bwd(logits, targets)
        backward(cfg, w, g, saved, dlogits)
        nll, count = nll + s, count + n
    for n in g:
        g[n] /= count
    return nll / count, g, count


# ---- optimizer --------------------------------------------------------------------------------

@dataclass(frozen=True)
class OptConfig:
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1   # only tensors with two or more dimensions
    clip: float = 1.0           # global norm; 0: off


def grad_norm(g):
    return math.sqrt(sum(float((x * x).sum()) for x in g.values()))


def adamw_step(opt, w, g, state, lr):
    """One update in place. state = {"t": 0, "m": {}, "v": {}} at the start. Returns the norm before
    clipping. The scale is min(1, clip / (norm + 1e-6)); eps stands outside the root."""
    norm = grad_norm(g)
    scale = min(1.0, opt.clip / (norm + 1e-6)) if opt.clip > 0 else 1.0
    state["t"] += 1
    c1, c2 = 1.0 - opt.beta1 ** state["t"], 1.0 - opt.beta2 ** state["t"]
    for n in g:
        d = g[n] * scale
        m = state["m"][n] = opt.beta1 * state["m"].get(n, 0.0) + (1.0 - opt.beta1) * d
        v = state["v"][n] = opt.beta2 * state["v"].get(n, 0.0) + (1.0 - opt.beta2) * d * d
        decay = opt.weight_decay if w[n].ndim >= 2 else 0.0
        w[n] = w[n] - lr * ((m / c1) / (np.sqrt(v / c2) + opt.eps) + decay * w[n])
    return norm


def learning_rate(kind, it, lr, min_lr, warmup, decay):
    """Rate of step it = 0, 1, ... cosine and linear: lr*(it+1)/(warmup+1) while it < warmup,
    min_lr once it > decay, in between from lr at it = warmup to min_lr at it = decay. constant: lr
    after the same warm-up."""
    if it < warmup:
        return lr * (it + 1) / (warmup + 1)
    if kind == "constant":
        return lr
    if it > decay:
        return min_lr
    done = (it - warmup) / (decay - warmup)
    left = 0.5 * (1.0 + math.cos(math.pi * done)) if kind == "cosine" else 1.0 - done
    return min_lr + left * (lr - min_lr)


# ---- self-check -------------------------------------------------------------------------------

def check_gradients(cfg, label, worst_allowed=1e-6):
    """Central differences on a few elements of every tensor: the largest and some at random."""
    rng = np.random.default_rng(5)
    w = init_weights(cfg, rng)
    eot = cfg.V - 1
    micros = []
    for _ in range(2):
        tokens = rng.integers(0, cfg.V, (2, 9))
        tokens[0, 3] = tokens[1, 0] = tokens[1, 5] = eot
        targets = rng.integers(0, cfg.V, (2, 9))
        targets[rng.random((2, 9)) < 0.2] = -1
        micros.append((tokens, targets))
    _, g, _ = loss_and_grads(cfg, w, micros, eot)
    worst = 0.0
    for n in g:
        flat, gflat = w[n].reshape(-1), g[n].reshape(-1)
        picks = {int(np.abs(gflat).argmax()), *rng.integers(0, flat.size, 6).tolist()}
        for i in picks:
            keep, h = flat[i], 1e-5
            flat[i] = keep + h
            up = loss_and_grads(cfg, w, micros, eot)[0]
            flat[i] = keep - h
            down = loss_and_grads(cfg, w, micros, eot)[0]
            flat[i] = keep
            numeric = (up - down) / (2 * h)
            worst = max(worst, abs(numeric - gflat[i]) / max(1e-3, abs(numeric)))
    print(f"{label:34s} {len(g):3d} tensors, worst relative difference {worst:.2e}")
    return worst < worst_allowed


def check_packing(cfg, label):
    """A packed row gives each document the logits it has alone in a row."""
    rng = np.random.default_rng(6)
    w = init_weights(cfg, rng)
    eot = cfg.V - 1
    row = rng.integers(0, eot, (1, 14))
    row[0, [4, 5, 10]] = eot                             # documents of 5, 1, 5 and 3 tokens
    packed, _ = forward(cfg, w, row, eot)
    worst, start = 0.0, 0
    for end in (5, 6, 11, 14):
        alone, _ = forward(cfg, w, row[:, start:end])
        worst = max(worst, float(np.abs(alone - packed[:, start:end]).max()))
        start = end
    print(f"{label:34s} packed against alone, worst difference {worst:.2e}")
    return worst < 1e-12


CHECK_CONFIGS = {
    "gpt2 tied": Config("gpt2", V=17, C=12, L=2, nh=3, nkv=3, ff=20, ctx=16),
    "gpt2 untied": Config("gpt2", V=17, C=12, L=1, nh=2, nkv=2, ff=20, ctx=16, tied=False),
    "llama tied, 4 heads on 2": Config("llama", V=17, C=16, L=2, nh=4, nkv=2, ff=20, ctx=16),
    "llama untied, freqs, scale 2": Config("llama", V=17, C=16, L=2, nh=4, nkv=1, ff=20, ctx=16,
                                           tied=False, rope_scale=2.0, rope_freqs=True),
    "qwen2 tied": Config("qwen2", V=17, C=16, L=2, nh=4, nkv=2, ff=20, ctx=16),
    "qwen3 untied, wide heads, yarn": Config("qwen3", V=17, C=12, L=2, nh=3, nkv=1, ff=20, ctx=16,
                                             tied=False, head=8, rope_base=50.0, rope_scale=3.0,
                                             yarn_ctx=24),
}


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--check", action="store_true", required=True, help="run the self-checks")
    ap.parse_args()
    good = [check(cfg, label) for label, cfg in CHECK_CONFIGS.items()
            for check in (check_gradients, check_packing)]
    print("ok" if all(good) else "FAILED")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
