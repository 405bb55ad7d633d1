// SPDX-License-Identifier: Apache-2.0
// Light or dark: what the system prefers, or what the switch in the head of the page was set to. Loaded before the
// page is drawn, so that it does not flash.
"use strict";
(() => {
    const root = document.documentElement;
    const system = matchMedia("(prefers-color-scheme: dark)");
    const saved = () => {
        try { return localStorage.getItem("ingot.theme"); } catch { return null; }
    };
    const apply = () => {
        const dark = (saved() ?? (system.matches ? "dark" : "light")) === "dark";
        root.dataset.theme = dark ? "dark" : "light";
        root.classList.toggle("dark-mode", dark);
        const button = document.getElementById("theme");
        if (button) {
            button.textContent = dark ? "Light" : "Dark";
            button.setAttribute("aria-label", dark ? "Use light colours" : "Use dark colours");
        }
        dispatchEvent(new Event("themechange"));
    };
    system.addEventListener("change", apply);
    document.addEventListener("DOMContentLoaded", () => {
        apply();
        document.getElementById("theme")?.addEventListener("click", () => {
            const other = root.dataset.theme === "dark" ? "light" : "dark";
            try {
                // What the system prefers needs no keeping: the page goes on following it.
                if ((other === "dark") === system.matches) localStorage.removeItem("ingot.theme");
                else localStorage.setItem("ingot.theme", other);
            } catch { root.dataset.theme = other; return; }
            apply();
        });
    });
    apply();
})();
