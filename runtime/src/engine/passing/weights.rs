//! A file of weights, mapped: its pages come when they are read, and leave when they are told to.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    ptr::{self, NonNull},
};

use ort::{
    AsPointer as _,
    memory::{Allocator, MemoryInfo},
    sys,
    value::DynValue,
};
use rustix::{
    mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap},
    param::page_size,
};

use super::constants::Constant;

/// A file in memory, for reading alone.
pub(super) struct MappedWeights {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping belongs to no thread, and nobody writes to it.
#[expect(unsafe_code, reason = "a pointer to bytes that nobody writes")]
unsafe impl Send for MappedWeights {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "a pointer to bytes that nobody writes")]
unsafe impl Sync for MappedWeights {}

impl MappedWeights {
    /// Maps the file at `path`.
    ///
    /// # Errors
    ///
    /// What the system says; a file without bytes cannot be mapped.
    #[expect(unsafe_code, reason = "the system's call takes pointers")]
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        // SAFETY: the address is the system's choice, so no memory of ours is replaced. What is
        // mapped is only read, and never as Rust's own values.
        let start =
            unsafe { mmap(ptr::null_mut(), bytes, ProtFlags::READ, MapFlags::SHARED, &file, 0)? };
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("no address"))?;
        Ok(Self { start, bytes })
    }

    /// The size of the file when it was mapped.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops all pages from the process' memory. Whoever reads one again gets it from the file.
    ///
    /// # Errors
    ///
    /// What the system says.
    #[expect(unsafe_code, reason = "the system's call takes pointers")]
    pub(super) fn leave(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping, which is shared and for reading alone: what is read
        // there before and after is the same.
        unsafe { madvise(self.start.as_ptr().cast(), self.bytes, Advice::LinuxDontNeed) }?;
        Ok(())
    }

    /// A constant for ONNX Runtime, which neither copies nor frees it.
    ///
    /// # Errors
    ///
    /// If ONNX Runtime does not take it; a type that no package has is one.
    ///
    /// # Safety
    ///
    /// The mapping must outlive the value and whatever uses it.
    #[expect(unsafe_code, reason = "a value that points into a mapping has no lifetime")]
    pub(super) unsafe fn value(&self, constant: &Constant) -> ort::Result<DynValue> {
        let Constant { name, shape, offset, bytes, .. } = constant;
        let element = element_type(constant.element).ok_or_else(|| {
            ort::Error::new(format!("{name}: expected a number, found another type"))
        })?;
        assert!(
            offset.checked_add(*bytes).is_some_and(|end| end <= self.bytes),
            "it was found here"
        );
        let (memory, mut value) = (MemoryInfo::default(), ptr::null_mut());
        // SAFETY: all pointers are valid during the call; the values lie within the mapping, which
        // outlives them. ONNX Runtime takes a pointer to write to and never writes to a constant.
        let made = unsafe {
            let data = self.start.as_ptr().add(*offset).cast();
            let create = ort::api().CreateTensorWithDataAsOrtValue;
            let status = create(
                memory.ptr(),
                data,
                *bytes,
                shape.as_ptr(),
                shape.len(),
                element,
                &raw mut value,
            );
            ort::Error::result_from_status(status)
        };
        made?;
        let value = NonNull::new(value).ok_or_else(|| ort::Error::new("expected a value"))?;
        // SAFETY: it was just made and is nobody else's.
        Ok(unsafe { DynValue::from_ptr(value, Some(&Allocator::default())) })
    }
}

impl Drop for MappedWeights {
    #[expect(unsafe_code, reason = "the system's call takes pointers")]
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and nothing that uses it is left.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
        if let Err(error) = unmapped {
            log::debug!("weights stay mapped: {error}");
        }
    }
}

/// A type of elements that weights have, by its number in ONNX, which is ONNX Runtime's.
pub(super) fn element_type(number: u64) -> Option<sys::ONNXTensorElementDataType> {
    use sys::ONNXTensorElementDataType as Type;
    Some(match number {
        1 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        2 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
        3 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
        6 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
        7 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
        10 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        _ => return None,
    })
}

/// What reads how many bytes of files this process has in memory.
///
/// # Errors
///
/// If the system does not tell.
pub(super) fn resident_reader() -> io::Result<impl FnMut() -> Option<u64> + Send + 'static> {
    let file = File::open("/proc/self/statm")?;
    let page_bytes = page_size() as u64;
    let read = move || {
        let mut text = [0; 256];
        let length = file.read_at(&mut text, 0).ok()?;
        let text = str::from_utf8(&text[..length]).ok()?;
        // Pages: all, those in memory, and of these those of files.
        text.split(' ').nth(2)?.parse::<u64>().ok()?.checked_mul(page_bytes)
    };
    match read() {
        Some(_) => Ok(read),
        None => Err(io::Error::other("/proc/self/statm does not tell what is in memory")),
    }
}
