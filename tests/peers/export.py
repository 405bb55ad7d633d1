#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tests/peers/export.py [weights|tokens]     exported folders, read by other programs (numpy, node)

INGOT is the program (build/ingot). weights: folders of make_hf.py become files and folders again; the folder is
read here (struct, json, numpy), and what its config.json and its tensors say is computed in float64: the logits
are those of the folder it began with, up to DIFF. Converted once more the file has the same bytes.

tokens: vocabularies as a tokenizer.json, encoded by the npm package @huggingface/tokenizers (NODE_PATH holds it) and
by ingot with the GGUF file it came from: the same ids of random texts. INGOT_TEST_DATA/vocab adds published ones."""
import sys

sys.path.append(sys.path.pop(0))  # this folder last: its tokenize.py is not the library's
import glob  # noqa: E402
import importlib.util  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import struct  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import unicodedata  # noqa: E402

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
DIFF, N_TEXTS = 1e-7, 1500  # a factor of yarn is single precision in the file


def ingot(*args, **kw):
    run = subprocess.run([os.environ.get("INGOT", "build/ingot"), *args], capture_output=True, timeout=170, **kw)
    if run.returncode:
        raise RuntimeError(run.stderr.decode().strip())
    return run.stdout


def same(a, b):
    with open(a, "rb") as f, open(b, "rb") as g:
        return f.read() == g.read()


# ---- weights ----------------------------------------------------------------------------------

def read_safetensors(path):
    import numpy as np
    with open(path, "rb") as f:
        raw = f.read()
    n = struct.unpack("<Q", raw[:8])[0]
    head = json.loads(raw[8:8 + n])
    assert head.pop("__metadata__") == {"format": "pt"}
    out, end = {}, 0
    for name, t in sorted(head.items(), key=lambda i: i[1]["data_offsets"]):
        b, e = t["data_offsets"]
        assert b == end, "a hole before " + name
        end, data = e, raw[8 + n + b:8 + n + e]
        if t["dtype"] == "BF16":
            x = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            x = np.frombuffer(data, {"F16": "<f2", "F32": "<f4"}[t["dtype"]])
        out[name] = x.astype(np.float64).reshape(t["shape"])
    assert 8 + n + end == len(raw)
    return out


def read_folder(folder):
    index = os.path.join(folder, "model.safetensors.index.json")
    if not os.path.exists(index):
        return read_safetensors(os.path.join(folder, "model.safetensors"))
    with open(index, encoding="utf-8") as f:
        where, out = json.load(f)["weight_map"], {}
    for file in sorted(set(where.values())):
        part = read_safetensors(os.path.join(folder, file))
        assert sorted(part) == sorted(n for n, w in where.items() if w == file)
        out.update(part)
    return out


def as_said(make_hf, folder):
    """A model of what the folder says."""
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        c = json.load(f)
    m = make_hf.Model.__new__(make_hf.Model)
    m.cls, = c["architectures"]
    m.gpt2 = m.cls == "GPT2LMHeadModel"
    m.o = {"rope_scaling": c.get("rope_scaling")}
    m.L, m.C = c["n_layer" if m.gpt2 else "num_hidden_layers"], c["n_embd" if m.gpt2 else "hidden_size"]
    m.nh = c["n_head" if m.gpt2 else "num_attention_heads"]
    m.nkv = m.nh if m.gpt2 else c["num_key_value_heads"]
    m.hd = m.C // m.nh if m.gpt2 else c["head_dim"]
    m.eps = c["layer_norm_epsilon" if m.gpt2 else "rms_norm_eps"]
    m.theta, m.tied = c.get("rope_theta"), c["tie_word_embeddings"]
    m.w = read_folder(folder)
    assert ("lm_head.weight" in m.w) == (not m.tied)
    return m


def check_weights(make_hf, name, tmp):
    import numpy as np
    m = make_hf.make(name, tmp)
    folder, out = os.path.join(tmp, name), os.path.join(tmp, "out", name)
    one, two = os.path.join(tmp, "one.gguf"), os.path.join(tmp, "two.gguf")
    os.makedirs(os.path.dirname(out))
    ids = np.array([int(i) for i in m.rng.integers(0, make_hf.V, 30)])
    want, worst, equal = m.logits(ids), 0.0, True
    for kind in ("auto", "f32"):
        for shard in ("5GB", "4K"):
            ingot("convert", folder, one, "--type", kind, "-q")
            ingot("export", one, out, "--force", "-q", "--shard-size", shard)
            got = as_said(make_hf, out)
            assert got.cls == m.cls, got.cls
            worst = max(worst, float(np.abs(got.logits(ids) - want).max()))
            ingot("convert", out, two, "-q")
            equal = equal and same(one, two)
    good = worst < DIFF and equal
    print(f"{name:18s} {'ok' if good else 'DIFFERENT':9s} {worst:8.1e} {'same file' if equal else 'another file'}",
          flush=True)
    return good


def weights():
    import make_hf
    good = True
    for name in make_hf.MODELS:
        with tempfile.TemporaryDirectory() as tmp:
            try:
                good &= check_weights(make_hf, name, tmp)
            except (RuntimeError, AssertionError) as e:
                print(f"{name:18s} FAILED  {e}")
                good = False
    return good


# ---- tokens -----------------------------------------------------------------------------------

NODE = r"""
const { Tokenizer } = require("@huggingface/tokenizers"), fs = require("fs"), dir = process.argv[2];
const read = (f) => JSON.parse(fs.readFileSync(dir + "/" + f, "utf8"));
const t = new Tokenizer(read("tokenizer.json"), read("tokenizer_config.json"));
const texts = JSON.parse(fs.readFileSync(process.argv[3], "utf8"));
const ids = texts.map((s) => t.encode(s, { add_special_tokens: false }).ids);
process.stdout.write(JSON.stringify([ids, t.encode("a").ids]));
"""


def string(s):
    return struct.pack("<Q", len(s)) + s


def kv_str(s):
    return struct.pack("<I", 8) + string(s)


def kv_u32(v):
    return struct.pack("<II", 4, v)


def count_tokens(value):
    return struct.unpack_from("<Q", value, 8)[0]


def write_model(path, kv):
    """A llama of one layer and width 8 around a vocabulary."""
    V = count_tokens(kv[b"tokenizer.ggml.tokens"])
    head = {b"general.architecture": kv_str(b"llama"), b"llama.block_count": kv_u32(1), b"llama.context_length": kv_u32(64),
            b"llama.embedding_length": kv_u32(8), b"llama.feed_forward_length": kv_u32(8),
            b"llama.attention.head_count": kv_u32(1),
            b"llama.attention.layer_norm_rms_epsilon": struct.pack("<If", 6, 1e-5)}
    head.update({k: v for k, v in kv.items() if k.startswith(b"tokenizer.")})
    dims = [("token_embd.weight", (8, V)), ("output_norm.weight", (8,)), ("blk.0.attn_norm.weight", (8,)),
            ("blk.0.ffn_norm.weight", (8,))]
    dims += [(f"blk.0.{n}.weight", (8, 8)) for n in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up",
                                                     "ffn_down")]
    infos, size = b"", 0
    for name, d in dims:
        infos += string(name.encode()) + struct.pack("<I", len(d)) + struct.pack(f"<{len(d)}Q", *d) + struct.pack("<IQ", 0, size)
        n = 4
        for x in d:
            n *= x
        size += n + -n % 32
    b = b"GGUF" + struct.pack("<IQQ", 3, len(dims), len(head)) + b"".join(string(k) + v for k, v in head.items()) + infos
    with open(path, "wb") as f:
        f.write(b + bytes(-len(b) % 32) + bytes(size))


def is_common(text):
    """JavaScript has its own white space (U+FEFF, not U+0085), and letters of another version of Unicode."""
    return not any(c in "\ufeff\x85" or unicodedata.category(c) == "Cn" for c in text)


def check_tokens(tok, name, kv, texts):
    with tempfile.TemporaryDirectory() as tmp:
        gguf, out, script = (os.path.join(tmp, n) for n in ("m.gguf", "hf", "run.cjs"))
        write_model(gguf, kv)
        ingot("export", gguf, out, "-q")
        with open(script, "w", encoding="utf-8") as f:
            f.write(NODE)
        with open(os.path.join(tmp, "texts"), "w", encoding="utf-8") as f:
            json.dump([t.decode() for t in texts], f)
        r = subprocess.run(["node", script, out, os.path.join(tmp, "texts")], capture_output=True, timeout=170)
        if r.returncode:
            raise RuntimeError(r.stderr.decode()[-300:])
        theirs, _ = json.loads(r.stdout)
        ours = tok.ingot(os.environ.get("INGOT", "build/ingot"), gguf, texts, True)
        again = tok.ingot(os.environ.get("INGOT", "build/ingot"), os.path.join(out, "tokenizer.json"), texts, True)
        bad = [i for i in range(len(texts)) if theirs[i] != ours[i]]
        lost = [i for i in range(len(texts)) if again[i] != ours[i]]
        print(f"{name:24s} {len(texts)} texts, {len(bad)} differ from node, {len(lost)} differ read again", flush=True)
        for i in bad[:3]:
            print("  ", ascii(texts[i].decode())[:200], "node", theirs[i][:16], "ingot", ours[i][:16])
        for i in lost[:3]:
            print("  ", ascii(texts[i].decode())[:200], "again", again[i][:16], "ingot", ours[i][:16])
        return not bad and not lost


def tokens():
    spec = importlib.util.spec_from_file_location("peer_tokenize", os.path.join(HERE, "tokenize.py"))
    tok = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tok)
    texts, good = [t for t in tok.make_texts(N_TEXTS, 1, None) if is_common(t.decode())], True
    cases = [(pre, tok.pairs_metadata()) for pre in ("gpt-2", "llama-bpe", "qwen2", "starcoder")]
    for pre, kv in cases:
        kv[b"tokenizer.ggml.pre"] = kv_str(pre.encode())
        kv[b"tokenizer.ggml.add_bos_token"] = struct.pack("<IB", 7, 0)
    for path in sorted(glob.glob(os.environ.get("INGOT_TEST_DATA", "/none") + "/vocab/*.gguf")):
        cases.append((os.path.basename(path), tok.read_metadata(path)))
    for name, kv in cases:
        try:
            good &= check_tokens(tok, name, kv, texts)
        except RuntimeError as e:
            print(f"{name:24s} FAILED  {e}")
            good = False
    return good


if __name__ == "__main__":
    parts = sys.argv[1:] or ["weights", "tokens"]
    done = [{"weights": weights, "tokens": tokens}[p]() for p in parts]
    sys.exit(0 if all(done) else 1)
