//! The JSON of a tokenizer's files, and what is said of a file that is none.

use serde_json::Value;

use crate::{
    checkpoint,
    error::{Error, Result, bad_checkpoint},
};

pub(super) fn parse(file: &'static str, text: &str) -> Result<Value> {
    checkpoint::from_json(text).map_err(|error| not_json(file, &error))
}

pub(super) fn not_json(file: &str, error: &serde_json::Error) -> Error {
    bad_checkpoint(file, format!("expected JSON of a tokenizer, found: {error}"))
}
