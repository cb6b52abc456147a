//! The accuracies of all seeds, and comparisons of students within seeds.

use super::design::{Arm, Cell, Design, Kind};
use super::training::{Accuracy, Outcome};
use crate::estimate::Estimate;

/// A part of the digits that accuracy is measured on.
#[derive(Clone, Copy, PartialEq)]
pub enum Split {
    Validation,
    Test,
}

impl Split {
    fn of(self, accuracy: Accuracy) -> f64 {
        match self {
            Self::Validation => accuracy.validation,
            Self::Test => accuracy.test,
        }
    }
}

/// All results.
pub struct Results<'a> {
    pub design: &'a Design,
    pub arms: &'a [Arm],
    pub cells: Vec<Cell>,
    pub outcomes: Vec<Outcome>,
}

impl Results<'_> {
    /// The accuracy of a teacher.
    pub fn teacher(&self, teacher: usize, split: Split) -> Estimate {
        self.estimate(|outcome| split.of(outcome.teachers[teacher]))
    }

    /// The mean accuracy of a student over the conditions that `of` selects.
    pub fn accuracy(&self, arm: usize, split: Split, of: impl Fn(&Cell) -> bool) -> Estimate {
        self.estimate(|outcome| self.mean(outcome, arm, split, &of))
    }

    /// The mean lead of a student over another, within seeds.
    pub fn lead(
        &self,
        arm: usize,
        other: usize,
        split: Split,
        of: impl Fn(&Cell) -> bool,
    ) -> Estimate {
        self.estimate(|outcome| {
            self.mean(outcome, arm, split, &of) - self.mean(outcome, other, split, &of)
        })
    }

    /// The largest distance of a student from the best one, over the teachers: means over the other conditions.
    pub fn worst_regret(&self, arm: usize, split: Split) -> f64 {
        let regrets = (0..self.design.teachers.len()).map(|teacher| {
            let accuracy = |arm| {
                let of = |cell: &Cell| cell.teacher == teacher;
                self.accuracy(arm, split, of).mean
            };
            let best = (0..self.arms.len()).map(accuracy).fold(f64::MIN, f64::max);
            best - accuracy(arm)
        });
        regrets.fold(0.0, f64::max)
    }

    /// The method's selection and similarity with the best mean over all conditions on the validation digits.
    pub fn best_method(&self) -> usize {
        self.best(|kind| matches!(kind, Kind::Method(..)))
    }

    /// The best student of some kinds by the mean over all conditions on the validation digits.
    pub fn best(&self, of: impl Fn(Kind) -> bool) -> usize {
        let candidates = (0..self.arms.len()).filter(|&arm| of(self.arms[arm].kind));
        let accuracy = |arm: &usize| self.accuracy(*arm, Split::Validation, |_| true).mean;
        candidates
            .max_by(|a, b| accuracy(a).total_cmp(&accuracy(b)))
            .expect("a student of the kind")
    }

    fn estimate(&self, value: impl Fn(&Outcome) -> f64) -> Estimate {
        let values: Vec<f64> = self.outcomes.iter().map(value).collect();
        Estimate::new(&values)
    }

    fn mean(&self, outcome: &Outcome, arm: usize, split: Split, of: impl Fn(&Cell) -> bool) -> f64 {
        let cells = self.cells.iter().zip(&outcome.students);
        let (mut sum, mut count) = (0.0, 0.0);
        for (_, students) in cells.filter(|(cell, _)| of(cell)) {
            sum += split.of(students[arm]);
            count += 1.0;
        }
        sum / count
    }
}
