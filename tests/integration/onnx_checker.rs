//! Every graph passes the official ONNX checker, and shape inference in strict mode. Needs Python
//! with `onnx`, which the test installs into the build folder.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use pocketmuse_package::Flavour;

use crate::{
    foreign::{python, run},
    support::{TINY, flavoured_package, package},
};

const ONNX: &str = "onnx==1.19.1";

const CHECK: &str = "
import sys, onnx
for path in sys.argv[1:]:
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    print('checked', path)
";

fn graphs(package: &Path, flavour: Flavour) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(package.join(flavour.name())).expect("a package");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|ending| ending == "onnx")).collect()
}

#[test]
#[ignore = "slow: a foreign checker, which it installs"]
fn every_graph_passes_the_official_checker() {
    let python = match python("onnx", ONNX) {
        Ok(python) => python,
        // Straight to the terminal: the test runner keeps what a passing test prints.
        Err(why) => return writeln!(std::io::stderr(), "skipped: {why}").expect("a terminal"),
    };
    let float = TINY
        .into_iter()
        .chain(["tiny-world"])
        .flat_map(|name| graphs(&package(name), Flavour::F32));
    let quantized = [Flavour::Int8, Flavour::Int4].into_iter();
    let quantized = quantized.flat_map(|flavour| graphs(&flavoured_package(flavour), flavour));
    let graphs: Vec<_> = float.chain(quantized).collect();
    assert_eq!(graphs.len(), 30);
    if let Err(why) = run(Command::new(python).args(["-c", CHECK]).args(graphs)) {
        panic!("{why}");
    }
}
