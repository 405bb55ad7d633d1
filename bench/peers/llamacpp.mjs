// SPDX-License-Identifier: Apache-2.0
// llama.cpp on this machine, through the prebuilt binaries of the npm package node-llama-cpp.
// README.md says how to install it. One JSON line per result on stdout.
//
//   NODE_PATH=DIR/node_modules node llamacpp.mjs VERB MODEL.gguf [options]
//
//   speed       --pp 256 --tg 32 --streams 1,16 --reps 5
//               tokens/s of prefill and decode, all streams together: [min, median, max] of --reps
//   greedy      --prompts FILE --n 32
//               one prompt per line (a line that starts with a double quote is a JSON string); for
//               each the token ids and how far, in nats, each was ahead of the second best
//   logprobs    --file FILE | --ids 1,2,3
//               ln p of every token given those before it; null for the first
//   perplexity  --file FILE --ctx 512 --chunks 0
//               windows of ctx tokens, the second half counts; 0 chunks: the whole file
//   tokenize    --file FILE [--split LINE]
//               ids; --split: the file holds several texts with this line between them
//
// Everywhere: --threads N (default 2), --flash auto|on|off, --kv f16|f32|q8_0 (default f16; f32 has
// an effect only with --flash off), --special (text that looks like a special token becomes one),
// --lora ADAPTER.gguf, --lora-scale S (default 1).
// BOS is added only where the model asks for it; tokenize shows the bare text.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const OPTIONS = {
    pp: "256", tg: "32", streams: "1", reps: "5", prompts: "", n: "32", file: "", ids: "",
    ctx: "512", chunks: "0", split: "", threads: "2", kv: "f16", flash: "auto", special: false,
    lora: "", "lora-scale": "1",
};
const VERBS = { speed, greedy, logprobs, perplexity, tokenize };

const { values: opt, positionals: [verb, path] } = parseArgs({
    allowPositionals: true,
    options: Object.fromEntries(Object.entries(OPTIONS).map(([name, value]) =>
        [name, { type: typeof value === "boolean" ? "boolean" : "string", default: value }])),
});
if (!(verb in VERBS) || path === undefined) {
    console.error(`usage: llamacpp.mjs ${Object.keys(VERBS).join("|")} MODEL.gguf [options]`);
    process.exit(2);
}

const modules = process.env.NODE_PATH;
const require = createRequire(modules ? join(modules, "here") : import.meta.url);
const entry = require.resolve("node-llama-cpp");
const { getLlama } = await import(pathToFileURL(entry).href);
const version = JSON.parse(readFileSync(join(entry, "..", "..", "package.json"), "utf8")).version;
const threads = Number(opt.threads);
const llama = await getLlama({
    gpu: false, build: "never", maxThreads: threads, logLevel: "error", progressLogs: false,
});
const model = await llama.loadModel({ modelPath: path, vocabOnly: verb === "tokenize" });

await VERBS[verb]();
process.exit(0);   // the addon keeps threads alive

// ---- helpers

function print(result) {
    const head = { peer: "llama.cpp", version: `node-llama-cpp ${version}`, verb, model: path };
    console.log(JSON.stringify({ ...head, ...result }));
}

function round(x, digits) {
    return Number(x.toFixed(digits));
}

function vocabularySize() {
    const meta = model.fileInfo.metadata;
    return meta.tokenizer?.ggml?.tokens?.length ?? meta[meta.general.architecture].vocab_size;
}

// Ids of a text as the model wants to see it: with BOS where its metadata says so.
function encode(text) {
    const ids = model.tokenize(text, opt.special);
    const { bos, shouldPrependBosToken } = model.tokens;
    return shouldPrependBosToken && ids[0] !== bos ? [bos, ...ids] : ids;
}

async function newContext(tokens, sequences = 1) {
    const type = opt.kv.toUpperCase();
    const adapters = [{ filePath: opt.lora, scale: Number(opt["lora-scale"]) }];
    return model.createContext({
        lora: opt.lora ? { adapters } : undefined,
        contextSize: tokens, sequences, threads, batchSize: 512,
        flashAttention: { auto: "auto", on: true, off: false }[opt.flash],
        experimentalKvCacheKeyType: type, experimentalKvCacheValueType: type,
    });
}

// A token after which the raw logits are looked at. Temperature 0 leaves them as they are, and its
// choice is the best token.
function lookAt(token, logits) {
    const generateNext = { logits, totalLogitWeight: true, options: { temperature: 0 } };
    return [token, { generateNext }];
}

// ln p(token): the weight is the sum over the vocabulary of exp(logit - largest logit).
function logProbability({ logits, totalLogitWeight }, token) {
    return logits.get(token) - Math.max(...logits.values()) - Math.log(totalLogitWeight);
}

