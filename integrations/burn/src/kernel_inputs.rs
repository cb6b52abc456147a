//! The tensors of a call, checked.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, ExtensionType};
use burn::tensor::{Int, Tensor};

/// Tensors of one device whose shapes and types fit together, as Burn's public tensors.
#[derive(Clone)]
pub(crate) struct Arguments {
    /// `[rows, classes]`, with the caller's autodiff.
    pub student: Tensor<2>,
    /// `[rows, classes of the teacher]`
    pub teacher: Tensor<2>,
    /// `i32 [rows * classes of the teacher]`
    pub teacher_ids: Option<Tensor<1, Int>>,
    /// `i32 [rows]`
    pub labels: Tensor<1, Int>,
    /// `[rows, classes]`
    pub soft_labels: Option<Tensor<2>>,
    /// `f32 [rows]`
    pub row_weights: Option<Tensor<1>>,
    /// `f32 [classes]`
    pub class_weights: Option<Tensor<1>>,
}

impl Arguments {
    /// The tensors without autodiff.
    pub fn inner(self) -> Self {
        Self {
            student: self.student.inner(),
            teacher: self.teacher.inner(),
            teacher_ids: self.teacher_ids.map(Tensor::inner),
            labels: self.labels.inner(),
            soft_labels: self.soft_labels.map(Tensor::inner),
            row_weights: self.row_weights.map(Tensor::inner),
            class_weights: self.class_weights.map(Tensor::inner),
        }
    }

    pub fn into_kernel_inputs(self) -> KernelInputs<Dispatch> {
        KernelInputs {
            student: self.student.into_dispatch(),
            teacher: self.teacher.into_dispatch(),
            teacher_ids: OptionalInt::of(self.teacher_ids),
            labels: self.labels.into_dispatch(),
            soft_labels: Optional::of(self.soft_labels),
            row_weights: Optional::of(self.row_weights),
            class_weights: Optional::of(self.class_weights),
        }
    }
}

/// The inputs of the kernels, as a backend's tensors. Shapes as in [`Arguments`].
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct KernelInputs<B: Backend> {
    pub student: FloatTensor<B>,
    pub teacher: FloatTensor<B>,
    #[extension_type]
    pub teacher_ids: OptionalInt<B>,
    pub labels: IntTensor<B>,
    #[extension_type]
    pub soft_labels: Optional<B>,
    #[extension_type]
    pub row_weights: Optional<B>,
    #[extension_type]
    pub class_weights: Optional<B>,
}

/// A tensor or none. Burn's fusion carries no `Option` of a tensor.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub enum Optional<B: Backend> {
    None,
    Some(FloatTensor<B>),
}

impl Optional<Dispatch> {
    fn of<const D: usize>(tensor: Option<Tensor<D>>) -> Self {
        tensor.map_or(Self::None, |tensor| Self::Some(tensor.into_dispatch()))
    }
}

impl<B: Backend> Optional<B> {
    pub(crate) fn tensor(self) -> Option<FloatTensor<B>> {
        match self {
            Self::None => None,
            Self::Some(tensor) => Some(tensor),
        }
    }
}

/// A tensor of integers or none.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub enum OptionalInt<B: Backend> {
    None,
    Some(IntTensor<B>),
}

impl OptionalInt<Dispatch> {
    pub(crate) fn of<const D: usize>(tensor: Option<Tensor<D, Int>>) -> Self {
        tensor.map_or(Self::None, |tensor| Self::Some(tensor.into_dispatch()))
    }
}

impl<B: Backend> OptionalInt<B> {
    pub(crate) fn tensor(self) -> Option<IntTensor<B>> {
        match self {
            Self::None => None,
            Self::Some(tensor) => Some(tensor),
        }
    }
}
