// SPDX-License-Identifier: Apache-2.0
// The playground, played through by keyboard alone; what goes wrong and what is said then; what models write.
import { execFileSync } from "node:child_process";
import { assert, checkPage, close, env, focused, open, PHONE, prepare, run, serve, shot, tabTo, test, until } from "./lib.mjs";

const LONG = '{"type": "array", "items": {"type": "integer"}, "minItems": 2500}';
const TOOLS = '[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"days": {"type": "integer", "maximum": 9, "minimum": 0}}, "required": ["days"], "additionalProperties": false}}}]';

const server = await serve();
const playground = async (options) => prepare(await open(server, "/", options));
const text = (page, selector) => page.locator(selector).last().textContent();
const idle = (page) => until("the answer ends", () => page.locator("#send").isVisible());
const shown = (page, pattern, selector = "#trouble") => until(`${selector} says ${pattern}`, async () => pattern.test(await text(page, selector)));
const field = (page, id, value) => page.fill(`#${id}`, value);

async function openField(page, summary, label, value) {
    await tabTo(page, summary);
    await page.keyboard.press("Enter");
    await tabTo(page, label);
    await page.keyboard.insertText(value);
}

// An answer of our own making in place of the server's.
async function answerWith(page, deltas, { done = true, headers = {} } = {}) {
    const chunks = deltas.map((delta) => `data: ${JSON.stringify({ model: "m", choices: [{ index: 0, delta, finish_reason: null }] })}\n\n`);
    await page.route("**/v1/chat/completions", (r) => r.fulfill({
        status: 200, contentType: "text/event-stream", headers, body: chunks.join("") + (done ? "data: [DONE]\n\n" : ""),
    }));
}

test("a conversation by keyboard alone", async () => {
    const page = await playground();
    assert.equal(await focused(page), "Message");
    await tabTo(page, "Skip to the message", "Shift+Tab");
    assert.ok((await page.locator(".skip").boundingBox()).y >= 0, "the skip link cannot be seen");
    await page.keyboard.press("Enter");
    assert.equal(await focused(page), "Message");

    // a JSON schema that is wrong keeps the message where it is
    await openField(page, "JSON schema", "Schema the answer keeps to", "{bad");
    await shown(page, /not JSON/, "#schema-wrong");
    assert.equal(await page.getAttribute("#schema", "aria-invalid"), "true");
    assert.equal(await page.getAttribute("#schema", "aria-describedby"), "schema-wrong");
    await tabTo(page, "Message", "Shift+Tab");
    await page.keyboard.type("Count for me");
    await page.keyboard.press("Shift+Enter");
    await page.keyboard.type("please");
    await page.keyboard.press("Enter");
    assert.equal(await focused(page), "Schema the answer keeps to");
    assert.equal(await page.locator(".turn").count(), 0);
    await page.keyboard.press("Control+A");
    await page.keyboard.insertText(LONG);
    assert.equal(await page.getAttribute("#schema", "aria-invalid"), null);

    // stream, stop
    await tabTo(page, "Message", "Shift+Tab");
    await page.keyboard.press("Enter");
    await until("the first tokens", async () => (await text(page, ".turn.model .text")).length > 5);
    assert.equal(await text(page, ".turn.user .text"), "Count for me\nplease");
    assert.match(await text(page, "#figures"), /first token .* tokens\/s/);
    await page.keyboard.press("Escape");
    await idle(page);
    assert.equal(await text(page, ".turn.model .note"), "Stopped.");
    assert.equal(await focused(page), "Message");
    await until("it is said", async () => (await text(page, "#spoken")) === "Stopped");

    // retry, with fewer tokens
    await tabTo(page, "Max tokens");
    await page.keyboard.type("40");
    await tabTo(page, "Retry", "Shift+Tab");
    await page.keyboard.press("Enter");
    await until("it was begun", async () => (await text(page, ".turn.model .text")).length > 5);
    await idle(page);
    assert.equal(await page.locator(".turn").count(), 2);
    assert.match(await text(page, ".turn.model .acts .hint"), /first token .*40 tokens, prompt \d+/);
    assert.equal(await text(page, ".turn.model .note"), "Ended by its length.");

    // like it
    await tabTo(page, "Like", "Shift+Tab");
    await page.keyboard.press("Enter");
    await until("the rating was taken", async () => (await page.locator("[data-rate=like]").getAttribute("aria-pressed")) === "true");
    assert.equal(await focused(page), "Like");
    assert.match(await (await fetch(`${server.url}/metrics`)).text(), /feedback_ratings_total\{rating="5"\} 1/);

    // what was said outlives the page
    await page.reload();
    await prepare(page);
    assert.equal(await page.locator(".turn").count(), 2);
    assert.equal(await page.inputValue("#schema"), LONG);
    assert.equal(await page.locator("[data-rate=like]").getAttribute("aria-pressed"), "true");

    // edit: what came after is gone
    await tabTo(page, "Edit", "Shift+Tab");
    await page.keyboard.press("Enter");
    assert.equal(await focused(page), "Edit the message");
    await page.keyboard.press("Control+A");
    await page.keyboard.type("Another question");
    await page.keyboard.press("Enter");
    await until("it is asked", async () => (await text(page, ".turn.user .text")) === "Another question");
    await idle(page);
    assert.equal(await page.locator(".turn").count(), 2);
    await tabTo(page, "New conversation");
    await page.keyboard.press("Enter");
    assert.equal(await page.locator(".turn").count(), 0);
    assert.ok(await page.locator("#empty").isVisible());
    await close(page);
});

