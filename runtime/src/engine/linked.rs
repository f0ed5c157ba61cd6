//! ONNX Runtime that the program's linker brought, as on iOS. Opens nothing.

use std::ffi::CStr;

use ort::{environment::EnvironmentBuilder, sys};

use super::library;

/// Hands the linked ONNX Runtime to `ort`, or says what is wrong with it.
#[expect(unsafe_code, reason = "a foreign function cannot be proved safe")]
pub(super) fn init() -> Result<EnvironmentBuilder, String> {
    // SAFETY: the function may be called at any time, and what it returns stays as long as the
    // process.
    let base = unsafe { sys::OrtGetApiBase().as_ref() };
    let base = base.ok_or("a library, but not ONNX Runtime")?;
    // SAFETY: the text ends with a zero and stays as long as the process.
    let version = unsafe { CStr::from_ptr((base.GetVersionString)()) }.to_string_lossy();
    if !library::is_new_enough(&version) {
        return Err(format!("version {version}, older than {}", library::MINIMUM_VERSION));
    }
    // SAFETY: it returns the table of that version, or nothing.
    let api = unsafe { (base.GetApi)(sys::ORT_API_VERSION).as_ref() };
    let api =
        api.ok_or_else(|| format!("version {version}, without the interface it should have"))?;
    ort::set_api(api.clone()); // if another part of the program set it before, that is the same library
    Ok(ort::init())
}
