//! One safetensors file: its header is read and validated once, then trusted; values are read when
//! asked for.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Mutex,
};

use half::{bf16, f16, slice::HalfFloatSliceExt};
use pocketmuse_package::files;
use safetensors::tensor::{Dtype as FileDtype, Metadata, TensorInfo as FileInfo};

use super::found;
use crate::error::{Error, ErrorKind, Result, bad_checkpoint};

/// The format's own limit on the header.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// A pointer of Git LFS is smaller.
const MOST_POINTER_BYTES: u64 = 1024;

/// Where a tensor lies, and what it is.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    /// The type as the file names it: `F16`.
    pub dtype: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Size in the file.
    pub bytes: u64,
    kind: FileDtype,
    offset: u64,
}

/// What tensors are read from: a file, or its bytes.
trait Source: Read + Seek + Send {}

impl<T: Read + Seek + Send> Source for T {}

/// An open file. Reads are positioned, so memory holds the tensors being read and no mapping.
pub(super) struct TensorFile {
    path: PathBuf,
    file: Mutex<Box<dyn Source>>,
}

impl TensorFile {
    pub(super) fn open(path: &Path) -> Result<(Self, BTreeMap<String, TensorInfo>)> {
        let failed = |error| Error::io(path, error);
        found::no_broken_link(path)?;
        let mut file = files::open(path, ErrorKind::BadCheckpoint)?;
        let size = file.metadata().map_err(failed)?.len();
        if size < MOST_POINTER_BYTES {
            let mut contents = Vec::new();
            file.read_to_end(&mut contents).map_err(failed)?;
            found::no_pointer(path, &contents)?;
            file.rewind().map_err(failed)?;
        }
        Self::of(path, Box::new(file), size)
    }

    /// A file whose bytes are in memory, which messages call `path`.
    pub(super) fn in_memory(
        path: &Path,
        bytes: &'static [u8],
    ) -> Result<(Self, BTreeMap<String, TensorInfo>)> {
        Self::of(path, Box::new(Cursor::new(bytes)), bytes.len() as u64)
    }

    fn of(
        path: &Path,
        mut file: Box<dyn Source>,
        size: u64,
    ) -> Result<(Self, BTreeMap<String, TensorInfo>)> {
        let tensors = read_header(&mut file, size).map_err(|error| error.within(path.display()))?;
        Ok((Self { path: path.to_owned(), file: Mutex::new(file) }, tensors))
    }

    /// A tensor's values as f32. Refuses values that are not finite.
    pub(super) fn read(&self, name: &str, info: &TensorInfo) -> Result<Vec<f32>> {
        let length = usize::try_from(info.bytes)
            .map_err(|_| bad_checkpoint(name, "too large for this machine"))?;
        let mut bytes = vec![0; length];
        {
            let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let read =
                file.seek(SeekFrom::Start(info.offset)).and_then(|_| file.read_exact(&mut bytes));
            read.map_err(|error| Error::io(&self.path, error))?;
        }
        let values = decode(&bytes, info.kind).ok_or_else(|| {
            bad_checkpoint(name, format!("expected f32, f16 or bf16, found {}", info.dtype))
                .within(self.path.display())
        })?;
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => {
                let detail =
                    format!("expected finite values, found {} at index {index}", values[index]);
                Err(bad_checkpoint(name, detail).within(self.path.display()))
            }
            None => Ok(values),
        }
    }
}

/// Little-endian bytes as f32; `None` if the type is none of the three.
fn decode(bytes: &[u8], dtype: FileDtype) -> Option<Vec<f32>> {
    let pairs = || bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    match dtype {
        FileDtype::F32 => Some(
            bytes
                .chunks_exact(4)
                .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
                .collect(),
        ),
        FileDtype::F16 => {
            let halves: Vec<f16> = pairs().map(f16::from_bits).collect();
            let mut values = vec![0.0; halves.len()];
            // By the processor's own instruction where it has one.
            halves.convert_to_f32_slice(&mut values);
            Some(values)
        }
        FileDtype::BF16 => Some(pairs().map(|bits| bf16::from_bits(bits).to_f32()).collect()),
        _ => None,
    }
}

fn read_header(file: &mut dyn Source, size: u64) -> Result<BTreeMap<String, TensorInfo>> {
    let wrong = |detail: String| bad_checkpoint("header", detail);
    let mut length = [0; 8];
    file.read_exact(&mut length)
        .map_err(|_| wrong(format!("expected at least 8 bytes, found {size}")))?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES || length > size - 8 {
        let limit = MAX_HEADER_BYTES.min(size - 8);
        return Err(wrong(format!("expected a header of at most {limit} bytes, found {length}")));
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).map_err(|error| wrong(error.to_string()))?;
    let available = size - 8 - length;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| {
        fault(&header, available).unwrap_or_else(|| wrong(format!("expected JSON, found: {error}")))
    })?;
    let tensors = metadata.tensors().into_iter().map(|(name, info)| {
        let (begin, end) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        if end > available {
            return Err(outside(&name, info, available));
        }
        let info = TensorInfo {
            dtype: format!("{:?}", info.dtype),
            shape: info.shape.clone(),
            bytes: end - begin,
            kind: info.dtype,
            offset: 8 + length + begin,
        };
        Ok((name, info))
    });
    tensors.collect()
}

