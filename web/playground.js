// SPDX-License-Identifier: Apache-2.0
// The playground: a conversation with the model through /v1/chat/completions, as any client would ask. What was said and
// the settings are kept in this browser (localStorage) and nowhere else.
//
//   idle -[send, retry, edit]-> busy -[end, stop, trouble]-> idle
import { events, get, post, Trouble } from "./api.js";
import { byId, copy, el } from "./dom.js";
import * as fields from "./fields.js";
import { figures, make, show } from "./turns.js";

const KEPT = "ingot.chat";
const SPEAK_MS = 4000;

let messages = [];
let busy = null; // {abort, message, turn, started, first, last, spoken}

// ---- keeping ----

function keep() {
    try {
        localStorage.setItem(KEPT, JSON.stringify({ version: 1, messages, settings: fields.values() }));
    } catch { /* no room, or not allowed: the page works without */ }
}

function load() {
    try {
        const kept = JSON.parse(localStorage.getItem(KEPT) ?? "null");
        const good = (m) => typeof m?.content === "string" && ["user", "assistant", "tool"].includes(m.role);
        if (kept?.version !== 1) return {};
        messages = kept.messages.filter(good);
        return kept.settings ?? {};
    } catch {
        return {};
    }
}

// ---- the request ----

function asSent(m) {
    if (m.role === "tool") return { role: "tool", tool_call_id: m.call, content: m.content };
    if (m.role !== "assistant") return { role: m.role, content: m.content };
    const out = { role: "assistant", content: m.content };
    if (m.calls?.length)
        out.tool_calls = m.calls.map((c) => ({ id: c.id, type: "function", function: { name: c.name, arguments: c.arguments } }));
    return out;
}

function requestOf(list, s) {
    const system = s.system ? [{ role: "system", content: s.system }] : [];
    return {
        ...(s.model ? { model: s.model } : {}),
        messages: [...system, ...list.filter((m) => m.role !== "assistant" || m.content || m.calls?.length).map(asSent)],
        ...s.request, stream: true, stream_options: { include_usage: true },
    };
}

// As a shell takes it: a quote within single quotes is '\''.
function curlOf(request) {
    const body = JSON.stringify(request, null, 2).replaceAll("'", "'\\''");
    return [`curl -N ${location.origin}/v1/chat/completions`, `  -H "Authorization: Bearer $INGOT_API_KEY"`,
        `  -H 'Content-Type: application/json'`, `  -d '${body}'`].join(" \\\n");
}

function showCurl() {
    const say = byId("say").value.trim();
    const pending = say && !busy ? [{ role: "user", content: say }] : [];
    byId("curl").textContent = curlOf(requestOf([...history(), ...pending], fields.settings()));
}

// What an answer that is being made answers to.
const history = () => (busy ? messages.slice(0, -1) : messages);

// ---- the conversation on the page ----

const acts = {
    busy: (i) => busy !== null && i === messages.length - 1,
    redraw: (i) => draw(i),
    retry: (i) => { if (!busy && right()) { const after = messages.splice(i); draw(i); ask(after); } },
    edit: (i, text) => { if (!busy && right()) { messages.length = i; draw(i); say(text); } },
    rate,
};

// Draw turn i and all after it.
function draw(i = 0) {
    const log = byId("log");
    byId("empty").hidden = messages.length > 0;
    for (const old of [...log.querySelectorAll(".turn")].slice(i)) old.remove();
    messages.slice(i).forEach((m, k) => log.append(make(m, i + k, acts)));
    if (busy) busy.turn = log.lastElementChild; // it may be another element now
}

// How much of the conversation is below the window; the composer sticks to its lower edge.
const below = () => document.querySelector("main").getBoundingClientRect().bottom - innerHeight;
const atEnd = () => below() < 160;
const toEnd = () => scrollBy({ top: below(), behavior: "instant" });

// Whether the settings can be sent; if not, the field that is wrong gets the focus.
function right() {
    const { wrong } = fields.settings();
    if (wrong) fields.point(wrong);
    return !wrong;
}

function setBusy(on) {
    byId("send").hidden = on;
    byId("stop").hidden = !on;
    byId("clear").disabled = on;
    byId("log").setAttribute("aria-busy", String(on));
}

const speak = (text) => { byId("spoken").textContent = text; };

// New text is read out in batches, up to the end of a sentence where there is one.
function speakSome() {
    const text = busy.message.content.slice(busy.spoken);
    const end = Math.max(text.lastIndexOf(". "), text.lastIndexOf("\n"), text.lastIndexOf("? "), text.lastIndexOf("! "));
    if (end < 0) return;
    speak(text.slice(0, end + 1));
    busy.spoken += end + 1;
}

