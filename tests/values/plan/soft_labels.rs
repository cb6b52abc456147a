//! Soft labels in plans: within the default limits beside row weights, cut into chunks as the logits are, in registers beside them.

use crate::problems::problem;
use wgpu_distill::plan::{Limits, Matrix, Plan, PlanKind, Problem};
use wgpu_distill::shader::{BindingKind, Kernel};
use wgpu_distill::{Config, Divergence, Error, Scope, Selection, Standardization, Storage};

fn with_soft_labels(rows: usize, classes: usize, row_stride: usize) -> Problem {
    let mut soft_labels = Matrix {
        storage: Storage::F32,
        row_stride,
        offset: 0,
        buffer_bytes: 0,
    };
    soft_labels.buffer_bytes = soft_labels.end(rows, row_stride);
    Problem {
        soft_labels: Some(soft_labels),
        ..problem(rows, classes, Storage::Bf16)
    }
}

#[test]
fn soft_labels_fit_beside_row_weights() {
    for metrics in [false, true] {
        for scope in [Scope::Row, Scope::Batch] {
            let problem = Problem {
                row_weights: true,
                metrics,
                ..with_soft_labels(5000, 1000, 1000)
            };
            let config = Config {
                scope,
                ..Config::default()
            };
            let plan = Plan::new(&config, &problem, &Limits::DEFAULT).expect("default limits");
            for kernel in plan.kernels() {
                let bindings = kernel.bindings(&plan.variant_of(kernel));
                let is_storage = |kind| kind != BindingKind::Uniform;
                let buffers = bindings.iter().filter(|b| is_storage(b.kind)).count();
                assert!(buffers <= 8, "{kernel:?} binds {buffers}");
            }
        }
    }
}

#[test]
fn chunks_hold_the_rows_of_soft_labels() {
    let chunks = |problem: &Problem| {
        let plan = Plan::new(&Config::default(), problem, &Limits::DEFAULT);
        plan.expect("a row fits").chunks().len()
    };
    // 16-bit logits of 40,000 classes: 1,600 rows fit a binding of 128 MiB. f32 rows that are twice as far apart: 400.
    let logits = problem(3200, 40_000, Storage::Bf16);
    assert_eq!(chunks(&logits), 2);
    assert_eq!(chunks(&with_soft_labels(3200, 40_000, 80_000)), 8);
}

/// A lane keeps vectors of three matrices where it keeps those of two otherwise.
#[test]
fn tiles_of_soft_labels_are_smaller() {
    let limits = Limits {
        subgroup: Some((32, 32)),
        workgroup_invocations: 1024,
        registers: 48,
        ..Limits::DEFAULT
    };
    let plan = |problem| Plan::new(&Config::default(), &problem, &limits).expect("a row fits");
    let plain = plan(problem(4096, 8192, Storage::F32));
    let soft = plan(with_soft_labels(4096, 8192, 8192));
    assert_eq!([plain.kind(), soft.kind()], [PlanKind::Resident; 2]);
    let vectors = [plain, soft].map(|plan| plan.variant_of(Kernel::Distill).vectors_per_lane);
    assert!(vectors[1] < vectors[0], "{vectors:?}");
}

/// A plan refuses by the same name the choices that a batch of soft labels refuses.
#[test]
fn plans_refuse_choices_without_terms_of_a_soft_label() {
    let plain = with_soft_labels(16, 100, 100);
    let weighted = Problem {
        class_weights: true,
        ..plain
    };
    let with = |change: fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        config
    };
    for (config, problem, what) in [
        (
            with(|c| c.divergence = Divergence::Wsld),
            plain,
            "the divergence `wsld`",
        ),
        (
            with(|c| c.selection = Selection::Margin(0.25)),
            plain,
            "the selection `margin:0.25`",
        ),
        (
            with(|c| c.standardization = Standardization::ZScore),
            plain,
            "`Standardization::ZScore`",
        ),
        (Config::default(), weighted, "`class_weights`"),
    ] {
        let want = format!("`soft_labels` with {what}");
        match Plan::new(&config, &problem, &Limits::DEFAULT) {
            Err(Error::Unsupported { what, .. }) => assert_eq!(what, want),
            other => panic!("{want}: {other:?}"),
        }
    }
}
