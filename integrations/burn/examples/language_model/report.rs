//! The table, the curves as CSV and the plot.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use plotters::prelude::*;

use crate::curves::Course;
use crate::estimate::Estimate;
use crate::panel::{COLOURS, FONT, GREY, Line, draw_panel};
use crate::students::Method;

/// The results of a program.
pub struct Results {
    pub teacher: Course,
    pub methods: Vec<Method>,
    /// `[seeds][methods]`
    pub students: Vec<Vec<Course>>,
    pub seeds: Vec<u64>,
}

impl Results {
    /// The values of a method's students at the end, one per seed. Empty if the method has no such value.
    fn last(&self, method: usize, value: impl Fn(&Course) -> Option<f64>) -> Vec<f64> {
        let courses = self.students.iter();
        courses.filter_map(|seed| value(&seed[method])).collect()
    }

    /// The teacher, then one row per method.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN);
        table.set_header([
            "",
            "held-out nats a token",
            "against labels only",
            "agrees with teacher, %",
            "seconds",
        ]);
        table.add_row([
            "teacher".to_owned(),
            format!("{:.3}", self.teacher.held_out()),
            String::new(),
            String::new(),
            format!("{:.0}", self.teacher.time.as_secs_f64()),
        ]);
        let labels = self.methods.iter().position(|m| *m == Method::Labels);
        for (index, method) in self.methods.iter().enumerate() {
            let nats = self.last(index, |course| Some(course.held_out()));
            let difference = labels.filter(|base| *base != index).map(|base| {
                let base = self.last(base, |course| Some(course.held_out()));
                let pairs = nats.iter().zip(&base).map(|(own, base)| own - base);
                Estimate::new(&pairs.collect::<Vec<_>>())
            });
            let agreement = self.last(index, |course| course.points.last()?.agreement);
            let seconds = self.last(index, |course| Some(course.time.as_secs_f64()));
            let nats = Estimate::new(&nats);
            table.add_row([
                method.title().to_owned(),
                plus_minus(&nats, format!("{:.3}", nats.mean)),
                difference.map_or(String::new(), |d| plus_minus(&d, format!("{:+.3}", d.mean))),
                match agreement.is_empty() {
                    true => String::new(),
                    false => format!("{:.1}", 100.0 * Estimate::new(&agreement).mean),
                },
                format!("{:.0}", Estimate::new(&seconds).mean),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// Each measurement of each model on a line.
    pub fn csv(&self) -> String {
        let mut text =
            "model,seed,step,held_out_nats,kdr,tssr,agreement,training_seconds\n".to_owned();
        let mut add = |name: &str, seed: Option<u64>, course: &Course| {
            let number = |value: Option<f64>| value.map_or(String::new(), |v| format!("{v:.5}"));
            let seed = seed.map_or(String::new(), |seed| seed.to_string());
            for point in &course.points {
                let (kdr, tssr) = (number(point.kdr), number(point.tssr));
                writeln!(
                    text,
                    "{name},{seed},{},{:.5},{kdr},{tssr},{},{:.1}",
                    point.step,
                    point.held_out,
                    number(point.agreement),
                    course.time.as_secs_f64(),
                )
                .expect("a string grows");
            }
        };
        add("teacher", None, &self.teacher);
        for (seed, courses) in self.seeds.iter().zip(&self.students) {
            for (method, course) in self.methods.iter().zip(courses) {
                add(&method.name(), Some(*seed), course);
            }
        }
        text
    }

    /// Draws the held-out nats of each method over the steps, the mean over the seeds.
    pub fn draw(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        let mut lines: Vec<Line> = self
            .methods
            .iter()
            .zip(COLOURS)
            .enumerate()
            .map(|(index, (method, colour))| Line {
                name: method.title().to_owned(),
                colour,
                dashed: false,
                // Curves may coincide. The last is thin and drawn over wide ones, so that all stay visible.
                width: if index + 1 < self.methods.len() { 4 } else { 2 },
                points: self.mean_curve(index),
            })
            .collect();
        let steps = lines[0].points.last().map_or(1.0, |point| point.0);
        let teacher = self.teacher.held_out();
        let all = lines.iter().flat_map(|line| &line.points);
        let values = all.map(|(_, nats)| *nats).chain([teacher]);
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), nats| {
            (low.min(nats), high.max(nats))
        });
        lines.push(Line {
            name: "the teacher at its end".to_owned(),
            colour: GREY,
            dashed: true,
            width: 2,
            points: vec![(0.0, teacher), (steps, teacher)],
        });
        let root = SVGBackend::new(path, (960, 600)).into_drawing_area();
        root.fill(&WHITE)?;
        let title = match self.students.len() {
            1 => "Language models: students of one teacher, one seed".to_owned(),
            seeds => format!("Language models: students of one teacher, mean of {seeds} seeds"),
        };
        let page = root.margin(10, 0, 0, 0).titled(&title, (FONT, 26))?;
        // Room for the legend below.
        let range = low - 0.5 * (high - low)..high + 0.02;
        draw_panel(&page, "held-out nats a token", steps, range, &lines)?;
        root.present()?;
        Ok(())
    }

    /// The held-out nats of a method over the steps, the mean over the seeds.
    fn mean_curve(&self, method: usize) -> Vec<(f64, f64)> {
        let points = &self.students[0][method].points;
        let means = points.iter().enumerate().map(|(index, point)| {
            let seeds = self.students.iter();
            let sum: f64 = seeds.map(|seed| seed[method].points[index].held_out).sum();
            (point.step as f64, sum / self.students.len() as f64)
        });
        means.collect()
    }
}

fn plus_minus(estimate: &Estimate, mean: String) -> String {
    match estimate.error {
        Some(error) => format!("{mean} ± {error:.3}"),
        None => mean,
    }
}
