//! The plot of the study: the lead of some students over labels only, for every teacher.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::design::{Cell, Kind, default_arm};
use super::results::{Results, Split};
use crate::estimate::Estimate;

const SIZE: (u32, u32) = (960, 470);
const FONT: &str = "sans-serif";
/// Colours of Okabe and Ito, which colour-blind readers can distinguish.
const COLOURS: [RGBColor; 7] = [
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 114, 178),
    RGBColor(150, 150, 150),
    RGBColor(0, 0, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
];
/// Horizontal distance between the curves' marks, in distances of teachers.
const SHIFT: f64 = 0.03;

/// One student's curve: its lead over labels only for each teacher.
struct Curve {
    name: String,
    colour: RGBColor,
    leads: Vec<Estimate>,
}

/// The plot as SVG: a panel for the students whose labels are right, and one for those with wrong labels.
pub fn svg(results: &Results) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let title = "Test accuracy against labels only, in points, ± standard error";
        let page = root.margin(8, 0, 0, 0).titled(title, (FONT, 21))?;
        let areas = page.split_evenly((1, results.design.wrong.len()));
        let panels: Vec<Vec<Curve>> = (0..results.design.wrong.len())
            .map(|wrong| curves(results, wrong))
            .collect();
        let values = || {
            let leads = panels.iter().flatten().flat_map(|curve| &curve.leads);
            leads.flat_map(|e| [1.0, -1.0].map(|sign| e.mean + sign * e.error.unwrap_or(0.0)))
        };
        let low = values().fold(0.0, f64::min).floor();
        let high = values().fold(0.0, f64::max).ceil();
        for (wrong, (area, curves)) in areas.iter().zip(&panels).enumerate() {
            let caption = match results.design.wrong[wrong] {
                0.0 => "labels are right".to_owned(),
                share => format!("{:.0} % of the labels are wrong", 100.0 * share),
            };
            panel(area, results, &caption, low..high, curves)?;
        }
        root.present()?;
    }
    Ok(svg)
}

/// The curves of a panel: plain students, the default and what the validation digits choose.
fn curves(results: &Results, wrong: usize) -> Vec<Curve> {
    let arms = results.arms;
    let named = |name: &str| arms.iter().position(|arm| arm.name == name);
    let chosen = [
        named("teacher alone"),
        named("fixed mix, 0.5"),
        named("Hinton's mix, 0.5"),
        named("annealing"),
        Some(default_arm(arms)),
        Some(results.best_method()),
        Some(results.best(|kind| kind == Kind::LabelAtOne)),
    ];
    let mut shown: Vec<usize> = Vec::new();
    for arm in chosen.into_iter().flatten() {
        if !shown.contains(&arm) {
            shown.push(arm);
        }
    }
    shown
        .iter()
        .zip(COLOURS)
        .map(|(&arm, colour)| Curve {
            name: arms[arm].name.clone(),
            colour,
            leads: (0..results.design.teachers.len())
                .map(|teacher| {
                    let of = |cell: &Cell| (cell.teacher, cell.wrong) == (teacher, wrong);
                    results.lead(arm, 0, Split::Test, of)
                })
                .collect(),
        })
        .collect()
}

fn panel<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    results: &Results,
    caption: &str,
    values: std::ops::Range<f64>,
    curves: &[Curve],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let teachers = &results.design.teachers;
    let last = teachers.len() as f64 - 1.0;
    let mut chart = ChartBuilder::on(area)
        .caption(caption, (FONT, 18))
        .margin(8)
        .x_label_area_size(44)
        .y_label_area_size(40)
        .build_cartesian_2d(-0.3..last + 0.3, values)?;
    let label = |x: &f64| {
        let teacher = x.round() as usize;
        let is_teacher = (x - x.round()).abs() < 1e-6 && (0.0..=last).contains(x);
        match teachers.get(teacher).filter(|_| is_teacher) {
            Some(of) => {
                let accuracy = results.teacher(teacher, Split::Test).mean;
                format!("{} ({accuracy:.1} %)", of.name)
            }
            None => String::new(),
        }
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc("teacher")
        .x_labels(2 * teachers.len())
        .x_label_formatter(&label)
        .label_style((FONT, 13))
        .axis_desc_style((FONT, 15))
        .bold_line_style(BLACK.mix(0.12))
        .light_line_style(TRANSPARENT)
        .draw()?;
    chart.draw_series([PathElement::new([(-0.3, 0.0), (last + 0.3, 0.0)], BLACK)])?;
    for (index, curve) in curves.iter().enumerate() {
        let shift = SHIFT * (index as f64 - (curves.len() as f64 - 1.0) / 2.0);
        let style = curve.colour.stroke_width(2);
        let at = |teacher: usize| teacher as f64 + shift;
        let points = curve.leads.iter().enumerate();
        let line = points.clone().map(|(x, lead)| (at(x), lead.mean));
        let drawn = chart.draw_series(LineSeries::new(line, style).point_size(3))?;
        drawn
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
        chart.draw_series(points.map(|(x, lead)| {
            let error = lead.error.unwrap_or(0.0);
            let ends = [(at(x), lead.mean - error), (at(x), lead.mean + error)];
            PathElement::new(ends, style)
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .margin(10)
        .legend_area_size(26)
        .label_font((FONT, 13))
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()
}
