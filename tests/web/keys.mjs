// SPDX-License-Identifier: Apache-2.0
// With keys a browser asks for one, the pages work with it, and other sites cannot use it.
import { createServer } from "node:http";
import { assert, close, open, prepare, run, serve, test, until } from "./lib.mjs";

const server = await serve("--api-key", "browser-key");
const httpCredentials = { username: "me", password: "browser-key" };

test("without a key there is nothing", async () => {
    const r = await fetch(server.url, { headers: { Accept: "text/html" } });
    assert.equal(r.status, 401);
    assert.match(r.headers.get("WWW-Authenticate"), /^Basic realm="Ingot"/);
    assert.equal((await fetch(`${server.url}/assets/base.css`)).status, 401);
});

test("with one, the pages work", async () => {
    const page = await prepare(await open(server, "/", { httpCredentials }));
    page.expected.push(/status of 401/); // what makes the browser ask
    await page.fill("#max_tokens", "5");
    await page.fill("#say", "x");
    await page.press("#say", "Enter");
    await until("an answer", async () => await page.locator(".turn.model .acts").count() === 1);
    await page.locator("[data-rate=dislike]").click();
    await until("a rating", async () => (await page.locator("[data-rate=dislike]").getAttribute("aria-pressed")) === "true");
    await page.goto(`${server.url}/dashboard`);
    await until("numbers", async () => /B$/.test(await page.locator("#tiles dd").nth(7).textContent()));
    await close(page);
});

// A page elsewhere that posts a form and fetches: the browser adds the key by itself, the server refuses.
test("a page of another site gets nothing with it", async () => {
    const page = await open(server, "/", { httpCredentials });
    page.expected.push(/./);
    const other = createServer((req, res) => {
        res.setHeader("Content-Type", "text/html");
        res.end(`<form method=post enctype="text/plain" action="${server.url}/complete"><input name='{"code":"x","max_tokens":1,"a":"' value='"}'></form><a href="${server.url}/">to it</a>`);
    });
    await new Promise((r) => other.listen(0, "localhost", r));
    const from = `http://localhost:${other.address().port}/`;
    await page.goto(from);
    const seen = await page.evaluate(async (url) => {
        const r = await fetch(`${url}/v1/models`, { mode: "no-cors", credentials: "include" });
        return r.type;
    }, server.url);
    assert.equal(seen, "opaque");
    const [answer] = await Promise.all([page.waitForResponse("**/complete"), page.evaluate(() => document.forms[0].submit())]);
    await page.waitForURL("**/complete");
    assert.ok([401, 403].includes(answer.status()), `a form of another site was answered ${answer.status()}`);
    await page.goto(from);
    const [link] = await Promise.all([page.waitForResponse(`${server.url}/`), page.click("a")]);
    assert.ok([200, 401].includes(link.status()));
    page.wrong = [];
    await page.context().close();
    other.close();
});

process.on("exit", () => server.kill());
await run();
