// SPDX-License-Identifier: Apache-2.0
// The dashboard: asks /dashboard/data for what is later than its newest row, every second or two, while the page is
// looked at. The window says how much is shown and how many seconds a row is.
import { get } from "./api.js";
import { Chart } from "./charts.js";
import { byId, el } from "./dom.js";

const STEP = { 1: 1, 5: 1, 15: 3, 60: 6 }; // samples in a row, by minutes shown

// ---- numbers as words ----

const short = (v) => (v >= 100 || Number.isInteger(v) ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2));
const count = (v) => (v >= 1e6 ? `${(v / 1e6).toFixed(1)} M` : v >= 1e4 ? `${(v / 1e3).toFixed(0)} k` : short(v));
const many = (v, what) => `${count(v)} ${what}${v === 1 ? "" : "s"}`;
const span = (v) => (v === 0 ? "0" : v < 1e-3 ? `${short(v * 1e6)} µs` : v < 1 ? `${short(v * 1e3)} ms` : `${short(v)} s`);
const share = (v) => `${short(v * 100)} %`;
const percent = (v) => `${short(v)} %`;
const bytes = (v) => (v >= 1e9 ? `${short(v / 1e9)} GB` : v >= 1e6 ? `${short(v / 1e6)} MB` : `${short(v / 1e3)} kB`);
const age = (s) => (s < 60 ? `${s.toFixed(1)} s` : s < 3600 ? `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s` : `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`);

const CHARTS = [
    { title: "Requests a second", format: count, least: 1, series: [{ name: "requests_s" }] },
    { title: "Time to first token", format: span, series: [{ name: "ttft_p50", label: "p50" }, { name: "ttft_p95", label: "p95" }, { name: "ttft_p99", label: "p99" }] },
    { title: "Inter-token latency", format: span, series: [{ name: "itl_p50", label: "p50" }, { name: "itl_p95", label: "p95" }, { name: "itl_p99", label: "p99" }] },
    { title: "Tokens a second", format: count, least: 1, series: [{ name: "new_tokens_s", label: "generated" }, { name: "prompt_tokens_s", label: "of prompts" }] },
    { title: "Batch size (rows of a step)", format: count, least: 1, series: [{ name: "batch" }] },
    { title: "Requests in the batch and in the queue", format: count, least: 2, series: [{ name: "running", label: "running" }, { name: "waiting", label: "waiting" }] },
    { title: "KV cache in use", format: share, most: 1, series: [{ name: "kv" }] },
    { title: "Prompts found in the prefix cache", format: share, most: 1, series: [{ name: "prefix_hit" }] },
    { title: "Errors a second", format: count, least: 1, series: [{ name: "err_client_s", label: "wrong" }, { name: "err_denied_s", label: "denied" }, { name: "err_busy_s", label: "sent away" },
        { name: "err_timeout_s", label: "out of time" }, { name: "err_server_s", label: "failed" }, { name: "err_left_s", label: "left" }] },
    { title: "Memory", format: bytes, series: [{ name: "memory_bytes" }] },
    { title: "Processors", format: percent, most: 100, series: [{ name: "cpu", label: "machine" }, { name: "cpu_self", label: "this server" }] },
    { title: "Clients connected", format: count, least: 4, series: [{ name: "connections" }] },
];
const TILES = [
    ["Requests/s", "requests_s", count], ["Tokens/s", "new_tokens_s", count], ["First token, p95", "ttft_p95", span],
    ["Inter-token, p95", "itl_p95", span], ["Running", "running", count], ["Waiting", "waiting", count],
    ["KV cache", "kv", share], ["Memory", "memory_bytes", bytes],
];

let minutes = 5, rows = [], names = [], timer = 0, generation = 0;

function columns() {
    return Object.fromEntries(names.map((name, i) => [name, rows.map((r) => r[i])]));
}

// ---- showing ----

function tiles(last) {
    for (const [i, [, name, format]] of TILES.entries()) {
        const v = last?.[names.indexOf(name)];
        byId("tiles").children[i].lastElementChild.textContent = v == null ? "–" : format(v);
    }
}

function about(d) {
    const up = age(d.now - d.started), t = d.totals;
    byId("about").textContent = `${d.loaded ? d.model : "no model yet"}, up ${up}, ${many(t.requests, "request")}, ` +
        `${many(t.errors, "error")}, ${many(t.new_tokens, "token")} generated`;
}

function row(r) {
    const cell = (text, n) => el(n ? "td.n" : "td", {}, text);
    return el("tr", {}, el("td", {}, el("code", {}, r.id)), cell(r.route), cell(r.model ?? ""), cell(r.state),
        cell(String(r.prompt_tokens), true), cell(String(r.tokens), true), cell(age(r.age_s), true));
}

function requests(d) {
    const body = byId("requests").tBodies[0];
    const more = d.n_requests - d.requests.length;
    byId("n-requests").textContent = d.n_requests ? `${d.n_requests}${more > 0 ? `, the oldest ${d.requests.length} here` : ""}` : "";
    body.replaceChildren(...(d.requests.length ? d.requests.map(row) : [el("tr", {}, el("td.none", { colspan: 7 }, "none just now"))]));
}

function show(d) {
    const from = d.now - minutes * 60, data = columns();
    for (const c of charts) c.show(data, from, d.now);
    tiles(rows.at(-1));
    about(d);
    requests(d);
}

// ---- asking ----

// A server that started again has another history: rows of the old one would stand beside it.
let started = 0;

async function ask() {
    const mine = generation, step = STEP[minutes];
    const since = rows.at(-1)?.[0] ?? 0;
    const d = await get(`/dashboard/data?since=${since}&step=${step}&rows=${Math.ceil(minutes * 60 / step)}`);
    if (mine !== generation) return;
    if (d.started !== started) {
        started = d.started;
        if (rows.length) { rows = []; return; }
    }
    names = d.names;
    rows = [...rows, ...d.rows].filter((r) => r[0] > d.now - minutes * 60);
    show(d);
}

async function turn() {
    clearTimeout(timer);
    const box = byId("trouble");
    try {
        await ask();
        box.hidden = true;
    } catch (e) {
        const words = `${e.message}. ${e.next ?? ""} This page goes on trying.`;
        if (box.textContent !== words || box.hidden) box.textContent = words;
        box.hidden = false;
    }
    if (!document.hidden) timer = setTimeout(turn, STEP[minutes] > 1 ? 3000 : 1000);
}

function choose(value) {
    minutes = value;
    rows = [];
    generation++;
    try { localStorage.setItem("ingot.window", value); } catch { /* not kept */ }
    turn();
}

for (const [label] of TILES) byId("tiles").append(el("div", {}, el("dt", {}, label), el("dd", {}, "–")));
const charts = CHARTS.map((c) => new Chart(byId("charts"), c));
try {
    const kept = localStorage.getItem("ingot.window");
    if (STEP[kept]) minutes = Number(kept);
} catch { /* the default */ }
for (const radio of document.querySelectorAll("#windows input")) {
    radio.checked = Number(radio.value) === minutes;
    radio.addEventListener("change", () => choose(Number(radio.value)));
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) turn(); });
turn();
