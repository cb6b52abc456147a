// The default loss of the method in operations of TensorFlow.js, whose autograd gives its gradient.

globalThis.composed = (student, teacher, labels, { step, total }, temperature) =>
    tf.tidy(() => {
        const classes = student.shape.at(-1);
        const matrix = (x) => tf.div(tf.reshape(x, [-1, classes]), temperature);
        const [s, t] = [matrix(student), matrix(teacher)];
        const logP = tf.logSoftmax(s);
        const q = tf.softmax(t);
        // The share of the label is a constant for the gradient.
        const shareOf = tf.customGrad((logP) => {
            const p = tf.exp(logP);
            const dot = (a, b) => tf.sum(tf.mul(a, b), 1, true);
            const kdr = tf.div(dot(p, q), tf.sqrt(tf.mul(dot(p, p), dot(q, q))));
            return { value: tf.minimum(step / total, kdr), gradFunc: () => tf.zerosLike(logP) };
        });
        const share = shareOf(logP);
        const label = tf.oneHot(tf.reshape(labels, [-1]), classes, 1, 0, "float32");
        const target = tf.add(tf.mul(share, label), tf.mul(tf.sub(1, share), q));
        return tf.neg(tf.mean(tf.sum(tf.mul(target, logP), 1)));
    });
