// The default loss of the method in doubles, from its formulas alone.

/** Loss, gradient, KDR and TSSR of rows `[rows, classes]` without gaps; a mean over the rows with a label. */
export function method(student, teacher, labels, classes, { temperature = 1, tstr, ignore = -100 }) {
    const rows = labels.length;
    const softmax = (logits) => {
        const max = Math.max(...logits);
        const powers = logits.map((x) => Math.exp((x - max) / temperature));
        const sum = powers.reduce((a, b) => a + b);
        return powers.map((x) => x / sum);
    };
    const row = (all, r) => Array.from(all.slice(r * classes, (r + 1) * classes));
    const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
    const valid = labels.filter((label) => label != ignore).length;
    const done = { loss: 0, gradient: new Float64Array(rows * classes), kdr: [], tssr: [] };
    for (let r = 0; r < rows; r++) {
        if (labels[r] == ignore) continue;
        const [p, q] = [softmax(row(student, r)), softmax(row(teacher, r))];
        const kdr = dot(p, q) / Math.sqrt(dot(p, p) * dot(q, q));
        const tssr = Math.min(tstr, kdr);
        const target = q.map((q, i) => tssr * (i == labels[r]) + (1 - tssr) * q);
        done.loss -= target.reduce((sum, y, i) => sum + y * Math.log(p[i]), 0) / valid;
        p.forEach((p, i) => (done.gradient[r * classes + i] = (p - target[i]) / temperature / valid));
        done.kdr.push(kdr);
        done.tssr.push(tssr);
    }
    return done;
}

/** Numbers between -4 and 4, the same on every run. */
export function numbers(count, seed) {
    let state = seed >>> 0 || 1;
    return Float32Array.from({ length: count }, () => {
        state ^= state << 13;
        state ^= state >>> 17;
        state ^= state << 5;
        return ((state >>> 0) / 2 ** 32) * 8 - 4;
    });
}

/** The largest difference over the largest magnitude of `want`. */
export function difference(got, want) {
    let [most, scale] = [0, 1e-30];
    want.forEach((w, i) => {
        most = Math.max(most, Math.abs(got[i] - w));
        scale = Math.max(scale, Math.abs(w));
    });
    return got.length == want.length ? most / scale : Infinity;
}
