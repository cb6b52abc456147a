// Shapes and options of the caller as lines of a request.

import { DistillError } from "./errors.js";

const BYTES = { f32: 4, f16: 2, bf16: 2 };

/** The matrices and lists of a batch by their names in JavaScript and in the module. */
export const MATRICES = {
    studentLogits: "student_logits",
    teacherLogits: "teacher_logits",
    gradient: "gradient",
    softLabels: "soft_labels",
};
export const LISTS = {
    labels: "labels",
    teacherIds: "teacher_ids",
    rowWeights: "row_weights",
    classWeights: "class_weights",
    rowResults: "row_results",
    rowMetrics: "row_metrics",
    summary: "summary",
};

export const bytesPerElement = (storage) => BYTES[storage];

function count(name, value) {
    if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) {
        throw new DistillError("InvalidShape", `\`${name}\` is ${value}, expected a whole number of at least 0 and below 2^32`);
    }
    return value;
}

function matrix(name, given, width) {
    const { storage = "f32", rowStride = width, ...others } = typeof given == "string" ? { storage: given } : (given ?? {});
    refuseUnknown(name, others);
    if (!Object.hasOwn(BYTES, storage)) {
        throw new DistillError("InvalidShape", `the storage of \`${name}\` is ${storage}, expected f32, f16 or bf16`);
    }
    count(`${name}.rowStride`, rowStride);
    if (rowStride < width) {
        throw new DistillError("RowStrideTooSmall", `\`${name}\` has a row stride of ${rowStride}, shorter than its ${width} classes`);
    }
    return { storage, rowStride, width };
}

function refuseUnknown(where, others) {
    const [unknown] = Object.keys(others);
    if (unknown !== undefined) throw new DistillError("InvalidShape", `\`${where}\` has no field \`${unknown}\``);
}

export function checkShape(shape) {
    if (typeof shape != "object" || shape === null) throw new DistillError("InvalidShape", `the shape is ${shape}, expected an object`);
}

/** The shape with every default filled in. `matrices` and `lists` have the operands that a call takes. */
export function completed(shape) {
    checkShape(shape);
    const {
        rows, classes, teacherClasses = classes, student, teacher, gradient = "f32", softLabels,
        teacherIds = false, rowWeights = false, classWeights = false, rowResults = false, rowMetrics = false, summary = true,
        ...others
    } = shape;
    refuseUnknown("shape", others);
    count("rows", rows);
    count("classes", classes);
    count("teacherClasses", teacherClasses);
    const inPlace = gradient === "in-place";
    const matrices = {
        studentLogits: matrix("student", student, classes),
        teacherLogits: matrix("teacher", teacher, teacherClasses),
    };
    if (inPlace) matrices.gradient = matrices.studentLogits;
    else if (gradient) matrices.gradient = matrix("gradient", gradient, classes);
    if (softLabels) matrices.softLabels = matrix("softLabels", softLabels === true ? "f32" : softLabels, classes);
    const lists = { labels: 4 * rows };
    if (teacherIds) lists.teacherIds = 4 * rows * teacherClasses;
    if (rowWeights) lists.rowWeights = 4 * rows;
    if (classWeights) lists.classWeights = 4 * classes;
    if (rowResults) lists.rowResults = 16 * rows;
    if (rowMetrics) lists.rowMetrics = 64 * rows;
    if (summary) lists.summary = 80;
    return { rows, classes, teacherClasses, inPlace, matrices, lists };
}

/** Elements from the first of a matrix to its last. */
export const extent = ({ rowStride, width }, rows) => (rows ? (rows - 1) * rowStride + width : 0);

/** The lines of rows, classes and the teacher's classes. */
export function sizeLines({ rows, classes, teacherClasses }) {
    return `size rows ${rows}\nsize classes ${classes}\nsize teacher_classes ${teacherClasses}\n`;
}

/** The bits of a double in hexadecimal digits. */
function bits(value) {
    const data = new DataView(new ArrayBuffer(8));
    data.setFloat64(0, value);
    return data.getBigUint64(0).toString(16);
}

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** The name of an option's value and its numbers: `fixed:0.5`, `2`, `[0, 10]`, `null`. */
function nameAndNumbers(option, value) {
    if (value === null) return ["none"];
    if (typeof value == "number") return ["", value];
    if (Array.isArray(value)) return ["", ...value.map(Number)];
    const text = String(value);
    const [name, ...numbers] = text.split(":");
    if (NUMBER.test(name)) numbers.unshift(name);
    if (/[\s,]/.test(text) || !numbers.every((number) => NUMBER.test(number))) {
        throw new DistillError("InvalidConfig", `\`${option}\` is \`${text}\`, expected a name, with its numbers behind \`:\``);
    }
    return [NUMBER.test(name) ? "" : name, ...numbers.map(Number)];
}

/** The lines of `Config`, from options in camel case. */
export function configLines(options = {}) {
    let lines = "";
    for (const [option, value] of Object.entries(options ?? {})) {
        if (value === undefined) continue;
        if (!/^\w+$/.test(option)) throw new DistillError("InvalidConfig", `there is no option \`${option}\``);
        const field = option.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
        const [name, ...numbers] = nameAndNumbers(option, value);
        lines += `config ${field} ${[name, ...numbers.map(bits)].join()}\n`;
    }
    return lines;
}

/** The line of the progress; none for `null`. */
export function progressLine(progress) {
    if (progress === undefined || progress === null) return "";
    const { step, total } = progress;
    for (const [name, value] of [["step", step], ["total", total]]) {
        if (!Number.isSafeInteger(value) || value < 0) {
            throw new DistillError("InvalidProgress", `\`${name}\` of the progress is ${value}, expected a whole number of at least 0`);
        }
    }
    return `progress ${step} ${total}\n`;
}
