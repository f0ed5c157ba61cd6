//! What the operating system tells of the process' memory, and what makes it take freed memory back.
//! Each function returns `None` where the system does not tell.

#[cfg(target_vendor = "apple")]
mod apple;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux;
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
mod other;

#[cfg(target_vendor = "apple")]
pub(super) use self::apple::{anonymous, available, give_back, held, peak, reset_peak};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use self::linux::{anonymous, available, give_back, held, peak, reset_peak};
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
pub(super) use self::other::{anonymous, available, give_back, held, peak, reset_peak};

/// Whether the system tells anything.
pub(super) const IS_TOLD: bool =
    cfg!(any(target_os = "linux", target_os = "android", target_vendor = "apple"));
