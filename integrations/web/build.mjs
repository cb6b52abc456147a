// Builds dist/, which the package ships: the WebAssembly module (the workspace's package web-module), the code of src/ in few files without
// names and comments that only readers need, and the types.

import binaryen from "binaryen";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build as bundle } from "esbuild";

const FOLDER = dirname(fileURLToPath(import.meta.url));
const SOURCE = join(FOLDER, "src");
const OUT = join(FOLDER, "dist");
const TARGET = "wasm32-unknown-unknown";

/** Instructions of all browsers with WebGPU. */
const FEATURES = ["simd", "bulk-memory", "bulk-memory-opt", "sign-ext", "mutable-globals", "nontrapping-float-to-int", "reference-types", "multivalue"];

/** The file that cargo builds, with the names of its functions. */
function compiled() {
    // Flags of the environment are for the host's processor.
    const { RUSTFLAGS, ...environment } = process.env;
    const flags = ["-C", "target-feature=+simd128"];
    const said = execFileSync(
        "cargo",
        ["build", "--locked", "--quiet", "--package", "web-module", "--profile", "web", "--target", TARGET, "--message-format=json-render-diagnostics"],
        {
            cwd: FOLDER,
            env: { ...environment, CARGO_ENCODED_RUSTFLAGS: flags.join("\x1f") },
            stdio: ["ignore", "pipe", "inherit"],
            maxBuffer: 1 << 26,
        },
    );
    const messages = said.toString().split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
    const files = messages.flatMap(({ target, filenames = [] }) => (target?.name == "web_module" ? filenames : []));
    const found = files.find((file) => file.endsWith(".wasm"));
    if (!found) throw new Error("cargo named no module");
    return found;
}

/**
 * The module whose functions that never return trap at once. A panic in this module is a trap, whose message nobody can read, but the
 * standard library's code for messages takes 3 % of the module. `Debug` texts stand in messages of panics alone.
 */
function withoutPanicMessages(bytes) {
    const module = binaryen.readBinary(bytes);
    const neverReturns = /^_R.*(9panicking|_fail(_rt)?$|13unwrap_failed|13expect_failed|12handle_error|18handle_alloc_error|17capacity_overflow|8rust_oom)/;
    const isDebug = /5Debug3fmt|core\.\.fmt\.\.Debug\$GT\$3fmt/;
    let count = 0;
    for (let i = 0; i < module.getNumFunctions(); i++) {
        const found = module.getFunctionByIndex(i);
        const { name, results } = binaryen.getFunctionInfo(found);
        if (isDebug.test(name) || (neverReturns.test(name) && results == binaryen.none)) {
            binaryen.Function.setBody(found, module.unreachable());
            count++;
        }
    }
    if (!count) throw new Error("the module has no names of functions, or other names than before");
    return module.emitBinary();
}

function optimized(from, to) {
    const optimizer = join(FOLDER, "node_modules", "binaryen", "bin", "wasm-opt");
    const passes = ["-Oz", "--flatten", "--rereloop", "-Oz", "--gufa-optimizing", "-Oz", "--converge", "--strip-debug", "--strip-producers", "--strip-target-features"];
    execFileSync(process.execPath, [optimizer, ...FEATURES.map((name) => `--enable-${name}`), ...passes, from, "-o", to], { stdio: "inherit" });
}

rmSync(OUT, { recursive: true, force: true });
mkdirSync(OUT);
const wasm = join(OUT, "wgpu_distill.wasm");
const built = compiled();
writeFileSync(wasm, withoutPanicMessages(readFileSync(built)));
optimized(wasm, wasm);
await bundle({
    entryPoints: ["index.js", "tfjs.js"].map((name) => join(SOURCE, name)),
    outdir: OUT,
    bundle: true,
    // What both files need stands in a third one, so that a page loads one module.
    splitting: true,
    chunkNames: "shared-[hash]",
    format: "esm",
    target: "es2022",
    minify: true,
    external: ["node:*"],
    logLevel: "warning",
});
for (const name of readdirSync(SOURCE).filter((name) => name.endsWith(".d.ts"))) copyFileSync(join(SOURCE, name), join(OUT, name));
console.log(`${wasm}: ${statSync(wasm).size} bytes (${statSync(built).size} before wasm-opt)`);
