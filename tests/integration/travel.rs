//! Packages that travel: what one can do is said before any request, and one that comes from an
//! archive is checked once.

use std::{fs::File, ops::ControlFlow};

use image::RgbImage;
use pocketmuse::{
    ErrorKind, Flavour, Import, Options, Pipeline, Request, Source, Subset,
    archive::{self, Progress},
    prepared,
};

use crate::support::{self, package};

fn request() -> Request {
    Request { prompt: "a red robot".to_owned(), num_inference_steps: Some(1), ..Request::default() }
}

#[test]
fn a_package_says_what_it_can_do() {
    support::runtime();
    let whole = Pipeline::open(package("tiny-world")).unwrap_or_else(|error| panic!("{error}"));
    let can = whole.capabilities();
    assert_eq!((can.flavours.as_slice(), can.flavour), (&[Flavour::F32][..], Flavour::F32));
    assert_eq!((can.size % can.size_multiple, can.max_size % can.size_multiple), (0, 0));
    assert!(can.edit && can.words && can.preview, "{can:?}");
    let made = whole.generate(&request(), |_| ControlFlow::Continue(()));
    let made = made.unwrap_or_else(|error| panic!("{error}")).images;
    assert_eq!(made[0].dimensions(), (can.size, can.size));
}

/// An archive comes into place and opens; what was checked on the way is in the record.
#[test]
fn an_import_is_opened_and_recorded() {
    support::runtime();
    let folder = tempfile::tempdir().expect("a folder");
    let [file, target, kept] =
        ["tiny.pocketmuse", "tiny", "prepared"].map(|name| folder.path().join(name));
    let go_on = |_: Progress| ControlFlow::Continue(());
    let subset = Subset { without_encoder: true, ..Subset::default() };
    archive::copy(&package("tiny-512"), &Subset::default(), &file, go_on)
        .unwrap_or_else(|error| panic!("{error}"));
    let import = Import { subset, prepared: Some(kept.clone()) };
    let mut told = 0;
    let stopped = import.stream(File::open(&file).expect("there"), &target, |progress| {
        told = told.max(progress.done_bytes);
        if progress.done_bytes * 2 > progress.total_bytes {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    assert_eq!(stopped.expect_err("stopped").kind(), ErrorKind::Cancelled);
    assert!(told > 0 && !target.exists());
    let manifest = import.file(&file, &target, go_on).unwrap_or_else(|error| panic!("{error}"));
    let [entry] = prepared::list(&kept).expect("readable").try_into().expect("one");
    assert_eq!(entry.package, Some(manifest.digest()));
    let options = Options { prepared: Some(kept), ..Options::default() };
    let pipeline = Pipeline::open_with(&target, &options).unwrap_or_else(|error| panic!("{error}"));
    assert!(!pipeline.capabilities().edit);
    let edit = pipeline
        .edit(&request(), &Source::new(RgbImage::new(64, 64)), |_| ControlFlow::Continue(()));
    let error = edit.expect_err("the encoder was left out");
    assert_eq!((error.kind(), error.at()), (ErrorKind::Unsupported, "encoder"));
}
