//! Any subset of the outputs: a requested output equals the same output of a run with all outputs.

use wgpu_distill::plan::Plan;
use wgpu_distill::shader::{Access, Kernel, Variant};
use wgpu_distill::{Engine, Outputs};

use super::cpus;
use crate::buffers::{self, Bench, Wanted};
use crate::cases::compare::{self, Outcome};
use crate::cases::{self, Case};
use crate::report;

const PARTS: [Wanted; 4] = [
    Wanted {
        rows: false,
        gradient: false,
        ..Wanted::ALL
    },
    Wanted {
        gradient: false,
        ..Wanted::ALL
    },
    Wanted {
        rows: false,
        ..Wanted::ALL
    },
    Wanted {
        summary: false,
        rows: false,
        ..Wanted::ALL
    },
];

/// The requested outputs of an outcome. The others are empty.
fn part(of: &Outcome, wanted: Wanted) -> Outcome {
    Outcome {
        summary: if wanted.summary {
            of.summary
        } else {
            Default::default()
        },
        rows: if wanted.rows {
            of.rows.clone()
        } else {
            Vec::new()
        },
        gradient: if wanted.gradient {
            of.gradient.clone()
        } else {
            Vec::new()
        },
        metrics: Vec::new(),
    }
}

/// Runs every case with each subset of the outputs.
///
/// `run` also returns how it computed the outcome. Two runs that computed it in the same way must give the same bits.
fn check<How: PartialEq>(
    engine: &str,
    table: Vec<Case>,
    mut run: impl FnMut(&Case, Wanted) -> Result<(Outcome, How), String>,
) {
    let (mut same, mut close) = (0, 0);
    for case in table {
        // Metrics replace the rows' results in buffers.
        let case = Case {
            metrics: false,
            ..case
        };
        // Each case runs five times. Rows split into segments are included; the longest rows are not.
        let long = case.rows * case.classes > 70_000;
        if long || engine.starts_with("slices") && !case.on_slices() {
            continue;
        }
        let want = case.reference();
        let about = |wanted| format!("{engine}, {} ({}), {wanted:?}", case.name, case.why);
        let mut run =
            |wanted| run(&case, wanted).unwrap_or_else(|e| panic!("{}: {e}", about(wanted)));
        let (full, how) = run(Wanted::ALL);
        for wanted in PARTS {
            let (got, how_now) = run(wanted);
            if how_now == how {
                let same_bits = got.bits() == part(&full, wanted).bits();
                assert!(same_bits, "{}: other bits", about(wanted));
                same += 1;
                continue;
            }
            // The other outputs come from the full run.
            let merged = Outcome {
                summary: if wanted.summary {
                    got.summary
                } else {
                    full.summary
                },
                rows: if wanted.rows {
                    got.rows
                } else {
                    full.rows.clone()
                },
                gradient: if wanted.gradient {
                    got.gradient
                } else {
                    full.gradient.clone()
                },
                metrics: Vec::new(),
            };
            if let Err(why) = compare::check(&case, &want, &merged) {
                panic!("{}: {why}", about(wanted));
            }
            close += 1;
        }
    }
    report::ran(&format!(
        "parts of the outputs: {same} with the same bits, {close} within the tolerance: {engine}"
    ));
    assert!(same > 100, "{same}");
}

/// The choices of a plan that affect bits.
///
/// A 16-bit gradient may start within a word; its rows then begin in the middle of words.
fn way(case: &Case, plan: &Plan) -> (Variant, bool) {
    let halves =
        plan.variant_of(Kernel::Distill).gradient.is_some() && case.storage[2].bytes() == 2;
    let variant = Variant {
        gradient: None,
        accumulate: false,
        shared_buffers: false,
        ..plan.variant_of(Kernel::Distill)
    };
    (
        variant,
        halves && plan.variant_of(Kernel::Distill).access == Access::Element,
    )
}

#[test]
fn parts_on_buffers() {
    let Some(gpu) = buffers::gpu() else { return };
    // A driver's compiler may contract expressions differently if an output is not stored. Software drivers do not.
    let exact = gpu.limits().software;
    let bench = Bench::new(gpu);
    // Kernels without outputs are compiled anew, so that a quick run takes every twelfth case.
    let step = if cases::is_full() { 1 } else { 12 };
    let table = cases::for_drivers().into_iter().step_by(step).collect();
    check(&bench.describe(), table, |case, wanted| {
        let (got, plan) = bench.run_for(case, wanted)?;
        let whole = wanted.gradient || exact;
        Ok((got, (whole, way(case, &plan))))
    });
}

fn on_slices(engine: &Engine, case: &Case, wanted: Wanted) -> Result<(Outcome, ()), String> {
    let host = case.host();
    let outputs = Outputs {
        rows: wanted.rows,
        gradient: wanted.gradient.then_some(case.storage[2]),
        metrics: false,
    };
    let done = engine.run(&case.config, case.progress, &host.batch(), outputs);
    let done = done.map_err(|e| e.to_string())?;
    let got = Outcome {
        summary: done.summary,
        rows: done.rows.clone(),
        metrics: done.metrics.clone(),
        gradient: done.into_grad_student_logits(),
    };
    // Results on slices always have a summary.
    Ok((part(&got, wanted), ()))
}

#[test]
fn parts_on_slices() {
    for engine in cpus() {
        let about = format!("slices, {}", engine.describe());
        check(&about, cases::all(), |case, wanted| {
            on_slices(&engine, case, wanted)
        });
    }
}
