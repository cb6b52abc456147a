//! A small problem on the CPU path with every instruction set: the reference's error or result, and no write outside of the outputs.

use wgpu_distill::cpu::Cpu;
use wgpu_distill::half::{bf16, f16};
use wgpu_distill::{
    Distillation, Error, Gradient, GradientMut, Outputs, Scope, Storage, ValuesMut, flags,
    reference,
};

use super::bytes::Bytes;
use super::problem::Problem;
use super::tolerance::{self, Allowed};
use crate::cases::Tolerance;
use crate::cases::inputs::Stored;
use crate::cases::tolerance::gradient_weight;

const TOLERANCE: Tolerance = Tolerance::F32;

/// Allowed error of a gradient element whose terms nearly cancel, relative to the factor of `p - y`.
///
/// A lane adds up to 64 exponentials to 1 before widening. Each addition has a rounding error of at most half of 1.2e-7.
const ROUNDING: f64 = 4e-6;

/// The initial value in and around a gradient. No result has these bits.
const CANARY: f32 = f32::from_bits(0xffed_cba9);
const MARGIN: usize = 40;

pub fn check(bytes: &[u8]) -> Result<bool, String> {
    let problem = Problem::new(&mut Bytes::new(bytes));
    let want = reference::distill(&problem.config, problem.progress, &problem.batch());
    let mut first: Option<Result<Distillation, Error>> = None;
    for cpu in Cpu::for_each_instruction_set() {
        let about = |why: String| format!("{}: {why}\n{problem:?}", cpu.describe());
        let outputs = Outputs {
            rows: true,
            gradient: Some(problem.gradient),
            metrics: false,
        };
        let got = cpu.run(&problem.config, problem.progress, &problem.batch(), outputs);
        match (&got, &want) {
            // The reference accepts these.
            (
                Err(
                    Error::LabelOutOfRange { .. }
                    | Error::SoftLabel { .. }
                    | Error::ClassWeight { .. }
                    | Error::TeacherIdOutOfRange { .. }
                    | Error::TeacherIdTwice { .. }
                    | Error::Unsupported { .. }
                    | Error::ZeroDenominator { .. },
                ),
                _,
            )
            | (Err(_), Err(_)) => {}
            (Ok(got), Ok(want)) => {
                outcome(&problem, got, want).map_err(about)?;
                into_memory(&cpu, &problem, got).map_err(about)?;
                let batch = problem.batch();
                let in_steps = batch.class_weights.is_none() && batch.teacher_ids.is_none();
                if in_steps && bytes.first().is_some_and(|b| b % 4 == 0) {
                    steps(&cpu, &problem, got, want).map_err(about)?;
                    softmax(&cpu, &problem).map_err(about)?;
                }
            }
            _ => return Err(about(format!("{got:?}, the reference: {want:?}"))),
        }
        // By their texts: an error may contain NaN.
        if let (Some(Err(before)), Err(now)) = (&first, &got)
            && before.to_string() != now.to_string()
        {
            return Err(about(format!(
                "refused with {now}, by another set with {before}"
            )));
        }
        if matches!(
            (&first, &got),
            (Some(Ok(_)), Err(_)) | (Some(Err(_)), Ok(_))
        ) {
            return Err(about("refused by one set, not by another".to_owned()));
        }
        first = Some(got);
    }
    Ok(want.is_ok())
}

/// Fails unless both are NaN or they are within the tolerance, if there is one.
///
/// A value beyond f32 may be infinite or the largest f32.
fn close(what: &str, got: f32, want: f64, tolerance: Option<f64>) -> Result<(), String> {
    let (got, far) = (f64::from(got), f64::from(f32::MAX));
    let ok = if got.is_nan() || want.is_nan() {
        got.is_nan() && want.is_nan()
    } else {
        // A tolerance beyond f32 allows infinity too.
        let within = |t: f64| {
            let off = (got - want).abs();
            t > far || got == want || off <= t + TOLERANCE.loss_relative * want.abs() + 1e-37
        };
        let ends =
            want.abs() > 0.99 * far && got.abs() > 0.9 * far && got.signum() == want.signum();
        ends || tolerance.is_none_or(within)
    };
    match ok {
        true => Ok(()),
        false => Err(format!(
            "{what}: {got:e}, want {want:e}, allowed {tolerance:?}"
        )),
    }
}

