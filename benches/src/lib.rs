//! The benches of the whole project are in `benches/`; this crate has no code of its own.
