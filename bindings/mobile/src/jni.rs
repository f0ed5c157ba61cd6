//! The Java virtual machine: a job's thread is attached once for its whole run, not at every
//! callback. The only file that names `jni`. Where no Java runs, nothing happens here.

use std::ffi::c_void;

use jni::{
    JavaVM,
    errors::Error,
    sys::{self, JNI_ERR, JNI_VERSION_1_6, jint},
};

use crate::telemetry;

/// Local references that a callback may have; more are made room for.
const REFERENCES: usize = 16;

/// Called by Java when it loads the library: keeps the virtual machine.
#[unsafe(no_mangle)]
#[expect(unreachable_pub, reason = "Java is who reaches it")]
#[expect(unsafe_code, reason = "Java finds this function by its name, and hands over a pointer")]
pub extern "system" fn JNI_OnLoad(vm: *mut sys::JavaVM, _reserved: *mut c_void) -> jint {
    if vm.is_null() {
        return JNI_ERR;
    }
    // SAFETY: Java calls this with the virtual machine that loads the library.
    unsafe { JavaVM::from_raw(vm) };
    telemetry::switch_off();
    JNI_VERSION_1_6
}

/// Runs something with this thread attached; what it does is left as it is where there is no Java,
/// or where it refuses.
pub(crate) fn attached(run: impl FnOnce()) {
    let mut run = Some(run);
    if let Ok(vm) = JavaVM::singleton() {
        let outcome: Result<(), Error> = vm.attach_current_thread_for_scope(|_| {
            if let Some(run) = run.take() {
                run();
            }
            Ok(())
        });
        if let Err(error) = outcome {
            log::warn!("this thread is not attached to Java: {error}");
        }
    }
    if let Some(run) = run {
        run();
    }
}

/// Runs a callback of an attached thread, and frees the local references that it leaves.
pub(crate) fn in_frame<T>(call: impl FnOnce() -> T) -> T {
    let mut call = Some(call);
    if let Ok(vm) = JavaVM::singleton() {
        let run = |_: &mut jni::Env<'_>| Ok(call.take().map(|call| call()));
        let outcome: Result<Option<T>, Error> = vm.with_local_frame(REFERENCES, run);
        if let Ok(Some(value)) = outcome {
            return value;
        }
    }
    call.expect("a frame that cannot be had calls nothing")()
}
