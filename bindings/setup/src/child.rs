//! One child process: run to its end or stopped, and what it said last, bounded. Knows no program.

use std::{
    io::{self, Read},
    process::{Child, Command, ExitStatus},
    thread,
    time::Duration,
};

use pocketmuse_package::Result;

use crate::event::{Event, Watch, watch};

/// How much of what a program says is kept: its end.
const KEPT_BYTES: usize = 64 << 10;

/// How often a running child is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// How a program ended that did not succeed.
pub(crate) struct Failure {
    /// What it printed last, or why it did not start.
    pub(crate) text: String,
}

/// Runs `command` to its end. Whoever watches is asked all the while whether to go on; if not, the
/// child is killed.
///
/// # Errors
///
/// `Cancelled` if it was stopped.
pub(crate) fn run(mut command: Command, watcher: Watch<'_>) -> Result<Result<(), Failure>> {
    let started = io::pipe().and_then(|(output, input)| {
        command.stdout(input.try_clone()?).stderr(input);
        let child = command.spawn()?;
        drop(command); // it holds the pipe's other end
        Ok((output, child))
    });
    let (output, mut child) = match started {
        Ok(started) => started,
        Err(error) => return Ok(Err(Failure { text: error.to_string() })),
    };
    // Where no thread can be started nobody listens, and what is said is lost.
    let said = thread::Builder::new().spawn(move || last_bytes(output));
    let status = match wait(&mut child, watcher)? {
        Ok(status) => status,
        Err(error) => return Ok(Err(Failure { text: error.to_string() })),
    };
    if status.success() {
        return Ok(Ok(()));
    }
    let said = said.ok().and_then(|said| said.join().ok()).unwrap_or_default();
    let text = String::from_utf8_lossy(&said).trim().to_owned();
    Ok(Err(Failure { text: if text.is_empty() { status.to_string() } else { text } }))
}

fn wait(child: &mut Child, watcher: Watch<'_>) -> Result<io::Result<ExitStatus>> {
    loop {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return Ok(Ok(status)),
            Err(error) => return Ok(Err(error)),
        }
        if let Err(stopped) = watch(watcher, Event::Waiting) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(stopped);
        }
        thread::sleep(PAUSE);
    }
}

/// Reads to the end and returns the last of it.
fn last_bytes(mut output: impl Read) -> Vec<u8> {
    let (mut last, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = output.read(&mut piece) {
        last.extend_from_slice(&piece[..count]);
        if last.len() > 2 * KEPT_BYTES {
            last.drain(..last.len() - KEPT_BYTES);
        }
    }
    last.drain(..last.len().saturating_sub(KEPT_BYTES));
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_was_said_is_kept() {
        let text: Vec<u8> = (0..300_000u32).map(|at| at as u8).collect();
        for length in [0, 1, 4096, KEPT_BYTES, KEPT_BYTES + 1, 2 * KEPT_BYTES + 1, text.len()] {
            let kept = last_bytes(&text[..length]);
            assert_eq!(kept, text[length.saturating_sub(KEPT_BYTES)..length], "{length} bytes");
        }
    }
}
