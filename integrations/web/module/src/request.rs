//! A request of the host: lines of words.
//!
//! ```text
//! config FIELD NAME,BITS,..                           a field of `Config`, its choice by name, numbers by the bits of an f64
//! progress STEP TOTAL                                 `none` without this line
//! size rows|classes|teacher_classes NUMBER
//! limit binding_bytes|..|software|vendor NUMBER       of the device, as the fields of `Limits`
//! subgroup SMALLEST LARGEST
//! matrix OPERAND STORAGE STRIDE OFFSET BYTES BUFFER   in a buffer; on the CPU: STORAGE STRIDE PLACE ELEMENTS
//! list OPERAND OFFSET BYTES BUFFER                    in a buffer; on the CPU: PLACE ELEMENTS
//! ```
//! Strides count elements. BUFFER is a number of the host's for each buffer.

use std::str::FromStr;

use wgpu_distill::plan::{Limits, Operand};
use wgpu_distill::{Config, Error, Progress, Storage};

use crate::json;

/// The reason why a request is refused.
pub struct Refusal {
    name: &'static str,
    message: String,
}

impl Refusal {
    /// A request that this module does not understand.
    pub fn request(what: &str) -> Self {
        Self {
            name: "InvalidRequest",
            message: format!("the module does not understand the request: {what}"),
        }
    }

    pub fn to_json(&self) -> String {
        json::object([
            ("name", json::string(self.name)),
            ("message", json::string(&self.message)),
        ])
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self {
            name: error.name(),
            message: error.to_string(),
        }
    }
}

/// An operand and its numbers, `(storage, stride)` for a matrix.
pub struct Place {
    pub operand: Operand,
    pub matrix: Option<(Storage, usize)>,
    /// The offset in a buffer, its bytes and its number; or the place in memory and the elements there.
    pub numbers: [u64; 3],
}

/// The lines of a request.
pub struct Request {
    pub config: Config,
    pub progress: Progress,
    pub rows: usize,
    pub classes: usize,
    pub teacher_classes: usize,
    pub limits: Limits,
    pub places: Vec<Place>,
}

impl Request {
    /// Reads a request whose configuration starts as `config`.
    pub fn read(text: &str, config: Config) -> Result<Self, Refusal> {
        let mut request = Self {
            config,
            progress: Progress::NONE,
            rows: 0,
            classes: 0,
            teacher_classes: 0,
            limits: Limits::DEFAULT,
            places: Vec::new(),
        };
        for line in text.lines() {
            request.line(line)?;
        }
        Ok(request)
    }

    fn line(&mut self, line: &str) -> Result<(), Refusal> {
        let mut words = line.split(' ');
        let what = words.next().unwrap_or_default();
        let mut word = || words.next().ok_or_else(|| Refusal::request(line));
        match what {
            "config" => {
                let (field, value) = (word()?, word()?);
                let mut parts = value.split(',');
                let name = parts.next().unwrap_or_default();
                let bits = parts.map(|part| u64::from_str_radix(part, 16).map(f64::from_bits));
                let numbers: Result<Vec<f64>, _> = bits.collect();
                let numbers = numbers.map_err(|_| Refusal::request(line))?;
                self.config.set_named(field, name, &numbers)?;
            }
            "progress" => self.progress = Progress::new(number(word()?)?, number(word()?)?),
            "size" => {
                let size = match word()? {
                    "rows" => &mut self.rows,
                    "classes" => &mut self.classes,
                    "teacher_classes" => &mut self.teacher_classes,
                    _ => return Err(Refusal::request(line)),
                };
                *size = number(word()?)?;
            }
            "limit" => self.limit(word()?, word()?)?,
            "subgroup" => self.limits.subgroup = Some((number(word()?)?, number(word()?)?)),
            "matrix" | "list" => {
                let name = word()?;
                let found = Operand::ALL.into_iter().find(|o| o.name() == name);
                let operand = found.ok_or_else(|| Refusal::request(line))?;
                let matrix = match what {
                    "matrix" => Some((word()?.parse()?, number(word()?)?)),
                    _ => None,
                };
                let mut numbers = [number(word()?)?, number(word()?)?, 0];
                if let Ok(buffer) = word() {
                    numbers[2] = number(buffer)?;
                }
                self.places.push(Place {
                    operand,
                    matrix,
                    numbers,
                });
            }
            _ => return Err(Refusal::request(line)),
        }
        Ok(())
    }

    fn limit(&mut self, name: &str, value: &str) -> Result<(), Refusal> {
        let limits = &mut self.limits;
        match name {
            "binding_bytes" => limits.binding_bytes = number(value)?,
            "buffer_bytes" => limits.buffer_bytes = number(value)?,
            "storage_buffers" => limits.storage_buffers = number(value)?,
            "offset_alignment" => limits.offset_alignment = number(value)?,
            "workgroup_invocations" => limits.workgroup_invocations = number(value)?,
            "workgroup_bytes" => limits.workgroup_bytes = number(value)?,
            "workgroups" => limits.workgroups = number(value)?,
            "software" => limits.software = number::<u8>(value)? != 0,
            "vendor" => *limits = limits.with_registers_of(number(value)?),
            _ => return Err(Refusal::request(name)),
        }
        Ok(())
    }

    pub fn place(&self, operand: Operand) -> Option<&Place> {
        self.places.iter().find(|place| place.operand == operand)
    }

    /// Refuses a teacher with another number of classes, unless the configuration or the teacher's form allows it.
    pub fn check_teacher(&self) -> Result<(), Refusal> {
        use wgpu_distill::TeacherClasses::SameAsStudent;
        let (student, teacher) = (self.classes, self.teacher_classes);
        let is_row = self.place(Operand::TeacherIds).is_none();
        if is_row
            && !self.config.divergence.is_sampled()
            && self.config.teacher_classes == SameAsStudent
            && student != teacher
        {
            return Err(Error::ShapeMismatch { student, teacher }.into());
        }
        Ok(())
    }
}

fn number<T: FromStr>(word: &str) -> Result<T, Refusal> {
    word.parse().map_err(|_| Refusal::request(word))
}
