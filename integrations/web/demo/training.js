// Two students of one network, the same first weights and the same batches: one learns from labels alone, one by distillation.

import { distillLoss } from "wgpu-distill/tfjs";

export const CLASSES = 10;
const SIDE = 28;
const BATCH = 64;
/** Images in one call of the teacher. */
const CHUNK = 250;

/** Random numbers in [0, 1), the same for a seed (mulberry32). */
export function random(seed) {
    let state = seed >>> 0;
    return () => {
        state = (state + 0x6d2b79f5) >>> 0;
        let x = Math.imul(state ^ (state >>> 15), state | 1);
        x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
        return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
    };
}

function shuffled(count, next) {
    const order = Int32Array.from({ length: count }, (_, i) => i);
    for (let i = count - 1; i > 0; i--) {
        const j = Math.floor(next() * (i + 1));
        [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
}

/** Gives a share of the labels another class. */
export function withWrongLabels(labels, share, seed) {
    const next = random(seed);
    return labels.map((label) => (next() < share ? (label + 1 + Math.floor(next() * (CLASSES - 1))) % CLASSES : label));
}

/** The teacher's logits of images `[n, 784]`, a few at a time so that the page stays alive. */
export async function teach(tf, teacher, images, onPart) {
    const parts = [];
    for (let at = 0; at < images.shape[0]; at += CHUNK) {
        const rows = Math.min(CHUNK, images.shape[0] - at);
        parts.push(tf.tidy(() => teacher.predict(images.slice([at, 0], [rows, -1]).reshape([rows, SIDE, SIDE, 1]))));
        // The device has answered when its numbers can be read.
        await parts.at(-1).data();
        onPart(at + rows);
        await tf.nextFrame();
    }
    const logits = tf.concat(parts);
    tf.dispose(parts);
    return logits;
}

/** The share of images `[n, 784]` whose largest logit is the label's. */
export async function accuracy(tf, logits, labels) {
    const right = tf.tidy(() => tf.mean(tf.cast(tf.equal(tf.argMax(logits, 1), labels), "float32")));
    const [value] = await right.data();
    right.dispose();
    return value;
}

/** A network of one hidden layer. */
function network(tf, units, seed) {
    const dense = (units, seed, more) => tf.layers.dense({ units, kernelInitializer: tf.initializers.heNormal({ seed }), ...more });
    return tf.sequential({ layers: [dense(units, seed, { inputShape: [SIDE * SIDE], activation: "relu" }), dense(CLASSES, seed + 1)] });
}

export class Training {
    #tf;
    #train;
    #test;
    #next;
    #order = [];
    #batch = null;
    step = 0;

    /**
     * `train` and `test` hold tensors `images` [n, 784] and `labels` [n]; `train` also the teacher's `logits` [n, 10]. They stay the caller's.
     *
     * `settings`: temperature, similarity, selection, units, steps, seed.
     */
    static async start(tf, train, test, settings) {
        const { temperature, similarity, selection, units, seed } = settings;
        const distilled = { studentTemperature: temperature, teacherTemperature: temperature, similarity, selection };
        const training = new Training(tf, train, test, settings);
        for (const [name, options] of [["labels", { selection: "fixed:1", similarity }], ["distilled", distilled]]) {
            const model = network(tf, units, seed);
            const loss = await distillLoss(tf, options);
            await loss.prepare([BATCH, CLASSES]);
            training.students[name] = { model, loss, optimizer: tf.train.adam(0.003) };
        }
        const { labels, distilled: other } = training.students;
        other.model.setWeights(labels.model.getWeights());
        return training;
    }

    constructor(tf, train, test, { steps, seed }) {
        this.#tf = tf;
        this.#train = train;
        this.#test = test;
        this.#next = random(seed);
        this.steps = steps;
        this.students = {};
    }

    /** The share of the training time that is done, TSTR, as the loss takes it. */
    get progress() {
        return { step: this.step, total: this.steps };
    }

    /** One step of both students on the same batch. */
    advance() {
        const tf = this.#tf;
        tf.dispose(this.#batch);
        this.#batch = tf.tidy(() => {
            const { images, logits, labels } = this.#train;
            const rows = tf.tensor1d(this.#rows(images.shape[0]), "int32");
            return { images: tf.gather(images, rows), logits: tf.gather(logits, rows), labels: tf.gather(labels, rows) };
        });
        const { images, logits, labels } = this.#batch;
        for (const { model, loss, optimizer } of Object.values(this.students)) {
            optimizer.minimize(() => loss(model.apply(images), logits, labels, this.progress));
        }
        this.step += 1;
    }

    #rows(count) {
        const rows = [];
        while (rows.length < BATCH) {
            if (!this.#order.length) this.#order = [...shuffled(count, this.#next)];
            rows.push(this.#order.pop());
        }
        return rows;
    }

    /** Loss, KDR and TSSR of both students on the last batch, and the accuracy on the test digits. */
    async measure() {
        const tf = this.#tf;
        const found = {};
        const { images, logits, labels } = this.#train;
        // Before the first step the first digits stand for a batch.
        const batch = this.#batch ?? { images: images.slice([0, 0], [BATCH, -1]), logits: logits.slice([0, 0], [BATCH, -1]), labels: labels.slice(0, BATCH) };
        for (const [name, { model, loss }] of Object.entries(this.students)) {
            const ofBatch = model.predict(batch.images);
            const { loss: value, kdr, tssr } = await loss.summary(ofBatch, batch.logits, batch.labels, this.progress);
            const ofTest = model.predict(this.#test.images);
            found[name] = { loss: value, kdr, tssr, accuracy: await accuracy(tf, ofTest, this.#test.labels) };
            tf.dispose([ofBatch, ofTest]);
        }
        if (batch !== this.#batch) tf.dispose(batch);
        return found;
    }

    dispose() {
        for (const { model, loss, optimizer } of Object.values(this.students)) {
            model.dispose();
            loss.dispose();
            optimizer.dispose();
        }
        this.#tf.dispose(this.#batch);
        this.#batch = null;
    }
}
