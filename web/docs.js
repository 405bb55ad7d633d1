// SPDX-License-Identifier: Apache-2.0
// The page of the API: Swagger UI, which is a script of its own, over /openapi.json. Its style comes before ours, so that
// ours can change it.
import { byId, el } from "./dom.js";

function fetchUi() {
    return new Promise((done) => {
        document.querySelector("link[rel=stylesheet]").before(el("link", { rel: "stylesheet", href: "/assets/swagger-ui.css" }));
        document.head.append(el("script", { src: "/assets/swagger-ui.js", onload: () => done(true), onerror: () => done(false) }));
    });
}

if (await fetchUi()) {
    SwaggerUIBundle({
        url: "/openapi.json", dom_id: "#ui", deepLinking: true, validatorUrl: null, tryItOutEnabled: true,
        defaultModelsExpandDepth: 0, displayRequestDuration: true, filter: false, persistAuthorization: false,
    });
} else {
    const box = byId("trouble");
    byId("page").setAttribute("role", "main"); // Swagger UI brings its own
    box.append("This build is without Swagger UI: npm could not be had when it was made. ",
        el("a", { href: "/openapi.json" }, "openapi.json"), " describes the same API; `make web` fetches what is missing.");
    box.hidden = false;
}
