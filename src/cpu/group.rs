//! Groups of sixteen short rows, whose statistics, decisions and coefficients are lanes of vectors.
//!
//! The sums of a row's lanes, their statistics and `decide` take longer than the exponentials of a short row. A group takes them once for
//! sixteen rows. A row has the same bits in any group: no lane depends on another.
//! All functions are `inline(always)`: `isa.rs` compiles them once for each instruction set.

use std::ops::Range;

use super::add::COSINE;
use super::apply::{fill, store_tile};
use super::decide::Rule;
use super::element::Element;
use super::lane_rule::{DecisionLanes, LaneRule, READ, RowLanes};
use super::lane_sums::{Columns, lane_sums, lane_sums_of_any};
use super::lanes::{LANES, Lanes};
use super::row::values;
use super::scalar::{exp2, mul_add};
use super::setup::Setup;
use super::tile::{Ahead, chunks, extremes, padded};
use super::vector::{Fold, Largest, LargestMagnitude, Sum, Vector, fold_rows};
use crate::batch::is_class;
use crate::moments::{Moment, Moments};
use crate::{Batch, GradWrite, GradientMut, Logits, RowResult, Values, ValuesMut, flags};

/// Rows of a group.
pub(super) const ROWS: usize = LANES;

/// Most classes of a row. The exponentials of a group then stay in the first-level cache.
pub(super) const MOST_CLASSES: usize = 256;

/// Lanes of each row.
type OfRows = [Lanes; ROWS];

/// Memory for a group, reused from group to group. Rows that a group leaves out have the numbers of an earlier one there.
pub(super) struct Workspace {
    student_exps: Vec<f32>,
    teacher_exps: Vec<f32>,
    student: [f32; MOST_CLASSES],
    teacher: [f32; MOST_CLASSES],
    gradient: [f32; MOST_CLASSES],
    /// Largest values, then sums, of student and teacher.
    lanes: [OfRows; 2],
    magnitudes: OfRows,
    moments: [OfRows; READ.len()],
}

impl Workspace {
    pub fn boxed(classes: usize) -> Box<Self> {
        let exps = vec![0.0; ROWS * classes.next_multiple_of(LANES)];
        const EMPTY: OfRows = [[0.0; LANES]; ROWS];
        Box::new(Self {
            student_exps: exps.clone(),
            teacher_exps: exps,
            student: [0.0; MOST_CLASSES],
            teacher: [0.0; MOST_CLASSES],
            gradient: [0.0; MOST_CLASSES],
            lanes: [EMPTY; 2],
            magnitudes: EMPTY,
            moments: [EMPTY; READ.len()],
        })
    }
}

/// Up to sixteen rows of a batch, and the memory for their results.
pub(super) struct Group<'t, 'g> {
    pub rows: Range<usize>,
    /// The gradient of a task, if there is one, in which `first` is the group's first row.
    pub gradient: &'t mut Option<GradientMut<'g>>,
    pub first: usize,
    pub workspace: &'t mut Workspace,
    pub results: &'t mut [RowResult; ROWS],
}

/// A call whose rows are taken in groups.
#[derive(Clone, Copy)]
pub(super) struct Groups<'a> {
    batch: &'a Batch<'a>,
    setup: &'a Setup<'a>,
    rule: LaneRule<'a>,
    /// Of student and teacher.
    padding: [f32; 2],
}

impl<'a> Groups<'a> {
    /// `None` if the call's rows are not short, or not plain.
    pub fn of(rule: &'a Rule, setup: &'a Setup<'a>, batch: &'a Batch<'a>) -> Option<Self> {
        let classes = batch.classes();
        let is_plain = classes <= MOST_CLASSES
            && batch.teacher_logits.classes == classes
            && batch.teacher_ids.is_none()
            && batch.soft_labels.is_none();
        let rule = LaneRule::of(rule, setup).filter(|_| is_plain)?;
        let [Some(student), Some(teacher)] = setup.padding else {
            return None;
        };
        Some(Self {
            batch,
            setup,
            rule,
            padding: [student, teacher],
        })
    }

