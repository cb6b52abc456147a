//! WGSL expressions of the moments: how a moment is accumulated, rescaled and merged follows from its weight and factor.

use crate::moments::{Factor, Moment, Weight};

/// The text of a weight: one vector, or the product of two.
enum Weighted {
    One(&'static str),
    Product(&'static str, &'static str),
}

const POWER: &str = "exp2(params.shape_first * dt + params.shape_second * ds)";
const STUDENT_POWER: &str = "exp2((params.shape_first + params.shape_second) * ds)";
const TEACHER_POWER: &str = "exp2((params.shape_first + params.shape_second) * dt)";
const TEACHER_HARD: &str = "exp2(dt * params.teacher_hard_ratio)";
const HARD: &str = "exp2(ds * hard_ratio())";

impl Moment {
    /// A line of `#moments`, with its keys replaced.
    pub(super) fn expand(self, line: &str) -> String {
        line.replace("$moment", self.field())
            .replace("$term", &self.term())
            .replace("$checked_term", &self.checked_term())
            .replace("$rescaled", &self.rescaled())
            .replace("$single", self.single())
    }

    /// The sum over four classes of plain numbers; padding lies far below the maxima.
    fn term(self) -> String {
        let weight = match self.weight() {
            Weight::One => Weighted::One("vec4<f32>(1.0)"),
            Weight::Student => Weighted::One("es"),
            Weight::Teacher => Weighted::One("et"),
            // Classes that the teacher masks or lacks take the checked path.
            Weight::Unseen => return "0.0".to_owned(),
            Weight::Both => Weighted::Product("es", "et"),
            Weight::RootOfBoth => Weighted::One("sqrt(es * et)"),
            Weight::StudentSquare => Weighted::Product("es", "es"),
            Weight::TeacherSquare => Weighted::Product("et", "et"),
            Weight::Power => Weighted::One(POWER),
            Weight::StudentPower => Weighted::One(STUDENT_POWER),
            Weight::TeacherPower => Weighted::One(TEACHER_POWER),
            Weight::Hard => Weighted::One(HARD),
            Weight::TeacherHard => Weighted::One(TEACHER_HARD),
            Weight::SoftLabel => Weighted::One("y"),
            Weight::Peak => Weighted::One(
                "select(vec4<f32>(), vec4<f32>(1.0), (ds == vec4<f32>()) & (dt == vec4<f32>()))",
            ),
            Weight::Class => Weighted::One("v"),
            Weight::ClassTeacher => Weighted::Product("v", "et"),
            // Masked classes take the checked path.
            Weight::MaskedClass | Weight::MaskedClassTeacher => return "0.0".to_owned(),
        };
        self.sum_of(weight)
    }

    /// The sum over four classes of the checked path: `es`, `et` are 0 for classes that are masked or missing, `seen_teacher` also where
    /// the student masks, `seen_student` also where the teacher masks. `v` is 0 for missing classes.
    fn checked_term(self) -> String {
        let live = |weight: &str, live: &str| format!("select(zero, {weight}, {live})");
        let weight = match (self.weight(), self.factor()) {
            (Weight::One, Factor::One) => live("vec4<f32>(1.0)", "s_ok"),
            (Weight::One, _) => return "total(ds)".to_owned(),
            (Weight::Teacher, _) => "seen_teacher".to_owned(),
            (Weight::Student, Factor::StudentMinusTeacher) => "seen_student".to_owned(),
            (Weight::Unseen, _) => "(es - seen_student)".to_owned(),
            (Weight::Power, _) => live(POWER, "s_ok & t_ok"),
            (Weight::StudentPower, _) => live(STUDENT_POWER, "s_ok"),
            (Weight::TeacherPower, _) => live(TEACHER_POWER, "t_ok"),
            (Weight::Hard, _) => live(HARD, "s_ok"),
            (Weight::TeacherHard, _) => live(TEACHER_HARD, "t_ok"),
            (Weight::Class, Factor::One) => live("v", "s_ok"),
            (Weight::MaskedClass, _) => live("v", "hidden"),
            (Weight::ClassTeacher, _) => "(v * seen_teacher)".to_owned(),
            (Weight::MaskedClassTeacher, _) => "(v * (et - seen_teacher))".to_owned(),
            (Weight::Peak, _) => live(
                "vec4<f32>(1.0)",
                "s_ok & t_ok & (ds == zero) & (dt == zero)",
            ),
            _ => return self.term(),
        };
        match self.factor_text() {
            Some(factor) => format!("dot({weight}, {factor})"),
            None => format!("total({weight})"),
        }
    }