fn allowances(problem: &Problem, want: &reference::Distillation) -> Vec<Allowed> {
    let batch = problem.batch();
    let exact = Allowed {
        loss: Some(0.0),
        kdr: Some(0.0),
        tssr: Some(0.0),
    };
    let mut rows: Vec<Allowed> = want
        .rows
        .iter()
        .enumerate()
        .map(
            |(row, r)| match r.flags & !(flags::NO_GRADIENT | flags::CLAMPED) {
                0 => tolerance::of_row(&problem.config, &batch, row, r.tssr),
                _ => exact,
            },
        )
        .collect();
    // The error of the mean is at most that of the worst row.
    if problem.config.scope == Scope::Batch {
        let worst = rows.iter().try_fold(0.0f64, |m, r| Some(m.max(r.tssr?)));
        for r in &mut rows {
            r.tssr = worst;
            if worst.is_none() {
                r.loss = None;
            }
        }
    }
    rows
}

fn outcome(
    problem: &Problem,
    got: &Distillation,
    want: &reference::Distillation,
) -> Result<(), String> {
    let allowed = allowances(problem, want);
    rows(problem, got, want, &allowed)?;
    let (g, w) = (&got.summary, &want.summary);
    let counts = [
        g.valid_rows,
        g.ignored_rows,
        g.invalid_labels,
        g.non_finite_rows,
    ];
    let right = [
        w.valid_rows,
        w.ignored_rows,
        w.invalid_labels,
        w.non_finite_rows,
    ];
    if counts != right {
        return Err(format!("counts {counts:?}, want {right:?}"));
    }
    let worst = |of: fn(&Allowed) -> Option<f64>| {
        allowed.iter().try_fold(0.0f64, |m, r| Some(m.max(of(r)?)))
    };
    close(
        "summary kdr",
        g.kdr,
        w.kdr,
        worst(|r| r.kdr).map(|t| t + 1e-6),
    )?;
    close(
        "summary tssr",
        g.tssr,
        w.tssr,
        worst(|r| r.tssr).map(|t| t + 1e-6),
    )?;
    let denominator = problem.config.reduction.denominator(w.valid_rows);
    let sum = want.rows.iter().zip(&allowed).try_fold(0.0, |sum, (r, a)| {
        // If one row overflows f32, the sum is arbitrary.
        let fits = r.loss.is_nan() || r.loss.abs() <= 1e38;
        Some(
            sum + (a.loss.filter(|_| fits)? + TOLERANCE.loss_relative * r.loss.abs()) / denominator,
        )
    });
    if problem.has_method() {
        close("summary loss", g.loss, w.loss, sum)?;
    }
    gradient(problem, got, want, &allowed)
}

fn rows(
    problem: &Problem,
    got: &Distillation,
    want: &reference::Distillation,
    allowed: &[Allowed],
) -> Result<(), String> {
    if got.rows.len() != want.rows.len() {
        return Err(format!("{} rows", got.rows.len()));
    }
    let seen = flags::IGNORED | flags::INVALID_LABEL | flags::NON_FINITE;
    for (row, ((g, w), a)) in got.rows.iter().zip(&want.rows).zip(allowed).enumerate() {
        // The loss of a class that is 0 in f32 may be infinite in f64.
        let flags = w.flags & !(flags::NO_GRADIENT | flags::CLAMPED);
        if g.flags & seen != flags {
            return Err(format!("flags of row {row}: {}, want {}", g.flags, w.flags));
        }
        let unit = (0.0..=1.0).contains(&g.kdr) && (0.0..=1.0).contains(&g.tssr);
        if flags == 0 && !unit {
            return Err(format!("row {row} outside [0, 1]: {g:?}"));
        }
        let about = |what| format!("{what} of row {row} ({})", tolerance::describe(w, a));
        close(&about("kdr"), g.kdr, w.kdr, a.kdr)?;
        close(&about("tssr"), g.tssr, w.tssr, a.tssr)?;
        if problem.has_method() {
            close(&about("loss"), g.loss, w.loss, a.loss)?;
        }
    }
    Ok(())
}

