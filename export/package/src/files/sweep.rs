//! Removes what killed processes left.

use std::{
    fs::{self, Metadata},
    io,
    path::{Component, Path},
    time::{Duration, SystemTime},
};

use super::temporary::{self, OLD};

/// A temporary folder whose process is gone is removed when nothing in it changed for this long.
const FOLDER_AGE: Duration = Duration::from_secs(60 * 60);

/// A temporary file, too. Longer, since the frames of a video wait for the last one unlocked.
const FILE_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Removes what killed processes of this project left in `folder` more than an hour ago, a file
/// after a day. A folder that was moved aside by one that was killed before its successor was in
/// place gets its name back. Says so in the log; what cannot be removed stays.
pub fn sweep(folder: &Path) {
    sweep_at(folder, SystemTime::now());
}

fn sweep_at(folder: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in
        entries.flatten().map(|entry| entry.path()).filter(|path| temporary::is_temporary(path))
    {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let removed = if metadata.is_dir() {
            sweep_folder(folder, &path, now)
        } else {
            sweep_file(&path, &metadata, now)
        };
        match removed {
            Ok(Some(what)) => log::warn!("{}: {what}, left by a killed process", path.display()),
            Ok(None) => {}
            Err(error) => log::warn!("{}: cannot be removed: {error}", path.display()),
        }
    }
}

/// What was done, if anything.
fn sweep_folder(folder: &Path, path: &Path, now: SystemTime) -> io::Result<Option<&'static str>> {
    if !is_older(newest(path)?, now, FOLDER_AGE) {
        return Ok(None);
    }
    let Some(leftover) = temporary::leftover(path) else { return Ok(None) };
    let old = path.join(OLD);
    let mut parts = Path::new(&leftover.name).components();
    let is_name = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    let place = folder.join(&leftover.name);
    let goes_back =
        is_name && fs::symlink_metadata(&old).is_ok() && fs::symlink_metadata(&place).is_err();
    if goes_back {
        fs::rename(&old, &place)?;
    }
    drop(leftover);
    fs::remove_dir_all(path)?;
    Ok(Some(if goes_back { "put back what was there before" } else { "removed" }))
}

fn sweep_file(
    path: &Path,
    metadata: &Metadata,
    now: SystemTime,
) -> io::Result<Option<&'static str>> {
    if !metadata.is_file() || !is_older(metadata.modified()?, now, FILE_AGE) {
        return Ok(None);
    }
    let file = fs::File::open(path)?;
    if matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)) {
        return Ok(None);
    }
    drop(file);
    fs::remove_file(path)?;
    Ok(Some("removed"))
}

/// When anything in a folder changed last.
fn newest(folder: &Path) -> io::Result<SystemTime> {
    let mut newest = fs::symlink_metadata(folder)?.modified()?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let time = if entry.file_type()?.is_dir() {
            self::newest(&entry.path())?
        } else {
            entry.metadata()?.modified()?
        };
        newest = newest.max(time);
    }
    Ok(newest)
}

fn is_older(time: SystemTime, now: SystemTime, age: Duration) -> bool {
    now.duration_since(time).is_ok_and(|since| since > age)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{
        super::{NewFile, NewFolder, TemporaryFolder},
        *,
    };

    fn after(hours: u64) -> SystemTime {
        SystemTime::now() + Duration::from_secs(hours * 60 * 60 + 60)
    }

    /// What a process leaves that is killed while it writes `model`.
    fn killed(root: &Path) -> PathBuf {
        let left = TemporaryFolder::beside(&root.join("model")).expect("begun").keep();
        fs::create_dir(left.join("new")).expect("made");
        fs::write(left.join("new/a"), "1").expect("written");
        left
    }

    #[test]
    fn what_is_old_and_ours_is_removed() {
        let root = tempfile::tempdir().expect("a folder");
        let left = killed(root.path());
        let file = root.path().join(".a.png-pocketmuse-abc.part");
        fs::write(&file, "half").expect("written");
        let others = [".model-abc.part", "model-pocketmuse-abc.part", ".b-pocketmuse-1.part"];
        for name in others {
            fs::create_dir(root.path().join(name)).expect("made"); // without our marker
        }
        sweep_at(root.path(), after(0));
        assert!(left.exists() && file.exists(), "new");
        sweep_at(root.path(), after(1));
        assert!(!left.exists() && file.exists(), "the folder is old");
        sweep_at(root.path(), after(24));
        assert!(!file.exists(), "the file is old");
        assert!(others.iter().all(|name| root.path().join(name).exists()), "not ours");
    }

    #[test]
    fn what_a_living_process_writes_stays() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = NewFolder::begin(&root.path().join("model"), false).expect("begun");
        let file = NewFile::create(&root.path().join("a")).expect("begun");
        sweep_at(root.path(), after(1000));
        folder.finish().expect("still there");
        file.finish().expect("still there");
    }

    #[test]
    fn what_was_moved_aside_comes_back() {
        let root = tempfile::tempdir().expect("a folder");
        let model = root.path().join("model");
        let left = killed(root.path());
        fs::create_dir(left.join(OLD)).expect("made");
        sweep_at(root.path(), after(1));
        assert!(model.is_dir() && !left.exists());

        let left = killed(root.path());
        fs::create_dir(left.join(OLD)).expect("made");
        sweep_at(root.path(), after(1));
        assert!(model.is_dir() && !left.exists(), "its successor is in place");
    }

    #[test]
    fn a_forged_marker_leads_nowhere() {
        for name in ["../escaped", "/escaped", "", ".."] {
            let root = tempfile::tempdir().expect("a folder");
            let inner = root.path().join("inner");
            fs::create_dir(&inner).expect("made");
            let left = killed(&inner);
            fs::create_dir(left.join(OLD)).expect("made");
            fs::write(left.join(temporary::MARKER), name).expect("written");
            sweep_at(&inner, after(1));
            assert!(!left.exists() && !root.path().join("escaped").exists(), "{name}");
        }
    }
}
