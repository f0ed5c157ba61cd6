//! PocketMuse for Kotlin and Swift: the objects, records and errors that cross the border, and the
//! threads behind it. Knows nothing of tokens, graphs or either language's `async`.
//!
//! Only synchronous functions and callbacks cross. A job has a thread of its own; all callbacks of
//! a job come on it, and the last of them says how the job ended. What a function refuses, and a
//! panic too, is a [`PocketMuseError`]. The languages' own libraries, `android/core` and `ios`, make
//! `suspend` and `async` of that.

// In the order of the data: each imports only from those above it.

mod error;

mod bytes;

mod kinds;

mod capabilities;

mod pixels;

mod options;

mod request;

mod source;

mod video;

mod image;

mod listener;

mod telemetry;

#[cfg(not(target_vendor = "apple"))]
mod jni;

mod logging;

mod threads;

mod import;

mod work;

mod job;

mod generator;

mod doctor;

pub use self::{
    bytes::Bytes,
    capabilities::Capabilities,
    doctor::{
        DoctorListener, DoctorMachine, DoctorOutcome, DoctorPackage, DoctorProvider, DoctorReport,
        DoctorStage, NativeDoctor,
    },
    error::PocketMuseError,
    generator::NativeGenerator,
    image::{GeneratedImage, ImageFormat},
    import::{ImportListener, ImportOptions, ImportProgress, NativeImporter, discard_import},
    job::Job,
    kinds::{
        Flavour, GuidanceSchedule, MaskingSchedule, Provider, RngKind, Sampler, Stage, Temperature,
        Tileable,
    },
    listener::{JobProgress, Listener, Outcome, Phase, Previews},
    logging::{LogLevel, LogSink, set_log_sink, set_system_log},
    options::{Options, Providers, Sharing},
    pixels::{Alpha, Pixels, decode_image},
    request::{Corner, Request},
    source::{Area, Mask, Sides, Source},
    video::{Motion, Video},
    work::Work,
};

uniffi::setup_scaffolding!();
