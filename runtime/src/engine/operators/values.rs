//! What an operator is given, and what is wrong with it.

use std::fmt;

use ort::{
    Error, Result,
    operator::ComputeContext,
    value::{PrimitiveTensorElementType, ValueRef},
};

/// Input number `index`, which must be there.
pub(super) fn input(context: &ComputeContext, index: usize) -> Result<ValueRef<'_>> {
    context.input(index)?.ok_or_else(|| Error::new(format!("expected input {index}, found none")))
}

/// The numbers of the optional input `index`, if it is there.
pub(super) fn optional<T: PrimitiveTensorElementType + Copy>(
    context: &ComputeContext,
    index: usize,
) -> Result<Option<Vec<T>>> {
    let Some(value) = context.input(index)? else { return Ok(None) };
    Ok(Some(value.try_extract_tensor::<T>()?.1.to_vec()))
}

/// What was expected, and what was found.
pub(super) fn wrong(expected: &str, found: impl fmt::Debug) -> Error {
    Error::new(format!("expected {expected}, found {found:?}"))
}

/// As an error, that an output is not there.
pub(super) fn no_output() -> Error {
    Error::new("expected an output, found none")
}