    /// Computes the results of a group and its part of the gradient. Returns the rows that it leaves out, as bits: those without a class as
    /// label, with masked classes, NaN or huge logits.
    #[inline(always)]
    pub fn distill<V: Vector>(&self, group: Group<'_, '_>) -> u32 {
        let Group {
            rows,
            gradient,
            first,
            workspace,
            results,
        } = group;
        let mut left_out = self.without_class(rows.clone());
        let mut lanes = RowLanes::default();
        self.add_extremes::<V>(rows.clone(), workspace);
        fold_rows::<V, Largest>(&workspace.lanes[0]).store(&mut lanes.student_max);
        let mut teacher_max = [0.0; LANES];
        fold_rows::<V, Largest>(&workspace.lanes[1]).store(&mut teacher_max);
        let mut magnitudes = [0.0; LANES];
        fold_rows::<V, LargestMagnitude>(&workspace.magnitudes).store(&mut magnitudes);
        for (i, magnitude) in magnitudes.iter().enumerate() {
            left_out |= u32::from(magnitude.to_bits() >= self.setup.checked_from) << i;
        }
        for i in (0..rows.len()).filter(|i| left_out >> i & 1 == 0) {
            let maxima = (lanes.student_max[i], teacher_max[i]);
            let memory = match gradient {
                Some(gradient) => Ahead::gradient(&gradient.row(first + i)),
                None => Ahead::nothing(self.batch.student_logits.values),
            };
            self.add_row::<V>(rows.start + i, i, maxima, memory, workspace);
            lanes.label_logit[i] = self.label_logit(rows.start + i);
            lanes.weight[i] = self.batch.row_weight(rows.start + i);
        }
        fold_rows::<V, Sum>(&workspace.lanes[0]).store(&mut lanes.student_sum);
        fold_rows::<V, Sum>(&workspace.lanes[1]).store(&mut lanes.teacher_sum);
        for ((moment, lanes), rows) in READ.iter().zip(&mut lanes.moments).zip(&workspace.moments) {
            if self.setup.moments.has(*moment) {
                fold_rows::<V, Sum>(rows).store(lanes);
            }
        }
        let decision = self.rule.decide(&lanes);
        for i in (0..rows.len()).filter(|i| left_out >> i & 1 == 0) {
            results[i] = RowResult {
                loss: decision.loss[i],
                kdr: decision.kdr[i],
                tssr: decision.tssr[i],
                flags: flags::STUDENT_LIVE | flags::TEACHER_LIVE,
            };
            let clamped = decision.clamped >> i & 1 != 0;
            if clamped {
                results[i].flags |= flags::CLAMPED;
            }
            let Some(gradient) = gradient else { continue };
            let mut target = gradient.row(first + i);
            if !clamped {
                let coefficients = decision.row(i, lanes.student_max[i]);
                self.write_row::<V>(rows.start + i, i, &coefficients, target, workspace);
            } else if self.setup.config.grad_write != GradWrite::Accumulate {
                fill(&mut target, 0.0);
            }
        }
        left_out
    }

    /// The rows whose label is not a class, as bits.
    #[inline(always)]
    fn without_class(&self, rows: Range<usize>) -> u32 {
        let classes = self.batch.classes();
        let labels = self.batch.labels[rows].iter().enumerate();
        labels.fold(0, |found, (i, label)| {
            let counts = *label != self.setup.config.ignore_index && is_class(*label, classes);
            found | u32::from(!counts) << i
        })
    }

    #[inline(always)]
    fn label_logit(&self, row: usize) -> f32 {
        let logits = &self.batch.student_logits;
        let label = self.batch.labels[row] as usize;
        logits.values.get(row * logits.row_stride + label)
    }

    /// The largest values and magnitudes in the lanes of each row.
    #[inline(always)]
    fn add_extremes<V: Vector>(&self, rows: Range<usize>, workspace: &mut Workspace) {
        let classes = self.batch.classes();
        let [student_max, teacher_max] = &mut workspace.lanes;
        for (i, row) in rows.enumerate() {
            let student = extremes::<V>(values(&self.batch.student_logits, row, classes));
            let teacher = extremes::<V>(values(&self.batch.teacher_logits, row, classes));
            student.max.store(&mut student_max[i]);
            teacher.max.store(&mut teacher_max[i]);
            let magnitude = LargestMagnitude::fold(student.magnitude, teacher.magnitude);
            magnitude.store(&mut workspace.magnitudes[i]);
        }
    }

