//! Shader texts: assembled WGSL with its bindings and parameters, for hosts that use another version of wgpu or none.
//!
//! [`assemble`] returns the text of a kernel in a variant. A [`Plan`](crate::plan::Plan) chooses variants and the buffers to bind.

mod bindings;
#[cfg(feature = "cpp")]
mod cpp;
mod kernel;
mod loss;
mod moments;
mod source;
mod text;
mod variant;

pub use bindings::{Binding, BindingKind};
#[cfg(feature = "cpp")]
pub use cpp::cpp;
pub use kernel::Kernel;
pub use loss::LossVariant;
pub use text::{Dialect, assemble};
pub use variant::{Access, MAX_VECTORS_PER_LANE, Variant};

pub use crate::moments::Moments;
pub use crate::params::Params;
pub use crate::rule::{ClassWeights, Shape, SweepSum};