// ---- trouble ----

// `retry` is what trying again means; by default, to ask for the last answer again.
function trouble(t, retry = redo) {
    const box = byId("trouble");
    const again = el("button.primary", { type: "button", onclick: () => { box.hidden = true; retry(); } }, "Try again");
    const close = el("button", { type: "button", onclick: () => { box.hidden = true; byId("say").focus(); } }, "Close");
    const wait = t.after > 0 ? ` The server asks to wait ${t.after} s.` : "";
    box.replaceChildren(el("strong", {}, t.message), el("span", {}, t.next + wait),
        el("div.acts", {}, t.again ? again : null, close));
    box.hidden = false;
    if (t.field) fields.complainOf(t.field, t.message);
    if (t.again) again.focus();
    toEnd();
}

// Ask for the last answer again; what had come of it stays until something else does.
function redo() {
    if (busy || !right()) return;
    const after = messages.at(-1)?.role === "assistant" ? [messages.pop()] : [];
    draw(messages.length);
    ask(after);
}

// ---- an answer ----

function takeCall(m, d) {
    const c = (m.calls ??= [])[d.index] ??= { id: "", name: "", arguments: "" };
    c.id ||= d.id ?? "";
    c.name += d.function?.name ?? "";
    c.arguments += d.function?.arguments ?? "";
}

function takeEvent(m, event) {
    const choice = event.choices?.[0], delta = choice?.delta ?? {};
    if (event.usage) {
        m.tokens = event.usage.completion_tokens;
        m.prompt = event.usage.prompt_tokens;
        m.cached = event.usage.prompt_tokens_details?.cached_tokens ?? 0;
    }
    if (event.model) m.model = event.model;
    if (choice?.finish_reason) m.finish = choice.finish_reason;
    if (delta.content) m.content += delta.content;
    if (delta.reasoning_content) m.reasoning = (m.reasoning ?? "") + delta.reasoning_content;
    for (const d of delta.tool_calls ?? []) takeCall(m, d);
    if (delta.content || delta.reasoning_content || delta.tool_calls) noteToken(m);
}

// While it streams an event counts as a token; the usage at the end says how many there were.
function noteToken(m) {
    const now = performance.now();
    if (!busy.first) {
        busy.first = now;
        m.ttft = now - busy.started;
    }
    busy.last = now;
    m.tokens = (m.tokens ?? 0) + 1;
    rateOf(m);
}

// From the first token on; an answer that came at once is measured with the time before it.
function rateOf(m) {
    if (!busy.first) return; // no text came
    const took = busy.last - busy.first;
    if (m.tokens > 1 && took > 100) m.rate = (m.tokens - 1) / (took / 1000);
    else if (m.tokens) m.rate = m.tokens / ((busy.last - busy.started) / 1000);
}

function frame() {
    if (!busy) return;
    const follow = atEnd();
    show(busy.turn, busy.message);
    byId("figures").textContent = figures(busy.message);
    if (performance.now() - busy.spoke > SPEAK_MS) {
        busy.spoke = performance.now();
        speakSome();
    }
    if (follow) toEnd();
    busy.drawn = false;
}

function drawSoon() {
    if (busy.drawn) return;
    busy.drawn = true;
    requestAnimationFrame(frame);
}

async function stream(m, request) {
    const response = await post("/v1/chat/completions", request, busy.abort.signal);
    m.id = response.headers.get("X-Request-Id");
    for await (const event of events(response)) {
        takeEvent(m, event);
        drawSoon();
    }
    rateOf(m);
}

function begin() {
    const m = { role: "assistant", content: "" };
    const now = performance.now();
    messages.push(m);
    busy = { abort: new AbortController(), message: m, started: now, spoke: now, first: 0, last: 0, spoken: 0, drawn: false };
    draw(messages.length - 1);
    busy.turn = byId("log").lastElementChild;
    setBusy(true);
    byId("trouble").hidden = true;
    byId("figures").textContent = "waiting for the first token";
    speak("Answering");
    toEnd();
    return m;
}