    /// The sums in the lanes of row `i` of the group, and its exponentials.
    #[inline(always)]
    fn add_row<V: Vector>(
        &self,
        row: usize,
        i: usize,
        maxima: (f32, f32),
        gradient: Ahead,
        workspace: &mut Workspace,
    ) {
        let classes = self.batch.classes();
        let width = classes.next_multiple_of(LANES);
        let [student, teacher] = [&self.batch.student_logits, &self.batch.teacher_logits];
        let padding = self.padding;
        let columns = match (values(student, row, classes), values(teacher, row, classes)) {
            (Values::F32(student), Values::F32(teacher)) => Columns {
                student,
                teacher,
                padding,
            },
            (student, teacher) => Columns::whole(
                padded::<V>(student, padding[0], &mut workspace.student),
                padded::<V>(teacher, padding[1], &mut workspace.teacher),
            ),
        };
        let exps = (
            &mut workspace.student_exps[i * width..(i + 1) * width],
            &mut workspace.teacher_exps[i * width..(i + 1) * width],
        );
        // The same row of the next group.
        let next = |logits: &Logits<'_>| {
            Ahead::behind(values(logits, row, classes), ROWS * logits.row_stride)
        };
        let ahead = [next(student), next(teacher), gradient];
        let set = self.setup.moments;
        // The loop of a constant set computes nothing else.
        macro_rules! sets {
            ($($set:ident),*) => {
                match set.bits() {
                    $( $set => lane_sums::<V, _>(columns, maxima, self.setup, const { Moments::from_bits($set) }, exps, ahead), )*
                    _ => lane_sums_of_any::<V, _>(columns, maxima, self.setup, set, exps, ahead),
                }
            };
        }
        let sums = sets!(COSINE, COSINE_AND_HARD);
        sums.student.store(&mut workspace.lanes[0][i]);
        sums.teacher.store(&mut workspace.lanes[1][i]);
        for ((moment, sum), rows) in sums.moments.into_iter().zip(&mut workspace.moments) {
            if set.has(moment) {
                sum.store(&mut rows[i]);
            }
        }
    }

    /// Writes the gradient of row `i` of the group.
    #[inline(always)]
    fn write_row<V: Vector>(
        &self,
        row: usize,
        i: usize,
        coefficients: &Coefficients,
        target: ValuesMut<'_>,
        workspace: &mut Workspace,
    ) {
        let classes = self.batch.classes();
        let width = classes.next_multiple_of(LANES);
        let exps = (
            &workspace.student_exps[i * width..(i + 1) * width],
            &workspace.teacher_exps[i * width..(i + 1) * width],
        );
        let label = self.batch.labels[row] as usize;
        let hard = match self.setup.own_hard {
            true => {
                let student = values(&self.batch.student_logits, row, classes);
                let s = padded::<V>(student, self.padding[0], &mut workspace.student);
                Some((s, self.setup.hard_log2))
            }
            false => None,
        };
        if self.setup.config.grad_write == GradWrite::Accumulate {
            let values = &mut workspace.gradient;
            coefficients.write_any::<V, _>(exps, hard, label, &mut values[..classes]);
            store_tile::<V>(target, true, values, &mut workspace.teacher);
            return;
        }
        match target {
            ValuesMut::F32(g) => coefficients.write_any::<V, _>(exps, hard, label, g),
            ValuesMut::F16(g) => coefficients.write_any::<V, _>(exps, hard, label, g),
            ValuesMut::Bf16(g) => coefficients.write_any::<V, _>(exps, hard, label, g),
        }
    }
}

/// Those of `COSINE`, with a temperature of its own in the hard part.
const COSINE_AND_HARD: u32 = COSINE | Moments::of(&[Moment::HardSum]).bits();

/// The coefficients of a row's gradient.
struct Coefficients {
    student_max: f32,
    student: f32,
    teacher: f32,
    hard: f32,
    label: f32,
}

impl DecisionLanes {
    #[inline(always)]
    fn row(&self, i: usize, student_max: f32) -> Coefficients {
        Coefficients {
            student_max,
            student: self.student_scale[i],
            teacher: self.teacher_scale[i],
            hard: self.hard_scale[i],
            label: self.label_share[i],
        }
    }
}

impl Coefficients {
    /// Writes the gradient from exponentials; of a hard part with its own temperature, from logits with log2(e) over it.
    #[inline(always)]
    fn write_any<V: Vector, T: Element>(
        &self,
        exps: (&[f32], &[f32]),
        hard: Option<(&[f32], f32)>,
        label: usize,
        out: &mut [T],
    ) {
        match hard {
            Some((s, log2)) => self.write::<V, T, true>(exps, s, log2, label, out),
            None => self.write::<V, T, false>(exps, &[], 0.0, label, out),
        }
    }

    #[inline(always)]
    fn write<V: Vector, T: Element, const HARD: bool>(
        &self,
        (es, et): (&[f32], &[f32]),
        s: &[f32],
        hard_log2: f32,
        label: usize,
        out: &mut [T],
    ) {
        let (student, teacher) = (V::splat(self.student), V::splat(-self.teacher));
        let (max, k, hard) = (
            V::splat(self.student_max),
            V::splat(hard_log2),
            V::splat(self.hard),
        );
        let (whole, rest) = out.as_chunks_mut::<LANES>();
        let exps = chunks(es).zip(chunks(et));
        let s_lanes = s.as_chunks::<LANES>().0;
        for (at, (es, et)) in exps.enumerate() {
            let mut value = V::load(es).mul_add(student, V::load(et).mul(teacher));
            // Without a temperature of its own the hard part is in the student's coefficient, and `s` is empty.
            if HARD {
                let eh = V::load(&s_lanes[at]).sub(max).mul(k).exp2();
                value = eh.mul_add(hard, value);
            }
            match whole.get_mut(at) {
                Some(out) => T::store(value, out),
                None => T::store_part(value, rest),
            }
        }
        // The same operations. To read the vector that was just stored would take longer.
        let mut value = mul_add::<V>(es[label], self.student, et[label] * -self.teacher);
        if HARD {
            let eh = exp2::<V>((s[label] - self.student_max) * hard_log2);
            value = mul_add::<V>(eh, self.hard, value);
        }
        out[label] = T::rounded(value - self.label);
    }
}