    /// The sum over one class, which is its own maximum; `student` and `teacher` are 1 where it is live, else 0.
    fn single(self) -> &'static str {
        if self.factor() != Factor::One {
            return "0.0";
        }
        match self.weight() {
            Weight::One
            | Weight::Student
            | Weight::StudentSquare
            | Weight::StudentPower
            | Weight::Hard => "student",
            Weight::Teacher
            | Weight::TeacherSquare
            | Weight::TeacherPower
            | Weight::TeacherHard => "teacher",
            Weight::Unseen => "student * (1.0 - teacher)",
            // Soft labels leave no class out.
            Weight::SoftLabel => "0.0",
            // `validate.rs` refuses them beside a label that is left out.
            Weight::Class
            | Weight::MaskedClass
            | Weight::ClassTeacher
            | Weight::MaskedClassTeacher => "0.0",
            Weight::Both | Weight::RootOfBoth | Weight::Power | Weight::Peak => "student * teacher",
        }
    }

    fn factor_text(self) -> Option<&'static str> {
        match self.factor() {
            Factor::One => None,
            Factor::Student => Some("ds"),
            Factor::Teacher => Some("dt"),
            Factor::TeacherMinusStudent => Some("dt - ds"),
            Factor::StudentMinusTeacher => Some("ds - dt"),
        }
    }

    fn sum_of(self, weight: Weighted) -> String {
        match (weight, self.factor_text()) {
            (Weighted::One("vec4<f32>(1.0)"), None) => "4.0".to_owned(),
            (Weighted::One("vec4<f32>(1.0)"), Some(factor)) => format!("total({factor})"),
            (Weighted::One(weight), None) => format!("total({weight})"),
            (Weighted::One(weight), Some(factor)) => format!("dot({weight}, {factor})"),
            (Weighted::Product(a, b), None) => format!("dot({a}, {b})"),
            (Weighted::Product(a, b), Some(factor)) => format!("dot({a} * {b}, {factor})"),
        }
    }

    /// The sum relative to maxima that are larger by `-ds` and `-dt`; `fs`, `ft` are their powers of 2.
    fn rescaled(self) -> String {
        let scale = match self.weight() {
            Weight::One | Weight::SoftLabel | Weight::Class | Weight::MaskedClass => None,
            Weight::Student | Weight::Unseen => Some("fs"),
            Weight::Teacher | Weight::ClassTeacher | Weight::MaskedClassTeacher => Some("ft"),
            Weight::Both => Some("fs * ft"),
            Weight::RootOfBoth => Some("exp2(0.5 * (max(ds, -1e4) + dt))"),
            Weight::StudentSquare => Some("fs * fs"),
            Weight::TeacherSquare => Some("ft * ft"),
            Weight::Power => Some(POWER),
            Weight::StudentPower => Some(STUDENT_POWER),
            Weight::TeacherPower => Some(TEACHER_POWER),
            Weight::Hard => Some(HARD),
            Weight::TeacherHard => Some(TEACHER_HARD),
            Weight::Peak => Some("select(0.0, 1.0, ds == 0.0 && dt == 0.0)"),
        };
        let sum = format!("x.{}", self.field());
        match (scale, self.factor_text()) {
            (None, None) => sum,
            (Some(scale), None) => format!("{sum} * {scale}"),
            (None, Some(factor)) => format!("{sum} + {} * ({factor})", self.count()),
            // A factor of 0 gives 0, even if the shift is infinite.
            (Some(scale), Some(factor)) => format!(
                "select(0.0, {scale} * ({sum} + {} * ({factor})), {scale} > 0.0)",
                self.count()
            ),
        }
    }

    /// The sum of the weight alone, over the same classes.
    fn count(self) -> &'static str {
        match (self.weight(), self.factor()) {
            (Weight::One, _) => "x.student_count",
            (Weight::SoftLabel, _) => "x.soft_label_sum",
            (Weight::Teacher, _) => "(x.teacher_sum - x.masked_mass)",
            (Weight::Student, Factor::StudentMinusTeacher) => "(x.student_sum - x.unseen_mass)",
            (Weight::Student, _) => "x.student_sum",
            (Weight::Power, _) => "x.power_cross",
            (Weight::Class, _) => "x.weight_sum",
            (Weight::ClassTeacher, _) => "x.weighted_teacher",
            (weight, _) => panic!("no moment with a factor has the weight {weight:?}"),
        }
    }
}