fn gradient(
    problem: &Problem,
    got: &Distillation,
    want: &reference::Distillation,
    allowed: &[Allowed],
) -> Result<(), String> {
    let Some(gradient) = got.gradient.clone() else {
        return Err("no gradient".to_owned());
    };
    let storage = gradient.storage();
    let gradient = gradient.into_f32();
    let n = problem.batch().classes();
    if gradient.len() != want.grad_student_logits.len() {
        return Err(format!("{} elements of the gradient", gradient.len()));
    }
    if !problem.has_method() {
        return Ok(());
    }
    let weight = gradient_weight(&problem.config, want.summary.valid_rows);
    let (ulps, least, most) = match storage {
        Storage::F32 => (1e-6, 1e-37, f64::from(f32::MAX)),
        Storage::F16 => (1.0 / 1024.0, 1.0 / f64::from(1 << 24), 65504.0),
        Storage::Bf16 => (1.0 / 128.0, 1e-37, f64::from(f32::MAX)),
    };
    for (row, allowed) in allowed.iter().enumerate() {
        let range = row * n..(row + 1) * n;
        let (g, w) = (&gradient[range.clone()], &want.grad_student_logits[range]);
        let largest = w.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        for (i, (g, w)) in g.iter().zip(w).enumerate() {
            let about = format!("gradient of row {row}, class {i}");
            let tolerance = allowed.tssr.map(|tssr| {
                TOLERANCE.gradient_relative * largest
                    + (ROUNDING + 2.0 * tssr.min(1e-4)) * weight
                    + least
                    + ulps * w.abs()
            });
            // Infinity is right near the end of the type's range.
            let end = w.abs() + tolerance.unwrap_or(f64::INFINITY) >= 0.99 * most;
            if end && !g.is_nan() {
                continue;
            }
            close(&about, *g, *w, tolerance)?;
        }
    }
    Ok(())
}

/// Runs again into caller memory. The bits must be the same, and nothing outside of the rows may change.
fn into_memory(cpu: &Cpu, problem: &Problem, got: &Distillation) -> Result<(), String> {
    let Some(gradient) = &got.gradient else {
        return Err("no gradient".to_owned());
    };
    let batch = problem.batch();
    let start = MARGIN + problem.lead;
    let n = batch.rows() * batch.classes();
    let end = start + n;
    let mut memory = Stored::round(&vec![CANARY; end + MARGIN], problem.gradient);
    let clean = memory.clone();
    let into = match &mut memory {
        Stored::F32(v) => ValuesMut::F32(&mut v[start..end]),
        Stored::F16(v) => ValuesMut::F16(&mut v[start..end]),
        Stored::Bf16(v) => ValuesMut::Bf16(&mut v[start..end]),
    };
    let into = GradientMut::new(into, batch.classes());
    let summary = cpu.run_into(&problem.config, problem.progress, &batch, into.into());
    let summary = summary.map_err(|e| format!("run_into: {e}"))?;
    let same = [summary.loss, summary.kdr, summary.tssr].map(f32::to_bits)
        == [got.summary.loss, got.summary.kdr, got.summary.tssr].map(f32::to_bits);
    let size = problem.gradient.bytes();
    let (memory, clean) = (memory.values().as_bytes(), clean.values().as_bytes());
    let (from, to) = (start * size, end * size);
    if memory[..from] != clean[..from] || memory[to..] != clean[to..] {
        return Err("bytes beside the gradient were written".to_owned());
    }
    let own: &[u8] = match gradient {
        Gradient::F32(v) => bytemuck::cast_slice(v),
        Gradient::F16(v) => bytemuck::cast_slice::<f16, u8>(v),
        Gradient::Bf16(v) => bytemuck::cast_slice::<bf16, u8>(v),
    };
    match same && memory[from..to] == *own {
        true => Ok(()),
        false => Err("run_into differs from run".to_owned()),
    }
}

/// Runs observe, decide and apply in sequence.
fn steps(
    cpu: &Cpu,
    problem: &Problem,
    got: &Distillation,
    want: &reference::Distillation,
) -> Result<(), String> {
    let (config, batch) = (&problem.config, problem.batch());
    let fail = |e: Error| format!("a step: {e}");
    let stats = cpu.observe(config, &batch).map_err(fail)?;
    let decisions = cpu
        .decide(config, problem.progress, &stats, batch.classes())
        .map_err(fail)?;
    let gradient = cpu.apply(config, &batch, &decisions).map_err(fail)?;
    let mut whole = Distillation::default();
    whole.summary = got.summary;
    whole.rows = decisions.iter().map(|d| d.result).collect();
    whole.gradient = Some(Gradient::F32(gradient));
    outcome(problem, &whole, want).map_err(|why| format!("in steps: {why}"))
}

fn softmax(cpu: &Cpu, problem: &Problem) -> Result<(), String> {
    let batch = problem.batch();
    let temperature = problem.config.student_temperature;
    let got = cpu.softmax(&batch.student_logits, batch.rows(), temperature);
    let want = reference::softmax(&batch.student_logits, batch.rows(), temperature);
    let (Ok(got), Ok(want)) = (got, want) else {
        return Err("softmax refused".to_owned());
    };
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        close(&format!("softmax, element {i}"), *g, *w, Some(1e-6))?;
    }
    Ok(())
}
