//! Memory as Apple's systems count it: the footprint, which is what is anonymous or compressed.
//! Pages of mapped files are not in it.

use mach2::{
    kern_return::KERN_SUCCESS,
    task::task_info,
    task_info::{TASK_VM_INFO, task_vm_info},
    traps::mach_task_self,
    vm_types::natural_t,
};

/// The footprint now: what a budget counts here.
pub(in crate::memory) fn held() -> Option<u64> {
    Some(info()?.phys_footprint).filter(|bytes| *bytes > 0)
}

/// The highest footprint since the process started.
pub(in crate::memory) fn peak() -> Option<u64> {
    let peak = info()?.ledger_phys_footprint_peak;
    u64::try_from(peak).ok().filter(|bytes| *bytes > 0)
}

/// The system's peak never starts again.
pub(in crate::memory) fn reset_peak() -> bool {
    false
}

/// The footprint now.
pub(in crate::memory) fn anonymous() -> Option<u64> {
    held()
}

/// What the footprint may grow by before the system ends the process; `None` where there is no such
/// limit, as on a Mac.
pub(in crate::memory) fn available() -> Option<u64> {
    Some(info()?.limit_bytes_remaining).filter(|bytes| *bytes > 0)
}

#[expect(unsafe_code, reason = "the system's call takes pointers")]
fn info() -> Option<task_vm_info> {
    let mut info = task_vm_info::default();
    // The system writes as much as it knows, at most so many numbers; the rest stays 0.
    let mut count = (size_of::<task_vm_info>() / size_of::<natural_t>()) as u32;
    // SAFETY: `info` has room for `count` numbers, and a task may always ask about itself.
    let status = unsafe {
        task_info(mach_task_self(), TASK_VM_INFO, (&raw mut info).cast(), &raw mut count)
    };
    (status == KERN_SUCCESS).then_some(info)
}

/// Asks all zones of the allocator for the pages that they keep of freed memory.
#[expect(unsafe_code, reason = "a foreign function cannot be proved safe")]
pub(in crate::memory) fn give_back() {
    unsafe extern "C" {
        fn malloc_zone_pressure_relief(zone: *mut std::ffi::c_void, goal: usize) -> usize;
    }
    // SAFETY: no zone means all, a goal of 0 as much as possible; no block in use is changed.
    unsafe { malloc_zone_pressure_relief(std::ptr::null_mut(), 0) };
}
