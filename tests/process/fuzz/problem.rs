//! A small problem from bytes: shapes, strides, slices at any address, logits of any bits, labels.

use wgpu_distill::half::{bf16, f16};
use wgpu_distill::{Batch, Config, Logits, Progress, Storage, TeacherClasses, Values};

use super::bytes::{self, Bytes};
use crate::cases::inputs::{Random, Stored};

/// One of the matrices. Elements outside of the rows are NaN.
#[derive(Debug)]
pub struct Side {
    stored: Stored,
    lead: usize,
    classes: usize,
    row_stride: usize,
}

impl Side {
    fn logits(&self) -> Logits<'_> {
        let values = match self.stored.values() {
            Values::F32(v) => Values::F32(&v[self.lead..]),
            Values::F16(v) => Values::F16(&v[self.lead..]),
            Values::Bf16(v) => Values::Bf16(&v[self.lead..]),
        };
        Logits::new(values, self.classes).with_row_stride(self.row_stride)
    }
}

#[derive(Debug)]
pub struct Problem {
    pub config: Config,
    pub progress: Progress,
    pub gradient: Storage,
    /// Elements before the gradient in its memory.
    pub lead: usize,
    student: Side,
    teacher: Side,
    labels: Vec<i32>,
    soft_labels: Option<Side>,
    class_weights: Option<Vec<f32>>,
    teacher_ids: Option<Vec<i32>>,
}

/// A row that gives several classes a share, sometimes with any numbers.
fn soft_label(from: &mut Bytes<'_>, classes: usize, random: &mut Random) -> Vec<f32> {
    let each = from.of(&[1usize, 2, 7]);
    let mut values = vec![0.0; classes];
    for y in values.iter_mut().step_by(each) {
        *y = random.unit();
    }
    if classes > 0 && from.rarely(30) {
        values[from.below(classes)] = f32::from_bits(from.u32());
    }
    values
}

/// Bit patterns that have caused errors in floating-point code.
const HARD: [u32; 16] = [
    0x7fc0_0000,
    0xffff_ffff,
    0x7f80_0001,
    0x7f80_0000,
    0xff80_0000,
    0xff80_0000,
    0x7f7f_ffff,
    0xff7f_ffff,
    0x7149_f2ca,
    0xf149_f2ca,
    0x0000_0001,
    0x8000_0000,
    0x007f_ffff,
    0x42b1_0000,
    0xc2b1_0000,
    0x5e00_0000,
];

/// One row's logits in one of ten patterns.
fn row(from: &mut Bytes<'_>, classes: usize, random: &mut Random) -> Vec<f32> {
    let pattern = from.byte() % 12;
    let scale = from.of(&[1.0f32, 2.0, 0.1, 8.0, 30.0]);
    let offset = from.of(&[0.0f32, 0.0, 100.0, -1e4, 1e30, -1e30]);
    let mut values: Vec<f32> = (0..classes)
        .map(|i| match pattern {
            0..=4 => scale * random.normal(),
            5 => scale * (random.next() % 4) as f32,
            6 => f32::from_bits(random.next()),
            7 if i % 3 == 1 => f32::NEG_INFINITY,
            8 => scale,
            9 => f32::from_bits(random.next() & 0x807f_ffff),
            10 => scale * random.normal() + offset,
            11 if i % 2 == 1 => f32::MIN,
            _ => scale * random.normal(),
        })
        .collect();
    if classes > 0 {
        for _ in 0..from.byte() % 4 {
            let any = f32::from_bits(from.u32());
            let hard = f32::from_bits(from.of(&HARD));
            let peak = from.of(&[25.0, -25.0, 80.0, hard, hard, any]);
            values[from.below(classes)] = peak;
        }
    }
    values
}

