// A static server on the loopback address, with ranges: `node demo/serve.js [PORT]` serves `demo/dist`.

import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const KINDS = {
    ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm",
    ".json": "application/json", ".css": "text/css", ".svg": "image/svg+xml",
};

/** Serves a folder. Port 0 is any free one; without `ranges` every answer is a whole file. */
export function serve(folder, { port = 0, ranges = true } = {}) {
    const root = normalize(join(folder, "/"));
    const server = createServer((request, response) => {
        const { pathname } = new URL(request.url, "http://localhost");
        const file = normalize(join(root, decodeURIComponent(pathname), pathname.endsWith("/") ? "index.html" : ""));
        if (!file.startsWith(root) || !existsSync(file) || !statSync(file).isFile()) {
            response.writeHead(404).end();
            return;
        }
        const headers = { "Content-Type": KINDS[extname(file)] ?? "application/octet-stream", "Cache-Control": "no-store" };
        const { size } = statSync(file);
        const asked = ranges && /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
        if (!asked) {
            response.writeHead(200, { ...headers, "Content-Length": size });
            createReadStream(file).pipe(response);
            return;
        }
        const [start, end] = [Number(asked[1]), Math.min(Number(asked[2]), size - 1)];
        if (start > end) {
            response.writeHead(416, { "Content-Range": `bytes */${size}` }).end();
            return;
        }
        response.writeHead(206, { ...headers, "Content-Range": `bytes ${start}-${end}/${size}`, "Content-Length": end - start + 1 });
        createReadStream(file, { start, end }).pipe(response);
    });
    return new Promise((done, failed) => server.once("error", failed).listen(port, "127.0.0.1", () => done(server)));
}

if (process.argv[1] == fileURLToPath(import.meta.url)) {
    const port = Number(process.argv[2] ?? 8080);
    await serve(fileURLToPath(new URL("dist", import.meta.url)), { port });
    console.log(`http://localhost:${port}/`);
}
