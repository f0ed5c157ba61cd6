//! Memory that was freed goes back to the system. Knows not what it was for.

/// Asks the allocator to return the pages it keeps of freed memory.
///
/// glibc keeps freed blocks of up to 32 MiB, which is what most weights are: without this the peak of a stage is its
/// own memory and most of its predecessor's. Other systems' allocators return such pages by themselves.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    trim();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a foreign function cannot be proved safe")]
fn trim() {
    // SAFETY: malloc_trim may be called at any time from any thread and changes no block that is in use.
    unsafe { libc::malloc_trim(0) };
}
