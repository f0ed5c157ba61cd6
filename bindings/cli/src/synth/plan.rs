//! The list of a network's tensors before they exist, and how it becomes a
//! safetensors file. Knows the file format, not the networks.

use std::{
    fs::File,
    io::{BufWriter, Write},
    ops::ControlFlow,
    path::Path,
};

use pocketmuse_package::{Dtype, Error, ErrorKind, Result};
use serde_json::{Map, json};

use super::fill::{Fill, Values};

/// A tensor to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its extents, outermost first.
    pub shape: Vec<usize>,
    /// What it is filled with.
    pub fill: Fill,
}

impl Planned {
    /// How many values it holds.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The tensors of one network, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The tensors.
    pub tensors: Vec<Planned>,
}

impl Plan {
    /// A tensor of any shape.
    pub fn tensor(&mut self, name: impl Into<String>, shape: &[usize], fill: Fill) {
        self.tensors.push(Planned { name: name.into(), shape: shape.to_vec(), fill });
    }

    /// A norm's weight: ones.
    pub fn scale(&mut self, name: &str, channels: usize) {
        self.tensor(format!("{name}.weight"), &[channels], Fill::Constant(1.0));
    }

    /// A norm's weight and bias: ones and small values.
    pub fn norm(&mut self, name: &str, channels: usize) {
        self.scale(name, channels);
        self.bias(name, channels);
    }

    /// A bias: small values.
    pub fn bias(&mut self, name: &str, channels: usize) {
        self.tensor(format!("{name}.bias"), &[channels], Fill::Random(0.02));
    }

    /// A weight whose output has `gain` times the standard deviation of its input: `shape` is
    /// `[out, in, kernel…]`.
    pub fn weight(&mut self, name: &str, shape: &[usize], gain: f32) {
        let fan_in: usize = shape[1..].iter().product();
        self.tensor(format!("{name}.weight"), shape, Fill::Random(gain / (fan_in as f32).sqrt()));
    }

    /// [`Plan::weight`] with a bias.
    pub fn biased(&mut self, name: &str, shape: &[usize], gain: f32) {
        self.weight(name, shape, gain);
        self.bias(name, shape[0]);
    }

    /// How many values all tensors hold.
    pub fn parameters(&self) -> usize {
        self.tensors.iter().map(Planned::count).sum()
    }

    /// Writes the tensors to a new safetensors file, one piece in memory at a time.
    ///
    /// `on_tensor` is told the bytes of each tensor once it is written.
    ///
    /// # Errors
    ///
    /// `Io` if the file cannot be written; `BadRequest` if `dtype` is not a float; `Cancelled` if
    /// `on_tensor` breaks.
    pub fn write(
        &self,
        path: &Path,
        seed: u64,
        dtype: Dtype,
        mut on_tensor: impl FnMut(&Planned, usize) -> ControlFlow<()>,
    ) -> Result<()> {
        let at = |error| Error::io(path, error);
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(at)?);
        out.write_all(&self.header(dtype)).map_err(at)?;
        for tensor in &self.tensors {
            let values = Values::new(seed, &tensor.name);
            values
                .write(&mut out, tensor.count(), tensor.fill, dtype)
                .map_err(|error| error.within(path.display()))?;
            if on_tensor(tensor, tensor.count() * dtype.bytes()).is_break() {
                return Err(Error::new(ErrorKind::Cancelled, "", "stopped"));
            }
        }
        out.flush().map_err(at)
    }

    /// Eight bytes of length and a JSON object, padded so that the data begins at a multiple of 8.
    fn header(&self, dtype: Dtype) -> Vec<u8> {
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
        let mut start = 0;
        for tensor in &self.tensors {
            let end = start + tensor.count() * dtype.bytes();
            let dtype = dtype.name().to_uppercase();
            let entry =
                json!({ "dtype": dtype, "shape": tensor.shape, "data_offsets": [start, end] });
            header.insert(tensor.name.clone(), entry);
            start = end;
        }
        let mut text = serde_json::Value::Object(header).to_string().into_bytes();
        text.resize(text.len().next_multiple_of(8), b' ');
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.append(&mut text);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_a_header_and_the_values_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.safetensors");
        let mut plan = Plan::default();
        plan.scale("norm", 3);
        plan.weight("linear", &[2, 4], 1.0);
        let mut seen = Vec::new();
        plan.write(&path, 0, Dtype::F16, |tensor, bytes| {
            seen.push((tensor.name.clone(), bytes));
            ControlFlow::Continue(())
        })
        .expect("written");
        assert_eq!(seen, [("norm.weight".to_owned(), 6), ("linear.weight".to_owned(), 16)]);

        let bytes = fs::read(&path).expect("read");
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
        assert_eq!((length % 8, bytes.len()), (0, 8 + length + 22));
        let header: serde_json::Value =
            serde_json::from_slice(&bytes[8..8 + length]).expect("JSON");
        assert_eq!(
            header["linear.weight"],
            json!({ "dtype": "F16", "shape": [2, 4], "data_offsets": [6, 22] })
        );
        assert_eq!(bytes[8 + length..][..6], [0, 0x3c, 0, 0x3c, 0, 0x3c]);
    }

    #[test]
    fn stops_when_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut plan = Plan::default();
        plan.scale("norm", 3);
        let stopped =
            plan.write(&folder.path().join("a"), 0, Dtype::F32, |_, _| ControlFlow::Break(()));
        assert_eq!(stopped.expect_err("stopped").kind(), ErrorKind::Cancelled);
    }
}
