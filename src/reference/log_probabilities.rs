//! The logarithms of a row's probabilities, of student and teacher.

use super::distributions::{log_softmax_row, logits_of, row_temperature};
use super::list::List;
use crate::{Batch, Config};

/// `ln p` and `ln q` of a row at its temperatures. Beside a list of classes, those of its classes and of the tail. Of sampled tokens, `ln q` is
/// known for the label alone: NaN stands for the others.
pub(super) fn log_probabilities(config: &Config, batch: &Batch<'_>, row: usize) -> [Vec<f64>; 2] {
    if let Some(list) = List::of(config, batch, row) {
        return [list.log_p, list.log_q];
    }
    let [student, teacher] = logits_of(config, batch, row);
    let log_p = log_softmax_row(
        &student,
        row_temperature(config, config.student_temperature, &student),
    );
    let log_q = match config.divergence.is_sampled() {
        true => {
            let given = |i| i as i64 == i64::from(batch.labels[row]);
            let log_q = |i| if given(i) { teacher[0] } else { f64::NAN };
            (0..student.len()).map(log_q).collect()
        }
        false => log_softmax_row(
            &teacher,
            row_temperature(config, config.teacher_temperature, &teacher),
        ),
    };
    [log_p, log_q]
}
