// SPDX-License-Identifier: Apache-2.0
// The page of the API lists every route there is, and trying one works.
import { assert, checkPage, close, open, PHONE, run, serve, shot, test, until } from "./lib.mjs";

const server = await serve();
const routes = (await (await fetch(server.url, { headers: { Accept: "application/json" } })).json()).routes;
const SKIP = ".swagger-ui"; // its colours are its own

test("every route is on it, and can be tried", async () => {
    const page = await open(server, "/docs");
    await until("routes", async () => await page.locator(".opblock").count() >= routes.length);
    const have = await page.locator(".opblock-summary").evaluateAll((all) => all.map((e) =>
        `${e.querySelector(".opblock-summary-method").textContent} ${e.querySelector("[data-path]").dataset.path}`).sort());
    assert.deepEqual(have, routes.map((r) => `${r.method} ${r.path}${r.path.length > 1 && r.path.endsWith("/") ? { "/v1/models/": "{model}", "/assets/": "{file}" }[r.path] : ""}`).sort());
    const one = page.locator(".opblock", { has: page.locator("[data-path='/tokenize']") });
    await one.locator(".opblock-summary-control").click();
    await one.locator("textarea").fill('{"prompt": "abc"}');
    await one.locator("button.execute").click();
    await until("an answer", async () => /"count": 3/.test(await one.locator(".live-responses-table").textContent()));
    await shot(page, "docs-tried");
    await close(page);
});

test("light and dark, wide and on a phone", async () => {
    for (const colorScheme of ["light", "dark"]) {
        for (const [size, viewport] of [["390", PHONE], ["1440", { width: 1440, height: 900 }]]) {
            const page = await open(server, "/docs", { viewport, colorScheme });
            await until("routes", async () => await page.locator(".opblock").count() >= routes.length);
            await checkPage(page, SKIP);
            await shot(page, `docs-${size}-${colorScheme}`);
            await close(page);
        }
    }
});

test("a build without the package says so", async () => {
    const page = await open(server, "/docs", { missing: "**/assets/swagger-ui.*" });
    await until("words", async () => /without Swagger UI.*make web/.test(await page.locator("#trouble").textContent()));
    await checkPage(page);
    await close(page);
});

process.on("exit", () => server.kill());
await run();
