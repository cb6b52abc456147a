// The WebAssembly module: planner, shader texts and CPU path. `module/src/request.rs` describes the requests.

import { DistillError } from "./errors.js";

const FILE = new URL("./wgpu_distill.wasm", import.meta.url);

let loading = null;

/**
 * Loads the module once. Without `source` it is the file beside this one; a page with a content policy or a bundler of its own passes the
 * module, its bytes, or a response with them.
 */
export function load(source) {
    loading ??= Promise.resolve(source ?? fetched())
        .then(instance)
        .then((instance) => new Module(instance.exports))
        .catch((error) => {
            loading = null;
            throw new DistillError("ModuleNotLoaded", `the WebAssembly module was not loaded: ${error.message ?? error}`);
        });
    return loading;
}

async function fetched() {
    if (FILE.protocol == "file:" && globalThis.process?.versions?.node) {
        const { readFile } = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:fs/promises");
        return readFile(FILE);
    }
    return fetch(FILE);
}

async function instance(source) {
    if (source instanceof WebAssembly.Module) return WebAssembly.instantiate(source, {});
    if (typeof Response != "undefined" && source instanceof Response) {
        if (!source.ok) throw new Error(`${source.url} answered ${source.status}`);
        source = await source.arrayBuffer();
    }
    return (await WebAssembly.instantiate(source, {})).instance;
}

class Module {
    #exports;

    constructor(exports) {
        this.#exports = exports;
    }

    /** Plans for buffers. Returns the plan's number and its list of dispatches. */
    plan(request) {
        const number = this.#ask("plan", request);
        return { number, list: JSON.parse(this.#text()) };
    }

    /** The WGSL text of a kernel of a plan. */
    code(plan, kernel) {
        this.#answered(this.#exports.code(plan, kernel));
        return this.#text();
    }

    /** The parameters of all dispatches of a plan, one after another, for a step. */
    parameters(plan, request) {
        const { memory, parameters } = this.#exports;
        this.#withText(request, (at, bytes) => this.#answered(parameters(plan, at, bytes)));
        return new Uint8Array(memory.buffer, this.#exports.answer() >>> 0, this.#exports.answer_bytes()).slice();
    }

    dropPlan(plan) {
        this.#exports.drop_plan(plan);
    }

    /** Checks labels, weights, soft labels and lists of a batch whose logits are elsewhere. */
    check(request, arrays) {
        this.#withArrays(arrays, (places) => this.#ask("check", request(places)));
    }

    /**
     * Runs the CPU path on copies of arrays: `{name: {array, out}}`. Returns the summary's bytes. Arrays with `out` are written back.
     */
    run(request, arrays) {
        return this.#withArrays(arrays, (places) => {
            this.#ask("run", request(places));
            const { memory, answer, answer_bytes } = this.#exports;
            for (const [name, { array, out }] of Object.entries(arrays)) {
                if (out) bytesOf(array).set(new Uint8Array(memory.buffer, places[name].at, array.byteLength));
            }
            return new Uint8Array(memory.buffer, answer() >>> 0, answer_bytes()).slice();
        });
    }

    /** Copies arrays into the module's memory for the time of `work`. */
    #withArrays(arrays, work) {
        const places = {};
        try {
            for (const [name, { array }] of Object.entries(arrays)) {
                places[name] = { at: this.#allocate(array.byteLength), bytes: array.byteLength, elements: array.length };
            }
            // The memory may have grown, which detaches earlier views.
            const { buffer } = this.#exports.memory;
            for (const [name, { array }] of Object.entries(arrays)) {
                new Uint8Array(buffer, places[name].at, array.byteLength).set(bytesOf(array));
            }
            return work(places);
        } finally {
            for (const { at, bytes } of Object.values(places)) this.#exports.release(at, bytes);
        }
    }

    #allocate(bytes) {
        const at = this.#exports.allocate(bytes) >>> 0;
        if (!at) throw new DistillError("OutOfMemory", `the module has no ${bytes} bytes left; pass fewer rows at a time`);
        return at;
    }

    #withText(text, work) {
        const bytes = new TextEncoder().encode(text);
        const at = this.#allocate(bytes.length);
        try {
            new Uint8Array(this.#exports.memory.buffer, at, bytes.length).set(bytes);
            return work(at, bytes.length);
        } finally {
            this.#exports.release(at, bytes.length);
        }
    }

    #ask(call, request) {
        return this.#withText(request, (at, bytes) => this.#answered(this.#exports[call](at, bytes)));
    }

    /** Throws the refusal if the code is 0. */
    #answered(code) {
        if (!code) {
            const { name, message } = JSON.parse(this.#text());
            throw new DistillError(name, message);
        }
        return code;
    }

    #text() {
        const { memory, answer, answer_bytes } = this.#exports;
        return new TextDecoder().decode(new Uint8Array(memory.buffer, answer() >>> 0, answer_bytes()));
    }
}

const bytesOf = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
