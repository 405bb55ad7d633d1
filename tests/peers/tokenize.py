#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tokenize.py INGOT VOCAB.gguf|pairs [--pre all|NAME,...] [--n 2000] [--seed 1] [--special] [--text FILE] [--name MODEL]

Token ids of ingot and of llama.cpp on the same texts, one line per pre-tokenizer; exit 1 if any differ.
The vocabulary is used as it is, or with its tokenizer.ggml.pre rewritten to each NAME; "pairs" is one in
which any two bytes merge, so that a piece that ends elsewhere always shows in the ids. Texts are made
at random: languages, code, emoji, marks, controls, code points of all planes, long runs; --text adds the
lines of a file and parts of it; --name sets general.name, which some rules go by. libllama comes out of the npm package node-llama-cpp, which
NODE_PATH has to hold."""
import argparse
import ctypes as C
import glob
import os
import random
import struct
import subprocess
import sys
import tempfile

PRE = """default gpt-2 phi-2 llama-bpe llama3 llama-v3 dbrx smaug-bpe falcon3 falcon-h1 pixtral qwen2
deepseek-r1-qwen stablelm2 hunyuan megrez qwen35 deepseek-llm deepseek-coder deepseek-v3 hunyuan-dense smollm
starcoder refact command-r falcon tekken gpt-4o llama4 chatglm-bpe glm4 mpt olmo jais codeshell bloom
gpt3-finnish poro-chat viking exaone exaone4 exaone-moe minerva-7b chameleon trillion bailingmoe seed-coder
superbpe kimi-k2 grok-2 solar-open afmoe tiny_aya minimax-m2 granite-embed-multi-97m laguna ufakzeka
spark2_5 youtu minicpm5 jais-2 jina-v2-code jina-v2-de gigachat modern-bert a.x-4.0 mellum lfm2""".split()

# ---- GGUF metadata ----
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def skip_value(b, kind, p):
    if kind == 8:
        return p + 8 + struct.unpack_from("<Q", b, p)[0]
    if kind != 9:
        return p + SIZES[kind]
    elem, n = struct.unpack_from("<IQ", b, p)
    p += 12
    if elem in SIZES:
        return p + n * SIZES[elem]
    for _ in range(n):
        p = skip_value(b, elem, p)
    return p


def read_metadata(path):
    """{key: the bytes of its type and value}"""
    b = open(path, "rb").read()
    p, kv = 24, {}
    for _ in range(struct.unpack_from("<Q", b, 16)[0]):
        n = struct.unpack_from("<Q", b, p)[0]
        key = b[p + 8:p + 8 + n]
        p += 8 + n
        end = skip_value(b, struct.unpack_from("<I", b, p)[0], p + 4)
        kv[key] = b[p:end]
        p = end
    return kv


def string(s):
    return struct.pack("<Q", len(s)) + s


def pairs_metadata():
    visible = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    hidden = [b for b in range(256) if b not in visible]
    one = [chr(b if b in visible else 256 + hidden.index(b)).encode() for b in range(256)]
    pairs = [(a, b) for a in one for b in one]
    random.Random(1).shuffle(pairs)

    def strings(v):
        return struct.pack("<IIQ", 9, 8, len(v)) + b"".join(map(string, v))
    tokens = one + [a + b for a, b in pairs]
    return {b"tokenizer.ggml.model": struct.pack("<I", 8) + string(b"gpt2"), b"tokenizer.ggml.tokens": strings(tokens),
            b"tokenizer.ggml.merges": strings([a + b" " + b for a, b in pairs]),
            b"tokenizer.ggml.bos_token_id": struct.pack("<II", 4, 0),
            b"tokenizer.ggml.eos_token_id": struct.pack("<II", 4, 0)}


def write_metadata(path, kv):
    b = b"GGUF" + struct.pack("<IQQ", 3, 0, len(kv)) + b"".join(string(k) + v for k, v in kv.items())
    open(path, "wb").write(b + bytes(-len(b) % 32))


# ---- llama.cpp ----
class ModelParams(C.Structure):
    _fields_ = [("devices", C.c_void_p), ("overrides", C.c_void_p), ("n_gpu_layers", C.c_int32),
                ("split_mode", C.c_int), ("load_mode", C.c_int), ("lazy_mode", C.c_int),
                ("main_gpu", C.c_int32), ("tensor_split", C.c_void_p), ("progress", C.c_void_p),
                ("progress_data", C.c_void_p), ("kv_overrides", C.c_void_p), ("vocab_only", C.c_bool),
                ("flags", C.c_bool * 15)]


LOG = C.CFUNCTYPE(None, C.c_int, C.c_char_p, C.c_void_p)


class Llama:
    def __init__(self):
        roots = os.environ.get("NODE_PATH", "").split(":")
        libs = [g for r in roots for g in glob.glob(r + "/@node-llama-cpp/linux-x64/bins/linux-x64")]
        if not libs:
            sys.exit("NODE_PATH holds no node-llama-cpp")
        C.CDLL(libs[0] + "/libggml-base.so", C.RTLD_GLOBAL)
        C.CDLL(glob.glob(libs[0] + "/libggml.v*.so")[0], C.RTLD_GLOBAL)
        self.lib = lib = C.CDLL(glob.glob(libs[0] + "/libllama.v*.so")[0])
        self.quiet = LOG(lambda level, text, data: sys.stderr.write(text.decode(errors="replace"))
                         if level >= 4 and text else None)
        lib.llama_log_set(self.quiet, None)
        lib.llama_backend_init()
        lib.llama_model_default_params.restype = ModelParams
        lib.llama_model_load_from_file.restype = C.c_void_p
        lib.llama_model_load_from_file.argtypes = [C.c_char_p, ModelParams]
        lib.llama_model_get_vocab.restype = C.c_void_p
        lib.llama_model_get_vocab.argtypes = [C.c_void_p]
        lib.llama_model_free.argtypes = [C.c_void_p]
        lib.llama_tokenize.argtypes = [C.c_void_p, C.c_char_p, C.c_int32, C.POINTER(C.c_int32), C.c_int32,
                                       C.c_bool, C.c_bool]

    def encode(self, path, texts, special):
        params = self.lib.llama_model_default_params()
        params.vocab_only = True
        model = self.lib.llama_model_load_from_file(path.encode(), params)
        if not model:
            return None
        vocab = self.lib.llama_model_get_vocab(model)
        out = []
        for t in texts:
            buf = (C.c_int32 * (4 * len(t) + 8))()
            n = self.lib.llama_tokenize(vocab, t, len(t), buf, len(buf), False, special)
            out.append(list(buf[:n]))
        self.lib.llama_model_free(model)
        return out


def ingot(program, path, texts, special):
    cmd = [program, "tokenizer", "encode", path, "-", "--null"] + (["--special"] if special else [])
    r = subprocess.run(cmd, input=b"\0".join(texts) + b"\0", stdout=subprocess.PIPE)
    if r.returncode:
        return None
    return [[int(x) for x in line.split()] for line in r.stdout.decode().split("\n")[:-1]]


# ---- texts ----
BITS = r"""Hello world the quick brown Fox's DON'T we'LL they've I'm he'd 'S 'tis camelCaseWord XMLHttpRequest HTML5
def return if (x == 1): for i in range(10): # comment /* */ // -> => != <= && || ::std::vector<int> $var @decorator
0x1F 3.14159 1e-9 1234567890 ١٢٣ ½ Ⅷ ² 𝟘𝟙 10,000 2024-01-01
Привет мир ёлка Здравствуйте Γειά σου Κόσμε שלום עולם مرحبا بالعالم नमस्ते दुनिया বাংলা ไทยภาษา ភាសា မြန်မာ
こんにちは世界 カタカナ ｶﾀｶﾅ 中文字符測試 繁體 한국어 안녕하세요 ㄅㄆㄇ 𠀀𠀁 豈 ﷺ ᏣᎳᎩ ⴰⵎⴰⵣⵉⵖ ɐɑɒ ʰʷ ǅ ﬁ ſs K Ω Å
😀 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 👍🏽 ❤️ ™ © € ¥ ₿ ← ∑ ∞ ≠ ½ ¿ ¡ … — “quoted” ‘single’ « » 、 。 ， ！ ？ ： ； ۔ ، ।
\u0301e\u0301 \u0308a\u0308\u0323 \u0301 \u0903 \u20dd \u200b \u200d \ufeff \u00ad \u2028 \u2029 \u0085 \u00a0 \u3000 \u1680 \u2003
\u0001 \u0007 \u001b \u001f \u007f \u0080 \u009f \ufffd \ue000 \U000f0000 \U0010ffff \u0378 \U000e0041 <|endoftext|> <s> </s>
<unk> <|im_start|> <0x0A> ▁ ▁▁the <sentinel:12> IMGIMGABZ ' '' ` ~ ^ _ \\ | { } [ ] ( ) < > + = - * / % & # @ ! ? . , ; : " """.split()
BITS = [b.encode("raw_unicode_escape").decode("unicode_escape") if b[:2] in ("\\u", "\\U") else b for b in BITS]
SPACE = [" ", " ", " ", " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", " \n", "\n ", "\v", "\f", "", "", ""]


