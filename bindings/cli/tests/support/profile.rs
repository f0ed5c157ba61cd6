//! Who computed which nodes, as ONNX Runtime's own profiles say.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

/// By provider and operator, how many nodes of a session ran.
pub(crate) type Ran = BTreeMap<String, BTreeMap<String, usize>>;

/// The name of the CPU there.
pub(crate) const CPU: &str = "CPUExecutionProvider";

/// What ran in each session of `stage` that wrote a profile into `folder`.
pub(crate) fn of_stage(folder: &Path, stage: &str) -> Vec<Ran> {
    let entries = fs::read_dir(folder).expect("readable").map(|entry| entry.expect("an entry"));
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    let is_of_stage = |path: &Path| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        name.strip_prefix(stage).is_some_and(|rest| rest.starts_with('_'))
    };
    paths.retain(|path| is_of_stage(path));
    paths.sort();
    paths.iter().map(|path| ran(&fs::read(path).expect("read"))).collect()
}

fn ran(profile: &[u8]) -> Ran {
    let events: Vec<Value> = serde_json::from_slice(profile).expect("a profile");
    let mut nodes = BTreeMap::new();
    for event in events.iter().filter(|event| event["cat"] == "Node") {
        let name = event["name"].as_str().unwrap_or_default();
        let (Some(name), arguments) = (name.strip_suffix("_kernel_time"), &event["args"]) else {
            continue;
        };
        let of = |key: &str| arguments[key].as_str().expect("a name").to_owned();
        let node = (name.to_owned(), arguments["node_index"].to_string());
        nodes.insert(node, (of("provider"), of("op_name")));
    }
    let mut ran = Ran::new();
    for (provider, operator) in nodes.into_values() {
        *ran.entry(provider).or_default().entry(operator).or_default() += 1;
    }
    ran
}
