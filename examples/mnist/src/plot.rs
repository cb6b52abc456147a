//! The plot: accuracy of every method over the steps, and below it the KDR, TSTR and TSSR of one method.

use std::error::Error;
use std::fs;
use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;

use crate::panel::{COLOURS, FONT, GREY, Line, draw_panel};
use crate::students::{Course, Method, Point};

const SIZE: (u32, u32) = (960, 1000);
const UPPER_HEIGHT: u32 = 520;

/// Writes the plot to `path`. `courses` are `[seeds][methods]`. The lower panel shows KDR, TSTR and TSSR of the last method.
pub fn draw(
    path: &Path,
    methods: &[Method],
    courses: &[Vec<Course>],
    teacher_accuracy: f64,
) -> Result<(), String> {
    let mut svg = String::new();
    draw_svg(&mut svg, methods, courses, teacher_accuracy).map_err(|e| e.to_string())?;
    fs::write(path, svg).map_err(|e| e.to_string())
}

fn draw_svg(
    svg: &mut String,
    methods: &[Method],
    courses: &[Vec<Course>],
    teacher_accuracy: f64,
) -> Result<(), Box<dyn Error>> {
    let percent = |point: &Point| 100.0 * point.accuracy;
    let mut accuracies: Vec<Line> = methods
        .iter()
        .zip(COLOURS)
        .enumerate()
        .map(|(index, (method, colour))| Line {
            name: method.name.clone(),
            colour,
            dashed: false,
            // Curves may coincide. The last is thin and drawn over wide ones, so that all stay visible.
            width: if index + 1 < methods.len() { 5 } else { 2 },
            points: mean(courses, index, percent),
        })
        .collect();
    let steps = accuracies[0].points.last().map_or(1.0, |point| point.0);
    let range = accuracy_range(&accuracies, steps, 100.0 * teacher_accuracy);
    accuracies.push(Line {
        name: "the teacher".to_owned(),
        colour: GREY,
        dashed: true,
        width: 2,
        points: vec![
            (0.0, 100.0 * teacher_accuracy),
            (steps, 100.0 * teacher_accuracy),
        ],
    });

    let last = methods.len() - 1;
    let controls = [
        Line {
            name: "KDR, similarity of student and teacher".to_owned(),
            colour: COLOURS[2],
            dashed: false,
            width: 2,
            points: mean(courses, last, |point| point.kdr),
        },
        Line {
            name: "TSTR, fraction of the training done".to_owned(),
            colour: GREY,
            dashed: true,
            width: 2,
            points: mean(courses, last, |point| point.tstr),
        },
        Line {
            name: "TSSR, weight of the label in the target".to_owned(),
            colour: COLOURS[3],
            dashed: false,
            width: 2,
            points: mean(courses, last, |point| point.tssr),
        },
    ];

    // At least 0 to 1. Values outside extend the range, since plotters would draw them on its edge.
    let shares = controls
        .iter()
        .flat_map(|line| &line.points)
        .fold(0.0..1.0, |range: Range<f64>, &(_, value)| {
            range.start.min(value)..range.end.max(value)
        });

    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let title = match courses.len() {
        1 => "MNIST: students of one teacher, one seed".to_owned(),
        seeds => format!("MNIST: students of one teacher, mean of {seeds} seeds"),
    };
    let page = root.margin(10, 0, 0, 0).titled(&title, (FONT, 26))?;
    let (upper, lower) = page.split_vertically(UPPER_HEIGHT);
    draw_panel(
        &upper,
        "accuracy on the test digits, %",
        steps,
        range,
        &accuracies,
    )?;
    let caption = format!("{}: KDR, TSTR and TSSR", methods[last].name);
    draw_panel(&lower, &caption, steps, shares, &controls)?;
    root.present()?;
    Ok(())
}

/// A method's curve, the mean over the seeds.
fn mean(courses: &[Vec<Course>], method: usize, value: impl Fn(&Point) -> f64) -> Vec<(f64, f64)> {
    let points = courses[0][method].points.len();
    (0..points)
        .map(|index| {
            let of_seeds = courses.iter().map(|seed| &seed[method].points[index]);
            let sum: f64 = of_seeds.map(&value).sum();
            let step = courses[0][method].points[index].step;
            (step as f64, sum / courses.len() as f64)
        })
        .collect()
}

/// The range of percent from the lowest value after the first tenth of the training, where curves differ.
fn accuracy_range(lines: &[Line], steps: f64, teacher: f64) -> Range<f64> {
    let settled = lines
        .iter()
        .flat_map(|line| &line.points)
        .filter(|(step, _)| *step >= 0.1 * steps)
        .map(|(_, value)| *value);
    let (low, high) = settled.fold((teacher, teacher), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    // Room for the legend below.
    let low = (low - 0.3 * (high - low)).floor().max(0.0);
    low..(high + 0.05).ceil().max(low + 1.0)
}