def code_point(r):
    top = r.choice([0x80, 0x250, 0x800, 0x3000, 0x10000, 0x20000, 0x110000])
    while True:
        c = r.randrange(1, top)
        if not 0xd800 <= c < 0xe000:
            return chr(c)


def random_text(r):
    kind = r.randrange(8)
    if kind == 0:
        return "".join(code_point(r) for _ in range(r.randrange(1, 40)))
    if kind == 1:
        return "".join(r.choice(" \n\t\r0123aA'.\u00a0\u3000é中́") for _ in range(r.randrange(1, 60)))
    if kind == 2:
        run = r.choice([" ", "\n", "7", "a", "\t", " \n", "=", "é", "中", "😀", "\r\n", "A", "Aa"])
        return r.choice(BITS) + run * r.randrange(1, 300) + r.choice(BITS)
    if kind == 3:
        return "".join(r.choice(BITS) for _ in range(r.randrange(1, 20)))
    text = ""
    for _ in range(r.randrange(1, 24)):
        text += r.choice(BITS) + r.choice(SPACE)
        if r.random() < 0.1:
            text += code_point(r)
    return text


def make_texts(n, seed, path):
    r = random.Random(seed)
    texts = [random_text(r) for _ in range(n)]
    if path:
        lines = open(path, encoding="utf-8", errors="ignore").read()
        texts += lines.split("\n__ggml_vocab_test__\n")
        for _ in range(n // 4):
            i = r.randrange(max(len(lines) - 200, 1))
            texts.append(lines[i:i + r.randrange(1, 400)])
    return [t.replace("\0", "").encode("utf-8") for t in texts if t.replace("\0", "")]


def shrink(pair, text):
    """The shortest part of text that still differs, by code points."""
    chars = text.decode()
    step = max(len(chars) // 2, 1)
    while step:
        i = 0
        while i < len(chars):
            part = chars[:i] + chars[i + step:]
            if part and pair(part.encode()):
                chars = part
            else:
                i += step
        step //= 2
    return chars.encode()


def main():
    a = argparse.ArgumentParser()
    a.add_argument("ingot")
    a.add_argument("vocab")
    a.add_argument("--pre", default="")
    a.add_argument("--n", type=int, default=2000)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--special", action="store_true")
    a.add_argument("--text")
    a.add_argument("--name")
    a.add_argument("--show", type=int, default=3)
    o = a.parse_args()
    llama, kv, bad = Llama(), pairs_metadata() if o.vocab == "pairs" else read_metadata(o.vocab), 0
    kv.setdefault(b"general.architecture", struct.pack("<I", 8) + string(b"llama"))
    if o.name:
        kv[b"general.name"] = struct.pack("<I", 8) + string(o.name.encode())
    texts = make_texts(o.n, o.seed, o.text)
    names = PRE if o.pre == "all" else o.pre.split(",") if o.pre else [None]
    with tempfile.TemporaryDirectory() as tmp:
        path = tmp + "/v.gguf"
        for name in names:
            if name is not None:
                kv[b"tokenizer.ggml.pre"] = struct.pack("<I", 8) + string(name.encode())
                kv[b"tokenizer.ggml.add_bos_token"] = struct.pack("<IB", 7, 0)
            write_metadata(path, kv)
            want, got = llama.encode(path, texts, o.special), ingot(o.ingot, path, texts, o.special)
            if want is None or got is None:
                print(f"{name}: {'llama.cpp' if want is None else 'ingot'} does not load it")
                bad += 1
                continue
            diff = [i for i in range(len(texts)) if want[i] != got[i]]
            print(f"{name or o.vocab}: {len(texts)} texts, {len(diff)} differ", flush=True)
            bad += bool(diff)

            def differs(t):
                return llama.encode(path, [t], o.special) != ingot(o.ingot, path, [t], o.special)
            for i in diff[:o.show]:
                t = shrink(differs, texts[i]) if len(texts[i]) < 400 and o.show else texts[i]
                print("  ", ascii(t.decode()), "want", llama.encode(path, [t], o.special)[0][:24], "got",
                      ingot(o.ingot, path, [t], o.special)[0][:24])
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
