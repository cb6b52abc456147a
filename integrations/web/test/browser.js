// A server for the package's files and a headless Chromium that opens its pages.

import { createReadStream, existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const KINDS = {
    ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm",
    ".json": "application/json", ".css": "text/css", ".svg": "image/svg+xml",
};

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

/** Serves the package's folder on the loopback address. */
export function serve() {
    const server = createServer((request, response) => {
        const { pathname } = new URL(request.url, "http://localhost");
        const file = normalize(join(ROOT, decodeURIComponent(pathname)));
        if (!file.startsWith(ROOT) || !existsSync(file) || !statSync(file).isFile()) {
            response.writeHead(404).end();
            return;
        }
        response.writeHead(200, { "Content-Type": KINDS[extname(file)] ?? "application/octet-stream", "Cache-Control": "no-store" });
        createReadStream(file).pipe(response);
    });
    return new Promise((done) => server.listen(0, "127.0.0.1", () => done(server)));
}

/** Opens a page of the package in Chromium. */
export async function open(path) {
    const server = await serve();
    const profile = mkdtempSync(join(tmpdir(), "wgpu-distill-"));
    const context = await chromium.launchPersistentContext(profile, {
        executablePath: executable(),
        headless: true,
        args: ["--no-sandbox", "--no-first-run", "--enable-unsafe-webgpu"],
    });
    const page = await context.newPage();
    const problems = [];
    page.on("pageerror", (error) => problems.push(String(error)));
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
