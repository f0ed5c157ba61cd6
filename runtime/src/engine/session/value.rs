//! What a graph is given and what it makes.

use std::mem;

use half::{f16, slice::HalfFloatSliceExt as _};
use ort::{
    session::SessionInputValue,
    value::{DynValue, TensorRef},
};
use pocketmuse_package::{Dtype, Error, ErrorKind, Result};

use super::signature::signature;
use crate::engine::runtime::failed;

/// What a run is given: a shape and its values, row-major. Nothing is copied, unless the graph
/// wants floats or integers of another width.
pub enum Input<'a> {
    /// Floats with their shape.
    F32(&'a [usize], &'a [f32]),
    /// Integers with their shape.
    I64(&'a [usize], &'a [i64]),
    /// The output of another run.
    Tensor(&'a Tensor),
    /// The last row of the output of another run: its first extent is 1.
    LastRow(&'a Tensor),
}

impl Input<'_> {
    /// The value as the graph takes it: of `wanted`, if that is known.
    pub(super) fn value(&self, wanted: Option<Dtype>) -> ort::Result<SessionInputValue<'_>> {
        Ok(match (self, wanted) {
            (Self::F32(shape, data), Some(Dtype::F16)) => halves(shape, data)?,
            (Self::F32(shape, data), _) => TensorRef::from_array_view((*shape, *data))?.into(),
            (Self::I64(shape, data), Some(Dtype::I32)) => {
                let narrow = |&value: &i64| i32::try_from(value).unwrap_or(i32::MAX);
                let data: Vec<i32> = data.iter().map(narrow).collect();
                ort::value::Tensor::from_array((*shape, data))?.into()
            }
            (Self::I64(shape, data), _) => TensorRef::from_array_view((*shape, *data))?.into(),
            (Self::Tensor(tensor), wanted) => {
                let converted = tensor.converted((&tensor.shape(), 0), wanted)?;
                converted.unwrap_or_else(|| (&tensor.value).into())
            }
            (Self::LastRow(tensor), wanted) => {
                let (shape, first) = tensor.last_row();
                match tensor.converted((&shape, first), wanted)? {
                    Some(converted) => converted,
                    None if tensor.dtype() == Some(Dtype::F16) => {
                        let (_, data) = tensor.value.try_extract_tensor::<f16>()?;
                        TensorRef::from_array_view((shape, &data[first..]))?.into()
                    }
                    None => {
                        let (_, data) = tensor.value.try_extract_tensor::<f32>()?;
                        TensorRef::from_array_view((shape, &data[first..]))?.into()
                    }
                }
            }
        })
    }
}

fn halves(shape: &[usize], values: &[f32]) -> ort::Result<SessionInputValue<'static>> {
    let mut data = vec![f16::ZERO; values.len()];
    data.convert_from_f32_slice(values);
    Ok(ort::value::Tensor::from_array((shape, data))?.into())
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

    /// The same values as 32-bit floats, if they are halves.
    ///
    /// # Errors
    ///
    /// `EngineFailed` if ONNX Runtime does not make room for them.
    pub fn to_f32(self) -> Result<Self> {
        if self.dtype() != Some(Dtype::F16) {
            return Ok(self);
        }
        let halves = self.value.try_extract_tensor::<f16>();
        let values = halves.map_err(|error| failed(self.at.as_str(), &error))?.1.to_f32_vec();
        Self::f32(&self.at, &self.shape(), values)
    }

    /// The shape of its last row, with a first extent of 1, and where that begins.
    fn last_row(&self) -> (Vec<usize>, usize) {
        let mut shape = self.shape();
        let all: usize = shape.iter().product();
        let rows = shape.first_mut().map_or(1, |rows| mem::replace(rows, 1)).max(1);
        (shape, all - all / rows)
    }

    /// Its values of this shape from `first` on as floats of the other width, if those are `wanted`.
    fn converted(
        &self,
        (shape, first): (&[usize], usize),
        wanted: Option<Dtype>,
    ) -> ort::Result<Option<SessionInputValue<'static>>> {
        Ok(match (self.dtype(), wanted) {
            (Some(Dtype::F32), Some(Dtype::F16)) => {
                Some(halves(shape, &self.value.try_extract_tensor::<f32>()?.1[first..])?)
            }
            (Some(Dtype::F16), Some(Dtype::F32)) => {
                let data = self.value.try_extract_tensor::<f16>()?.1[first..].to_f32_vec();
                Some(ort::value::Tensor::from_array((shape, data))?.into())
            }
            _ => None,
        })
    }

    /// The type of its elements; `None` for one that no package has.
    fn dtype(&self) -> Option<Dtype> {
        signature(self.value.dtype()).map(|(dtype, _)| dtype)
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
