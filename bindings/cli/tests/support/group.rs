//! A control group: a process in it gets no more memory than it allows, pages of files included.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::PathBuf,
};

/// The group, removed when this is dropped: then no process may be in it.
pub(crate) struct Group(PathBuf);

impl Group {
    /// A new one that allows so many bytes.
    ///
    /// # Errors
    ///
    /// Why this system lets us make none.
    pub(crate) fn new(bytes: u64) -> io::Result<Self> {
        let version1 = ("/sys/fs/cgroup/memory", "memory.limit_in_bytes");
        let version2 = ("/sys/fs/cgroup", "memory.max");
        let of = |(root, limit)| {
            let folder = PathBuf::from(root).join(format!("pocketmuse-{}", std::process::id()));
            fs::create_dir(&folder)?;
            let group = Self(folder);
            // Where it is no group the file is not there.
            let mut limit = File::options().write(true).open(group.0.join(limit))?;
            limit.write_all(bytes.to_string().as_bytes())?;
            Ok(group)
        };
        of(version1).or_else(|_: io::Error| of(version2))
    }

    /// What a shell runs to go into it.
    pub(crate) fn enter(&self) -> String {
        format!("echo $$ > '{}'", self.0.join("cgroup.procs").display())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            println!("{} stays: {error}", self.0.display());
        }
    }
}
