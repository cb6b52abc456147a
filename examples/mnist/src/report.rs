//! The results as a table with an explanation.

use std::time::Duration;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use crate::estimate::Estimate;
use crate::network::parameters;
use crate::students::{Course, Method};

/// The runs in a report.
pub struct Report<'a> {
    pub methods: &'a [Method],
    /// `[seeds][methods]`
    pub courses: &'a [Vec<Course>],
    pub teacher_accuracy: f64,
    pub teacher_sizes: &'a [usize],
    pub teacher_time: Duration,
    pub student_sizes: &'a [usize],
    pub test_digits: usize,
}

impl Report<'_> {
    /// The table: the teacher, then one row per method.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED);
        table.set_header([
            "",
            "test accuracy, %",
            "against labels only",
            "parameters",
            "bytes",
            "seconds",
        ]);
        table.add_row([
            "teacher".to_owned(),
            format!("{:.2}", 100.0 * self.teacher_accuracy),
            String::new(),
            grouped(parameters(self.teacher_sizes)),
            grouped(bytes(self.teacher_sizes)),
            format!("{:.1}", self.teacher_time.as_secs_f64()),
        ]);
        for (index, method) in self.methods.iter().enumerate() {
            let accuracy = self.accuracy(index);
            let gain = match index {
                0 => String::new(),
                _ => {
                    let gain = self.gain(index, 0);
                    gain.plus_minus(format!("{:+.2}", gain.mean))
                }
            };
            let seconds = self.mean(|courses| courses[index].time.as_secs_f64());
            table.add_row([
                method.name.clone(),
                accuracy.plus_minus(format!("{:.2}", accuracy.mean)),
                gain,
                grouped(parameters(self.student_sizes)),
                grouped(bytes(self.student_sizes)),
                format!("{seconds:.1}"),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// The text below the table: an explanation, and the method that is ahead.
    pub fn words(&self) -> String {
        let seeds = self.courses.len();
        let share = self.mean(|courses| {
            let engine: f64 = courses.iter().map(|c| c.engine_time.as_secs_f64()).sum();
            let all: f64 = courses.iter().map(|c| c.time.as_secs_f64()).sum();
            engine / all
        });
        let mut words = format!(
            "Mean of {seeds} {}{}; one of the {} test digits is {:.2} points.\n\
             Seconds: training the teacher; training one student, of which {:.0} % in the engine (the teacher's logits not counted).\n",
            if seeds == 1 { "seed" } else { "seeds" },
            if seeds == 1 {
                ", so no standard error"
            } else {
                " ± standard error over the seeds; differences are taken seed by seed"
            },
            grouped(self.test_digits),
            100.0 / self.test_digits as f64,
            100.0 * share,
        );
        let mut order: Vec<usize> = (0..self.methods.len()).collect();
        order.sort_by(|&a, &b| self.accuracy(b).mean.total_cmp(&self.accuracy(a).mean));
        let (first, second) = (order[0], order[1]);
        let lead = self.gain(first, second);
        let verdict = match lead.error {
            Some(error) if lead.mean > 2.0 * error => "more than twice its standard error",
            Some(_) => "within twice its standard error: no clear winner",
            None => "one seed cannot tell whether that is chance",
        };
        words += &format!(
            "Ahead: {}, by {} points over {} ({verdict}).\n",
            self.methods[first].name,
            lead.plus_minus(format!("{:.2}", lead.mean)),
            self.methods[second].name,
        );
        let factor = parameters(self.teacher_sizes) as f64 / parameters(self.student_sizes) as f64;
        words += &format!("A student is {factor:.0} times smaller than the teacher.");
        words
    }

    /// Final accuracy of a method over the seeds, in percent.
    fn accuracy(&self, method: usize) -> Estimate {
        let values: Vec<f64> = self
            .courses
            .iter()
            .map(|courses| percent(&courses[method]))
            .collect();
        Estimate::new(&values)
    }

    /// The lead of `method` over `other`, paired by seed, in percentage points.
    fn gain(&self, method: usize, other: usize) -> Estimate {
        let values: Vec<f64> = self
            .courses
            .iter()
            .map(|courses| percent(&courses[method]) - percent(&courses[other]))
            .collect();
        Estimate::new(&values)
    }

    fn mean(&self, value: impl Fn(&[Course]) -> f64) -> f64 {
        let sum: f64 = self.courses.iter().map(|courses| value(courses)).sum();
        sum / self.courses.len() as f64
    }
}

/// Accuracy after the last step, in percent.
fn percent(course: &Course) -> f64 {
    course
        .points
        .last()
        .map_or(f64::NAN, |point| 100.0 * point.accuracy)
}

/// Memory of a network's parameters, in bytes.
pub fn bytes(sizes: &[usize]) -> usize {
    parameters(sizes) * size_of::<f32>()
}

/// A number with commas between thousands.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A network's layers, as `784-32-10`.
pub fn shape(sizes: &[usize]) -> String {
    let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
    sizes.join("-")
}
