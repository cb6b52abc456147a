// The record of what ran: lines on standard output and in the file that WGPU_DISTILL_REPORT names.

import { appendFileSync } from "node:fs";

export function ran(line) {
    console.log(line);
    const file = process.env.WGPU_DISTILL_REPORT;
    if (file) appendFileSync(file, `${line}\n`);
}
