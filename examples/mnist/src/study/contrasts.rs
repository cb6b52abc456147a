//! The comparisons that the plan's hypotheses name.

use super::design::{Cell, Kind, default_arm};
use super::results::{Results, Split};

/// The conditions of a contrast.
type Conditions<'a> = &'a dyn Fn(&Cell) -> bool;

impl Results<'_> {
    /// A table of differences in points: over all conditions, and for each teacher.
    pub fn contrasts(&self) -> String {
        let design = self.design;
        let mut text = "| Difference, points | validation | test |".to_owned();
        for teacher in &design.teachers {
            text += &format!(" test, {} |", teacher.name);
        }
        let columns = "--:|".repeat(2 + design.teachers.len());
        text += &format!("\n|---|{columns}\n");

        let everywhere: Conditions = &|_| true;
        let default = default_arm(self.arms);
        for arm in 0..self.arms.len() {
            let kind = self.arms[arm].kind;
            if matches!(kind, Kind::Method(..) | Kind::Divergence) && arm != default {
                text += &self.contrast(arm, default, "", everywhere);
            }
        }
        let named = |name: &str| {
            let position = self.arms.iter().position(|arm| arm.name == name);
            position.unwrap_or_else(|| panic!("no student {name}"))
        };
        let wrong: Conditions = &|cell| design.wrong[cell.wrong] > 0.0;
        for name in ["annealing", "min, cosine", "mean, cosine"] {
            for mix in ["fixed mix, 0.2", "fixed mix, 0.5"] {
                text += &self.contrast(named(name), named(mix), "wrong labels", wrong);
            }
        }
        let warm: Conditions = &|cell| design.temperatures[cell.temperature] > 1.0;
        for share in ["0.2", "0.5", "0.8"] {
            let (hinton, fixed) = (
                format!("Hinton's mix, {share}"),
                format!("fixed mix, {share}"),
            );
            text += &self.contrast(named(&hinton), named(&fixed), "T 4", warm);
        }
        for name in ["annealing", "min, cosine", "product, exp-neg-kl"] {
            let own = format!("{name}, label at 1");
            text += &self.contrast(named(&own), named(name), "T 4", warm);
        }
        text
    }

    /// A line of the table.
    fn contrast(&self, arm: usize, other: usize, condition: &str, of: Conditions) -> String {
        let lead = |split, of: Conditions| {
            let lead = self.lead(arm, other, split, of);
            format!(" {} |", lead.plus_minus(format!("{:+.2}", lead.mean)))
        };
        let names = format!("{} over {}", self.arms[arm].name, self.arms[other].name);
        let mut text = match condition {
            "" => format!("| {names} |"),
            condition => format!("| {names} ({condition}) |"),
        };
        text += &lead(Split::Validation, of);
        text += &lead(Split::Test, of);
        for teacher in 0..self.design.teachers.len() {
            text += &lead(Split::Test, &|cell| cell.teacher == teacher && of(cell));
        }
        text + "\n"
    }
}
