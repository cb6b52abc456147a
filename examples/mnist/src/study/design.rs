//! The design of the study: teachers, conditions and the students that are compared. docs/STUDY.md has the plan in words.

use wgpu_distill::{
    Config, Divergence, HardTemperature, Selection, Similarity, TemperatureScaling,
};

/// The numbers of a study.
pub struct Design {
    pub teachers: Vec<Teacher>,
    /// Numbers of labelled digits of a student.
    pub sizes: Vec<usize>,
    /// Shares of the labels that are wrong.
    pub wrong: Vec<f32>,
    /// Temperatures of student and teacher.
    pub temperatures: Vec<f32>,
    /// Training digits that no one trains on; settings are chosen on them.
    pub validation: usize,
    /// Hidden units of a student.
    pub hidden: Vec<usize>,
    /// Training steps of a student.
    pub steps: u64,
    /// Digits of a step, of students and teachers.
    pub batch: usize,
    /// The learning rate of a student's first step. It falls linearly to 0.
    pub learning_rate: f32,
}

/// The training of a teacher.
pub struct Teacher {
    pub name: &'static str,
    pub hidden: Vec<usize>,
    /// Its training digits.
    pub digits: usize,
    /// The share of its labels that is wrong.
    pub wrong: f32,
    /// True if its digits are warped anew in every epoch.
    pub warp: bool,
    pub epochs: usize,
}

impl Default for Design {
    fn default() -> Self {
        let teacher = |name, hidden: &[usize], digits, wrong, warp, epochs| Teacher {
            name,
            hidden: hidden.to_vec(),
            digits,
            wrong,
            warp,
            epochs,
        };
        Self {
            teachers: vec![
                teacher("few digits", &[64], 250, 0.0, false, 60),
                teacher("wrong labels", &[128], 6000, 0.2, true, 6),
                teacher("strong", &[256, 128], 6000, 0.0, true, 20),
            ],
            sizes: vec![500, 2000, 6000],
            wrong: vec![0.0, 0.2],
            temperatures: vec![1.0, 4.0],
            validation: 2000,
            hidden: vec![32],
            steps: 300,
            batch: 64,
            learning_rate: 8e-3,
        }
    }
}

/// A condition: everything but the student's method.
#[derive(Clone, Copy, PartialEq)]
pub struct Cell {
    /// Positions in the lists of the design.
    pub teacher: usize,
    pub size: usize,
    pub wrong: usize,
    pub temperature: usize,
}

impl Design {
    /// Every condition.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for teacher in 0..self.teachers.len() {
            for temperature in 0..self.temperatures.len() {
                for wrong in 0..self.wrong.len() {
                    for size in 0..self.sizes.len() {
                        cells.push(Cell {
                            teacher,
                            size,
                            wrong,
                            temperature,
                        });
                    }
                }
            }
        }
        cells
    }
}

/// The kind of a student.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Plain training and plain distillation.
    Baseline,
    /// The method with one of its selections and similarities.
    Method(Selection, Similarity),
    /// The method's default selection and similarity with another soft part.
    Divergence,
    /// A selection that changes with time, with the label at temperature 1.
    LabelAtOne,
}

/// A student that is compared.
pub struct Arm {
    pub name: String,
    pub kind: Kind,
    /// At temperature 1.
    config: Config,
    label_at_one: bool,
}

impl Arm {
    fn new(name: impl Into<String>, kind: Kind, config: Config) -> Self {
        Self {
            name: name.into(),
            kind,
            config,
            label_at_one: false,
        }
    }

    fn label_at_one(self) -> Self {
        Self {
            label_at_one: true,
            ..self
        }
    }

    /// Returns true if the teacher has an influence.
    pub fn has_teacher(&self) -> bool {
        self.config.selection != Selection::Fixed(1.0)
    }

    /// The loss at a temperature. Students of equal configurations are trained once.
    pub fn config(&self, temperature: f32) -> Config {
        if !self.has_teacher() || temperature == 1.0 {
            return self.config;
        }
        let config = Config {
            student_temperature: temperature,
            teacher_temperature: temperature,
            ..self.config
        };
        if !self.label_at_one {
            return config;
        }
        Config {
            hard_temperature: HardTemperature::Own(1.0),
            temperature_scaling: TemperatureScaling::Squared,
            ..config
        }
    }
}

