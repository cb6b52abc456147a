//! Plans of divergences of sampled tokens, whose teacher is one number a row.

use wgpu_distill::plan::{LabelType, Limits, List, Lists, Operand, Plan};
use wgpu_distill::shader::{Access, Kernel};
use wgpu_distill::{Config, Divergence, Error, Progress, Selection, Storage};

use super::planned;
use crate::problems::problem;

/// No kernel binds or reads a row of the teacher, and one number a row leaves the student's vectors as they are.
#[test]
fn sampled_tokens_have_no_row_of_the_teacher() {
    let config = Config {
        divergence: Divergence::K3 { clamp: 20.0 },
        selection: Selection::Fixed(0.0),
        ..Config::default()
    };
    for (rows, classes) in [(77, 1000), (4096, 32_000), (1, 1_000_000)] {
        let whole = problem(rows, classes, Storage::Bf16);
        let mut tokens = whole;
        tokens.teacher_classes = 1;
        (tokens.teacher.row_stride, tokens.teacher.buffer_bytes) = (1, 2 * rows as u64);
        let plan = planned(&config, &tokens, &Limits::DEFAULT);
        let lists = Lists {
            labels: List::new(4 * rows as u64),
            label_type: LabelType::I32,
            row_weights: None,
            class_weights: None,
            teacher_ids: None,
            row_results: None,
            row_metrics: None,
            summary: None,
            shard: None,
        };
        let dispatches = plan.dispatches(&config, Progress::NONE, &lists);
        for dispatch in dispatches.expect("valid") {
            let bound = dispatch.windows.iter();
            let mut teacher = bound.filter(|(_, w)| w.operand == Operand::TeacherLogits);
            match dispatch.kernel {
                Kernel::Distill | Kernel::Observe => {
                    let (_, window) = teacher.next().expect("one number a row");
                    assert!(window.bytes <= 2 * rows as u64 + 256, "{window:?}");
                }
                other => assert!(teacher.next().is_none(), "{other:?}"),
            }
        }
        let access = plan.variant_of(Kernel::Observe).access;
        assert_eq!(access, Access::Vec4, "{classes}");
        let refused = Plan::new(&config, &whole, &Limits::DEFAULT);
        let want = Error::SampledTeacher {
            divergence: "k3:20".to_owned(),
            got: classes,
        };
        assert_eq!(refused, Err(want));
    }
}
