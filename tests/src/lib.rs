//! The tests of the whole project are in `integration/`; this crate has no code of its own.
