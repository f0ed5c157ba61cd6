//! What a graph is given and what it makes.

use ort::{
    session::SessionInputValue,
    value::{DynValue, TensorRef},
};
use pocketmuse_package::{Dtype, Error, ErrorKind, Result};

use super::signature::signature;
use crate::engine::runtime::failed;

/// What a run is given: a shape and its values, row-major. Nothing is copied.
pub enum Input<'a> {
    /// Floats with their shape.
    F32(&'a [usize], &'a [f32]),
    /// Integers with their shape.
    I64(&'a [usize], &'a [i64]),
    /// The output of another run.
    Tensor(&'a Tensor),
}

impl Input<'_> {
    pub(super) fn value(&self) -> ort::Result<SessionInputValue<'_>> {
        Ok(match self {
            Self::F32(shape, data) => TensorRef::from_array_view((*shape, *data))?.into(),
            Self::I64(shape, data) => TensorRef::from_array_view((*shape, *data))?.into(),
            Self::Tensor(tensor) => (&tensor.value).into(),
        })
    }
}

/// A value in ONNX Runtime's memory. It outlives the session that made it.
pub struct Tensor {
    pub(super) at: String,
    pub(super) value: DynValue,
}

impl Tensor {
    /// A tensor of the caller's making; `data` is row-major.
    ///
    /// # Errors
    ///
    /// `EngineFailed` if `data` does not fill `shape`.
    pub fn f32(name: &str, shape: &[usize], data: Vec<f32>) -> Result<Self> {
        let value =
            ort::value::Tensor::from_array((shape, data)).map_err(|error| failed(name, &error))?;
        Ok(Self { at: name.to_owned(), value: value.into_dyn() })
    }

    /// Its extents.
    pub fn shape(&self) -> Vec<usize> {
        let (_, extents) = signature(self.value.dtype()).unwrap_or((Dtype::F32, &[]));
        extents.iter().map(|&extent| usize::try_from(extent).unwrap_or(0)).collect()
    }

    /// Its values, row-major.
    ///
    /// # Errors
    ///
    /// `EngineFailed` if it holds no f32.
    pub fn as_f32(&self) -> Result<&[f32]> {
        Ok(self
            .value
            .try_extract_tensor::<f32>()
            .map_err(|error| failed(self.at.as_str(), &error))?
            .1)
    }

    /// Its values, row-major.
    ///
    /// # Errors
    ///
    /// `EngineFailed` if it holds no i64.
    pub fn as_i64(&self) -> Result<&[i64]> {
        Ok(self
            .value
            .try_extract_tensor::<i64>()
            .map_err(|error| failed(self.at.as_str(), &error))?
            .1)
    }

    /// Its values, row-major, if its shape is `shape`.
    ///
    /// # Errors
    ///
    /// `EngineFailed` if it is another, or no f32.
    pub fn shaped(&self, shape: &[usize]) -> Result<&[f32]> {
        let found = self.shape();
        if found != shape {
            let detail = format!("expected f32 {shape:?}, found {found:?}");
            return Err(Error::new(ErrorKind::EngineFailed, self.at.as_str(), detail));
        }
        self.as_f32()
    }
}
