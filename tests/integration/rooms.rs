//! The plan of the house: what may need what. Modules, rooms and crates are read from the source,
//! so a `use` in the wrong direction fails here and says where it stands.

mod graph;
mod modules;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use self::graph::{Graph, describe};
use crate::support::workspace;

/// The rooms of `runtime/src` in the order of the data: each needs only those before it.
const ROOMS: [&str; 10] = [
    "arithmetic",
    "request",
    "engine",
    "package",
    "memory",
    "text",
    "sampler",
    "stages",
    "pixels",
    "pipeline",
];

/// A reader keeps no more in mind.
const MOST_ROOMS: usize = 10;

/// Three pages: what a reader still takes in at one sitting.
const MOST_LINES: usize = 450;

/// More parameters are a value that has no name yet.
const MOST_PARAMETERS: usize = 4;

/// What Cargo knows of this workspace, without a registry.
fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--no-deps", "--offline", "--format-version=1"]);
    let output = command.current_dir(workspace()).output().expect("Cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().expect("a list").iter()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().expect("a text")
}

/// The root files of all libraries and commands, relative to the workspace.
fn roots() -> Vec<PathBuf> {
    let metadata = metadata();
    let targets = list(&metadata, "packages").flat_map(|package| list(package, "targets"));
    let ours = targets.filter(|target| {
        list(target, "kind").any(|kind| {
            ["lib", "bin", "staticlib", "cdylib"].contains(&kind.as_str().expect("a text"))
        })
    });
    let relative = |target: &Value| {
        let path = Path::new(text(target, "src_path"));
        path.strip_prefix(workspace()).expect("in the workspace").to_owned()
    };
    ours.map(relative).collect()
}

/// The modules of the crate whose root is `root`, relative to the workspace.
fn modules_of(root: &Path) -> Graph {
    modules::graph(root, &|path| fs::read_to_string(workspace().join(path)).ok())
}

/// Every Rust file below `folder`, relative to the workspace.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(workspace().join(folder)).expect("a folder");
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.expect("an entry");
        let path = folder.join(entry.file_name());
        if entry.path().is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn no_circle_among_the_modules_of_a_crate() {
    let mut found = String::new();
    for root in roots() {
        let graph = modules_of(&root);
        let circles = graph.circles();
        if !circles.is_empty() {
            found += &format!("{}:\n{}", root.display(), describe(&circles));
        }
    }
    assert!(found.is_empty(), "these need each other:\n{found}");
}

#[test]
fn every_room_needs_only_those_before_it() {
    let graph = modules_of(Path::new("runtime/src/lib.rs"));
    // The root shows all rooms and stands behind the last; so does a room that nobody planned.
    let place = |module: &str| {
        let room = module.split("::").next().expect("a name");
        ROOMS.iter().position(|name| *name == room).unwrap_or(ROOMS.len())
    };
    let wrong = graph.edges().filter(|edge| place(edge.from) < place(edge.to));
    let lines: String = wrong.map(|edge| format!("  {edge}\n")).collect();
    assert!(lines.is_empty(), "these need a room that comes later:\n{lines}");
    let folders = fs::read_dir(workspace().join("runtime/src")).expect("a folder");
    let rooms = folders.filter(|entry| entry.as_ref().expect("an entry").path().is_dir()).count();
    assert!(rooms <= MOST_ROOMS, "expected at most {MOST_ROOMS} rooms, found {rooms}");
}

#[test]
fn no_circle_among_the_crates_tests_included() {
    let (metadata, mut graph) = (metadata(), Graph::default());
    for package in list(&metadata, "packages") {
        let manifest = Path::new(text(package, "manifest_path"));
        let manifest = manifest.strip_prefix(workspace()).expect("in the workspace").display();
        graph.add_node(text(package, "name"));
        for needed in list(package, "dependencies").filter(|needed| needed["path"].is_string()) {
            let kind = needed["kind"].as_str().unwrap_or("normal");
            let place = || format!("{manifest}: a {kind} dependency");
            graph.add_edge(text(package, "name"), text(needed, "name"), place);
        }
    }
    assert!(graph.edges().count() > 4, "the crates need each other");
    let circles = graph.circles();
    assert!(circles.is_empty(), "\n{}", describe(&circles));
}

#[test]
fn no_file_is_longer_than_a_reader_takes_in() {
    let mut long = String::new();
    for root in roots() {
        for file in files(root.parent().expect("a folder")) {
            let text = fs::read_to_string(workspace().join(&file)).expect("a file");
            let lines = text.lines().count();
            if lines > MOST_LINES {
                long += &format!("  {}: {lines}\n", file.display());
            }
        }
    }
    assert!(long.is_empty(), "expected at most {MOST_LINES} lines, found\n{long}");
}

#[test]
fn nothing_in_the_pipeline_has_more_parameters_than_a_name_can_explain() {
    let mut long = String::new();
    for file in files(Path::new("runtime/src/pipeline")) {
        let text = fs::read_to_string(workspace().join(&file)).expect("a file");
        for (name, line) in modules::long_parameter_lists(&text, MOST_PARAMETERS) {
            long += &format!("  {}:{line}: {name}\n", file.display());
        }
    }
    assert!(
        long.is_empty(),
        "expected at most {MOST_PARAMETERS} parameters, found more in\n{long}"
    );
}
