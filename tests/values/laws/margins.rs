//! The share of `Selection::Margin` does what it is for, whatever the loss.

use wgpu_distill::{Selection, flags};

use super::agree::close;
use super::drawn::{drawn, on_every_engine};

/// The teacher's probabilities of a row.
fn softmax(logits: &[f32], temperature: f32) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let power = |x: &f32| (f64::from(x - max) / f64::from(temperature)).exp();
    let sum: f64 = logits.iter().map(power).sum();
    logits.iter().map(|x| power(x) / sum).collect()
}

#[test]
fn the_corrected_teacher_has_its_margin() {
    let with_margin = |of| {
        use proptest::strategy::Strategy;
        drawn(of, true).prop_map(|mut drawn| {
            drawn.config.selection = Selection::Margin([0.2, 0.0, 0.05, 1.0][drawn.rows % 4]);
            drawn
        })
    };
    on_every_engine(with_margin, |engine, drawn| {
        let Selection::Margin(threshold) = drawn.config.selection else {
            return Err("another selection".to_owned());
        };
        let threshold = f64::from(threshold);
        let got = drawn.run(engine)?;
        for (row, result) in got.rows.iter().enumerate() {
            if result.flags & (flags::IGNORED | flags::NON_FINITE) != 0 {
                continue;
            }
            let teacher = &drawn.teacher[row * drawn.classes..(row + 1) * drawn.classes];
            let label = drawn.labels[row] as usize;
            let q = softmax(teacher, drawn.config.teacher_temperature);
            let largest = teacher.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let share = f64::from(result.tssr);
            let target = |i: usize| (1.0 - share) * q[i] + if i == label { share } else { 0.0 };
            let choice = (0..q.len()).find(|i| teacher[*i] == largest).unwrap_or(0);
            let (what, got, want) = match teacher[label] < largest {
                true => ("margin", target(label) - target(choice), threshold),
                false => ("label", target(label), (q[label] + threshold).min(1.0)),
            };
            close(&format!("{what} of row {row}"), got, want, 2e-6)?;
        }
        Ok(())
    });
}
