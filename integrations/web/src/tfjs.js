// The loss as a differentiable operation of TensorFlow.js.

import { DistillError } from "./errors.js";
import { load } from "./module.js";
import { readSummary } from "./results.js";
import { configLines, progressLine, sizeLines } from "./shape.js";
import { makeStep } from "./step.js";

/** What this file uses of the WebGPU backend's class. */
const BACKEND = ["device", "tensorMap", "uploadToGPU", "makeTensorInfo", "ensureCommandEncoderReady", "endComputePassEncoder", "commandQueueOwnedIds"];

const SUMMARY = [20];

/**
 * Makes the loss for a `tf`: a function of student, teacher, labels and progress that gives a scalar. `tf` is TensorFlow.js or its core.
 */
export async function distillLoss(tf, options = {}) {
    const { rowWeights, classWeights, ...rest } = options;
    if (rowWeights !== undefined || classWeights !== undefined) {
        throw new DistillError("InvalidConfig", "`rowWeights` and `classWeights` are tensors of a call: pass them beside the progress");
    }
    for (const name of ["gradWrite", "gradLoss"]) {
        if (rest[name] !== undefined) throw new DistillError("InvalidConfig", `\`${name}\` is TensorFlow.js's own part: it adds and scales gradients`);
    }
    configLines(rest);
    const loss = new Loss(tf, await load(), rest);
    const call = (student, teacher, labels, progress, inputs) => loss.value(student, teacher, labels, progress, inputs);
    call.prepare = (shape, inputs) => loss.prepare(shape, inputs);
    call.summary = (student, teacher, labels, progress, inputs) => loss.summary(student, teacher, labels, progress, inputs);
    call.dispose = () => loss.dispose();
    return call;
}

class Loss {
    #tf;
    #module;
    #options;
    /** Steps by device and shape. */
    #steps = new Map();
    #device = null;
    #disposed = false;

    constructor(tf, module, options) {
        this.#tf = tf;
        this.#module = module;
        this.#options = options;
    }

    /** The loss, a scalar whose gradient passes to the student alone. */
    value(student, teacher, labels, progress, inputs) {
        const tf = this.#tf;
        // Within the operation the tape is off.
        const differentiated = tf.engine().isTapeOn();
        const call = this.#call(student, teacher, labels, progress, inputs);
        const operation = tf.customGrad((logits, save) => {
            const { summary, gradient } = this.#run({ ...call, student: logits }, differentiated);
            if (gradient) save([gradient]);
            const value = tf.reshape(tf.slice(summary, [0], [1]), []);
            summary.dispose();
            const gradFunc = (upstream, [saved]) => tf.mul(saved, upstream);
            return { value, gradFunc };
        });
        return operation(student);
    }

    /** Loss, KDR, TSSR and counts, read from the device. */
    async summary(student, teacher, labels, progress, inputs) {
        const call = this.#call(student, teacher, labels, progress, inputs);
        const { summary } = this.#tf.tidy(() => this.#run(call, false));
        const values = await summary.data();
        summary.dispose();
        // Counts are integers in the bits of floats, which tfjs copies unchanged.
        const { metrics, ...counts } = readSummary(values);
        return counts;
    }

