//! Memory for the values of a session whose large values are few and of many sizes. Each of those
//! is mapped by itself and goes back to the system as soon as it is free; in an arena the holes that
//! smaller ones leave are too small for it, and stay. Memory as large as what a tile needs is kept
//! for the next tile, until the run ends.
//!
//! Linux and Android alone: elsewhere a session has ONNX Runtime's arena.

use std::{
    alloc::{self, Layout},
    collections::VecDeque,
    ffi::c_void,
    mem,
    ptr::{self, NonNull},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use ort::{
    AsPointer as _,
    environment::Environment,
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    sys,
};
use rustix::{
    mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap},
    param::page_size,
};

use super::loading::KEPT_BYTES;

/// From so many bytes on memory is mapped, and kept for another value of the same size.
const MAPPED: usize = 256 << 10;

/// From so many bytes on it is not kept: an image is as large as that, and no tile of one.
const LARGE: usize = 8 << 20;

/// What ONNX Runtime aligns a value to.
const ALIGNMENT: usize = 64;

/// What a value's memory takes besides it.
const AROUND: usize = mem::size_of::<Header>() + ALIGNMENT;

/// What lies before a value.
struct Header {
    start: *mut u8,
    source: Source,
}

/// Where the memory of a value is from.
#[derive(Clone, Copy)]
enum Source {
    /// A mapping of so many bytes.
    Mapping(usize),
    /// The program's allocator.
    Program(Layout),
    /// ONNX Runtime's own allocator.
    Runtime,
}

/// What ONNX Runtime calls. It is there for as long as the process: values outlive their session.
#[repr(C)]
struct Apart {
    calls: sys::OrtAllocator,
    info: MemoryInfo<'static>,
    /// ONNX Runtime's own.
    runtime: NonNull<sys::OrtAllocator>,
    kept: Mutex<Kept>,
    large: Mutex<Vec<Large>>,
}

// SAFETY: all but `kept` and `large` stays as it is, and those are behind locks.
#[expect(unsafe_code, reason = "pointers that nobody writes through")]
unsafe impl Send for Apart {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "pointers that nobody writes through")]
unsafe impl Sync for Apart {}

/// Mappings that are free, the last that became so at the end.
#[derive(Default)]
struct Kept {
    mappings: VecDeque<Mapping>,
    bytes: usize,
}

/// A value that is an image, and not free.
struct Large {
    /// Where its memory begins.
    start: usize,
    bytes: usize,
    /// How much of the value went back to the system, from its beginning.
    gone: usize,
}

/// Memory that is mapped.
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping belongs to no thread.
#[expect(unsafe_code, reason = "a pointer that is this value's alone")]
unsafe impl Send for Mapping {}

/// How ONNX Runtime asks for memory, as its table of functions says.
type Alloc = unsafe extern "system" fn(*mut sys::OrtAllocator, usize) -> *mut c_void;

/// The same, which fails by an exception of C++.
type Take = unsafe extern "system-unwind" fn(*mut sys::OrtAllocator, usize) -> *mut c_void;

static APART: OnceLock<Option<&'static Apart>> = OnceLock::new();

/// Whether sessions that use the environment's allocators get their memory here. ONNX Runtime is
/// told of it once.
pub(super) fn is_there(environment: &Environment) -> bool {
    let register = || {
        let made = register(environment);
        made.inspect_err(|error| log::warn!("an arena holds large images: {}", error.message()))
            .ok()
    };
    APART.get_or_init(register).is_some()
}

/// Gives back to the system what is kept for values to come.
pub(super) fn trim() {
    if let Some(Some(apart)) = APART.get() {
        *apart.kept() = Kept::default();
    }
}

/// Gives back to the system what of `value` lies before its byte number `at`, which is never read
/// again. Does nothing for a value that has no memory of its own.
///
/// `false` if more of it is gone already.
pub(super) fn leave_before(value: *const u8, at: usize) -> bool {
    let Some(Some(apart)) = APART.get() else { return true };
    let mut large = apart.large();
    let is_it =
        |large: &&mut Large| (large.start..large.start + large.bytes).contains(&value.addr());
    let Some(large) = large.iter_mut().find(is_it) else { return true };
    if at < large.gone {
        return false;
    }
    large.leave_before(value, at);
    true
}

#[expect(unsafe_code, reason = "ONNX Runtime's calls take pointers")]
fn register(environment: &Environment) -> ort::Result<&'static Apart> {
    let (device, kind) = (AllocationDevice::CPU, AllocatorType::Device);
    let info = MemoryInfo::new(device, 0, kind, MemoryType::Default)?;
    let mut runtime = ptr::null_mut();
    // SAFETY: it writes the pointer to an allocator that is never freed.
    unsafe {
        let status = (ort::api().GetAllocatorWithDefaultOptions)(&raw mut runtime);
        ort::Error::result_from_status(status)
    }?;
    let runtime = NonNull::new(runtime)
        .ok_or_else(|| ort::Error::new("expected ONNX Runtime's own allocator, found none"))?;
    let calls = sys::OrtAllocator {
        // SAFETY: the same function, of which it is told besides that it may unwind.
        Alloc: Some(unsafe { mem::transmute::<Take, Alloc>(take as Take) }),
        Free: Some(give_back),
        Info: Some(info_of),
        // SAFETY: plain numbers and no functions.
        ..unsafe { sys::OrtAllocator::default() }
    };
    let apart: &'static Apart = Box::leak(Box::new(Apart {
        calls,
        info,
        runtime,
        kept: Mutex::default(),
        large: Mutex::default(),
    }));
    let calls = ptr::from_ref(apart).cast::<sys::OrtAllocator>().cast_mut();
    // SAFETY: both live for as long as the process, and ONNX Runtime only calls what is in there.
    unsafe {
        let status = (ort::api().RegisterAllocator)(environment.ptr().cast_mut(), calls);
        ort::Error::result_from_status(status)
    }?;
    Ok(apart)
}