// ln p of ids[first+1 ...], each given all before it, in one pass over a fresh sequence.
async function scoreTokens(sequence, ids, first) {
    await sequence.clearHistory();
    const steps = ids.map((id, i) => i < first || i + 1 === ids.length ? id :
        lookAt(id, { filter: { tokens: [ids[i + 1]], includeSelected: true } }));
    const seen = await sequence.controlledEvaluate(steps);
    return ids.slice(first + 1).map((id, i) => logProbability(seen[first + i].next, id));
}

// ---- verbs

function spread(rates) {
    const sorted = rates.toSorted((a, b) => a - b);
    return [sorted[0], sorted[sorted.length >> 1], sorted.at(-1)].map(x => round(x, 2));
}

async function speed() {
    const pp = Number(opt.pp), tg = Number(opt.tg), vocab = vocabularySize();
    // different in every stream, so that no prefix is shared; not the special ids at either end
    const prompt = k =>
        Array.from({ length: pp }, (_, i) => 10 + (i * 7919 + k * 104729) % (vocab - 300));
    for (const streams of opt.streams.split(",").map(Number)) {
        const context = await newContext(pp + tg + 16, streams);
        const sequences = Array.from({ length: streams }, () => context.getSequence());
        const decode = async (sequence, k) => {
            let left = tg;
            const tokens = sequence.evaluate([10 + k], { temperature: 0, yieldEogToken: true });
            for await (const _ of tokens)
                if (--left === 0) return;
            throw new Error(`the model stopped ${left} tokens early`);
        };
        const prefill = [], generate = [];
        for (let r = -1; r < Number(opt.reps); r++) {          // the first round warms up
            for (const s of sequences) await s.clearHistory();
            const start = performance.now();
            await Promise.all(sequences.map((s, k) =>
                s.evaluateWithoutGeneratingNewTokens(prompt(k))));
            const middle = performance.now();
            await Promise.all(sequences.map(decode));
            if (r < 0) continue;
            prefill.push(1000 * streams * pp / (middle - start));
            generate.push(1000 * streams * tg / (performance.now() - middle));
        }
        print({
            streams, threads, kv: opt.kv, pp, tg, reps: prefill.length,
            tok_s_prefill: spread(prefill), tok_s_decode: spread(generate),
        });
        await context.dispose();
    }
}

async function greedy() {
    const n = Number(opt.n);
    const prompts = readFileSync(opt.prompts, "utf8").split("\n").filter(line => line !== "")
        .map(line => line.startsWith('"') ? JSON.parse(line) : line);
    for (const text of prompts) {
        const prompt = encode(text), ids = [], margins = [];
        const context = await newContext(prompt.length + n + 16), sequence = context.getSequence();
        const two = { filter: { tokens: [], includeTop: 2 } };
        let input = [...prompt.slice(0, -1), lookAt(prompt.at(-1), two)];
        while (ids.length < n) {
            const seen = await sequence.controlledEvaluate(input);
            const [[best, high], [, second]] = seen.at(-1).next.logits;
            ids.push(best);
            margins.push(round(high - second, 5));
            input = [lookAt(best, two)];
        }
        print({ prompt: text, prompt_ids: prompt, ids, margins, text: model.detokenize(ids) });
        await context.dispose();
    }
}

async function logprobs() {
    const ids = opt.ids ? opt.ids.split(",").map(Number) : encode(readFileSync(opt.file, "utf8"));
    const context = await newContext(ids.length + 16);
    const scores = await scoreTokens(context.getSequence(), ids, 0);
    const sum = scores.reduce((a, b) => a + b, 0);
    print({
        ids, logprobs: [null, ...scores.map(x => round(x, 6))], mean: round(sum / scores.length, 6),
    });
}

async function perplexity() {
    const size = Number(opt.ctx), first = size >> 1, ids = encode(readFileSync(opt.file, "utf8"));
    const whole = Math.floor(ids.length / size);
    const chunks = Math.min(Number(opt.chunks) || whole, whole);
    if (chunks === 0) throw new Error(`${opt.file}: ${ids.length} tokens, a window needs ${size}`);
    const context = await newContext(size + 16), sequence = context.getSequence();
    let nll = 0, count = 0;
    for (let c = 0; c < chunks; c++) {
        const window = ids.slice(c * size, (c + 1) * size);
        if (model.tokens.shouldPrependBosToken) window[0] = model.tokens.bos;
        for (const score of await scoreTokens(sequence, window, first)) {
            nll -= score;
            count++;
        }
    }
    const mean = nll / count;
    print({
        file: opt.file, ctx: size, chunks, tokens: count,
        nll: round(mean, 6), perplexity: round(Math.exp(mean), 5),
    });
}

async function tokenize() {
    const text = readFileSync(opt.file, "utf8");
    const parts = opt.split ? text.split(`\n${opt.split}\n`) : [text];
    if (parts.length > 1 && parts.at(-1) === "") parts.pop();    // the line after the last text
    for (const part of parts)
        print({ bytes: Buffer.byteLength(part), ids: model.tokenize(part, opt.special) });
}
