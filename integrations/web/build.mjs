// Builds src/wgpu_distill.wasm: the workspace's package web-module, made smaller by wasm-opt.

import { execFileSync } from "node:child_process";
import { statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const target = "wasm32-unknown-unknown";
const out = join(here, "src", "wgpu_distill.wasm");

// Flags of the environment are for the host's processor.
const { RUSTFLAGS, ...environment } = process.env;
const flags = ["-C", "target-feature=+simd128"];
const said = execFileSync(
    "cargo",
    ["build", "--locked", "--quiet", "--package", "web-module", "--profile", "web", "--target", target, "--message-format=json-render-diagnostics"],
    {
        cwd: here,
        env: { ...environment, CARGO_ENCODED_RUSTFLAGS: flags.join("\x1f") },
        stdio: ["ignore", "pipe", "inherit"],
        maxBuffer: 1 << 26,
    },
);
const files = said.toString().split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
const built = files.flatMap(({ target, filenames = [] }) => (target?.name == "web_module" ? filenames : [])).find((file) => file.endsWith(".wasm"));
if (!built) throw new Error("cargo named no module");

const features = ["simd", "bulk-memory", "bulk-memory-opt", "sign-ext", "mutable-globals", "nontrapping-float-to-int", "reference-types", "multivalue"];
const optimizer = join(here, "node_modules", "binaryen", "bin", "wasm-opt");
execFileSync(process.execPath, [optimizer, ...features.map((name) => `--enable-${name}`), "-Os", "--converge", "--strip-debug", "--strip-producers", built, "-o", out], {
    stdio: "inherit",
});
console.log(`${out}: ${statSync(out).size} bytes (${statSync(built).size} before wasm-opt)`);
