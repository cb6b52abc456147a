/** An argument that was refused, or a call that failed. `name` says which rule was broken, `message` has the numbers. */
export class DistillError extends Error {
    /**
     * @param {string} name
     * @param {string} message
     */
    constructor(name, message) {
        super(message);
        this.name = name;
    }
}

/** Throws if the signal is aborted, with the signal's own reason. */
export function checkSignal(signal) {
    signal?.throwIfAborted();
}
