// SPDX-License-Identifier: Apache-2.0
// The dashboard moves while requests run, lists them, and says when the server is gone and back.
import { assert, checkPage, close, open, PHONE, prepare, run, serve, shot, tabTo, test, until } from "./lib.mjs";

const server = await serve();
const cell = (page, n) => page.locator("#tiles dd").nth(n).textContent();
const ask = (max_tokens) => fetch(`${server.url}/v1/chat/completions`, {
    method: "POST", body: JSON.stringify({ messages: [{ role: "user", content: "x" }], max_tokens, ignore_eos: true, stream: true }),
}).then((r) => r.text());

test("it moves while requests run, and lists them", async () => {
    const page = await prepare(await open(server, "/dashboard"));
    await until("plots are drawn", async () => await page.locator(".chart canvas").count() === 12);
    await fetch(`${server.url}/v1/completions`, { method: "POST", body: "{}" }); // an error to be counted
    let on = true;
    const load = (async () => { while (on) await Promise.all([ask(1500), ask(1500), ask(1500)]); })();
    try {
        await until("tokens a second", async () => parseFloat(await cell(page, 1)) > 0);
        await until("requests in the table", async () => /generating|waiting/.test(await page.locator("#requests tbody").textContent()));
        await until("a first token's time", async () => /s$/.test(await cell(page, 2)));
        await until("requests and errors", async () => /[1-9]\d* requests, 1 error,/.test(await page.locator("#about").textContent()));
        const first = await page.evaluate(() => document.querySelector(".chart canvas").toDataURL());
        await until("the plot moves", async () => (await page.evaluate(() => document.querySelector(".chart canvas").toDataURL())) !== first);
        await shot(page, "dashboard-busy");
    } finally {
        on = false;
        await load;
    }
    await until("none runs", async () => /none just now/.test(await page.locator("#requests tbody").textContent()));
    // windows by keyboard
    await tabTo(page, "5 min");
    await page.keyboard.press("ArrowRight");
    assert.ok(await page.locator("#windows input[value='15']").isChecked());
    await until("three seconds in a row", async () => {
        const r = await page.waitForResponse("**/dashboard/data*");
        return (await r.json()).step === 3;
    });
    await close(page);
});

test("light and dark, wide and on a phone", async () => {
    for (const colorScheme of ["light", "dark"]) {
        for (const [size, viewport] of [["390", PHONE], ["1440", { width: 1440, height: 900 }]]) {
            const page = await open(server, "/dashboard", { viewport, colorScheme });
            await until("plots are drawn", async () => await page.locator(".chart canvas").count() === 12);
            await checkPage(page);
            await page.click("#theme");
            await checkPage(page);
            await page.click("#theme");
            await shot(page, `dashboard-${size}-${colorScheme}`);
            await close(page);
        }
    }
});

test("a build without plots has the numbers", async () => {
    const page = await open(server, "/dashboard", { missing: "**/assets/uplot.*" });
    await until("words in place of plots", async () => await page.locator(".plot p").count() === 12);
    await until("numbers", async () => /B$/.test(await cell(page, 7)));
    assert.match(await page.locator(".chart li").last().textContent(), /\d/);
    await checkPage(page);
    await close(page);
});

test("a server that goes and comes back", async () => {
    const own = await serve();
    const page = await open(own, "/dashboard");
    page.expected.push(/ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE/);
    await until("numbers", async () => /B$/.test(await cell(page, 7)));
    await own.kill();
    await until("it is said", async () => /cannot be reached.*goes on trying/.test(await page.locator("#trouble").textContent()));
    await checkPage(page);
    const other = await serve("--port", own.port);
    await until("it is over", async () => !(await page.locator("#trouble").isVisible()));
    await close(page);
    await other.stop();
});

process.on("exit", () => server.kill());
await run();