test("tools, by keyboard", async () => {
    const page = await playground();
    await openField(page, "Tools", "Functions, as a JSON list", '{"type": "function"}');
    await shown(page, /a list is needed/, "#tools-wrong");
    await page.keyboard.press("Control+A");
    await page.keyboard.insertText(TOOLS);
    assert.equal(await page.getAttribute("#tools", "aria-invalid"), null);
    await tabTo(page, "Tool choice");
    await page.keyboard.press("ArrowDown");
    assert.equal(await page.inputValue("#tool-choice"), "required");
    await tabTo(page, "Message", "Shift+Tab");
    await page.keyboard.type("How is the weather?");
    await page.keyboard.press("Enter");
    await until("a call", () => page.locator(".call").first().isVisible());
    await idle(page);
    assert.equal(await text(page, ".call .head span"), "call of weather");
    assert.equal(typeof JSON.parse(await text(page, ".call code")).days, "number");
    assert.equal(await page.getAttribute("#say", "placeholder"), "Result of weather");
    const asked = page.waitForRequest("**/v1/chat/completions");
    const calls = await page.locator(".turn.model").last().locator(".call").count();
    for (let i = 0; i < calls; i++) {
        await page.keyboard.type("sunny");
        await page.keyboard.press("Enter");
    }
    const sent = (await asked).postDataJSON().messages;
    assert.deepEqual(sent.map((m) => m.role), ["user", "assistant", ...Array(calls).fill("tool")]);
    assert.equal(sent[2].tool_call_id, sent[1].tool_calls[0].id);
    await idle(page);
    await close(page);
});

test("the request as curl, which a shell can run", async () => {
    const page = await playground();
    await field(page, "system", "It's \"$HOME\" and `date`");
    await field(page, "temperature", "0");
    await field(page, "max_tokens", "3");
    await field(page, "stops", "zzz\nyyy");
    await page.focus("#say");
    await page.keyboard.type("Don't break");
    await tabTo(page, "This request with curl");
    await page.keyboard.press("Enter");
    await tabTo(page, "Copy");
    await page.keyboard.press("Enter");
    await until("it was copied", async () => (await text(page, "#copy-curl")) === "Copied");
    const command = await page.evaluate(() => navigator.clipboard.readText());
    assert.match(command, /Bearer \$INGOT_API_KEY/);
    const body = JSON.parse(/-d '(.*)'$/s.exec(command)[1].replaceAll("'\\''", "'"));
    assert.deepEqual(body.messages, [{ role: "system", content: "It's \"$HOME\" and `date`" }, { role: "user", content: "Don't break" }]);
    assert.deepEqual([body.temperature, body.max_tokens, body.stop], [0, 3, ["zzz", "yyy"]]);
    const out = execFileSync("bash", ["-c", command], { env: { ...env, INGOT_API_KEY: "none" }, stdio: ["ignore", "pipe", "ignore"] }).toString();
    assert.match(out, /data: \[DONE\]/);
    await close(page);
});

