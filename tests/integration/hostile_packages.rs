//! Packages that would have a runtime read what is not theirs, or that change under it. Sizes and
//! digests are all right: whoever makes a package makes its manifest.

use std::{
    fs,
    io::{Seek as _, SeekFrom, Write as _},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use image::RgbImage;
use pocketmuse::{Error, ErrorKind, Flavour, Manifest, Options, Pipeline, Request, Stage};
use pocketmuse_package::{FileEntry, MANIFEST, onnx, wire::Message};
use tempfile::TempDir;

use crate::{
    memory::smallest,
    support::{self, copy_folder, flavoured_package, package},
};

/// The stage whose graph is changed. Its weights lie in `f32/step.data`.
const STAGE: Stage = Stage::Step;

/// A copy of a package, alone in a folder.
fn copy() -> (TempDir, PathBuf) {
    support::runtime();
    let root = tempfile::tempdir().expect("a folder");
    let copy = root.path().join("package");
    copy_folder(&package("tiny-256"), &copy);
    (root, copy)
}

/// Changes the graph of [`STAGE`], and the manifest accordingly.
fn change_graph(package: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut manifest = Manifest::read(package).expect("a manifest");
    let stages = &mut manifest.flavours.get_mut(&Flavour::F32).expect("f32").stages;
    let graph = &mut stages.get_mut(&STAGE).expect("a stage").graph;
    let path = graph.locate(package);
    let mut bytes = fs::read(&path).expect("a graph");
    change(&mut bytes);
    fs::write(&path, bytes).expect("written");
    *graph = FileEntry::describe(package, &graph.path).expect("described");
    fs::write(package.join(MANIFEST), manifest.to_json()).expect("written");
}

fn open(package: &Path) -> Result<Pipeline, Error> {
    Pipeline::open_with(package, &Options { threads: Some(1), ..Options::default() })
}

fn request() -> Request {
    Request { num_inference_steps: Some(3), seed: 1, ..Request::default() }
}

fn image(pipeline: &Pipeline) -> Result<RgbImage, Error> {
    let made = pipeline.generate(&request(), |_| ControlFlow::Continue(()));
    made.map(|mut output| output.images.remove(0))
}

/// A message that holds one other.
fn within(field: u64, inner: &Message) -> Message {
    let mut outer = Message::default();
    outer.message(field, inner);
    outer
}

#[test]
fn a_whole_package_is_checked_by_itself() {
    let root = tempfile::tempdir().expect("a folder");
    let package = root.path().join("package");
    support::link_folder(&support::package("tiny-256"), &package);
    let manifest = Manifest::read(&package).expect("a manifest");
    let mut read = 0;
    let whole = manifest.check(&package, &mut |bytes| {
        read += bytes;
        Ok(())
    });
    whole.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read, manifest.files().map(|file| file.bytes).sum::<u64>());
    let enough = &mut |_| Err(Error::new(ErrorKind::Cancelled, "check", "enough"));
    let stopped = manifest.check(&package, enough).expect_err("stopped");
    assert_eq!(stopped.kind(), ErrorKind::Cancelled);

    let kept = root.path().join("kept");
    for file in manifest.files() {
        let path = file.locate(&package);
        fs::rename(&path, &kept).expect("moved");
        let mut bytes = fs::read(&kept).expect("a file");
        *bytes.last_mut().expect("a byte") ^= 1;
        fs::write(&path, bytes).expect("written");
        let error = manifest.check(&package, &mut |_| Ok(())).expect_err(&file.path);
        assert_eq!(error.kind(), ErrorKind::PackageDamaged, "{error}");
        assert_eq!(error.at(), path.display().to_string());
        fs::rename(&kept, &path).expect("moved back");
    }
}

