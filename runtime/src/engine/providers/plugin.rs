//! Providers that come as a plug-in: a library of its own, registered once in a process.
//!
//! `ort` is built for the table of C API 21, so that ONNX Runtime 1.21 works. What plug-ins need
//! came with 22: the library is asked for that table when one is wanted.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    fs, mem,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    ptr, slice,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use libloading::Library;
use ort::{AsPointer as _, session::builder::SessionBuilder, sys};
use pocketmuse_package::{Error, ErrorKind, Result, files};

use super::{PlugIn, target::Target};
use crate::{
    engine::{
        library::is_truncated,
        runtime::{Runtime, failed},
    },
    request::Provider,
};

/// The table of C API 22 as far as plug-ins need it: that of 21 and what follows, which later
/// versions never change. The order is that of `ort-sys`, feature `api-22`.
#[repr(C)]
struct Table {
    _v21: sys::OrtApi,
    _others: [*const (); 16],
    register: unsafe extern "system" fn(
        *mut sys::OrtEnv,
        *const libc_char,
        *const libc_char,
    ) -> sys::OrtStatusPtr,
    _unregister: *const (),
    devices: unsafe extern "system" fn(
        *const sys::OrtEnv,
        *mut *const *const sys::OrtEpDevice,
        *mut usize,
    ) -> sys::OrtStatusPtr,
    append: unsafe extern "system" fn(
        *mut sys::OrtSessionOptions,
        *mut sys::OrtEnv,
        *const *const sys::OrtEpDevice,
        usize,
        *const *const libc_char,
        *const *const libc_char,
        usize,
    ) -> sys::OrtStatusPtr,
    _policies: [*const (); 2],
    hardware_type:
        unsafe extern "system" fn(*const sys::OrtHardwareDevice) -> sys::OrtHardwareDeviceType,
    _hardware: [*const (); 4],
    provider_name: unsafe extern "system" fn(*const sys::OrtEpDevice) -> *const libc_char,
    _provider: [*const (); 3],
    hardware: unsafe extern "system" fn(*const sys::OrtEpDevice) -> *const sys::OrtHardwareDevice,
}

#[expect(non_camel_case_types, reason = "C's name")]
type libc_char = std::ffi::c_char;

// A newer table of `ort` would move what follows it.
const _: () = assert!(sys::ORT_API_VERSION == 21);

/// The libraries that were registered.
static REGISTERED: Mutex<BTreeMap<Provider, PathBuf>> = Mutex::new(BTreeMap::new());

/// The table of C API 22 of the library in use.
#[expect(unsafe_code, reason = "a foreign function cannot be proved safe")]
fn table(runtime: &Runtime) -> Result<&'static Table> {
    let missing = |found: String| {
        let detail = format!("expected ONNX Runtime 1.22 or newer for plug-ins, found {found}");
        Error::new(ErrorKind::EngineMissing, "provider", detail)
    };
    // SAFETY: the library is loaded already; this counts one more use of it.
    let library = unsafe { Library::new(runtime.path()) };
    let library = library.map_err(|error| missing(error.to_string()))?;
    // SAFETY: the symbol has this type in every version.
    let base = unsafe {
        library.get::<unsafe extern "C" fn() -> *const sys::OrtApiBase>(b"OrtGetApiBase\0")
    };
    let base = base.map_err(|error| missing(error.to_string()))?;
    // SAFETY: it may be called at any time, and what it returns stays as long as the library, which
    // `ort` never closes.
    let base = unsafe { base().as_ref() }.ok_or_else(|| missing("none".to_owned()))?;
    // SAFETY: the table of that version begins as `Table` does, or there is none.
    let table = unsafe { (base.GetApi)(22).cast::<Table>().as_ref() };
    table.ok_or_else(|| missing(runtime.build_info().to_owned()))
}

/// Looks at the plug-in's library and registers it under the provider's own name, unless that was
/// done before.
///
/// # Errors
///
/// `BadRequest` if the path is missing, relative or no plug-in, or the process uses another.
pub(super) fn register(
    runtime: &Runtime,
    (provider, plug_in): (Provider, &PlugIn),
    library: Option<&Path>,
) -> Result<()> {
    let bad = |detail: String| {
        Error::new(ErrorKind::BadRequest, format!("provider_library: {provider}"), detail)
    };
    let path = library
        .ok_or_else(|| bad("expected the path of its plug-in's library, found none".to_owned()))?;
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    match registered.get(&provider) {
        Some(used) if used == path => return Ok(()),
        Some(used) => {
            let (used, path) = (used.display(), path.display());
            return Err(bad(format!("expected {used}, which is in use, found {path}")));
        }
        None => look_at(path).map_err(bad)?,
    }
    register_unchecked(runtime, plug_in.name, path)?;
    registered.insert(provider, path.to_owned());
    Ok(())
}

