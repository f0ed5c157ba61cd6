//! Prompts as tokens. The only room that names the tokenizer library.

pub(crate) mod tokenizer;