#[test]
fn weights_of_any_file_but_the_listed_one_are_refused() {
    let (root, package) = copy();
    // The same bytes, so that only the name is wrong.
    for name in ["secret", "f32/leak.data"] {
        fs::copy(package.join("f32/step.data"), package.join(name)).expect("copied");
    }
    fs::copy(package.join("f32/step.data"), root.path().join("leak")).expect("copied");
    #[cfg(unix)]
    std::os::unix::fs::symlink(root.path().join("leak"), package.join("f32/link.data"))
        .expect("a link");
    // As long as the name that is replaced.
    for other in
        ["../secret", "leak.data", "link.data", "/tmp/leak", "./../leak", "Step.data", "..\\secret"]
    {
        change_graph(&package, |graph| {
            let name = b"step.data";
            let places: Vec<_> =
                (0..graph.len() - name.len()).filter(|at| graph[*at..].starts_with(name)).collect();
            assert!(!places.is_empty());
            // One of many is enough.
            graph[places[places.len() / 2]..][..name.len()].copy_from_slice(other.as_bytes());
        });
        let error = open(&package).err().expect(other);
        assert_eq!(error.kind(), ErrorKind::PackageDamaged, "{error}");
        let expected = format!("which the manifest lists, found {other:?}");
        assert!(error.to_string().ends_with(&expected), "{error}");
        assert!(error.at().contains("step.onnx: constant "), "{error}");
        let alone = Manifest::read(&package).expect("a manifest").check(&package, &mut |_| Ok(()));
        assert_eq!(alone.expect_err(other).to_string(), error.to_string());
        change_graph(&package, |graph| {
            let at = graph.windows(9).position(|name| name == other.as_bytes()).expect("there");
            graph[at..at + 9].copy_from_slice(b"step.data");
        });
    }
    let plain = open(&support::package("tiny-256")).expect("opened");
    let restored = open(&package).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(image(&restored).expect("made"), image(&plain).expect("made"));
}

