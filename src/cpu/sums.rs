//! The sums of a row and their change of maxima, by the table of moments. `add.rs` adds tiles.

use std::f64::consts::LN_2;

use super::setup::Setup;
use crate::moments::{Factor, Moment, Weight};
use crate::{RowStats, flags};

/// The sums of `RowStats`, in f64 and relative to the row's maxima so far.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    pub student_max: f32,
    pub teacher_max: f32,
    pub zs: f64,
    pub zt: f64,
    pub masked_mass: f64,
    /// By [`Moment`].
    moments: [f64; Moment::ALL.len()],
    pub flags: u32,
}

impl Sums {
    pub const EMPTY: Self = Self {
        student_max: f32::MIN,
        teacher_max: f32::MIN,
        zs: 0.0,
        zt: 0.0,
        masked_mass: 0.0,
        moments: [0.0; Moment::ALL.len()],
        flags: 0,
    };

    #[inline(always)]
    pub fn of(&self, moment: Moment) -> f64 {
        self.moments[moment as usize]
    }

    /// The sums of statistics.
    pub fn read(stats: &RowStats) -> Self {
        Self {
            student_max: stats.student_max,
            teacher_max: stats.teacher_max,
            zs: stats.student_sum.into(),
            zt: stats.teacher_sum.into(),
            masked_mass: stats.masked_mass.into(),
            moments: Moment::ALL.map(|moment| moment.of(stats).into()),
            flags: stats.flags,
        }
    }

    /// Writes the sums to the row's statistics.
    #[inline(always)]
    pub fn write(&self, stats: &mut RowStats) {
        stats.student_max = self.student_max;
        stats.student_sum = self.zs as f32;
        stats.teacher_max = self.teacher_max;
        stats.teacher_sum = self.zt as f32;
        stats.masked_mass = self.masked_mass as f32;
        Moment::write(&self.moments, stats);
        stats.flags = self.flags;
    }

    /// Writes the sums of a list's tail as those of the classes beside the others.
    #[inline(always)]
    pub fn write_tail(&self, stats: &mut RowStats) {
        stats.rest_student_max = self.student_max;
        stats.rest_student_sum = self.zs as f32;
        stats.rest_teacher_max = self.teacher_max;
        stats.rest_teacher_sum = self.zt as f32;
    }

    /// Makes the sums relative to larger maxima (docs/METHOD.md, section 3: the merge with an empty segment).
    #[inline(always)]
    pub fn rescale(&mut self, student_max: f32, teacher_max: f32, setup: &Setup<'_>) {
        let same = self.student_max == student_max && self.teacher_max == teacher_max;
        let empty = self.zs == 0.0 && self.zt == 0.0;
        if !same && !empty {
            self.rescale_sums(student_max, teacher_max, setup);
        }
        (self.student_max, self.teacher_max) = (student_max, teacher_max);
    }

    #[inline(never)]
    fn rescale_sums(&mut self, student_max: f32, teacher_max: f32, setup: &Setup<'_>) {
        let old = *self;
        let from =
            |old: f32, new: f32, temperature: f64| (f64::from(old) - f64::from(new)) / temperature;
        let hard = setup.config.label_temperature();
        let ds = from(old.student_max, student_max, setup.student_temperature);
        let dt = from(old.teacher_max, teacher_max, setup.teacher_temperature);
        let (fs, ft) = (ds.exp(), dt.exp());
        let [u, v] = setup.rule.shape_numbers.map(f64::from);
        for moment in setup.moments.iter() {
            // The factor, and the sum of the weights that the linear factor shifts.
            let (factor, count) = match moment.weight() {
                Weight::One => (1.0, old.of(Moment::StudentCount)),
                Weight::SoftLabel => (1.0, old.of(Moment::SoftLabelSum)),
                Weight::Student if moment.factor() == Factor::StudentMinusTeacher => {
                    (fs, old.zs - old.of(Moment::UnseenMass))
                }
                Weight::Student | Weight::Unseen => (fs, old.zs),
                Weight::Teacher => (ft, old.zt - old.masked_mass),
                Weight::Both => (fs * ft, 0.0),
                Weight::RootOfBoth => ((0.5 * (ds + dt)).exp(), 0.0),
                Weight::StudentSquare => (fs * fs, 0.0),
                Weight::TeacherSquare => (ft * ft, 0.0),
                Weight::Power => ((u * dt + v * ds).exp(), old.of(Moment::PowerCross)),
                Weight::StudentPower => (((u + v) * ds).exp(), 0.0),
                Weight::TeacherPower => (((u + v) * dt).exp(), 0.0),
                Weight::Hard => {
                    let own = setup.student_temperature / hard;
                    ((ds * own).exp(), 0.0)
                }
                Weight::TeacherHard => {
                    let own = setup.teacher_temperature / hard;
                    ((dt * own).exp(), 0.0)
                }
                Weight::Peak => (0.0, 0.0),
                Weight::Class => (1.0, old.of(Moment::WeightSum)),
                Weight::MaskedClass => (1.0, 0.0),
                Weight::ClassTeacher => (ft, old.of(Moment::WeightedTeacher)),
                Weight::MaskedClassTeacher => (ft, 0.0),
            };
            let shift = match moment.factor() {
                Factor::One => 0.0,
                linear => linear.of(ds, dt),
            };
            self.moments[moment as usize] = if factor == 0.0 {
                0.0
            } else {
                factor * (old.of(moment) + count * shift)
            };
        }
        self.masked_mass *= ft;
        self.zs *= fs;
        self.zt *= ft;
    }

