//! ONNX Runtime's usage reports, which nobody asked for.

use std::sync::Once;

use pocketmuse::library;

/// Switches them off, once, before ONNX Runtime is loaded: when Java loads this library, else when
/// the first package is opened.
#[expect(unsafe_code, reason = "the environment is the only switch that comes early enough")]
pub(crate) fn switch_off() {
    static DONE: Once = Once::new();
    // SAFETY: `setenv` may run beside `getenv` in the C libraries of phones and Macs (bionic,
    // Apple's) and in glibc from 2.41; nothing else here changes the environment.
    DONE.call_once(|| unsafe { library::disable_telemetry() });
}
