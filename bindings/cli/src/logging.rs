//! What is logged to stderr, as RUST_LOG says, and what a panic says. Knows not who logs.

use std::{env, io::Write, panic};

use env_logger::{Builder, Env};

use crate::terminal;

/// Logs from now on; text from elsewhere as text, as everything that reaches a terminal. A panic is
/// a line, unless a backtrace is wanted.
pub fn init() {
    let mut logger = Builder::from_env(Env::default().default_filter_or("warn"));
    logger.format(|out, record| {
        let (level, style) = (record.level(), out.default_level_style(record.level()));
        let text = record.args().to_string();
        let text = terminal::escaped(&text);
        writeln!(out, "[{style}{level:<5}{style:#} {}] {text}", record.target())
    });
    logger.init();
    if env::var_os("RUST_BACKTRACE").is_none() {
        panic::set_hook(Box::new(|panic| terminal::note(panic.to_string())));
    }
}
