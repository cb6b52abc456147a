//! The teacher's list of a row.

use crate::validate::listed::{EMPTY, Entry, sort_by_class};
use crate::{TeacherTail, Values};

/// The list of the last observed row.
#[derive(Default)]
pub(super) struct List {
    /// Places and classes, by class.
    pub entries: Vec<Entry>,
    /// The logits of the list's classes and of the tail, relative to the row's maxima.
    pub student: Vec<f32>,
    pub teacher: Vec<f32>,
    /// The student's sum off the list, relative to its maximum there.
    pub rest_max: f32,
    pub rest_sum: f64,
    /// The gradient of the list's classes and of the tail.
    pub gradient: Vec<f32>,
}

/// Classes of the student with their gradient, by class.
pub(super) type Listed = [(u32, f32)];

impl List {
    /// Reads the list of a row. Calls on slices have valid entries, each class once.
    pub fn read(&mut self, ids: &[i32], teacher: Values<'_>) {
        self.entries.clear();
        for (place, &id) in ids.iter().enumerate() {
            let teacher = teacher.get(place);
            if id != EMPTY && teacher != f32::NEG_INFINITY {
                let class = id as u32;
                self.entries.push(Entry { class, teacher });
            }
        }
        sort_by_class(&mut self.entries);
    }

    /// Sets the logits of the list's classes, without the tail.
    #[inline(always)]
    pub fn read_student(&mut self, student: Values<'_>) {
        self.student.clear();
        self.teacher.clear();
        for entry in &self.entries {
            self.student.push(student.get(entry.class as usize));
            self.teacher.push(entry.teacher);
        }
    }

    /// The entries of classes from `start` to `end`.
    #[inline(always)]
    pub fn within(&self, start: usize, end: usize) -> &[Entry] {
        let before = |class: usize| {
            let less = |entry: &Entry| (entry.class as usize) < class;
            self.entries.partition_point(less)
        };
        &self.entries[before(start)..before(end)]
    }

    /// The teacher's probability off the list; 0 if there is no class off the list, whatever the rounding of the sum.
    pub fn tail(&self, tail: TeacherTail, classes: usize) -> f64 {
        if tail != TeacherTail::Ghost || self.entries.len() == classes {
            return 0.0;
        }
        let largest = |(i, entry): (usize, &Entry)| (entry.teacher, i);
        let all = self.entries.iter().enumerate();
        let largest = all.clone().map(largest).max_by(|a, b| a.0.total_cmp(&b.0));
        let Some((log_q, at)) = largest else {
            return 1.0;
        };
        let others = all.filter(|(i, _)| *i != at);
        let others: f64 = others
            .map(|(_, entry)| f64::from(entry.teacher).exp())
            .sum();
        // Of the largest, 1 - q comes without a difference.
        (-f64::from(log_q).exp_m1() - others).max(0.0)
    }
}

impl List {
    /// Makes the logits of the list relative to the row's maxima, and adds those of the tail.
    pub fn make_relative(&mut self, maxima: (f32, f32), tail: f64, student_temperature: f64) {
        let (student_max, teacher_max) = maxima;
        let relative = |logits: &mut [f32], max: f32| {
            for x in logits {
                *x = if *x == f32::NEG_INFINITY {
                    *x
                } else {
                    (*x - max).max(f32::MIN)
                };
            }
        };
        relative(&mut self.student, student_max);
        relative(&mut self.teacher, teacher_max);
        let distance = f64::from(self.rest_max) - f64::from(student_max);
        self.student.push(match self.rest_sum > 0.0 {
            true => (distance + student_temperature * self.rest_sum.ln()) as f32,
            false => f32::NEG_INFINITY,
        });
        self.teacher.push(match tail > 0.0 {
            true => (tail.ln() - f64::from(teacher_max)) as f32,
            false => f32::NEG_INFINITY,
        });
    }
}
