//! A system where ONNX Runtime's arena holds large values.

use ort::environment::Environment;

pub(super) fn is_there(_: &Environment) -> bool {
    false
}

pub(super) fn trim() {}
