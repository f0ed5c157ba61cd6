//! What this processor can multiply with: the instruction sets that decide which kernels run.

/// The instruction sets that matter for products and that this processor has, by their names in
/// files and tables.
pub fn instruction_sets() -> Vec<&'static str> {
    known().into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
}

#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
fn known() -> [(&'static str, bool); 4] {
    use std::is_x86_feature_detected as has;
    [
        ("avx2", has!("avx2")),
        ("avx512f", has!("avx512f")),
        ("avx512vnni", has!("avx512vnni")),
        ("avxvnni", has!("avxvnni")),
    ]
}

#[cfg(target_arch = "aarch64")]
fn known() -> [(&'static str, bool); 2] {
    use std::arch::is_aarch64_feature_detected as has;
    [("dotprod", has!("dotprod")), ("i8mm", has!("i8mm"))]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
fn known() -> [(&'static str, bool); 0] {
    []
}