test("numbers out of range are said beside their field", async () => {
    const page = await playground();
    for (const [id, value, says] of [["temperature", "3", /0 to 2/], ["temperature", "hot", /a number/], ["top_p", "0", /above 0/],
        ["max_tokens", "1.5", /whole/], ["seed", "x", /a number/]]) {
        await field(page, id, value);
        await shown(page, says, `#${id}-wrong`);
        await field(page, "say", "x");
        await page.press("#say", "Enter");
        assert.equal(await page.locator(".turn").count(), 0);
        await field(page, id, "");
        assert.equal(await page.locator(`#${id}-wrong`).count(), 0);
    }
    // what only the server can know comes back to the field
    page.expected.push(/status of 400/);
    await field(page, "max_tokens", "999999");
    await page.press("#say", "Enter");
    await shown(page, /exceed the context.*begin a new conversation/);
    assert.equal(await page.locator("#trouble button", { hasText: "Try again" }).count(), 0);
    await field(page, "max_tokens", "");
    await page.locator("#more-schema summary").click();
    await field(page, "schema", '{"type": "nonsense"}');
    await field(page, "say", "x");
    await page.press("#say", "Enter");
    await shown(page, /not a type/, "#schema-wrong");
    assert.equal(await focused(page), "Schema the answer keeps to");
    await checkPage(page);
    await close(page);
});

test("a busy server, one that is loading, a key that is not known", async () => {
    for (const [status, headers, title, next] of [[429, { "Retry-After": "3" }, /busy: full/, /wait 3 s/], [503, {}, /not ready/, /Try again soon/],
        [401, {}, /key is needed/, /Load this page again/], [403, {}, /not allowed/, /scope/], [504, {}, /too long/, /fewer tokens/], [500, {}, /has failed/, /log/]]) {
        const page = await playground();
        page.expected.push(new RegExp(`status of ${status}`));
        await page.route("**/v1/chat/completions", (r) => r.fulfill({ status, headers, json: { error: { message: "full", type: "x", param: null, code: null } } }));
        await field(page, "say", "x");
        await page.press("#say", "Enter");
        await shown(page, title);
        await shown(page, next);
        const again = page.locator("#trouble button", { hasText: "Try again" });
        assert.equal(await again.count(), status === 401 || status === 403 ? 0 : 1);
        if (status === 429) {
            await checkPage(page);
            await page.unroute("**/v1/chat/completions");
            assert.equal(await focused(page), "Try again");
            await page.keyboard.press("Enter");
            await until("an answer", async () => await page.locator(".turn.model").count() === 1);
            await idle(page);
            assert.equal(await page.locator(".turn").count(), 2);
        }
        await close(page);
    }
});

test("models that could not be listed are asked for again", async () => {
    const page = await open(server, "/", { missing: "**/v1/models" });
    await shown(page, /no such model|not in this build/);
    await page.unroute("**/v1/models");
    await page.locator("#trouble button", { hasText: "Close" }).click();
    await page.reload();
    await until("models", async () => await page.locator("#model option").count() === 1);
    assert.ok(!(await page.locator("#trouble").isVisible()));
    await page.route("**/v1/models", (r) => r.abort());
    page.expected.push(/ERR_FAILED/);
    await page.reload();
    await shown(page, /cannot be reached/);
    await page.unroute("**/v1/models");
    await page.locator("#trouble button", { hasText: "Try again" }).click();
    await until("models", async () => await page.locator("#model option").count() === 1);
    assert.equal(await page.locator(".turn").count(), 0);
    await close(page);
});

test("a server that goes away in the middle", async () => {
    const own = await serve();
    const page = await prepare(await open(own, "/"));
    page.expected.push(/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_CONNECTION_RESET/);
    await page.locator("#more-schema summary").click();
    await field(page, "schema", LONG);
    await field(page, "say", "Count");
    await page.press("#say", "Enter");
    await until("the first tokens", async () => (await text(page, ".turn.model .text")).length > 5);
    await own.kill();
    await shown(page, /broke in the middle/);
    const kept = await text(page, ".turn.model .text");
    assert.ok(kept.length > 5, "what had come is gone");
    assert.equal(await text(page, ".turn.model .note"), "The connection broke here.");
    assert.equal(await focused(page), "Try again");
    await shot(page, "broken");
    await page.keyboard.press("Enter");
    await shown(page, /cannot be reached/);
    assert.equal(await text(page, ".turn.model .text"), kept);
    const other = await serve("--port", own.port);
    await field(page, "max_tokens", "20");
    await page.locator("#trouble button", { hasText: "Try again" }).press("Enter");
    await until("an answer", async () => (await page.locator(".turn.model .note").count()) === 1 && (await text(page, ".turn.model .note")) === "Ended by its length.");
    assert.equal(await page.locator(".turn").count(), 2);
    await close(page);
    await other.stop();
});

