// SPDX-License-Identifier: Apache-2.0
// load.mjs INGOT [RATE] [SECONDS]   `ingot load` beside a client of another making, at the same time on the same server
//
// Starts tests/e2e/known_server.py, has ingot load and Node's fetch ask it at the same rate for the same time, and prints the
// quantiles of both with the 95% interval that the number of requests leaves (by resampling). Exit 1 if one of ingot's lies
// outside by more than 1%, or 1 ms.
import { spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const [ingot = "build/ingot", rate = "40", seconds = "20"] = process.argv.slice(2);
const here = dirname(fileURLToPath(import.meta.url));
const TOKENS = 8;
const sleep = (ms) => new Promise((r) => setTimeout(r, Math.max(ms, 0)));

const server = spawn("python3", [join(here, "../e2e/known_server.py"), "--ttft", "150,0.4", "--itl", "25,0.4"]);
const port = await new Promise((r) => server.stdout.once("data", (d) => r(+d)));
const url = `http://127.0.0.1:${port}`;

// ---- the other client: as plain as can be ----

const times = { ttft: [], itl: [], e2e: [], tpot: [] };
const lags = [];

async function ask(plan) {
    lags.push(performance.now() - plan);
    const body = { messages: [{ role: "user", content: "hi" }], max_tokens: TOKENS, stream: true };
    const r = await fetch(url + "/v1/chat/completions", { method: "POST", body: JSON.stringify(body) });
    const decoder = new TextDecoder();
    const at = [];
    let text = "";
    for await (const part of r.body) {
        const now = performance.now();
        text += decoder.decode(part, { stream: true });
        for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
            const data = text.slice(6, end);
            if (data !== "[DONE]" && JSON.parse(data).choices[0]?.delta?.content) at.push(now);
        }
    }
    times.e2e.push(performance.now() - plan);
    times.ttft.push(at[0] - plan);
    times.tpot.push((at.at(-1) - at[0]) / (at.length - 1));
    for (let i = 1; i < at.length; i++) times.itl.push(at[i] - at[i - 1]);
}

async function others() {
    const t0 = performance.now();
    const all = [];
    for (let plan = 0; ; ) {
        plan += (-Math.log(1 - Math.random()) / rate) * 1000;
        if (plan > seconds * 1000) break;
        await sleep(t0 + plan - performance.now());
        all.push(ask(t0 + plan));
    }
    await Promise.all(all);
}

function ours() {
    const args = ["load", url, "--rate", rate, "--duration", seconds, "--max-tokens", `${TOKENS}`, "--no-probe", "--json", "-q",
                  "--warmup", "0"];
    return new Promise((resolve) => {
        let out = "";
        const p = spawn(ingot, args, { stdio: ["ignore", "pipe", "inherit"] });
        p.stdout.on("data", (d) => (out += d));
        p.on("close", () => resolve(JSON.parse(out)));
    });
}

// ---- comparing ----

const mean = (v) => v.reduce((a, b) => a + b, 0) / v.length;
const quantile = (v, q) => v[Math.max(Math.ceil(q * v.length - 1e-9), 1) - 1];

function interval(v, q) {
    const got = [];
    for (let k = 0; k < 300; k++) {
        const again = Float64Array.from({ length: v.length }, () => v[Math.floor(Math.random() * v.length)]).sort();
        got.push(quantile(again, q));
    }
    got.sort((a, b) => a - b);
    // of a difference of two samples of this size
    const half = ((got[Math.floor(0.975 * 300)] - got[Math.floor(0.025 * 300)]) / 2) * Math.SQRT2;
    return half;
}

const [point] = await Promise.all([ours(), others()]);
server.kill();
let bad = 0;
console.log(`${point.answered} answers to ingot load, ${times.e2e.length} to fetch; ` +
            `sends were late by ${point.generator.lag_ms.mean.toFixed(2)} and ${mean(lags).toFixed(2)} ms in the mean`);
for (const name of Object.keys(times)) {
    const v = times[name].sort((a, b) => a - b);
    for (const [q, key] of [[0.5, "p50"], [0.9, "p90"], [0.95, "p95"], [0.99, "p99"]]) {
        const other = quantile(v, q), own = point[name + "_ms"][key], noise = interval(v, q);
        const off = Math.abs(own - other) > noise + Math.max(0.01 * other, 1);
        bad += off;
        console.log(`${name.padEnd(5)} ${key}  fetch ${other.toFixed(2).padStart(8)} ms  ingot ${own.toFixed(2).padStart(8)} ms  ` +
                    `difference ${(own - other).toFixed(2).padStart(7)}, noise ${noise.toFixed(2)}${off ? "  OUTSIDE" : ""}`);
    }
}
process.exit(bad ? 1 : 0);