/// The position of the default of `Config` among the arms.
pub fn default_arm(arms: &[Arm]) -> usize {
    let same = |arm: &Arm| arm.config == Config::default() && !arm.label_at_one;
    arms.iter().position(same).expect("the default takes part")
}

/// Every student that is compared.
pub fn arms() -> Vec<Arm> {
    let select = |selection| Config {
        selection,
        ..Config::default()
    };
    let fixed = |share| select(Selection::Fixed(share));
    let hinton = |share| {
        let name = format!("Hinton's mix, {share}");
        Arm::new(name, Kind::Baseline, fixed(share)).label_at_one()
    };
    let mut arms = vec![
        Arm::new("labels only", Kind::Baseline, fixed(1.0)),
        Arm::new("teacher alone", Kind::Baseline, fixed(0.0)),
        Arm::new("fixed mix, 0.2", Kind::Baseline, fixed(0.2)),
        Arm::new("fixed mix, 0.5", Kind::Baseline, fixed(0.5)),
        Arm::new("fixed mix, 0.8", Kind::Baseline, fixed(0.8)),
        hinton(0.2),
        hinton(0.5),
        hinton(0.8),
        Arm::new("annealing", Kind::Baseline, select(Selection::Tstr)),
    ];
    for selection in [Selection::Min, Selection::Product, Selection::Mean] {
        for similarity in [
            Similarity::Cosine,
            Similarity::ExpNegKl,
            Similarity::JensenShannon,
        ] {
            let config = Config {
                similarity,
                ..select(selection)
            };
            let kind = Kind::Method(selection, similarity);
            arms.push(Arm::new(format!("{selection}, {similarity}"), kind, config));
        }
    }
    let default = Config::default();
    let (selection, similarity) = (default.selection, default.similarity);
    for divergence in [
        Divergence::ReverseKl,
        Divergence::Jsd { beta: 0.5 },
        Divergence::TotalVariation,
        Divergence::AlphaBeta {
            alpha: 0.5,
            beta: 0.5,
        },
    ] {
        let config = Config {
            divergence,
            ..default
        };
        let name = format!("{selection}, {similarity}, {divergence}");
        arms.push(Arm::new(name, Kind::Divergence, config));
    }
    for (name, selection, similarity) in [
        ("annealing".to_owned(), Selection::Tstr, similarity),
        (format!("{selection}, {similarity}"), selection, similarity),
        (
            "product, exp-neg-kl".to_owned(),
            Selection::Product,
            Similarity::ExpNegKl,
        ),
    ] {
        let config = Config {
            similarity,
            ..select(selection)
        };
        let name = format!("{name}, label at 1");
        arms.push(Arm::new(name, Kind::LabelAtOne, config).label_at_one());
    }
    arms
}

#[cfg(test)]
mod tests {
    use wgpu_distill::presets;

    use super::*;

    #[test]
    fn names_and_losses_differ() {
        let arms = arms();
        for (index, arm) in arms.iter().enumerate() {
            for other in &arms[..index] {
                assert_ne!(arm.name, other.name);
                assert_ne!(arm.config(4.0), other.config(4.0), "{}", arm.name);
            }
        }
        assert_eq!(arms[default_arm(&arms)].name, "min, cosine");
    }

    #[test]
    fn hintons_mix_is_the_preset() {
        let arms = arms();
        let mix = arms.iter().find(|arm| arm.name == "Hinton's mix, 0.2");
        let mix = mix.expect("takes part");
        assert_eq!(mix.config(4.0), presets::hinton(4.0, 0.2));
        // At temperature 1 it is the fixed mix.
        let fixed = arms.iter().find(|arm| arm.name == "fixed mix, 0.2");
        assert_eq!(mix.config(1.0), fixed.expect("takes part").config(1.0));
    }

    #[test]
    fn labels_need_no_teacher() {
        let arms = arms();
        let without: Vec<&str> = arms
            .iter()
            .filter(|arm| !arm.has_teacher())
            .map(|arm| arm.name.as_str())
            .collect();
        assert_eq!(without, ["labels only"]);
        assert_eq!(arms[0].config(4.0).student_temperature, 1.0);
    }

    #[test]
    fn every_condition_occurs_once() {
        let design = Design::default();
        let cells = design.cells();
        assert_eq!(cells.len(), 3 * 3 * 2 * 2);
        for (index, cell) in cells.iter().enumerate() {
            assert!(!cells[..index].contains(cell));
        }
    }
}