test("what a model writes stays text", async () => {
    const page = await playground();
    const content = [
        "# Title", "", "Some **bold**, *slanted*, `code <b>`, a [link](https://example.org/a?b=1) and https://example.org/c.", "",
        "<img src=x onerror=alert(1)><script>alert(2)</script>", "[bad](javascript:alert(3)) ![spy](https://evil.example/p.png?q=secret)", "",
        "- one", "- two", "  1. inner", "", "> quoted", "", "| a | b |", "|---|---|", "| 1 | `2` |", "", "```python", "print('<hi>')", "```", "", "unclosed **bold and `tick",
    ].join("\n");
    await answerWith(page, [{ role: "assistant", content: "" }, { reasoning_content: "Let me <think>" }, ...[...content].map((c) => ({ content: c }))], { headers: { "X-Request-Id": "r1" } });
    await field(page, "say", "x");
    await page.press("#say", "Enter");
    await idle(page);
    await until("all is shown", async () => /unclosed/.test(await text(page, ".turn.model .text")));
    const made = await page.evaluate(() => {
        const box = document.querySelector(".turn.model .text"), all = (s) => [...box.querySelectorAll(s)];
        return {
            tags: ["img", "script", "iframe", "style"].map((t) => all(t).length),
            links: all("a").map((a) => a.href), strong: all("strong").map((n) => n.textContent), code: all("p code").map((n) => n.textContent),
            items: all("li").length, inner: all("ul ol li").length, quote: all("blockquote").length, cells: all("td").map((n) => n.textContent),
            box: all(".code-box code").map((n) => n.textContent), heading: all("h4").map((n) => n.textContent), words: box.textContent,
        };
    });
    assert.deepEqual(made.tags, [0, 0, 0, 0]);
    assert.deepEqual(made.links, ["https://example.org/a?b=1", "https://example.org/c", "https://evil.example/p.png?q=secret"]);
    assert.deepEqual(made.strong, ["bold"]);
    assert.deepEqual(made.code, ["code <b>"]);
    assert.deepEqual([made.items, made.inner, made.quote], [3, 1, 1]);
    assert.deepEqual(made.cells, ["1", "2"]);
    assert.deepEqual(made.box, ["print('<hi>')"]);
    assert.deepEqual(made.heading, ["Title"]);
    assert.match(made.words, /<img src=x onerror=alert\(1\)>/);
    assert.match(made.words, /\[bad\]\(javascript:alert\(3\)\)/);
    const thought = page.locator(".thought");
    assert.equal(await thought.getAttribute("open"), null);
    assert.equal(await thought.locator("div").textContent(), "Let me <think>");
    await page.locator(".code-box button").first().press("Enter");
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "print('<hi>')");
    await checkPage(page);
    await close(page);
});

// Blocks that did not change stay the same elements, and hostile sources end soon.
test("markdown is made quickly, whatever comes", async () => {
    const page = await playground();
    const took = await page.evaluate(async () => {
        const { render } = await import("/assets/markdown.js");
        const box = document.createElement("div");
        render(box, "first\n\nsecond");
        const first = box.firstChild;
        render(box, "first\n\nsecond and more\n\nthird");
        if (box.firstChild !== first || box.children.length !== 3) return "made again";
        const hostile = ["**a ".repeat(5000), "`".repeat(20000), "[".repeat(20000), "> ".repeat(5000) + "x", "- ".repeat(5000), "|".repeat(9000) + "\n|-|",
            "  - x\n".repeat(5000), "*_".repeat(8000), "![".repeat(9000), "https://".repeat(3000), "\\".repeat(9000), "~~~\n".repeat(3000), "# ".repeat(9000)];
        const slow = [];
        for (const source of hostile) {
            const t = performance.now();
            render(document.createElement("div"), source);
            if (performance.now() - t > 3000) slow.push(`${source.slice(0, 8)}: ${performance.now() - t} ms`);
        }
        return slow.join("; ") || "ok";
    });
    assert.equal(took, "ok");
    await close(page);
});

