//! Where log lines go: to Logcat on Android, to what Swift's library sets on Apple's systems, nowhere
//! elsewhere, or to what an app sets. No line
//! holds a prompt.

use std::sync::{Arc, Once, OnceLock, PoisonError, RwLock};

use log::{LevelFilter, Log, Metadata, Record};

use crate::error::{PocketMuseError, guard};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something works, but not as it should.
    Warn,
    /// What happens, for people.
    Info,
    /// What happens, for who looks for a fault.
    Debug,
    /// Everything.
    Trace,
}

impl From<log::Level> for LogLevel {
    fn from(level: log::Level) -> Self {
        match level {
            log::Level::Error => Self::Error,
            log::Level::Warn => Self::Warn,
            log::Level::Info => Self::Info,
            log::Level::Debug => Self::Debug,
            log::Level::Trace => Self::Trace,
        }
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::Error,
            LogLevel::Warn => Self::Warn,
            LogLevel::Info => Self::Info,
            LogLevel::Debug => Self::Debug,
            LogLevel::Trace => Self::Trace,
        }
    }
}

/// Who takes log lines. Called on any thread, several at once.
#[uniffi::export(foreign)]
pub trait LogSink: Send + Sync {
    /// Takes a line. What it throws is ignored.
    fn log(&self, level: LogLevel, target: String, line: String) -> Result<(), PocketMuseError>;
}

/// Hands log lines of `level` and those that matter more to `sink`, from now on. `null` gives them
/// back to the system: to Logcat on Android, to the system's log on Apple's.
#[uniffi::export]
pub fn set_log_sink(
    sink: Option<Arc<dyn LogSink>>,
    level: LogLevel,
) -> Result<(), PocketMuseError> {
    guard(|| {
        *SINK.write().unwrap_or_else(PoisonError::into_inner) = sink;
        install(level.into());
        Ok(())
    })
}

/// Hands log lines to `sink` where no other is set: for a system whose log only its own language
/// reaches, as Swift's library does on Apple's. The first call counts.
#[uniffi::export]
pub fn set_system_log(sink: Arc<dyn LogSink>) -> Result<(), PocketMuseError> {
    guard(|| {
        SYSTEM.get_or_init(|| sink);
        start();
        Ok(())
    })
}

/// Sends warnings and errors to the system's log, unless somebody said otherwise before.
pub(crate) fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        if log::max_level() == LevelFilter::Off {
            install(LevelFilter::Warn);
        }
    });
}

fn install(level: LevelFilter) {
    // It fails where another logger is there already, which then has the last word.
    if log::set_logger(&Logger).is_ok() || log::max_level() != LevelFilter::Off {
        log::set_max_level(level);
    }
}

static SINK: RwLock<Option<Arc<dyn LogSink>>> = RwLock::new(None);

static SYSTEM: OnceLock<Arc<dyn LogSink>> = OnceLock::new();

struct Logger;

impl Log for Logger {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let sink = SINK.read().unwrap_or_else(PoisonError::into_inner).clone();
        match sink.or_else(|| SYSTEM.get().cloned()) {
            Some(sink) => {
                let (target, line) = (record.target().to_owned(), record.args().to_string());
                // There is nowhere to tell of a log that fails.
                let _ = sink.log(record.level().into(), target, line);
            }
            None => to_system(record),
        }
    }

    fn flush(&self) {}
}

#[cfg(not(target_os = "android"))]
fn to_system(_record: &Record<'_>) {}

#[cfg(target_os = "android")]
#[expect(unsafe_code, reason = "the system's log takes C strings")]
fn to_system(record: &Record<'_>) {
    use std::ffi::{CString, c_char, c_int};

    #[link(name = "log")]
    unsafe extern "C" {
        fn __android_log_write(priority: c_int, tag: *const c_char, text: *const c_char) -> c_int;
    }

    // The priorities of <android/log.h>.
    let priority = match record.level() {
        log::Level::Error => 6,
        log::Level::Warn => 5,
        log::Level::Info => 4,
        log::Level::Debug => 3,
        log::Level::Trace => 2,
    };
    let line = record.args().to_string().replace('\0', " ");
    if let Ok(line) = CString::new(line) {
        // SAFETY: both end with a zero and live until the call returns, which keeps neither.
        unsafe { __android_log_write(priority, c"PocketMuse".as_ptr(), line.as_ptr()) };
    }
}
