//! Writes the generated Kotlin and Swift: uniffi's own command, of the version that the library is
//! built with.

fn main() {
    uniffi::uniffi_bindgen_main();
}