test("what is not said yet, or was said before, is not lost", async () => {
    const page = await playground();
    const count = () => page.locator(".turn").count();
    await answerWith(page, [{ content: Array.from({ length: 200 }, (_, i) => `- line ${i}`).join("\n") }]);
    await field(page, "say", "Write two hundred lines");
    await page.press("#say", "Enter");
    await idle(page);
    await until("its end is in view", async () => page.evaluate(() => scrollY > 500 &&
        document.querySelector("main").getBoundingClientRect().bottom - innerHeight < 20));

    // a wrong field keeps Retry from cutting anything
    await field(page, "temperature", "hot");
    await page.getByRole("button", { name: "Retry" }).click();
    assert.equal(await count(), 2);
    await field(page, "temperature", "");

    // a request that the server refuses: its text is there to be said otherwise
    await page.unroute("**/v1/chat/completions");
    page.expected.push(/status of 400/);
    await page.route("**/v1/chat/completions", (r) => r.fulfill({ status: 400, json: { error: { message: "no", type: "x", param: null } } }));
    await field(page, "say", "Refused words");
    await page.press("#say", "Enter");
    await until("the text is back", async () => await page.inputValue("#say") === "Refused words");
    assert.equal(await count(), 2);

    // stopped before the first token: there is a Retry
    await page.unroute("**/v1/chat/completions");
    await page.route("**/v1/chat/completions", () => {});
    await page.press("#say", "Enter");
    await until("it waits", () => page.locator("#stop").isVisible());
    await page.focus("#stop");
    await page.keyboard.press("Enter");
    await idle(page);
    assert.equal(await text(page, ".turn.model .note"), "Stopped.");
    assert.equal(await page.getByRole("button", { name: "Retry" }).count(), 2);
    assert.equal(await focused(page), "Message");
    await close(page);
});

test("what is kept may be damaged or missing", async () => {
    for (const kept of ["{", "null", '{"version": 1, "messages": 5}', '{"version": 1, "messages": [{"role": "x"}, null, {"role": "user", "content": "hi"}], "settings": {"top_p": 7, "temperature": "0.5"}}']) {
        const page = await playground();
        await page.evaluate((k) => localStorage.setItem("ingot.chat", k), kept);
        await page.reload();
        await until("models are listed", async () => await page.locator("#model option").count() > 0);
        assert.equal(await page.locator(".turn").count(), kept.includes("hi") ? 1 : 0);
        await close(page);
    }
});

test("light and dark, wide and on a phone", async () => {
    for (const colorScheme of ["light", "dark"]) {
        for (const [size, viewport] of [["390", PHONE], ["1440", { width: 1440, height: 900 }]]) {
            const page = await playground({ viewport, colorScheme });
            await checkPage(page);
            await shot(page, `playground-empty-${size}-${colorScheme}`);
            await answerWith(page, [{ role: "assistant", content: "" }, { reasoning_content: "The reader wants a list." },
                { content: "Two ways, the **short** one first:\n\n1. `sort -u names.txt`\n2. a program\n\n```python\nfor name in sorted(set(open('names.txt'))):\n    print(name, end='')  # a line that is longer than a phone is wide, so it scrolls by itself\n```\n\n| way | lines |\n|---|---|\n| shell | 1 |\n| python | 2 |" }],
            { headers: { "X-Request-Id": "r1" } });
            await field(page, "say", "How do I sort a file of names and drop those that are there twice?");
            await page.press("#say", "Enter");
            await idle(page);
            await checkPage(page);
            await shot(page, `playground-${size}-${colorScheme}`);
            const dark = colorScheme === "dark";
            assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), colorScheme);
            await page.click("#theme");
            assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), dark ? "light" : "dark");
            await page.reload();
            assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), dark ? "light" : "dark");
            await close(page);
        }
    }
});

process.on("exit", () => server.kill());
await run();
