//! A case of the table: one problem with all arguments, its inputs and its reference.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::inputs::{self, Kind, Random, Stored};
use super::top_k;
use wgpu_distill::{
    Batch, Config, GradWrite, Logits, Progress, Scope, Selection, Storage, reference,
};

/// One problem with all arguments.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    /// The reason for the case.
    pub why: &'static str,
    pub rows: usize,
    pub classes: usize,
    pub teacher_classes: usize,
    pub kind: Kind,
    pub config: Config,
    pub progress: Progress,
    /// Storage types of student, teacher and gradient.
    pub storage: [Storage; 3],
    /// Elements between the rows of student, teacher and gradient: the row stride less the classes.
    pub gaps: [usize; 3],
    /// Elements before row 0, of student, teacher and gradient; buffers only.
    pub offsets: [usize; 3],
    /// The gradient is written over the student's logits; buffers only.
    pub in_place: bool,
    /// Some labels are `ignore_index`.
    pub ignores: Ignores,
    /// Some labels are out of range; buffers only.
    pub bad_labels: bool,
    pub soft_labels: SoftLabels,
    /// The teacher is a list of `teacher_classes` entries a row.
    pub teacher_list: TeacherList,
    pub weights: Weights,
    pub class_weights: Weights,
    /// Rows have metrics.
    pub metrics: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ignores {
    None,
    EveryThird,
    All,
}

/// Soft labels of the rows. They have the gaps and the offset of the teacher's logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SoftLabels {
    /// Labels alone.
    None,
    /// One class, two classes, all classes, a sum above 1, no class.
    Finite(Storage),
    /// `Finite`, but for numbers out of range in rows 1, 4, 5 and 6; buffers only.
    Broken(Storage),
}

impl SoftLabels {
    pub fn storage(self) -> Option<Storage> {
        match self {
            Self::None => None,
            Self::Finite(storage) | Self::Broken(storage) => Some(storage),
        }
    }
}

/// The teacher's list of classes, with their log-probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TeacherList {
    /// No list: rows of logits.
    None,
    /// The likeliest classes: sorted by probability, in another order, by class, with empty places, all empty.
    Finite,
    /// `Finite`, but for entries that are no class in rows 1 and 4, and classes twice in rows 2 and 5; buffers only.
    Broken,
}

/// Weights of the rows, or of the classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weights {
    /// No weights.
    None,
    /// Weights of both signs (of rows), large and small, and 0.
    Finite,
    /// `Finite`, but for NaN in row or class 1, infinities in rows 4 and 6, and a negative weight of class 4; buffers only.
    Broken,
}

impl Case {
    pub(super) fn new(
        name: impl Into<String>,
        why: &'static str,
        rows: usize,
        classes: usize,
    ) -> Self {
        Self {
            name: name.into(),
            why,
            rows,
            classes,
            teacher_classes: classes,
            kind: Kind::Normal,
            config: Config::default(),
            progress: Progress::new(2, 5),
            storage: [Storage::F32; 3],
            gaps: [0; 3],
            offsets: [0; 3],
            in_place: false,
            ignores: Ignores::None,
            bad_labels: false,
            soft_labels: SoftLabels::None,
            teacher_list: TeacherList::None,
            weights: Weights::None,
            class_weights: Weights::None,
            metrics: false,
        }
    }

    /// A case outside the table, of one kind of logits.
    pub fn of_shape(rows: usize, classes: usize, kind: Kind, storage: [Storage; 3]) -> Self {
        Self {
            kind,
            storage,
            ..Self::new("", "", rows, classes)
        }
    }

    /// Returns true if `run` supports the case: on slices, with a new gradient.
    pub fn on_slices(&self) -> bool {
        self.runs_into_slices() && self.config.grad_write == GradWrite::Overwrite
    }

    /// Returns true if the single steps support the case.
    pub fn runs_in_steps(&self) -> bool {
        let no_list = self.teacher_list == TeacherList::None;
        self.on_slices() && self.class_weights == Weights::None && no_list
    }

    /// Returns true for a list that the single steps support.
    pub fn runs_list_in_steps(&self) -> bool {
        self.on_slices() && self.teacher_list != TeacherList::None
    }

    /// Returns true if `run_into` supports the case: on slices, with the caller's gradient. The offsets are left out.
    pub fn runs_into_slices(&self) -> bool {
        let broken = [self.weights, self.class_weights].contains(&Weights::Broken);
        let broken = broken || matches!(self.soft_labels, SoftLabels::Broken(_));
        let broken = broken || self.teacher_list == TeacherList::Broken;
        !self.in_place && !self.bad_labels && !broken
    }

