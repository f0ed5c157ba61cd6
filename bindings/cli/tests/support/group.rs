//! Runs commands in a control group that bounds what they hold together.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
};

/// Where systems mount control groups.
const MOUNT: &str = "/sys/fs/cgroup";

/// A control group of a test's own, gone with it.
pub(crate) struct Group {
    folder: Option<PathBuf>,
    /// What a command line begins with that runs in it.
    words: Vec<String>,
}

impl Group {
    /// A group that may hold `bytes`: made by hand where this user may, else by systemd. Fails where
    /// neither is possible, with the reason.
    pub(crate) fn new(bytes: u64) -> Result<Self, String> {
        let by_hand = made(bytes).map(|folder| {
            let join = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", folder.display());
            let words = ["sh", "-c", &join, "sh"].map(str::to_owned).to_vec();
            Self { folder: Some(folder), words }
        });
        by_hand.and_then(Self::tried).or_else(|by_hand| {
            let most = format!("MemoryMax={bytes}");
            let words = ["systemd-run", "--quiet", "--scope", "-p", &most, "-p"];
            let words = [&words[..], &["MemorySwapMax=0", "--"]].concat();
            let words = words.into_iter().map(str::to_owned).collect();
            let by_systemd = Self { folder: None, words }.tried();
            by_systemd.map_err(|by_systemd| format!("{by_hand}; {by_systemd}"))
        })
    }

    fn tried(self) -> Result<Self, String> {
        let output = self.command("true").stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("{}: {error}", self.words[0]))?;
        if output.status.success() {
            return Ok(self);
        }
        Err(format!("{}: {}", self.words[0], String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// A program in the group, which has the process that is spawned.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).arg(program);
        command
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir(folder); // with its last process
        }
    }
}

/// Makes a group, of either version of control groups.
fn made(bytes: u64) -> Result<PathBuf, String> {
    let (parent, limit, swap) = if Path::new(MOUNT).join("cgroup.controllers").exists() {
        (PathBuf::from(MOUNT), "memory.max", ("memory.swap.max", 0))
    } else {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = own.lines().find_map(|line| line.split_once(":memory:/")).map(|(_, own)| own);
        let root = Path::new(MOUNT).join("memory");
        // Inside a container the group's path may be the one outside: its own then lies at the root.
        let parent = own.map(|own| root.join(own)).filter(|parent| parent.exists());
        let swap = ("memory.memsw.limit_in_bytes", bytes);
        (parent.unwrap_or(root), "memory.limit_in_bytes", swap)
    };
    let folder = parent.join(format!("pocketmuse-test-{}", process::id()));
    let failed = |what: &str, error| format!("{}: {error}", folder.join(what).display());
    fs::create_dir(&folder).map_err(|error| failed("", error))?;
    let write = |(name, bytes): (&str, u64)| fs::write(folder.join(name), bytes.to_string());
    if let Err(error) = write((limit, bytes)) {
        let _ = fs::remove_dir(&folder);
        return Err(failed(limit, error));
    }
    let _ = write(swap); // some kernels count no swap
    Ok(folder)
}
