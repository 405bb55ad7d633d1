// SPDX-License-Identifier: Apache-2.0
// Words for tests of pages. A server of our own, a browser, and a watch on every page: an error in its console, a
// violation of its policy or a request that leaves its origin fails the test, unless the test said it would come.
//
//   INGOT the program, MODEL the tiny model, CHROMIUM the browser, SHOTS a folder for pictures
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chromium } from "playwright-core";

export { assert };
export const env = process.env;

// ---- the server ----

export async function serve(...args) {
    const child = spawn(env.INGOT, ["serve", env.MODEL, "--port", "0", "--ctx", "32768", ...args], { stdio: ["ignore", "ignore", "pipe"] });
    let log = "";
    const url = await new Promise((done, failed) => {
        child.stderr.on("data", (d) => {
            log += d;
            const m = /^listening on (\S+)/m.exec(log);
            if (m) done(m[1]);
        });
        child.on("exit", () => failed(new Error(`the server ended: ${log}`)));
    });
    const end = async (signal) => {
        if (child.exitCode === null && child.signalCode === null) {
            child.kill(signal);
            await once(child, "exit");
        }
        assert.doesNotMatch(log, /ERROR|Sanitizer|runtime error/);
    };
    return { url, port: new URL(url).port, stop: () => end("SIGTERM"), kill: () => end("SIGKILL") };
}

// ---- the browser ----

let browser = null;

export const WIDE = { width: 1440, height: 900 }, PHONE = { width: 390, height: 844 };