/// Says what is wrong with a file: a plug-in whose registration fails can crash the process at its
/// end.
#[expect(unsafe_code, reason = "opening a library runs its code")]
fn look_at(path: &Path) -> Result<(), String> {
    let shown = path.display();
    if !path.is_absolute() {
        return Err(format!("expected an absolute path, found {shown}"));
    }
    if !path.is_file() {
        return Err(format!("expected a file, found none at {shown}"));
    }
    if is_truncated(path) {
        return Err(format!("expected a library that opens, found one cut short, {shown}"));
    }
    // SAFETY: whoever names a plug-in wants its code to run.
    let library = unsafe { Library::new(path) }
        .map_err(|error| format!("expected a library that opens, found {error}"))?;
    // SAFETY: the symbol is looked for and not used.
    let symbol = unsafe { library.get::<*const ()>(b"CreateEpFactories\0") };
    symbol.map(drop).map_err(|_| {
        format!("expected a plug-in, which has CreateEpFactories, found none in {shown}")
    })?;
    // What it leaves to be done at the end of the process needs its code, also when it is refused.
    mem::forget(library);
    Ok(())
}

/// What a plug-in is known by, besides its name: the libraries of its folder, with their sizes and
/// times, since the one that is registered brings others.
pub(super) fn version(library: &Path) -> String {
    let entries = fs::read_dir(files::parent(library)).into_iter().flatten().flatten();
    let libraries = entries.filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.contains(".so") && !name.ends_with(".dylib") {
            return None;
        }
        let metadata = fs::metadata(entry.path()).ok()?;
        let since = metadata.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(format!("{name} {} {}", metadata.len(), since.as_nanos()))
    });
    let mut libraries: Vec<_> = libraries.collect();
    libraries.sort();
    libraries.join("\n")
}

#[expect(unsafe_code, reason = "a foreign function cannot be proved safe")]
fn register_unchecked(runtime: &Runtime, name: &str, path: &Path) -> Result<()> {
    let (table, at) = (table(runtime)?, path.display().to_string());
    let text = |bytes: &[u8]| {
        CString::new(bytes).map_err(|error| {
            Error::new(ErrorKind::BadRequest, "provider_library", error.to_string())
        })
    };
    let (name, path) = (text(name.as_bytes())?, text(path.as_os_str().as_bytes())?);
    let environment = runtime.environment().ptr().cast_mut();
    // SAFETY: the environment stays as long as the process, and both texts end with a zero.
    let registered = unsafe {
        ort::Error::result_from_status((table.register)(environment, name.as_ptr(), path.as_ptr()))
    };
    registered.map_err(|error| failed(at, &error))
}

/// Hands a session to the best device of the provider.
///
/// # Errors
///
/// As for [`register`]; `EngineFailed` if the provider offers no such device.
#[expect(unsafe_code, reason = "a foreign function cannot be proved safe")]
pub(super) fn append(
    runtime: &Runtime,
    target: &Target<'_>,
    plug_in: &PlugIn,
    (builder, options): (&mut SessionBuilder, &[(&str, String)]),
) -> Result<()> {
    let provider = target.assignment.provider;
    register(runtime, (provider, plug_in), target.library)?;
    let (table, at) = (table(runtime)?, provider.name());
    let environment = runtime.environment().ptr().cast_mut();
    let (mut devices, mut count) = (ptr::null(), 0);
    // SAFETY: both are written, or an error is returned.
    let found = unsafe {
        ort::Error::result_from_status((table.devices)(
            environment,
            &raw mut devices,
            &raw mut count,
        ))
    };
    found.map_err(|error| failed(at, &error))?;
    let devices = match count {
        0 => &[][..],
        // SAFETY: these are so many, and stay until a plug-in is registered or taken away; that
        // happens here alone, and this one is registered.
        _ => unsafe { slice::from_raw_parts(devices, count) },
    };
    let hardware = |device: &*const sys::OrtEpDevice| {
        // SAFETY: devices, their names and hardware stay as long as their plug-in is registered.
        let (found, hardware) = unsafe {
            let hardware = (table.hardware_type)((table.hardware)(*device));
            (CStr::from_ptr((table.provider_name)(*device)), hardware)
        };
        (found.to_bytes() == plug_in.name.as_bytes()).then_some(hardware)
    };
    let of_type = |wanted: &sys::OrtHardwareDeviceType| {
        devices.iter().copied().find(|device| hardware(device).as_ref() == Some(wanted))
    };
    let device = plug_in.devices.iter().find_map(of_type).ok_or_else(|| {
        let found: Vec<_> = devices.iter().filter_map(hardware).collect();
        let expected = plug_in.devices;
        let detail = format!("expected a device of {expected:?}, found those of {found:?}");
        Error::new(ErrorKind::EngineFailed, at, detail)
    })?;
    let texts: Result<Vec<_>, _> = options
        .iter()
        .map(|(key, value)| Ok((CString::new(*key)?, CString::new(value.as_str())?)))
        .collect();
    let texts = texts.map_err(|error: std::ffi::NulError| {
        Error::new(ErrorKind::Internal, at, error.to_string())
    })?;
    let keys: Vec<_> = texts.iter().map(|(key, _)| key.as_ptr()).collect();
    let values: Vec<_> = texts.iter().map(|(_, value)| value.as_ptr()).collect();
    // SAFETY: the options are those of a session that is not made yet, there are as many keys as
    // values, and all is copied.
    let appended = unsafe {
        ort::Error::result_from_status((table.append)(
            builder.ptr_mut(),
            environment,
            &raw const device,
            1,
            keys.as_ptr(),
            values.as_ptr(),
            keys.len(),
        ))
    };
    appended.map_err(|error| failed(at, &error))
}
