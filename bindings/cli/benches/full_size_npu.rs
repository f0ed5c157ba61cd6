//! What aMUSEd-512 costs in the form for NPUs, in one table: `cargo bench -p pocketmuse-cli --bench
//! full_size_npu`. Makes a full-size checkpoint of random weights, exports it and compiles its step
//! with QNN's plug-in, which pip brings, on x86-64 Linux. Takes about a quarter of an hour and 8 GB of
//! disk.
//!
//! `POCKETMUSE_CHECKPOINT` names a checkpoint to use instead.

#[path = "../tests/support/qnn.rs"]
mod qnn;
mod support;

use std::fs;

use pocketmuse::Flavour;
use serde_json::Value;

use self::support::{Bench, Result, cost::size, head, mb, number, row};

/// Guidance branches that the step is compiled for.
const BRANCHES: [u8; 2] = [1, 2];

fn main() -> Result<()> {
    let Some(bench) = Bench::new()? else { return Ok(()) };
    let library = format!("--provider-library=qnn={}", qnn::plugin().display());
    let checkpoint = bench.checkpoint()?;
    let words = ["export", &checkpoint, "-o", "package", "--flavour", "int8", "--flavour", "qdq"];
    let export = bench.run(&words)?; // together, so that both have the same weights
    head();
    let package = bench.folder.path().join("package");
    row("package, qdq, without the encoder", "", "", &mb(size(&package, Flavour::Qdq)));
    let bytes = |ending: &str| -> Result<u64> {
        let mut bytes = 0;
        for file in fs::read_dir(package.join("qdq"))? {
            let file = file?;
            if file.file_name().to_string_lossy().ends_with(ending) {
                bytes += file.metadata()?.len();
            }
        }
        Ok(bytes)
    };
    let (graphs, weights) = (bytes(".onnx")?, bytes(".data")?);
    row("qdq beside int8 on disk, graphs", "12 MB", "4 MB", &mb(graphs));
    row("the same, weights of its prologue", "", "", &mb(weights));
    let took = format!("{:.0} s, {}", export.seconds, mb(export.peaks.rss));
    row("export of int8 and qdq together", "300 s, 2 GB", "150 s, 1.2 GB", &took);
    for branches in BRANCHES {
        let branches = format!("--branches={branches}");
        let words = ["compile", "package", "--flavour=qdq", "--stage=step", "--target=qnn:sm8650"];
        let words = [&words[..], &[&branches, "--size=512", "--json", &library]].concat();
        let told = bench.run(&words)?.stdout;
        let told: Value = serde_json::from_str(told.trim())?;
        let seconds = number(&told, "ms")? / 1e3;
        let [peak, size] = [number(&told, "peak_bytes")? / 1e6, number(&told, "bytes")? / 1e6];
        let found = format!("{seconds:.0} s, {peak:.0} MB, {size:.0} MB");
        let figure = format!("step of qdq for an SM8650, 512 x 512, {branches}");
        row(&figure, "300 s, 4 GB, 420 MB", "120 s, 2.5 GB, 395 MB", &found);
    }
    Ok(())
}
