//! Macros for enums of choices: their variants, names, numbers, text form and parser.

use crate::Error;

/// Defines an enum of choices whose numbers the kernels have.
///
/// An entry is `Variant = "name"`, `Variant(number = default) = "name"` or `Variant { number = default, .. } = "name"`. The enum gets
/// `ALL` (with the default numbers), `name`, `index`, `numbers` (those of the variant), `Display` and `FromStr`. The text form is the
/// name, followed by `:` and each number. The type has a method `check` that refuses numbers out of range.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        $type:ident, $field:literal;
        $(
            $(#[$doc:meta])*
            $variant:ident
            $( ( $tuple:ident = $tuple_default:literal ) )?
            $( { $( $(#[$number_doc:meta])* $number:ident = $default:literal ),+ $(,)? } )?
            = $name:literal
        ),+ $(,)?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[non_exhaustive]
        pub enum $type {
            $(
                $(#[$doc])*
                $variant
                $( (#[doc = concat!("The ", stringify!($tuple), ".")] f32) )?
                $( { $( $(#[$number_doc])* $number: f32 ),+ } )?
            ),+
        }

        $crate::config::choice::text_form! {
            $type, $field;
            $( $variant $( ( $tuple = $tuple_default ) )? $( { $( $number = $default ),+ } )? = $name ),+
        }

        impl $type {
            /// The position in `ALL`. The kernels have the same number.
            #[allow(dead_code, reason = "not every choice reaches the kernels by its number")]
            pub(crate) fn index(self) -> u32 {
                let same = |choice: &Self| choice.name() == self.name();
                Self::ALL.iter().position(same).expect("`ALL` has every variant") as u32
            }

            /// The numbers of the variant, in the order of its fields, then 0.
            #[allow(dead_code, reason = "not every choice reaches the kernels by its number")]
            pub(crate) fn numbers(self) -> [f32; 2] {
                let list: &[f32] = match &self {
                    $( Self::$variant $( { 0: $tuple } )? $( { $($number),+ } )? =>
                        &[$(*$tuple)? $( $(*$number),+ )?] ),+
                };
                std::array::from_fn(|i| list.get(i).copied().unwrap_or(0.0))
            }
        }
    };
}

/// Gives an enum of choices its text form: `ALL` (with example numbers), `name`, `Display` and `FromStr`. Entries are those of `choice!`
/// without their documentation. The type has a method `check`.
macro_rules! text_form {
    (
        $type:ident, $field:literal;
        $(
            $variant:ident
            $( ( $tuple:ident = $tuple_default:literal ) )?
            $( { $( $number:ident = $default:literal ),+ $(,)? } )?
            = $name:literal
        ),+ $(,)?
    ) => {
        impl $type {
            /// Every choice, in the order of the documentation. Numbers have an example value.
            pub const ALL: [Self; [$($name),+].len()] = [
                $( Self::$variant $( { 0: $tuple_default } )? $( { $($number: $default),+ } )? ),+
            ];

            /// The names with their numbers, for the texts of errors.
            const EXPECTED: &str = {
                let names = concat!(
                    $( $name, $( ":", stringify!($tuple), )? $( $( ":", stringify!($number), )+ )? ", " ),+
                );
                names.split_at(names.len() - ", ".len()).0
            };

            /// The name on command lines and in reports, without numbers.
            pub fn name(self) -> &'static str {
                match self {
                    $( Self::$variant { .. } => $name ),+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())?;
                match self {
                    $( Self::$variant $( { 0: $tuple } )? $( { $($number),+ } )? => {
                        $( write!(f, ":{}", $tuple)?; )?
                        $( $( write!(f, ":{}", $number)?; )+ )?
                        Ok(())
                    } ),+
                }
            }
        }

        impl $type {
            /// The choice of this [`name`](Self::name), with its numbers.
            ///
            /// # Errors
            /// [`Error::InvalidConfig`](crate::Error::InvalidConfig) for a name that is no choice, another count of numbers, and a
            /// number out of range.
            pub fn from_name(name: &str, numbers: &[f32]) -> Result<Self, $crate::Error> {
                let of_name = $crate::config::choice::position(&[$($name),+], name).map(|at| Self::ALL[at]);
                let found = of_name.and_then(|choice| match choice {
                    $( Self::$variant { .. } => match *numbers {
                        [$($tuple)? $( $($number),+ )?] =>
                            Some(Self::$variant $( { 0: $tuple } )? $( { $($number),+ } )?),
                        _ => None,
                    } ),+
                });
                let expected = Self::EXPECTED;
                let found = found.ok_or_else(|| $crate::config::choice::refused($field, name, numbers, expected))?;
                match found.check() {
                    Ok(()) => Ok(found),
                    Err(error) => Err($crate::config::choice::of_name(error, $field, name, numbers)),
                }
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::Error;

            fn from_str(text: &str) -> Result<Self, $crate::Error> {
                let (name, numbers) = $crate::config::choice::name_and_numbers(text);
                let found = Self::from_name(name, &numbers);
                found.map_err(|error| $crate::config::choice::of_text(error, text))
            }
        }
    };
}

pub(crate) use {choice, text_form};

/// The name of a text and its numbers. A part that is no number belongs to the name, which is then no choice.
pub(crate) fn name_and_numbers(text: &str) -> (&str, Vec<f32>) {
    let mut parts = text.split(':');
    let name = parts.next().unwrap_or_default();
    let numbers: Option<Vec<f32>> = parts.map(|part| part.parse().ok()).collect();
    match numbers {
        Some(numbers) => (name, numbers),
        None => (text, Vec::new()),
    }
}

/// The refusal of a text as it was written.
pub(crate) fn of_text(mut error: Error, text: &str) -> Error {
    if let Error::InvalidConfig { value, .. } = &mut error {
        text.clone_into(value);
    }
    error
}

/// The place of a name.
pub(crate) fn position(names: &[&str], name: &str) -> Option<usize> {
    names.iter().position(|known| *known == name)
}

/// The refusal of a name and its numbers.
pub(crate) fn refused(
    field: &'static str,
    name: &str,
    numbers: &[f32],
    expected: &'static str,
) -> Error {
    let numbers = numbers.iter().map(|number| format!(":{number}"));
    Error::InvalidConfig {
        field,
        value: numbers.fold(name.to_owned(), |text, number| text + &number),
        expected,
    }
}

/// The refusal of a number as one of the name and its numbers.
pub(crate) fn of_name(error: Error, field: &'static str, name: &str, numbers: &[f32]) -> Error {
    match error {
        Error::InvalidConfig { expected, .. } => refused(field, name, numbers, expected),
        other => other,
    }
}
