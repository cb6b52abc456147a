//! Teachers that are lists of classes: the row's loss has a class for each of the list and one for all others, the tail.

use super::distributions::{log_softmax_row, row_values};
use crate::validate::listed::EMPTY;
use crate::{Batch, Config, TeacherTail, batch};

/// A row as the classes of the list, in the order of their places, and the tail.
pub(super) struct List {
    /// Of each class of the list and of the tail; NaN for a row without a finite result.
    pub log_p: Vec<f64>,
    pub log_q: Vec<f64>,
    listed: Vec<usize>,
    /// Each class's share of the student's tail; 0 for the classes of the list.
    shares: Vec<f64>,
}

impl List {
    /// The list of a row, if the teacher has one.
    pub fn of(config: &Config, batch: &Batch<'_>, row: usize) -> Option<Self> {
        let ids = batch.ids(row)?;
        let classes = batch.classes();
        let values = row_values(&batch.teacher_logits, row, ids.len());
        let places = ids.iter().zip(values);
        let places = places.filter(|(id, value)| **id != EMPTY && *value != f64::NEG_INFINITY);
        let (mut listed, mut log_q) = (Vec::new(), Vec::new());
        for (&id, value) in places {
            if !batch::is_class(id, classes) {
                return Some(Self::without_result(classes));
            }
            // Of a class that is there twice, the first place counts.
            if !listed.contains(&(id as usize)) {
                listed.push(id as usize);
                log_q.push(value);
            }
        }
        if log_q.iter().any(|value| !value.is_finite()) {
            return Some(Self::without_result(classes));
        }
        let student = row_values(&batch.student_logits, row, classes);
        let log_p = log_softmax_row(&student, config.student_temperature.into());
        let mut is_listed = vec![false; classes];
        listed.iter().for_each(|class| is_listed[*class] = true);
        let off_list = |class: &usize| !is_listed[*class];
        let tail: f64 = (0..classes)
            .filter(off_list)
            .map(|i| log_p[i])
            .fold(f64::NEG_INFINITY, add_logs);
        let share = |class: usize| match off_list(&class) && log_p[class] > f64::NEG_INFINITY {
            true => (log_p[class] - tail).exp(),
            false => 0.0,
        };
        // Without classes off the list there is no tail, whatever the rounding of the list's sum.
        let has_tail = config.teacher_tail == TeacherTail::Ghost && listed.len() < classes;
        log_q.push(match has_tail {
            true => log_of_rest(&log_q),
            false => f64::NEG_INFINITY,
        });
        let log_p_of = listed.iter().map(|class| log_p[*class]);
        Some(Self {
            log_p: log_p_of.chain([tail]).collect(),
            log_q: log_softmax_row(&log_q, config.teacher_temperature.into()),
            shares: (0..classes).map(share).collect(),
            listed,
        })
    }

    fn without_result(classes: usize) -> Self {
        Self {
            log_p: vec![f64::NAN],
            log_q: vec![f64::NAN],
            listed: Vec::new(),
            shares: vec![f64::NAN; classes],
        }
    }

    /// Returns true if the row has a result.
    pub fn is_finite(&self) -> bool {
        !self.log_p.iter().chain(&self.log_q).any(|x| x.is_nan())
    }

    /// The gradient of each class of the student from that of the list's classes and the tail.
    pub fn spread(&self, gradient: &[f64]) -> Vec<f64> {
        let tail = gradient[self.listed.len()];
        let of_tail = |share: &f64| if *share == 0.0 { 0.0 } else { tail * share };
        let mut spread: Vec<f64> = self.shares.iter().map(of_tail).collect();
        for (class, of_class) in self.listed.iter().zip(gradient) {
            spread[*class] = *of_class;
        }
        spread
    }
}

/// `ln(1 - sum e^x)`; `-inf` if the sum is 1 or more. Of the largest `x`, `1 - e^x` comes without a difference.
fn log_of_rest(logs: &[f64]) -> f64 {
    let mut sorted = logs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(largest) = sorted.pop() else {
        return 0.0;
    };
    let others: f64 = sorted.into_iter().map(f64::exp).sum();
    let rest = -largest.exp_m1() - others;
    if rest > 0.0 {
        rest.ln()
    } else {
        f64::NEG_INFINITY
    }
}

/// `ln(e^a + e^b)`; NaN if either is.
fn add_logs(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        return f64::NAN;
    }
    let (low, high) = (a.min(b), a.max(b));
    match low == f64::NEG_INFINITY {
        true => high,
        false => high + (low - high).exp().ln_1p(),
    }
}