    /// The sums with one more class, given by its logits. A class that both mask changes nothing but the flags.
    pub fn with_class(&self, student: f32, teacher: f32, setup: &Setup<'_>) -> Self {
        let mut sums = *self;
        for (logit, live, masked) in [
            (student, flags::STUDENT_LIVE, flags::STUDENT_MASKED),
            (teacher, flags::TEACHER_LIVE, 0),
        ] {
            sums.flags |= match logit {
                f32::NEG_INFINITY => masked,
                x if x.is_finite() => live,
                _ => flags::NON_FINITE,
            };
        }
        if sums.flags & flags::NON_FINITE != 0 {
            return sums;
        }
        let of = |logit: f32| match logit {
            f32::NEG_INFINITY => (f32::MIN, 0.0),
            x => (x, 1.0),
        };
        sums.merged(Self::of_class(of(student), of(teacher), setup), setup)
    }

    /// The sums of one class, given the maximum and `e^(s - max)` of student and teacher; 0 stands for a masked class.
    pub fn of_class(
        (student_max, es): (f32, f64),
        (teacher_max, et): (f32, f64),
        setup: &Setup<'_>,
    ) -> Self {
        let (has_student, has_teacher) = (es > 0.0, et > 0.0);
        let both = has_student && has_teacher;
        let live = |there: bool, weight: f64| if there { weight } else { 0.0 };
        let mut class = Self {
            student_max,
            teacher_max,
            zs: es,
            zt: et,
            masked_mass: live(!has_student, et),
            ..Self::EMPTY
        };
        let (ds, dt) = (es.ln(), et.ln());
        let [u, v] = setup.rule.shape_numbers.map(f64::from);
        let hard = setup.config.label_temperature();
        for moment in setup.moments.iter() {
            let weight = match (moment.weight(), moment.factor()) {
                (Weight::One, _) => live(has_student, 1.0),
                (Weight::Student, Factor::StudentMinusTeacher) => live(both, es),
                (Weight::Student, _) => es,
                (Weight::Teacher, Factor::One) => et,
                // Of classes that the student does not mask.
                (Weight::Teacher, _) => live(both, et),
                (Weight::Unseen, _) => live(!has_teacher, es),
                (Weight::Both, _) => es * et,
                (Weight::RootOfBoth, _) => (es * et).sqrt(),
                (Weight::StudentSquare, _) => es * es,
                (Weight::TeacherSquare, _) => et * et,
                (Weight::Power, _) => live(both, (u * dt + v * ds).exp()),
                (Weight::StudentPower, _) => live(has_student, ((u + v) * ds).exp()),
                (Weight::TeacherPower, _) => live(has_teacher, ((u + v) * dt).exp()),
                (Weight::Hard, _) => {
                    let own = setup.student_temperature / hard;
                    live(has_student, (ds * own).exp())
                }
                (Weight::TeacherHard, _) => {
                    let own = setup.teacher_temperature / hard;
                    live(has_teacher, (dt * own).exp())
                }
                (Weight::Peak, _) => live(both, 1.0),
                // `validate.rs` refuses them beside a label that is left out and beside a list. Soft labels leave no class out.
                (
                    Weight::SoftLabel
                    | Weight::Class
                    | Weight::MaskedClass
                    | Weight::ClassTeacher
                    | Weight::MaskedClassTeacher,
                    _,
                ) => 0.0,
            };
            // A masked class has an infinite factor.
            class.moments[moment as usize] = match weight {
                0.0 => 0.0,
                weight => weight * moment.factor().of(ds, dt),
            };
        }
        class
    }

    /// The sums of both parts of a row.
    pub fn merged(mut self, mut other: Self, setup: &Setup<'_>) -> Self {
        let student_max = self.student_max.max(other.student_max);
        let teacher_max = self.teacher_max.max(other.teacher_max);
        self.rescale(student_max, teacher_max, setup);
        other.rescale(student_max, teacher_max, setup);
        self.zs += other.zs;
        self.zt += other.zt;
        self.masked_mass += other.masked_mass;
        self.flags |= other.flags;
        for (sum, more) in self.moments.iter_mut().zip(other.moments) {
            *sum += more;
        }
        self
    }

    /// Writes the sums of the classes beside the label to the row's statistics.
    pub fn write_rest(&self, stats: &mut RowStats) {
        stats.rest_student_max = self.student_max;
        stats.rest_student_sum = self.zs as f32;
        stats.rest_teacher_max = self.teacher_max;
        stats.rest_teacher_sum = self.zt as f32;
        stats.rest_masked_mass = self.masked_mass as f32;
        stats.rest_difference = self.of(Moment::Difference) as f32;
        stats.rest_soft_moment = self.of(Moment::SoftMoment) as f32;
        stats.rest_hard_sum = self.of(Moment::HardSum) as f32;
        stats.rest_teacher_hard_sum = self.of(Moment::TeacherHardSum) as f32;
    }

    /// Replaces the sum of a moment.
    pub fn set(&mut self, moment: Moment, value: f64) {
        self.moments[moment as usize] = value;
    }

    #[inline(always)]
    pub fn add_to(&mut self, moment: Moment, value: f64) {
        self.moments[moment as usize] += value;
    }

    /// Adds a tile's sum of a moment. Its linear factor is in binary logarithms.
    #[inline(always)]
    pub fn gather(&mut self, moment: Moment, tile: f64) {
        let unit = match moment.factor() {
            Factor::One => 1.0,
            _ => LN_2,
        };
        self.add_to(moment, tile * unit);
    }
}
