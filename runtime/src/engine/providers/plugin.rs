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
use ort::{
    AsPointer as _,
    session::{Session, builder::SessionBuilder},
    sys,
};
use pocketmuse_package::{Error, ErrorKind, Result, files};

use super::{nodes::Nodes, plug_in::PlugIn, target::Target};
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
    _others: [*const (); 12],
    key_value: unsafe extern "system" fn(
        *const sys::OrtKeyValuePairs,
        *const libc_char,
    ) -> *const libc_char,
    _key_values: [*const (); 3],
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
    _hardware_vendor_id: *const (),
    hardware_vendor: unsafe extern "system" fn(*const sys::OrtHardwareDevice) -> *const libc_char,
    _hardware: [*const (); 2],
    provider_name: unsafe extern "system" fn(*const sys::OrtEpDevice) -> *const libc_char,
    _provider_vendor: *const (),
    metadata: unsafe extern "system" fn(*const sys::OrtEpDevice) -> *const sys::OrtKeyValuePairs,
    _options: *const (),
    hardware: unsafe extern "system" fn(*const sys::OrtEpDevice) -> *const sys::OrtHardwareDevice,
}

/// The table of C API 24 as far as it tells which nodes went to which provider.
#[repr(C)]
struct NodesTable {
    _v22: Table,
    _others: [*const (); 90],
    subgraphs: unsafe extern "system" fn(
        *const sys::OrtSession,
        *mut *const *const sys::OrtEpAssignedSubgraph,
        *mut usize,
    ) -> sys::OrtStatusPtr,
    provider_name: unsafe extern "system" fn(
        *const sys::OrtEpAssignedSubgraph,
        *mut *const libc_char,
    ) -> sys::OrtStatusPtr,
    nodes: unsafe extern "system" fn(
        *const sys::OrtEpAssignedSubgraph,
        *mut *const *const sys::OrtEpAssignedNode,
        *mut usize,
    ) -> sys::OrtStatusPtr,
    _node: [*const (); 2],
    operator: unsafe extern "system" fn(
        *const sys::OrtEpAssignedNode,
        *mut *const libc_char,
    ) -> sys::OrtStatusPtr,
}

#[expect(non_camel_case_types, reason = "C's name")]
type libc_char = std::ffi::c_char;

// A newer table of `ort` would move what follows it.
const _: () = assert!(sys::ORT_API_VERSION == 21);

/// The libraries that were registered.
static REGISTERED: Mutex<BTreeMap<Provider, PathBuf>> = Mutex::new(BTreeMap::new());

/// The table of C API 22 of the library in use.
fn table(runtime: &Runtime) -> Result<&'static Table> {
    // SAFETY: the table of that version begins as `Table` does.
    #[expect(unsafe_code, reason = "a foreign table cannot be proved to be what it is called")]
    unsafe {
        table_of(runtime, 22)
    }
}

/// The table of a version of the C API, of the library in use.
///
/// # Safety
///
/// The table of that version begins as `T` does.
#[expect(unsafe_code, reason = "a foreign function cannot be proved safe")]
unsafe fn table_of<T>(runtime: &Runtime, version: u32) -> Result<&'static T> {
    let missing = |found: String| {
        let detail =
            format!("expected ONNX Runtime 1.{version} or newer for plug-ins, found {found}");
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
    // SAFETY: the table of that version begins as `T` does, or there is none.
    let table = unsafe { (base.GetApi)(version).cast::<T>().as_ref() };
    table.ok_or_else(|| missing(runtime.build_info().to_owned()))
}

/// Checks that the plug-in's library can be what it is said to be, without running anything of it.
///
/// # Errors
///
/// `BadRequest` if the path is missing or relative, no file is there, or it was cut short.
pub(super) fn check(provider: Provider, library: Option<&Path>) -> Result<&Path> {
    let bad = |detail: String| {
        Error::new(ErrorKind::BadRequest, format!("provider_library: {provider}"), detail)
    };
    let path = library
        .ok_or_else(|| bad("expected the path of its plug-in's library, found none".to_owned()))?;
    let shown = path.display();
    if !path.is_absolute() {
        return Err(bad(format!("expected an absolute path, found {shown}")));
    }
    if !path.is_file() {
        return Err(bad(format!("expected a file, found none at {shown}")));
    }
    if is_truncated(path) {
        let detail = format!("expected a library that opens, found one cut short, {shown}");
        return Err(bad(detail));
    }
    Ok(path)
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
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    let used = registered.get(&provider).map(PathBuf::as_path);
    if used.is_some() && used == library {
        return Ok(()); // whatever became of the file
    }
    let path = check(provider, library)?;
    if let Some(used) = used {
        let (used, path) = (used.display(), path.display());
        return Err(bad(format!("expected {used}, which is in use, found {path}")));
    }
    look_at(path).map_err(bad)?;
    register_unchecked(runtime, plug_in.name, path)?;
    registered.insert(provider, path.to_owned());
    Ok(())
}

