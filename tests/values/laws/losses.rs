//! Random losses: divergences with their numbers, weights, the temperature of the hard part, z-loss, an attached TSSR.

use proptest::prelude::*;
use proptest::sample::select;
use wgpu_distill::{Config, Divergence, HardTemperature, Scope, Similarity, TssrGradient};

/// Any divergence, with any of its numbers.
pub fn divergence() -> impl Strategy<Value = Divergence> {
    use Divergence as D;
    let share = || 0.01f32..0.99;
    prop_oneof![
        3 => Just(D::SoftCrossEntropy),
        1 => Just(D::ForwardKl),
        1 => Just(D::ReverseKl),
        1 => (0.0f32..2.0, 0.1f32..2.0).prop_map(|(forward, reverse)| D::KlSum { forward, reverse }),
        1 => share().prop_map(|beta| D::Jsd { beta }),
        1 => share().prop_map(|alpha| D::SkewKl { alpha }),
        1 => share().prop_map(|alpha| D::SkewReverseKl { alpha }),
        1 => Just(D::TotalVariation),
        1 => Just(D::NegLogOverlap),
        1 => (0.0f32..1.0, 0.0f32..4.0).prop_map(|(scale, decay)| D::KlTv { scale, decay }),
        1 => (0.1f32..2.0, 0.1f32..2.0).prop_map(|(alpha, beta)| D::AlphaBeta { alpha, beta }),
        1 => share().prop_map(|share| D::Taid { share }),
        1 => (0.0f32..2.0, 0.0f32..8.0).prop_map(|(alpha, beta)| D::Dkd { alpha, beta }),
        1 => (0.1f32..4.0).prop_map(|gamma| D::Nkd { gamma }),
        1 => Just(D::Wsld),
    ]
}

/// The fields of a configuration that are about the loss; the others have their default.
pub fn parts() -> impl Strategy<Value = Config> {
    let weight = || select(vec![1.0f32, 1.0, 1.0, 0.5, 3.0, 0.0]);
    let hard_temperature = select(vec![
        HardTemperature::Student,
        HardTemperature::Student,
        HardTemperature::Own(1.0),
        HardTemperature::Own(2.5),
    ]);
    let z_loss = select(vec![0.0f32, 0.0, 0.0, 1e-3]);
    let attached = prop::bool::weighted(0.3);
    (
        divergence(),
        [weight(), weight()],
        hard_temperature,
        z_loss,
        attached,
    )
        .prop_map(
            |(divergence, [soft_weight, hard_weight], hard_temperature, z_loss, attached)| Config {
                divergence,
                soft_weight,
                hard_weight,
                hard_temperature,
                z_loss,
                tssr_gradient: match attached {
                    true => TssrGradient::Attached,
                    false => TssrGradient::Detached,
                },
                ..Config::default()
            },
        )
}

/// The configuration with the loss of another one. TSSR is attached where that is possible.
pub fn with_loss_of(config: Config, parts: &Config) -> Config {
    let mut config = Config {
        divergence: parts.divergence,
        soft_weight: parts.soft_weight,
        hard_weight: parts.hard_weight,
        hard_temperature: parts.hard_temperature,
        z_loss: parts.z_loss,
        tssr_gradient: parts.tssr_gradient,
        ..config
    };
    if !can_attach(&config) {
        config.tssr_gradient = TssrGradient::Detached;
    }
    config
}

fn can_attach(config: &Config) -> bool {
    let similarity = match config.similarity {
        Similarity::Cosine | Similarity::Bhattacharyya => matches!(
            config.divergence,
            Divergence::SoftCrossEntropy | Divergence::ForwardKl
        ),
        Similarity::ExpNegKl => !is_apart(config.divergence),
        _ => false,
    };
    similarity && config.scope == Scope::Row
}

/// Returns true if the divergence treats the label apart.
pub fn is_apart(divergence: Divergence) -> bool {
    use Divergence as D;
    matches!(divergence, D::Dkd { .. } | D::Nkd { .. } | D::Wsld)
}
