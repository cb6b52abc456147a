//! The methods by which students are trained.

use burn_distill::{DistillationLossConfig, Divergence, Selection, presets};
use clap::ValueEnum;

/// A method of training a student.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// Burn's cross-entropy with the next token.
    Labels,
    /// Half the next token, half the teacher at a temperature, times its square.
    Hinton,
    /// The teacher alone, by the reverse KL divergence at temperature 1.
    ReverseKl,
    /// The parts of Hinton's mix in shares that similarity and training time select.
    #[value(name = "method")]
    Selected,
}

impl Method {
    pub const ALL: [Self; 4] = [Self::Labels, Self::Hinton, Self::ReverseKl, Self::Selected];

    /// The name in tables and plots.
    pub fn title(self) -> &'static str {
        match self {
            Self::Labels => "labels only (Burn's cross-entropy)",
            Self::Hinton => "Hinton's mix (fixed:0.5)",
            Self::ReverseKl => "teacher alone, reverse KL",
            Self::Selected => "this method (min, cosine)",
        }
    }

    /// The name in files.
    pub fn name(self) -> String {
        let value = self.to_possible_value().expect("no value is skipped");
        value.get_name().to_owned()
    }

    /// The loss, `None` for Burn's cross-entropy.
    pub fn loss(self, temperature: f32) -> Option<DistillationLossConfig> {
        let hinton = DistillationLossConfig::from(presets::hinton(temperature, 0.5));
        match self {
            Self::Labels => None,
            Self::Hinton => Some(hinton),
            Self::ReverseKl => Some(
                DistillationLossConfig::new()
                    .with_divergence(Divergence::ReverseKl)
                    .with_selection(Selection::Fixed(0.0)),
            ),
            Self::Selected => Some(hinton.with_selection(Selection::Min)),
        }
    }
}