/// Says what is wrong with a file: a plug-in whose registration fails can crash the process at its
/// end.
#[expect(unsafe_code, reason = "opening a library runs its code")]
fn look_at(path: &Path) -> Result<(), String> {
    let shown = path.display();
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

/// All devices of all plug-ins.
#[expect(unsafe_code, reason = "a foreign function cannot be proved safe")]
fn listed<'a>(runtime: &Runtime, table: &Table) -> ort::Result<&'a [*const sys::OrtEpDevice]> {
    let environment = runtime.environment().ptr();
    // SAFETY: they stay until a plug-in is registered or taken away; that happens here alone, and
    // whoever asks has its own registered.
    unsafe { list(|devices, count| (table.devices)(environment, devices, count)) }
}

/// The devices of a plug-in that is loaded: what they are, whose, and the plug-in's version.
#[expect(unsafe_code, reason = "a foreign function cannot be proved safe")]
pub(super) fn devices(runtime: &Runtime, plug_in: &PlugIn) -> Vec<String> {
    let Ok(table) = table(runtime) else { return Vec::new() };
    let shown = |text: *const libc_char| {
        // SAFETY: texts of devices end with a zero, and stay as long as their plug-in.
        (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    };
    let device = |device: &*const sys::OrtEpDevice| {
        // SAFETY: devices, their names, hardware and pairs stay as long as their plug-in.
        let (name, kind, vendor, version) = unsafe {
            let hardware = (table.hardware)(*device);
            let version = (table.key_value)((table.metadata)(*device), c"version".as_ptr());
            let kind = (table.hardware_type)(hardware);
            ((table.provider_name)(*device), kind, (table.hardware_vendor)(hardware), version)
        };
        (shown(name)? == plug_in.name).then(|| {
            let kind = format!("{kind:?}");
            let kind = kind.rsplit('_').next().unwrap_or_default().to_owned();
            let told = [Some(kind), shown(vendor), shown(version)];
            told.into_iter().flatten().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
        })
    };
    listed(runtime, table).unwrap_or_default().iter().filter_map(device).collect()
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
    let devices = listed(runtime, table).map_err(|error| failed(at, &error))?;
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

/// Which nodes of a session's graph its plug-in took, where ONNX Runtime is 1.24 or newer and was
/// told to take note.
#[expect(unsafe_code, reason = "a foreign function cannot be proved safe")]
pub(super) fn nodes(runtime: &Runtime, plug_in: &PlugIn, session: &Session) -> Option<Nodes> {
    // SAFETY: the table of that version begins as `NodesTable` does.
    let table = unsafe { table_of::<NodesTable>(runtime, 24) }.ok()?;
    let mut found = Nodes::default();
    // SAFETY: the session stays meanwhile, and what is returned stays as long as it.
    let subgraphs =
        unsafe { list(|all, count| (table.subgraphs)(session.ptr(), all, count)) }.ok()?;
    for &subgraph in subgraphs {
        // SAFETY: as above; the names end with a zero.
        let (name, nodes) = unsafe {
            let name = text(|name| (table.provider_name)(subgraph, name))?;
            (name, list(|all, count| (table.nodes)(subgraph, all, count)).ok()?)
        };
        found.all += nodes.len();
        if name == plug_in.name {
            found.taken += nodes.len();
            continue;
        }
        for &node in nodes {
            // SAFETY: as above.
            let operator = unsafe { text(|name| (table.operator)(node, name)) }?;
            *found.left.entry(operator).or_default() += 1;
        }
    }
    (found.all > 0).then_some(found)
}

/// The list that `read` fills in.
///
/// # Safety
///
/// What is written is so long, and stays.
#[expect(unsafe_code, reason = "a foreign function cannot be proved safe")]
unsafe fn list<'a, T>(
    read: impl FnOnce(*mut *const *const T, *mut usize) -> sys::OrtStatusPtr,
) -> ort::Result<&'a [*const T]> {
    let (mut all, mut count) = (ptr::null(), 0);
    // SAFETY: the caller's word.
    unsafe {
        ort::Error::result_from_status(read(&raw mut all, &raw mut count))?;
        Ok(if count == 0 { &[] } else { slice::from_raw_parts(all, count) })
    }
}

/// The text that `read` fills in; `None` if it fails.
///
/// # Safety
///
/// What is written ends with a zero.
#[expect(unsafe_code, reason = "a foreign function cannot be proved safe")]
unsafe fn text(read: impl FnOnce(*mut *const libc_char) -> sys::OrtStatusPtr) -> Option<String> {
    let mut text = ptr::null();
    // SAFETY: the caller's word.
    unsafe {
        ort::Error::result_from_status(read(&raw mut text)).ok()?;
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}
