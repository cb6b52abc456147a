//! The moments of a row: sums over its classes that the losses and similarities need, each as data.
//!
//! A moment is `sum weight * factor`, relative to the maxima of the part of the row that it covers. Weight and factor decide how it is
//! accumulated, rescaled to other maxima and merged. `shader/moments.rs` generates the kernels' code from the table; the CPU path walks it.
//! The normalisers `student_sum` and `teacher_sum` and the `masked_mass` belong to every row and are not in the table.

/// The weight of a class. `s`, `t`: logits over their temperatures; `ms`, `mt`: their maxima; `ds = s - ms`, `dt = t - mt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// 1, over the classes that the student does not mask.
    One,
    /// `e^ds`
    Student,
    /// `e^dt`
    Teacher,
    /// `e^ds` of the classes that the teacher masks or lacks.
    Unseen,
    /// `e^(ds + dt)`
    Both,
    /// `e^((ds + dt) / 2)`
    RootOfBoth,
    /// `e^(2 ds)`
    StudentSquare,
    /// `e^(2 dt)`
    TeacherSquare,
    /// `e^(u dt + v ds)`, with the exponents of the divergence.
    Power,
    /// `e^((u + v) ds)`
    StudentPower,
    /// `e^((u + v) dt)`
    TeacherPower,
    /// `e^(ds ts / th)`, the student at the temperature `th` of the hard part.
    Hard,
    /// `e^(dt tt / th)`
    TeacherHard,
    /// 1 where both `ds` and `dt` are 0.
    Peak,
    /// `y`, the soft label.
    SoftLabel,
    /// `v`, the weight of the class, over the classes that the student does not mask.
    Class,
    /// `v` of the classes that the student masks.
    MaskedClass,
    /// `v e^dt`, over the classes that the student does not mask.
    ClassTeacher,
    /// `v e^dt` of the classes that the student masks.
    MaskedClassTeacher,
}

/// The linear factor of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Factor {
    One,
    /// `ds`
    Student,
    /// `dt`
    Teacher,
    /// `dt - ds`
    TeacherMinusStudent,
    /// `ds - dt`
    StudentMinusTeacher,
}

impl Factor {
    /// Its value for `ds` and `dt`.
    pub fn of(self, ds: f64, dt: f64) -> f64 {
        match self {
            Self::One => 1.0,
            Self::Student => ds,
            Self::Teacher => dt,
            Self::TeacherMinusStudent => dt - ds,
            Self::StudentMinusTeacher => ds - dt,
        }
    }
}

macro_rules! moments {
    ($( $(#[$doc:meta])* $moment:ident $field:ident $weight:ident $factor:ident; )*) => {
        /// A moment of a row.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(clippy::enum_variant_names, reason = "a moment in the narrow sense has a linear factor")]
        pub(crate) enum Moment {
            $( $(#[$doc])* $moment ),*
        }

        impl Moment {
            /// Every moment, in the order of the fields of the kernels' `Sums`.
            pub const ALL: [Self; [$(stringify!($field)),*].len()] = [$(Self::$moment),*];

            /// The name of its field in `Sums` and [`RowStats`](crate::RowStats).
            pub fn field(self) -> &'static str {
                match self { $( Self::$moment => stringify!($field) ),* }
            }

            pub const fn weight(self) -> Weight {
                match self { $( Self::$moment => Weight::$weight ),* }
            }

            pub const fn factor(self) -> Factor {
                match self { $( Self::$moment => Factor::$factor ),* }
            }

            /// Its field of `stats`.
            pub fn of(self, stats: &crate::RowStats) -> f32 {
                match self { $( Self::$moment => stats.$field ),* }
            }

            /// Writes sums, one for each moment, to their fields of `stats`.
            #[inline(always)]
            pub fn write(sums: &[f64; Self::ALL.len()], stats: &mut crate::RowStats) {
                $( stats.$field = sums[Self::$moment as usize] as f32; )*
            }
        }
    };
}

moments! {
    /// `A`, over the classes that the student does not mask.
    Difference difference Teacher TeacherMinusStudent;
    /// `S`, over the classes that the student does not mask.
    SoftMoment soft_moment Teacher Student;
    /// `B`, over the classes that the student does not mask; for metrics.
    TeacherMoment teacher_moment Teacher Teacher;
    /// `D`
    Cross cross Both One;
    /// `H`
    RootCross root_cross RootOfBoth One;
    StudentSquare student_square StudentSquare One;
    TeacherSquare teacher_square TeacherSquare One;
    /// `U`
    StudentOffset student_offset One Student;
    /// The classes that the student does not mask.
    StudentCount student_count One One;
    /// `R`, over the classes that both have.
    ReverseDifference reverse_difference Student StudentMinusTeacher;
    /// The student's mass where the teacher has no class.
    UnseenMass unseen_mass Unseen One;
    /// `C`
    StudentMoment student_moment Student Student;
    /// `zh`
    HardSum hard_sum Hard One;
    /// `zh` of the teacher.
    TeacherHardSum teacher_hard_sum TeacherHard One;
    /// `X`
    PowerCross power_cross Power One;
    /// `PS`
    StudentPower student_power StudentPower One;
    /// `PT`
    TeacherPower teacher_power TeacherPower One;
    /// `W`
    PowerDifference power_difference Power TeacherMinusStudent;
    /// 1 if the largest logits of student and teacher have the same class.
    Agreement agreement Peak One;
    /// `zv`
    WeightedTeacher weighted_teacher ClassTeacher One;
    /// `Mv`
    WeightedMasked weighted_masked MaskedClassTeacher One;
    /// `Sv`
    WeightedSoft weighted_soft ClassTeacher Student;
    /// `V`
    WeightSum weight_sum Class One;
    /// `MV`
    MaskedWeight masked_weight MaskedClass One;
    /// `Uv`
    WeightedOffset weighted_offset Class Student;
    /// `Y`
    SoftLabelSum soft_label_sum SoftLabel One;
    /// `G`. No meaning if the student masks a class of the soft label.
    SoftLabelMoment soft_label_moment SoftLabel Student;
}

impl Moment {
    /// Returns true if `RowStats` also has it for the classes beside the label.
    pub const fn is_of_rest(self) -> bool {
        matches!(
            self,
            Self::Difference | Self::SoftMoment | Self::HardSum | Self::TeacherHardSum
        )
    }

    /// Returns true if the hard part needs it.
    pub const fn is_of_hard_part(self) -> bool {
        matches!(
            self,
            Self::HardSum | Self::StudentOffset | Self::StudentCount
        )
    }

    /// Returns true if it depends on the weights of classes.
    pub const fn has_class_weights(self) -> bool {
        matches!(
            self.weight(),
            Weight::Class | Weight::MaskedClass | Weight::ClassTeacher | Weight::MaskedClassTeacher
        )
    }
}

/// A set of moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Moments(u32);

impl Moments {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) const fn of(list: &[Moment]) -> Self {
        let (mut bits, mut i) = (0, 0);
        while i < list.len() {
            bits |= 1 << list[i] as u32;
            i += 1;
        }
        Self(bits)
    }

    pub(crate) const fn has(self, moment: Moment) -> bool {
        self.0 & (1 << moment as u32) != 0
    }

    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The set as a number, for patterns.
    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Moment> {
        Moment::ALL.into_iter().filter(move |m| self.has(*m))
    }
}