    pub fn labels(&self) -> Vec<i32> {
        let mut random = Random::new(77);
        let label = |row: usize| {
            let class = (random.next() as usize % self.classes) as i32;
            match self.ignores {
                Ignores::All => self.config.ignore_index,
                Ignores::EveryThird if row % 3 == 1 => self.config.ignore_index,
                _ if self.bad_labels && row == 2 => self.classes as i32,
                _ if self.bad_labels && row == 3 => -1,
                _ if self.bad_labels && row == 5 => i32::MIN,
                _ if self.bad_labels && row == 6 => i32::MAX,
                _ => class,
            }
        };
        (0..self.rows).map(label).collect()
    }

    /// The rows' soft labels, if there are any, `[rows, classes]`.
    pub fn soft_labels(&self) -> Option<Vec<f32>> {
        self.soft_labels.storage()?;
        let mut random = Random::new(78);
        let mut all = Vec::new();
        for row in 0..self.rows {
            let mut y: Vec<f32> = (0..self.classes).map(|_| random.unit()).collect();
            let sum: f32 = y.iter().sum();
            let (first, second) = (random.next() as usize, random.next() as usize);
            let (first, second) = (first % self.classes, second % self.classes);
            match row % 5 {
                0 => {
                    y.fill(0.0);
                    y[first] = 1.0;
                }
                1 => {
                    y.fill(0.0);
                    y[first] = 0.6875;
                    y[second] = 0.3125;
                }
                2 => y.iter_mut().for_each(|y| *y /= sum),
                3 => y.iter_mut().for_each(|y| *y *= 2.5 / sum),
                _ => y.fill(-0.0),
            }
            if let SoftLabels::Broken(_) = self.soft_labels {
                match row {
                    1 => y[self.classes / 2] = f32::NAN,
                    4 => y[0] = -0.25,
                    5 => y[self.classes - 1] = 2e6,
                    6 => y[first] = f32::INFINITY,
                    _ => {}
                }
            }
            all.extend(y);
        }
        Some(all)
    }

    /// The rows' weights, if there are any.
    pub fn row_weights(&self) -> Option<Vec<f32>> {
        let weight = |row: usize| match (self.weights, row) {
            (Weights::Broken, 1) => f32::NAN,
            (Weights::Broken, 4) => f32::INFINITY,
            (Weights::Broken, 6) => f32::NEG_INFINITY,
            _ => [2.5, -0.5, 1.0, 0.0, -3.0, 1e-3, 40.0][row % 7],
        };
        (self.weights != Weights::None).then(|| (0..self.rows).map(weight).collect())
    }

    /// The weights of the classes, if there are any.
    pub fn class_weights(&self) -> Option<Vec<f32>> {
        let weight = |class: usize| match (self.class_weights, class) {
            (Weights::Broken, 1) => f32::NAN,
            (Weights::Broken, 4) => -0.5,
            _ => [2.5, 0.5, 1.0, 0.0, 3.0, 1e-3, -0.0][class % 7],
        };
        (self.class_weights != Weights::None).then(|| (0..self.classes).map(weight).collect())
    }

    /// The teacher's lists, if it has any: `[rows, k]` classes and log-probabilities.
    fn lists(&self) -> Option<(Vec<i32>, Vec<f32>)> {
        if self.teacher_list == TeacherList::None {
            return None;
        }
        let (classes, k) = (self.classes, self.teacher_classes);
        let (_, teacher) = inputs::logits(self.kind, self.rows, classes, classes, 0xd15_7111);
        let (mut all_ids, mut all_values) = (Vec::new(), Vec::new());
        for (row, logits) in teacher.chunks(classes).enumerate() {
            let (mut ids, values) = top_k::top_k(logits, k, row);
            if self.teacher_list == TeacherList::Broken {
                top_k::break_row(&mut ids, classes, row);
            }
            all_ids.extend(ids);
            all_values.extend(values);
        }
        Some((all_ids, all_values))
    }

    /// The classes of the teacher's lists, if it has any, `[rows, k]`.
    pub fn teacher_ids(&self) -> Option<Vec<i32>> {
        self.lists().map(|(ids, _)| ids)
    }