// A page of `server` with a watch on it. page.expected: patterns of console lines that the test provokes.
// `missing`: a pattern of assets that this build is without.
export async function open(server, path, { missing, ...options } = {}) {
    browser ??= await chromium.launch({ executablePath: env.CHROMIUM, args: ["--no-sandbox"] });
    const context = await browser.newContext({ viewport: WIDE, colorScheme: "light", reducedMotion: "reduce", ...options });
    await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: server.url });
    await context.addInitScript(() => addEventListener("securitypolicyviolation",
        (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`)));
    const page = await context.newPage();
    page.expected = missing ? [/status of 404/, /MIME type/] : [];
    page.wrong = [];
    page.on("console", (m) => { if (m.type() === "error") page.wrong.push(m.text()); });
    page.on("pageerror", (e) => page.wrong.push(`${e}`));
    page.on("request", (r) => {
        const url = r.url();
        if (!url.startsWith(`${server.url}/`) && !url.startsWith("data:")) page.wrong.push(`left the origin: ${url}`);
    });
    if (missing) await page.route(missing, (r) => r.fulfill({ status: 404, json: { error: "not in this build" } }));
    await page.goto(server.url + path);
    return page;
}

export async function close(page) {
    const wrong = page.wrong.filter((w) => !page.expected.some((p) => p.test(w)));
    assert.deepEqual(wrong, []);
    await page.context().close();
}

export const shot = (page, name) => page.screenshot({ path: `${env.SHOTS}/${name}.png` });

// ---- by keyboard ----

// What a screen reader calls the element that has the focus.
export const focused = (page) => page.evaluate(() => window.nameOf(document.activeElement));

// Press Tab, or Shift+Tab, until the focus is on the control of this name.
export async function tabTo(page, name, key = "Tab") {
    const way = [];
    for (let i = 0; i < 90; i++) {
        await page.keyboard.press(key);
        way.push(await focused(page));
        if (way.at(-1) === name) return;
    }
    assert.fail(`no way by ${key} to "${name}": ${way.slice(0, 40).join(" | ")}`);
}

export async function until(what, fn, ms = 15000) {
    for (const end = Date.now() + ms; Date.now() < end;) {
        if (await fn()) return;
        await new Promise((r) => setTimeout(r, 25));
    }
    assert.fail(`not within ${ms} ms: ${what}`);
}

// ---- what everybody must be able to use ----

// Within the page: names of controls, contrast of texts, width, structure. Returns what is wrong.
function audit() {
    const wrong = [];
    const visible = (e) => e.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && e.getClientRects().length > 0;
    const say = (e, words) => wrong.push(`${e.tagName.toLowerCase()}${e.id ? `#${e.id}` : ""}.${e.className?.baseVal ?? e.className}: ${words}`);

    for (const e of document.querySelectorAll("a[href], button, input, select, textarea, summary, [role=button], [tabindex='0']"))
        if (visible(e) && !window.nameOf(e)) say(e, "a control without a name");
    for (const e of document.querySelectorAll("img:not([alt])")) say(e, "a picture without alt");
    const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
    ids.filter((id, i) => ids.indexOf(id) !== i).forEach((id) => wrong.push(`two elements are #${id}`));
    if (!document.documentElement.lang || !document.title) wrong.push("no language or title");
    if (document.querySelectorAll("main, [role=main]").length !== 1) wrong.push("not one main");
    if (document.scrollingElement.scrollWidth > innerWidth) wrong.push(`wider than its window: ${document.scrollingElement.scrollWidth} > ${innerWidth}`);

    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const rgba = (css) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = css;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
    const background = (e) => {
        const layers = [];
        for (let n = e; n; n = n.parentElement) {
            const c = rgba(getComputedStyle(n).backgroundColor);
            if (c[3] > 0) layers.push(c);
            if (c[3] === 1) break;
        }
        return layers.reduceRight((below, top) => over(top, below), [255, 255, 255, 1]);
    };
    const light = (c) => {
        const [r, g, b] = c.slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
    const check = (e, style, text) => {
        const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        const behind = background(e), r = ratio(over(rgba(style.color), behind), behind);
        if (r < (large ? 3 : 4.5)) say(e, `contrast ${r.toFixed(2)} of "${text.trim().slice(0, 30)}"`);
    };
    const skip = window.auditSkips ?? "";
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let n; (n = walk.nextNode());) {
        const e = n.parentElement;
        if (!n.data.trim() || !visible(e) || e.closest("script, style, noscript, :disabled, svg, .hidden-text, .skip") || (skip && e.closest(skip))) continue;
        check(e, getComputedStyle(e), n.data);
    }
    for (const e of document.querySelectorAll("input, textarea"))
        if (visible(e) && e.placeholder && !(skip && e.closest(skip))) check(e, getComputedStyle(e, "::placeholder"), e.placeholder);
    return wrong;
}

// What a screen reader would call e: the rules that matter here.
function nameOf(e) {
    if (!e || e === document.body) return "";
    const by = e.getAttribute("aria-labelledby");
    const text = e.getAttribute("aria-label") || (by && by.split(" ").map((id) => document.getElementById(id)?.textContent).join(" ")) ||
        (e.labels?.length && [...e.labels].map((l) => l.textContent).join(" ")) ||
        (/^(A|BUTTON|SUMMARY)$/.test(e.tagName) || e.getAttribute("role") === "button" ? e.textContent || e.title || e.querySelector("img[alt]")?.alt : "") ||
        e.title || "";
    return text.trim().replace(/\s+/g, " ");
}

export async function prepare(page) {
    await page.evaluate(`window.nameOf = ${nameOf}; window.audit = ${audit};`);
    return page;
}

export async function checkPage(page, skips = "") {
    await prepare(page);
    assert.deepEqual(await page.evaluate((s) => { window.auditSkips = s; return window.audit(); }, skips), []);
}

// ---- running ----

const tests = [];
export const test = (name, fn) => tests.push([name, fn]);

export async function run() {
    let failed = 0;
    for (const [name, fn] of tests) {
        try {
            await fn();
            console.log(`ok ${name}`);
        } catch (e) {
            failed++;
            console.log(`FAIL ${name}\n${e.stack}`);
        }
    }
    await browser?.close();
    process.exit(failed ? 1 : 0);
}
