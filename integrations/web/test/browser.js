// A headless Chromium that opens pages of the package.

import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { serve } from "../demo/serve.js";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** The names that Chromium has on various systems. */
const NAMES = ["chromium", "chromium-browser", "google-chrome"];

function executable() {
    const named = process.env.WGPU_DISTILL_CHROMIUM;
    const names = named ? [named] : NAMES;
    const folders = (process.env.PATH ?? "").split(":");
    for (const name of names) {
        if (name.includes("/") && existsSync(name)) return name;
        for (const folder of folders) if (existsSync(join(folder, name))) return join(folder, name);
    }
    throw new Error(`none of ${names} was found; install Chromium or name it by WGPU_DISTILL_CHROMIUM`);
}

/** Opens a page of the package, or of another folder, in Chromium; `options` are Playwright's of the context. */
export async function open(path, { folder = ROOT, ranges = true, init, ...options } = {}) {
    const server = await serve(folder, { ranges });
    const profile = mkdtempSync(join(tmpdir(), "wgpu-distill-"));
    const context = await chromium.launchPersistentContext(profile, {
        executablePath: executable(),
        headless: true,
        ...options,
        args: ["--no-sandbox", "--no-first-run", "--enable-unsafe-webgpu"],
    });
    const page = await context.newPage();
    const problems = [];
    page.on("pageerror", (error) => problems.push(String(error)));
    if (init) await page.addInitScript(init);
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && problems.push(message.text()));
    await page.goto(`http://127.0.0.1:${server.address().port}${path}`);
    const close = async () => {
        await context.close();
        server.closeAllConnections();
        server.close();
        rmSync(profile, { recursive: true, force: true });
    };
    return { page, problems, close };
}
