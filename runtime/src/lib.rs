//! Pictures from text on small machines, offline: opens a package and runs it with ONNX Runtime.
//!
//! A [`Pipeline`] is a package ready to run, a [`Request`] says what to make. Progress and cancel
//! are one callback. ONNX Runtime is one library file, found as [`library`] says.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//!
//! use pocketmuse::{Pipeline, Request};
//!
//! let pipeline = Pipeline::open("tiny-world-package")?;
//! let request = Request { prompt: "a red lighthouse by the sea at sunset".to_owned(), seed: 7, ..Request::default() };
//! let output = pipeline.generate(&request, |step| {
//!     println!("step {} of {}", step.step + 1, step.num_inference_steps);
//!     ControlFlow::Continue(())
//! })?;
//! println!("{} x {} pixels in {:.1?}", output.images[0].width(), output.images[0].height(), output.report.total);
//! # Ok::<(), pocketmuse::Error>(())
//! ```

#![cfg_attr(
    not(feature = "measure"),
    allow(unreachable_pub, reason = "inner types are public for the feature `measure` alone")
)]

mod engine;
#[cfg(feature = "measure")]
pub mod internals;
mod memory;
mod package;
mod pipeline;
pub mod pixels;
pub mod request;
mod sampler;
mod stages;
mod text;

pub use engine::{
    library,
    loading::{Loading, Weights},
    runtime::Runtime,
};
pub use memory::{
    budget::{Budget, FALLBACK_BYTES},
    metrics::{Report, StageReport},
    plan::{Plan, StagePlan},
};
pub use package::{Options, prepared};
pub use pipeline::{
    Output, Pipeline, Step, state as job,
    trace::{self, Trace},
};
pub use pixels::preview::Preview;
pub use pocketmuse_package::{Error, ErrorKind, Flavour, Manifest, MaskingSchedule, Result, Stage};
pub use request::{
    Request, Resolved, Temperature,
    source::Source,
    video::{self, Video},
};
pub use sampler::{
    GuidanceSchedule, Sampler,
    margin::Tileable,
    rng::{Rng, RngKind},
};
