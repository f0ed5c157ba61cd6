//! Images from text on small machines, offline: opens a package and runs it with ONNX Runtime.
//!
//! A [`Pipeline`] is a package ready to run, a [`Request`] says what to make. Checked, it is a
//! [`Job`]. Progress and cancel are one callback, or a [`Watch`]. ONNX Runtime is one library file,
//! found as [`library`] says.
//!
//! A package is a folder that `pocketmuse export` makes of a checkpoint; as one file it comes through
//! [`Import`]. With [`Options::prepared`] a folder keeps what was found out about it, so that it opens
//! faster the next time.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//!
//! use pocketmuse::{Pipeline, Request};
//!
//! let pipeline = Pipeline::open("tiny-world-package")?;
//! let request = Request { seed: 7, ..Request::new("a red lighthouse by the sea at sunset") };
//! let output = pipeline.generate(&request, |step| {
//!     println!("step {} of {}", step.step + 1, step.num_inference_steps);
//!     ControlFlow::Continue(())
//! })?;
//! let (width, height) = output.images[0].dimensions();
//! println!("{width} x {height} pixels in {:.1?}", output.report.total);
//! output.save(0, "lighthouse.png")?; // keeps the request
//! # Ok::<(), pocketmuse::Error>(())
//! ```
//!
//! What else there is:
//!
//! - [`Pipeline::edit`] begins with a [`Source`]: an image, and a mask, a box or new sides.
//! - [`Pipeline::preview`] shows a step without the decoder.
//! - [`job::State`] is a job between two steps, to be kept and [resumed](Pipeline::resume).
//! - [`Pipeline::video`] makes a moving image, [`Pipeline::trace`] looks inside.
//! - [`Control`] pauses, steers and cancels from any thread.
//! - [`Pipeline::plan`] says what memory a request takes, before anything is loaded.
//! - [`Pipeline::diagnose`] and [`doctor`] say what other providers than the CPU do here.
//! - [`Manifest::check`] checks a whole package by itself.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//!
//! use pocketmuse::{Options, Pipeline, Request, Source, pixels};
//!
//! let options = Options { prepared: Some("cache/prepared".into()), ..Options::default() };
//! let pipeline = Pipeline::open_with("tiny-world-package", &options)?;
//! let source = Source::new(pixels::read("house.png".as_ref())?.image).with_box([40, 0, 64, 64])?;
//! let output = pipeline.edit(&Request::new("a balloon"), &source, |step| {
//!     let _state = pipeline.state(step).to_bytes(); // for `job::State::from_bytes`
//!     ControlFlow::Continue(())
//! })?;
//! output.save(0, "balloon.png")?;
//! # Ok::<(), pocketmuse::Error>(())
//! ```
//!
//! Features: `load-dynamic`, the default, opens ONNX Runtime's library at run time; `linked` is for
//! iOS, without the default: the app's linker brings ONNX Runtime and nothing is opened. `measure`
//! is for the project's own benches.

#![cfg_attr(
    not(feature = "measure"),
    allow(unreachable_pub, reason = "inner types are public for the feature `measure` alone")
)]

// The rooms, in the order of the data: each imports only from those above it.

// Elementary functions that round alike everywhere.
mod arithmetic;

// What a caller asks for, checked: a job.
pub mod request;

// ONNX Runtime: its library, sessions, values.
mod engine;

// An opened package, and its prepared files.
mod package;

// The memory policy: what may be used, the plan, what is measured.
mod memory;

// Prompts as token ids.
mod text;

// The sampling loop: masked tokens in, chosen tokens out.
mod sampler;

// One typed call for each network.
mod stages;

// Images: read, write, fit, paste, animation, preview.
pub mod pixels;

// The conductor: the order of the stages, what stays warm, states, traces.
mod pipeline;

#[cfg(feature = "measure")]
pub mod internals;

/// The image library that pixels come and go in.
pub use image;

pub use engine::{
    library,
    loading::{Intermediates, Loading, Weights},
    providers::nodes::Nodes,
    runtime::Runtime,
};
pub use memory::{
    metrics::{Report, StageReport},
    plan::{Plan, StagePlan},
    trials::{Outcome, Trial, Trials},
};
pub use package::{capabilities::Capabilities, import::Import, prepared};
pub use pipeline::{
    Attention, Candidate, Compiled, MadeBy, Origin, Output, Phase, Pipeline, Prediction, Progress,
    Step, Watch, doctor, state as job,
    trace::{self, Trace, Tracer},
    video::{self, Video},
};
pub use pixels::preview::Preview;
pub use pocketmuse_package::{
    Amounts, Error, ErrorKind, Flavour, Manifest, MaskingSchedule, Result, Stage, Subset, archive,
};
pub use request::{
    Budget, Cancel, Control, FALLBACK_BYTES, GuidanceSchedule, Job, Options, Provider, Providers,
    Request, RngKind, Sampler, Sharing, Temperature, Tileable, source::Source,
};
pub use sampler::rng::Rng;
