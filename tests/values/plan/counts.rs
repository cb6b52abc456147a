//! The place of the counts of `valid_rows`, and the kernels that read them.

use wgpu_distill::plan::{LabelType, Limits, List, Lists, Operand};
use wgpu_distill::shader::Kernel;
use wgpu_distill::{Config, Progress, Storage};

use super::{planned, problem};

/// The counts of labels lie behind the partial summaries of the batch, each written once, and `distill` adds up all of them.
#[test]
fn counts_of_labels_follow_the_partial_summaries() {
    for (rows, binding_bytes, runs) in [
        (4096, 128 << 20, 0),
        (4097, 128 << 20, 1),
        (3_000_000, 128 << 20, 1),
        // The labels of 2,014 rows fit a binding, whatever their type, the logits of 402.
        (10_000, 16 << 10, 5),
    ] {
        let limits = Limits {
            binding_bytes,
            ..Limits::DEFAULT
        };
        let plan = planned(
            &Config::default(),
            &problem(rows, 10, Storage::F32),
            &limits,
        );
        let lists = Lists {
            labels: List::new(1 << 40),
            label_type: LabelType::I64,
            row_results: None,
            summary: None,
            shard: None,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
            row_metrics: None,
        };
        let dispatches = plan.dispatches(&Config::default(), Progress::new(1, 2), &lists);
        let dispatches = dispatches.expect("a valid call");
        let of = |kernel| dispatches.iter().filter(move |d| d.kernel == kernel);
        assert_eq!(of(Kernel::ValidRows).count(), runs, "{plan}");
        let partials: u32 = of(Kernel::Distill).map(|d| d.workgroups).sum();
        let mut next = partials;
        for counted in of(Kernel::ValidRows) {
            let mut windows = counted.windows.iter();
            assert!(
                windows.all(|(_, window)| window.bytes <= binding_bytes),
                "{plan}"
            );
            assert_eq!(counted.params.partial_offset, next, "{plan}");
            next += counted.workgroups;
        }
        for reader in of(Kernel::Distill) {
            assert_eq!(reader.params.partials, partials, "{plan}");
            assert_eq!(reader.params.counts, next - partials, "{plan}");
        }
        assert!(of(Kernel::Summary).all(|d| d.params.partials == partials));
        let bytes = plan.workspace().into_iter();
        let bytes = bytes.filter(|(operand, _)| *operand == Operand::Partials);
        let bytes: u64 = bytes.map(|(_, bytes)| bytes).sum();
        assert!(
            48 * u64::from(next) <= bytes && bytes <= binding_bytes,
            "{plan}"
        );
    }
}
