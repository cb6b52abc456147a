// A page's device: its limits for the planner, its pipelines, and the pages that parameters are uploaded through.

import { DistillError } from "./errors.js";

const VENDORS = { nvidia: 0x10de, amd: 0x1002 };
const PAGE_BYTES = 1 << 16;

const known = new WeakMap();

/** What is kept for a device, made when it is first used. */
export function deviceOf(device) {
    if (!known.has(device)) known.set(device, new Device(device));
    return known.get(device);
}

export function isDevice(device) {
    return typeof GPUDevice != "undefined" && device instanceof GPUDevice;
}

class Device {
    constructor(device) {
        if (!isDevice(device)) throw new DistillError("NoDevice", "`device` is no GPUDevice; without WebGPU, `distill` runs on the CPU");
        this.device = device;
        this.lost = null;
        device.lost.then(({ reason, message }) => (this.lost = `${reason} ${message}`.trim()));
        this.pipelines = new Map();
        this.page = null;
    }

    check() {
        if (this.lost !== null) {
            throw new DistillError("DeviceLost", `the GPU device was lost: ${this.lost}; make a new step on a new device`);
        }
    }

    /** True for an adapter in software. */
    get software() {
        const { adapterInfo = {} } = this.device;
        const { isFallbackAdapter = false, vendor = "", architecture = "" } = adapterInfo;
        return isFallbackAdapter || architecture == "swiftshader" || (vendor == "mesa" && /llvmpipe/.test(architecture));
    }

    /** Smallest and largest subgroup; `null` if the device has no subgroup operations, or not in powers of two. */
    get subgroup() {
        if (!this.device.features.has("subgroups")) return null;
        const { subgroupMinSize: least, subgroupMaxSize: most } = this.device.adapterInfo ?? {};
        const isPower = (n) => Number.isInteger(n) && n > 0 && (n & (n - 1)) == 0;
        return isPower(least) && isPower(most) && least <= most ? [least, most] : null;
    }

    /** The lines of the limits. `bindingBytes` lowers the bytes of a binding; `software` overrides what the adapter says. */
    limitLines({ subgroups = true, bindingBytes = Infinity, software = this.software } = {}) {
        const { limits, adapterInfo = {} } = this.device;
        const values = {
            binding_bytes: Math.min(limits.maxStorageBufferBindingSize, bindingBytes),
            buffer_bytes: limits.maxBufferSize,
            storage_buffers: limits.maxStorageBuffersPerShaderStage,
            offset_alignment: Math.max(limits.minStorageBufferOffsetAlignment, 16),
            workgroup_invocations: Math.min(limits.maxComputeInvocationsPerWorkgroup, limits.maxComputeWorkgroupSizeX),
            workgroup_bytes: limits.maxComputeWorkgroupStorageSize,
            workgroups: limits.maxComputeWorkgroupsPerDimension,
            software: Number(software),
            vendor: VENDORS[adapterInfo.vendor] ?? 0,
        };
        let lines = Object.entries(values).map(([name, value]) => `limit ${name} ${value}\n`).join("");
        if (subgroups && this.subgroup) lines += `subgroup ${this.subgroup.join(" ")}\n`;
        return lines;
    }

    #description(name, code, bindings) {
        const { device } = this;
        const layout = device.createBindGroupLayout({
            label: name,
            entries: bindings.map(([binding, type]) => ({ binding, visibility: GPUShaderStage.COMPUTE, buffer: { type } })),
        });
        const module = device.createShaderModule({ label: name, code });
        const pipelineLayout = device.createPipelineLayout({ bindGroupLayouts: [layout] });
        return { layout, descriptor: { label: name, layout: pipelineLayout, compute: { module, entryPoint: "main" } } };
    }

    /** Compiles a pipeline without blocking. */
    async compile({ name, code, bindings }) {
        const key = `${JSON.stringify(bindings)}\n${code}`;
        if (this.pipelines.has(key)) return;
        const { layout, descriptor } = this.#description(name, code, bindings);
        let pipeline;
        try {
            pipeline = await this.device.createComputePipelineAsync(descriptor);
        } catch (error) {
            this.check();
            throw new DistillError("Gpu", `the device did not compile the kernel \`${name}\`: ${error.message}`);
        }
        this.pipelines.set(key, { layout, pipeline });
    }

    /** A pipeline, compiled now if it was not before. */
    pipeline({ name, code, bindings }) {
        const key = `${JSON.stringify(bindings)}\n${code}`;
        let found = this.pipelines.get(key);
        if (!found) {
            const { layout, descriptor } = this.#description(name, code, bindings);
            found = { layout, pipeline: this.device.createComputePipeline(descriptor) };
            this.pipelines.set(key, found);
        }
        return found;
    }

    /**
     * Uploads parameters to bytes of a buffer that nothing else uses, and returns where. A page is never written twice, because an encoder
     * that reads it may be submitted at any later time; the browser frees it with the last command buffer.
     */
    upload(bytes) {
        const size = bytes.byteLength;
        if (!this.page || this.page.used + size > this.page.buffer.size) {
            const buffer = this.device.createBuffer({
                label: "wgpu-distill parameters",
                size: Math.max(PAGE_BYTES, size),
                usage: GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
            });
            this.page = { buffer, used: 0 };
        }
        const { buffer, used } = this.page;
        this.page.used += size;
        this.device.queue.writeBuffer(buffer, used, bytes);
        return { buffer, offset: used };
    }
}
