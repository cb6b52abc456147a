//! The table of results and its explanation.

use std::time::Duration;

use burn::module::Module;
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use crate::student_runs::StudentRuns;
use crate::students::{Course, Point};

/// A mean and its standard error, `None` for a single value.
struct Estimate {
    mean: f64,
    error: Option<f64>,
}

fn estimate(values: &[f64]) -> Estimate {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    Estimate {
        mean,
        error: (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt()),
    }
}

fn plus_minus(estimate: &Estimate, mean: String) -> String {
    match estimate.error {
        Some(error) => format!("{mean} ± {error:.2}"),
        None => mean,
    }
}

/// The final value of each student of a method, one per seed. Empty if the method has no such value.
fn last(courses: &[Vec<Course>], method: usize, value: impl Fn(&Point) -> Option<f64>) -> Vec<f64> {
    let point = |c: &Vec<Course>| c[method].points.last().and_then(&value);
    courses.iter().filter_map(point).collect()
}

/// The teacher, then one row per method.
pub fn table(
    runs: &StudentRuns<'_>,
    courses: &[Vec<Course>],
    teacher_accuracy: f64,
    teacher_time: Duration,
) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header([
        "",
        "test accuracy, %",
        "against labels only",
        "agrees with teacher, %",
        "parameters",
        "seconds",
    ]);
    table.add_row([
        "teacher".to_owned(),
        format!("{:.2}", 100.0 * teacher_accuracy),
        String::new(),
        String::new(),
        runs.teacher.num_params().to_string(),
        format!("{:.1}", teacher_time.as_secs_f64()),
    ]);
    let percent = |p: &Point| Some(100.0 * p.accuracy);
    let base = last(courses, 0, percent);
    let parameters = runs.student.init(runs.device).num_params();
    for (index, method) in runs.methods.iter().enumerate() {
        let accuracies = last(courses, index, percent);
        let gains: Vec<f64> = accuracies.iter().zip(&base).map(|(a, b)| a - b).collect();
        let (accuracy, gain) = (estimate(&accuracies), estimate(&gains));
        let agreement = last(courses, index, |p| p.agreement.map(|a| 100.0 * a));
        let times: Vec<f64> = courses
            .iter()
            .map(|c| c[index].time.as_secs_f64())
            .collect();
        table.add_row([
            method.name.clone(),
            plus_minus(&accuracy, format!("{:.2}", accuracy.mean)),
            match index {
                0 => String::new(),
                _ => plus_minus(&gain, format!("{:+.2}", gain.mean)),
            },
            match agreement.is_empty() {
                true => String::new(),
                false => format!("{:.2}", estimate(&agreement).mean),
            },
            parameters.to_string(),
            format!("{:.1}", estimate(&times).mean),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The explanation of the table.
pub fn explanation(runs: &StudentRuns<'_>, courses: &[Vec<Course>]) -> String {
    let digits = runs.test.len();
    let seeds = match courses.len() {
        1 => "One seed, so no standard error".to_owned(),
        n => format!("Mean of {n} seeds ± standard error; differences are taken seed by seed"),
    };
    let one = 100.0 / digits as f64;
    format!(
        "{seeds}. One of the {digits} test digits is {one:.2} points.\n\
         Seconds: training the teacher; training one student, measuring it each epoch included."
    )
}
