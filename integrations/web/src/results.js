// Results in the layout of the kernels: `RowResult`, `RowReport` and `Summary` of the crate.

const METRICS = [
    "forwardKl", "teacherEntropy", "studentEntropy", "hard", "soft",
    "studentLse", "teacherLse", "agreement", "studentAccuracy", "teacherAccuracy",
];

/** Bits of `flags` in a row's result. */
export const FLAGS = Object.freeze({
    ignored: 1, invalidLabel: 2, nonFinite: 4, studentMasked: 8, studentLive: 16, teacherLive: 32,
    noGradient: 64, skipped: 128, clamped: 256, softLabel: 512, softLabelMasked: 1024,
});

function view(bytes, offset, length) {
    return ArrayBuffer.isView(bytes)
        ? new DataView(bytes.buffer, bytes.byteOffset + offset, length)
        : new DataView(bytes, offset, length);
}

function metricsAt(data, at) {
    return Object.fromEntries(METRICS.map((name, i) => [name, data.getFloat32(at + 4 * i, true)]));
}

function resultAt(data, at) {
    return {
        loss: data.getFloat32(at, true),
        kdr: data.getFloat32(at + 4, true),
        tssr: data.getFloat32(at + 8, true),
        flags: data.getUint32(at + 12, true),
    };
}

/** The summary from its 80 bytes. */
export function readSummary(bytes, offset = 0) {
    const data = view(bytes, offset, 80);
    return {
        loss: data.getFloat32(0, true),
        kdr: data.getFloat32(4, true),
        tssr: data.getFloat32(8, true),
        validRows: data.getUint32(12, true),
        ignoredRows: data.getUint32(16, true),
        invalidLabels: data.getUint32(20, true),
        nonFiniteRows: data.getUint32(24, true),
        metrics: metricsAt(data, 32),
    };
}

/** Results of `rows` rows, 16 bytes each. */
export function readRowResults(bytes, rows, offset = 0) {
    const data = view(bytes, offset, 16 * rows);
    return Array.from({ length: rows }, (_, row) => resultAt(data, 16 * row));
}

/** Results and metrics of `rows` rows, 64 bytes each. */
export function readRowMetrics(bytes, rows, offset = 0) {
    const data = view(bytes, offset, 64 * rows);
    return Array.from({ length: rows }, (_, row) => ({ ...resultAt(data, 64 * row), metrics: metricsAt(data, 64 * row + 16) }));
}

/** Adds up the summaries of parts of a batch. Losses are sums over one denominator; means are weighted by their rows. */
export function joined(summaries) {
    const sum = (of) => summaries.reduce((total, summary) => total + of(summary), 0);
    const averaged = (summary) => summary.validRows - summary.nonFiniteRows;
    const rows = Math.max(1, sum(averaged));
    const mean = (of) => sum((summary) => (averaged(summary) ? of(summary) * averaged(summary) : 0)) / rows;
    return {
        loss: sum((summary) => summary.loss),
        kdr: mean((summary) => summary.kdr),
        tssr: mean((summary) => summary.tssr),
        validRows: sum((summary) => summary.validRows),
        ignoredRows: sum((summary) => summary.ignoredRows),
        invalidLabels: sum((summary) => summary.invalidLabels),
        nonFiniteRows: sum((summary) => summary.nonFiniteRows),
        metrics: Object.fromEntries(METRICS.map((name) => [name, mean((summary) => summary.metrics[name])])),
    };
}