    /** Compiles the kernels of a shape `[.., classes]` without blocking, with and without gradient. */
    async prepare(shape, { teacherClasses, ...inputs } = {}) {
        const backend = this.#webgpu();
        if (!backend) return;
        const rows = shape.slice(0, -1).reduce((product, n) => product * n, 1);
        const sizes = { rows, classes: shape.at(-1), teacherClasses: teacherClasses ?? shape.at(-1) };
        await Promise.all([true, false].map((gradient) => this.#step(backend, sizes, inputs, gradient).compile()));
    }

    dispose() {
        for (const step of this.#steps.values()) step.destroy();
        this.#steps.clear();
        this.#disposed = true;
    }

    #call(student, teacher, labels, progress, { teacherIds, softLabels, rowWeights, classWeights } = {}) {
        if (this.#disposed) throw new DistillError("Destroyed", "the loss was disposed; make another with `distillLoss`");
        const tensors = { student, teacher, labels, teacherIds, softLabels, rowWeights, classWeights };
        const integers = ["labels", "teacherIds"];
        for (const [name, tensor] of Object.entries(tensors)) {
            if (tensor === undefined || tensor === null) {
                delete tensors[name];
                if (["student", "teacher", "labels"].includes(name)) throw new DistillError("MissingTensor", `\`${name}\` was not given`);
                continue;
            }
            const type = integers.includes(name) ? "int32" : "float32";
            if (tensor.dtype != type) {
                throw new DistillError("TensorType", `\`${name}\` has the type ${tensor.dtype ?? typeof tensor}, expected ${type}`);
            }
        }
        const classes = student.shape.at(-1);
        const rows = labels.size;
        const sizes = { rows, classes, teacherClasses: teacher.shape.at(-1) };
        const elements = {
            student: rows * classes, teacher: rows * sizes.teacherClasses, labels: rows, teacherIds: rows * sizes.teacherClasses,
            softLabels: rows * classes, rowWeights: rows, classWeights: classes,
        };
        for (const [name, tensor] of Object.entries(tensors)) {
            if (tensor.size != elements[name]) {
                throw new DistillError(
                    "TensorShape",
                    `\`${name}\` has the shape [${tensor.shape}]; for ${rows} labels, ${classes} classes of the student and ${sizes.teacherClasses} of the teacher it needs ${elements[name]} elements`,
                );
            }
        }
        return { ...tensors, sizes, progress };
    }

    /** The backend, if it is the one on WebGPU. */
    #webgpu() {
        const { backendName } = this.#tf.engine();
        if (backendName != "webgpu") return null;
        const backend = this.#tf.backend();
        const missing = BACKEND.filter((name) => !(name in backend));
        if (missing.length) {
            throw new DistillError("Unsupported", `this version of TensorFlow.js's WebGPU backend has no \`${missing.join("`, `")}\``);
        }
        return backend;
    }

    /** The step of a shape on the backend's device. */
    #step(backend, sizes, inputs, gradient) {
        if (this.#device !== backend.device) {
            // Steps of a device that the page has replaced.
            for (const step of this.#steps.values()) step.destroy();
            this.#steps.clear();
            this.#device = backend.device;
        }
        const shape = {
            ...sizes,
            gradient: gradient && "f32",
            softLabels: Boolean(inputs.softLabels),
            teacherIds: Boolean(inputs.teacherIds),
            rowWeights: Boolean(inputs.rowWeights),
            classWeights: Boolean(inputs.classWeights),
        };
        const key = JSON.stringify(shape);
        if (!this.#steps.has(key)) this.#steps.set(key, makeStep(this.#module, backend.device, shape, this.#options, {}));
        return this.#steps.get(key);
    }

    /** The summary as 20 floats and, if asked for, the gradient in the student's shape. */
    #run(call, withGradient) {
        const backend = this.#webgpu();
        return backend && call.sizes.rows ? this.#onDevice(backend, call, withGradient) : this.#onCpu(call, withGradient);
    }

    #onDevice(backend, call, withGradient) {
        const engine = this.#tf.engine();
        const step = this.#step(backend, call.sizes, call, withGradient);
        const made = [];
        const output = (shape) => {
            const info = backend.makeTensorInfo(shape, "float32");
            made.push(info);
            return info;
        };
        const buffer = ({ dataId }) => {
            backend.uploadToGPU(dataId);
            // A tensor that is disposed before the backend submits must not give its buffer to another one.
            backend.commandQueueOwnedIds.add(dataId);
            return backend.tensorMap.get(dataId).resource;
        };
        const summary = output(SUMMARY);
        const gradient = withGradient ? output(call.student.shape) : null;
        const buffers = {
            studentLogits: call.student, teacherLogits: call.teacher, labels: call.labels, teacherIds: call.teacherIds,
            softLabels: call.softLabels, rowWeights: call.rowWeights, classWeights: call.classWeights, summary, gradient,
        };
        for (const [name, tensor] of Object.entries(buffers)) buffers[name] = tensor ? buffer(tensor) : undefined;
        try {
            backend.ensureCommandEncoderReady();
            backend.endComputePassEncoder();
            step.encode(backend.commandEncoder, buffers, call.progress);
        } catch (error) {
            for (const { dataId } of made) backend.disposeData(dataId);
            throw error;
        }
        const tensor = (info) => info && engine.makeTensorFromTensorInfo(info);
        return { summary: tensor(summary), gradient: tensor(gradient) };
    }

    #onCpu(call, withGradient) {
        const tf = this.#tf;
        const { sizes, student } = call;
        const arrays = {};
        const names = {
            student_logits: "student", teacher_logits: "teacher", labels: "labels", teacher_ids: "teacherIds",
            soft_labels: "softLabels", row_weights: "rowWeights", class_weights: "classWeights",
        };
        for (const [operand, name] of Object.entries(names)) if (call[name]) arrays[operand] = { array: call[name].dataSync() };
        const gradient = withGradient ? new Float32Array(sizes.rows * sizes.classes) : null;
        if (gradient) arrays.gradient = { array: gradient, out: true };
        const widths = { student_logits: sizes.classes, teacher_logits: sizes.teacherClasses, soft_labels: sizes.classes, gradient: sizes.classes };
        const request = (places) => {
            let lines = configLines(this.#options) + sizeLines(sizes) + progressLine(call.progress);
            for (const [operand, { at, elements }] of Object.entries(places)) {
                const width = widths[operand];
                lines += width === undefined ? `list ${operand} ${at} ${elements}\n` : `matrix ${operand} f32 ${width} ${at} ${elements}\n`;
            }
            return lines;
        };
        const summary = this.#module.run(request, arrays);
        return {
            summary: tf.tensor1d(new Float32Array(summary.buffer, 0, SUMMARY[0])),
            gradient: gradient && tf.tensor(gradient, student.shape, "float32"),
        };
    }
}
