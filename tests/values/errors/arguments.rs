//! Random arguments: usually valid, sometimes anything.

use proptest::prelude::*;
use wgpu_distill::{
    Config, Divergence, GradWrite, HardTemperature, Reduction, Scope, Selection, Similarity,
    TeacherClasses, TemperatureScaling, TssrGradient,
};

/// Usually a value that every field accepts, otherwise any f32 bits.
pub fn number() -> impl Strategy<Value = f32> {
    prop_oneof![1 => any::<u32>().prop_map(f32::from_bits), 6 => 0.01f32..1.0, 6 => Just(0.5)]
}

/// A size: usually small, otherwise at an end of the range or anything.
pub fn size() -> impl Strategy<Value = usize> {
    prop_oneof![20 => 1usize..5, 1 => Just(0), 1 => Just(usize::MAX), 1 => Just(1 << 28), 1 => any::<usize>()]
}

pub fn steps() -> impl Strategy<Value = u64> {
    prop_oneof![12 => 0u64..4, 1 => any::<u64>()]
}

/// The divergence with another first number.
fn with_number(divergence: Divergence, first: f32) -> Divergence {
    match divergence {
        Divergence::KlSum { reverse, .. } => Divergence::KlSum {
            forward: first,
            reverse,
        },
        Divergence::Jsd { .. } => Divergence::Jsd { beta: first },
        Divergence::SkewKl { .. } => Divergence::SkewKl { alpha: first },
        Divergence::SkewReverseKl { .. } => Divergence::SkewReverseKl { alpha: first },
        Divergence::KlTv { decay, .. } => Divergence::KlTv {
            scale: first,
            decay,
        },
        Divergence::AlphaBeta { beta, .. } => Divergence::AlphaBeta { alpha: first, beta },
        Divergence::Taid { .. } => Divergence::Taid { share: first },
        Divergence::Dkd { beta, .. } => Divergence::Dkd { alpha: first, beta },
        Divergence::Nkd { .. } => Divergence::Nkd { gamma: first },
        other => other,
    }
}

pub fn config() -> impl Strategy<Value = Config> {
    let numbers = [(); 11].map(|()| number());
    (
        numbers,
        0usize..3,
        0usize..8,
        0usize..3,
        0usize..4,
        0usize..5,
        any::<[bool; 6]>(),
    )
        .prop_map(
            |(
                [
                    ts,
                    tt,
                    share,
                    kdr,
                    smoothing,
                    grad,
                    first,
                    own,
                    soft,
                    hard,
                    z,
                ],
                divergence,
                selection,
                scope,
                reduction,
                similarity,
                flags,
            )| {
                let mut selections = Selection::ALL;
                selections[6] = Selection::Fixed(share);
                selections[7] = Selection::Margin(share);
                let scopes = [Scope::Row, Scope::Batch, Scope::Given(kdr)];
                let over = Reduction::SumOver(grad.abs());
                let reductions = [Reduction::None, Reduction::Sum, Reduction::Mean, over];
                let mut config = Config {
                    student_temperature: ts,
                    teacher_temperature: tt,
                    selection: selections[selection],
                    scope: scopes[scope],
                    reduction: reductions[reduction],
                    similarity: Similarity::ALL[similarity],
                    label_smoothing: smoothing,
                    grad_loss: grad,
                    ..Config::default()
                };
                if flags[0] {
                    config.temperature_scaling = TemperatureScaling::Squared;
                }
                if flags[1] {
                    config.teacher_classes = TeacherClasses::CommonPrefix;
                }
                if flags[2] {
                    config.grad_write = GradWrite::Accumulate;
                }
                // Three for each similarity: a GPU compiles every combination.
                // Random teachers have more than the one class of sampled tokens.
                let mut all = Divergence::ALL.to_vec();
                all.retain(|divergence| !divergence.is_sampled());
                config.divergence = all[(3 * similarity + divergence) % all.len()];
                if flags[3] && flags[4] {
                    config.hard_temperature = HardTemperature::Own(own);
                }
                if flags[4] {
                    config.divergence = with_number(config.divergence, first);
                    (config.soft_weight, config.hard_weight, config.z_loss) = (soft, hard, z);
                }
                // The refused combinations are in `losses.rs`.
                let attaches = (Similarity::ExpNegKl, Scope::Row);
                if flags[5] && (config.similarity, config.scope) == attaches {
                    config.tssr_gradient = TssrGradient::Attached;
                }
                config
            },
        )
}
