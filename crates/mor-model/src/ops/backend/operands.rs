//! Operands that may be absent, and parameters in another precision than the activations they meet.

use burn::backend::tensor::{BoolTensor, FloatTensor};
use burn::backend::{Backend, Dispatch, ExtensionType};
use burn::tensor::{Bool, DType, Tensor};

/// A float operand that may be absent.
#[derive(ExtensionType)]
pub(crate) enum MaybeFloat<B: Backend> {
    /// It is there.
    Given(FloatTensor<B>),
    /// It is not.
    Absent,
}

impl<B: Backend> MaybeFloat<B> {
    /// The operand, if it is there.
    pub(crate) fn given(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Given(tensor) => Some(tensor),
            Self::Absent => None,
        }
    }
}

/// A float operand as Burn dispatches it.
pub(crate) fn maybe_float<const D: usize>(tensor: Option<Tensor<D>>) -> MaybeFloat<Dispatch> {
    match tensor {
        Some(tensor) => MaybeFloat::Given(tensor.into_dispatch()),
        None => MaybeFloat::Absent,
    }
}

/// A Boolean operand that may be absent.
#[derive(ExtensionType)]
pub(crate) enum MaybeBool<B: Backend> {
    /// It is there.
    Given(BoolTensor<B>),
    /// It is not.
    Absent,
}

impl<B: Backend> MaybeBool<B> {
    /// The operand, if it is there.
    pub(crate) fn given(self) -> Option<BoolTensor<B>> {
        match self {
            Self::Given(tensor) => Some(tensor),
            Self::Absent => None,
        }
    }
}

/// A Boolean operand as Burn dispatches it.
pub(crate) fn maybe_bool<const D: usize>(tensor: Option<Tensor<D, Bool>>) -> MaybeBool<Dispatch> {
    match tensor {
        Some(tensor) => MaybeBool::Given(tensor.into_dispatch()),
        None => MaybeBool::Absent,
    }
}

/// A parameter in the precision of the activations it meets; its gradient comes back in its own.
pub(crate) fn stored_as<const D: usize>(parameter: Tensor<D>, dtype: DType) -> Tensor<D> {
    match parameter.dtype() == dtype {
        true => parameter,
        false => parameter.cast(dtype),
    }
}
