//! Imports that meet what is there: parts of one that was stopped, the whole, another at work.

use std::{
    io::{self, Cursor, SeekFrom},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::*;

/// Counts what is read.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

impl<R: Seek> Seek for Counted<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[test]
fn an_import_that_was_stopped_goes_on() {
    let (root, target) = place();
    let (whole, manifest) = (archive(&both()), both());
    let total: u64 = manifest.files().map(|file| file.bytes).sum();
    let mut stops = 0;
    let mut kept = 0;
    for stop in (1..).map(|part: u64| part * 19_000) {
        let mut reader = Counted { inner: Cursor::new(&whole), bytes: 0 };
        let mut first = None;
        let result = import_seekable(&mut reader, &Subset::default(), &target, |progress| {
            if first.is_none() && progress.done_bytes > 0 {
                first = Some(progress.done_bytes);
            }
            if progress.done_bytes >= stop.min(total) && stop < total {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        if kept > 0 {
            assert_eq!(first.map(|first| first >= kept), Some(true), "begins with what is there");
            assert!(reader.bytes < whole.len() as u64 - kept + 65_536, "kept files are not read");
        }
        match result {
            Ok(_) => break,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled),
        }
        stops += 1;
        assert!(!target.exists());
        let parts = names(root.path());
        assert_eq!(parts.len(), 1, "{parts:?}");
        let part = root.path().join(&parts[0]);
        assert!(!part.join("incoming").exists());
        kept = tree(&part.join("package")).values().map(|bytes| bytes.len() as u64).sum();
    }
    assert!(stops >= 3 && kept > 44_000, "{stops} stops, {kept} bytes");
    assert_eq!(names(root.path()), ["package"]);
    assert_eq!(tree(&target), expected_tree(&manifest));
}

#[test]
fn a_stream_goes_on_where_files_are_kept() {
    let (root, target) = place();
    let whole = archive(&both());
    let at = whole.len() - 2000;
    let error = import_bytes(&whole[..at], &target).expect_err("cut");
    assert_eq!(error.kind(), ErrorKind::PackageDamaged);
    let mut first = None;
    import(whole.as_slice(), &Subset::default(), &target, |progress| {
        first = first.or(Some(progress.done_bytes).filter(|done| *done > 0));
        ControlFlow::Continue(())
    })
    .expect("whole");
    assert!(first.is_some_and(|first| first > 88_000), "{first:?}");
    assert_eq!(names(root.path()), ["package"]);
}

#[test]
fn what_is_there_already_is_left_as_it_is() {
    let (root, target) = place();
    let whole = archive(&both());
    import_bytes(&whole, &target).expect("imported");
    assert_eq!(import_bytes(&whole, &target).expect("there"), both());
    let other = archive(&manifest(&[Flavour::F32]));
    let error = import_bytes(&other, &target).expect_err("another package");
    assert_eq!(error.kind(), ErrorKind::BadRequest);
    assert!(error.to_string().ends_with("found another package: remove it first"), "{error}");
    fs::write(target.join("int8/step.onnx"), contents("int8/stop.onnx")).expect("written");
    let error = import_bytes(&whole, &target).expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::BadRequest);
    assert!(error.to_string().contains("step.onnx: expected SHA-256"), "{error}");
    assert_eq!(names(root.path()), ["package"]);
    let file = root.path().join("file");
    fs::write(&file, "text").expect("written");
    assert_eq!(import_bytes(&whole, &file).expect_err("a file").kind(), ErrorKind::BadRequest);
    let nowhere = root.path().join("no/where");
    let error = import_bytes(&whole, &nowhere).expect_err("no folder");
    assert!(error.to_string().ends_with("no: expected a folder, found none"), "{error}");
}

#[test]
fn two_imports_at_once_both_end_well() {
    let whole = archive(&both());
    for _ in 0..8 {
        let (root, target) = place();
        let calls = AtomicUsize::new(0);
        thread::scope(|scope| {
            let both: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        import(whole.as_slice(), &Subset::default(), &target, |_| {
                            calls.fetch_add(1, Ordering::Relaxed);
                            ControlFlow::Continue(())
                        })
                    })
                })
                .collect();
            for import in both {
                import.join().expect("no panic").expect("imported");
            }
        });
        assert_eq!(names(root.path()), ["package"]);
        assert_eq!(tree(&target), expected_tree(&both()));
    }
}

#[test]
fn one_that_waits_can_be_stopped() {
    let (root, target) = place();
    let digest = Digest::of(both().to_json().as_bytes());
    let held = part::Part::take(&target, digest).expect("a folder").expect("nobody else");
    let mut calls = 0;
    let whole = archive(&both());
    let error = import(whole.as_slice(), &Subset::default(), &target, |progress| {
        calls += 1;
        assert_eq!(progress.done_bytes, 0);
        if calls == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(error.expect_err("stopped").kind(), ErrorKind::Cancelled);
    assert_eq!(calls, 4);
    discard(&target).expect("nothing to do");
    assert_eq!(names(root.path()).len(), 1, "the other one is at work");
    drop(held);
    discard(&target).expect("discarded");
    assert!(names(root.path()).is_empty());
}