/// What is wrong with a header that the library refuses, in words; `None` if it is no JSON of
/// tensors.
fn fault(header: &[u8], available: u64) -> Option<Error> {
    let mut entries: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    entries.remove("__metadata__");
    let mut tensors = Vec::new();
    for (name, entry) in entries {
        match serde_json::from_value::<FileInfo>(entry) {
            Ok(info) => tensors.push((name, info)),
            Err(error) => {
                let detail = format!("expected dtype, shape and data_offsets, found: {error}");
                return Some(bad_checkpoint(name, detail));
            }
        }
    }
    tensors
        .iter()
        .find_map(|(name, info)| wrong_size(name, info, available))
        .or_else(|| wrong_place(tensors))
}

fn wrong_size(name: &str, info: &FileInfo, available: u64) -> Option<Error> {
    let (begin, end) = info.data_offsets;
    let Some(found) = end.checked_sub(begin) else {
        return Some(outside(name, info, available));
    };
    let elements = info.shape.iter().try_fold(1usize, |count, extent| count.checked_mul(*extent));
    let bits = elements.and_then(|count| count.checked_mul(info.dtype.bitsize()));
    let expected = bits.map(|bits| bits / 8);
    if expected == Some(found) {
        return None;
    }
    let expected =
        expected.map_or("an impossible size".to_owned(), |bytes| format!("{bytes} bytes"));
    let FileInfo { dtype, shape, .. } = info;
    let detail = format!("expected {expected} for {dtype:?} {shape:?}, found {found}");
    Some(bad_checkpoint(name, detail))
}

/// Each tensor's data begins where the one before it ends.
fn wrong_place(mut tensors: Vec<(String, FileInfo)>) -> Option<Error> {
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let (mut before, mut end) = ("the header".to_owned(), 0);
    for (name, info) in tensors {
        let (begin, next) = info.data_offsets;
        if begin < end {
            let detail = format!("expected data of its own, found it overlapping {before}");
            return Some(bad_checkpoint(name, detail));
        }
        if begin > end {
            let detail = format!("expected data behind {before} at {end}, found it at {begin}");
            return Some(bad_checkpoint(name, detail));
        }
        (before, end) = (name, next);
    }
    None
}

fn outside(name: &str, info: &FileInfo, available: u64) -> Error {
    let (begin, end) = info.data_offsets;
    let detail =
        format!("expected data within {available} bytes (truncated file?), found {begin}..{end}");
    bad_checkpoint(name, detail)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn open(header: &str, data: &[u8]) -> Result<(TensorFile, BTreeMap<String, TensorInfo>)> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(&(header.len() as u64).to_le_bytes()).expect("written");
        file.write_all(header.as_bytes()).expect("written");
        file.write_all(data).expect("written");
        TensorFile::open(file.path())
    }

    #[test]
    fn reads_all_three_float_types() {
        let header = r#"{"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},
            "b":{"dtype":"BF16","shape":[1],"data_offsets":[2,4]},
            "c":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        let mut data = f16::from_f32(1.5).to_le_bytes().to_vec();
        data.extend(bf16::from_f32(-2.0).to_le_bytes());
        data.extend(0.1f32.to_le_bytes());
        let (file, tensors) = open(header, &data).expect("valid");
        for (name, expected) in [("a", 1.5), ("b", -2.0), ("c", 0.1)] {
            assert_eq!(file.read(name, &tensors[name]).expect("readable"), [expected]);
        }
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let cases = [
            ("{", "header: expected JSON"),
            (
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
                "a: expected data within 4 bytes (truncated",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
                "a: expected 8 bytes for F32 [2], found 4",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
                "a: expected data within",
            ),
            (
                r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},
                    "b":{"dtype":"F16","shape":[1],"data_offsets":[2,4]}}"#,
                "b: expected data of its own, found it overlapping a",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#,
                "a: expected an impossible size",
            ),
            (
                r#"{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}"#,
                "a: expected dtype, shape and data_offsets",
            ),
            (
                r#"{"a":{"dtype":"F16","shape":[1],"data_offsets":[2,4]}}"#,
                "a: expected data behind the header at 0, found it at 2",
            ),
            (r#"{"__metadata__":3}"#, "header: expected JSON"),
        ];
        for (header, expected) in cases {
            let error = open(header, &[0; 4]).map(|_| ()).expect_err(expected).to_string();
            assert!(error.contains(expected), "expected {expected}, found {error}");
        }
    }

    #[test]
    fn an_oversized_header_is_refused_before_it_is_read() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(&u64::MAX.to_le_bytes()).expect("written");
        let error = TensorFile::open(file.path()).map(|_| ()).expect_err("oversized").to_string();
        assert!(error.contains("expected a header of at most 0 bytes"), "{error}");
    }

    #[test]
    fn refuses_values_that_are_not_finite() {
        let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let data = [1.0f32, f32::NAN].map(f32::to_le_bytes).concat();
        let (file, tensors) = open(header, &data).expect("a valid header");
        let error = file.read("a", &tensors["a"]).expect_err("NaN").to_string();
        assert!(error.contains("a: expected finite values, found NaN at index 1"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(
            header in "\\PC{0,80}",
            data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..9),
        ) {
            let _ = open(&header, &data);
        }
    }
}
