//! ONNX Runtime: where its library is, sessions, values. The only room that names `ort`.

pub mod library;
pub(crate) mod loading;
mod proto;
pub(crate) mod session;
pub(crate) mod threads;
