//! Prompts as tokens. The only room that names the tokenizer library.

mod parts;
pub(crate) mod tokenizer;