// after: what stood where the answer stands now, and behind it; it comes back if nothing came.
function end(m, failed, after) {
    const rest = m.content.slice(busy.spoken);
    const empty = !m.content && !m.reasoning && !m.calls?.length;
    const follow = atEnd(), homeless = [document.body, byId("stop")].includes(document.activeElement);
    m.broken = failed instanceof Trouble && failed.kept;
    m.stopped = failed?.name === "AbortError";
    busy = null;
    setBusy(false);
    const from = messages.length - 1;
    const refused = empty && failed instanceof Trouble && !failed.again && after.length === 0;
    if (empty && failed && !(m.stopped && after.length === 0)) messages.splice(-1, 1, ...after);
    if (refused && messages.at(-1)?.role === "user" && !byId("say").value) { // to be said otherwise
        byId("say").value = messages.pop().content;
        grow();
    }
    draw(Math.max(Math.min(from, messages.length - 1), 0));
    if (follow) toEnd();
    byId("figures").textContent = figures(m);
    speak(m.stopped ? "Stopped" : failed ? "" : `${rest} The answer is complete. ${m.tokens ?? 0} tokens.`);
    keep();
    showCurl();
    if (failed && !m.stopped) trouble(failed instanceof Trouble ? failed : new Trouble("This page has failed", failed.message));
    else if (homeless) byId("say").focus({ preventScroll: true });
}

async function ask(after = []) {
    const request = requestOf(messages, fields.settings()), m = begin();
    let failed = null;
    try {
        await stream(m, request);
    } catch (e) {
        failed = e;
    }
    end(m, failed, after);
}

// ---- what the reader does ----

// Answers to calls of tools go back as their results, one after the other.
function roleOfNext() {
    const at = messages.findLastIndex((m) => m.role === "assistant");
    const given = messages.length - 1 - at, call = messages[at]?.calls?.[given];
    const only = messages.slice(at + 1).every((m) => m.role === "tool");
    return call && only ? { role: "tool", call: call.id, name: call.name, last: given === messages[at].calls.length - 1 } : { role: "user", last: true };
}

function invite() {
    const next = roleOfNext();
    byId("say").placeholder = next.role === "tool" ? `Result of ${next.name}` : "Message";
}

function say(text) {
    if (!right()) return false;
    const { last, ...next } = roleOfNext();
    messages.push({ ...next, content: text });
    draw(messages.length - 1);
    keep();
    if (last) ask().then(invite);
    invite();
    return true;
}

function grow() {
    const box = byId("say");
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight + 2}px`;
}

function send() {
    const text = byId("say").value.trim();
    if (!text || busy || !say(text)) return;
    byId("say").value = "";
    grow();
}

async function rate(i, value) {
    const m = messages[i];
    try {
        await post("/feedback", { request_id: m.id, rating: value });
        m.rated = value;
        keep();
        if (messages[i] !== m) return; // another conversation by now
        const turn = byId("log").querySelectorAll(".turn")[i], had = turn.contains(document.activeElement);
        turn.querySelectorAll("[data-rate]").forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.rate === value)));
        if (had) turn.querySelector(`[data-rate=${value}]`).focus();
        speak(value === "like" ? "Liked" : "Disliked");
    } catch (e) {
        trouble(new Trouble(e.message, e.next ?? "", { again: false }));
    }
}

function clear() {
    messages = [];
    byId("figures").textContent = "";
    byId("trouble").hidden = true;
    draw();
    keep();
    showCurl();
    invite();
    byId("say").focus();
}

function listen() {
    byId("composer").addEventListener("submit", (e) => { e.preventDefault(); send(); });
    byId("say").addEventListener("keydown", (e) => {
        if (e.key !== "Enter" || e.shiftKey || e.isComposing) return;
        e.preventDefault();
        send();
    });
    byId("say").addEventListener("input", () => { grow(); showCurl(); });
    byId("stop").addEventListener("click", () => busy?.abort.abort());
    byId("clear").addEventListener("click", clear);
    byId("copy-curl").addEventListener("click", (e) => copy(byId("curl").textContent, e.currentTarget));
    document.addEventListener("keydown", (e) => { if (e.key === "Escape" && busy) busy.abort.abort(); });
}

async function offerModels(chosen) {
    try {
        fields.offer((await get("/v1/models")).data, chosen);
    } catch (e) {
        trouble(e, () => offerModels(chosen));
    }
    fields.settings();
    showCurl();
}

async function start() {
    const narrow = matchMedia("(max-width: 960px)").matches;
    fields.build(() => { fields.settings(); keep(); showCurl(); });
    const kept = load();
    fields.restore(kept);
    byId("settings").open = !narrow;
    listen();
    draw();
    invite();
    if (messages.length) toEnd();
    await offerModels(kept.model);
    if (!narrow && byId("trouble").hidden) byId("say").focus({ preventScroll: true });
}

start();