/// Memory for a value. Where there is none it fails as ONNX Runtime's own allocator does, which
/// becomes the error of a run.
///
/// # Safety
///
/// `this` is what [`register`] made.
#[expect(unsafe_code, reason = "ONNX Runtime calls it with pointers")]
unsafe extern "system-unwind" fn take(this: *mut sys::OrtAllocator, size: usize) -> *mut c_void {
    if size == 0 {
        return ptr::null_mut();
    }
    // SAFETY: as the caller promises.
    let apart = unsafe { &*this.cast::<Apart>() };
    let bytes = size.saturating_add(AROUND);
    let found = apart.found(bytes).unwrap_or_else(|| {
        let runtime = apart.runtime.as_ptr();
        // SAFETY: an allocator that is never freed, called as it is to be. An exception passes
        // through here, where nothing is to be dropped.
        let start = unsafe {
            let take = (*runtime).Alloc.map(|take| mem::transmute::<Alloc, Take>(take));
            take.map_or(ptr::null_mut(), |take| take(runtime, bytes))
        };
        (start.cast(), Source::Runtime)
    });
    let (start, source) = found;
    if start.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: header and value lie within `bytes` from `start` on, and both are aligned.
    unsafe {
        let past = start.add(mem::size_of::<Header>());
        let value = past.add(past.align_offset(ALIGNMENT));
        value.cast::<Header>().sub(1).write(Header { start, source });
        value.cast()
    }
}

/// Takes back what [`take`] gave.
///
/// # Safety
///
/// `this` is what [`register`] made, `value` null or what [`take`] returned, and nobody uses it.
#[expect(unsafe_code, reason = "ONNX Runtime calls it with pointers")]
unsafe extern "system" fn give_back(this: *mut sys::OrtAllocator, value: *mut c_void) {
    if value.is_null() {
        return;
    }
    // SAFETY: as the caller promises; the header was written with the value.
    let (apart, Header { start, source }) =
        unsafe { (&*this.cast::<Apart>(), value.cast::<Header>().sub(1).read()) };
    match source {
        Source::Mapping(bytes) => {
            if let Some(start) = NonNull::new(start) {
                apart.free(Mapping { start, bytes });
            }
        }
        // SAFETY: it came from there with this layout.
        Source::Program(layout) => unsafe { alloc::dealloc(start, layout) },
        Source::Runtime => {
            let runtime = apart.runtime.as_ptr();
            // SAFETY: it came from there.
            if let Some(free) = unsafe { (*runtime).Free } {
                unsafe { free(runtime, start.cast()) };
            }
        }
    }
}

/// What this allocator is for.
///
/// # Safety
///
/// `this` is what [`register`] made.
#[expect(unsafe_code, reason = "ONNX Runtime calls it with pointers")]
unsafe extern "system" fn info_of(this: *const sys::OrtAllocator) -> *const sys::OrtMemoryInfo {
    // SAFETY: as the caller promises.
    unsafe { (*this.cast::<Apart>()).info.ptr() }
}

impl Apart {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn large(&self) -> MutexGuard<'_, Vec<Large>> {
        self.large.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many bytes, if there are.
    #[expect(unsafe_code, reason = "memory as it is")]
    fn found(&self, bytes: usize) -> Option<(*mut u8, Source)> {
        if bytes < MAPPED {
            let layout = Layout::from_size_align(bytes, mem::align_of::<Header>()).ok()?;
            // SAFETY: more than no byte.
            let start = unsafe { alloc::alloc(layout) };
            return (!start.is_null()).then_some((start, Source::Program(layout)));
        }
        let bytes = bytes.checked_next_multiple_of(page_size())?;
        let mut kept = self.kept();
        let kept = if bytes < LARGE {
            kept.take(bytes)
        } else {
            *kept = Kept::default(); // another image has other tiles
            None
        };
        let mapping = kept.or_else(|| Mapping::new(bytes))?;
        let start = mapping.start.as_ptr();
        if bytes >= LARGE {
            self.large().push(Large { start: start.addr(), bytes, gone: 0 });
        }
        mem::forget(mapping); // the value has it now
        Some((start, Source::Mapping(bytes)))
    }

    fn free(&self, mapping: Mapping) {
        if mapping.bytes < LARGE {
            self.kept().add(mapping);
        } else {
            self.large().retain(|large| large.start != mapping.start.as_ptr().addr());
        }
    }
}

