//! A constant of a graph, as far as it says what it is and where its values are. Reads no file.

use crate::{
    onnx::{self, data_location, tensor},
    wire::{self, Field},
};

/// A constant, without its values.
#[derive(Debug, Default)]
pub struct Constant<'a> {
    /// What nodes call it.
    pub name: &'a [u8],
    /// Its extents, outermost first.
    pub dims: Vec<u64>,
    /// The type of its elements, as ONNX numbers them.
    pub element: u64,
    /// Whether anything says that the values are in a file.
    pub is_outside: bool,
    /// Where in which file: key and value, in their order.
    pub entries: Vec<[&'a [u8]; 2]>,
}

impl<'a> Constant<'a> {
    /// Reads a `TensorProto`; `None` if it is none.
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let mut found = Self::default();
        wire::for_each(bytes, |number, field| {
            match (number, field) {
                (tensor::NAME, Field::Bytes(name)) => found.name = name,
                (tensor::DIMS, extents) => wire::numbers(extents, &mut found.dims)?,
                (tensor::DATA_TYPE, Field::Number(element)) => found.element = element,
                (tensor::EXTERNAL_DATA, Field::Bytes(entry)) => {
                    found.is_outside = true;
                    found.entries.push(onnx::entry_of(entry)?);
                }
                (tensor::DATA_LOCATION, Field::Number(place)) => {
                    found.is_outside |= place == data_location::EXTERNAL;
                }
                _ => {}
            }
            Some(())
        })?;
        Some(found)
    }

    /// The bytes of the values, as shape and type say.
    pub fn bytes(&self) -> Option<u64> {
        let count = self.dims.iter().copied().try_fold(1u64, u64::checked_mul)?;
        Some(count.checked_mul(onnx::element_bits(self.element)?)?.div_ceil(8))
    }
}
