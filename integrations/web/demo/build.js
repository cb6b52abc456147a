// Puts the page, the package, TensorFlow.js, the teacher and the digits into one folder that any static server can offer: `demo/dist`.

import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";

const DEMO = fileURLToPath(new URL(".", import.meta.url));
const PACKAGE = join(DEMO, "..");
const DIGITS = join(PACKAGE, "..", "..", "data");
const PAGE = ["index.html", "style.css", "main.js", "training.js", "digits.js", "charts.js", "draw.js"];
const TENSORFLOW = ["tfjs/dist/tf.min.js", "tfjs-backend-webgpu/dist/tf-backend-webgpu.min.js"];

export function build(out = join(DEMO, "dist")) {
    rmSync(out, { recursive: true, force: true });
    const copy = (from, folder, names) => {
        mkdirSync(join(out, folder), { recursive: true });
        for (const name of names) copyFileSync(join(from, name), join(out, folder, name.split("/").at(-1)));
    };
    const source = join(PACKAGE, "dist");
    if (!existsSync(join(source, "wgpu_distill.wasm"))) throw new Error("dist/wgpu_distill.wasm is missing; run `npm run build` first");
    copy(DEMO, "", PAGE);
    copy(join(DEMO, "teacher"), "teacher", ["model.json", "weights.bin"]);
    copy(source, "wgpu-distill", readdirSync(source).filter((name) => /\.(js|wasm)$/.test(name)));
    copy(join(PACKAGE, "node_modules", "@tensorflow"), "tensorflow", TENSORFLOW);
    // The notice stays beside the digits. Ranges need files that are not compressed.
    copy(DIGITS, "digits", ["README.md"]);
    for (const name of readdirSync(DIGITS).filter((name) => name.endsWith(".gz"))) {
        writeFileSync(join(out, "digits", name.slice(0, -3)), gunzipSync(readFileSync(join(DIGITS, name))));
    }
    return out;
}

if (process.argv[1] == fileURLToPath(import.meta.url)) console.log(build());
