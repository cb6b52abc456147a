//! A pair of axes with curves over the steps of a training.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;

pub const FONT: &str = "sans-serif";
/// Colours of Okabe and Ito, which colour-blind readers can distinguish.
pub const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 0, 0),
    RGBColor(230, 159, 0),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
];
pub const GREY: RGBColor = RGBColor(130, 130, 130);

/// One curve of a panel.
pub struct Line {
    pub name: String,
    pub colour: RGBColor,
    pub dashed: bool,
    pub width: u32,
    pub points: Vec<(f64, f64)>, // step, value
}

/// Draws a pair of axes with its curves. Points below `values` are left out.
pub fn draw_panel<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    caption: &str,
    steps: f64,
    values: Range<f64>,
    lines: &[Line],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let decimals = if values.end - values.start > 5.0 {
        0
    } else {
        1
    };
    let mut chart = ChartBuilder::on(area)
        .caption(caption, (FONT, 19))
        .margin(12)
        .margin_right(28)
        .x_label_area_size(48)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..steps, values.clone())?;
    chart
        .configure_mesh()
        .x_desc("steps")
        .x_labels(9)
        .y_labels(9)
        .x_label_formatter(&|step| format!("{step:.0}"))
        .y_label_formatter(&|value| format!("{value:.decimals$}"))
        .label_style((FONT, 15))
        .axis_desc_style((FONT, 16))
        .bold_line_style(BLACK.mix(0.12))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for line in lines {
        let style = line.colour.stroke_width(line.width);
        let points = line.points.iter().copied();
        let points = points.filter(|&(_, value)| value >= values.start);
        let drawn = if line.dashed {
            chart.draw_series(DashedLineSeries::new(points, 8, 6, style))?
        } else {
            chart.draw_series(LineSeries::new(points, style))?
        };
        drawn
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .margin(14)
        .legend_area_size(30)
        .label_font((FONT, 16))
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()
}
