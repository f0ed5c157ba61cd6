//! Reference tensors from a safetensors file: read whole, validated, then trusted. Knows no stage.

use std::{collections::BTreeMap, path::Path};

use pocketmuse_package::{Error, ErrorKind, Result, files};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// A file larger than this is refused before it is read.
const MAX_BYTES: u64 = 1 << 30;

/// The tensors of a reference file.
pub(crate) struct Golden {
    tensors: BTreeMap<String, Reference>,
}

struct Reference {
    shape: Vec<usize>,
    values: Values,
}

enum Values {
    F32(Vec<f32>),
    I64(Vec<i64>),
    Other(Dtype),
}

impl Golden {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// `Io` if it cannot be read; `BadInput` if it is no safetensors file, or larger than 1.07 GB.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let bytes = files::read_bounded(path, MAX_BYTES, ErrorKind::BadInput)?;
        Self::parse(&bytes).map_err(|error| error.within(path.display()))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes)
            .map_err(|error| bad("", format!("expected a safetensors file, found: {error}")))?;
        let tensors =
            file.iter().map(|(name, view)| (name.to_owned(), Reference::read(&view))).collect();
        Ok(Self { tensors })
    }

    /// A float tensor of a rank: its shape, no extent 0, and its values, row-major. `None` if the
    /// file lacks it.
    ///
    /// # Errors
    ///
    /// `BadInput` if it is of another type or rank, or empty.
    pub(crate) fn f32(&self, name: &str, rank: usize) -> Result<Option<(&[usize], &[f32])>> {
        let Some(tensor) = self.ranked(name, rank)? else { return Ok(None) };
        match &tensor.values {
            Values::F32(values) => Ok(Some((&tensor.shape, values))),
            other => Err(bad(name, format!("expected f32, found {}", other.dtype()))),
        }
    }

    /// An integer tensor, as for [`Self::f32`].
    ///
    /// # Errors
    ///
    /// `BadInput` if it is of another type or rank, or empty.
    pub(crate) fn i64(&self, name: &str, rank: usize) -> Result<Option<(&[usize], &[i64])>> {
        let Some(tensor) = self.ranked(name, rank)? else { return Ok(None) };
        match &tensor.values {
            Values::I64(values) => Ok(Some((&tensor.shape, values))),
            other => Err(bad(name, format!("expected i64, found {}", other.dtype()))),
        }
    }

    fn ranked(&self, name: &str, rank: usize) -> Result<Option<&Reference>> {
        let Some(tensor) = self.tensors.get(name) else { return Ok(None) };
        if tensor.shape.len() != rank || tensor.shape.contains(&0) {
            return Err(bad(
                name,
                format!("expected {rank} extents above 0, found {:?}", tensor.shape),
            ));
        }
        Ok(Some(tensor))
    }
}

impl Reference {
    fn read(view: &TensorView<'_>) -> Self {
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F32 => Values::F32(
                data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            ),
            Dtype::I64 => Values::I64(
                data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect(),
            ),
            other => Values::Other(other),
        };
        Self { shape: view.shape().to_vec(), values }
    }
}

impl Values {
    fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::I64(_) => Dtype::I64,
            Self::Other(dtype) => *dtype,
        }
    }
}

/// The error of a reference file at a tensor.
pub(crate) fn bad(name: &str, detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::BadInput, name, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dtype: Dtype, shape: &[usize], data: &[u8]) -> Vec<u8> {
        let view = TensorView::new(dtype, shape.to_vec(), data).expect("consistent");
        safetensors::serialize([("x", view)], None).expect("serializes")
    }

    #[test]
    fn reads_what_is_there_and_says_what_is_wrong() {
        let golden = Golden::parse(&file(Dtype::F32, &[1, 2], &[0, 0, 128, 63, 0, 0, 0, 64]))
            .expect("valid");
        assert_eq!(golden.f32("x", 2).expect("f32"), Some((&[1, 2][..], &[1.0, 2.0][..])));
        assert_eq!(golden.f32("y", 2).expect("absent"), None);
        let cases = [
            (golden.f32("x", 3).map(|_| ()), "x: expected 3 extents above 0, found [1, 2]"),
            (golden.i64("x", 2).map(|_| ()), "x: expected i64, found F32"),
        ];
        for (result, expected) in cases {
            let error = result.expect_err(expected);
            assert_eq!((error.to_string().as_str(), error.kind()), (expected, ErrorKind::BadInput));
        }
        let empty = Golden::parse(&file(Dtype::I64, &[0, 2], &[])).expect("valid");
        assert!(empty.i64("x", 2).is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100),
        ) {
            let _ = Golden::parse(&bytes);
        }

        #[test]
        fn never_panics_on_a_changed_byte(at in 0usize..80, byte: u8) {
            let mut bytes = file(Dtype::I64, &[1], &[0; 8]);
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(golden) = Golden::parse(&bytes) {
                let _ = (golden.f32("x", 1).is_ok(), golden.i64("x", 1).is_ok());
            }
        }
    }
}