/// The values of a row.
type RowOf = fn(&mut Bytes<'_>, usize, &mut Random) -> Vec<f32>;

fn side(from: &mut Bytes<'_>, rows: usize, classes: usize, row: RowOf) -> Side {
    let gap = if from.rarely(3) { from.below(9) } else { 0 };
    let lead = from.below(20);
    let mut random = Random::new(from.u64());
    let stride = classes + gap;
    // Sometimes there are surplus elements.
    let surplus = if from.rarely(40) {
        1 + from.below(3)
    } else {
        0
    };
    let mut values = vec![f32::NAN; lead + rows * stride + surplus];
    let storage = bytes::storage(from);
    for r in 0..rows {
        let at = lead + r * stride;
        values[at..at + classes].copy_from_slice(&row(from, classes, &mut random));
    }
    let mut stored = Stored::round(&values, storage);
    if from.rarely(40) {
        // Too short, or just long enough.
        let len = lead + (rows * stride).saturating_sub(from.below(2 * gap + 3));
        match &mut stored {
            Stored::F32(v) => v.truncate(len),
            Stored::F16(v) => v.truncate(len),
            Stored::Bf16(v) => v.truncate(len),
        }
    }
    // Bits that no f32 rounds to.
    if from.rarely(10) && classes > 0 && rows > 0 {
        let (at, bits) = (lead + from.below(classes), from.u32());
        match &mut stored {
            Stored::F32(v) => v.get_mut(at).map(|x| *x = f32::from_bits(bits)),
            Stored::F16(v) => v.get_mut(at).map(|x| *x = f16::from_bits(bits as u16)),
            Stored::Bf16(v) => v.get_mut(at).map(|x| *x = bf16::from_bits(bits as u16)),
        };
    }
    let row_stride = if from.rarely(50) { from.size() } else { stride };
    let classes = if from.rarely(80) {
        from.size()
    } else {
        classes
    };
    Side {
        stored,
        lead,
        classes,
        row_stride,
    }
}

impl Problem {
    pub fn new(from: &mut Bytes<'_>) -> Self {
        let config = bytes::config(from);
        let progress = bytes::progress(from);
        let (rows, classes) = match from.byte() % 64 {
            0 => (
                from.below(3),
                from.of(&[1023, 1024, 1025, 2047, 4096, 4097, 5000]),
            ),
            1..=3 => (from.below(5), 1 + from.below(300)),
            4 => (from.below(400), 1 + from.below(6)),
            5 => (from.below(4), 16 * (1 + from.below(9))),
            _ => (from.below(7), 1 + from.below(40)),
        };
        let teacher_classes = match config.teacher_classes {
            _ if config.divergence.is_sampled() && !from.rarely(8) => 1,
            TeacherClasses::CommonPrefix => 1 + from.below(classes + 5),
            TeacherClasses::SameAsStudent if from.rarely(30) => 1 + from.below(classes + 5),
            _ => classes,
        };
        let gradient = bytes::storage(from);
        let lead = from.below(20);
        let label = |from: &mut Bytes<'_>| match from.byte() {
            255 => from.u32() as i32,
            254 => classes as i32,
            200..254 => config.ignore_index,
            _ => from.below(classes) as i32,
        };
        let labels = (0..rows).map(|_| label(from)).collect();
        let student = side(from, rows, classes, row);
        let teacher = side(from, rows, teacher_classes, row);
        let with_soft_labels = from.rarely(4);
        let soft_labels = with_soft_labels.then(|| side(from, rows, classes, soft_label));
        let count = if from.rarely(40) {
            classes + 1
        } else {
            classes
        };
        let weight = |from: &mut Bytes<'_>| from.number(&[1.0, 0.5, 0.0, 3.0, -0.0, 1e6]);
        let class_weights = from
            .rarely(8)
            .then(|| (0..count).map(|_| weight(from)).collect());
        let id = |from: &mut Bytes<'_>| (from.byte() as usize % (classes + 3)) as i32 - 2;
        let ids = rows * teacher_classes;
        let teacher_ids = from.rarely(6).then(|| (0..ids).map(|_| id(from)).collect());
        Self {
            config,
            progress,
            gradient,
            lead,
            student,
            teacher,
            labels,
            soft_labels,
            class_weights,
            teacher_ids,
        }
    }

    /// Returns true if the loss is the method's. Loss and gradient of others are compared on the inputs of the table and of the laws:
    /// the tolerances here are those of the method's sums.
    pub fn has_method(&self) -> bool {
        let method = Config::default();
        let loss = |c: &Config| {
            (
                (c.divergence, c.hard_temperature, c.tssr_gradient),
                c.standardization,
                (c.soft_weight, c.hard_weight, c.z_loss),
                (c.smoothed_classes, c.loss_clamp),
            )
        };
        let labels_alone = self.soft_labels.is_none()
            && self.class_weights.is_none()
            && self.teacher_ids.is_none();
        loss(&self.config) == loss(&method) && labels_alone
    }

    pub fn batch(&self) -> Batch<'_> {
        Batch {
            student_logits: self.student.logits(),
            teacher_logits: self.teacher.logits(),
            labels: &self.labels,
            soft_labels: self.soft_labels.as_ref().map(Side::logits),
            row_weights: None,
            class_weights: self.class_weights.as_deref(),
            teacher_ids: self.teacher_ids.as_deref(),
        }
    }
}
