//! A system where ONNX Runtime's arena holds large values.

use ort::environment::Environment;

pub(super) fn is_there(_: &Environment) -> bool {
    false
}

pub(super) fn trim() {}

pub(super) fn leave_before(_: *const u8, _: usize) -> bool {
    true
}
