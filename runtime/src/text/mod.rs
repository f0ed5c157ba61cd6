//! Prompts as tokens. The only room that names the tokenizer library.

pub mod tokenizer;