impl Kept {
    fn take(&mut self, bytes: usize) -> Option<Mapping> {
        let at = self.mappings.iter().rposition(|mapping| mapping.bytes == bytes)?;
        self.bytes -= bytes;
        self.mappings.remove(at)
    }

    /// Keeps a mapping, and drops those that were not used for longest.
    fn add(&mut self, mapping: Mapping) {
        self.bytes += mapping.bytes;
        self.mappings.push_back(mapping);
        while self.bytes > KEPT_BYTES
            && let Some(oldest) = self.mappings.pop_front()
        {
            self.bytes -= oldest.bytes;
        }
    }
}

impl Large {
    #[expect(unsafe_code, reason = "the system's call takes pointers")]
    fn leave_before(&mut self, value: *const u8, at: usize) {
        let pages = |end: usize| (value.addr() - self.start + end) / page_size() * page_size();
        // The first page has what lies before the value, too.
        let (from, to) = (pages(self.gone).max(page_size()), pages(at));
        if from < to {
            let first = value.with_addr(self.start + from).cast_mut().cast();
            // SAFETY: these pages are the value's, and nobody reads them until it is free.
            let left = unsafe { madvise(first, to - from, Advice::LinuxDontNeed) };
            if let Err(error) = left {
                log::debug!("rows stay in memory: {error}");
            }
        }
        self.gone = at;
    }
}

impl Mapping {
    #[expect(unsafe_code, reason = "the system's call takes pointers")]
    fn new(bytes: usize) -> Option<Self> {
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: the address is the system's choice, so no memory of ours is replaced.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), bytes, access, flags) }.ok()?;
        Some(Self { start: NonNull::new(start.cast())?, bytes })
    }
}

impl Drop for Mapping {
    #[expect(unsafe_code, reason = "the system's call takes pointers")]
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and nobody uses it.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
        if let Err(error) = unmapped {
            log::debug!("memory stays mapped: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What ONNX Runtime calls.
    fn registered() -> *mut sys::OrtAllocator {
        let environment = crate::engine::runtime::Runtime::for_tests().environment();
        assert!(is_there(environment));
        let apart = APART.get().copied().flatten().expect("registered");
        ptr::from_ref(apart).cast::<sys::OrtAllocator>().cast_mut()
    }

    fn mapping(pages: usize) -> Mapping {
        Mapping::new(pages * page_size()).expect("memory")
    }

    #[test]
    fn what_was_free_last_is_taken_first_and_the_oldest_goes() {
        let mut kept = Kept::default();
        let starts = [1, 2, 1].map(|pages| {
            let mapping = mapping(pages);
            let start = mapping.start;
            kept.add(mapping);
            start
        });
        let taken = kept.take(page_size()).expect("two of them");
        assert_eq!((taken.start, kept.bytes), (starts[2], 3 * page_size()));
        assert!(kept.take(3 * page_size()).is_none(), "none of that size");
        kept.add(mapping(KEPT_BYTES / page_size() - 1));
        assert_eq!((kept.mappings.len(), kept.bytes), (1, KEPT_BYTES - page_size()));
    }

    #[test]
    #[expect(unsafe_code, reason = "called as ONNX Runtime does")]
    fn values_of_any_size_are_whole_and_aligned() {
        let this = registered();
        for size in [1, 63, 4096, MAPPED - 1, MAPPED, LARGE - 1, LARGE, LARGE + 1] {
            // SAFETY: as ONNX Runtime calls it, and what is written is as large as was asked for.
            unsafe {
                let value = take(this, size).cast::<u8>();
                assert!(!value.is_null() && value.addr() % ALIGNMENT == 0, "{size}");
                value.write_bytes(7, size);
                assert_eq!([value.read(), value.add(size - 1).read()], [7, 7]);
                give_back(this, value.cast());
            }
        }
        // SAFETY: as above.
        unsafe {
            assert!(take(this, 0).is_null());
            give_back(this, ptr::null_mut());
        }
    }

    #[test]
    #[expect(unsafe_code, reason = "called as ONNX Runtime does")]
    fn what_was_read_leaves_and_the_rest_stays() {
        let this = registered();
        let page = page_size();
        for size in [LARGE, LARGE - 2 * page] {
            // SAFETY: as ONNX Runtime calls it, and what is read and written is as large.
            unsafe {
                let value = take(this, size).cast::<u8>();
                value.write_bytes(7, size);
                for at in [0, 1, 5 * page, 5 * page, 9 * page + 3] {
                    assert!(leave_before(value, at), "{at} of {size}");
                    assert_eq!([value.add(at).read(), value.add(size - 1).read()], [7; 2]);
                }
                let is_gone = size == LARGE;
                let expected = if is_gone { 0 } else { 7 };
                assert_eq!(value.add(6 * page).read(), expected, "{size}");
                assert_eq!(leave_before(value, 9 * page + 2), !is_gone, "{size}");
                give_back(this, value.cast());
                let next = take(this, size).cast::<u8>();
                assert!(leave_before(next, 0), "another value");
                give_back(this, next.cast());
            }
        }
    }
}
