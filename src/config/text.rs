//! The configuration as text: each choice by its name, each field by its name. For hosts in other languages, command lines and files.

use super::choice::text_form;
use super::{
    ClassWeighting, Config, GradWrite, HardTemperature, MaskedClasses, NonFinite, Reduction, Scope,
    SmoothedClasses, Standardization, TeacherClasses, TeacherTail, TemperatureScaling,
    TssrGradient, require, temperature,
};
use crate::{Error, Result};

text_form! { Scope, "scope"; Row = "row", Batch = "batch", Given(kdr = 0.5) = "given" }
text_form! { Reduction, "reduction"; None = "none", Sum = "sum", Mean = "mean", SumOver(denominator = 1.0) = "sum-over" }
text_form! { TemperatureScaling, "temperature_scaling"; None = "none", Squared = "squared" }
text_form! { HardTemperature, "hard_temperature"; Student = "student", Own(temperature = 1.0) = "own" }
text_form! { Standardization, "standardization"; None = "none", ZScore = "z-score" }
text_form! { TssrGradient, "tssr_gradient"; Detached = "detached", Attached = "attached" }
text_form! { TeacherClasses, "teacher_classes"; SameAsStudent = "same-as-student", CommonPrefix = "common-prefix" }
text_form! { MaskedClasses, "masked_classes"; Each = "each", Both = "both" }
text_form! { TeacherTail, "teacher_tail"; Ghost = "ghost", Renormalized = "renormalized" }
text_form! { SmoothedClasses, "smoothed_classes"; All = "all", Unmasked = "unmasked" }
text_form! { GradWrite, "grad_write"; Overwrite = "overwrite", Accumulate = "accumulate" }
text_form! { NonFinite, "non_finite"; Propagate = "propagate", Skip = "skip" }
text_form! { ClassWeighting, "class_weighting"; Hard = "hard", Soft = "soft", Both = "both" }

/// 2^126, the largest divisor for which WGSL bounds the error of a quotient.
const MAX_DIVISOR: f32 = 8.507_059e37;

impl Scope {
    pub(crate) fn check(self) -> Result<()> {
        let Self::Given(kdr) = self else {
            return Ok(());
        };
        let ok = (0.0..=1.0).contains(&kdr);
        require(ok, "scope: Given", kdr, "a number in [0, 1]")
    }
}

impl Reduction {
    pub(crate) fn check(self) -> Result<()> {
        let Self::SumOver(d) = self else {
            return Ok(());
        };
        // GPUs may flush a smaller number to 0.
        let ok = d == 0.0 || (f32::MIN_POSITIVE..=MAX_DIVISOR).contains(&d);
        let expected = "0, or a number between 1.2e-38 and 8.5e37";
        require(ok, "reduction: SumOver", d, expected)
    }
}

impl HardTemperature {
    pub(crate) fn check(self) -> Result<()> {
        match self {
            Self::Student => Ok(()),
            Self::Own(own) => temperature("hard_temperature: Own", own),
        }
    }
}

macro_rules! without_numbers {
    ($($type:ident),+) => {
        $(impl $type {
            /// The choices have no numbers.
            fn check(self) -> Result<()> {
                Ok(())
            }
        })+
    };
}

without_numbers!(
    TemperatureScaling,
    Standardization,
    TssrGradient,
    TeacherClasses,
    MaskedClasses,
    TeacherTail,
    SmoothedClasses,
    GradWrite,
    NonFinite,
    ClassWeighting
);

