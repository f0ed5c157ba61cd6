//! Runs the command in a terminal that a test plays.

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::support;

/// What a terminal is asked for its features.
pub(crate) const QUESTION: &str = "\x1b[c";

/// A terminal of 80 x 24 characters of 10 x 20 pixels.
pub(crate) struct Terminal {
    ours: File,
    theirs: File,
    /// What it answers to [`QUESTION`].
    answer: Option<String>,
}

impl Terminal {
    pub(crate) fn new(answer: Option<&str>) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("unlocked");
        let name = ptsname(&ours, Vec::new()).expect("a name");
        let theirs = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())
            .expect("the other side");
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 800, ws_ypixel: 480 };
        tcsetwinsize(&ours, size).expect("a size");
        Self { ours: ours.into(), theirs: theirs.into(), answer: answer.map(str::to_owned) }
    }

    pub(crate) fn type_ahead(&mut self, text: &str) {
        self.ours.write_all(text.as_bytes()).expect("typed");
    }

    /// Runs a command that must succeed and leave the terminal as it was; returns what it wrote to
    /// the terminal.
    pub(crate) fn run(self, folder: &Path, words: &[&str], environment: &[(&str, &str)]) -> String {
        let modes = tcgetattr(&self.ours).expect("modes").local_modes;
        let side = || Stdio::from(self.theirs.try_clone().expect("cloned"));
        let mut command = Command::new("setsid");
        command.args(["--ctty", env!("CARGO_BIN_EXE_pocketmuse")]).args(words).current_dir(folder);
        for name in
            ["COLORTERM", "TERM_PROGRAM", "LC_TERMINAL", "KITTY_WINDOW_ID", "TMUX", "STY", "ZELLIJ"]
        {
            command.env_remove(name);
        }
        for name in ["XTERM_VERSION", "VTE_VERSION"] {
            command.env_remove(name);
        }
        command
            .envs([support::ONE_THREAD])
            .envs(environment.iter().copied())
            .stdin(side())
            .stdout(side())
            .stderr(side());
        let mut child = command.spawn().expect("started");
        drop(command); // its copies of their side: the last one closed ends our reading
        let after = self.theirs.try_clone().expect("cloned");
        let (ours, answer) = (self.ours, self.answer);
        let reader = thread::spawn(move || shown(ours, answer.as_deref()));
        let status = child.wait().expect("ended");
        assert_eq!(tcgetattr(&after).expect("modes").local_modes, modes);
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO));
        drop((after, self.theirs));
        let shown = reader.join().expect("read");
        assert!(status.success(), "{words:?}: {shown}");
        shown
    }
}

/// Everything that is written to the terminal, which answers once.
fn shown(mut terminal: File, answer: Option<&str>) -> String {
    let (mut shown, mut bytes, mut answer) = (Vec::new(), [0; 4096], answer);
    while let Ok(count) = terminal.read(&mut bytes) {
        // an error once nobody holds the other side
        if count == 0 {
            break;
        }
        shown.extend_from_slice(&bytes[..count]);
        if answer.is_some() && String::from_utf8_lossy(&shown).contains(QUESTION) {
            let answer = answer.take().unwrap_or_default();
            terminal.write_all(answer.as_bytes()).expect("answered");
        }
    }
    String::from_utf8_lossy(&shown).into_owned()
}
