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

mod agreement;
mod arithmetic;
pub mod bench;
mod budget;
mod calibrate;
mod edit;
mod golden;
pub mod job;
pub mod library;
mod loading;
mod memory;
mod metrics;
mod package;
mod pipeline;
pub mod pixels;
mod plan;
pub mod prepared;
mod preview;
mod prompts;
mod proto;
pub mod request;
pub mod rng;
pub mod sampler;
mod session;
mod stages;
mod tileable;
pub mod tokenize;
pub mod trace;
mod variation;
pub mod verify;
pub mod video;
mod warm;
mod weights;

pub use budget::{Budget, FALLBACK_BYTES};
pub use calibrate::{Sample, calibrate};
pub use edit::Source;
pub use loading::Loading;
pub use metrics::{Report, StageReport};
pub use package::Options;
pub use pipeline::{Output, Pipeline, Step};
pub use plan::{Plan, StagePlan};
pub use pocketmuse_package::{Error, ErrorKind, Flavour, Manifest, MaskingSchedule, Result, Stage};
pub use preview::Preview;
pub use request::{Request, Resolved, Temperature};
pub use rng::RngKind;
pub use sampler::{GuidanceSchedule, Sampler};
pub use session::Runtime;
pub use tileable::Tileable;
pub use trace::Trace;
pub use video::Video;
