export { distill } from "./distill.js";
export { DistillError } from "./errors.js";
export { load } from "./module.js";
export { prepare } from "./step.js";
export { FLAGS, readRowMetrics, readRowResults, readSummary } from "./results.js";