#[test]
fn graphs_in_graphs_and_operators_of_others_are_refused() {
    let entry = |key: &str, value: &str| {
        let mut entry = Message::default();
        entry.text(onnx::entry::KEY, key).text(onnx::entry::VALUE, value);
        within(onnx::tensor::EXTERNAL_DATA, &entry)
    };
    let outside = within(onnx::graph::INITIALIZER, &entry(onnx::LOCATION, "../secret"));
    let far = {
        let mut tensor = Message::default();
        tensor.number(onnx::tensor::DIMS, 1).number(onnx::tensor::DATA_TYPE, 1);
        let mut entries = tensor.into_bytes();
        for (key, value) in [(onnx::LOCATION, "step.data"), (onnx::OFFSET, "99999999999")] {
            entries.extend(entry(key, value).into_bytes());
        }
        let mut graph = Message::default();
        graph.bytes(onnx::graph::INITIALIZER, &entries);
        graph
    };
    let operator = |domain: &str| {
        let mut node = Message::default();
        node.text(onnx::node::OP_TYPE, "Run").text(onnx::node::DOMAIN, domain);
        within(onnx::graph::NODE, &node)
    };
    let body = |graph: &Message| {
        let attribute = within(onnx::attribute::G, graph);
        within(onnx::graph::NODE, &within(onnx::node::ATTRIBUTE, &attribute))
    };
    let constant = {
        let tensor = within(onnx::attribute::T, &entry(onnx::LOCATION, "step.data"));
        within(onnx::node::ATTRIBUTE, &tensor)
    };
    let of_graph = |graph: &Message| within(onnx::model::GRAPH, graph);
    let cases = [
        ("a body", of_graph(&body(&body(&outside))), "found \"../secret\""),
        ("behind the end", of_graph(&far), "found them at 99999999999"),
        ("a domain", of_graph(&operator("org.example")), "found \"org.example\""),
        ("in a body", of_graph(&body(&operator("ai.onnx.contrib"))), "found \"ai.onnx.contrib\""),
        (
            "a function",
            within(onnx::model::FUNCTION, &within(onnx::function::NODE, &constant)),
            "inside the graph, found a file named",
        ),
    ];
    let (_root, package) = copy();
    for (name, more, expected) in cases {
        let more = more.into_bytes();
        // Models that follow one another are one.
        change_graph(&package, |graph| graph.extend(&more));
        let error = open(&package).err().expect(name);
        assert_eq!(error.kind(), ErrorKind::PackageDamaged, "{error}");
        assert!(error.to_string().ends_with(expected), "{name}: {error}");
        change_graph(&package, |graph| graph.truncate(graph.len() - more.len()));
    }
    open(&package).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_graph_that_was_exchanged_since_it_was_opened_is_refused() {
    let (_root, package) = copy();
    let pipeline = open(&package).expect("opened");
    let path = package.join("f32/decoder.onnx");
    let mut graph = fs::read(&path).expect("a graph");
    *graph.last_mut().expect("bytes") ^= 1;
    fs::write(&path, graph).expect("written");
    let error = image(&pipeline).expect_err("exchanged");
    assert_eq!(error.kind(), ErrorKind::PackageDamaged);
    assert!(error.to_string().contains("the file was changed"), "{error}");
}

/// Writes into a file of a package, in place.
fn rewrite(path: &Path, bytes: &[u8]) {
    let mut file = fs::File::options().write(true).open(path).expect("opened");
    file.seek(SeekFrom::Start(0)).expect("there");
    file.write_all(bytes).expect("written");
}

/// What is mapped is what is computed from: an image of mixed bytes is never handed out.
#[test]
fn weights_that_are_rewritten_while_they_are_used_fail_the_job() {
    let expected = image(&open(&package("tiny-256")).expect("opened")).expect("made");
    for (file, same) in
        [("step.data", true), ("step.data", false), ("step.onnx", true), ("decoder.data", false)]
    {
        let (_root, package) = copy();
        let path = package.join("f32").join(file);
        let whole = fs::read(&path).expect("there");
        let pipeline = open(&package).expect("opened");
        let mut changed = whole.clone();
        if !same {
            changed[..64].iter_mut().for_each(|byte| *byte ^= 1);
        }
        let error = pipeline.generate(&request(), |step| {
            if step.step == 1 {
                rewrite(&path, &changed);
            }
            ControlFlow::Continue(())
        });
        let error = match error {
            // What was not loaded yet and is the same is as good.
            Ok(_) => panic!("{file}: an image of what was changed"),
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::PackageDamaged, "{file}: {error}");
        assert!(error.at().ends_with(file), "{error}");
        rewrite(&path, &whole);
        let again = image(&pipeline).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(again == expected, "{file}: the next job begins anew");
    }
}

/// Pages that left memory come from the file again: what is there then is noticed, too.
#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn weights_that_pass_through_memory_are_those_that_were_checked() {
    support::runtime();
    let root = tempfile::tempdir().expect("a folder");
    let package = root.path().join("package");
    copy_folder(&flavoured_package(Flavour::F32), &package);
    let memory = smallest(&package, &request());
    let options = Options { memory, threads: Some(1), ..Options::default() };
    let pipeline = Pipeline::open_with(&package, &options).expect("opened");
    let plan = pipeline.plan(&request()).expect("enough").to_string();
    let passes = |line: &str| line.starts_with("step") && line.contains("passing");
    assert!(plan.lines().any(passes), "{plan}");
    let expected = image(&pipeline).expect("made");

    let path = package.join("f32/step.data");
    let whole = fs::read(&path).expect("there");
    let at_second_step = |change: &dyn Fn()| {
        pipeline.generate(&request(), |step| {
            if step.step == 1 {
                change();
            }
            ControlFlow::Continue(())
        })
    };
    let changed: Vec<u8> = whole[..4096].iter().map(|byte| byte ^ 1).collect();
    let error = at_second_step(&|| rewrite(&path, &changed)).expect_err("mixed bytes");
    assert_eq!(error.kind(), ErrorKind::PackageDamaged, "{error}");
    rewrite(&path, &whole);
    assert!(image(&pipeline).expect("whole again") == expected);

    let new = root.path().join("new");
    fs::write(&new, vec![0; 4096]).expect("written");
    let made = at_second_step(&|| fs::rename(&new, &path).expect("renamed"));
    assert!(made.expect("the old ones are as they were").images[0] == expected);
}

/// The way in which packages are replaced: the old files stay as they were for whoever uses them.
#[test]
fn weights_that_are_replaced_by_a_rename_change_nothing() {
    let (root, package) = copy();
    let pipeline = open(&package).expect("opened");
    let expected = image(&open(&support::package("tiny-256")).expect("opened")).expect("made");
    let path = package.join("f32/step.data");
    let mut replaced = false;
    let made = pipeline.generate(&request(), |_| {
        if !std::mem::replace(&mut replaced, true) {
            let new = root.path().join("new");
            fs::write(&new, vec![0; 4096]).expect("written");
            fs::rename(&new, &path).expect("renamed");
        }
        ControlFlow::Continue(())
    });
    assert!(made.expect("the old ones are as they were").images[0] == expected);
}
