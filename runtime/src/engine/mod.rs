//! ONNX Runtime: where its library is, sessions, values. The only room that names `ort`.

pub(crate) mod address_space;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod apart;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[path = "no_apart.rs"]
mod apart;
mod floats;
mod fusion;
mod kernels;
pub mod library;
#[cfg(feature = "linked")]
mod linked;
pub(crate) mod loading;
pub(crate) mod locations;
pub(crate) mod mapped;
pub(crate) mod operators;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod passing;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[path = "no_passing.rs"]
mod passing;
pub(crate) mod processor;
pub(crate) mod providers;
pub(crate) mod rewrite;
pub(crate) mod runtime;
pub(crate) mod session;
mod stop;
mod taps;
pub(crate) mod threads;