/// The values of a field: a name and numbers, of which a text has the form `name:number:number`. A field that is a number has no name.
trait Named: Sized {
    fn from_name(field: &'static str, name: &str, numbers: &[f64]) -> Result<Self>;
    fn parse(field: &'static str, text: &str) -> Result<Self>;
    fn print(&self) -> String;
}

fn refused(field: &'static str, value: String, expected: &'static str) -> Error {
    Error::InvalidConfig {
        field,
        value,
        expected,
    }
}

/// The text of a name that is no value.
fn text_of(name: &str, numbers: &[f64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(f64::to_string).collect();
    match name {
        "" => numbers.join(":"),
        _ => [name, &numbers.join(":")].join(if numbers.is_empty() { "" } else { ":" }),
    }
}

fn narrowed(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|x| *x as f32).collect()
}

const NUMBER: &str = "a number";
const WHOLE: &str = "a whole number of 32 bits";
const BOUNDS: &str = "`none`, or two numbers with `:` between them";

fn number<T: std::str::FromStr>(
    field: &'static str,
    text: &str,
    expected: &'static str,
) -> Result<T> {
    let parsed = text.parse();
    parsed.map_err(|_| refused(field, text.to_owned(), expected))
}

impl Named for f32 {
    fn from_name(field: &'static str, name: &str, numbers: &[f64]) -> Result<Self> {
        match (name, numbers) {
            ("", [x]) => Ok(*x as f32),
            _ => Err(refused(field, text_of(name, numbers), NUMBER)),
        }
    }

    fn parse(field: &'static str, text: &str) -> Result<Self> {
        number(field, text, NUMBER)
    }

    fn print(&self) -> String {
        self.to_string()
    }
}

impl Named for i32 {
    fn from_name(field: &'static str, name: &str, numbers: &[f64]) -> Result<Self> {
        match (name, numbers) {
            ("", [x]) if f64::from(*x as i32) == *x => Ok(*x as i32),
            _ => Err(refused(field, text_of(name, numbers), WHOLE)),
        }
    }

    fn parse(field: &'static str, text: &str) -> Result<Self> {
        number(field, text, WHOLE)
    }

    fn print(&self) -> String {
        self.to_string()
    }
}

impl Named for Option<[f32; 2]> {
    fn from_name(field: &'static str, name: &str, numbers: &[f64]) -> Result<Self> {
        match (name, numbers) {
            ("none", []) => Ok(None),
            ("", [least, greatest]) => Ok(Some([*least as f32, *greatest as f32])),
            _ => Err(refused(field, text_of(name, numbers), BOUNDS)),
        }
    }

    fn parse(field: &'static str, text: &str) -> Result<Self> {
        if text == "none" {
            return Ok(None);
        }
        let (least, greatest) = text
            .split_once(':')
            .ok_or_else(|| refused(field, text.to_owned(), BOUNDS))?;
        let [least, greatest] = [least, greatest].map(|part| number(field, part, BOUNDS));
        Ok(Some([least?, greatest?]))
    }

    fn print(&self) -> String {
        match self {
            None => "none".to_owned(),
            Some([least, greatest]) => format!("{least}:{greatest}"),
        }
    }
}

macro_rules! choices {
    ($($type:ident),+) => {
        $(impl Named for super::$type {
            fn from_name(_: &'static str, name: &str, numbers: &[f64]) -> Result<Self> {
                Self::from_name(name, &narrowed(numbers))
            }

            fn parse(_: &'static str, text: &str) -> Result<Self> {
                text.parse()
            }

            fn print(&self) -> String {
                self.to_string()
            }
        })+
    };
}

choices!(
    TemperatureScaling,
    Standardization,
    Divergence,
    HardTemperature,
    TssrGradient,
    Similarity,
    Selection,
    Scope,
    Reduction,
    SmoothedClasses,
    TeacherClasses,
    MaskedClasses,
    TeacherTail,
    GradWrite,
    NonFinite,
    ClassWeighting
);

macro_rules! fields {
    ($($field:ident),+ $(,)?) => {
        impl Config {
            /// The names of the fields, in their order.
            pub const FIELDS: [&str; [$(stringify!($field)),+].len()] = [$(stringify!($field)),+];

            /// Sets a field by its name from its text: a number, the name of a choice with its numbers (`fixed:0.5`, `jsd:0.3`,
            /// `sum-over:64`), or for `loss_clamp` `none` or `least:greatest`. [`get`](Self::get) gives the same text back.
            ///
            /// # Errors
            /// [`Error::InvalidConfig`] for a field that does not exist, a text that is none of the field's choices, and a choice's
            /// number out of range. Calls check all other numbers, and how fields fit together.
            pub fn set(&mut self, field: &str, text: &str) -> Result<()> {
                match field {
                    $( stringify!($field) => self.$field = Named::parse(stringify!($field), text)?, )+
                    _ => return Err(no_such(field)),
                }
                Ok(())
            }

            /// [`set`](Self::set) from a name and its numbers, for hosts that have numbers and need not print them: `"fixed"` and `[0.5]`;
            /// `""` and `[2.0]` for a field that is a number; `"none"`, or `""` and two numbers, for `loss_clamp`.
            ///
            /// # Errors
            /// Those of `set`.
            pub fn set_named(&mut self, field: &str, name: &str, numbers: &[f64]) -> Result<()> {
                match field {
                    $( stringify!($field) =>
                        self.$field = Named::from_name(stringify!($field), name, numbers)?, )+
                    _ => return Err(no_such(field)),
                }
                Ok(())
            }

            /// The text of a field, by the field's name; `None` if there is no such field.
            ///
            /// ```
            /// use wgpu_distill::Config;
            ///
            /// # fn main() -> wgpu_distill::Result<()> {
            /// let mut config = Config::default();
            /// config.set("selection", "fixed:0.25")?;
            /// config.set("student_temperature", "2")?;
            /// assert_eq!(config.get("selection").as_deref(), Some("fixed:0.25"));
            /// assert!(config.set("selection", "fixed:2").is_err());
            /// assert!(config.set("temperature", "2").is_err());
            /// # Ok(())
            /// # }
            /// ```
            pub fn get(&self, field: &str) -> Option<String> {
                match field {
                    $( stringify!($field) => Some(self.$field.print()), )+
                    _ => None,
                }
            }

            /// Fails to compile if a field is missing above.
            #[allow(dead_code, reason = "for the compiler alone")]
            fn has_only_these_fields(self) {
                let Self { $($field: _),+ } = self;
            }
        }
    };
}

/// The refusal of a field that does not exist.
fn no_such(field: &str) -> Error {
    refused(
        "config",
        field.to_owned(),
        "the name of a field of `Config`",
    )
}

fields!(
    student_temperature,
    teacher_temperature,
    temperature_scaling,
    standardization,
    divergence,
    soft_weight,
    hard_weight,
    hard_temperature,
    z_loss,
    tssr_gradient,
    similarity,
    selection,
    scope,
    reduction,
    label_smoothing,
    smoothed_classes,
    loss_clamp,
    ignore_index,
    grad_loss,
    teacher_classes,
    masked_classes,
    teacher_tail,
    grad_write,
    non_finite,
    class_weighting,
);
