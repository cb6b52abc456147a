//! The results as Markdown tables, as CSV, and in a sentence.

use super::design::{Arm, Cell, Kind, default_arm};
use super::results::{Results, Split};

impl Results<'_> {
    /// One row a student: means over the conditions of each teacher and over all, and the largest distance from the best.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (split, name) in [(Split::Validation, "Validation"), (Split::Test, "Test")] {
            let mut header = format!("| {name} accuracy, % |");
            for (index, teacher) in self.design.teachers.iter().enumerate() {
                let accuracy = self.teacher(index, split).mean;
                header += &format!(" {} ({accuracy:.1}) |", teacher.name);
            }
            text += &format!("{header} all | against the default | worst teacher |\n");
            text += &format!(
                "|---|{}--:|--:|--:|\n",
                "--:|".repeat(self.design.teachers.len())
            );
            let default = default_arm(self.arms);
            for (index, arm) in self.arms.iter().enumerate() {
                text += &format!("| {} |", arm.name);
                for teacher in 0..self.design.teachers.len() {
                    let of = |cell: &Cell| cell.teacher == teacher;
                    text += &self.cell(index, split, of);
                }
                text += &self.cell(index, split, |_| true);
                let lead = self.lead(index, default, split, |_| true);
                let lead = match index == default {
                    true => String::new(),
                    false => lead.plus_minus(format!("{:+.2}", lead.mean)),
                };
                let regret = self.worst_regret(index, split);
                text += &format!(" {lead} | {} |\n", signed(-regret));
            }
            text.push('\n');
        }
        text
    }

    /// A cell of a table: the mean, bold if it is the best student's.
    fn cell(&self, arm: usize, split: Split, of: impl Fn(&Cell) -> bool) -> String {
        let rounded = |arm| format!("{:.2}", self.accuracy(arm, split, &of).mean);
        let value = rounded(arm);
        // Numbers of equal width, so their texts are in order.
        let best = (0..self.arms.len())
            .map(|arm| self.accuracy(arm, split, &of).mean)
            .fold(f64::MIN, f64::max);
        match value == format!("{best:.2}") {
            true => format!(" **{value}** |"),
            false => format!(" {value} |"),
        }
    }

    /// Test accuracy in every condition, one table a teacher.
    pub fn details(&self) -> String {
        let mut text = String::new();
        for (index, teacher) in self.design.teachers.iter().enumerate() {
            let accuracy = self.teacher(index, Split::Test);
            text += &format!(
                "Teacher \"{}\", {} % of the test digits. Test accuracy of the students in %:\n\n",
                teacher.name,
                accuracy.plus_minus(format!("{:.2}", accuracy.mean))
            );
            let cells: Vec<&Cell> = self.cells.iter().filter(|c| c.teacher == index).collect();
            let mut header = "| |".to_owned();
            for cell in &cells {
                header += &format!(" {} |", self.condition(cell));
            }
            text += &format!("{header}\n|---|{}\n", "--:|".repeat(cells.len()));
            for (arm, of) in self.arms.iter().enumerate() {
                text += &format!("| {} |", of.name);
                for cell in &cells {
                    text += &self.cell(arm, Split::Test, |other| other == *cell);
                }
                text.push('\n');
            }
            text += "| standard error of a difference |";
            for cell in &cells {
                text += &format!(" {:.2} |", self.typical_error(cell));
            }
            text += "\n\n";
        }
        text
    }

    /// The condition without its teacher.
    fn condition(&self, cell: &Cell) -> String {
        let mut text = format!(
            "T {}, {} labels",
            self.design.temperatures[cell.temperature], self.design.sizes[cell.size]
        );
        let wrong = self.design.wrong[cell.wrong];
        if wrong > 0.0 {
            text += &format!(", {:.0} % wrong", 100.0 * wrong);
        }
        text
    }

    /// The root mean square of the standard errors of the leads over the default in a condition, on the test digits.
    fn typical_error(&self, cell: &Cell) -> f64 {
        let default = default_arm(self.arms);
        let others: Vec<usize> = (0..self.arms.len()).filter(|&arm| arm != default).collect();
        let squares: f64 = others
            .iter()
            .map(|&arm| self.lead(arm, default, Split::Test, |other| other == cell))
            .map(|lead| lead.error.unwrap_or(0.0).powi(2))
            .sum();
        (squares / others.len() as f64).sqrt()
    }

    /// The choice by the validation digits, as the plan says.
    pub fn verdict(&self) -> String {
        let default = default_arm(self.arms);
        let method = self.best_method();
        let any = self.best(|_| true);
        let plain = self.best(|kind| kind == Kind::Baseline);
        let mut text = format!(
            "By the validation digits the default should have {}.\n",
            self.arms[method].name
        );
        for (title, better, worse) in [
            ("The method's best over its default", method, default),
            (
                "The method's best over the best plain student",
                method,
                plain,
            ),
            ("The best of all over the method's best", any, method),
        ] {
            if better == worse {
                let name = &self.arms[better].name;
                text += &format!("{title}: both are {name}.\n");
                continue;
            }
            text += &format!(
                "{title}, {} over {}, in points:",
                self.arms[better].name, self.arms[worse].name
            );
            for (split, name) in [(Split::Validation, "validation"), (Split::Test, "test")] {
                let all = self.lead(better, worse, split, |_| true);
                text += &format!(" {name} {}", all.plus_minus(format!("{:+.2}", all.mean)));
                let teachers: Vec<String> = (0..self.design.teachers.len())
                    .map(|teacher| {
                        let of = |cell: &Cell| cell.teacher == teacher;
                        let lead = self.lead(better, worse, split, of);
                        let lead = lead.plus_minus(format!("{:+.2}", lead.mean));
                        format!("{} {lead}", self.design.teachers[teacher].name)
                    })
                    .collect();
                text += &format!(" ({});", teachers.join(", "));
            }
            text.pop();
            text += ".\n";
        }
        text
    }

    /// Means and standard errors of every student in every condition.
    pub fn csv(&self) -> String {
        let mut text = "teacher,temperature,labels,wrong,student,validation,validation_error,test,test_error\n".to_owned();
        for cell in &self.cells {
            for (index, arm) in self.arms.iter().enumerate() {
                text += &self.line(cell, index, arm);
            }
        }
        text
    }

    fn line(&self, cell: &Cell, index: usize, arm: &Arm) -> String {
        let design = self.design;
        let numbers = [Split::Validation, Split::Test].map(|split| {
            let accuracy = self.accuracy(index, split, |other| other == cell);
            let error = accuracy.error.map_or(String::new(), |e| format!("{e:.3}"));
            format!("{:.3},{error}", accuracy.mean)
        });
        format!(
            "{},{},{},{},\"{}\",{}\n",
            design.teachers[cell.teacher].name,
            design.temperatures[cell.temperature],
            design.sizes[cell.size],
            design.wrong[cell.wrong],
            arm.name,
            numbers.join(","),
        )
    }
}

/// A difference in points.
fn signed(points: f64) -> String {
    // Without a sign of 0.
    format!("{:+.2}", points)
        .replace("-0.00", "0")
        .replace("+0.00", "0")
}