    /// Student and teacher, rounded to their storage types and laid out with strides, without offsets.
    pub fn logits(&self) -> [Vec<f32>; 2] {
        let sampled = self.config.divergence.is_sampled();
        if let Some((_, log_probabilities)) = self.lists() {
            let (kind, rows, classes) = (self.kind, self.rows, self.classes);
            let (student, _) = inputs::logits(kind, rows, classes, classes, 0xd15_7111);
            return [student, log_probabilities];
        }
        let teacher_classes = if sampled {
            self.classes
        } else {
            self.teacher_classes
        };
        let (kind, rows, classes) = (self.kind, self.rows, self.classes);
        let (student, mut teacher) =
            inputs::logits(kind, rows, classes, teacher_classes, 0xd15_7111);
        if sampled {
            let labels = self.labels().into_iter();
            let label = |label: i32| label.clamp(0, classes as i32 - 1) as usize;
            let rows = teacher.chunks(classes).zip(labels);
            teacher = rows
                .map(|(row, l)| inputs::log_probability(row, label(l)))
                .collect();
        }
        [student, teacher]
    }

    /// The case with arguments that a divergence of sampled tokens takes, if it has one.
    pub(super) fn for_sampled_tokens(mut self) -> Self {
        if self.config.divergence.is_sampled() {
            self.teacher_classes = 1;
            self.config.teacher_temperature = 1.0;
            if self.config.scope == Scope::Batch {
                self.config.scope = Scope::Given(0.375);
            }
            if self.config.scope == Scope::Row && self.config.selection.needs_kdr() {
                self.config.selection = Selection::Fixed(0.25);
            }
        }
        self
    }

    /// The reference's results, computed once per process.
    pub fn reference(&self) -> Arc<reference::Distillation> {
        type Computed = Arc<OnceLock<Arc<reference::Distillation>>>;
        static KNOWN: Mutex<Option<HashMap<String, Computed>>> = Mutex::new(None);
        let computed = {
            let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
            let known = known.get_or_insert_default();
            known.entry(format!("{self:?}")).or_default().clone()
        };
        let compute = || {
            let host = self.host();
            let done = reference::distill(&self.config, self.progress, &host.batch());
            Arc::new(done.unwrap_or_else(|e| panic!("{}: {e}", self.name)))
        };
        computed.get_or_init(compute).clone()
    }

    pub fn strides(&self) -> [usize; 3] {
        [
            self.classes + self.gaps[0],
            self.teacher_classes + self.gaps[1],
            self.classes + self.gaps[2],
        ]
    }

    /// The inputs in host memory, with gaps.
    pub fn host(&self) -> Host {
        let [student, teacher] = self.logits();
        let strides = self.strides();
        let student = inputs::spread(&student, self.classes, strides[0], 0);
        let teacher = inputs::spread(&teacher, self.teacher_classes, strides[1], 0);
        Host {
            student: Stored::round(&student, self.storage[0]),
            teacher: Stored::round(&teacher, self.storage[1]),
            teacher_ids: self.teacher_ids(),
            labels: self.labels(),
            soft_labels: self.soft_labels().zip(self.soft_labels.storage()).map(
                |(values, storage)| {
                    let stride = self.classes + self.gaps[1];
                    let spread = inputs::spread(&values, self.classes, stride, 0);
                    Stored::round(&spread, storage)
                },
            ),
            row_weights: self.row_weights(),
            class_weights: self.class_weights(),
            classes: [self.classes, self.teacher_classes],
            strides: [strides[0], strides[1], self.classes + self.gaps[1]],
        }
    }
}

/// A case's inputs.
pub struct Host {
    pub student: Stored,
    pub teacher: Stored,
    pub teacher_ids: Option<Vec<i32>>,
    pub labels: Vec<i32>,
    pub soft_labels: Option<Stored>,
    pub row_weights: Option<Vec<f32>>,
    pub class_weights: Option<Vec<f32>>,
    classes: [usize; 2],
    strides: [usize; 3],
}

impl Host {
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            student_logits: Logits::new(self.student.values(), self.classes[0])
                .with_row_stride(self.strides[0]),
            teacher_logits: Logits::new(self.teacher.values(), self.classes[1])
                .with_row_stride(self.strides[1]),
            teacher_ids: self.teacher_ids.as_deref(),
            labels: &self.labels,
            soft_labels: self.soft_labels.as_ref().map(|soft_labels| {
                Logits::new(soft_labels.values(), self.classes[0]).with_row_stride(self.strides[2])
            }),
            row_weights: self.row_weights.as_deref(),
            class_weights: self.class_weights.as_deref(),
        }
    }
}
